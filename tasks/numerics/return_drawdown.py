"""Return-drawdown allocation: the long-only portfolio with the best forecast return for its drawdown.

    maximise   f(w) = m / d + alpha m       if m = w'mu > 0
               f(w) = m sqrt(H) d           otherwise
    over       sum w = 1,  0 <= w <= max_weight, and the limits of `constraints` where a config sets any
    with       d = max(floor, c s),  s = sqrt(w' Sigma w),  c = 2 sqrt(H / sigma_horizon)

mu and Sigma are the forecast mean and covariance of the return over H = 21 sessions, d a proxy of the
drawdown in that time. sigma_horizon = 1 is the founding document's formula to the letter; it counts the
horizon twice, since sigma already covers it. sigma_horizon = 21 is the sane unit, and sqrt(21) alpha there
gives the same weights. The document gives alpha no value; 0.2 is what its notebook ran.

f is continuous, but not concave; its gradient jumps at m = 0 and where the floor starts to bind. SLSQP alone ends
in local maxima, and always reports success, which is not read here. f rises in m and falls in s, so that the global
maximum lies on the efficient frontier, where `frontier` finds it: that is method "exact". Method "slsqp" starts SLSQP
there, on the assets held there, and returns the better of the two; method "document" starts it at equal weights, on
all assets, and returns where it ends. Where the global maximum breaks a further limit,
SLSQP climbs, whatever the method, from several portfolios within the limits, and f of the global maximum without them
is the bound that the gap refers to.

Reference: Kraft, A software package for sequential quadratic programming, DFVLR-FB 88-28, 1988 (SLSQP).
"""
# Shapes: n = assets. Units: fractions of wealth over the horizon.

from math import sqrt
from typing import Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import fmin_slsqp

from tasks.numerics import constraints, frontier
from tasks.numerics.configs import ReturnDrawdownConfig
from tasks.numerics.constraints import Limits
from tasks.numerics.frontier import Optimum, Terms, plain

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_CERTIFIED = 1e-9  # largest residual of a sweep along the frontier that proves its maximum global
_SCIPYS = 1e-6  # tolerance of scipy's SLSQP where none is given, as the document gives none
_STATIONARY = 1e-9  # relative gain of a move towards other assets below which none is looked for


class Allocation(NamedTuple):
    """The weights, what they promise, and how far to trust them."""

    weights: FloatArray  # (n,)
    ratio: float  # f at the weights
    mean: float
    volatility: float
    drawdown: float  # the proxy d
    branch: Literal["positive", "negative"]
    status: Literal["global", "constrained", "local", "uncertified"]  # constrained: the best found within the limits
    gap: float | None  # (bound - f) / |bound|; None if uncertified
    bound: float  # f of the global maximum without sectors, turnover and minimum
    kkt: float  # residual of stationarity, 0 at a local maximum
    start: str  # where the winning run started
    iterations: int  # of SLSQP in that run; 0 for method exact
    multiplier: float  # of the mean against half the variance, at the certified optimum
    local_maxima: int  # of f along the frontier, down from the largest mean
    corners: int  # of the frontier that were visited
    residual: float  # largest relative distance of one of them from the frontier
    binding: tuple[str, ...]  # limits that hold with equality
    turnover: float | None  # half the sum of absolute changes from what is held; None without that
    turnover_needed: float | None  # the least that the other limits allow, where it is more than the limit


class _Problem(NamedTuple):
    """The forecasts of the assets that may be held, and the objective."""

    mean: FloatArray  # (n,)
    covariance: FloatArray  # (n, n)
    config: ReturnDrawdownConfig
    terms: Terms  # of the config


class _Point(NamedTuple):
    """What weights promise."""

    ratio: float
    gradient: FloatArray  # (n,)
    mean: float
    volatility: float
    drawdown: float


class _Found(NamedTuple):
    """The end of a run."""

    weights: FloatArray  # (n,)
    point: _Point
    start: str
    iterations: int

    @property
    def ratio(self) -> float:
        """What was sought the largest of."""
        return self.point.ratio


