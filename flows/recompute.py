"""Decided dates once more, in a scratch store: with their records' parameters and universe, by the code of every run.

A date's trades start from what the date before it left, so that one is decided again too, by the record whose weights
were held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import groupby

from flows import parameters as forms
from flows import planning
from flows.lines import Line, Segment
from flows.rebalance import Diary, decide_months
from storage import knowledge, ledger, scenarios, tables
from storage import snapshots as stored
from storage.errors import NoDataError
from storage.keys import Moment, PanelKey, digest
from storage.ledger import Decision
from storage.scenarios import FROM_THE_START, Terms
from storage.store import Store, open_store


@dataclass(frozen=True)
class Past:
    """What a scenario has decided: its records, in order, and its terms."""

    scenario: str
    records: tuple[Decision, ...]
    written: tuple[datetime, ...]  # when each was
    terms: tuple[Terms, ...]

    def before(self, decision: Decision) -> Decision | None:
        """The record of the date before whose weights the decision's trades started from; None where it held cash."""
        held, day = decision.record["holdings"], decision.record.get("follows")
        held = held[bool(decision.record.get("imported")) :]  # after what a person really held
        found = [r for r in self.records if f"{r.rebalance_date}" == day and list(r.weights) == held]
        return found[-1] if held and found else None

    def written_at(self, decision: Decision) -> datetime:
        """When the record was written."""
        return self.written[self.records.index(decision)]

    @property
    def universes(self) -> set[str]:
        """Ids of all that it ever had."""
        return {entry.record["universe"] for entry in self.records} | {entry.universe for entry in self.terms}

    @property
    def dataset(self) -> str:
        """Where its prices are."""
        return self.terms[0].dataset


def past_of(store: Store, scenario: str) -> Past:
    """What a scenario has decided; NoDataError where that is nothing."""
    records = ledger.read(store, scenario)
    if not records:
        raise NoDataError(f"scenario {scenario} has decided nothing; run `prism run` or `prism backfill` first")
    rows = tables.read(store, "decisions", ["position", "created_at"], scenario=scenario).sort_by("position")
    written = tuple(rows["created_at"].to_pylist())
    return Past(scenario, tuple(records), written, tuple(scenarios.read(store, scenario)))


def with_before(past: Past, decisions: Sequence[Decision]) -> list[list[Decision]]:
    """The decisions in chains of which each starts from what the one before it left, back to one that traded."""
    chains: list[list[Decision]] = []
    for decision in decisions:
        if chains and chains[-1][-1] == past.before(decision):
            chains[-1].append(decision)
        else:
            chains.append(_back_to_a_trade(past, decision))
    return chains


def _back_to_a_trade(past: Past, decision: Decision) -> list[Decision]:
    """The decision after the one that it started from; what was held started from the one before, and so on."""
    chain, before = [decision], past.before(decision)
    while before is not None:
        chain.insert(0, before)
        before = past.before(before) if before.kind == ledger.HELD else None
    return chain


def line_of(past: Past, decision: Decision, snapshot: str, universes: Mapping[str, str] | None = None) -> Line:
    """The scenario as it stood for a decision, on the prices of a snapshot.

    `universes`: by id of a universe the one that takes its place.
    """
    said = decision.record.get("terms", {})
    first = date.fromisoformat(said["valid_from"]) if said else FROM_THE_START
    values = decision.record["parameters"]
    own = Terms(past.dataset, decision.record["universe"], values, first, said.get("reason"))
    terms = [*(entry for entry in past.terms if entry.valid_from < first), own]
    others = universes or {}
    segments = [
        Segment(t, forms.make(t.parameters), PanelKey(snapshot, others.get(t.universe, t.universe))) for t in terms
    ]
    return Line(past.scenario, tuple(segments), None)


def moments_of(line: Line, decisions: Sequence[Decision]) -> list[Moment]:
    """The decisions' dates on the line; NoDataError where the calendar has one of them no more."""
    known = {moment.rebalance_date: moment for moment in planning.schedule(line)}
    gone = [decision.rebalance_date for decision in decisions if decision.rebalance_date not in known]
    if gone:
        raise NoDataError(
            f"{gone[0]} is no rebalance date of scenario {line.scenario} in this version's calendar; install the "
            "version that the record names"
        )
    return [known[decision.rebalance_date] for decision in decisions]


def facts(store: Store, scratch: Store, past: Past, chains: Sequence[Sequence[Decision]]) -> dict[str, str]:
    """Bring what the records started from into the scratch store; by id of their snapshots the ones taken there."""
    decisions = [decision for chain in chains for decision in chain]
    used = {decision.record["snapshot"]: stored.load(store, decision.record["snapshot"]) for decision in decisions}
    last = max(snapshot.known_at for snapshot in used.values())
    knowledge.copy(store, scratch, past.dataset, last, max(past.written_at(decision) for decision in decisions))
    knowledge.copy_universes(store, scratch, past.universes)
    bring_holdings(store, scratch, past, chains)
    return {
        identity: knowledge.snapshot(scratch, past.dataset, own.known_at, stored.delisted(store, own)).snapshot
        for identity, own in sorted(used.items(), key=lambda item: item[1].known_at)
    }


def bring_holdings(store: Store, scratch: Store, past: Past, chains: Sequence[Sequence[Decision]]) -> None:
    """Bring what a person had imported as really held, by the time of each chain's last record."""
    for place, chain in enumerate(chains):
        knowledge.copy_holdings(store, scratch, past.scenario, _name(past, place), past.written_at(chain[-1]))


def _name(past: Past, place: int) -> str:
    """The scratch scenario of a chain."""
    return f"{past.scenario}-{place}"


def recompute(
    past: Past,
    chains: Sequence[Sequence[Decision]],
    snapshots: Mapping[str, str],
    diary: Diary,
    universes: Mapping[str, str] | None = None,
) -> list[dict[date, Decision]]:
    """Decide chains of dates again in the store in use; for each chain what it holds then, by date.

    `snapshots`: by id of a record's snapshot the one to decide on, likewise `universes`. What the chains have in common
    is computed once.
    """
    found = []
    for place, chain in enumerate(chains):
        name = _name(past, place)
        for _, group in groupby(chain, key=_terms):
            decisions = list(group)
            snapshot = snapshots[decisions[0].record["snapshot"]]
            line = replace(line_of(past, decisions[0], snapshot, universes), scenario=name)
            held = {decision.rebalance_date for decision in decisions if decision.kind == ledger.HELD}
            decide_months(line, moments_of(line, decisions), diary, held=held)
        found.append(ledger.current(open_store(), name))
    return found


def _terms(decision: Decision) -> str:
    """What dates that are decided together have in common."""
    return digest([decision.record.get(name) for name in ("snapshot", "universe", "parameters", "terms")])
