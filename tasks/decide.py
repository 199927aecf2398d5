"""Stage *decide*: the trades of a rebalance date, and its record in the ledger.

Planned trades go from the holdings, drifted to the as-of date, to the new weights. The holdings are those that
the scenario's decision at the rebalance date before left; where there is none it starts from cash. A holding whose
asset was delisted since then has become cash. One in an asset without a bar on the session of that date's trade
counts as if it had been traded.
"""

import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import ledger, snapshots, tables, universe
from storage.keys import Moment, PanelKey
from storage.ledger import Decision
from storage.schemas import CASH, TABLES
from storage.settings import Settings
from storage.store import Store, open_store
from tasks import holdings, panels
from tasks.caching import keyed_by
from tasks.numerics.configs import AccountingConfig

KEYED = keyed_by(__name__, "tasks.holdings", "tasks.panels", packages=("numpy", "numba", "exchange-calendars"))
ByStrategy = dict[str, dict[str, float]]  # weights by strategy and ticker
ZERO = 1e-15  # of wealth: smaller trades are rounding
log = logging.getLogger("prism.decide")


@dataclass(frozen=True)
class Month:
    """What the decision of one rebalance date is made of."""

    moment: Moment
    follows: date | None  # the scenario's rebalance date before it
    kind: str  # published or backfill
    forecasts: str | None  # key
    model: str | None  # key
    weights: tuple[tuple[str, str], ...]  # strategy and key, sorted
    accounting: AccountingConfig
    made_of: dict[str, Any]  # parameters, code hashes and versions, for the record

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the weights."""
        return tuple(key for _, key in self.weights)


@dataclass(frozen=True)
class _Holdings:
    """Weights of the rebalance date before, and the universe they were chosen from."""

    rebalance_date: date
    as_of: date
    keys: tuple[str, ...]
    universe: str


@task(cache_policy=NO_CACHE, task_run_name="decide from {months[0].moment.month}")
def decide(panel: PanelKey, scenario: str, months: tuple[Month, ...]) -> list[str]:
    """Plan the trades of each rebalance date, in order, and append to the ledger what it does not hold yet.

    Returns the names of those that got a new record.
    """
    store = open_store()
    records = ledger.read(store, scenario)
    new = _news(store, panel, records, _planned(store, panel, scenario, months, records))
    ledger.append(store, new)
    if new:
        log.info("decided %s to %s", new[0].month, new[-1].month)
    for decision in new:
        if decision.reason:
            log.info("%s came out differently: %s", decision.month, decision.reason)
    return [decision.month for decision in new]


def _news(store: Store, panel: PanelKey, records: list[Decision], planned: list[Decision]) -> list[Decision]:
    """Those of the planned decisions that the ledger lacks. Equal lineage needs no look at the results."""
    standing = {entry.rebalance_date: entry for entry in records if not entry.advisory}
    known = {day: entry.lineage for day, entry in standing.items() if entry.kind != "published"}
    unknown = [d for d in planned if known.get(d.rebalance_date) != d.lineage or d.kind == "published"]
    past: dict[date, list[Decision]] = {}
    for entry in records:
        past.setdefault(entry.rebalance_date, []).append(entry)
    new: list[Decision] = []
    for decision, content in zip(unknown, ledger.content_hashes(store, unknown), strict=True):
        month = past.get(decision.rebalance_date, [])
        reason = why_changed(store, panel, decision.as_of, month[-1].record, decision.record) if month else None
        settled = ledger.settled(replace(decision, content_hash=content), month, reason)
        new += [settled] if settled else []
    return new


def _planned(
    store: Store, panel: PanelKey, scenario: str, months: Sequence[Month], records: list[Decision]
) -> list[Decision]:
    """The decisions, content hash and revision aside, with their trades written."""
    standing = {entry.rebalance_date: entry for entry in records if not entry.advisory}
    held = {
        day: _Holdings(day, entry.as_of, entry.weights, entry.record["universe"]) for day, entry in standing.items()
    }
    decisions, wanted = [], {}
    for month in months:
        before = held.get(month.follows) if month.follows else None
        key = _trades_key(store, panel, month, before)
        wanted[key] = (month, before)
        decisions.append(_decision(store, panel, scenario, month, before, key))
        day = month.moment.rebalance_date
        if day not in standing or standing[day].kind != "published":
            held[day] = _Holdings(day, month.moment.as_of, month.keys, panel.universe)
    there = tables.existing(store, "trades", wanted)
    _write_trades(store, panel, {key: plan for key, plan in wanted.items() if key not in there})
    return decisions


def _trades_key(store: Store, panel: PanelKey, month: Month, before: _Holdings | None) -> str:
    """Key of the planned trades of a rebalance date."""
    seen = month.moment.prefix if before else None
    if before is not None and before.universe != panel.universe:
        seen = panels.prefix(store, replace(panel, universe=before.universe), month.moment.as_of)
    held = before.keys if before else ()
    return KEYED.key("trades", moment=month.moment, to=month.keys, held=held, seen=seen, config=month.accounting)


def _decision(
    store: Store, panel: PanelKey, scenario: str, month: Month, before: _Holdings | None, trades: str
) -> Decision:
    record = {
        "snapshot": panel.snapshot,
        "known_at": snapshots.load(store, panel.snapshot).known_at,
        "universe": panel.universe,
        "prefix": month.moment.prefix,
        "follows": month.follows and f"{month.follows}",
        "model": month.model,
        "holdings": list(before.keys) if before else [],
        "left_out": panels.left_out(panels.load(store, panel), month.moment.as_of),
        "machine": _machine(),
        **month.made_of,
    }
    dates = {"rebalance_date": month.moment.rebalance_date, "as_of": month.moment.as_of}
    keys = {"forecasts": month.forecasts, "weights": month.keys, "trades": trades}
    return Decision(scenario, **dates, kind=month.kind, **keys, record=record)


def _machine() -> dict[str, str]:
    """What a result's last bits depend on beside code, libraries and inputs."""
    found = {"processor": _processor(), "system": platform.platform(), "python": platform.python_version()}
    return found | {"device": Settings().device, "threads": os.environ.get("OMP_NUM_THREADS", "")}


