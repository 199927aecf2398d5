"""The long-only efficient frontier, segment by segment: Markowitz's critical line with an upper bound on each weight.

The frontier holds, for every multiplier lam >= 0,

    w(lam) = argmin 1/2 w'Sigma w - lam mu'w   over   sum w = 1,  0 <= w <= cap.

Between two of its corners the same assets F are free and each other one sits at 0 or at the cap, so that

    w(lam) = a + lam d,   m(lam) = m_a + lam C,   V(lam) = V_a + lam^2 C,   C = mu'd = d'Sigma d >= 0

with m the portfolio's mean, V its variance. An asset leaves F where its weight meets a bound, and enters F where
its reduced gradient (Sigma w)_j - lam mu_j - gamma meets 0, gamma being that of the free assets. A sweep starts at
lam = infinity, where the largest means are filled to their caps, and goes down to the least variance at lam = 0.

F is solved for by a Cholesky factor of Sigma_FF + kappa 11'. As weights sum to 1, kappa changes the variance by a
constant and no portfolio; with it the matrix stays regular for one free asset more than Sigma has rank. More assets
than that are free only where one is a mix of the others: such an asset, duplicates for one, is not let in. Two means
that are the same are told apart by an amount near rounding.

Reference: Markowitz, Portfolio Selection, 1959, appendix A; Niedermayer and Niedermayer, Applying Markowitz's
critical line algorithm, in Handbook of Portfolio Construction, 2010.
"""
# Shapes: n = assets, k = free assets.

from math import sqrt
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_AT_ZERO, _FREE, _AT_CAP = 0, 1, 2
_TIE = 1e-14  # of the range of the means: the least distance that a sweep sees between two of them
_SINGULAR = 1e-14  # of a diagonal element: a smaller pivot is rounding


class System(NamedTuple):
    """The problem, and where a sweep stands: the arrays change with every corner."""

    mu: FloatArray  # (n,) means less `top`, no two the same
    top: float  # the largest mean
    covariance: FloatArray  # (n, n)
    cap: float  # infinite: none
    kappa: float
    side: IntArray  # (n,)
    free: IntArray  # (n + 1,) of which the first k are free, in the order of the factor
    factor: FloatArray  # (n + 1, n + 1) lower triangle


class Segment(NamedTuple):
    """One line of the frontier: w = a + lam d, with gradient Sigma w - lam mu = reduced + lam slope."""

    a: FloatArray  # (n,)
    d: FloatArray  # (n,)
    reduced: FloatArray  # (n,)
    slope: FloatArray  # (n,)
    level: float  # mean of `reduced` over the free assets
    level_slope: float
    mean: float  # m_a
    variance: float  # V_a
    curvature: float  # C


@njit(cache=True)
def start(mean: FloatArray, covariance: FloatArray, cap: float, constant: bool) -> System:
    """The portfolio with the largest mean, in which one asset is free: the last that gets a weight.

    Where the means are `constant`, ranks by variance stand for them.
    """
    n, variances = mean.size, np.diag(covariance)
    order = np.argsort(variances.copy() if constant else -mean, kind="mergesort")  # which is stable
    full = max(min(int(np.ceil(1.0 / cap - 1e-9)), n) - 1, 0)  # the free one gets what is left, a whole cap at most
    side, free, factor = np.zeros(n, np.int64), np.empty(n + 1, np.int64), np.empty((n + 1, n + 1))
    for rank in range(full):
        side[order[rank]] = _AT_CAP
    side[order[full]], free[0] = _FREE, order[full]
    kappa = _kappa(variances)
    factor[0, 0] = sqrt(variances[order[full]] + kappa)
    mu, top = (_ranks(order), 0.0) if constant else (_distinct(mean, order), mean[order[0]])
    return System(mu, top, covariance, cap, kappa, side, free, factor)


@njit(cache=True)
def _ranks(order: IntArray) -> FloatArray:
    """Means that fall evenly along the order."""
    mu = np.empty(order.size)
    for rank in range(order.size):
        mu[order[rank]] = -float(rank)
    return mu


