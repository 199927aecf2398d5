"""Stage *decide*: the trades of a rebalance date, and its record in the ledger.

Planned trades go from the holdings, drifted to the as-of date, to the new weights. The holdings are those that
the scenario's decision at the rebalance date before left; where there is none it starts from cash. A holding whose
asset was delisted since then has become cash. One in an asset without a bar on the session of that date's trade
counts as if it had been traded.

Those of the published strategy start from what the person really holds instead, where that was imported in time
(`tasks.own_holdings`), valued at the closes of the as-of date. A published record keeps the start it was decided with.
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
from storage.errors import InputError
from storage.keys import Moment, PanelKey
from storage.ledger import Decision
from storage.schemas import CASH, TABLES
from storage.settings import Settings
from storage.store import Store, open_store
from tasks import accounts, holdings, own_holdings, panels
from tasks.caching import keyed_by
from tasks.numerics.configs import AccountingConfig

KEYED = keyed_by(
    __name__,
    "tasks.accounts",
    "tasks.holdings",
    "tasks.own_holdings",
    "tasks.panels",
    packages=("numpy", "numba", "exchange-calendars"),
)
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
    amend: str | None = None  # a person's reason to publish it anew where it comes out differently
    publish: str = ""  # the strategy that a person trades

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


@dataclass(frozen=True)
class Decided:
    """What deciding some rebalance dates came to."""

    new: tuple[str, ...]  # names of those that got a new record
    published: tuple[tuple[str, str], ...]  # names of those published before: `identical`, or why they would differ


@dataclass(frozen=True)
class _Imported:
    """What a person holds, at the as-of date's closes."""

    holdings: str
    date: date
    weights: tuple[tuple[str, float], ...]
    wealth: float


@task(cache_policy=NO_CACHE, task_run_name="decide from {months[0].moment.month}")
def decide(panel: PanelKey, scenario: str, months: tuple[Month, ...]) -> Decided:
    """Plan the trades of each rebalance date, in order, and append to the ledger what it does not hold yet.

    Raises InputError, with nothing appended, where a date to amend came out as it stands.
    """
    store = open_store()
    records = ledger.read(store, scenario)
    planned = _planned(store, panel, scenario, months, records)
    new, compared = _news(store, panel, records, planned, {m.moment.rebalance_date: m.amend for m in months})
    made = {decision.month for decision in new}
    same = [month.moment.month for month in months if month.amend is not None and month.moment.month not in made]
    if same:
        raise InputError(f"{same[0]} would be decided as it stands, so there is nothing to amend; nothing was appended")
    ledger.append(store, new)
    if new:
        log.info("decided %s to %s", new[0].month, new[-1].month)
    for decision in new:
        if decision.reason and decision.month not in compared:
            log.info("%s came out differently: %s", decision.month, decision.reason)
    for month, verdict in compared.items():
        log.info("%s, compared with what was published: %s", month, verdict)
    return Decided(tuple(decision.month for decision in new), tuple(compared.items()))


def _news(
    store: Store,
    panel: PanelKey,
    records: list[Decision],
    planned: list[Decision],
    amends: dict[date, str | None],
) -> tuple[list[Decision], dict[str, str]]:
    """Those of the planned decisions that the ledger lacks, and how those published before compare with it.

    Equal lineage needs no look at the results, unless a date is published.
    """
    standing = {entry.rebalance_date: entry for entry in records if not entry.advisory}
    known = {day: entry.lineage for day, entry in standing.items() if entry.kind != "published"}
    unknown = [d for d in planned if known.get(d.rebalance_date) != d.lineage or d.kind == "published"]
    past: dict[date, list[Decision]] = {}
    for entry in records:
        past.setdefault(entry.rebalance_date, []).append(entry)
    new: list[Decision] = []
    compared: dict[str, str] = {}
    for decision, content in zip(unknown, ledger.content_hashes(store, unknown), strict=True):
        month, before = past.get(decision.rebalance_date, []), standing.get(decision.rebalance_date)
        reason = why_changed(store, panel, decision.as_of, before.record, decision.record) if before else None
        found = replace(decision, content_hash=content)
        settled = ledger.settled(found, month, reason, amends[decision.rebalance_date])
        new += [settled] if settled else []
        if before is not None and before.kind == "published" and amends[decision.rebalance_date] is None:
            compared[decision.month] = _verdict(before, settled or found, month)
    return new, compared


def _verdict(published: Decision, found: Decision, month: list[Decision]) -> str:
    """How a date that was published compares with what is decided for it now: identical, or the advisory's reason."""
    if found.content_hash == published.content_hash:
        return "identical"
    known = next((entry for entry in month if entry.content_hash == found.content_hash), found)
    return str(found.reason or known.reason)


def _planned(
    store: Store, panel: PanelKey, scenario: str, months: Sequence[Month], records: list[Decision]
) -> list[Decision]:
    """The decisions, content hash and revision aside, with their trades written."""
    standing = {entry.rebalance_date: entry for entry in records if not entry.advisory}
    held = {
        day: _Holdings(day, entry.as_of, entry.weights, entry.record["universe"]) for day, entry in standing.items()
    }
    decisions, wanted = [], {}
    imports = own_holdings.history(store, scenario)
    for month in months:
        before = held.get(month.follows) if month.follows else None
        own = _imported(store, panel, month, standing.get(month.moment.rebalance_date), imports)
        key = _trades_key(store, panel, month, before, own)
        wanted[key] = (month, before, own)
        decisions.append(_decision(store, panel, scenario, month, before, own, key))
        day = month.moment.rebalance_date
        if day not in standing or standing[day].kind != "published" or month.amend is not None:
            held[day] = _Holdings(day, month.moment.as_of, month.keys, panel.universe)
    there = tables.existing(store, "trades", wanted)
    _write_trades(store, panel, {key: plan for key, plan in wanted.items() if key not in there})
    return decisions


