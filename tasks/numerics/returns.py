"""Simple total returns of one asset, computed forward, and carried to the portfolio's currency and sessions.

A return uses the session's close and the close before it, never a later one: a split or dividend that becomes
known tomorrow changes tomorrow's return and no other. By the basis of the bars,

    traded    R_t = s_t (C_t + D_t) / C_{t-1} - 1     as-traded closes C, cash dividend D, split ratio s
    split     R_t = (C_t + D_t) / C_{t-1} - 1         C and D already adjusted for splits
    adjusted  R_t = A_t / A_{t-1} - 1                 A, the vendor's total-return close
    rate      R_t = C_t                               a series of returns, fractions a session, in place of closes

A vendor's adjusted close takes each dividend off by the factor 1 - D_t / C_{t-1}, as if it were paid before the
day's move; on ex-dates it therefore differs from the reinvested return above by a term of order D_t R_t / C_{t-1}.

Source: CRSP, Data Definitions, "Returns" (holding period total return).
"""
# Shapes: T = own sessions of the asset, S = sessions of the portfolio.

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BASES = ("traded", "split", "adjusted", "rate")


def total_returns(
    close: FloatArray, adj_close: FloatArray, dividend: FloatArray, split: FloatArray, basis: str
) -> FloatArray:
    """R_t by the formula of `basis` (see above): (T,) simple returns as fractions, the first NaN but for a rate.

    All arrays are (T,), over the asset's own sessions. Prices and dividends are in the asset's currency; `split` is
    new shares per old one, effective on t. A dividend paid on the day of a split is per new share. The value per
    share of a spin-off may be added to `dividend`. NaN means no dividend, no split, or no price; a missing price
    leaves its own return and the next NaN. `adj_close` is read for the basis `adjusted` only, and `close` stands in
    where it is NaN throughout.

    Raises ValueError for an unknown basis, and for a price or split ratio that is not positive.
    """
    if basis not in BASES:
        raise ValueError(f"basis is {basis!r}; it must be one of {', '.join(BASES)}")
    if basis == "rate":
        return close
    if basis == "adjusted":
        price = close if np.isnan(adj_close).all() else adj_close
        return _relative(price, price)
    received = close + np.where(np.isnan(dividend), 0.0, dividend)
    if basis == "traded":
        ratio = np.where(np.isnan(split), 1.0, split)
        _require_positive("split ratio", ratio)
        received = ratio * received
    return _relative(received, close)


def in_currency(simple_return: FloatArray, rate: FloatArray) -> FloatArray:
    """Returns in the base currency: 1 + R_t = (1 + R_local,t) rate_t / rate_{t-1}, (T,), the first NaN.

    `rate` is (T,), units of the base currency per unit of the local one, the last known at the close of each own
    session; NaN where none is known, which leaves that return and the next NaN.

    Raises ValueError for a rate that is not positive, and where the two differ in length.
    """
    if rate.shape != simple_return.shape:
        raise ValueError(f"rate has shape {rate.shape} and returns {simple_return.shape}; each return needs one rate")
    _require_positive("rate", rate)
    returns = np.full(rate.shape, np.nan)
    returns[1:] = (1.0 + simple_return[1:]) * (rate[1:] / rate[:-1]) - 1.0
    return returns


def last_known(values: FloatArray, known: IntArray, count: int) -> FloatArray:
    """The newest of `values` (T,) at each of `count` sessions, NaN before the first: (count,).

    `known` (T,), non-decreasing, is the session at which each value becomes known.
    """
    newest = np.searchsorted(known, np.arange(count), side="right") - 1
    return np.append(values, np.nan)[newest]  # -1, none so far, reads the appended one


def on_sessions(returns: FloatArray, own: IntArray, count: int) -> FloatArray:
    """The asset's returns on the portfolio's sessions: prod_{k: own[k] = t} (1 + R_k) - 1 at session t, (count,).

    `returns` is (T,), `own` (T,) non-decreasing: the index of the first portfolio session at or after own session
    k. A bar on a day that is no portfolio session thus counts at the next one, when it is known; with index
    `count` or above it lies after the last session and does not count yet. On a portfolio session without a bar
    the return is 0 and the next bar carries the whole move; before the first bar it is NaN.

    Raises ValueError where `own` and `returns` differ in length, or `own` is negative or decreases.
    """
    if own.shape != returns.shape:
        raise ValueError(f"own has shape {own.shape} and returns {returns.shape}; each return needs one session")
    if own.size and (own[0] < 0 or (np.diff(own) < 0).any()):
        raise ValueError(f"own starts at {own[0]}, or decreases; pass non-negative session indices in order of time")
    return _placed(np.ascontiguousarray(returns, np.float64), np.ascontiguousarray(own, np.int64), count)


def _relative(value: FloatArray, price: FloatArray) -> FloatArray:
    """value_t / price_{t-1} - 1, the first NaN; both must be positive where present."""
    _require_positive("price", price)
    returns = np.full(price.shape, np.nan)
    returns[1:] = value[1:] / price[:-1] - 1.0
    return returns


def _require_positive(name: str, values: FloatArray) -> None:
    """Raise ValueError with the first value that is zero, negative or infinite; NaN passes as missing."""
    wrong = np.flatnonzero((values <= 0) | np.isinf(values))
    if wrong.size:
        raise ValueError(
            f"{name} is {values[wrong[0]]} at own session {wrong[0]}; it must be positive and finite: drop that bar"
        )


@njit(cache=True)
def _placed(returns: FloatArray, own: IntArray, count: int) -> FloatArray:
    """The loop of `on_sessions`: one pass over sessions, each bar read once."""
    placed = np.full(count, np.nan)
    k = 0
    for t in range(count):
        if k > 0:
            placed[t] = 0.0
        if k < own.size and own[k] == t:
            # Starting from the return itself, not from 1, keeps a single bar's return to the last bit.
            placed[t] = returns[k]
            k += 1
            while k < own.size and own[k] == t:
                placed[t] += returns[k] + placed[t] * returns[k]
                k += 1
    return placed
