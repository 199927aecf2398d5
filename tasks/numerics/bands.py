"""How far apart accounts lie that differ by luck alone: by the day on which they trade, or by the seed of a network.

Accounts end on the same session, and later ones are shorter; they are compared over the sessions that all have, each
from wealth 1. The band is no interval of confidence: its edges are those of the accounts that there are.
"""
# Shapes: K = accounts, S = sessions that all have.

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tasks.numerics.configs import TRADING_DAYS

FloatArray = NDArray[np.float64]


class Band(NamedTuple):
    """By session, (S,) each, a figure of the accounts: of none of them all along, but for `divided`."""

    lowest: FloatArray
    median: FloatArray
    highest: FloatArray
    divided: FloatArray  # of money divided equally among the accounts at the start, and left there


def common(daily_returns: Sequence[FloatArray]) -> FloatArray:
    """The last returns of each account, as many as the shortest has: (K, S).

    Raises ValueError without an account, for one that is empty, and for a return that is no number.
    """
    shortest = min((own.size for own in daily_returns), default=0)
    if not shortest:
        raise ValueError(f"{len(daily_returns)} accounts are given, the shortest of 0 sessions; a band needs some")
    found = np.array([own[-shortest:] for own in daily_returns])
    if not np.isfinite(found).all():
        account, session = np.argwhere(~np.isfinite(found))[0].tolist()
        raise ValueError(f"account {account} has the return {found[account, session]}; returns must be numbers")
    return found


def band(daily_returns: Sequence[FloatArray]) -> Band:
    """The band of wealth, by daily returns after costs that all end on the same session; see `common`."""
    wealth = np.cumprod(1.0 + common(daily_returns), axis=1)
    return _edges(wealth, wealth.mean(axis=0))


def sharpe_band(daily_returns: Sequence[FloatArray], cash: FloatArray, window: int = TRADING_DAYS) -> Band:
    """The band of the annual Sharpe ratio of the last `window` sessions; NaN at those before, as without any spread.

    `cash` holds the risk-free return of each session up to the last, at least as many as the shortest account has.
    """
    daily = common(daily_returns)
    divided = np.cumprod(1.0 + daily, axis=1).mean(axis=0)
    of_divided = divided / np.append(1.0, divided[:-1]) - 1.0
    risk_free = cash[-daily.shape[1] :]
    ratios = np.array([_ratios(own - risk_free, window) for own in daily])
    return _edges(ratios, _ratios(of_divided - risk_free, window))


def _edges(figures: FloatArray, divided: FloatArray) -> Band:
    """The band of some figures (K, S)."""
    return Band(figures.min(axis=0), np.median(figures, axis=0), figures.max(axis=0), divided)


def _ratios(excess: FloatArray, window: int) -> FloatArray:
    """Annual Sharpe ratio of the last `window` of the returns over cash (S,), up to each of them."""
    found = np.full(excess.size, np.nan)
    if excess.size >= window:
        seen = sliding_window_view(excess, window)
        mean, spread = seen.mean(axis=1), seen.std(axis=1, ddof=1)
        np.divide(math.sqrt(TRADING_DAYS) * mean, spread, out=found[window - 1 :], where=spread > 0)
    return found
