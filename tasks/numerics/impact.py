"""What a trade costs by its size and by how liquid its asset is, and the estimates that this takes.

    cost of trading the value v = |v| (s + k sigma sqrt(|v| / V))

with s half the bid-ask spread, sigma the standard deviation of a session's return, V the value traded in an average
session, and k = 1 by default: the square-root law. All estimates are trailing: that of a session uses bars up to and
on it.

The spread is that of Corwin and Schultz, from the highs and lows of two sessions. With H and L of either, where the
second session is first moved by what lies between its range and the close before it,

    beta  = ln(H_1 / L_1)^2 + ln(H_2 / L_2)^2,    gamma = ln(max(H_1, H_2) / min(L_1, L_2))^2,
    alpha = (sqrt(2 beta) - sqrt(beta)) / (3 - 2 sqrt(2)) - sqrt(gamma / (3 - 2 sqrt(2))),
    spread = 2 (e^alpha - 1) / (1 + e^alpha).

One that comes out negative keeps its sign in the mean over a window, and only the mean is raised to the floor. The
paper sets each to 0 first, which is far too high where the range is wide and the spread is not: 28 bp instead of 6 bp
for half of AAPL's in 2005-2020, and 0.49 % instead of 0.20 % in a simulated market with a spread of 0.2 %.

Sources: Corwin and Schultz, A Simple Way to Estimate Bid-Ask Spreads from Daily High and Low Prices, Journal of
Finance 67(2), 2012, equations 14 and 18 and section II; Grinold and Kahn, Active Portfolio Management, 2nd edition,
chapter 16 (square-root law).
"""
# Shapes: T = own sessions of the asset, n = assets.

import math

import numpy as np
from numba import njit
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FLOOR = 1e-4  # half-spread: no asset trades for less than 1 bp
_DENOMINATOR = 3 - 2 * math.sqrt(2)


def corwin_schultz(high_ratio: FloatArray, low_ratio: FloatArray, simple_return: FloatArray) -> FloatArray:
    """The spread, as a fraction of the price and of either sign, of each session and the one before it: (T,).

    `high_ratio` and `low_ratio` (T,) are high and low over the session's own close, `simple_return` (T,) is that of
    the close, so that splits and dividends between two sessions are no part of their range. NaN at first, and where
    one is missing.
    """
    high, low = high_ratio * (1 + simple_return), low_ratio * (1 + simple_return)  # over the close before
    gap = np.where(low > 1, low - 1, np.where(high < 1, high - 1, 0.0))
    high, low = (high - gap)[1:], (low - gap)[1:]
    with np.errstate(invalid="ignore", divide="ignore"):  # of a high below its low, which is NaN as well
        beta = np.log(high_ratio[:-1] / low_ratio[:-1]) ** 2 + np.log(high / low) ** 2
        gamma = np.log(np.maximum(high_ratio[:-1], high) / np.minimum(low_ratio[:-1], low)) ** 2
    alpha = (np.sqrt(2 * beta) - np.sqrt(beta)) / _DENOMINATOR - np.sqrt(gamma / _DENOMINATOR)
    return np.append(np.nan, 2 * np.tanh(alpha / 2))[: high_ratio.size]


def trailing_mean(values: FloatArray, window: int) -> FloatArray:
    """The mean of the last `window` of `values` (T,), each session's own included: (T,).

    What is missing is left out; NaN where fewer than half of the window's values are there.
    """
    rows = _windows(values, window)
    count = np.isfinite(rows).sum(axis=1)
    total = np.where(np.isfinite(rows), rows, 0.0).sum(axis=1)
    return np.where(2 * count >= window, total / np.maximum(count, 1), np.nan)


def half_spread(spread: FloatArray, window: int) -> FloatArray:
    """Half the mean of the last `window` spreads (T,) of `corwin_schultz`, at least 1 bp: (T,), NaN as in the mean."""
    return np.maximum(trailing_mean(spread, window) / 2, FLOOR)


def trailing_volatility(simple_return: FloatArray, window: int) -> FloatArray:
    """The standard deviation (ddof 1) of the last `window` returns (T,): (T,), NaN as in `trailing_mean`."""
    rows = _windows(simple_return, window)
    count = np.isfinite(rows).sum(axis=1)
    apart = np.where(np.isfinite(rows), rows - trailing_mean(simple_return, window)[:, None], 0.0)
    return np.sqrt((apart**2).sum(axis=1) / np.maximum(count - 1, 1))


def _windows(values: FloatArray, window: int) -> FloatArray:
    """Each session's last `window` values, NaN before the first: (T, window)."""
    return sliding_window_view(np.concatenate([np.full(window - 1, np.nan), values]), window)


@njit(cache=True)
def cost(value: float, half_spread: float, volatility: float, volume: float, scale: float) -> float:
    """What trading `value`, of either sign and in the currency of `volume`, costs in it; `scale` is k."""
    size = abs(value)
    if size == 0:
        return 0.0
    return size * (half_spread + scale * volatility * math.sqrt(size / volume))
