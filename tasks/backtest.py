"""Stage *backtest*: what each strategy's account would have been worth, and its measures.

Covers the newest stretch of decided rebalance dates without a gap. Everything is out of sample: the weights were
decided with data up to their as-of dates, and trade one session later. Executions are the trades of the rebalance
dates, with what impact costs carried over to later sessions; what a delisting sells between two of them is told in
the log, and counts in turnover and costs. A held date trades nothing: every account goes on with what it holds.
"""

import logging
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import pointers, tables
from storage.keys import PanelKey, digest
from storage.ledger import Decision
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import accounts, attribution, followed, measuring, panels, trials
from tasks.caching import keyed_by
from tasks.followed import Strategy
from tasks.numerics import metrics
from tasks.numerics.accounting import Account
from tasks.numerics.configs import BASELINES, FitnessConfig
from tasks.numerics.execution import Liquidity
from tasks.prices import Prices, prices_of

KEYED = keyed_by(
    __name__,
    "tasks.accounts",
    "tasks.attribution",
    "tasks.followed",
    "tasks.measuring",
    "tasks.numerics.metrics",
    "tasks.panels",
    "tasks.prices",
    "tasks.trials",
    packages=("numpy", "numba", "scipy", "exchange-calendars"),
)
ROUNDING = 1e-12  # of wealth: no trade
log = logging.getLogger("prism.backtest")
Rows = dict[str, list[dict[str, Any]]]


@task(cache_policy=NO_CACHE, task_run_name="backtest {scenario}")
def backtest(panel: PanelKey, scenario: str) -> str | None:
    """Account the scenario's decisions up to the last session of the data; the key of the result.

    None, and nothing written, while none of them has traded yet.
    """
    store = open_store()
    months, universes = followed.traded(store, panel, scenario)
    if not months:
        return None
    last = panels.load(store, panel).sessions[-1].item()
    seen = [panels.prefix(store, PanelKey(panel.snapshot, identity), last) for identity in universes]
    weights = [month.weights for month in months]
    terms = [(month.rebalance_date, followed.terms(month)) for month in months]
    score = FitnessConfig(**months[-1].record["parameters"].get("fitness", {}))
    key = KEYED.key("backtest", seen=seen, weights=weights, terms=terms, fitness=score, baselines=BASELINES)
    if not tables.existing(store, "metrics", [key]):
        rows = _accounts(store, panel.snapshot, universes, months, score)
        for name in sorted(rows, key="metrics".__eq__):  # metrics last: its rows say that all are there
            stamped = [row | {"key": key} for row in rows[name]]
            tables.put(store, name, pa.Table.from_pylist(stamped, TABLES[name].schema))
    pointers.point(store, "backtests", scenario, key, first_month=months[0].month, last_month=months[-1].month)
    return key


def _accounts(store: Store, snapshot: str, universes: list[str], months: list[Decision], score: FitnessConfig) -> Rows:
    """Rows of all tables but that of trials, which are written here: they are the ledger's, and have keys of it."""
    strategies = followed.strategies(store, months)
    prices = prices_of(store, snapshot, universes)
    market = accounts.liquidity(prices, [followed.terms(month) for month in months])
    kept = [_kept(strategy, prices, market) for strategy in strategies]
    records = [measuring.record(prices, entry) for entry in kept]
    for strategy, record in zip(strategies, records, strict=True):
        code = digest(KEYED.code)[:16]
        trials.of_backtest(store, strategy.name, strategy.months, record.daily_return, record.measures, code)
    newest, first = universes[-1], months[0]
    found = [_shown(*entry, prices) for entry in zip(strategies, kept, records, strict=True)]
    found.append(measuring.rows(store, PanelKey(snapshot, newest), records, score))
    found.append(attribution.rows(store, snapshot, newest, first.record["universe"], first.as_of, prices, kept))
    names = dict.fromkeys(name for part in found for name in part)
    return {name: [row for part in found for row in part.get(name, [])] for name in names}


def _kept(strategy: Strategy, prices: Prices, market: Liquidity | None) -> accounts.Kept:
    """One strategy's account."""
    when, targets, configs = strategy.on(prices)
    account = accounts.simulate(prices, when, targets, configs, market)
    return accounts.Kept(strategy.name, when, targets, configs, account)


def _shown(strategy: Strategy, kept: accounts.Kept, record: measuring.Record, prices: Prices) -> Rows:
    """One strategy's rows of executions and wealth; what was out of the ordinary is told in the log."""
    _, when, targets, _, account = kept
    _say_untraded(strategy, prices, account, when, targets)
    _say_carried(strategy, prices.tickers, account)
    _say_delisted(strategy, prices, account, when)
    return {
        "executions": _executions(strategy, prices.tickers, account),
        "wealth": _wealth(strategy.name, record.before, record.sessions, account),
    }


