"""What a run would compute, why, and how long it would take; nothing is run.

Times are those of earlier runs in the same store: seconds an answer, stage by stage.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from flows import artifacts, lines, planning
from flows.display import dates
from flows.lines import Line
from flows.parameters import Parameters
from flows.planning import MonthPlan, Plan
from flows.provenance import made_of
from storage import ledger, tables
from storage.keys import Moment
from storage.ledger import HELD, Decision
from storage.store import Store, open_store
from tasks import own_holdings
from tasks.decide import why_changed
from tasks.report.artifacts import escaped


@dataclass(frozen=True)
class Outlook:
    """What is to do: by stage, and by rebalance date with the reason."""

    HEADS: ClassVar = ("stage", "to compute", "takes")
    stages: list[dict[str, Any]]  # stage, answers missing, seconds (None: never timed here)
    months: list[dict[str, Any]]  # month (the whole day, where every session is decided), why

    def rows(self) -> list[list[str]]:
        """The stages for people, under HEADS."""
        return [[row["stage"], f"{row['missing']}", _duration(row["missing"], row["seconds"])] for row in self.stages]

    def sentences(self) -> list[str]:
        """How long it takes, and why each date would be computed."""
        if not self.months:
            return ["every rebalance date is decided and up to date"]
        by_reason: dict[str, list[str]] = {}
        for row in self.months:
            by_reason.setdefault(row["why"], []).append(row["month"])
        reasons = [f"{dates(len(m))} ({m[0]} to {m[-1]}): {reason}" for reason, m in by_reason.items()]
        return [self._in_all(), *reasons]

    def _in_all(self) -> str:
        asked = [row for row in self.stages if row["missing"]]
        known = sum(row["seconds"] for row in asked if row["seconds"] is not None)
        untimed = [row["stage"] for row in asked if row["seconds"] is None]
        return f"in all about {known:.0f} s" + (f", and what {', '.join(untimed)} takes" if untimed else "")

    def markdown(self) -> str:
        """The plan for Prefect's UI."""
        said = "\n".join(f"- {escaped(sentence)}" for sentence in self.sentences())
        return f"# Plan\n\n{said}\n\n{artifacts.table(self.HEADS, self.rows())}"


def _duration(missing: int, seconds: float | None) -> str:
    if not missing:
        return "-"
    return "never timed here" if seconds is None else f"about {seconds:.0f} s"


def outlook(
    scenario: str, parameters: Parameters | None, amend: str | None, start: str | None, end: str | None, months: int
) -> Outlook:
    """The outlook of a run over the last `months`, or of a backfill from `start` to `end`."""
    line = lines.open_line(scenario, parameters, amend=amend, fetch=False)
    return ahead(line, _wanted(line, start, end, months))


def ahead(line: Line, wanted: Sequence[Moment]) -> Outlook:
    """The outlook of some rebalance dates of a line."""
    store, lacking = open_store(), {}
    plans = planning.make(line, wanted)
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
        | {"why": why(store, plan, month, decided.get(month.moment.rebalance_date), imports)}
        for plan in plans
        for month in plan.months
    ]
    return [row for row in rows if row["why"]]


def why(
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
