"""How sure one may be of a Sharpe ratio, of the difference of two, and of the best of many.

With e the S excess returns of a session, mean m, standard deviation s (ddof 1), SR = m / s a session's Sharpe ratio,
and skewness g3 and kurtosis g4 (raw, 3 for a Gaussian) of e:

    iid returns      error^2 = (1 - g3 SR + (g4 - 1) / 4 SR^2) / (S - 1)        with g3 = 0, g4 = 3: Lo's 1 + SR^2 / 2
    any returns      error^2 = long-run variance of psi / S,   psi_t = z_t - SR (z_t^2 - 1) / 2,   z_t = (e_t - m) / s
    difference       error^2 = long-run variance of psi_a - psi_b / S, on the same sessions
    probabilistic    PSR(b)  = Phi((SR - b) / error), error that of iid returns
    deflated         DSR     = PSR(b0),   b0 = sqrt(V) ((1 - c) Phi^-1(1 - 1/N) + c Phi^-1(1 - 1/(N e)))

psi is the influence of a session on the ratio, so that its long-run variance (Bartlett's weights, with the lags of
`lags_of` where none are given) is Lo's estimator for returns that depend on each other. b0 is the greatest Sharpe ratio
to expect of N worthless trials whose ratios have the variance V, c Euler's constant; with N = 1 it is 0.

Years until a difference d of annual Sharpe ratios, seen with an error over Y years, is told from 0 at a confidence, if
it stays as it is and the error goes on to fall as 1 / sqrt(years):

    years needed = Y (z error / d)^2,    z = Phi^-1((1 + confidence) / 2)

Sharpe ratios here are those of a session; times sqrt(252), as their errors, they are annual.

Sources: Lo, The Statistics of Sharpe Ratios, Financial Analysts Journal 58(4), 2002; Bailey and Lopez de Prado, The
Sharpe Ratio Efficient Frontier, Journal of Risk 15(2), 2012 (PSR, minimum track record), and The Deflated Sharpe
Ratio, Journal of Portfolio Management 40(5), 2014; Ledoit and Wolf, Robust performance hypothesis testing with the
Sharpe ratio, Journal of Empirical Finance 15(5), 2008 (the difference).
"""
# Shapes: S = sessions.

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from tasks.numerics import statistics
from tasks.numerics.configs import TRADING_DAYS

FloatArray = NDArray[np.float64]

ZERO = 1e-12  # deviations below this are rounding of a constant


def sharpe(excess: FloatArray) -> float:
    """SR of the excess returns (S,); NaN for fewer than two, and for a constant."""
    scale = float(np.std(excess, ddof=1)) if excess.size > 1 else 0.0
    return float(excess.mean()) / scale if scale > ZERO else math.nan


def influence(excess: FloatArray) -> FloatArray:
    """psi: (S,), of mean 0 but for rounding; NaN where the Sharpe ratio is undefined."""
    ratio = sharpe(excess)
    if math.isnan(ratio):
        return np.full(excess.shape, math.nan)
    z = (excess - excess.mean()) / np.std(excess, ddof=1)
    return z - 0.5 * ratio * (z**2 - np.mean(z**2))


def lags_of(sessions: int) -> int:
    """floor(4 (S / 100)^(2/9)): lags of the long-run variance of returns, after Newey and West."""
    return min(int(4 * (sessions / 100) ** (2 / 9)), max(sessions - 1, 0))


def error(excess: FloatArray, lags: int | None = None) -> float:
    """Standard error of the Sharpe ratio of returns that may depend on each other."""
    return _error(influence(excess), lags)


def difference_error(excess: FloatArray, other: FloatArray, lags: int | None = None) -> float:
    """Standard error of the difference of two Sharpe ratios over the same sessions.

    Raises ValueError where the two do not have the same sessions.
    """
    _check_paired(excess, other)
    return _error(influence(excess) - influence(other), lags)


def _check_paired(excess: FloatArray, other: FloatArray) -> None:
    if excess.shape != other.shape or excess.ndim != 1:
        raise ValueError(f"excess has shape {excess.shape} and other {other.shape}; pass both over the same sessions")


def _error(psi: FloatArray, lags: int | None) -> float:
    if np.isnan(psi).any() or psi.size < 2:
        return math.nan
    return statistics.mean_with_error(psi, lags_of(psi.size) if lags is None else lags).error


def iid_error(ratio: float, sessions: int, skewness: float = 0.0, kurtosis: float = 3.0) -> float:
    """Standard error of a Sharpe ratio of independent returns; without moments, of Gaussian ones."""
    if sessions < 2:
        return math.nan
    variance = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    return math.sqrt(variance / (sessions - 1)) if variance > 0 else math.nan


def probabilistic(ratio: float, standard_error: float, benchmark: float = 0.0) -> float:
    """PSR: the probability that the true Sharpe ratio is above the benchmark; NaN without an error."""
    return float(ndtr((ratio - benchmark) / standard_error)) if standard_error > 0 else math.nan


def expected_maximum(trials: int, variance: float) -> float:
    """b0: the greatest Sharpe ratio to expect of worthless trials; 0 for a single one.

    `variance` is that of the trials' Sharpe ratios (ddof 1), in the same unit as the result squared. Raises ValueError
    for fewer than one trial and a negative variance.
    """
    if trials < 1 or not variance >= 0:
        raise ValueError(f"trials is {trials} and variance {variance}; give at least one trial and no negative one")
    if trials == 1:
        return 0.0
    quantiles = ndtri(1.0 - 1.0 / trials), ndtri(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * float((1 - np.euler_gamma) * quantiles[0] + np.euler_gamma * quantiles[1])


def deflated(ratio: float, standard_error: float, trials: int, variance: float) -> float:
    """DSR: the probability that the true Sharpe ratio is above what the best of so many worthless trials would show."""
    return probabilistic(ratio, standard_error, expected_maximum(trials, variance))


def years_needed(difference: float, standard_error: float, years: float, confidence: float = 0.95) -> float:
    """Years of record until the difference, if it stays, is told from 0; NaN where there is none or no error.

    The difference and its error are in the same unit, over a record of `years`.
    """
    if not standard_error > 0 or not abs(difference) > ZERO:
        return math.nan
    return years * (float(ndtri((1 + confidence) / 2)) * standard_error / difference) ** 2


def years_of(sessions: int) -> float:
    """Years of 252 sessions."""
    return sessions / TRADING_DAYS
