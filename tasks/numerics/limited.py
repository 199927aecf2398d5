"""A lane's step within its limits on drawdown and volatility over the last sessions.

Both sets are convex, so that of a step which would leave them a share is within, found by bisection. Weights that break
a limit before the step get one from the penalties alone.
"""
# Shapes: S = sessions, m = sessions of a window, n = assets, f = factors. Arrays of a lane keep its axis, of size 1.

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.climbing import WINDOW, portfolio, value
from tasks.numerics.strides import Work, aim, move, stride
from tasks.numerics.terms import LEAST_GROWTH, annual_volatility

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_BISECTIONS = 60  # of a step: below the spacing of numbers
_MARGIN = 1e-10  # part of a limit


class Market(NamedTuple):
    """What has been seen when a session ends."""

    rows: FloatArray  # (S, n) returns in excess of cash
    cash: FloatArray  # (S,)
    factors: FloatArray  # (S, f)
    end: int  # sessions seen


@njit(cache=True, error_model="numpy")
def any_limited(lanes: Any) -> bool:
    """Whether a lane has a limit."""
    count = 0
    for b in range(lanes.size):
        count += lanes[b].drawdown_limit > 0.0 or lanes[b].volatility_limit > 0.0
    return count > 0


@njit(cache=True, error_model="numpy")
def limited_stride(
    weights: FloatArray,
    velocity: FloatArray,
    parts: FloatArray,
    t: IntArray,
    mask: BoolArray,
    lanes: Any,
    work: Work,
    market: Market,
    sought: Any,
) -> bool:
    """`stride` of one lane within its limits; whether one is still broken. `sought` is what `value` is given last."""
    lane = lanes[0]
    if lane.drawdown_limit == 0.0 and lane.volatility_limit == 0.0:
        stride(weights, velocity, parts, t, mask, lanes, work)
        return False
    first = max(0, market.end - lane.limit_window)
    rows, cash = market.rows[first : market.end], market.cash[first : market.end]
    was = weights.copy(), velocity.copy(), parts.copy()
    aim(weights, velocity, parts, t, mask, lanes, work)
    base = weights.copy()
    move(weights, parts, lanes, work)
    now = portfolio(base[0], rows) + cash
    if _within(now, lane, 0.0):
        share = _largest_share(now, portfolio(weights[0], rows) + cash, lane)
        if share < 1.0:
            _mix(weights, base, share)
            _mix(parts, was[2], share)
        return False
    _mix(weights, was[0], 0.0)
    _mix(velocity, was[1], 0.0)
    _mix(parts, was[2], 0.0)
    _penalties(work, weights[0], market, lane, sought)
    stride(weights, velocity, parts, t, mask, lanes, work)
    then = portfolio(weights[0], rows) + cash
    if _within(then, lane, 0.0):
        return False
    if lane.invested:
        return True
    share = _largest_share(cash.copy(), then, lane)
    _mix(weights, np.zeros_like(weights), share)
    _mix(parts, np.zeros_like(parts), share)
    return False


@njit(cache=True, error_model="numpy")
def _mix(values: FloatArray, base: FloatArray, share: float) -> None:
    """Go back to that share of the way from the base."""
    for i in range(values.shape[1]):
        values[0, i] = base[0, i] + share * (values[0, i] - base[0, i]) if share > 0.0 else base[0, i]


@njit(cache=True, error_model="numpy")
def _penalties(work: Work, weights: FloatArray, market: Market, lane: Any, sought: Any) -> None:
    """Fill the slopes with those of the terms of negative weight alone."""
    functions, scales, settings = sought
    first = max(0, market.end - lane.window)
    rows, cash, factors = market.rows[first : market.end], market.cash[first : market.end], market.factors
    returns = portfolio(weights, rows) + cash
    by_return = np.zeros((1, returns.size))
    work.direct[:] = 0.0
    if lane.objective == WINDOW:
        fewer, seen = np.minimum(scales, 0.0), factors[first : market.end]
        value(returns, cash, weights, seen, functions, fewer, settings, 0, by_return[0], work.direct[0])
    np.dot(by_return, rows, work.slope)


@njit(cache=True, error_model="numpy")
def _within(returns: FloatArray, lane: Any, margin: float) -> bool:
    """Whether the returns keep the lane's limits, each less that part of it."""
    if lane.volatility_limit > 0.0 and annual_volatility(returns) > (1.0 - margin) * lane.volatility_limit:
        return False
    if lane.drawdown_limit > 0.0:
        wealth, peak, kept = 1.0, 1.0, 1.0 - (1.0 - margin) * lane.drawdown_limit
        for k in range(returns.size):
            wealth *= max(1.0 + returns[k], LEAST_GROWTH)
            peak = max(peak, wealth)
            if wealth < kept * peak:
                return False
    return True


@njit(cache=True, error_model="numpy")
def _largest_share(now: FloatArray, then: FloatArray, lane: Any) -> float:
    """The largest s in [0, 1] at which now + s (then - now) keeps the limits with a margin, given that `now` does.

    The margin keeps what ends at a limit from being found beyond it, by rounding, on the next session.
    """
    if _within(then, lane, _MARGIN):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _within(now + middle * (then - now), lane, _MARGIN):
            low = middle
        else:
            high = middle
    return low