def solve(
    mean: FloatArray,
    covariance: FloatArray,
    config: ReturnDrawdownConfig,
    sectors: tuple[str, ...] | None = None,
    held: FloatArray | None = None,
) -> Allocation:
    """The global maximum of f(w), or the best that SLSQP finds where it breaks a limit on sectors, turnover or size.

    `mean` is (n,), `covariance` (n, n), symmetric and positive semi-definite, singular or not. `sectors` names the
    sector of each asset, "" for none, and `held` (n,) is what is held now, of sum 1 or less; without it there is no
    limit on turnover. An asset whose mean or variance is not finite gets weight 0. ValueError for shapes that do not
    match, when no asset is finite, when a covariance between finite assets is not, and for limits that contradict
    each other; of turnover, the least is taken that the other limits allow.
    """
    usable = _usable(mean, covariance)
    limits = constraints.limits(config, usable, sectors, held)
    if not usable.all():
        problem = _problem(mean[usable], covariance[np.ix_(usable, usable)], config)
    else:
        problem = _problem(mean, covariance, config)
    best, exact = _relaxed(problem, limits)
    found, kept = _within(problem, limits, exact)
    weights = np.zeros(mean.size)
    weights[usable] = found.weights
    point = found.point
    gap = (exact.ratio - point.ratio) / max(abs(exact.ratio), 1e-12)
    certified = best.residual <= _CERTIFIED and gap >= -_CERTIFIED
    return Allocation(
        weights=weights,
        ratio=point.ratio,
        mean=point.mean,
        volatility=point.volatility,
        drawdown=point.drawdown,
        branch="positive" if point.mean > 0.0 else "negative",
        status=_status(config, certified, gap),
        gap=max(gap, 0.0) if certified else None,
        bound=exact.ratio,
        kkt=_gain(found.weights, constraints.extreme(kept, point.gradient), point),
        start=found.start,
        iterations=found.iterations,
        multiplier=best.multiplier,
        local_maxima=best.local_maxima,
        corners=best.corners,
        residual=best.residual,
        binding=constraints.binding(kept, found.weights, config),
        turnover=None if held is None else constraints.turnover(limits, found.weights),
        turnover_needed=kept.turnover if kept.turnover > limits.turnover else None,
    )


def _status(
    config: ReturnDrawdownConfig, certified: bool, gap: float
) -> Literal["global", "constrained", "local", "uncertified"]:
    """What the weights are, given whether the bound is proven and the gap to it."""
    if not certified:
        return "uncertified"
    if gap <= _CERTIFIED:
        return "global"
    return "local" if config.method == "document" else "constrained"


