"""What the accounts of a backtest amount to, as rows: measures, parts of the record, differences to the baselines.

Strategies that were decided at later dates than others have a shorter record; two are compared over the sessions that
both have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import universe
from storage.keys import PanelKey
from storage.store import Store
from tasks import calendars, panels
from tasks.accounts import Kept
from tasks.numerics import differences, fitness, metrics, periods, regimes
from tasks.numerics.configs import BASELINES, TRADING_DAYS, FitnessConfig
from tasks.prices import Prices

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
DayArray = NDArray[np.datetime64]
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Record:
    """One strategy's account, ready to be measured. S = sessions, K = trades."""

    strategy: str
    before: date  # the session before the first trade
    sessions: DayArray  # (S,)
    daily_return: FloatArray  # (S,)
    risk_free: FloatArray  # (S,)
    traded: DayArray  # (K,) sessions of rebalance dates, then of delistings
    turnover: FloatArray  # (K,)
    as_of: DayArray  # (D,) sessions on which the rebalance dates, the first D of `traded`, were decided
    measures: dict[str, float]

    @property
    def excess(self) -> FloatArray:
        """Returns over the risk-free return: (S,)."""
        return self.daily_return - self.risk_free


def record(prices: Prices, kept: Kept) -> Record:
    """The record of a strategy's account."""
    account, start = kept.account, kept.start
    sessions = prices.sessions[start:]
    cash = np.full(sessions.size, kept.configs[-1].cash_rate / TRADING_DAYS)
    if prices.risk_free is not None:
        cash = prices.risk_free[start:]
    left = np.flatnonzero(account.sold)
    turnover = np.append(account.turnover, np.abs(account.sold[left]) / 2)
    measured = metrics.measures(
        account.daily_return,
        kept.targets,
        turnover,
        np.append(account.costs.sum(axis=1), account.sale_costs),
        sessions.astype("datetime64[M]").astype(np.int64),
        cash,
    )
    traded = prices.sessions[np.append(kept.when, prices.delisted[left])]
    before = prices.sessions[start - 1].item()
    as_of = prices.sessions[kept.when - np.array([config.lag for config in kept.configs])]
    return Record(kept.name, before, sessions, account.daily_return, cash, traded, turnover, as_of, measured)


def rows(store: Store, panel: PanelKey, records: Sequence[Record], config: FitnessConfig) -> Rows:
    """Rows of `metrics`, `periods` and `comparisons`, without their key; `panel` is the newest date's."""
    by_name = {entry.strategy: entry for entry in records}
    exchange = universe.load(store, panel.universe).exchange
    found: Rows = {"metrics": [], "periods": [], "comparisons": []}
    for entry in records:
        betas = _betas(store, panel, entry) if config.factor_weight else {}
        measured = entry.measures | fitness.score(entry.measures, entry.daily_return, betas, config)
        span = {"strategy": entry.strategy, "start_date": entry.before, "end_date": entry.sessions[-1].item()}
        found["metrics"] += [span | {"name": name, "value": _number(value)} for name, value in measured.items()]
        found["periods"] += _periods(entry, exchange) + _regimes(panels.load(store, panel), entry)
        if entry.strategy not in BASELINES:
            for name in BASELINES:
                found["comparisons"] += _compared(entry, by_name[name]) if name in by_name else []
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _periods(entry: Record, exchange: str) -> list[dict[str, Any]]:
    """A row for each measure of each year and time of stress."""
    following = calendars.next_session(exchange, entry.sessions[-1]).item()
    parts = periods.measured(
        entry.before, entry.sessions, following, entry.daily_return, entry.risk_free, entry.traded, entry.turnover
    )
    return [
        {"strategy": entry.strategy, "kind": part.kind, "period": part.period, "name": name, "value": _number(value)}
        | {"start_date": part.start, "end_date": part.end, "whole": part.whole}
        for part in parts
        for name, value in part.measures.items()
    ]


def _regimes(market: panels.Panel, entry: Record) -> list[dict[str, Any]]:
    """A row for each measure of each regime in which some return was made by what had been decided."""
    decided = np.searchsorted(market.sessions, entry.as_of, side="right") - 1
    known = regimes.at(panels.level_returns(market), decided).regime
    traded = np.searchsorted(entry.sessions, entry.traded[: decided.size])
    own = regimes.of_returns(traded, known, entry.sessions.size)
    span = {"strategy": entry.strategy, "start_date": entry.before, "end_date": entry.sessions[-1].item()}
    return [
        span | {"kind": "regime", "period": period, "name": name, "value": _number(value), "whole": True}
        for period, measured in regimes.measured(own, entry.daily_return, entry.risk_free).items()
        for name, value in measured.items()
    ]


def _compared(own: Record, baseline: Record) -> list[dict[str, Any]]:
    """A row for each difference to a baseline."""
    last = min(own.sessions.size, baseline.sessions.size)  # all records end at the same session
    found = differences.paired(own.daily_return[-last:], baseline.daily_return[-last:], own.risk_free[-last:])
    return [
        {"strategy": own.strategy, "baseline": baseline.strategy, "name": entry.name, "method": entry.method}
        | {"value": _number(entry.value), "lower": _number(entry.lower), "upper": _number(entry.upper)}
        for entry in found
    ]


def _betas(store: Store, panel: PanelKey, entry: Record) -> dict[str, float]:
    """Exposures of the strategy to the universe's factors, or to the market where it has none."""
    loaded = panels.load(store, panel)
    common = min(loaded.sessions.size, entry.sessions.size)
    factors = loaded.factors or {"market": loaded.market}
    return fitness.betas(entry.excess[-common:], {name: values[-common:] for name, values in factors.items()})