def _say_untraded(
    strategy: Strategy,
    prices: Prices,
    account: Account,
    when: NDArray[np.int64],
    targets: NDArray[np.float64],
) -> None:
    """Name the assets that should have been traded without a bar that day, and those that are halted to the end."""
    before = np.vstack([np.zeros_like(targets[:1]), targets[:-1]])
    for place, column in np.argwhere(account.untraded & ((targets != 0) | (before != 0))):
        month, ticker = strategy.months[place].rebalance_date, prices.tickers[column]
        since = prices.halted_since(ticker, int(when[place]))
        if since is None:
            log.warning("%s: %s had no bar on %s and kept its holding", strategy.name, ticker, month)
        else:
            said = "%s: %s is halted, its last bar is of %s, and kept its holding on %s"
            log.warning(said, strategy.name, ticker, since, month)
    last = prices.sessions.size - 1
    for column in np.flatnonzero((targets[-1] != 0) & (prices.delisted > last)):
        since = prices.halted_since(prices.tickers[column], last)
        if since is not None:
            said = "%s: %s is halted and counts at its last price, of %s, until it trades again or is declared delisted"
            log.warning(said, strategy.name, prices.tickers[column], since)


def _say_carried(strategy: Strategy, tickers: tuple[str, ...], account: Account) -> None:
    """Say what was more than a session's volume takes, and what of it was never traded."""
    late = np.abs(account.carried) > ROUNDING
    if late.any():
        place, column = np.unravel_index(np.abs(account.carried).argmax(), late.shape)
        log.warning(
            "%s: %d trades on %d rebalance dates were more than a session takes and went on at later ones, the largest "
            "of %s on %s with %.2f %% of wealth",
            strategy.name,
            late.sum(),
            late.any(axis=1).sum(),
            tickers[column],
            strategy.months[place].rebalance_date,
            100 * abs(account.carried[place, column]),
        )
    left = np.abs(account.undone)
    if (left > ROUNDING).any():
        said = "%s: %d trades were not done by the next rebalance date, or for want of money; %.2f %% of wealth at most"
        log.warning(said, strategy.name, (left > ROUNDING).sum(), 100 * left.max())


def _say_delisted(strategy: Strategy, prices: Prices, account: Account, when: NDArray[np.int64]) -> None:
    """Name what was sold as its asset was delisted, and the weights that stayed in cash since it was."""
    days = prices.sessions[np.minimum(prices.delisted, prices.sessions.size - 1)]
    for column in np.flatnonzero(account.sold):
        place = np.searchsorted(when, prices.delisted[column]) - 1
        haircut = followed.terms(strategy.months[place]).delisting_haircut
        how = f"sold at its last price{f' less {100 * haircut:g} %' if haircut else ''}"
        done = how if account.sold[column] < 0 else "bought back at its last price"
        log.warning("%s: %s was delisted on %s and %s", strategy.name, prices.tickers[column], days[column], done)
    for place, column in np.argwhere(account.unmet):
        month, ticker = strategy.months[place].rebalance_date, prices.tickers[column]
        said = "%s: %s was delisted on %s; its weight of %s stayed in cash"
        log.warning(said, strategy.name, ticker, days[column], month)


def _executions(strategy: Strategy, tickers: tuple[str, ...], account: Account) -> list[dict[str, Any]]:
    rows = []
    for place, month in enumerate(strategy.months):
        for column in np.flatnonzero((account.trades[place] != 0) | (account.undone[place] != 0)):
            numbers = {"trade": account.trades, "cost": account.costs}
            numbers |= {"carried": account.carried, "undone": account.undone}
            row = {"rebalance_date": month.rebalance_date, "strategy": strategy.name, "ticker": tickers[column]}
            rows.append(row | {name: float(values[place, column]) for name, values in numbers.items()})
    return rows


def _wealth(name: str, first: date, sessions: np.ndarray, account: Account) -> list[dict[str, Any]]:
    """A row a session, after one of wealth 1 on the session before the first trade."""
    rows = [{"session": first, "strategy": name, "wealth": 1.0, "daily_return": 0.0, "drawdown": 0.0}]
    drawdown = metrics.drawdowns(account.wealth)
    for place, day in enumerate(sessions):
        values = {"wealth": account.wealth[place], "daily_return": account.daily_return[place]}
        rows.append({"session": day.item(), "strategy": name, "drawdown": drawdown[place], **values})
    return rows
