"""PRISM online gradient descent: weights that climb the Sortino ratio less the drawdown of the last sessions.

Each session t moves the weights w one step uphill on the window X (m, n) of the last m sessions' returns:

    F(w) = a1 Sortino(X w) - a2 MDD(X w)
    v   <- momentum v + lr_t dF/dw,   lr_t = lr_0 decay^t
    w   <- argmin 1/2 |w - (w + v)|^2 + a3 lr_t / (1 - momentum) sum |w - w_prev|  on the simplex

and where the step trades more than the turnover ceiling, it goes only the fraction of the way that does not.
The penalty on turnover enters by its proximal step, since its subgradient vanishes at w = w_prev; the factor
1 / (1 - momentum) is what heavy-ball momentum makes of a constant gradient in the long run.

    Sortino = mean(e) / sqrt(mean(min(e, 0)^2) + eps^2),   e = X w - rf, of each session its own risk-free return
    MDD     = max_k (1 - G_k / max_{j <= k} G_j),          G = cumulative product of 1 + X w, from G_0 = 1

The risk-free return, the Sortino ratio's minimum acceptable one too, is a series (m,) where one is given, and else
the constant of the configs' page.

Results are the same to the last bit whether a path is run at once, in pieces or with later sessions appended.

Reference: Zinkevich, Online convex programming and generalized infinitesimal gradient ascent, ICML 2003;
Sortino and Price, Performance measurement in a downside risk framework, Journal of Investing 3(3), 1994.
"""
# Shapes: m = sessions of the window, T = sessions of a run, n = assets.

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.configs import RISK_FREE, TRADING_DAYS, OnlineConfig

# numba's cache of this file does not notice edits of that one: after them, delete __pycache__.
from tasks.numerics.projections import simplex, turnover_prox

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_LEAST_GROWTH = 1e-6  # a day's 1 + return counts as no less, so that wealth stays positive


class State(NamedTuple):
    """All that one session hands to the next."""

    weights: FloatArray  # (n,)
    velocity: FloatArray  # (n,)
    t: int  # sessions since the reset of the learning rate


class _Terms(NamedTuple):
    """The numbers of the config that the compiled code needs."""

    learning_rate: float
    momentum: float
    decay: float
    sortino: float
    drawdown: float
    turnover: float
    ceiling: float
    floor: float


def init(mask: BoolArray) -> State:
    """Equal weights over the assets that `mask` (n,) allows, no velocity, t = 0.

    ValueError when the mask allows no asset.
    """
    if not mask.any():
        raise ValueError(f"mask allows none of {mask.size} assets; it must allow at least one")
    return State(mask / mask.sum(), np.zeros(mask.size), 0)


def with_reset(state: State) -> State:
    """The state with the learning rate back at its start (t = 0); weights and velocity stay."""
    return state._replace(t=0)


def objective(
    weights: FloatArray, window: FloatArray, config: OnlineConfig, risk_free: FloatArray | None = None
) -> float:
    """F(w) = a1 Sortino - a2 MDD of weights (n,) held through the simple returns `window` (m, n)."""
    terms = _terms(config)
    _, columns = _layouts(window, weights.size)
    returns = _portfolio_returns(columns, 0, window.shape[0], weights)
    sortino, _ = _sortino(returns, _of_cash(risk_free, window.shape[0]), terms.floor)
    drawdown, _ = _drawdown(returns)
    return terms.sortino * sortino - terms.drawdown * drawdown


def gradient(
    weights: FloatArray, window: FloatArray, config: OnlineConfig, risk_free: FloatArray | None = None
) -> FloatArray:
    """dF/dw (n,), exact; of several equal drawdowns the first counts, and without one its gradient is 0."""
    rows, columns = _layouts(window, weights.size)
    cash = _of_cash(risk_free, window.shape[0])
    return _gradient(weights, rows, columns, cash, 0, window.shape[0], _terms(config))


def step(
    state: State, window: FloatArray, mask: BoolArray, config: OnlineConfig, risk_free: FloatArray | None = None
) -> State:
    """One session: `run` with T = 1, on window (m, n), mask (n,) and risk-free returns (m,)."""
    return run(state, window, mask[None, :], config, risk_free)[0]