def ratio(weights: FloatArray, mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> float:
    """f(w) for weights (n,), finite means (n,) and covariance (n, n)."""
    return _at(weights, _problem(mean, covariance, config)).ratio


def gradient(weights: FloatArray, mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> FloatArray:
    """df/dw (n,) on the branch that `ratio` takes; the drawdown is constant where its floor binds."""
    return _at(weights, _problem(mean, covariance, config)).gradient


def kkt(weights: FloatArray, mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> float:
    """Stationarity residual max_v g'(v - w) / |f| with g = df/dw: the relative first-order gain of the best move.

    v runs over all portfolios that keep max_weight. On the efficient frontier Sigma w - lambda mu is smallest on the
    held assets; g is minus that vector times a positive number, for the lambda at which the frontier's point is
    stationary in f.
    """
    point = _at(weights, _problem(mean, covariance, config))
    target = constraints.filled(point.gradient, np.zeros(mean.size), np.full(mean.size, config.max_weight))
    return _gain(weights, target, point)


def _usable(mean: FloatArray, covariance: FloatArray) -> BoolArray:
    """The assets (n,) that may be held, once the forecasts have been checked."""
    if covariance.shape != (mean.size, mean.size):
        raise ValueError(f"covariance has shape {covariance.shape}; {mean.size} means need a square of that")
    usable = np.isfinite(mean) & np.isfinite(np.diag(covariance))
    if not usable.any():
        raise ValueError(f"none of {mean.size} assets has a finite mean and variance; check the forecasts")
    if not np.isfinite(covariance.sum()):
        broken = np.flatnonzero(usable & ~np.isfinite(covariance[usable]).all(axis=0))
        if broken.size:
            raise ValueError(
                f"covariance is not finite in column {broken[0]}, its variance is; repair or drop that asset"
            )
    return usable


def _problem(mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> _Problem:
    """The problem as compiled code reads it."""
    c, root = 2.0 * sqrt(config.horizon / config.sigma_horizon), sqrt(config.horizon)
    terms = Terms(float(config.alpha), c, float(config.drawdown_floor), root)
    return _Problem(plain(mean), plain(covariance), config, terms)


def _at(weights: FloatArray, problem: _Problem) -> _Point:
    """What weights (n,) promise."""
    return _Point(*_promise(plain(weights), problem.mean, problem.covariance, *problem.terms))


@njit(cache=True)
def _promise(
    weights: FloatArray, mean: FloatArray, covariance: FloatArray, alpha: float, c: float, floor: float, root: float
) -> tuple[float, FloatArray, float, float, float]:
    """All of a `_Point`. A singular covariance can make w'Sigma w negative by rounding: it counts as 0."""
    marginal, expected = np.dot(covariance, weights), np.dot(mean, weights)
    volatility = sqrt(max(np.dot(weights, marginal), 0.0))
    drawdown = max(floor, c * volatility)
    rise = c / volatility if drawdown > floor else 0.0
    if expected > 0.0:
        by_mean, by_drawdown = 1.0 / drawdown + alpha, -expected / drawdown**2
        value = expected / drawdown + alpha * expected
    else:
        by_mean, by_drawdown = root * drawdown, root * expected
        value = expected * root * drawdown
    return value, by_mean * mean + by_drawdown * rise * marginal, expected, volatility, drawdown


def _gain(weights: FloatArray, target: FloatArray, point: _Point) -> float:
    """The relative first-order gain of a move from the point's weights to others; 0 where it is a loss."""
    return max(float(point.gradient @ (target - weights)), 0.0) / max(abs(point.ratio), 1e-12)


def _relaxed(problem: _Problem, limits: Limits) -> tuple[Optimum, _Found]:
    """The global maximum under the upper bounds alone, each of which is 0 or max_weight, as found and cleaned."""
    mean, covariance, config, terms = problem
    allowed = limits.upper > 0.0
    if not allowed.all():
        mean, covariance = mean[allowed], covariance[np.ix_(allowed, allowed)]
    best = frontier.optimum(mean, covariance, config.max_weight, terms)
    weights = np.zeros(allowed.size)
    weights[allowed] = best.weights
    weights = constraints.clean(limits._replace(lower=np.zeros(allowed.size)), weights)
    return best, _Found(weights, _at(weights, problem), "certified", 0)


def _within(problem: _Problem, limits: Limits, exact: _Found) -> tuple[_Found, Limits]:
    """The best portfolio within the limits and without positions that are too small, and the limits it keeps to."""
    if problem.config.method == "document":
        return _from_equal(problem, limits), limits
    kept, minimum = limits, problem.config.min_weight
    if constraints.violation(limits, exact.weights) > constraints.ZERO:
        kept = constraints.reachable(limits) or limits  # `limits` has seen that the caps leave room
    elif minimum == 0.0:
        return _polished(problem, limits, exact), limits
    found = _best_within(problem, kept, exact)
    while constraints.small(kept, found.weights, minimum).any():
        kept = constraints.narrowed(kept, found.weights, minimum)
        found = _best_within(problem, kept, _relaxed(problem, kept)[1])
    return found, kept


def _from_equal(problem: _Problem, limits: Limits) -> _Found:
    """Where SLSQP over all assets ends from equal weights, with scipy's own tolerance on the objective as it is."""
    allowed = limits.upper > 0.0
    start = allowed / allowed.sum()
    return _run(problem, limits, _Found(start, _at(start, problem), "equal", 0), None, 1.0, _SCIPYS)


def _best_within(problem: _Problem, limits: Limits, exact: _Found) -> _Found:
    """The global maximum where it keeps the limits, polished; else the best that SLSQP reaches from its starts."""
    if constraints.violation(limits, exact.weights) > constraints.ZERO:
        starts = _starts(problem, limits, exact.weights)
        return max((_climb(problem, limits, start, exact.weights) for start in starts), key=lambda run: run.ratio)
    return _polished(problem, limits, exact)


def _polished(problem: _Problem, limits: Limits, exact: _Found) -> _Found:
    """The global maximum as it is, or after SLSQP on its support."""
    if problem.config.method == "exact":
        return exact
    support = exact.weights > 0.0
    if limits.turnover < np.inf:  # a purchase and a sale of what is held, too
        support = np.tile(support | (limits.held > 0.0), 2)
    return _run(problem, limits, exact, support)


def _starts(problem: _Problem, limits: Limits, best: FloatArray) -> list[_Found]:
    """Portfolios within the limits: near the global maximum, the one with the largest mean, and what is held."""
    goal = constraints.nearest(limits, best)
    starts = {"largest mean": constraints.extreme(limits, problem.mean), "near certified": goal}
    if limits.turnover < np.inf:
        starts["held"] = constraints.nearest(limits, limits.held)
        starts["near certified"] = constraints.towards(limits, starts["held"], goal)
    cleaned = {name: constraints.clean(limits, weights) for name, weights in starts.items()}
    return [_Found(weights, _at(weights, problem), name, 0) for name, weights in cleaned.items()]


def _climb(problem: _Problem, limits: Limits, start: _Found, best: FloatArray) -> _Found:
    """SLSQP over a few moves, joined by those of the best first-order one until that gains nothing or adds none."""
    found = start
    chosen = (constraints.moves(limits, start.weights) > 0.0) | (constraints.moves(limits, best) > 0.0)
    while True:
        found = _run(problem, limits, found, chosen)
        target = constraints.extreme(limits, found.point.gradient)
        more = constraints.moves(limits, target) > 0.0
        if _gain(found.weights, target, found.point) <= _STATIONARY or chosen[more].all():
            return found
        chosen = chosen | more


def _run(
    problem: _Problem,
    limits: Limits,
    start: _Found,
    chosen: BoolArray | None,
    scale: float | None = None,
    accuracy: float = 1e-12,
) -> _Found:
    """One run of SLSQP over the `chosen` moves (m,), by default all; the start, where it ends below or out of limits.

    It ends where the objective over `scale`, by default its value at the start, changes by less than `accuracy`.
    """
    split = constraints.columns(limits, chosen)
    assets, signs = split.assets, split.signs
    part = problem._replace(mean=problem.mean[assets], covariance=problem.covariance[np.ix_(assets, assets)])
    scale = scale or abs(start.ratio) or 1.0

    def cost(x: FloatArray) -> float:
        return -_at(split.base + split.matrix @ x, part).ratio / scale

    def slope(x: FloatArray) -> FloatArray:
        return _at(split.base + split.matrix @ x, part).gradient @ split.matrix / -scale

    end, _, count, _, _ = fmin_slsqp(
        cost,
        np.clip(split.matrix.T @ (start.weights[assets] - split.base), split.low, split.high),
        fprime=slope,
        bounds=list(zip(split.low.tolist(), split.high.tolist(), strict=True)),
        f_eqcons=lambda x: signs @ x - split.total,
        fprime_eqcons=lambda _: signs,
        f_ieqcons=(lambda x: split.room - split.rows @ x) if split.room.size else None,
        fprime_ieqcons=lambda _: -split.rows,
        iter=1000,
        acc=accuracy,  # absolute, hence the scale
        iprint=0,
        full_output=True,
    )
    iterations = start.iterations + int(count)
    weights = constraints.clean(limits, constraints.weights_at(split, end))
    point = _at(weights, problem)
    if point.ratio <= start.ratio or constraints.violation(limits, weights) > constraints.TOLERANCE:
        return start._replace(iterations=iterations)
    return _Found(weights, point, start.start, iterations)
