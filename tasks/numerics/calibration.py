"""How a forecaster's volatility has to be rescaled, and whether it is to be trusted, by its last known outcomes.

A forecast claims that y lies in mean +- q s with probability `coverage`, s the scale of its distribution and q that
distribution's quantile. Over the rows of the K last dates whose outcomes are known, sigma is rescaled by

    factor = clip( quantile_coverage( |y - mean| / (q s) ) ^ (K / (K + prior)), lowest, highest )

the ratio that would have made the intervals hold as often as they claim, drawn towards 1 the fewer dates there are:
rows of one date share a market and count as one. The forecaster is worse than its baseline, EWMA about the pooled
mean, where its mean negative log likelihood is higher, each as a Gaussian of its moments and each with the whole ratio
that its own past asks for: what can be mended by one number is not held against either.

Sources: Kuleshov, Fenner and Ermon, Accurate uncertainties for deep learning using calibrated regression, ICML 2018
(recalibration on past outcomes); Vovk, Gammerman and Shafer, Algorithmic learning in a random world, 2005 (its quantile
of absolute scores).
"""
# Shapes: N = rows, an asset at a date.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import scores
from tasks.numerics.configs import CalibrationConfig

FloatArray = NDArray[np.float64]
_ROUNDING = 1e-9  # nats
_LEAST = 1e-6  # ratio, where outcomes equal their means


class Past(NamedTuple):
    """Past forecasts with known outcomes, and the baseline's beside them."""

    outcome: FloatArray  # (N,) log return over the horizon
    mean: FloatArray  # (N,)
    variance: FloatArray  # (N,)
    scale: FloatArray  # (N,) of the claimed distribution
    degrees: FloatArray  # (N,) infinite where it is Gaussian
    label_mean: FloatArray  # (N,) the baseline's mean
    baseline: FloatArray  # (N,) and variance


class Verdict(NamedTuple):
    """What the past says of a forecaster."""

    factor: float  # of its volatility
    covered: float  # share of outcomes within its intervals as they were
    score: float  # mean negative log likelihood with the whole ratio that the past asks for
    baseline_score: float  # of the baseline with its own

    @property
    def is_worse(self) -> bool:
        """Whether the forecaster scored worse than its baseline."""
        return self.score > self.baseline_score + _ROUNDING


def judge(past: Past, dates: int, config: CalibrationConfig) -> Verdict:
    """The verdict of past rows (N,) of `dates` dates, N at least 1.

    The baseline has the tails of the forecaster: a distribution of its own is not known of it.
    """
    sigma, base = np.sqrt(past.variance), np.sqrt(past.baseline)
    quantile = scores.interval(0.0, past.scale / sigma, past.degrees, config.coverage)[1]  # per unit of sigma
    inside = np.abs(past.outcome - past.mean) <= quantile * sigma
    own = _ratio(past.outcome - past.mean, quantile * sigma, config.coverage)
    theirs = _ratio(past.outcome - past.label_mean, quantile * base, config.coverage)
    factor = own ** (dates / (dates + config.prior))
    return Verdict(
        factor=float(np.clip(factor, config.lowest_factor, config.highest_factor)),
        covered=float(np.mean(inside)),
        score=_score(past.outcome, past.mean, own * sigma),
        baseline_score=_score(past.outcome, past.label_mean, theirs * base),
    )


def _ratio(error: FloatArray, half: FloatArray, coverage: float) -> float:
    """What half widths (N,) have to be multiplied by, so that the errors (N,) stay within them as often as claimed."""
    return max(float(np.quantile(np.abs(error) / half, coverage)), _LEAST)


def _score(outcome: FloatArray, mean: FloatArray, sigma: FloatArray) -> float:
    return float(scores.negative_log_likelihood(outcome, mean, sigma).mean())
