"""The leak gate: before a new newest date is recorded, a past one is decided again with another future.

The past date is drawn by the new one's as-of date. Its weights with a future that did not happen must be those with the
one that did, to the byte: the record's own where its code, libraries and machine are the present ones, else those that
the present code gives. What weights cannot show, that a trade is done at the close it was decided at, shows in the
account: until the as-of date it must not depend on what comes after, and the trade itself must.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import pandas as pd
import pyarrow as pa
from prefect import flow

from flows import planning
from flows.lines import Line
from flows.rebalance import RUNNER, Diary
from flows.recompute import Past, bring_holdings, facts, line_of, moments_of, past_of, recompute, with_before
from flows.scratch import scratch_store
from storage import clock, ledger, lineage, partitions, results, tables
from storage.errors import LeakError
from storage.keys import Moment, PanelKey
from storage.ledger import Decision
from storage.results import Rows
from storage.schemas import TABLES
from storage.settings import Settings
from storage.store import Store, open_store
from tasks import futures
from tasks.backtest import backtest

_ORDER = ("forecasts", "weights", "trades")
log = logging.getLogger("prism.flow")


@dataclass(frozen=True)
class _Made:
    """What a date was made into: features, where there are any, and the rows of its results."""

    features: pd.DataFrame | None
    rows: Mapping[str, Rows]


def guard(line: Line, newest: Moment) -> Callable[[], None] | None:
    """What is to be checked before `newest` is recorded; None where it is no new newest date, or the gate is off."""
    decided = ledger.current(open_store(), line.scenario)
    if not Settings().leak_gate or (decided and max(decided) >= newest.rebalance_date):
        return None
    return lambda: _check(line.scenario, newest)


def _check(scenario: str, newest: Moment) -> None:
    """Decide a past date again, and keep what came of it; LeakError where it comes out differently."""
    store, begun = open_store(), time.monotonic()
    decided = [entry for day, entry in ledger.current(store, scenario).items() if day < newest.rebalance_date]
    if not decided:
        log.info("leak gate: nothing was decided before %s, so there is nothing to check", newest.month)
        return
    decision = futures.drawn(decided, newest.as_of)
    log.info("leak gate: deciding %s again with another future", decision.month)
    detail = leak_check(scenario, decision.rebalance_date)
    seconds = round(time.monotonic() - begun, 3)
    row = {"scenario": scenario, "as_of": newest.as_of, "rebalance_date": decision.rebalance_date, "seconds": seconds}
    row |= {"verdict": "failed" if detail else "passed", "detail": detail, "created_at": clock.now()}
    tables.append(store, "leak_checks", pa.Table.from_pylist([row], TABLES["leak_checks"].schema))
    if detail:
        raise LeakError(
            f"the leak gate failed: {decision.month} comes out differently when only what came after {decision.as_of} "
            f"is changed ({detail}), so something sees the future; {newest.month} was not recorded: correct the code, "
            "or set PRISM_LEAK_GATE=false to go on without the gate"
        )
    log.info("leak gate: %s comes out the same with another future, checked in %.1f s", decision.month, seconds)


@flow(name="leak_check", task_runner=RUNNER, flow_run_name="leak check of {scenario} {day}")
def leak_check(scenario: str, day: date) -> str:
    """What differs first when the date decided on `day` is decided again with another future; empty: nothing."""
    store = open_store()
    past = past_of(store, scenario)
    decision = ledger.current(store, scenario)[day]
    chain = with_before(past, [decision])[0]
    with _quiet(), scratch_store() as scratch:
        future = futures.invent(store, scratch, past.dataset, chain, past.universes, past.written_at(decision))
        bring_holdings(store, scratch, past, [chain])
        decided = recompute(past, [chain], future.snapshots, Diary("leak", scenario), future.universes)[0]
        other = _made(scratch, past, decided[day], decision, future.snapshots, future.universes)
        accounts = _accounts(scratch, decided[day], future)
    serves = all(_is_made_alike(entry, decided[entry.rebalance_date]) for entry in chain)
    truth = _made(store, past, decision, decision) if serves else _again(store, past, chain)
    trades = len(chain) > 1 and decision.kind != ledger.HELD
    return _first(truth, other) or _of_account(accounts, decision, trades) or ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the stages log of a market that did not happen."""
    prism = logging.getLogger("prism")
    level = prism.level
    prism.setLevel(logging.ERROR)
    try:
        yield
    finally:
        prism.setLevel(level)


def _is_made_alike(before: Decision, after: Decision) -> bool:
    """Whether the two were made by the same means, and both from something held or both from cash."""
    changes = lineage.changes(before.record, after.record)
    return not any(change.of_means or change.field == "holdings" for change in changes)


def _again(store: Store, past: Past, chain: Sequence[Decision]) -> _Made:
    """The last date of a chain by the present code, from what was known."""
    with _quiet(), scratch_store() as scratch:
        taken = facts(store, scratch, past, [chain])
        decided = recompute(past, [chain], taken, Diary("leak", past.scenario))[0]
        return _made(scratch, past, decided[chain[-1].rebalance_date], chain[-1], taken)


def _made(
    store: Store,
    past: Past,
    decided: Decision,
    record: Decision,
    snapshots: Mapping[str, str] | None = None,
    universes: Mapping[str, str] | None = None,
) -> _Made:
    """What a store, the one in use, holds of a date that was decided as `record` was."""
    own = record.record["snapshot"]
    line = line_of(past, record, (snapshots or {}).get(own, own), universes)
    plan = planning.make(line, moments_of(line, [record]))[0]
    keys = plan.features_to(plan.months[-1].moment) if plan.forecasts else ()
    there = keys and tables.existing(store, "features", keys) == set(keys)
    features = partitions.read(store, "features", keys)[1] if there else None
    return _Made(features, results.of(store, decided))


def _first(truth: _Made, other: _Made) -> str | None:
    """The first thing in which a date made twice differs, in the order in which it is made."""
    if truth.features is not None and other.features is not None:
        found = results.first_of_frames("features", truth.features, other.features)
        if found is not None:
            return str(found)
    for name in _ORDER:
        differing = results.differences(name, truth.rows[name], other.rows[name])
        if differing:
            return str(differing[0])
    return None


def _accounts(store: Store, decided: Decision, future: futures.Future) -> list[dict[str, Rows]]:
    """Executions and wealth of the decided dates, with the prices as they were and with others."""
    found = []
    for snapshot in future.accounts:
        key = backtest(PanelKey(snapshot, decided.record["universe"]), decided.scenario)
        found.append({name: results.under(store, name, [key or ""]) for name in ("executions", "wealth")})
    return found


def _of_account(accounts: Sequence[Mapping[str, Rows]], decision: Decision, trades: bool) -> str | None:
    """What of an account up to the as-of date depends on what comes after, or of its trade does not."""
    for name, day in (("wealth", "session"), ("executions", "rebalance_date")):
        known = [[row for row in account[name] if row[day] <= decision.as_of] for account in accounts]
        differing = results.differences(name, *known)
        if differing:
            return str(differing[0])
    if trades and decision.record["parameters"]["accounting"]["lag"]:
        return futures.early_trades(accounts[0]["executions"], accounts[1]["executions"], decision)
    return None
