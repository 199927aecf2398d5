"""Whether a forecast's correction of the EWMA baseline is kept, by what it was worth on past dates.

With B the baseline's variance and m0 its mean, a forecast (m, v) is shrunk by k in [0, 1] to

    mean = m0 + k (m - m0),   ln variance = ln B + k (ln v - ln B)

k is 1 as long as the forecasts scored no worse than the baseline; else the k of a grid that would have scored best.
"""
# Shapes: N = rows, an asset at a date.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import scores

FloatArray = NDArray[np.float64]
GRID = np.linspace(0, 1, 11)
EXACTLY = 24  # past dates with known outcomes that a gate looks at


class Gate(NamedTuple):
    """How much of the correction is kept, and the scores that say so."""

    kept: float
    score: float  # mean negative log likelihood of the forecasts
    baseline_score: float


def judge(
    outcome: FloatArray, mean: FloatArray, variance: FloatArray, label_mean: FloatArray, baseline: FloatArray
) -> Gate:
    """The gate that past rows (N,) give: outcomes, forecasts, and the baseline's mean and variance."""

    def score(kept: float) -> float:
        return _score(outcome, *shrunk(kept, mean, variance, label_mean, baseline))

    own, theirs = score(1.0), score(0.0)
    kept = 1.0 if own <= theirs else float(min(GRID, key=score))
    return Gate(kept, own, theirs)


def shrunk(
    kept: float, mean: FloatArray, variance: FloatArray, label_mean: FloatArray, baseline: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of the forecasts (N,) with a part of the correction kept."""
    return label_mean + kept * (mean - label_mean), baseline * (variance / baseline) ** kept


def _score(outcome: FloatArray, mean: FloatArray, variance: FloatArray) -> float:
    return float(scores.negative_log_likelihood(outcome, mean, np.sqrt(variance)).mean())
