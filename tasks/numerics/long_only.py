"""The proximal step of `projections` for many lanes at once, on the set that most have: long only, and invested.

    w = argmin 1/2 |w - y|^2 + turnover sum_i |w_i - c_i|   over   sum w = 1,  w >= 0

At a price p of the sum each weight alone is max(0, y_i - p - turnover, min(c_i, y_i - p + turnover)), and the sum falls
in p, linearly between kinks. Newton steps from the price at which y over what is held sums to 1 mostly end after two
or three, as few come and go in a step. Where they do not end, or end where nothing is traded, which is a matter of
rounding, the lane is left to the general solution.

Sums are in eight parts, in a fixed order, the same for one lane and for many: one after another they would wait for
each other.
"""
# Shapes: B = lanes, n = assets.

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.kernels import BARE, INLINED

FloatArray = NDArray[np.float64]

_NEWTON = 20  # steps
_STILL = 1e-11  # traded in all: less is rounding
_EPSILON = 2.0**-52


@njit(**BARE)
def fill(
    weights: FloatArray, point: FloatArray, previous: FloatArray, turnover: FloatArray, traded: FloatArray
) -> None:
    """Fill the rows of `weights` (B, n), and `traded` (B,) with the sums of |w - previous|; -1 where none was found.

    `point` and `previous` are (B, n), -inf and 0 for what may not be held, and `turnover` (B,) the price of trading,
    NaN for a lane that is not asked for.
    """
    tolerance = 2.0 * _EPSILON * weights.shape[1]
    for b in range(weights.shape[0]):
        traded[b] = -1.0
        if np.isnan(turnover[b]):
            continue
        price = _first_price(weights, point, previous, b)
        for _ in range(_NEWTON):
            moving = _fill(weights, point, previous, b, price + turnover[b], price - turnover[b])
            excess = total(weights, b) - 1.0
            if not moving or abs(excess) <= tolerance:
                break
            price += excess / moving
        if moving and abs(excess) <= tolerance:
            distance = apart(weights, previous, b)
            traded[b] = distance if distance > _STILL else -1.0


@njit(**INLINED)
def _first_price(weights: FloatArray, point: FloatArray, previous: FloatArray, b: int) -> float:
    """The price at which the point less it sums to 1 over what is held; overwrites the row of `weights`."""
    held = 0
    for i in range(weights.shape[1]):
        is_held = previous[b, i] != 0.0
        weights[b, i] = point[b, i] if is_held else 0.0
        held += is_held
    return (total(weights, b) - 1.0) / held


@njit(**INLINED)
def _fill(weights: FloatArray, point: FloatArray, previous: FloatArray, b: int, bought: float, sold: float) -> int:
    """A lane's weights at the prices of what is bought and of what is sold; returns how many move with them."""
    moving = 0
    for i in range(weights.shape[1]):
        weight = max(0.0, point[b, i] - bought, min(previous[b, i], point[b, i] - sold))
        weights[b, i] = weight
        moving += (weight != 0.0) & (weight != previous[b, i])
    return moving


@njit(**INLINED)
def total(values: FloatArray, b: int) -> float:
    """The sum of row b."""
    a0, a1, a2, a3, a4, a5, a6, a7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = values.shape[1] // 8 * 8
    for i in range(0, whole, 8):
        a0 += values[b, i]
        a1 += values[b, i + 1]
        a2 += values[b, i + 2]
        a3 += values[b, i + 3]
        a4 += values[b, i + 4]
        a5 += values[b, i + 5]
        a6 += values[b, i + 6]
        a7 += values[b, i + 7]
    for i in range(whole, values.shape[1]):
        a0 += values[b, i]
    return ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))


@njit(**INLINED)
def apart(one: FloatArray, other: FloatArray, b: int) -> float:
    """The sum of the absolute differences of row b."""
    a0, a1, a2, a3, a4, a5, a6, a7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = one.shape[1] // 8 * 8
    for i in range(0, whole, 8):
        a0 += abs(one[b, i] - other[b, i])
        a1 += abs(one[b, i + 1] - other[b, i + 1])
        a2 += abs(one[b, i + 2] - other[b, i + 2])
        a3 += abs(one[b, i + 3] - other[b, i + 3])
        a4 += abs(one[b, i + 4] - other[b, i + 4])
        a5 += abs(one[b, i + 5] - other[b, i + 5])
        a6 += abs(one[b, i + 6] - other[b, i + 6])
        a7 += abs(one[b, i + 7] - other[b, i + 7])
    for i in range(whole, one.shape[1]):
        a0 += abs(one[b, i] - other[b, i])
    return ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))
