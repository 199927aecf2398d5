"""The global maximum of the return-drawdown ratio, on the long-only efficient frontier of `critical_line`.

The ratio f of `return_drawdown` rises in the mean m and falls in the variance V, hence each of its local maxima over
the portfolios is one along the frontier. On a segment, where m = m_a + lam C and V = V_a + lam^2 C, the slope of f in
lam has the sign of

    -h(lam),  h = lam m_a - V_a - alpha c V^1.5       where m > 0: h is concave, its smaller root a maximum
    V_a + lam m_a + 2 lam^2 C                         where m < 0: the smaller root is a maximum
    1                                                 where c sqrt(V) is below the floor of the drawdown.

So each segment has at most one maximum, in closed form or by a monotone Newton iteration, or where the floor starts
to bind. Below that point f rises all the way, as it does where m > 0 and lam m < V, left of the largest m / sqrt(V):
a sweep from lam = infinity down stops at either, and compares all maxima that it met. If some portfolio has m > 0, so
has the best, and those with m < 0 are not looked at.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

# numba's cache of this file does not notice edits of that one: after them, delete __pycache__.
from tasks.numerics.critical_line import Segment, System, next_corner, residual, segment, start, turn

FloatArray = NDArray[np.float64]

_CONSTANT = 1e-12  # of the largest mean: a smaller range is none
_NEWTON = 1e-15  # relative step at which a root is found
_CORNERS = 20  # at most for each asset; one for each that the frontier ever holds is usual


class Terms(NamedTuple):
    """The numbers of the ratio: m / d + alpha m where m > 0, else m root d, with d = max(floor, c sqrt(V))."""

    alpha: float
    c: float
    floor: float
    root: float


class Optimum(NamedTuple):
    """The best point of the frontier, and how far to trust it."""

    weights: FloatArray  # (n,)
    multiplier: float  # lam
    local_maxima: int  # along the part of the frontier that was visited
    corners: int
    residual: float  # largest at a visited corner: see `critical_line`; infinite where the sweep came to no end


def optimum(mean: FloatArray, covariance: FloatArray, cap: float, terms: Terms) -> Optimum:
    """The best portfolio for the ratio of `terms` among 0 <= w <= cap, sum w = 1; cap = 1 is no cap.

    `mean` is (n,), `covariance` (n, n), symmetric and positive semi-definite up to rounding, singular or not; both
    finite. Means that are all the same leave the portfolio of least variance. ValueError when n caps do not
    reach 1.
    """
    if mean.size * cap < 1.0 - 1e-12:
        raise ValueError(
            f"max_weight is {cap} and {mean.size} assets may be held; raise it to at least 1 / {mean.size}"
        )
    return Optimum(*_found(plain(mean), plain(covariance), cap if cap < 1.0 else np.inf, terms))


def plain(array: FloatArray) -> FloatArray:
    """The array as compiled code knows it: one that is read-only, or in another order, would be another type."""
    return array if array.flags.carray and array.dtype == np.float64 else np.array(array, np.float64, order="C")


@njit(cache=True)
def _found(
    mean: FloatArray, covariance: FloatArray, cap: float, terms: Terms
) -> tuple[FloatArray, float, int, int, float]:
    """All of an `Optimum`."""
    constant = mean.max() - mean.min() <= _CONSTANT * np.abs(mean).max()
    system = start(mean, covariance, cap, constant)
    return _sweep(system, system.mu if constant else mean, constant, terms)


@njit(cache=True)
def _sweep(system: System, mean: FloatArray, constant: bool, terms: Terms) -> tuple[FloatArray, float, int, int, float]:
    """All of an `Optimum`."""
    least = (terms.floor / terms.c) ** 2
    best, weights, multiplier, maxima, worst = -np.inf, np.zeros(mean.size), 0.0, 0, 0.0
    k, high, positive = 1, np.inf, False
    corners = _CORNERS * (mean.size + 5)
    for corner in range(1, corners + 1):
        line = segment(system, k)
        if corner == 1:
            positive = line.mean > 0.0
        low, asset, to = next_corner(system, line, k, high)
        low, floored = _floor_end(line, low, least)
        worst = max(worst, residual(system, line, low, mean, least))
        found, at, count = (-low, low, 0) if constant else _best(line, low, high, positive, floored, terms)
        maxima += count
        if found > best:
            best, multiplier, weights = found, at, line.a + at * line.d
        if asset < 0 or floored or (positive and low * line.mean < line.variance):
            return weights, multiplier, max(maxima, 1), corner, worst
        k, high = turn(system, k, asset, to), low
    return weights, multiplier, max(maxima, 1), corners, np.inf


@njit(cache=True)
def _floor_end(line: Segment, low: float, least: float) -> tuple[float, bool]:
    """The lower end of the part where the floor of the drawdown does not bind, and whether it binds below."""
    if line.variance + low**2 * line.curvature >= least:
        return low, False
    if line.curvature == 0.0:
        return low, True
    return sqrt((least - line.variance) / line.curvature), True


@njit(cache=True)
def _best(
    line: Segment, low: float, high: float, positive: bool, floored: bool, terms: Terms
) -> tuple[float, float, int]:
    """The largest f on the segment, the lam where it is, and the number of local maxima in [low, high), 0 or 1."""
    best, at = _at(line, low, terms), low
    peak = _peak(line, low, high, positive, floored, terms)
    if peak == high == np.inf:
        return best, at, 1
    if not low <= peak < high:
        return best, at, 0
    found = _at(line, peak, terms)
    return (found, peak, 1) if found > best else (best, at, 1)


@njit(cache=True)
def _at(line: Segment, lam: float, terms: Terms) -> float:
    """The ratio f at lam."""
    mean = line.mean + lam * line.curvature
    drawdown = max(terms.floor, terms.c * sqrt(line.variance + lam**2 * line.curvature))
    return mean / drawdown + terms.alpha * mean if mean > 0.0 else mean * terms.root * drawdown


@njit(cache=True)
def _peak(line: Segment, low: float, high: float, positive: bool, floored: bool, terms: Terms) -> float:
    """The lam of the local maximum; one outside [low, high) is none, and infinite is the frontier's first portfolio."""
    if floored and line.curvature == 0.0:
        return np.inf
    if floored and _falls(line, low, positive, terms):
        return low
    return _positive_root(line, low, high, terms) if positive else _negative_root(line)


