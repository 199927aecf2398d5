"""The four baselines that are the solution of a problem, by name, long only and fully invested, through skfolio.

With C the covariance, m the mean and f the risk-free return, all over the same horizon, and w in the simplex:

    minimum_variance            min w'Cw
    maximum_sharpe              max (m - f)'w / sqrt(w'Cw)
    risk_parity                 w_i (Cw)_i = w'Cw / n  for each i
    hierarchical_risk_parity    the order of a cluster tree, halved again and again, each half by its inverse variance

All but the last are convex, and their answers come with a gap, zero at the optimum and without units: the slope of
the best single trade, w'Cw - min_i (Cw)_i as a part of the assets' mean variance, or
max_i [(m_i - f) / (m - f)'w - (Cw)_i / w'Cw]; and the largest |n w_i (Cw)_i / w'Cw - 1|. A solver's own word that its
answer is inaccurate is left aside for it.

Sources: Markowitz, Portfolio selection, Journal of Finance 7(1), 1952; Maillard, Roncalli and Teiletche, The
properties of equally weighted risk contribution portfolios, Journal of Portfolio Management 36(4), 2010; Lopez de
Prado, Building diversified portfolios that outperform out of sample, Journal of Portfolio Management 42(4), 2016.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skfolio import RiskMeasure
from skfolio.distance import CovarianceDistance
from skfolio.exceptions import OptimizationError
from skfolio.moments import LedoitWolf, ShrunkMu, ShrunkMuMethods
from skfolio.optimization import HierarchicalRiskParity, MeanRisk, ObjectiveFunction, RiskBudgeting
from skfolio.prior import BasePrior, ReturnDistribution

from tasks.numerics.configs import OPTIMISED_BASELINES

FloatArray = NDArray[np.float64]
Model = MeanRisk | RiskBudgeting | HierarchicalRiskParity

TOLERANCES = (1e-12, 1e-9)  # of the interior-point solver; where the first goes too far the second does better
NEAR = 1e-6  # a gap with which the first is content
LARGEST_GAP = 1e-4  # beyond it an answer is refused
DUST = 1e-8  # smaller weights are what an interior point leaves of zero
# one factorisation, on one thread: another would give other bytes
_SOLVER = {"direct_solve_method": "qdldl", "max_threads": 1}
_GAPS = ("tol_gap_abs", "tol_gap_rel", "tol_feas")


class Portfolio(NamedTuple):
    """Weights, and how far they are from the optimum."""

    weights: FloatArray  # (n,) not negative, with sum 1
    gap: float | None  # see the module; None where the method optimises nothing


class _Known(BasePrior):
    """The library's prior whose mean and covariance are known already."""

    def __init__(self, mean: FloatArray, covariance: FloatArray) -> None:
        self.mean = mean
        self.covariance = covariance

    def fit(self, X: FloatArray, y: None = None, **_: None) -> "_Known":
        """Take the moments; X only counts the assets."""
        self.return_distribution_ = ReturnDistribution(self.mean, self.covariance, np.asarray(X))
        return self


def solve(method: str, mean: FloatArray, covariance: FloatArray, risk_free: float = 0.0) -> Portfolio:
    """The portfolio of a method from `mean` (n,), `covariance` (n, n) and `risk_free`, all over the same horizon.

    Only `maximum_sharpe` looks at `mean` and `risk_free`. Raises ValueError for a method that is none of the four,
    moments that are not finite, an asset without variance, no mean above the risk-free return where one is needed,
    and an answer that the solver did not reach.
    """
    _check(method, mean, covariance)
    scale = np.sqrt(np.trace(covariance) / mean.size)  # the answer has no units, the solver's tolerances have
    excess, unit = (mean - risk_free) / scale, covariance / scale**2
    if method == "maximum_sharpe" and excess.max() <= 0:
        raise ValueError(f"the largest mean, {mean.max():.4g}, is not above the risk-free return, {risk_free:.4g}")
    if mean.size == 1:
        return Portfolio(np.ones(1), 0.0)
    found = [_attempt(method, excess, unit, TOLERANCES[0])]
    if found[0].gap is not None and not found[0].gap <= NEAR:
        found.append(_attempt(method, excess, unit, TOLERANCES[1]))
    best = min(found, key=lambda one: one.gap or 0.0)
    if best.gap is not None and not best.gap <= LARGEST_GAP:
        raise ValueError(f"{method} was not solved: its answer is {best.gap:.1e} from the optimum")
    return best


