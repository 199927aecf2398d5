"""The compiled steps of `tasks.numerics.online`: all lanes of a state through all sessions of a run.

Lanes share the market, so that two products of matrices with its window serve all of them. Those give the same bits
wherever the arrays lie in memory; products of a matrix and a vector do not, so there are none.
"""
# Shapes: S = sessions, m = sessions of a window, n = assets, B = lanes, f = factors.

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.multiplicative import enter, multiplied
from tasks.numerics.projections import Feasible, proximal
from tasks.numerics.terms import LEAST_GROWTH, annual_volatility

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

WINDOW, LOG_WEALTH, LINEAR = 0, 1, 2  # what a lane climbs
_BISECTIONS = 60  # of a step: below the spacing of numbers
_INLINED = {
    "inline": "always",
    "error_model": "numpy",
}  # what is compiled by itself is optimised again with all that it calls
_MARGIN = 1e-10  # part of a limit

# A config as the kernel reads it, one record a lane.
LANE = np.dtype(
    [
        *((name, np.int64) for name in ("objective", "entropy", "window", "invested", "limit_window", "positions")),
        *((name, np.float64) for name in ("learning_rate", "momentum", "decay", "turnover", "l1", "ceiling", "gross")),
        *((name, np.float64) for name in ("short_each", "short_total", "drawdown_limit", "volatility_limit")),
        *((name, np.float64) for name in ("guard_limit", "guard_multiple")),
    ]
)


class State(NamedTuple):
    """All that one session hands to the next. With lanes every array has them as its first axis."""

    weights: FloatArray  # (n,)
    velocity: FloatArray  # (n,)
    parts: FloatArray  # (n,) short parts of EG+-: the long ones are weights + parts
    lately: FloatArray  # (2, n) what the account earns in the next session, and what it trades to at its close
    account: FloatArray  # (252,) its last values, from 1 on
    t: IntArray  # () sessions since the reset of the learning rate


class Path(NamedTuple):
    """What T sessions decided. With lanes every array has them as its second axis."""

    weights: FloatArray  # (T, n) to be held: the state's, times the exposure
    exposure: FloatArray  # (T,) of the guard, 1 without one
    at_ceiling: BoolArray  # (T,) sessions on which the turnover ceiling bound
    infeasible: BoolArray  # (T,) sessions after which a limit was still broken


class _Room(NamedTuple):
    """Where a stride works, (n,) each."""

    base: FloatArray  # the weights it starts from, less what has to leave
    point: FloatArray  # where the velocity leads from there
    target: FloatArray  # the step's end, before the ceiling


@njit(cache=True, error_model="numpy")
def run(
    state: State,
    rows: FloatArray,
    cash: FloatArray,
    factors: FloatArray,
    mask: BoolArray,
    lanes: Any,
    longest: int,
    functions: Any,
    scales: FloatArray,
    settings: FloatArray,
    path: Path,
) -> None:
    """All sessions of all lanes: fills `path`, whose first axis is theirs, and moves `state` in place.

    `rows` (S, n) are returns in excess of `cash` (S,), `factors` (S, f), `mask` (T, n) of the last T sessions,
    `longest` the longest window of `lanes` (B,), `functions` the terms, with weights `scales` (B, terms) and `settings`
    (B, terms, p).
    """
    n, count = mask.shape[1], lanes.size
    slope, direct, room = np.empty((count, n)), np.empty((count, n)), _Room(np.empty(n), np.empty(n), np.empty(n))
    for s in range(mask.shape[0]):
        end = rows.shape[0] - mask.shape[0] + s + 1
        m = min(longest, end)
        window = rows[end - m : end]
        for b in range(lanes.size):
            _open(state, b, rows[end - 1], cash[end - 1], mask[s], lanes[b])
        returns, by_return = np.dot(state.weights, window.T), np.zeros((lanes.size, m))
        for b in range(lanes.size):
            for k in range(m):
                returns[b, k] += cash[end - m + k]
            direct[b] = 0.0
            first = m - min(lanes[b].window, m)
            begin = end - m + first
            seen = returns[b, first:], cash[begin:end], state.weights[b], factors[begin:end]
            _climb(seen, lanes[b], functions, scales[b], settings[b], by_return[b, first:], direct[b])
        np.dot(by_return, window, slope)
        for b in range(lanes.size):
            for i in range(mask.shape[1]):
                slope[b, i] += direct[b, i]
            weights, velocity, parts, lane = state.weights[b], state.velocity[b], state.parts[b], lanes[b]
            if lane.drawdown_limit == 0.0 and lane.volatility_limit == 0.0:
                path.at_ceiling[b, s] = _stride(weights, velocity, parts, state.t[b], slope[b], mask[s], lane, room)
            else:
                begun = weights, velocity, parts, state.t[b]
                market = rows, cash, factors, end
                sought = functions, scales[b], settings[b]
                path.at_ceiling[b, s], path.infeasible[b, s] = _limited_stride(
                    begun, slope[b], mask[s], lane, room, market, sought
                )
            exposure = _exposure(state.account[b], lanes[b])
            path.exposure[b, s] = exposure
            for i in range(mask.shape[1]):
                path.weights[b, s, i] = exposure * state.weights[b, i]
            if lanes[b].guard_limit > 0.0:
                state.lately[b, 0] = state.lately[b, 1]
                state.lately[b, 1] = path.weights[b, s]
            state.t[b] += 1


