"""Proper scores of forecast distributions, and what else tells whether they are honest.

Every row has its own distribution: location + scale x T, T Student-t with `degrees` nu, Gaussian where nu is inf.
With z = (y - location) / scale, F and f the cdf and density of T, B the beta function:

    NLL  = ln scale - ln f(z)                                    with its constant, in nats
    CRPS = integral of (F((x - location) / scale) - 1{x >= y})^2 dx, in units of y
         = scale [z (2 F(z) - 1) + 2 f(z) - 1 / sqrt(pi)]                                             Gaussian
         = scale [z (2 F(z) - 1) + 2 f(z) (nu + z^2) / (nu - 1)
                  - 2 sqrt(nu) / (nu - 1) B(1/2, nu - 1/2) / B(1/2, nu/2)^2]                          Student-t
    PIT  = F(z)                                                  uniform if the forecasts are right

The lower NLL and CRPS are, the better. Location, scale and degrees broadcast against y; NaN in gives NaN out.

Sources: Gneiting and Raftery, Strictly proper scoring rules, prediction, and estimation, JASA 102(477), 2007,
section 4.2; Jordan, Krueger and Lerch, Evaluating probabilistic forecasts with scoringRules, Journal of Statistical
Software 90(12), 2019, appendix A.
"""
# Shapes: N = rows (an asset at a session each), G = groups of rows.

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, stdtr, stdtrit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Values = float | FloatArray

FEWEST = 3  # rows of a rank correlation


def negative_log_likelihood(y: FloatArray, location: Values, scale: Values, degrees: Values = np.inf) -> FloatArray:
    """Negative log density of each y (N,). Raises ValueError for scales or degrees that are not positive."""
    _check_degrees(degrees, 0)
    z = _standardised(y, location, scale)
    return np.log(scale) - _log_density(z, degrees)


def crps(y: FloatArray, location: Values, scale: Values, degrees: Values = np.inf) -> FloatArray:
    """Continuous ranked probability score of each y (N,).

    Raises ValueError for a scale that is not positive, and for degrees of 1 and below, whose score is infinite.
    """
    _check_degrees(degrees, 1)
    z = _standardised(y, location, scale)
    gaussian = np.isinf(degrees)
    nu = np.where(gaussian, 2.0, degrees)
    density = 2 * np.exp(_log_density(z, degrees)) * np.where(gaussian, 1.0, (nu + z**2) / (nu - 1))
    beta_ratio = np.exp(betaln(0.5, nu - 0.5) - 2 * betaln(0.5, nu / 2))
    constant = np.where(gaussian, 1 / np.sqrt(np.pi), 2 * np.sqrt(nu) / (nu - 1) * beta_ratio)
    return scale * (z * (2 * stdtr(degrees, z) - 1) + density - constant)


def pit(y: FloatArray, location: Values, scale: Values, degrees: Values = np.inf) -> FloatArray:
    """Probability integral transform of each y (N,). Raises ValueError for scales or degrees that are not positive."""
    _check_degrees(degrees, 0)
    return stdtr(degrees, _standardised(y, location, scale))


