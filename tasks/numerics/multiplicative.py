"""Steps in the geometry of entropy: weights that are multiplied and normalised, and assets that come and go.

Cash is one more part where not everything is invested; with shorts both signs of each asset have a part (EG+-).
"""
# Shapes: n = assets.

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

TINY = 1e-100  # smallest part: what is 0 would be for ever


@njit(cache=True)
def has_parts(lane: Any) -> bool:
    """Whether both signs of each asset have a part: EG+-."""
    return lane.entropy != 0 and min(lane.short_each, lane.short_total) > 0.0


@njit(cache=True)
def whole(lane: Any) -> float:
    """What all parts of a lane in the geometry of entropy sum to, cash or both signs included."""
    return 1.0 if lane.invested else lane.gross


@njit(cache=True)
def enter(weights: FloatArray, parts: FloatArray, mask: BoolArray, lane: Any) -> None:
    """In the geometry of entropy, in place: take out what the mask does not allow, give what is new an equal share."""
    allowed, new, gone = 0, 0, 0
    for i in range(mask.size):
        empty = weights[i] == 0.0 and parts[i] == 0.0
        allowed += mask[i]
        new += mask[i] and empty
        gone += not mask[i] and not empty
    if new == 0 and gone == 0:
        return
    double, total = has_parts(lane), 0.0
    for i in range(mask.size):
        if not mask[i]:
            weights[i], parts[i] = 0.0, 0.0
        total += weights[i] + 2.0 * parts[i]
    cash = 0.0 if lane.invested or double else max(lane.gross - total, 0.0)
    places = allowed + (not lane.invested and not double)
    share = whole(lane) / places
    kept = (whole(lane) - new * share) / max(total + cash, TINY)
    for i in range(mask.size):
        if mask[i] and weights[i] == 0.0 and parts[i] == 0.0:
            if double:
                parts[i] = 0.5 * share
            else:
                weights[i] = share
        elif mask[i]:
            weights[i] *= kept
            parts[i] *= kept


@njit(cache=True)
def multiplied(
    weights: FloatArray, parts: FloatArray, velocity: FloatArray, mask: BoolArray, lane: Any
) -> tuple[FloatArray, FloatArray]:
    """Weights and short parts after a multiplicative step, normalised."""
    double = has_parts(lane)
    spare = 0.0 if lane.invested or double else max(lane.gross - weights.sum(), TINY)
    most = 0.0 if spare > 0.0 else -np.inf  # of the exponents, cash has 0
    for i in range(mask.size):
        if mask[i]:
            most = max(most, abs(velocity[i]) if double else velocity[i])
    longs, shorts = np.zeros(mask.size), np.zeros(mask.size)
    total = spare * np.exp(-most)
    for i in range(mask.size):
        if mask[i]:
            longs[i] = max((weights[i] + parts[i]) * np.exp(velocity[i] - most), TINY)
            total += longs[i]
            if double:
                shorts[i] = max(parts[i] * np.exp(-velocity[i] - most), TINY)
                total += shorts[i]
    scale = whole(lane) / total
    longs *= scale
    shorts *= scale
    return longs - shorts, shorts
