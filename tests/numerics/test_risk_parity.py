"""Risk parity: equal contributions to risk, whatever the covariance, within a config's limits."""

import numpy as np
import pytest

from tasks.numerics import constraints, risk_parity
from tasks.numerics.configs import ReturnDrawdownConfig


def covariance(n, seed, factors=3, noise=0.5):
    """A covariance with common factors and volatilities that differ up to 30-fold."""
    rng = np.random.default_rng(seed)
    loading = rng.normal(size=(n, factors)) + 0.5
    sigma = np.exp(rng.uniform(-4.5, -1, n))
    made = loading @ loading.T + noise * np.eye(n)
    scale = sigma / np.sqrt(np.diag(made))
    return made * np.outer(scale, scale)


@pytest.mark.parametrize("n", [1, 2, 3, 20, 109, 500])
@pytest.mark.parametrize("noise", [0.05, 0.5, 50.0])
def test_every_asset_contributes_the_same_share_of_the_variance(n, noise):
    matrix = covariance(n, n, noise=noise)
    found = risk_parity.weights(matrix)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert found.min() > 0
    np.testing.assert_allclose(n * risk_parity.contributions(found, matrix), 1, atol=1e-10)


@pytest.mark.long
def test_it_agrees_with_skfolios_risk_budgeting():
    from skfolio import RiskMeasure
    from skfolio.moments import EmpiricalCovariance
    from skfolio.optimization import RiskBudgeting
    from skfolio.prior import EmpiricalPrior

    returns = np.random.default_rng(0).normal(size=(300, 12)) @ np.linalg.cholesky(covariance(12, 5)).T
    prior = EmpiricalPrior(covariance_estimator=EmpiricalCovariance(nearest=False))
    theirs = RiskBudgeting(risk_measure=RiskMeasure.VARIANCE, prior_estimator=prior).fit(returns).weights_
    np.testing.assert_allclose(risk_parity.weights(np.cov(returns.T)), theirs, atol=1e-5)


def test_without_correlation_weights_are_inverse_volatilities_and_two_assets_always_are():
    sigma = np.array([0.1, 0.02, 0.3, 0.05])
    np.testing.assert_allclose(risk_parity.weights(np.diag(sigma**2)), (1 / sigma) / (1 / sigma).sum(), rtol=1e-12)
    pair = np.array([[0.04, -0.0099], [-0.0099, 0.0025]])
    np.testing.assert_allclose(risk_parity.weights(pair), [0.05 / 0.25, 0.2 / 0.25], rtol=1e-10)


def test_a_common_factor_on_all_volatilities_changes_nothing():
    matrix = covariance(20, 3)
    np.testing.assert_allclose(risk_parity.weights(1.7**2 * matrix), risk_parity.weights(matrix), rtol=1e-9)


def test_a_singular_covariance_has_an_answer_where_all_portfolios_have_risk():
    matrix = covariance(30, 4, factors=3, noise=0.0) + 0.2 * np.outer(*[np.sqrt(np.diag(covariance(30, 4)))] * 2)
    assert np.linalg.matrix_rank(matrix) < 30
    found = risk_parity.weights(matrix)
    np.testing.assert_allclose(30 * risk_parity.contributions(found, matrix), 1, atol=1e-10)


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (np.ones((2, 3)), r"covariance has shape \(2, 3\)"),
        (np.array([[1.0, 0.0], [0.0, np.nan]]), "not finite in column 1"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "the variance of asset 1 is 0.0"),
        (np.array([[1.0, -1.0], [-1.0, 1.0]]), "a portfolio of all assets have no risk"),
    ],
)
def test_what_has_no_risk_parity_is_refused(matrix, said):
    with pytest.raises(ValueError, match=said):
        risk_parity.weights(matrix)


SECTORS = tuple("ABCD"[place % 4] for place in range(20))
LIMITS = {
    "cap": {"max_weight": 0.07},
    "sector": {"max_sector_weight": 0.26},
    "both": {"max_weight": 0.08, "sector_caps": "A=0.1"},
    "minimum": {"min_weight": 0.04},
    "turnover": {"turnover_limit": 0.1},
    "all": {"max_weight": 0.12, "max_sector_weight": 0.3, "min_weight": 0.02, "turnover_limit": 0.2},
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_of_the_allocator_are_kept(name):
    config, held = ReturnDrawdownConfig(**LIMITS[name]), np.full(20, 0.05)
    free = risk_parity.weights(covariance(20, 8))
    found = risk_parity.within(free, config, SECTORS, held)
    limits = constraints.limits(config, np.ones(20, bool), SECTORS, held)
    assert constraints.violation(limits, found) <= constraints.TOLERANCE
    assert np.abs(found - free).max() > 1e-3
    positive = found[found > 0]
    assert positive.min() >= config.min_weight - 1e-12


def test_weights_that_keep_the_limits_are_left_alone():
    free = risk_parity.weights(covariance(20, 8))
    config = ReturnDrawdownConfig(max_weight=float(free.max()) + 1e-6)
    assert np.array_equal(risk_parity.within(free, config, SECTORS), free)
