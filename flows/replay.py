"""replay: decided dates once more, from what was known and nothing else, beside what the ledger says of them.

`identical`: the same results, to the byte. `explained`: other results, and the code, the libraries or the machine are
others than the record's. `different`: other results by the same means.
"""

import logging
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from prefect import flow

from flows.lines import MAIN
from flows.rebalance import RUNNER, Diary
from flows.recompute import Past, facts, past_of, recompute, with_before
from flows.scratch import scratch_store
from flows.zombies import watched
from storage import ledger, lineage, results, tables
from storage.errors import NoDataError
from storage.ledger import Decision
from storage.lineage import Change
from storage.store import Store, open_store

_ROWS = 5  # of those that differ, how many are shown
log = logging.getLogger("prism.flow")


@flow(name="replay", task_runner=RUNNER, flow_run_name="replay {start} to {end}")
@watched()
def replay(start: str, end: str, scenario: str = MAIN) -> dict[str, Any]:
    """Decide the dates from `start` to `end` (months like 2015-01, or days) again in a scratch store, and compare."""
    store = open_store()
    past = past_of(store, scenario)
    chosen = _between(store, scenario, start, end)
    found: list[dict[str, Any]] = []
    brought = sorted(
        tables.read(store, "own_forecasts", ["known_from"], dataset=past.dataset)["known_from"].to_pylist()
    )
    for _, group in groupby(chosen, key=lambda decision: bisect_right(brought, past.written_at(decision))):
        found += _replayed(store, past, list(group))
    counts = {
        name: sum(entry["verdict"] == name for entry in found) for name in ("identical", "explained", "different")
    }
    return {"scenario": scenario, **counts, "dates": found}


def _between(store: Store, scenario: str, start: str, end: str) -> list[Decision]:
    """The newest records of the dates, in order; NoDataError where there is none."""
    decided = ledger.current(store, scenario)
    found = [entry for day, entry in decided.items() if start <= f"{day}"[: len(start)] and f"{day}"[: len(end)] <= end]
    if not found:
        span = f"{min(decided)} to {max(decided)}" if decided else "none"
        raise NoDataError(f"scenario {scenario} has decided no date from {start} to {end}; the decided ones are {span}")
    return found


def _replayed(store: Store, past: Past, decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Dates that started from the same own forecasts, decided again in one scratch store."""
    chains, begun = with_before(past, decisions), time.monotonic()
    diary = Diary("replay", past.scenario)
    with scratch_store() as scratch:
        taken = facts(store, scratch, past, chains)
        again = recompute(past, chains, taken, diary)
        stored = iter(ledger.content_hashes(store, list(decisions)))
        found = []
        for chain, now in zip(chains, again, strict=True):
            before: tuple[Change, ...] = ()
            for decision in chain:
                changes = lineage.changes(decision.record, now[decision.rebalance_date].record)
                if decision in decisions:
                    both = changes + lineage.of_the_date_before(before)
                    found.append(_compared(store, scratch, decision, now[decision.rebalance_date], both, next(stored)))
                before = changes
    log.info("replayed %d dates in %.1f s, computing %s", len(found), time.monotonic() - begun, _computed(diary))
    return found


def _computed(diary: Diary) -> str:
    counts = {name: count for name, (count, _) in diary.stages.items() if count}
    return ", ".join(f"{name} {count:g}" for name, count in counts.items())


def _compared(
    store: Store, scratch: Store, decision: Decision, now: Decision, changes: tuple[Change, ...], stored: str
) -> dict[str, Any]:
    """What is to say about one date, given what it was made of otherwise and the hash of the rows stored for it."""
    same = decision.content_hash == now.content_hash == stored
    found: dict[str, Any] = {"month": decision.month, "rebalance_date": decision.rebalance_date}
    found |= {"verdict": lineage.verdict(same, changes), "kind": decision.kind, "revision": decision.revision}
    found["changes"] = [{"field": c.field, "before": c.before, "after": c.after} for c in changes]
    found |= {"largest_change": None, "rows": [], "note": None}
    if stored != decision.content_hash:
        found |= {"verdict": "different", "note": "the stored rows are not those that were recorded"}
    if not same:
        before, after = results.of(store, decision), results.of(scratch, now)
        found["largest_change"] = results.largest_change(before["weights"], after["weights"])
        rows = [row for name in ledger.RESULTS for row in results.differences(name, before[name], after[name])]
        found["rows"] = [str(row) for row in rows[:_ROWS]]
    return found
