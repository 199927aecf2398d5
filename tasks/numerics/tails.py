"""How heavy the tails of past residuals are: the Student-t that fits them best, about 0.

A residual r = (y - mean) / sigma is known only after its horizon; the caller passes those of the past. The
forecast of y then becomes Student-t with location = mean, scale = sigma x `scale`, and `degrees`: the variance that
the forecast claimed is corrected and its tails are thickened, its mean is left alone.
"""
# Shapes: N = residuals, all assets and sessions pooled.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, digamma

FloatArray = NDArray[np.float64]

FEWEST = 30  # residuals
DEGREES = (2.5, 100.0)  # a variance must exist; above, nothing tells it from a Gaussian
START = (0.8, 6.0)  # scale over the median of |r|, degrees
# both far below the statistical error, above that of the sums
OPTIONS = {"ftol": 1e-15, "gtol": 1e-9}


class Tails(NamedTuple):
    """A Student-t about 0, in units of the forecast's sigma."""

    degrees: float  # in [2.5, 100]
    scale: float


GAUSSIAN = Tails(np.inf, 1.0)


def of(residuals: FloatArray) -> Tails:
    """Tails of residuals, those of a Gaussian where there are too few to tell."""
    return fit(residuals) if residuals.size >= FEWEST else GAUSSIAN


def fit(residuals: FloatArray) -> Tails:
    """Maximum likelihood of a Student-t about 0.

        argmin_{s, nu}  ln s + ln B(1/2, nu/2) + ln(nu)/2 + (nu + 1)/2 mean ln(1 + r^2 / (nu s^2)),   2.5 <= nu <= 100

    residuals: (N,). Solved in (ln s, ln nu) by L-BFGS-B, from the same start in units of the median of |r|: the
    answer scales with the residuals. Raises ValueError for fewer than 30 residuals, one that is not finite, and
    residuals of which half are 0, as a distribution with a density has no such sample.
    Source: Lange, Little and Taylor, Robust statistical modeling using the t distribution, JASA 84(408), 1989.
    """
    bad = np.flatnonzero(~np.isfinite(residuals))
    if bad.size:
        raise ValueError(f"residuals[{bad[0]}] is {residuals[bad[0]]}; pass only those that are known")
    if residuals.size < FEWEST:
        raise ValueError(f"{residuals.size} residuals are known; their tails need at least {FEWEST}")
    unit = float(np.median(np.abs(residuals)))
    if unit == 0:
        zeros = np.count_nonzero(residuals == 0)
        raise ValueError(f"{zeros} of {residuals.size} residuals are 0; fewer than half may be")
    bounds = [(None, None), tuple(np.log(DEGREES))]
    squares = (residuals / unit) ** 2
    found = minimize(_loss, np.log(START), (squares,), "L-BFGS-B", jac=True, bounds=bounds, options=OPTIONS)
    scale, degrees = np.exp(found.x)
    return Tails(float(np.clip(degrees, *DEGREES)), unit * float(scale))


def _loss(point: FloatArray, squares: FloatArray) -> tuple[float, FloatArray]:
    """Mean negative log likelihood at (ln s, ln nu), and its gradient (2,)."""
    nu = np.exp(point[1])
    ratio = squares * np.exp(-2 * point[0]) / nu  # r^2 / (nu s^2)
    log_mean = np.mean(np.log1p(ratio))
    share = np.mean(ratio / (1 + ratio))
    loss = point[0] + betaln(0.5, nu / 2) + point[1] / 2 + (nu + 1) / 2 * log_mean
    by_nu = (digamma(nu / 2) - digamma((nu + 1) / 2) + 1 / nu + log_mean - (nu + 1) / nu * share) / 2
    return float(loss), np.array([1 - (nu + 1) * share, nu * by_nu])
