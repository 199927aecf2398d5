"""The cone of a track record: where forecasts said that wealth would be with 90 % probability.

With m and s^2 the mean and variance that forecasts gave the simple return over a horizon of H sessions, each
session adds m / H - s^2 / (2 H) to the expected log wealth and s^2 / H to its variance. From the wealth at which it
begins, k sessions on,

    middle = W exp(sum of drifts),    lower, upper = middle exp(-+ z sqrt(sum of variances)),    z = 1.645

Sessions are taken as independent and log returns as Gaussian. Where no forecast was in force there is no cone, and the
next one begins anew from the wealth then.
"""
# Shapes: S = sessions.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_Z = 1.6448536269514722  # 95 % quantile of the standard normal distribution


class Cone(NamedTuple):
    """Wealth at each session; NaN where there is no forecast."""

    lower: FloatArray  # (S,)
    middle: FloatArray  # (S,)
    upper: FloatArray  # (S,)


def cone(wealth: FloatArray, mean: FloatArray, variance: FloatArray) -> Cone:
    """The cone of `wealth` (S,), given what was forecast for each session, (S,), in fractions; NaN for nothing.

    A cone begins at the session before the first forecast; one for the first session begins at wealth 1.
    """
    middle, spread = np.full(wealth.size, np.nan), np.full(wealth.size, np.nan)
    drift, total, start = 0.0, 0.0, 1.0
    for t in range(wealth.size):
        if np.isnan(mean[t]):
            drift, total, start = 0.0, 0.0, float(wealth[t])
            continue
        drift, total = drift + mean[t] - variance[t] / 2, total + variance[t]
        middle[t], spread[t] = start * np.exp(drift), np.exp(_Z * np.sqrt(total))
    return Cone(middle / spread, middle, middle * spread)