@njit(cache=True)
def _falls(line: Segment, lam: float, positive: bool, terms: Terms) -> bool:
    """Whether f falls in lam where the floor does not bind."""
    if positive:
        return _h(line, lam, terms) > 0.0
    return line.variance + lam * line.mean + 2.0 * lam**2 * line.curvature < 0.0


@njit(cache=True)
def _h(line: Segment, lam: float, terms: Terms) -> float:
    """The function h = lam m_a - V_a - alpha c V^1.5."""
    return lam * line.mean - line.variance - terms.alpha * terms.c * (line.variance + lam**2 * line.curvature) ** 1.5


@njit(cache=True)
def _positive_root(line: Segment, low: float, high: float, terms: Terms) -> float:
    """The smaller root of h if it is in [low, high), by Newton steps from the left, which a concave h never passes."""
    if line.mean <= 0.0 or _h(line, low, terms) > 0.0:
        return -1.0
    root = max(low, line.variance / line.mean)
    while root < high:
        h = _h(line, root, terms)
        deviation = sqrt(line.variance + root**2 * line.curvature)
        rise = line.mean - 3.0 * terms.alpha * terms.c * root * line.curvature * deviation
        if -h <= _NEWTON * rise * root:
            return root
        if rise <= 0.0:
            return -1.0
        root -= h / rise
    return -1.0


@njit(cache=True)
def _negative_root(line: Segment) -> float:
    """The smaller root of V_a + lam m_a + 2 lam^2 C, in the form that does not cancel."""
    discriminant = line.mean**2 - 8.0 * line.curvature * line.variance
    if line.mean == 0.0:
        return np.inf
    if discriminant < 0.0 or line.mean > 0.0:
        return -1.0
    return 2.0 * line.variance / (sqrt(discriminant) - line.mean)
