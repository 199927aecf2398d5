"""Stage *backtest*: what each strategy's account would have been worth, and its measures.

Covers the newest stretch of decided rebalance dates without a gap. Everything is out of sample: the weights were
decided with data up to their as-of dates, and trade one session later. Executions are the trades of the rebalance
dates; what a delisting sells between two of them is told in the log, and counts in turnover and costs.
"""

import json
import logging
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import ledger, pointers, tables
from storage.keys import PanelKey, digest, to_json
from storage.ledger import Decision
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import attribution, measuring, panels, trials
from tasks.caching import keyed_by
from tasks.numerics import accounting, metrics
from tasks.numerics.configs import BASELINES, AccountingConfig, FitnessConfig

KEYED = keyed_by(
    __name__,
    "tasks.attribution",
    "tasks.measuring",
    "tasks.numerics.accounting",
    "tasks.numerics.metrics",
    "tasks.panels",
    "tasks.trials",
    packages=("numpy", "numba", "scipy", "exchange-calendars"),
)
log = logging.getLogger("prism.backtest")
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class _Strategy:
    """One strategy's decided dates, without a gap, and its weights at each."""

    name: str
    months: list[Decision]
    targets: list[dict[str, float]]


def stretch(decided: dict[date, Decision]) -> list[Decision]:
    """The newest decided rebalance dates that follow each other without a gap, in order of time."""
    newest_first: list[Decision] = []
    for day, decision in sorted(decided.items(), reverse=True):
        if newest_first and not _follows(newest_first[-1], day):
            break
        newest_first.append(decision)
    return newest_first[::-1]


def _follows(later: Decision, day: date) -> bool:
    """Whether `day` is the rebalance date before; a record that does not say so is of a scenario of whole months."""
    if "follows" in later.record:
        return later.record["follows"] == f"{day}"
    return 12 * (later.rebalance_date.year - day.year) + later.rebalance_date.month - day.month == 1


@task(cache_policy=NO_CACHE, task_run_name="backtest {scenario}")
def backtest(panel: PanelKey, scenario: str) -> str | None:
    """Account the scenario's decisions up to the last session of the data; the key of the result.

    None, and nothing written, while none of them has traded yet.
    """
    store = open_store()
    months = stretch(ledger.current(store, scenario))
    used = [panel.universe, *(month.record["universe"] for month in reversed(months))]
    universes = list(dict.fromkeys(used))[::-1]  # the newest one last: its sessions are the account's
    last = panels.load(store, panel).sessions[-1].item()
    months = [month for month in months if _trade_date(month) <= last]
    if not months:
        return None
    seen = [panels.prefix(store, PanelKey(panel.snapshot, identity), last) for identity in universes]
    weights = [month.weights for month in months]
    terms = [(month.rebalance_date, _terms(month)) for month in months]
    score = FitnessConfig(**months[-1].record["parameters"].get("fitness", {}))
    key = KEYED.key("backtest", seen=seen, weights=weights, terms=terms, fitness=score, baselines=BASELINES)
    if not tables.existing(store, "metrics", [key]):
        rows = _accounts(store, panel.snapshot, universes, months, score)
        for name in sorted(rows, key="metrics".__eq__):  # metrics last: its rows say that all are there
            stamped = [row | {"key": key} for row in rows[name]]
            tables.put(store, name, pa.Table.from_pylist(stamped, TABLES[name].schema))
    pointers.point(store, "backtests", scenario, key, first_month=months[0].month, last_month=months[-1].month)
    return key


def _terms(month: Decision) -> AccountingConfig:
    """What trading and holding cost by the parameters that the date was decided with."""
    return _config(to_json(month.record["parameters"]["accounting"]))


@lru_cache(maxsize=16)
def _config(values: str) -> AccountingConfig:
    return AccountingConfig(**json.loads(values))


def _trade_date(month: Decision) -> date:
    return month.rebalance_date if _terms(month).lag else month.as_of


def _accounts(store: Store, snapshot: str, universes: list[str], months: list[Decision], score: FitnessConfig) -> Rows:
    """Rows of all tables but that of trials, which are written here: they are the ledger's, and have keys of it."""
    strategies = _strategies(store, months)
    prices = panels.prices_of(store, snapshot, universes)
    orders = [_orders(strategy, prices) for strategy in strategies]
    accounts = [_account(*pair, prices) for pair in zip(strategies, orders, strict=True)]
    for strategy, (_, record) in zip(strategies, accounts, strict=True):
        code = digest(KEYED.code)[:16]
        trials.of_backtest(store, strategy.name, strategy.months, record.daily_return, record.measures, code)
    newest, first = universes[-1], months[0]
    found = [rows for rows, _ in accounts]
    found.append(measuring.rows(store, PanelKey(snapshot, newest), [record for _, record in accounts], score))
    found.append(attribution.rows(store, snapshot, newest, first.record["universe"], first.as_of, prices, orders))
    names = dict.fromkeys(name for part in found for name in part)
    return {name: [row for part in found for row in part.get(name, [])] for name in names}