def interval(
    location: Values, scale: Values, degrees: Values = np.inf, coverage: float = 0.9
) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bound of the central interval of probability `coverage`: two arrays of the broadcast shape.

    Raises ValueError for scales or degrees that are not positive, and a coverage outside (0, 1).
    """
    _check_degrees(degrees, 0)
    _check_scale(scale)
    _check_coverage(coverage)
    half = scale * stdtrit(degrees, (1 + coverage) / 2)
    return location - half, location + half


def kolmogorov(pit: FloatArray) -> float:
    """Largest distance between the empirical cdf of the PITs (N,) and that of the uniform distribution.

    Raises ValueError where there is no PIT, or one outside [0, 1] or missing.
    """
    _check_pit(pit)
    ordered = np.sort(pit)
    above = np.arange(1, pit.size + 1) / pit.size - ordered
    # just before each step the empirical cdf is one step lower
    return float(max(above.max(), (1 / pit.size - above).max()))


def covered(pit: FloatArray, coverage: float) -> float:
    """Share of rows within the central interval of probability `coverage`: mean of |PIT - 1/2| <= coverage / 2.

    pit: (N,). Raises ValueError where there is no PIT, or one outside [0, 1] or missing, or a coverage outside (0, 1).
    """
    _check_pit(pit)
    _check_coverage(coverage)
    return float(np.mean(np.abs(pit - 0.5) <= coverage / 2))


def sign_accuracy(y: FloatArray, mean: FloatArray) -> float:
    """Share of rows (N,) whose mean has the sign of y, of those where neither is 0; NaN where there are none."""
    signs = np.sign(y) * np.sign(mean)
    signs = signs[signs != 0]
    return float(np.mean(signs > 0)) if signs.size else np.nan


def rank_correlations(y: FloatArray, mean: FloatArray, group: IntArray) -> FloatArray:
    """Spearman's correlation of y with its mean forecast within each group of rows (a session, say), ties averaged.

    y, mean and group: (N,). Returns (G,) in ascending order of the groups, NaN for a group of fewer than 3 rows and
    one in which y or the mean is constant. Raises ValueError where the three differ in length.
    """
    if not y.shape == mean.shape == group.shape:
        raise ValueError(f"y, mean and group have shapes {y.shape}, {mean.shape} and {group.shape}; pass equal ones")
    order = np.argsort(group, kind="stable")
    starts = np.unique(group[order], return_index=True)[1]
    pairs = np.split(np.stack([y[order], mean[order]]), starts[1:], axis=1) if y.size else []
    return np.array([_spearman(*pair) for pair in pairs])


def _spearman(y: FloatArray, mean: FloatArray) -> float:
    """Correlation of the ranks of one group."""
    if y.size < FEWEST or np.ptp(y) == 0 or np.ptp(mean) == 0:
        return np.nan
    return float(np.corrcoef(_ranks(y), _ranks(mean))[0, 1])


def _ranks(values: FloatArray) -> FloatArray:
    """Places from 1 on, averaged over ties. scipy.stats has them too, and takes a second to import."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _standardised(y: FloatArray, location: Values, scale: Values) -> FloatArray:
    """The z of each row."""
    _check_scale(scale)
    return (y - location) / scale


def _log_density(z: FloatArray, degrees: Values) -> FloatArray:
    """The log density ln f(z) of T."""
    gaussian = np.isinf(degrees)
    nu = np.where(gaussian, 1.0, degrees)
    student = betaln(0.5, nu / 2) + np.log(nu) / 2 + (nu + 1) / 2 * np.log1p(z**2 / nu)
    return -np.where(gaussian, z**2 / 2 + np.log(2 * np.pi) / 2, student)


def _check_scale(scale: Values) -> None:
    """Refuse a distribution without width."""
    if np.any(np.asarray(scale) <= 0):
        raise ValueError(f"scale is {np.nanmin(scale)} at least once; it must be positive")


def _check_degrees(degrees: Values, least: int) -> None:
    """Refuse tails for which the quantity at hand does not exist."""
    if np.any(np.asarray(degrees) <= least):
        raise ValueError(f"degrees is {np.nanmin(degrees)} at least once; it must be above {least}")


def _check_coverage(coverage: float) -> None:
    """Refuse what is no probability of an interval."""
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}; it must be between 0 and 1")


def _check_pit(pit: FloatArray) -> None:
    """Refuse what are no values of a cdf."""
    bad = np.flatnonzero(~((pit >= 0) & (pit <= 1)))
    if bad.size or not pit.size:
        fault = f"{pit[bad[0]]} at row {bad[0]}" if bad.size else "empty"
        raise ValueError(f"pit is {fault}; give the values of a cdf, each in [0, 1]")
