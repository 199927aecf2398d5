"""Return-drawdown allocation: the long-only portfolio with the best forecast return for its drawdown.

    maximise   f(w) = m / d + alpha m       if m = w'mu > 0
               f(w) = m sqrt(H) d           otherwise
    over       sum w = 1,  0 <= w <= 1
    with       d = max(floor, c s),  s = sqrt(w' Sigma w),  c = 2 sqrt(H / sigma_horizon)

mu and Sigma are the forecast mean and covariance of the return over H = 21 sessions, d a proxy of the
drawdown in that time. sigma_horizon = 1 is the founding document's formula to the letter; it counts the
horizon twice, since sigma already covers it. sigma_horizon = 21 is the sane unit, and sqrt(21) alpha there
gives the same weights. The document gives alpha no value; 0.2 is what its notebook ran.

f is continuous, but not concave; its gradient jumps at m = 0 and where the floor starts to bind. SLSQP finds
local maxima, so it starts at four points and the best result counts, which may still stay below the global
maximum. SLSQP's own report of success says nothing about that, and is not read.

Reference: Kraft, A software package for sequential quadratic programming, DFVLR-FB 88-28, 1988 (SLSQP).
"""
# Shapes: n = assets. Units: fractions of wealth over the horizon.

from math import sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from tasks.numerics.configs import ReturnDrawdownConfig

FloatArray = NDArray[np.float64]


class Allocation(NamedTuple):
    """The weights, what they promise, and how far to trust them."""

    weights: FloatArray  # (n,)
    ratio: float  # f at the weights
    mean: float
    volatility: float
    drawdown: float  # the proxy d
    branch: Literal["positive", "negative"]
    kkt: float  # residual of stationarity, 0 at a local maximum
    iterations: int  # of the winning run
    start: str  # where the winning run started
    gap: float | None = None  # relative distance from the global maximum, where it is known


def solve(mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> Allocation:
    """The best of the local maxima that SLSQP finds of f(w) subject to sum w = 1, 0 <= w <= 1.

    `mean` is (n,), `covariance` (n, n), symmetric and positive semi-definite, singular or not. An asset whose
    mean or variance is not finite gets weight 0. ValueError for shapes that do not match, when no asset is
    finite, and when a covariance between finite assets is not.
    """
    if covariance.shape != (mean.size, mean.size):
        raise ValueError(f"covariance has shape {covariance.shape}; {mean.size} means need a square of that")
    usable = np.isfinite(mean) & np.isfinite(np.diag(covariance))
    if not usable.any():
        raise ValueError(f"none of {mean.size} assets has a finite mean and variance; check the forecasts")
    mu, sigma = mean[usable], covariance[np.ix_(usable, usable)]
    if not np.isfinite(sigma).all():
        column = np.flatnonzero(usable)[~np.isfinite(sigma).all(axis=0)][0]
        raise ValueError(f"covariance is not finite in column {column}, its variance is; repair or drop that asset")
    found, iterations, start = _best_run(mu, sigma, config)
    weights = np.zeros(mean.size)
    weights[usable] = found
    expected, volatility, drawdown = _moments(found, mu, sigma, config)
    return Allocation(
        weights=weights,
        ratio=ratio(found, mu, sigma, config),
        mean=expected,
        volatility=volatility,
        drawdown=drawdown,
        branch="positive" if expected > 0.0 else "negative",
        kkt=kkt(found, mu, sigma, config),
        iterations=iterations,
        start=start,
    )


def ratio(weights: FloatArray, mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> float:
    """f(w) for weights (n,), finite means (n,) and covariance (n, n)."""
    expected, _, drawdown = _moments(weights, mean, covariance, config)
    if expected > 0.0:
        return expected / drawdown + config.alpha * expected
    return expected * sqrt(config.horizon) * drawdown


def gradient(weights: FloatArray, mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> FloatArray:
    """df/dw (n,) on the branch that `ratio` takes; the drawdown is constant where its floor binds."""
    expected, volatility, drawdown = _moments(weights, mean, covariance, config)
    slope = np.zeros(mean.size)
    if drawdown > config.drawdown_floor:
        slope = _drawdown_per_volatility(config) / volatility * (covariance @ weights)
    if expected > 0.0:
        return (1.0 / drawdown + config.alpha) * mean - expected / drawdown**2 * slope
    return sqrt(config.horizon) * (drawdown * mean + expected * slope)


def kkt(weights: FloatArray, mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> float:
    """Stationarity residual (max_j g_j - w'g) / |f| with g = df/dw: the relative first-order gain of the best move.

    On the efficient frontier Sigma w - lambda mu is smallest on the held assets; g is minus that vector
    times a positive number, for the lambda at which the frontier's point is stationary in f.
    """
    slope = gradient(weights, mean, covariance, config)
    return float(slope.max() - weights @ slope) / max(abs(ratio(weights, mean, covariance, config)), 1e-12)


def _moments(
    weights: FloatArray, mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig
) -> tuple[float, float, float]:
    """m, s and d. A singular covariance can make w'Sigma w negative by rounding: it counts as 0."""
    volatility = sqrt(max(weights @ covariance @ weights, 0.0))
    drawdown = max(config.drawdown_floor, _drawdown_per_volatility(config) * volatility)
    return float(weights @ mean), volatility, drawdown


def _drawdown_per_volatility(config: ReturnDrawdownConfig) -> float:
    """The factor c."""
    return 2.0 * sqrt(config.horizon / config.sigma_horizon)


def _best_run(mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig) -> tuple[FloatArray, int, str]:
    """Weights, iterations and start of the run that ends highest; the first of equals."""
    starts = _starts(mean, np.diag(covariance), config)
    scale = max(ratio(start, mean, covariance, config) for start in starts.values())
    best, best_value, iterations, winner = starts["equal"], -np.inf, 0, "equal"
    for name, start in starts.items():
        weights, count = _run(start, mean, covariance, config, abs(scale) or 1.0)
        value = ratio(weights, mean, covariance, config)
        if value > best_value:
            best, best_value, iterations, winner = weights, value, count, name
    return best, iterations, winner


def _starts(mean: FloatArray, variance: FloatArray, config: ReturnDrawdownConfig) -> dict[str, FloatArray]:
    """Four portfolios (n,); variances count from the floor of the drawdown on."""
    n = mean.size
    bounded = np.maximum(variance, (config.drawdown_floor / _drawdown_per_volatility(config)) ** 2)
    inverse = 1.0 / bounded
    return {
        "equal": np.full(n, 1.0 / n),
        "best mean": _single(n, int(mean.argmax())),
        "inverse variance": inverse / inverse.sum(),
        "best mean over volatility": _single(n, int((mean / np.sqrt(bounded)).argmax())),
    }


def _single(n: int, asset: int) -> FloatArray:
    """All weight in one asset."""
    weights = np.zeros(n)
    weights[asset] = 1.0
    return weights


def _run(
    start: FloatArray, mean: FloatArray, covariance: FloatArray, config: ReturnDrawdownConfig, scale: float
) -> tuple[FloatArray, int]:
    """One run of SLSQP on f / scale, cleaned. Weights (n,) and iterations."""
    result = minimize(
        lambda w: -ratio(w, mean, covariance, config) / scale,
        start,
        jac=lambda w: -gradient(w, mean, covariance, config) / scale,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * mean.size,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 1000},  # ftol is absolute, hence the scale
    )
    weights = np.maximum(result.x, 0.0)
    return weights / weights.sum(), int(result.nit)
