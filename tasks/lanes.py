"""Configs of one online strategy side by side: their weights in one run, and what an account of each would have earned.

A lane holds what the strategy would hold if it were run alone with its config.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.keys import Moment
from tasks import accounts, learning, panels
from tasks.numerics import metrics
from tasks.numerics.configs import TRADING_DAYS, AccountingConfig, OnlineConfig
from tasks.numerics.execution import Liquidity
from tasks.prices import Prices

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Grid = tuple[tuple[str, tuple[Any, ...]], ...]  # by field, its values


def combinations(base: OnlineConfig, grid: Grid) -> list[OnlineConfig]:
    """Every combination of the grid's values, the last field's changing fastest."""
    names = [name for name, _ in grid]
    choices = itertools.product(*(values for _, values in grid))
    return [replace(base, **dict(zip(names, values, strict=True))) for values in choices]


def weights(
    panel: panels.Panel, history: Iterable[Moment], moments: Sequence[Moment], lanes: tuple[OnlineConfig, ...]
) -> FloatArray:
    """Weights (dates, lanes, assets) at `moments`; nothing before the inception.

    `history` holds all dates up to the last of `moments` at which a trade may be limited.
    """
    learner, limits = learning.online_allocator(lanes), np.array([config.max_trade for config in lanes])
    place = {moment: k for k, moment in enumerate(moments)}
    found = np.zeros((len(moments), len(lanes), len(panel.universe.assets)))
    for moment, standing in learning.fold(panel, learner, tuple(history), max_trade=limits):
        if moment in place and standing is not None:
            found[place[moment]] = standing.held  # before its first step the same for all lanes
    return found


def targets(panel: panels.Panel, prices: Prices, held: FloatArray) -> FloatArray:
    """Weights of the panel's assets, (..., A), as weights of the prices' tickers, (..., n)."""
    found = np.zeros((*held.shape[:-1], len(prices.tickers)))
    for place, ticker in enumerate(panel.universe.assets):
        if ticker in prices.tickers:
            found[..., prices.tickers.index(ticker)] = held[..., place]
    return found


def traded(prices: Prices, moments: Sequence[Moment], terms: AccountingConfig) -> IntArray:
    """The sessions of the prices at whose closes these dates trade; their number for a trade after the last."""
    days = [moment.rebalance_date if terms.lag else moment.as_of for moment in moments]
    return np.searchsorted(prices.sessions, np.array(days, "datetime64[D]")).astype(np.int64)


@dataclass(frozen=True)
class Lane:
    """What one account earned."""

    days: FloatArray  # (S,) daily returns after costs, from the session of the first trade on
    cash: FloatArray  # (S,)
    measures: dict[str, float]


def account(
    prices: Prices, market: Liquidity | None, when: IntArray, held: FloatArray, terms: AccountingConfig
) -> Lane:
    """The account that follows targets (K, n) at the sessions `when` (K,)."""
    kept = accounts.simulate(prices, when, held, terms, market)
    sessions = prices.sessions[when[0] :]
    cash = np.full(sessions.size, terms.cash_rate / TRADING_DAYS)
    if prices.risk_free is not None:
        cash = prices.risk_free[when[0] :]
    found = metrics.measures(
        kept.daily_return,
        held,
        np.append(kept.turnover, np.abs(kept.sold) / 2),
        np.append(kept.costs.sum(axis=1), kept.sale_costs),
        sessions.astype("datetime64[M]").astype(np.int64),
        cash,
    )
    return Lane(kept.daily_return, cash, found)