@njit(cache=True, error_model="numpy")
def value(
    returns: FloatArray,
    cash: FloatArray,
    weights: FloatArray,
    factors: FloatArray,
    functions: Any,
    scales: FloatArray,
    settings: FloatArray,
    by_return: FloatArray,
    by_weight: FloatArray,
) -> float:
    """F; adds its derivatives by the returns and, directly, by the weights."""
    total = 0.0
    for j in range(len(functions)):
        if scales[j] != 0.0:
            term = functions[j]
            total += scales[j] * term(returns, cash, weights, factors, settings[j], scales[j], by_return, by_weight)
    return total


@njit(**_INLINED)
def _climb(
    seen: Any,
    lane: Any,
    functions: Any,
    scales: FloatArray,
    settings: FloatArray,
    by_return: FloatArray,
    by_weight: FloatArray,
) -> None:
    """Add the derivatives of what the lane climbs; `seen` are the arguments of `value` before the functions."""
    returns, cash, weights, factors = seen
    if lane.objective == WINDOW:
        value(returns, cash, weights, factors, functions, scales, settings, by_return, by_weight)
    elif lane.objective == LOG_WEALTH:
        by_return[-1] += 1.0 / max(1.0 + returns[-1], LEAST_GROWTH)
    else:
        by_return[-1] += 1.0


@njit(**_INLINED)
def _open(state: State, b: int, excess: FloatArray, cash: float, mask: BoolArray, lane: Any) -> None:
    """What a session brings before the step: the guard's account, and assets that come and go."""
    if lane.guard_limit > 0.0:
        _earn(state.account[b], state.lately[b], excess, cash)
    if lane.entropy:
        enter(state.weights[b], state.parts[b], mask, lane)
    else:
        _leave(state.weights[b], mask, lane)


@njit(cache=True, error_model="numpy")
def _earn(account: FloatArray, lately: FloatArray, excess: FloatArray, cash: float) -> None:
    """One session of the guard's account."""
    gain = cash
    for i in range(excess.size):
        gain += lately[0, i] * excess[i]
    wealth = account[-1] * max(1.0 + gain, LEAST_GROWTH)
    account[:-1] = account[1:].copy()
    account[-1] = wealth


@njit(**_INLINED)
def _exposure(account: FloatArray, lane: Any) -> float:
    """The guard's share: 1 without one."""
    if lane.guard_limit == 0.0:
        return 1.0
    wealth, peak = account[-1], account[account.size - lane.limit_window :].max()
    return min(max(lane.guard_multiple * (wealth - (1.0 - lane.guard_limit) * peak) / wealth, 0.0), 1.0)


@njit(**_INLINED)
def _feasible(lane: Any) -> Feasible:
    return Feasible(lane.gross, lane.short_each, lane.short_total, lane.invested != 0)


@njit(**_INLINED)
def _leave(weights: FloatArray, mask: BoolArray, lane: Any) -> None:
    """Take out, in place, what the mask does not allow: the nearest weights of the set without it."""
    for i in range(mask.size):
        if not mask[i] and weights[i] != 0.0:
            begun = weights.copy()
            proximal(weights, begun, begun, 0.0, 0.0, mask, _feasible(lane))
            return


@njit(cache=True, error_model="numpy")
def _limited_stride(
    begun: Any, slope: FloatArray, mask: BoolArray, lane: Any, room: _Room, market: Any, sought: Any
) -> tuple[bool, bool]:
    """`_stride` within the limits: whether the ceiling bound, and whether a limit is still broken.

    `begun` are weights, velocity, parts and t, `market` and `sought` what `run` and `value` are given.
    """
    weights, velocity, parts, t = begun
    rows, cash, _, end = market
    first = max(0, end - lane.limit_window)
    rows_seen, cash_seen = rows[first:end], cash[first:end]
    was = weights.copy(), velocity.copy(), parts.copy()
    at_ceiling, base = _stride(weights, velocity, parts, t, slope, mask, lane, room), room.base
    now = portfolio(base, rows_seen) + cash_seen
    if _within(now, lane, 0.0):
        share = _largest_share(now, portfolio(weights, rows_seen) + cash_seen, lane)
        if share < 1.0:
            weights[:] = base + share * (weights - base)
            parts[:] = was[2] + share * (parts - was[2])
        return at_ceiling, False
    weights[:], velocity[:], parts[:] = was
    at_ceiling = _stride(weights, velocity, parts, t, _penalties(weights, market, lane, sought), mask, lane, room)
    then = portfolio(weights, rows_seen) + cash_seen
    if _within(then, lane, 0.0):
        return at_ceiling, False
    if lane.invested:
        return at_ceiling, True
    share = _largest_share(cash_seen.copy(), then, lane)
    weights *= share
    parts *= share
    return at_ceiling, False