def _strategies(store: Store, months: list[Decision]) -> list[_Strategy]:
    """Each strategy of the newest date, as far back as it was decided at every date."""
    by_key: dict[str, tuple[str, dict[str, float]]] = {}
    for row in tables.read(store, "weights", key=[key for month in months for key in month.weights]).to_pylist():
        by_key.setdefault(row["key"], (row["strategy"], {}))[1][row["ticker"]] = row["weight"]
    decided = [dict(by_key[key] for key in month.weights) for month in months]
    found = []
    for name in sorted(decided[-1]):
        lacking = [place for place, month in enumerate(decided) if name not in month]
        begin = lacking[-1] + 1 if lacking else 0
        found.append(_Strategy(name, months[begin:], [month[name] for month in decided[begin:]]))
    return found


def _orders(strategy: _Strategy, prices: panels.Prices) -> attribution.Orders:
    """What one strategy trades, on which sessions and terms."""
    days = [np.datetime64(_trade_date(month)) for month in strategy.months]
    when = np.searchsorted(prices.sessions, days).astype(np.int64)
    targets = np.array([[target.get(ticker, 0.0) for ticker in prices.tickers] for target in strategy.targets])
    return attribution.Orders(strategy.name, when, targets, [_terms(month) for month in strategy.months])


def _account(strategy: _Strategy, orders: attribution.Orders, prices: panels.Prices) -> tuple[Rows, measuring.Record]:
    """One strategy's rows of executions and wealth, and the record that is measured."""
    _, when, targets, configs = orders
    account = accounting.simulate(
        prices.returns, prices.traded, when, targets, configs, prices.delisted, prices.risk_free
    )
    _say_untraded(strategy, prices.tickers, account, targets)
    _say_delisted(strategy, prices, account, when)
    record = measuring.record(strategy.name, prices, when, account, targets, configs[-1])
    rows = {
        "executions": _executions(strategy, prices.tickers, account),
        "wealth": _wealth(strategy.name, record.before, record.sessions, account),
    }
    return rows, record


def _say_untraded(strategy: _Strategy, tickers: tuple[str, ...], account: accounting.Account, targets: Any) -> None:
    """Name the assets that should have been traded on a day on which they had no bar; they kept their holding."""
    before = np.vstack([np.zeros_like(targets[:1]), targets[:-1]])
    for place, column in np.argwhere(account.untraded & ((targets != 0) | (before != 0))):
        month = strategy.months[place].rebalance_date
        log.warning("%s: %s had no bar on %s and kept its holding", strategy.name, tickers[column], month)


def _say_delisted(
    strategy: _Strategy, prices: panels.Prices, account: accounting.Account, when: NDArray[np.int64]
) -> None:
    """Name what was sold as its asset was delisted, and the weights that stayed in cash since it was."""
    days = prices.sessions[np.minimum(prices.delisted, prices.sessions.size - 1)]
    for column in np.flatnonzero(account.sold):
        place = np.searchsorted(when, prices.delisted[column]) - 1
        haircut = _terms(strategy.months[place]).delisting_haircut
        how = f"sold at its last price{f' less {100 * haircut:g} %' if haircut else ''}"
        done = how if account.sold[column] < 0 else "bought back at its last price"
        log.warning("%s: %s was delisted on %s and %s", strategy.name, prices.tickers[column], days[column], done)
    for place, column in np.argwhere(account.unmet):
        month, ticker = strategy.months[place].rebalance_date, prices.tickers[column]
        said = "%s: %s was delisted on %s; its weight of %s stayed in cash"
        log.warning(said, strategy.name, ticker, days[column], month)


def _executions(strategy: _Strategy, tickers: tuple[str, ...], account: accounting.Account) -> list[dict[str, Any]]:
    rows = []
    for place, month in enumerate(strategy.months):
        for column in np.flatnonzero(account.trades[place]):
            trade, cost = float(account.trades[place, column]), float(account.costs[place, column])
            row = {"rebalance_date": month.rebalance_date, "strategy": strategy.name, "ticker": tickers[column]}
            rows.append(row | {"trade": trade, "cost": cost})
    return rows


def _wealth(name: str, first: date, sessions: np.ndarray, account: accounting.Account) -> list[dict[str, Any]]:
    """A row a session, after one of wealth 1 on the session before the first trade."""
    rows = [{"session": first, "strategy": name, "wealth": 1.0, "daily_return": 0.0, "drawdown": 0.0}]
    drawdown = metrics.drawdowns(account.wealth)
    for place, day in enumerate(sessions):
        values = {"wealth": account.wealth[place], "daily_return": account.daily_return[place]}
        rows.append({"session": day.item(), "strategy": name, "drawdown": drawdown[place], **values})
    return rows
