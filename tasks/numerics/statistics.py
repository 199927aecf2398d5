"""How sure one may be of a mean whose terms share their sessions, and whose horizons overlap.

The differences d of two forecasts' scores, paired on the same rows, are alike within a session (one market) and from
session to session (labels of H sessions share H - 1 of them). With D_s the sum over session s of d - mean, S sessions
and N rows,

    mean = sum d / N,   error^2 = S / (S - 1) [gamma_0 + 2 sum_{k=1..L} (1 - k / (L + 1)) gamma_k] / N^2,
    gamma_k = sum_s D_s D_{s+k}

so that sessions count by their rows. Bartlett's weights understate the correlation within the horizon: for labels
that overlap by H = 21 sessions, L = H - 1 finds two thirds of the variance, L = 3 H nine tenths. On 1,000 to 4,000
simulated sessions the 95 % interval then holds the truth in 87-89 % and 91-93 % of cases, and that of the quarters'
bootstrap in 89-92 %: choose L = 3 H, and read a t-value of 2 as a hint.

What is undefined, an error from one session or a t-value without error, is NaN.

Sources: Newey and West, A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent
covariance matrix, Econometrica 55(3), 1987; Driscoll and Kraay, Consistent covariance matrix estimation with
spatially dependent panel data, Review of Economics and Statistics 80(4), 1998 (sums of each date).
"""
# Shapes: N = rows (an asset at a session each), S = distinct sessions, Q = distinct quarters.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Estimate(NamedTuple):
    """A mean and what is known of it."""

    mean: float
    error: float  # standard error
    lower: float  # of the normal interval
    upper: float
    t: float  # mean / error


def paired(difference: FloatArray, session: IntArray, lags: int, confidence: float = 0.95) -> Estimate:
    """Mean over rows of paired differences, with an error by Newey and West over the sessions' sums.

    difference: (N,). session: (N,) integers that ascend with time; lags count the distinct ones among them.
    Raises ValueError where the two differ in length, are empty or not finite, lags are not in 0 ... S - 1, or the
    confidence is not in (0, 1).
    """
    _check(difference, session, "session")
    _check_confidence(confidence)
    _, position = np.unique(session, return_inverse=True)
    mean = difference.mean()
    return _estimate(mean, np.bincount(position, weights=difference - mean), difference.size, lags, confidence)


def mean_with_error(values: FloatArray, lags: int = 0, confidence: float = 0.95) -> Estimate:
    """Mean of a series (N,) without its NaNs: independent values (months) with 0 lags, else overlapping (sessions).

    With 0 lags the error is the standard deviation (ddof 1) over sqrt(N). Lags count the values that remain.
    All are NaN where none remains. Raises ValueError for an infinite value, lags that are not in 0 ... N - 1, and a
    confidence that is not in (0, 1).
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return Estimate(*[np.nan] * 5)
    _check(known, known, "value")
    _check_confidence(confidence)
    mean = known.mean()
    return _estimate(mean, known - mean, known.size, lags, confidence)


def _estimate(mean: float, totals: FloatArray, rows: int, lags: int, confidence: float) -> Estimate:
    """The estimate of a mean over `rows`, of whose differences from it each session's are summed to `totals` (S,)."""
    if not 0 <= lags < totals.size:
        raise ValueError(f"lags is {lags}; {totals.size} sessions allow 0 to {totals.size - 1}")
    error = np.nan
    if totals.size > 1:
        error = np.sqrt(totals.size / (totals.size - 1) * _long_run(totals, lags)) / rows
    half = ndtri((1 + confidence) / 2) * error
    t = mean / error if error > 0 else np.nan
    return Estimate(*(float(value) for value in (mean, error, mean - half, mean + half, t)))


def quarter_bootstrap(
    difference: FloatArray,
    quarter: IntArray,
    generator: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of the mean over rows when whole quarters are drawn with replacement: (lower, upper) percentiles.

    A draw's mean is the sum of its differences over the number of its rows. difference: (N,). quarter: (N,) one
    integer for each calendar quarter. One quarter alone gives NaN. Raises ValueError where the two differ in length,
    are empty or not finite, there is no draw, or the confidence is not in (0, 1).
    """
    _check(difference, quarter, "quarter")
    _check_confidence(confidence)
    if draws < 1:
        raise ValueError(f"draws is {draws}; an interval needs at least 1, better 2000")
    distinct, position = np.unique(quarter, return_inverse=True)
    if distinct.size < 2:
        return np.nan, np.nan
    totals, rows = np.bincount(position, weights=difference), np.bincount(position)
    drawn = generator.integers(0, distinct.size, size=(draws, distinct.size))
    means = totals[drawn].sum(axis=1) / rows[drawn].sum(axis=1)
    lower, upper = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)


def _long_run(totals: FloatArray, lags: int) -> float:
    """gamma_0 + 2 sum_k (1 - k / (lags + 1)) gamma_k of the totals (S,); not negative, by Bartlett's weights."""
    variance = totals @ totals
    for k in range(1, lags + 1):
        variance += 2 * (1 - k / (lags + 1)) * (totals[k:] @ totals[:-k])
    # rounding alone can take a sum of zeros below zero
    return max(float(variance), 0.0)


def _check(difference: FloatArray, label: IntArray, name: str) -> None:
    """Refuse differences of which there is no mean."""
    if difference.shape != label.shape or difference.ndim != 1:
        raise ValueError(f"difference has shape {difference.shape} and {name} {label.shape}; pass one of each a row")
    bad = np.flatnonzero(~np.isfinite(difference))
    if bad.size or not difference.size:
        fault = f"{difference[bad[0]]} at row {bad[0]}" if bad.size else "empty"
        raise ValueError(f"difference is {fault}; a mean needs at least one row, and each finite")


def _check_confidence(confidence: float) -> None:
    """Refuse what is no probability of an interval."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be between 0 and 1")
