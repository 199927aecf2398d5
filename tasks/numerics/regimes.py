"""What kind of market a date lies in, by what was known on it, and what a record earned in each kind.

With P the market's level and v_t the standard deviation (ddof 1) of its last 63 returns, those of the session itself
included, the regime of session t is

    low, middle or high    v_t up to the first, up to the second, or above the second tercile of v_1 .. v_t
    above or below         P_t above its mean over the last 200 sessions, its own included, or not

so six in all. Quantiles expand: they are those of all volatilities so far, interpolated linearly, from a year of them
on. Nothing depends on a later session.
"""
# Shapes: S = sessions, K = dates.

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tasks.numerics import metrics
from tasks.numerics.configs import TRADING_DAYS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

VOLATILITY, AVERAGE = 63, 200  # sessions of the volatility, and of the mean level
FEWEST = TRADING_DAYS  # volatilities before their terciles say anything
NAMES = ("low_below", "low_above", "middle_below", "middle_above", "high_below", "high_above")
UNKNOWN = -1


class Regimes(NamedTuple):
    """The regimes of K dates, and what they follow from; NaN where too few sessions are known."""

    regime: IntArray  # (K,) place in NAMES, UNKNOWN where too few sessions are known
    volatility: FloatArray  # (K,) of a session
    lower: FloatArray  # (K,) first tercile of all volatilities so far
    upper: FloatArray  # (K,) second tercile
    distance: FloatArray  # (K,) of the level from its mean, as a fraction of the mean


def at(market: FloatArray, sessions: IntArray) -> Regimes:
    """The regimes of the sessions (K,), places in `market` (S,), the market's simple returns.

    Returns may be NaN up to the first known one; a place below 0 lies before all of them. Raises ValueError for a place
    from S on, and for a return that is missing later.
    """
    known = np.isfinite(market)
    first = int(known.argmax()) if known.any() else market.size
    if not known[first:].all():
        raise ValueError(f"market has no return at {first + int((~known[first:]).argmax())}, after its first; use 0")
    if sessions.size and sessions.max() >= market.size:
        raise ValueError(f"sessions go up to {sessions.max()}; they must lie below {market.size}")
    returns = market[first:]
    level = np.append(1.0, np.cumprod(1.0 + returns))  # from the close before the first return on
    volatility = _windows(returns, VOLATILITY).std(axis=1, ddof=1)
    average = _windows(level, AVERAGE).mean(axis=1)
    rows = [_row(volatility, level, average, int(place) - first) for place in sessions]
    found = np.array(rows).reshape(-1, 4).T
    tercile = (found[0] > found[1]).astype(np.int64) + (found[0] > found[2])
    regime = np.where(np.isfinite(found).all(axis=0), 2 * tercile + (found[3] > 0), UNKNOWN)
    return Regimes(regime, *found)


def _windows(values: FloatArray, length: int) -> FloatArray:
    """Each whole window of `values`, none where there are fewer."""
    return sliding_window_view(values, length) if values.size >= length else np.empty((0, length))


def _row(volatility: FloatArray, level: FloatArray, average: FloatArray, place: int) -> tuple[float, ...]:
    """Volatility, its terciles and the distance at one of the known returns; NaN where that is not known."""
    seen, mean = place + 2 - VOLATILITY, place + 2 - AVERAGE  # volatilities up to it; the place of its mean level
    if seen < FEWEST or mean < 0:
        return (np.nan,) * 4
    lower, upper = np.quantile(volatility[:seen], (1 / 3, 2 / 3))
    return float(volatility[seen - 1]), float(lower), float(upper), float(level[place + 1] / average[mean] - 1.0)


def of_returns(traded: IntArray, regime: IntArray, count: int) -> IntArray:
    """The regime of each of `count` returns, those of the sessions from the first trade on: (S,).

    `traded` (K,) increasing sessions at whose close was traded, `regime` (K,) of the dates on which that was decided. A
    return is made by what was held before its close; the first is the cost of the first trade, and has its regime.
    """
    held = np.searchsorted(traded, traded[0] + np.arange(count), side="left") - 1
    return regime[np.maximum(held, 0)]


def measured(regime: IntArray, daily_return: FloatArray, risk_free: FloatArray) -> dict[str, dict[str, float]]:
    """By name of each regime that some return has: `sessions`, `return`, `volatility` and `sharpe`; the unknown aside.

    `regime`, `daily_return` and `risk_free` (S,) of each session. The return is that of all sessions of the regime, one
    after the other; volatility and Sharpe ratio are annual, NaN where they are undefined.
    """
    found = {}
    for place, name in enumerate(NAMES):
        own = regime == place
        if own.any():
            found[name] = _measures(daily_return[own], (daily_return - risk_free)[own])
    return found


def _measures(daily: FloatArray, excess: FloatArray) -> dict[str, float]:
    deviation, noise = (float(np.std(values, ddof=1)) if daily.size > 1 else np.nan for values in (daily, excess))
    return {
        "sessions": float(daily.size),
        "return": float(np.prod(1.0 + daily) - 1.0),
        "volatility": np.sqrt(TRADING_DAYS) * deviation,
        "sharpe": np.sqrt(TRADING_DAYS) * float(excess.mean()) / noise if noise > metrics.ZERO else np.nan,
    }