@njit(cache=True)
def _distinct(mean: FloatArray, order: IntArray) -> FloatArray:
    """The means less the largest; the second of two that are the same is lowered by the least that tells them apart."""
    top, mu, least = mean[order[0]], np.empty(mean.size), np.inf
    step = _TIE * (top - mean[order[-1]])
    for rank in range(mean.size):
        falling = mean[order[rank]] - top
        least = min(least, falling + rank * step)
        mu[order[rank]] = min(falling, least - rank * step)
    return mu


@njit(cache=True)
def _kappa(variances: FloatArray) -> float:
    """The smallest variance above 0, but no less than 1e-8 of their mean; 1 if all are 0."""
    least = np.inf
    for variance in variances:
        least = min(least, variance) if variance > 0.0 else least
    return max(least, 1e-8 * variances.mean()) if least < np.inf else 1.0


@njit(cache=True)
def _add_row(system: System, i: int) -> bool:
    """Row i of the factor, which depends on those before it; False if its pivot is rounding."""
    covariance, kappa, free, factor = system.covariance, system.kappa, system.free, system.factor
    row, diagonal = factor[i], covariance[free[i], free[i]] + kappa
    pivot = diagonal
    for j in range(i):
        product = covariance[free[i], free[j]] + kappa
        for index in range(j):
            product -= row[index] * factor[j, index]
        row[j] = product / factor[j, j]
        pivot -= row[j] ** 2
    row[i] = sqrt(max(pivot, _SINGULAR * diagonal))
    return pivot > _SINGULAR * diagonal


@njit(cache=True)
def _solve(factor: FloatArray, sides: FloatArray) -> tuple[float, float, float]:
    """Overwrite the three right-hand sides (3, k) by the solutions, and sum each of them."""
    k = sides.shape[1]
    x, y, z = sides[0], sides[1], sides[2]
    for i in range(k):
        row = factor[i]
        for j in range(i):
            x[i] -= row[j] * x[j]
            y[i] -= row[j] * y[j]
            z[i] -= row[j] * z[j]
        x[i], y[i], z[i] = x[i] / row[i], y[i] / row[i], z[i] / row[i]
    first, second, third = 0.0, 0.0, 0.0
    for i in range(k - 1, -1, -1):
        row = factor[i]
        x[i], y[i], z[i] = x[i] / row[i], y[i] / row[i], z[i] / row[i]
        first, second, third = first + x[i], second + y[i], third + z[i]
        for j in range(i):
            x[j] -= row[j] * x[i]
            y[j] -= row[j] * y[i]
            z[j] -= row[j] * z[i]
    return first, second, third


@njit(cache=True)
def segment(system: System, k: int) -> Segment:
    """The line on which the first k assets of `free` are free.

    Means count from that of the first free asset: as d sums to 0, the origin is free, and a lone asset's d is 0.
    """
    mu, covariance, cap, free = system.mu, system.covariance, system.cap, system.free
    n, origin = mu.size, mu[free[0]]
    a, d, reduced, slope = np.zeros(n), np.zeros(n), np.zeros(n), np.empty(n)
    mean, placed = system.top, 0.0
    for j in range(n):
        slope[j] = origin - mu[j]
        if system.side[j] == _AT_CAP:
            a[j] = cap
            placed += cap
            mean += cap * mu[j]
            _add(reduced, cap, covariance[j])
    sides = np.empty((3, k))
    for i in range(k):
        sides[0, i], sides[1, i], sides[2, i] = 1.0, -slope[free[i]], reduced[free[i]]
    ones, means, capped = _solve(system.factor, sides)
    curvature = 0.0
    for i in range(k):
        asset = free[i]
        a[asset] = sides[0, i] * (1.0 - placed + capped) / ones - sides[2, i]
        d[asset] = sides[1, i] - sides[0, i] * means / ones
        mean += a[asset] * mu[asset]
        curvature += d[asset] * (mu[asset] - origin)
    for i in range(k):
        _add(reduced, a[free[i]], covariance[free[i]])
        _add(slope, d[free[i]], covariance[free[i]])
    level, level_slope, variance = 0.0, 0.0, 0.0
    for i in range(k):
        level += reduced[free[i]] / k
        level_slope += slope[free[i]] / k
    for j in range(n):
        variance += a[j] * reduced[j]
    return Segment(a, d, reduced, slope, level, level_slope, mean, max(variance, 0.0), max(curvature, 0.0))


