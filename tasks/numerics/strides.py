"""One step of all lanes, from the slopes of what they climb: momentum, the nearest weights of the set, the ceiling.

Each pass goes through all lanes before the next begins. Most lanes are served together by `long_only`; the others go
one at a time. What a lane gets does not depend on those beside it.
"""
# Shapes: B = lanes, n = assets.

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics import long_only
from tasks.numerics.kernels import BARE, INLINED
from tasks.numerics.multiplicative import multiplied
from tasks.numerics.projections import Feasible, proximal

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Work(NamedTuple):
    """Where a step works."""

    slope: FloatArray  # (B, n) of what the lanes climb, by the window's returns
    direct: FloatArray  # (B, n) and by the weights themselves
    price: FloatArray  # (B,) what a step pays for a unit of a penalty
    trading: FloatArray  # (B,) what it pays for trading, NaN where `long_only` does not serve the lane
    point: FloatArray  # (B, n) where the velocity leads, -inf where the mask forbids
    target: FloatArray  # (B, n) the nearest weights of the set
    shorts: FloatArray  # (B, n) their short parts
    traded: FloatArray  # (B,) on the way there
    at_ceiling: BoolArray  # (B,) whether that was too much


@njit(cache=True, error_model="numpy")
def room(lanes: int, n: int) -> Work:
    """A place to work in for so many lanes."""
    slope, direct, point = np.empty((lanes, n)), np.empty((lanes, n)), np.empty((lanes, n))
    target, shorts = np.empty((lanes, n)), np.empty((lanes, n))
    price, trading, traded = np.empty(lanes), np.empty(lanes), np.empty(lanes)
    return Work(slope, direct, price, trading, point, target, shorts, traded, np.empty(lanes, np.bool_))


@njit(**INLINED)
def stride(
    weights: FloatArray,
    velocity: FloatArray,
    parts: FloatArray,
    t: IntArray,
    mask: BoolArray,
    lanes: Any,
    work: Work,
) -> None:
    """Move the lanes of a state in place."""
    aim(weights, velocity, parts, t, mask, lanes, work)
    move(weights, parts, lanes, work)


@njit(**INLINED)
def aim(
    weights: FloatArray,
    velocity: FloatArray,
    parts: FloatArray,
    t: IntArray,
    mask: BoolArray,
    lanes: Any,
    work: Work,
) -> None:
    """Fill the target, and take out of the weights what has to leave for want of positions."""
    if not _aim_together(weights, velocity, t, mask, lanes, work):
        for b in range(lanes.size):
            if work.traded[b] < 0.0:
                _aim_alone(weights, velocity, parts, mask, lanes, work, b)


@njit(**BARE)
def _aim_together(
    weights: FloatArray, velocity: FloatArray, t: IntArray, mask: BoolArray, lanes: Any, work: Work
) -> bool:
    """Fill the target of the lanes that `long_only` serves; whether it served all."""
    _push(weights, velocity, t, mask, lanes, work)
    long_only.fill(work.target, work.point, weights, work.trading, work.traded)
    served = 0
    for b in range(lanes.size):
        served += work.traded[b] >= 0.0
    return served == lanes.size


@njit(**INLINED)
def _push(weights: FloatArray, velocity: FloatArray, t: IntArray, mask: BoolArray, lanes: Any, work: Work) -> None:
    """The new velocities, where they lead, and what the lanes pay."""
    slope, direct, point, allowed = work.slope, work.direct, work.point, mask.sum()
    for b in range(lanes.size):
        lane = lanes[b]
        rate, momentum = lane.learning_rate * lane.decay ** float(t[b]), lane.momentum
        work.price[b] = rate / (1.0 - momentum)
        work.trading[b] = lane.turnover * work.price[b] if _is_plain(lane, allowed) else np.nan
        for i in range(mask.size):
            gained = momentum * velocity[b, i] + rate * (slope[b, i] + direct[b, i])
            ahead = weights[b, i] + gained
            velocity[b, i] = gained if mask[i] else 0.0
            point[b, i] = ahead if mask[i] else -np.inf


@njit(**INLINED)
def _is_plain(lane: Any, allowed: int) -> bool:
    """Whether the lane is long only, invested, moved by adding, and may hold all that is allowed."""
    shorts = lane.short_each > 0.0 and lane.short_total > 0.0 and lane.gross > 1.0
    few = 0 < lane.positions < allowed
    return lane.entropy == 0 and lane.invested != 0 and not shorts and not few


@njit(cache=True, error_model="numpy")
def _aim_alone(
    weights: FloatArray, velocity: FloatArray, parts: FloatArray, mask: BoolArray, lanes: Any, work: Work, b: int
) -> None:
    """Fill the target of lane b, whatever its set and geometry."""
    lane = lanes[b]
    if lane.entropy:
        target, shorts = multiplied(weights[b], parts[b], velocity[b], mask, lane)
        for i in range(mask.size):
            work.target[b, i], work.shorts[b, i] = target[i], shorts[i]
    else:
        _proximal(weights[b], mask, lane, work, b)
        if 0 < lane.positions < mask.sum():
            kept = _largest(work.target[b], mask, lane.positions)
            leave(weights[b], kept, lane)
            for i in range(mask.size):
                work.point[b, i] = weights[b, i] + velocity[b, i]
            _proximal(weights[b], kept, lane, work, b)
    work.traded[b] = long_only.apart(work.target, weights, b)


@njit(**INLINED)
def _proximal(weights: FloatArray, mask: BoolArray, lane: Any, work: Work, b: int) -> None:
    """The nearest weights of the lane's set to its point, at the prices of turnover and of size."""
    price = work.price[b]
    proximal(work.target[b], work.point[b], weights, lane.turnover * price, lane.l1 * price, mask, _feasible(lane))


@njit(**INLINED)
def _feasible(lane: Any) -> Feasible:
    return Feasible(lane.gross, lane.short_each, lane.short_total, lane.invested != 0)


@njit(cache=True, error_model="numpy")
def leave(weights: FloatArray, mask: BoolArray, lane: Any) -> None:
    """Take out, in place, what the mask does not allow: the nearest weights (n,) of the set without it."""
    for i in range(mask.size):
        if not mask[i] and weights[i] != 0.0:
            begun = weights.copy()
            proximal(weights, begun, begun, 0.0, 0.0, mask, _feasible(lane))
            return


@njit(cache=True, error_model="numpy")
def _largest(weights: FloatArray, mask: BoolArray, count: int) -> BoolArray:
    """The `count` allowed assets of largest absolute weight, the first of equals."""
    kept, size = np.zeros(mask.size, np.bool_), np.where(mask, np.abs(weights), -1.0)
    for _ in range(count):
        i = size.argmax()
        kept[i], size[i] = True, -1.0
    return kept


@njit(**BARE)
def move(weights: FloatArray, parts: FloatArray, lanes: Any, work: Work) -> None:
    """Go to the target, or as far as the ceiling allows."""
    for b in range(lanes.size):
        ceiling, traded = lanes[b].ceiling, work.traded[b]
        work.at_ceiling[b] = traded > ceiling
        share = ceiling / traded if traded > ceiling else 1.0
        _go(weights, work.target, b, share)
        if lanes[b].entropy:
            _go(parts, work.shorts, b, share)


@njit(**INLINED)
def _go(values: FloatArray, target: FloatArray, b: int, share: float) -> None:
    """That share of the way, in row b."""
    for i in range(values.shape[1]):
        values[b, i] = values[b, i] + share * (target[b, i] - values[b, i]) if share < 1.0 else target[b, i]
