"""What a run would compute, why, and how long it would take; nothing is run.

Times are those of earlier runs in the same store: seconds an answer, stage by stage.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows import lines, planning
from flows.lines import Line
from flows.parameters import Parameters
from flows.planning import MonthPlan, Plan
from flows.rebalance import made_of
from storage import ledger, tables
from storage.keys import Moment
from storage.ledger import HELD, Decision
from storage.store import Store, open_store
from tasks import own_holdings
from tasks.decide import why_changed


@dataclass(frozen=True)
class Outlook:
    """What is to do: by stage, and by rebalance date with the reason."""

    stages: list[dict[str, Any]]  # stage, answers missing, seconds (None: never timed here)
    months: list[dict[str, Any]]  # month (the whole day, where every session is decided), why


def outlook(
    scenario: str, parameters: Parameters | None, amend: str | None, start: str | None, end: str | None, months: int
) -> Outlook:
    """The outlook of a run over the last `months`, or of a backfill from `start` to `end`."""
    line = lines.open_line(scenario, parameters, amend=amend, fetch=False)
    plans = planning.make(line, _wanted(line, start, end, months))
    store = open_store()
    lacking: dict[str, int] = {}
    for plan in plans:
        for stage, count in planning.missing(store, plan).items():
            lacking[stage] = lacking.get(stage, 0) + count
    return Outlook(_stages(store, lacking), _months(store, line, plans))


def _wanted(line: Line, start: str | None, end: str | None, months: int) -> Sequence[Moment]:
    possible = planning.possible(line)
    if start is None and end is None:
        return planning.last_months(possible, months)
    return planning.between(line, start or planning.month_of(possible[0]), end or planning.month_of(possible[-1]))


def _stages(store: Store, lacking: dict[str, int]) -> list[dict[str, Any]]:
    counts, seconds = {}, {}
    for row in tables.read(store, "runs", ["stages"]).to_pylist():
        for stage, (count, took) in json.loads(row["stages"]).items():
            counts[stage] = counts.get(stage, 0) + count
            seconds[stage] = seconds.get(stage, 0.0) + (took if count else 0.0)
    return [
        {
            "stage": stage,
            "missing": count,
            "seconds": seconds[stage] / counts[stage] * count if counts.get(stage) else None,
        }
        for stage, count in lacking.items()
    ]


def _months(store: Store, line: Line, plans: list[Plan]) -> list[dict[str, Any]]:
    decided, imports = ledger.current(store, line.scenario), own_holdings.history(store, line.scenario)
    rows = [
        {"month": month.moment.month}
        | {"why": _why(store, plan, month, decided.get(month.moment.rebalance_date), imports)}
        for plan in plans
        for month in plan.months
    ]
    return [row for row in rows if row["why"]]


def _why(
    store: Store,
    plan: Plan,
    month: MonthPlan,
    standing: Decision | None,
    imports: Sequence[own_holdings.Holdings],
) -> str:
    """Why the date would be computed; empty where what is decided is what would be."""
    if standing is None:
        return "not decided yet"
    chosen = standing.kind == HELD or set(standing.weights) == set(month.weights.values())
    if standing.forecasts == month.forecasts and chosen:
        return _imported_since(month, standing, imports)
    after = made_of(plan) | {"prefix": month.moment.prefix, "universe": plan.segment.panel.universe}
    after |= {name: standing.record.get(name) for name in ("holdings", "imported")}
    reason = why_changed(store, plan.segment.panel, month.moment.as_of, standing.record, after)
    return reason + (f" ({standing.kind}: an advisory is kept beside it)" if standing.is_final else "")


def _imported_since(month: MonthPlan, standing: Decision, imports: Sequence[own_holdings.Holdings]) -> str:
    """Whether its trades would start from other holdings than they did; a published or held date keeps its own."""
    found = own_holdings.start_of(imports, month.follows, month.moment.as_of)
    named = (standing.record.get("imported") or {}).get("holdings")
    if found is None or found.holdings == named or standing.is_final:
        return ""
    return f"holdings imported for {found.date}"
