"""How far each rebalance date of a scenario has come: a grid of dates and stages.

A stage is `current` where the store holds its answer as it would be given now, `stale` where it holds an earlier one
alone, `missing` where it holds none. A date is what the ledger calls it (published, backfill, ...) and, as a whole,
`current`, `stale`, `missing`, `failed` where the newest run that was asked for it failed, or `degraded` where its
published strategy says that it did something second best, like holding cash without a forecast.
"""

from collections.abc import Sequence
from typing import Any

from flows import artifacts, lines, planning
from flows.lines import Line
from flows.outlook import why
from flows.planning import MonthPlan, Plan
from storage import ledger, tables
from storage.ledger import Decision
from storage.store import Store, open_store
from tasks import allocations, own_holdings

SHOWN = 36  # months
_WEIGHTS = "weights"
Row = dict[str, Any]


def status(scenario: str, months: int = SHOWN) -> list[Row]:
    """The rebalance dates of the last `months`: month, kind, state, note, and the state of each stage."""
    return _grid(lines.open_line(scenario, fetch=False), months)


def show(line: Line) -> str | None:
    """Put the grid beside the run that is under way, if one of Prefect's is; the grid as Markdown."""
    return artifacts.show("status", line.scenario, lambda: markdown(_grid(line, SHOWN)))


def markdown(grid: Sequence[Row]) -> str:
    """The grid for Prefect's UI."""
    heads, rows = cells(grid)
    return f"# Status\n\n{artifacts.table(heads, rows)}"


def cells(grid: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the grid, for people."""
    stages = list(dict.fromkeys(stage for row in grid for stage in row["stages"]))
    rows = [[row["month"], _decision(row), *(row["stages"].get(s, "") for s in stages), row["note"]] for row in grid]
    return ["month", "decision", *stages, "note"], rows


def _decision(row: Row) -> str:
    """What stands in the ledger, and the state where that is not simply current."""
    kind = "" if row["kind"] in (None, "backfill") else row["kind"]
    return ", ".join(part for part in (kind, row["state"]) if part and not (kind and part == "current"))


def _grid(line: Line, months: int) -> list[Row]:
    store = open_store()
    plans = planning.make(line, planning.last_months(planning.possible(line), months))
    decided, imports = ledger.current(store, line.scenario), own_holdings.history(store, line.scenario)
    ended, lesser = _ended(store, line.scenario), _second_best(store, plans, decided)
    rows = []
    for plan in plans:
        there = _there(store, plan)
        for month in plan.months:
            standing = decided.get(month.moment.rebalance_date)
            reason = why(store, plan, month, standing, imports)
            state, note = _state(standing, reason, ended(month), lesser.get(month.moment.rebalance_date, ""))
            row = {"month": month.moment.month, "kind": standing.kind if standing else None, "state": state}
            rows.append(row | {"note": note, "stages": _stages(plan, month, there, standing is not None)})
    return rows


def _state(standing: Decision | None, reason: str, ended: tuple[str, str], lesser: str) -> tuple[str, str]:
    """The state of a date as a whole, and the reason for it."""
    if reason and ended[0] == "failed":
        return "failed", ended[1]
    if standing is None:
        return "missing", "the run was cancelled" if ended[0] == "cancelled" else ""
    if reason:
        return "stale", reason
    return ("degraded", lesser) if lesser else ("current", "")


def _stages(plan: Plan, month: MonthPlan, there: set[str], decided: bool) -> dict[str, str]:
    """The state of each stage that the date needs."""
    keys: dict[str, Sequence[str]] = {}
    if month.forecast:
        partitions = dict(zip(plan.history, plan.features, strict=True))
        keys["features"] = [partitions[month.moment]] if month.moment in partitions else []
        keys["train"] = [month.forecast.trained.key] if month.forecast.trained else []
        keys["forecast"] = [month.forecast.forecast]
    keys["gate"] = [month.gate.key] if month.gate else []
    keys["calibrate"] = [month.calibrated.key] if month.calibrated else []
    keys[_WEIGHTS] = list(month.weights.values())
    lacking = "stale" if decided else "missing"
    return {stage: "current" if there.issuperset(own) else lacking for stage, own in keys.items() if own}


def _there(store: Store, plan: Plan) -> set[str]:
    """The keys of a plan that the store holds."""
    found: set[str] = set()
    for table, keys in planning.answers(plan).values():
        found |= tables.existing(store, table, keys)
    return found


def _ended(store: Store, scenario: str) -> Any:
    """By date how the newest run that was asked for it ended, and what it said."""
    columns = ["status", "detail", "finished_at", "first_date", "last_date"]
    runs = tables.read(store, "runs", columns, scenario=scenario).sort_by("finished_at").to_pylist()
    spans = [run for run in reversed(runs) if run["first_date"]]

    def ended(month: MonthPlan) -> tuple[str, str]:
        day = month.moment.rebalance_date
        found = next((run for run in spans if run["first_date"] <= day <= run["last_date"]), None)
        return (found["status"], found["detail"]) if found else ("", "")

    return ended


def _second_best(store: Store, plans: Sequence[Plan], decided: dict[Any, Decision]) -> dict[Any, str]:
    """By rebalance date why its published strategy did something second best, like holding cash without a forecast."""
    days = {month.moment.rebalance_date for plan in plans for month in plan.months}
    standing = {key: decided[day] for day in days & decided.keys() for key in decided[day].weights}
    rows = tables.read(store, "allocations", ["key", "strategy"], key=list(standing)).to_pylist()
    said, found = allocations.degraded(store, standing), {}
    for row in rows:
        decision, reason = standing[row["key"]], said.get(row["key"])
        if reason and row["strategy"] == decision.record["parameters"]["publish"]:
            found[decision.rebalance_date] = f"{row['strategy']}: {reason}"
    return found