@cache
def _processor() -> str:
    """The processor's kind: results agree to the byte on one kind only."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _write_trades(store: Store, panel: PanelKey, wanted: dict[str, tuple[Month, _Holdings | None]]) -> None:
    """Write the planned trades of rebalance dates by key."""
    used = {key for month, before in wanted.values() for key in (*month.keys, *(before.keys if before else ()))}
    weights = _weights(store, used)
    prices = {
        universe: panels.prices_of(store, panel.snapshot, [universe])
        for universe in {before.universe for _, before in wanted.values() if before}
    }
    rows = []
    for key, (month, before) in wanted.items():
        held = _drifted(prices[before.universe], month, before, weights) if before else {}
        targets = {strategy: weights[own][1] if own in weights else {} for strategy, own in month.weights}
        rows += _trades(key, month, targets, held)
    if rows:
        tables.put(store, "trades", pa.Table.from_pylist(rows, TABLES["trades"].schema))


def _trades(key: str, month: Month, targets: ByStrategy, held: ByStrategy) -> list[dict[str, Any]]:
    """Rows of planned trades, by strategy and ticker, as fractions of wealth at the as-of date."""
    rows = []
    for strategy in sorted(targets):
        now, then = targets[strategy], held.get(strategy, {})
        for ticker in sorted((now.keys() | then.keys()) - {CASH}):
            trade = now.get(ticker, 0.0) - then.get(ticker, 0.0)
            if abs(trade) > ZERO:
                cost = month.accounting.cost * abs(trade)
                row = {"key": key, "rebalance_date": month.moment.rebalance_date, "strategy": strategy}
                rows.append(row | {"ticker": ticker, "trade": trade, "cost": cost})
    return rows


def _weights(store: Store, keys: set[str]) -> dict[str, tuple[str, dict[str, float]]]:
    """By key the strategy and its weights by ticker."""
    weights: dict[str, tuple[str, dict[str, float]]] = {}
    for row in tables.read(store, "weights", key=keys).to_pylist():
        weights.setdefault(row["key"], (row["strategy"], {}))[1][row["ticker"]] = row["weight"]
    return weights


def _drifted(
    prices: panels.Prices, month: Month, before: _Holdings, weights: dict[str, tuple[str, dict[str, float]]]
) -> ByStrategy:
    """What the weights of the date before have become at the as-of date."""
    traded = before.rebalance_date if month.accounting.lag else before.as_of
    return {
        strategy: holdings.drifted(prices, held, traded, month.moment.as_of, month.accounting)
        for strategy, held in (weights[key] for key in before.keys if key in weights)
    }


def why_changed(store: Store, panel: PanelKey, as_of: date, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Why a date comes out differently from its last record: data, code, libraries, or the date before it."""
    causes = _restatements(store, panel, as_of, before["snapshot"]) if before["prefix"] != after["prefix"] else []
    causes += ["universe"] if before["universe"] != after["universe"] else []
    changed = [name for name, value in after["code"].items() if before["code"].get(name) != value]
    causes += [f"code: {', '.join(changed)}"] if changed else []
    changed = [name for name, value in after["versions"].items() if before["versions"].get(name) != value]
    causes += [f"libraries: {', '.join(changed)}"] if changed else []
    if bool(before["holdings"]) != bool(after["holdings"]):
        causes.append("the rebalance date before is decided now")
    return "; ".join(causes) or "the rebalance date before was decided differently"


def _restatements(store: Store, panel: PanelKey, as_of: date, since: str) -> list[str]:
    """What the data say otherwise than the snapshot `since` did, as far as it may be seen at `as_of`."""
    tickers = universe.load(store, panel.universe).tickers
    bars = [day for day in snapshots.restated(store, since, panel.snapshot, tickers) if day <= as_of]
    noun = "bar" if len(bars) == 1 else "bars"
    causes = [f"data: {len(bars)} {noun} restated from {bars[0]:%Y-%m}"] if bars else []
    old, new = (snapshots.delisted(store, snapshots.load(store, identity)) for identity in (since, panel.snapshot))
    changed = {name for name, day in old.items() ^ new.items() if name in tickers and day <= as_of}
    return causes + ([f"data: delisting of {', '.join(sorted(changed))}"] if changed else [])