def run(
    state: State, returns: FloatArray, mask: BoolArray, config: OnlineConfig, risk_free: FloatArray | None = None
) -> tuple[State, FloatArray, float]:
    """T sessions in a row; each sees the m returns that end with it.

    An asset that a session's mask leaves out has weight and velocity 0 from then on. Its weight is moved to
    the others by projection first, whatever the ceiling, which applies to the rest of the session's move.

    `returns` is (m - 1 + T, n), m = config.window: simple, 0 where there is none. `mask` is (T, n), True
    where an asset may be held. `risk_free` is (m - 1 + T,), the return of cash on the sessions of `returns`; None:
    the constant. Returned are the state after the last session, the weights (T, n) after each, and the share of
    sessions on which the turnover ceiling bound. ValueError for shapes that do not match, a return that is not
    finite, and a session whose mask allows no asset.
    """
    sessions, n = mask.shape[0], state.weights.size
    expected = (config.window - 1 + sessions, n)
    if sessions < 1 or mask.shape[1] != n or returns.shape != expected:
        raise ValueError(f"returns {returns.shape} and mask {mask.shape} do not match; returns must be {expected}")
    if not mask.any(axis=1).all():
        raise ValueError(f"mask allows no asset in row {mask.any(axis=1).argmin()}; each session needs at least one")
    rows, columns = _layouts(returns, n)
    cash = _of_cash(risk_free, returns.shape[0])
    begun = np.array(state.weights), np.array(state.velocity), state.t
    weights, velocity, path, bound = _run(*begun, rows, columns, cash, np.array(mask), _terms(config))
    return State(weights, velocity, state.t + sessions), path, bound / sessions


def _terms(config: OnlineConfig) -> _Terms:
    """The config as floats: an integer would be another type to the compiled code, and compile it again."""
    return _Terms(
        learning_rate=float(config.learning_rate),
        momentum=float(config.momentum),
        decay=float(config.decay),
        sortino=float(config.sortino_weight),
        drawdown=float(config.drawdown_weight),
        turnover=float(config.turnover_weight),
        ceiling=float(config.turnover_ceiling),
        floor=float(config.downside_floor),
    )


def _of_cash(risk_free: FloatArray | None, sessions: int) -> FloatArray:
    """The risk-free return of each session, (sessions,), always a copy."""
    if risk_free is None:
        return np.full(sessions, RISK_FREE / TRADING_DAYS)
    if np.shape(risk_free) != (sessions,) or not np.isfinite(risk_free).all():
        raise ValueError(
            f"risk_free has shape {np.shape(risk_free)} and {np.isfinite(risk_free).sum()} finite values; "
            f"it must be ({sessions},), a number for each session of the returns"
        )
    return np.array(risk_free, np.float64)