def _attempt(method: str, excess: FloatArray, covariance: FloatArray, tolerance: float) -> Portfolio:
    """The library's answer; one with an infinite gap where it has none."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            found = _model(method, excess, covariance, tolerance).fit(np.zeros((2, excess.size))).weights_
    except (OptimizationError, ValueError, np.linalg.LinAlgError):
        return Portfolio(np.full(excess.size, np.nan), np.inf)
    weights = np.where(found > DUST, found, 0.0)
    weights /= weights.sum()
    return Portfolio(weights, _gap(method, weights, excess, covariance))


def shrunk_mean(returns: FloatArray) -> FloatArray:
    """Means of `returns` (T, n), a session's each, shrunk to their common mean as Bayes and Stein would: (n,).

    Source: Jorion, Bayes-Stein estimation for portfolio analysis, Journal of Financial and Quantitative Analysis
    21(3), 1986; with Ledoit and Wolf's covariance, which can be inverted. Raises ValueError where it cannot.
    """
    estimator = ShrunkMu(covariance_estimator=LedoitWolf(), method=ShrunkMuMethods.BAYES_STEIN)
    try:
        return estimator.fit(returns).mu_
    except np.linalg.LinAlgError as error:
        raise ValueError(f"the mean cannot be shrunk: {error}") from error


def _check(method: str, mean: FloatArray, covariance: FloatArray) -> None:
    """Refuse what no portfolio can be made of."""
    if covariance.shape != (mean.size, mean.size) or not mean.size:
        raise ValueError(f"mean has shape {mean.shape} and covariance {covariance.shape}; give (n,) and (n, n), n >= 1")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("mean or covariance is not finite; leave out assets without returns")
    still = np.flatnonzero(np.diag(covariance) <= 0)
    if still.size:
        raise ValueError(f"asset {still[0]} has no variance; leave it out")
    if method not in OPTIMISED_BASELINES:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(OPTIMISED_BASELINES)}")


def _model(method: str, excess: FloatArray, covariance: FloatArray, tolerance: float) -> Model:
    """The library's estimator of one method."""
    prior, solver = _Known(excess, covariance), _SOLVER | dict.fromkeys(_GAPS, tolerance)
    if method == "risk_parity":
        return RiskBudgeting(RiskMeasure.VARIANCE, prior_estimator=prior, solver_params=solver)
    if method == "minimum_variance":
        return MeanRisk(risk_measure=RiskMeasure.VARIANCE, prior_estimator=prior, solver_params=solver)
    if method == "maximum_sharpe":
        most = ObjectiveFunction.MAXIMIZE_RATIO
        return MeanRisk(most, RiskMeasure.STANDARD_DEVIATION, prior_estimator=prior, solver_params=solver)
    distance = CovarianceDistance("precomputed")
    return HierarchicalRiskParity(risk_measure=RiskMeasure.VARIANCE, prior_estimator=prior, distance_estimator=distance)


def _gap(method: str, weights: FloatArray, excess: FloatArray, covariance: FloatArray) -> float | None:
    """How far the weights are from the optimum; see the module."""
    marginal = covariance @ weights
    variance = weights @ marginal
    if method == "minimum_variance":
        return float(variance - marginal.min())
    if method == "maximum_sharpe":
        return float((excess / (excess @ weights) - marginal / variance).max())
    if method == "risk_parity":
        return float(np.abs(weights.size * weights * marginal / variance - 1).max())
    return None
