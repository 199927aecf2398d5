"""Risk parity: weights with which every asset contributes the same share of the portfolio's variance.

With C the correlation of the covariance Sigma = D C D, the unique minimum of

    F(x) = x'Cx / 2 - 1/n sum_i ln x_i,   x > 0

has x_i (C x)_i = 1/n for all i, and w = D^-1 x / sum(D^-1 x) then has equal contributions w_i (Sigma w)_i. It depends
on no mean, and on volatilities only through their ratios. n F is self-concordant, so that Newton's method with damped
steps converges from anywhere; near the minimum its steps are whole and the error is squared.

Sources: Spinu, An algorithm for computing risk parity weights, SSRN 2297383, 2013 (the method, its damping); Maillard,
Roncalli and Teiletche, The properties of equally weighted risk contribution portfolios, Journal of Portfolio
Management 36(4), 2010 (the problem).
"""
# Shapes: n = assets.

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import constraints
from tasks.numerics.configs import ReturnDrawdownConfig

FloatArray = NDArray[np.float64]

TOLERANCE = 5e-11  # largest distance of a share of the variance from 1/n, in units of 1/n
_DAMPED = 0.95 * (3 - np.sqrt(5)) / 2  # decrement below which Newton's steps are whole
_STEPS = 100


def weights(covariance: FloatArray) -> FloatArray:
    """The weights of equal risk contributions: (n,) positive, of sum 1.

    `covariance` is (n, n), symmetric and positive semi-definite. Raises ValueError for one that is not square or not
    finite, for an asset without variance, and where a long-only portfolio of all assets has no risk, which leaves
    nothing to share.
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1] or not covariance.size:
        raise ValueError(f"covariance has shape {covariance.shape}; risk parity needs a square of at least one asset")
    if not np.isfinite(covariance).all():
        raise ValueError(f"covariance is not finite in column {np.isfinite(covariance).all(axis=0).argmin()}; drop it")
    variance = np.diag(covariance)
    if variance.min() <= 0:
        raise ValueError(f"the variance of asset {variance.argmin()} is {variance.min()}; risk parity needs some risk")
    sigma = np.sqrt(variance)
    found = _minimum(covariance / np.outer(sigma, sigma)) / sigma
    return found / found.sum()


def contributions(weights: FloatArray, covariance: FloatArray) -> FloatArray:
    """Share of the portfolio's variance that each weight contributes: (n,) of sum 1."""
    parts = weights * (covariance @ weights)
    return parts / parts.sum()


def _minimum(correlation: FloatArray) -> FloatArray:
    """The x (n,) at the minimum of F, by Newton's method from equal x."""
    share = 1.0 / len(correlation)
    x = np.full(len(correlation), np.sqrt(share / max(correlation.mean() * len(correlation), share)))
    for _ in range(_STEPS):
        slope = correlation @ x
        if np.abs(x * slope - share).max() <= TOLERANCE * share:
            return x
        # in y = d / x the step solves (diag(x) C diag(x) + share I) y = share - x (C x), whatever the scale of x
        left = share - x * slope
        try:
            step = np.linalg.solve(correlation * np.outer(x, x) + share * np.eye(x.size), left)
        except np.linalg.LinAlgError:  # x has grown beyond all bounds
            break
        decrement = np.sqrt(max(left @ step, 0.0) / share)
        x = x * (1.0 + step / (1.0 if decrement <= _DAMPED else 1.0 + np.abs(step).max()))
    raise ValueError("the correlations let a portfolio of all assets have no risk; shrink them for risk parity")


def within(
    weights: FloatArray,
    config: ReturnDrawdownConfig,
    sectors: tuple[str, ...] | None = None,
    held: FloatArray | None = None,
) -> FloatArray:
    """Weights (n,) themselves where they keep a config's caps, minimum position and turnover from `held`; else others.

    The others have the least sum of absolute differences from them; with a limit on turnover they are as far on the
    way there as it allows. Of turnover, the least is taken that the other limits allow. Raises ValueError for limits
    that contradict each other.
    """
    limits = constraints.limits(config, np.ones(weights.size, bool), sectors, held)
    if constraints.violation(limits, weights) > constraints.ZERO:
        limits = constraints.reachable(limits) or limits
        weights = _nearest(limits, weights)
    while constraints.small(limits, weights, config.min_weight).any():
        limits = constraints.narrowed(limits, weights, config.min_weight)
        weights = _nearest(limits, weights)
    return weights


def _nearest(limits: constraints.Limits, weights: FloatArray) -> FloatArray:
    """The nearest weights (n,) within limits that some portfolio keeps."""
    goal = constraints.nearest(limits, weights)
    if limits.turnover < np.inf:
        goal = constraints.towards(limits, constraints.nearest(limits, limits.held), goal)
    return constraints.clean(limits, goal)