def _layouts(returns: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """The returns session by session (sessions, n) and asset by asset (n, sessions), each contiguous.

    Always copies: read-only arrays, too, would be another type to the compiled code.
    """
    if returns.ndim != 2 or returns.shape[1] != n:
        raise ValueError(f"returns has shape {returns.shape}; it must be (sessions, {n}), as there are {n} weights")
    bad = ~np.isfinite(returns)
    if bad.any():
        row, asset = np.argwhere(bad)[0]
        raise ValueError(
            f"returns is {returns[row, asset]} in row {row}, column {asset}; give 0 and mask the asset out"
        )
    return np.array(returns, np.float64, order="C"), np.array(returns.T, np.float64, order="C")


# Sums below run in a fixed order. Each inner loop is over independent results, which lets it vectorise.


@njit(cache=True)
def _run(
    weights: FloatArray,
    velocity: FloatArray,
    t: int,
    rows: FloatArray,
    columns: FloatArray,
    cash: FloatArray,
    mask: BoolArray,
    terms: _Terms,
) -> tuple[FloatArray, FloatArray, FloatArray, int]:
    """`_step` for each row of `mask`; `columns` is `rows` transposed. Also counts the sessions at the ceiling."""
    path = np.empty(mask.shape)
    m = rows.shape[0] - mask.shape[0] + 1
    bound = 0
    for s in range(mask.shape[0]):
        weights, velocity, at_ceiling = _step(weights, velocity, t + s, rows, columns, cash, s, m, mask[s], terms)
        path[s] = weights
        bound += at_ceiling
    return weights, velocity, path, bound


@njit(cache=True)
def _step(
    weights: FloatArray,
    velocity: FloatArray,
    t: int,
    rows: FloatArray,
    columns: FloatArray,
    cash: FloatArray,
    first: int,
    m: int,
    mask: BoolArray,
    terms: _Terms,
) -> tuple[FloatArray, FloatArray, bool]:
    """Weights and velocity after the session whose window starts at row `first`; True if the ceiling bound."""
    previous = weights
    if (weights[~mask] != 0.0).any():
        previous = simplex(weights, mask)
    rate = terms.learning_rate * terms.decay ** float(t)
    slope = _gradient(previous, rows, columns, cash, first, m, terms)
    velocity = np.where(mask, terms.momentum * velocity + rate * slope, 0.0)
    penalty = terms.turnover * rate / (1.0 - terms.momentum)
    target = turnover_prox(previous + velocity, previous, penalty, mask)
    traded = 0.0
    for i in range(target.size):
        traded += abs(target[i] - previous[i])
    if traded > terms.ceiling:
        return previous + terms.ceiling / traded * (target - previous), velocity, True
    return target, velocity, False


@njit(cache=True)
def _gradient(
    weights: FloatArray, rows: FloatArray, columns: FloatArray, cash: FloatArray, first: int, m: int, terms: _Terms
) -> FloatArray:
    """dF/dw = X' dF/dr of the window whose first row is `first`."""
    returns = _portfolio_returns(columns, first, m, weights)
    _, sortino = _sortino(returns, cash[first : first + m], terms.floor)
    _, drawdown = _drawdown(returns)
    slope = np.zeros(weights.size)
    for k in range(m):
        row = rows[first + k]
        factor = terms.sortino * sortino[k] - terms.drawdown * drawdown[k]
        for i in range(weights.size):
            slope[i] += factor * row[i]
    return slope


@njit(cache=True)
def _portfolio_returns(columns: FloatArray, first: int, m: int, weights: FloatArray) -> FloatArray:
    """Returns X w (m,) of the window whose first session is `first`."""
    returns = np.zeros(m)
    for i in range(weights.size):
        column = columns[i, first : first + m]
        for k in range(m):
            returns[k] += weights[i] * column[k]
    return returns


@njit(cache=True)
def _sortino(returns: FloatArray, cash: FloatArray, floor: float) -> tuple[float, FloatArray]:
    """Sortino ratio over the returns of cash (m,), and its derivative by each return (m,)."""
    excess = returns - cash
    losses = np.minimum(excess, 0.0)
    total, squares = 0.0, 0.0
    for k in range(excess.size):
        total += excess[k]
        squares += losses[k] ** 2
    mean = total / excess.size
    deviation = np.sqrt(squares / excess.size + floor**2)
    return mean / deviation, (1.0 / deviation - mean * losses / deviation**3) / excess.size


@njit(cache=True)
def _drawdown(returns: FloatArray) -> tuple[float, FloatArray]:
    """Maximum drawdown, and its derivative by each return (m,): only those between peak and trough count."""
    growth = np.maximum(1.0 + returns, _LEAST_GROWTH)
    wealth, peak, peak_end = 1.0, 1.0, 0
    kept, start, end = 1.0, 0, 0
    for k in range(growth.size):
        wealth *= growth[k]
        if wealth > peak:
            peak, peak_end = wealth, k + 1
        if wealth / peak < kept:
            kept, start, end = wealth / peak, peak_end, k + 1
    slope = np.zeros(growth.size)
    fall = growth[start:end]
    slope[start:end] = np.where(fall > _LEAST_GROWTH, -kept / fall, 0.0)  # the least growth is a constant
    return 1.0 - kept, slope
