"""What a forecaster was worth on known outcomes, beside others on the same rows.

Moments are scored as a Gaussian, so that forecasters of a mean and a variance compare; the distribution that a
forecaster claims with its tails is scored beside that. Differences are paired by row, with an interval from the
sessions' sums (HAC) and one from whole quarters (bootstrap).
"""
# Shapes: N = rows, an asset at a session each.

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import scores, statistics
from tasks.numerics.statistics import Estimate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

COVERAGES = (0.5, 0.9, 0.95)
LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))  # of the reliability curve
BINS = 20  # of the histogram of PITs


class Candidate(NamedTuple):
    """A forecaster's rows; tails of a Gaussian where it claims none."""

    mean: FloatArray  # (N,)
    variance: FloatArray  # (N,)
    degrees: FloatArray | float = math.inf
    tail: FloatArray | float = 1.0  # scale over sqrt(variance)

    def scale(self) -> FloatArray:
        """Scale of the claimed distribution: (N,)."""
        return self.tail * np.sqrt(self.variance)

    def some(self, which: NDArray[np.bool_]) -> "Candidate":
        """The rows in `which` (N,)."""
        return Candidate(*(value[which] if isinstance(value, np.ndarray) else value for value in self))


def gaussian_nll(y: FloatArray, own: Candidate) -> FloatArray:
    """Negative log likelihood of the moments as a Gaussian: (N,)."""
    return scores.negative_log_likelihood(y, own.mean, np.sqrt(own.variance))


def gaussian_crps(y: FloatArray, own: Candidate) -> FloatArray:
    """CRPS of the moments as a Gaussian: (N,)."""
    return scores.crps(y, own.mean, np.sqrt(own.variance))


def pits(y: FloatArray, own: Candidate) -> FloatArray:
    """Probability that the claimed distribution gave to outcomes below y: (N,)."""
    return scores.pit(y, own.mean, own.scale(), own.degrees)


def measures(y: FloatArray, session: IntArray, own: Candidate, lags: int) -> dict[str, float]:
    """Mean scores, calibration, and what the means are worth; lags of the rank correlation's error, in sessions."""
    found = pits(y, own)
    values = {
        "nll": gaussian_nll(y, own).mean(),
        "crps": gaussian_crps(y, own).mean(),
        "nll_with_tails": scores.negative_log_likelihood(y, own.mean, own.scale(), own.degrees).mean(),
        "crps_with_tails": scores.crps(y, own.mean, own.scale(), own.degrees).mean(),
        "pit_distance": scores.kolmogorov(found),
        "sign_accuracy": scores.sign_accuracy(y, own.mean),
        "positive": (y > 0).mean(),
    }
    values |= {f"covers_{100 * share:.0f}": scores.covered(found, share) for share in COVERAGES}
    ranked = scores.rank_correlations(y, own.mean, session)
    known = int(np.isfinite(ranked).sum())
    skill = statistics.mean_with_error(ranked, min(lags, max(known - 1, 0)))
    return {name: float(value) for name, value in values.items()} | {
        "rank_ic": skill.mean,
        "rank_ic_error": skill.error,
    }


def reliability(y: FloatArray, own: Candidate) -> dict[float, float]:
    """Share of outcomes in the central interval of each level: equal to the level if the forecasts are right."""
    found = pits(y, own)
    return {level: scores.covered(found, level) for level in LEVELS}


def histogram(y: FloatArray, own: Candidate) -> FloatArray:
    """Share of the PITs in each of BINS equal bins: flat if the forecasts are right."""
    counts, _ = np.histogram(pits(y, own), bins=BINS, range=(0, 1))
    return counts / y.size


def paired(difference: FloatArray, session: IntArray, quarter: IntArray, lags: int) -> tuple[Estimate, Estimate]:
    """A mean difference of scores with its interval by HAC, and the same by a bootstrap over quarters."""
    sessions = np.unique(session).size
    by_session = statistics.paired(difference, session, min(lags, sessions - 1))
    lower, upper = statistics.quarter_bootstrap(difference, quarter, np.random.default_rng(0))
    return by_session, Estimate(by_session.mean, math.nan, lower, upper, math.nan)