@njit(cache=True, error_model="numpy")
def _penalties(weights: FloatArray, market: Any, lane: Any, sought: Any) -> FloatArray:
    """The gradient of the terms of negative weight alone."""
    rows, cash, factors, end = market
    functions, scales, settings = sought
    first = max(0, end - lane.window)
    returns = portfolio(weights, rows[first:end]) + cash[first:end]
    by_return, direct = np.zeros((1, returns.size)), np.zeros(weights.size)
    if lane.objective == WINDOW:
        fewer = np.minimum(scales, 0.0)
        value(returns, cash[first:end], weights, factors[first:end], functions, fewer, settings, by_return[0], direct)
    return np.dot(by_return, rows[first:end])[0] + direct


@njit(cache=True, error_model="numpy")
def portfolio(weights: FloatArray, rows: FloatArray) -> FloatArray:
    """Returns (m,) of weights (n,) held through `rows` (m, n)."""
    return np.dot(weights.copy().reshape(1, -1), rows.T)[0]


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


@njit(cache=True, error_model="numpy")
def _stride(
    weights: FloatArray,
    velocity: FloatArray,
    parts: FloatArray,
    t: int,
    slope: FloatArray,
    mask: BoolArray,
    lane: Any,
    room: _Room,
) -> bool:
    """Momentum, proximal step or multiplication, positions, ceiling: in place; whether the ceiling bound.

    Fills `room`.
    """
    rate, base, target = lane.learning_rate * lane.decay ** float(t), room.base, room.target
    for i in range(weights.size):
        velocity[i] = lane.momentum * velocity[i] + rate * slope[i] if mask[i] else 0.0
        base[i] = weights[i]
    shorts = parts
    if lane.entropy:
        after, shorts = multiplied(base, parts, velocity, mask, lane)
        target[:] = after
    else:
        _proximal(room, velocity, rate, mask, lane)
        if 0 < lane.positions < mask.sum():
            kept = _largest(target, mask, lane.positions)
            _leave(base, kept, lane)
            _proximal(room, velocity, rate, kept, lane)
    traded = _distance(target, base)
    at_ceiling = traded > lane.ceiling
    share = lane.ceiling / traded if at_ceiling else 1.0
    for i in range(target.size):
        weights[i] = base[i] + share * (target[i] - base[i]) if at_ceiling else target[i]
    if lane.entropy:
        for i in range(target.size):
            parts[i] = parts[i] + share * (shorts[i] - parts[i]) if at_ceiling else shorts[i]
    return at_ceiling


@njit(**_INLINED)
def _proximal(room: _Room, velocity: FloatArray, rate: float, mask: BoolArray, lane: Any) -> None:
    """Fill the target: the nearest weights of the set to base + velocity, at the prices of turnover and of size."""
    price = rate / (1.0 - lane.momentum)
    for i in range(velocity.size):
        room.point[i] = room.base[i] + velocity[i]
    proximal(room.target, room.point, room.base, lane.turnover * price, lane.l1 * price, mask, _feasible(lane))


@njit(cache=True, error_model="numpy")
def _distance(one: FloatArray, other: FloatArray) -> float:
    """Sum of the absolute differences, in four parts: these vectorise, in a fixed order."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = one.size // 4 * 4
    for i in range(0, whole, 4):
        a += abs(one[i] - other[i])
        b += abs(one[i + 1] - other[i + 1])
        c += abs(one[i + 2] - other[i + 2])
        d += abs(one[i + 3] - other[i + 3])
    for i in range(whole, one.size):
        a += abs(one[i] - other[i])
    return (a + b) + (c + d)


@njit(cache=True, error_model="numpy")
def _largest(weights: FloatArray, mask: BoolArray, count: int) -> BoolArray:
    """The `count` allowed assets of largest absolute weight, the first of equals."""
    kept, size = np.zeros(mask.size, np.bool_), np.where(mask, np.abs(weights), -1.0)
    for _ in range(count):
        i = size.argmax()
        kept[i], size[i] = True, -1.0
    return kept
