"""The compiled sessions of `tasks.numerics.online`: all lanes of a state through all sessions of a run.

Lanes share the market, so that two products of matrices with its window serve all of them. Those give the same bits
wherever the arrays lie in memory; products of a matrix and a vector do not, so there are none.
"""
# Shapes: S = sessions, m = sessions of a window, n = assets, B = lanes, f = factors.

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.climbing import climb
from tasks.numerics.kernels import BARE, INLINED
from tasks.numerics.limited import Market, any_limited, limited_stride
from tasks.numerics.multiplicative import enter
from tasks.numerics.strides import Work, leave, room, stride
from tasks.numerics.terms import LEAST_GROWTH

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_AT_ONCE = 128  # lanes: what they move fits the processor's cache
_ROWS = 32  # of a product at a time: BLAS takes so few as they lie, without packing them first

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
    """All sessions of all lanes: fills `path` and moves `state` in place, both with lanes first.

    `rows` (S, n) are returns in excess of `cash` (S,), `factors` (S, f), `mask` (T, n) of the last T sessions,
    `longest` the longest window of `lanes` (B,), `functions` the terms, with weights `scales` (B, terms) and `settings`
    (B, terms, p).
    """
    columns = np.ascontiguousarray(rows.T)
    for first in range(0, lanes.size, _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        _run(
            State(
                state.weights[some],
                state.velocity[some],
                state.parts[some],
                state.lately[some],
                state.account[some],
                state.t[some],
            ),
            columns,
            rows,
            cash,
            factors,
            mask,
            lanes[some],
            longest,
            functions,
            scales[some],
            settings[some],
            Path(path.weights[some], path.exposure[some], path.at_ceiling[some], path.infeasible[some]),
        )


@njit(cache=True, error_model="numpy")
def _run(
    state: State,
    columns: FloatArray,
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
    """The same for as many lanes as fit the processor's cache; `columns` (n, S) are the rows by asset."""
    work, limited = room(lanes.size, mask.shape[1]), any_limited(lanes)
    weights, slope, direct = state.weights, work.slope, work.direct
    for s in range(mask.shape[0]):
        end, allowed = rows.shape[0] - mask.shape[0] + s + 1, mask[s]
        begin = end - min(longest, end)
        window = rows[begin:end]
        _open(state, rows[end - 1], cash[end - 1], allowed, lanes)
        returns, by_return = np.empty((lanes.size, end - begin)), np.zeros((lanes.size, end - begin))
        if lanes.size >= _ROWS:
            _multiply(weights, np.ascontiguousarray(columns[:, begin:end]), returns)
        else:
            for b in range(lanes.size):
                if not _hold_few(weights, columns, begin, returns, b):
                    np.dot(weights[b : b + 1], window.T, returns[b : b + 1])
        seen = cash[begin:end], weights, factors[begin:end]
        climb(returns, *seen, lanes, functions, scales, settings, by_return, direct)
        _multiply(by_return, window, slope)
        if limited:
            market = Market(rows, cash, factors, end)
            _limited_strides(state, allowed, lanes, work, market, functions, scales, settings, path.infeasible[:, s])
        else:
            stride(weights, state.velocity, state.parts, state.t, allowed, lanes, work)
        _keep(state, lanes, work.at_ceiling, path, s)


@njit(**BARE)
def _hold_few(weights: FloatArray, columns: FloatArray, begin: int, returns: FloatArray, b: int) -> bool:
    """Whether lane b holds no more than half of the assets; then fills its returns from the columns of these alone."""
    held = 0
    for i in range(weights.shape[1]):
        held += weights[b, i] != 0.0
    if 2 * held > weights.shape[1]:
        return False
    returns[b] = 0.0
    for i in range(weights.shape[1]):
        weight, column = weights[b, i], columns[i, begin : begin + returns.shape[1]]
        if weight != 0.0:
            for k in range(returns.shape[1]):
                returns[b, k] += weight * column[k]
    return True


@njit(**INLINED)
def _multiply(left: FloatArray, right: FloatArray, product: FloatArray) -> None:
    """Fill the product of two matrices."""
    for first in range(0, left.shape[0], _ROWS):
        some = slice(first, first + _ROWS)
        np.dot(left[some], right, product[some])


@njit(**INLINED)
def _open(state: State, excess: FloatArray, cash: float, mask: BoolArray, lanes: Any) -> None:
    """What a session brings before the step: the guard's account, and assets that come and go."""
    all_stay = mask.all()
    for b in range(lanes.size):
        if lanes[b].guard_limit > 0.0:
            _earn(state.account[b], state.lately[b], excess, cash)
        if lanes[b].entropy:
            enter(state.weights[b], state.parts[b], mask, lanes[b])
        elif not all_stay:
            leave(state.weights[b], mask, lanes[b])


@njit(cache=True, error_model="numpy")
def _earn(account: FloatArray, lately: FloatArray, excess: FloatArray, cash: float) -> None:
    """One session of the guard's account."""
    gain = cash
    for i in range(excess.size):
        gain += lately[0, i] * excess[i]
    wealth = account[-1] * max(1.0 + gain, LEAST_GROWTH)
    for k in range(account.size - 1):
        account[k] = account[k + 1]
    account[-1] = wealth


@njit(**INLINED)
def _limited_strides(
    state: State,
    mask: BoolArray,
    lanes: Any,
    work: Work,
    market: Market,
    functions: Any,
    scales: FloatArray,
    settings: FloatArray,
    infeasible: BoolArray,
) -> None:
    """The step of all lanes, of which some have limits, one after another."""
    for b in range(lanes.size):
        one = slice(b, b + 1)
        part = Work(
            work.slope[one],
            work.direct[one],
            work.price[one],
            work.trading[one],
            work.point[one],
            work.target[one],
            work.shorts[one],
            work.traded[one],
            work.at_ceiling[one],
        )
        infeasible[b] = limited_stride(
            state.weights[one],
            state.velocity[one],
            state.parts[one],
            state.t[one],
            mask,
            lanes[one],
            part,
            market,
            (functions, scales[one], settings[one]),
        )


@njit(**BARE)
def _keep(state: State, lanes: Any, at_ceiling: BoolArray, path: Path, s: int) -> None:
    """The session's row of the path, and what the next session needs."""
    for b in range(lanes.size):
        exposure = 1.0
        if lanes[b].guard_limit > 0.0:
            exposure = _exposure(state.account[b], lanes[b])
            for i in range(state.weights.shape[1]):
                state.lately[b, 0, i] = state.lately[b, 1, i]
                state.lately[b, 1, i] = exposure * state.weights[b, i]
        for i in range(state.weights.shape[1]):
            path.weights[b, s, i] = exposure * state.weights[b, i]
        path.exposure[b, s], path.at_ceiling[b, s] = exposure, at_ceiling[b]
        state.t[b] += 1


@njit(**INLINED)
def _exposure(account: FloatArray, lane: Any) -> float:
    """The guard's share."""
    wealth = peak = account[-1]
    for k in range(account.size - lane.limit_window, account.size):
        peak = max(peak, account[k])
    return min(max(lane.guard_multiple * (wealth - (1.0 - lane.guard_limit) * peak) / wealth, 0.0), 1.0)
