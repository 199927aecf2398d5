"""Nearest portfolios: Euclidean projection on the long-only simplex, with or without a price on trading.

    w = argmin 1/2 |w - y|^2 + penalty sum_i |w_i - c_i|
        subject to  w >= 0,  sum_i w_i = 1,  w_i = 0 where the mask is False

y is the point, c the previous weights. With the multiplier theta of the sum, each weight alone solves

    w_i(theta) = max(0, y_i - theta - penalty, min(y_i - theta + penalty, c_i)),

so that the problem is one root of sum_i w_i(theta) = 1. That sum falls in theta and is linear between
breakpoints: Newton steps, kept inside a bracket, end on the root's own piece and are then exact.

Reference: Parikh and Boyd, Proximal Algorithms, Foundations and Trends in Optimization 1(3), 2014,
sections 2.1 and 6.2.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_UNMOVED = 1e-12  # of a sum of previous weights from 1: rounding
_EPSILON = 2.0**-52


@njit(cache=True)
def simplex(point: FloatArray, mask: BoolArray) -> FloatArray:
    """Projection: argmin |w - point|^2 on {w >= 0, sum w = 1, w = 0 where `mask` is False}.

    Point, mask and result are (n,). ValueError when the mask allows no asset, or an allowed point is not finite.
    """
    return turnover_prox(point, np.zeros(point.size), 0.0, mask)


@njit(cache=True)
def turnover_prox(point: FloatArray, previous: FloatArray, penalty: float, mask: BoolArray) -> FloatArray:
    """Proximal step: argmin 1/2 |w - point|^2 + penalty sum |w - previous| on the same set as `simplex`.

    Arrays are (n,); `previous` and `penalty` must not be negative. Where no trade is optimal the result is
    `previous`, bit for bit. ValueError when the mask allows no asset, or a value of an allowed one is not finite.
    """
    _check(point, previous, penalty, mask)
    theta = _shift(point, previous, penalty, mask)
    weights = np.zeros(point.size)
    for i in range(point.size):
        if mask[i]:
            weights[i] = _weight(point[i] - theta, previous[i], penalty)
    return weights


@njit(cache=True)
def _check(point: FloatArray, previous: FloatArray, penalty: float, mask: BoolArray) -> None:
    """Raise ValueError for what has no solution."""
    if not point.size == previous.size == mask.size:
        raise ValueError(
            f"point has {point.size} assets, previous {previous.size}, mask {mask.size}; give equal lengths"
        )
    if not mask.any():
        raise ValueError(f"mask allows none of {mask.size} assets; it must allow at least one")
    bad = mask & ~np.isfinite(point + previous + penalty)
    if bad.any():
        raise ValueError(f"point, previous or penalty is not finite at asset {bad.argmax()}; repair or mask it out")


@njit(cache=True)
def _shift(point: FloatArray, previous: FloatArray, penalty: float, mask: BoolArray) -> float:
    """The root theta of sum_i w_i(theta) = 1, to rounding."""
    low, high, theta = _bracket(point, previous, penalty, mask)
    while True:
        excess, moving = _excess(theta, point, previous, penalty, mask)
        if abs(excess) <= _EPSILON * point.size * (1.0 + abs(theta) + penalty):
            return theta
        if moving == 0 and abs(excess) <= _UNMOVED:  # previous sums to 1 up to rounding, and nothing needs to move
            return theta
        if excess > 0.0:
            low = theta
        else:
            high = theta
        # where nothing moves the sum is flat, and a step by its excess may be a millionth of the way
        theta = theta + excess / moving if moving else high
        if not low < theta < high:
            theta = 0.5 * (low + high)
            if not low < theta < high:
                return theta  # no number lies between the two


@njit(cache=True)
def _weight(shifted: float, previous: float, penalty: float) -> float:
    """One asset's weight, given its point less theta."""
    return max(0.0, shifted - penalty, min(shifted + penalty, previous))


@njit(cache=True)
def _excess(
    theta: float, point: FloatArray, previous: FloatArray, penalty: float, mask: BoolArray
) -> tuple[float, int]:
    """sum_i w_i(theta) - 1, and the number of weights that move with theta: minus the sum's slope."""
    total, moving = 0.0, 0
    for i in range(point.size):
        if mask[i]:
            weight = _weight(point[i] - theta, previous[i], penalty)
            total += weight
            if weight != 0.0 and weight != previous[i]:
                moving += 1
    return total - 1.0, moving


@njit(cache=True)
def _bracket(point: FloatArray, previous: FloatArray, penalty: float, mask: BoolArray) -> tuple[float, float, float]:
    """Bounds on theta, and a first guess that leaves all weights where they are if any theta does."""
    top = -np.inf
    no_buying = -np.inf  # from this theta on, no weight rises
    no_selling = np.inf  # up to this theta, no weight falls
    for i in range(point.size):
        if mask[i]:
            top = max(top, point[i])
            no_buying = max(no_buying, point[i] - previous[i] - penalty)
            if previous[i] > 0.0:
                no_selling = min(no_selling, point[i] - previous[i] + penalty)
    low, high = top - penalty - 1.0, top + penalty
    guess = 0.5 * (no_buying + min(no_selling, high))
    return low, high, min(max(guess, low), high)