@njit(cache=True)
def _add(total: FloatArray, factor: float, row: FloatArray) -> None:
    """Add factor times row to total."""
    for j in range(total.size):
        total[j] += factor * row[j]


@njit(cache=True)
def next_corner(system: System, line: Segment, k: int, high: float) -> tuple[float, int, int]:
    """Where the segment ends below `high`, with the asset that changes and its new side; asset -1 at lam = 0.

    An asset whose pivot is rounding is a mix of the free ones, its reduced gradient 0 up to rounding all along the
    segment: it stays where it is.
    """
    mixes = np.zeros(system.side.size, np.bool_)
    while True:
        low, asset, to = _event(system, line, mixes)
        if asset < 0 or to != _FREE:
            return min(low, high), asset, to
        system.free[k] = asset
        if _add_row(system, k):
            return min(low, high), asset, to
        mixes[asset] = True


@njit(cache=True)
def _event(system: System, line: Segment, mixes: BoolArray) -> tuple[float, int, int]:
    """The largest lam > 0 at which an asset changes its side, that asset and its new side; 0 and asset -1 if none."""
    low, asset, to = 0.0, -1, _FREE
    for j in range(mixes.size):
        at, new = 0.0, _FREE
        if system.side[j] == _FREE:
            if line.d[j] > 0.0:
                at, new = -line.a[j] / line.d[j], _AT_ZERO
            elif line.d[j] < 0.0 and system.cap < np.inf:
                at, new = (system.cap - line.a[j]) / line.d[j], _AT_CAP
        elif not mixes[j]:
            rise = line.slope[j] - line.level_slope
            if (rise > 0.0) == (system.side[j] == _AT_ZERO) and rise != 0.0:
                at = (line.level - line.reduced[j]) / rise
        if at > low:
            low, asset, to = at, j, new
    return low, asset, to


@njit(cache=True)
def turn(system: System, k: int, asset: int, to: int) -> int:
    """Put the asset on its new side and bring the factor up to date. Returns the new k."""
    system.side[asset] = to
    free = system.free
    if to == _FREE:  # `next_corner` has added its row
        free[k] = asset
        return k + 1
    place = 0
    while free[place] != asset:
        place += 1
    for i in range(place, k - 1):
        free[i] = free[i + 1]
    for i in range(place, k - 1):
        _add_row(system, i)
    return k - 1


@njit(cache=True)
def residual(system: System, line: Segment, lam: float, mean: FloatArray, least: float) -> float:
    """How far w(lam) is from minimal: the most that any portfolio gains by the gradient, and weights out of bounds.

    For each gamma, g'w - min_v g'v <= sum_i max(g_i - gamma, 0) w_i + max(gamma - g_i, 0) (cap - w_i). The gradient g
    is that for `mean`, the means before they were told apart. It counts relative to max(V, least) + lam max |mean|.
    """
    level, top = line.level + lam * line.level_slope, min(system.cap, 1.0)
    gain, beyond, largest = 0.0, 0.0, 0.0
    for j in range(mean.size):
        largest = max(largest, abs(mean[j]))
        weight = line.a[j] + lam * line.d[j]
        inside = min(max(weight, 0.0), top)
        gradient = line.reduced[j] + lam * (line.slope[j] + system.mu[j] + system.top - mean[j])
        gain += max(gradient - level, 0.0) * inside + max(level - gradient, 0.0) * (top - inside)
        beyond += abs(weight - inside)
    return gain / (max(line.variance + lam**2 * line.curvature, least) + lam * largest) + beyond