def _imported(
    store: Store,
    panel: PanelKey,
    month: Month,
    standing: Decision | None,
    imports: Sequence[own_holdings.Holdings],
) -> _Imported | None:
    """The imported holdings that the date's trades start from, if any: of a published date those of its record."""
    found = own_holdings.start_of(imports, month.follows, month.moment.as_of)
    if standing is not None and standing.kind == "published":
        named = (standing.record.get("imported") or {}).get("holdings")
        found = next((entry for entry in imports if entry.holdings == named), None)
    if found is None or not month.publish:
        return None
    worth = own_holdings.valued(store, panel.snapshot, panel.universe, month.moment.as_of, found)
    return _Imported(found.holdings, found.date, tuple(worth.weights.items()), worth.wealth)


def _trades_key(store: Store, panel: PanelKey, month: Month, before: _Holdings | None, own: _Imported | None) -> str:
    """Key of the planned trades of a rebalance date."""
    seen = month.moment.prefix if before else None
    if before is not None and before.universe != panel.universe:
        seen = panels.prefix(store, replace(panel, universe=before.universe), month.moment.as_of)
    held = before.keys if before else ()
    inputs = {"to": month.keys, "held": held, "seen": seen, "config": month.accounting}
    return KEYED.key("trades", moment=month.moment, own=own and [month.publish, own], **inputs)


def _decision(
    store: Store,
    panel: PanelKey,
    scenario: str,
    month: Month,
    before: _Holdings | None,
    own: _Imported | None,
    trades: str,
) -> Decision:
    record = {
        "snapshot": panel.snapshot,
        "known_at": snapshots.load(store, panel.snapshot).known_at,
        "universe": panel.universe,
        "prefix": month.moment.prefix,
        "follows": month.follows and f"{month.follows}",
        "model": month.model,
        "holdings": [*([own.holdings] if own else ()), *(before.keys if before else ())],
        "imported": {"holdings": own.holdings, "date": f"{own.date}"} if own else None,
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


def _write_trades(
    store: Store, panel: PanelKey, wanted: dict[str, tuple[Month, _Holdings | None, _Imported | None]]
) -> None:
    """Write the planned trades of rebalance dates by key."""
    used = {key for month, before, _ in wanted.values() for key in (*month.keys, *(before.keys if before else ()))}
    weights = _weights(store, used)
    prices = {
        universe: panels.prices_of(store, panel.snapshot, [universe])
        for universe in {before.universe for _, before, _ in wanted.values() if before}
    }
    costs = accounts.Costs(store, panel, [month.accounting for month, _, _ in wanted.values()])
    rows = []
    for key, (month, before, own) in wanted.items():
        held = _drifted(prices[before.universe], month, before, weights) if before else {}
        targets = {strategy: weights[key][1] if key in weights else {} for strategy, key in month.weights}
        capital = month.accounting.capital
        for strategy, target in sorted(targets.items()):
            mine = own if strategy == month.publish else None
            start = dict(mine.weights) if mine else held.get(strategy, {})
            trades = _trades(target, start)
            worth = mine.wealth if mine else capital
            charged = costs.of(trades, worth, month.moment.as_of, month.accounting)
            row = {"key": key, "rebalance_date": month.moment.rebalance_date, "strategy": strategy}
            rows += [row | {"ticker": t, "trade": trade, "cost": charged[t]} for t, trade in trades.items()]
    if rows:
        tables.put(store, "trades", pa.Table.from_pylist(rows, TABLES["trades"].schema))


def _trades(target: dict[str, float], held: dict[str, float]) -> dict[str, float]:
    """Trades by ticker, as fractions of wealth at the as-of date."""
    tickers = sorted((target.keys() | held.keys()) - {CASH})
    trades = {ticker: target.get(ticker, 0.0) - held.get(ticker, 0.0) for ticker in tickers}
    return {ticker: trade for ticker, trade in trades.items() if abs(trade) > ZERO}


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
    old, new = before.get("imported"), after.get("imported")
    if old != new:
        causes.append(f"holdings imported for {new['date']}" if new else f"not from the holdings of {old['date']}")
    if _has_drifted(before) != _has_drifted(after):
        causes.append("the rebalance date before is decided now")
    return "; ".join(causes) or "the rebalance date before was decided differently"


def _has_drifted(record: dict[str, Any]) -> bool:
    """Whether the date followed another one."""
    return len(record["holdings"]) > bool(record.get("imported"))


def _restatements(store: Store, panel: PanelKey, as_of: date, since: str) -> list[str]:
    """What the data say otherwise than the snapshot `since` did, as far as it may be seen at `as_of`."""
    tickers = universe.load(store, panel.universe).tickers
    bars = [day for day in snapshots.restated(store, since, panel.snapshot, tickers) if day <= as_of]
    noun = "bar" if len(bars) == 1 else "bars"
    causes = [f"data: {len(bars)} {noun} restated from {bars[0]:%Y-%m}"] if bars else []
    old, new = (snapshots.delisted(store, snapshots.load(store, identity)) for identity in (since, panel.snapshot))
    changed = {name for name, day in old.items() ^ new.items() if name in tickers and day <= as_of}
    return causes + ([f"data: delisting of {', '.join(sorted(changed))}"] if changed else [])
