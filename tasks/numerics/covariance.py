"""Correlation of recent returns, and the covariance that a forecast makes of it: H = D S D.

S is the correlation of the T sessions of daily log returns X (T, n) that end with the as-of date, and
D = diag(sigma) holds the forecast volatilities. With "none", S is the sample correlation, of rank T - 1 at
most. With "ledoit_wolf" it is

    S = (1 - delta) C + delta F,    F_ii = 1,  F_ij = rbar,

C the sample correlation, rbar the mean of its off-diagonal entries, and delta in [0, 1] the intensity that
minimises the expected squared distance of the shrunk covariance from the true one. C is positive
semi-definite, hence so is F: 1'C1 >= 0 gives rbar >= -1/(n - 1). With "ewma" sessions count by their age,

    S_ij = sum_t p_t (X_ti - m_i)(X_tj - m_j) / (s_i s_j),    p_t ~ decay^(T - t),  m_i = sum_t p_t X_ti,

s_i^2 being the sum for j = i: the sample correlation with other weights, of no higher rank. All three are products
Z'Z, or the mean of one with F, so that they are semi-definite up to rounding.

Reference: Ledoit and Wolf, Honey, I shrunk the sample covariance matrix, Journal of Portfolio Management
30(4), 2004, appendix B; J.P. Morgan and Reuters, RiskMetrics technical document, 4th edition, 1996, section 5.2.
"""
# Shapes: T = sessions, n = assets.

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_EPSILON = 2.0**-52
_SMALLEST_RANGE = 1e-12  # below it a column of log returns is a constant price and rounding


def correlation(log_returns: FloatArray, shrinkage: str, decay: float = 0.97) -> FloatArray:
    """Correlation of the columns of `log_returns`, shrunk or not: symmetric, unit diagonal, semi-definite.

    A column without variance has correlation 0 with every other and 1 with itself, and with "identity" every column
    has. `decay` is the weight of a session relative to the next one, for "ewma"; sessions whose weight is rounding do
    not count.

    `log_returns` is (T, n) with T >= 2, the result (n, n). ValueError for a shrinkage other than "none",
    "ledoit_wolf", "ewma" and "identity", for fewer than two sessions that count, and for a value that is not finite,
    with its column.
    """
    if shrinkage not in ("none", "ledoit_wolf", "ewma", "identity"):
        raise ValueError(f"shrinkage is {shrinkage!r}; it must be 'none', 'ledoit_wolf', 'ewma' or 'identity'")
    if log_returns.ndim != 2 or log_returns.shape[0] < 2:
        raise ValueError(f"log_returns has shape {log_returns.shape}; give at least 2 sessions as (sessions, assets)")
    _refuse_non_finite("log_returns", log_returns)
    if shrinkage == "identity":
        return np.eye(log_returns.shape[1])
    weights = _session_weights(log_returns.shape[0], decay if shrinkage == "ewma" else 1.0)
    counted = log_returns[-weights.size :]
    varies = np.ptp(counted, axis=0) > _SMALLEST_RANGE
    moving = counted[:, varies]
    means = np.average(moving, axis=0, weights=weights)
    centred = np.ascontiguousarray(np.sqrt(weights)[:, None] * (moving - means))
    sample = _sample_correlation(centred)
    result = np.eye(log_returns.shape[1])
    result[np.ix_(varies, varies)] = _shrunk(centred, sample) if shrinkage == "ledoit_wolf" else sample
    return result


def covariance(sigma: FloatArray, correlation: FloatArray) -> FloatArray:
    """H with H_ij = sigma_i sigma_j S_ij, scaled element by element so that it stays exactly symmetric.

    `sigma` is (n,), `correlation` and the result (n, n); H has sigma's unit, squared. ValueError for shapes
    that do not match, and for a sigma that is negative or a value that is not finite, with its column.
    """
    if correlation.shape != (sigma.size, sigma.size):
        raise ValueError(f"correlation has shape {correlation.shape}; {sigma.size} volatilities need a square of that")
    _refuse_non_finite("sigma", sigma[None, :])
    _refuse_non_finite("correlation", correlation)
    if sigma.min(initial=0.0) < 0.0:
        raise ValueError(f"sigma is {sigma.min()} at column {sigma.argmin()}; a volatility must not be negative")
    return correlation * np.outer(sigma, sigma)


def _refuse_non_finite(name: str, values: FloatArray) -> None:
    """Raise ValueError that names the first column of `values` (rows, columns) holding NaN or infinity."""
    bad = ~np.isfinite(values).all(axis=0)
    if bad.any():
        raise ValueError(f"{name} is not finite in column {bad.argmax()}; drop or repair that asset first")


def _session_weights(sessions: int, decay: float) -> FloatArray:
    """Weights of the last sessions, oldest first, down from 1 for the newest to what is more than rounding."""
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"decay is {decay}; it must be above 0 and at most 1")
    weights = decay ** np.arange(sessions - 1.0, -1.0, -1.0)
    counted = weights[weights > _EPSILON]
    if counted.size < 2:
        raise ValueError(f"decay is {decay}, with which a single session counts; raise it")
    return counted


def _sample_correlation(centred: FloatArray) -> FloatArray:
    """C = Z'Z of the columns scaled to length 1, with its diagonal set to exactly 1."""
    z = centred / np.sqrt((centred**2).sum(axis=0))
    sample = np.clip(z.T @ z, -1.0, 1.0)
    np.fill_diagonal(sample, 1.0)
    return sample


def _shrunk(centred: FloatArray, sample: FloatArray) -> FloatArray:
    """(1 - delta) C + delta F."""
    n = sample.shape[0]
    if n < 3:
        return sample  # the target is the sample itself
    mean_correlation = (sample.sum() - n) / (n * (n - 1))
    target = np.full((n, n), mean_correlation)
    np.fill_diagonal(target, 1.0)
    delta = _intensity(centred, sample, target, mean_correlation)
    return (1.0 - delta) * sample + delta * target


def _intensity(centred: FloatArray, sample: FloatArray, target: FloatArray, mean_correlation: float) -> float:
    """The paper's delta = clip((pi - rho) / (gamma T), 0, 1); moments have its divisor T."""
    sessions, squared = centred.shape[0], centred**2
    sigma = np.sqrt(squared.mean(axis=0))
    scale = np.outer(sigma, sigma)
    s = sample * scale
    pi = squared.T @ squared / sessions - s**2
    theta = (squared * centred).T @ centred / sessions - sigma[:, None] ** 2 * s  # theta_ii,ij
    # The paper's two thetas are each other's transpose, so one sum over i != j counts both halves.
    cross = sigma[None, :] / sigma[:, None] * theta
    rho = np.trace(pi) + mean_correlation * (cross.sum() - np.trace(cross))
    gamma = ((target * scale - s) ** 2).sum()
    if gamma == 0.0:
        return 0.0  # every pair has the mean correlation
    return float(np.clip((pi.sum() - rho) / (gamma * sessions), 0.0, 1.0))
