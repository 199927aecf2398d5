"""The optimised baselines: published weights, closed forms, and the library on the returns themselves."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks import portfolios
from tasks.numerics.configs import OPTIMISED_BASELINES

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "close_only" / "pypfopt_20_1989_2018.parquet"
PUBLISHED = {"GOOG": 0.03835, "AAPL": 0.0689, "FB": 0.20603, "BABA": 0.07315, "AMZN": 0.04033, "BBY": 0.01324}
PUBLISHED |= {"MA": 0.35349, "PFE": 0.1957, "SBUX": 0.01082}
TWO = np.array([[0.04, 0.006], [0.006, 0.09]])


@pytest.fixture(scope="module")
def returns():
    """A year of twelve assets with one common factor."""
    rng = np.random.default_rng(5)
    loadings = rng.uniform(0.5, 1.5, 12)
    return rng.normal(5e-4, 0.01, (252, 1)) * loadings + rng.normal(0, 0.012, (252, 12)) * loadings


@pytest.mark.skipif(not DATA.exists(), reason="the shared market data are not beside the repository")
def test_the_published_weights_of_maximum_sharpe_are_found():
    prices = pd.read_parquet(DATA).pivot(index="date", columns="ticker", values="adj_close")
    daily = prices.pct_change(fill_method=None)
    mean, covariance = (1 + daily).prod() ** (252 / daily.count()) - 1, 252 * daily.cov()
    weights, gap = portfolios.solve("maximum_sharpe", mean.to_numpy(), covariance.to_numpy(), 0.02)
    found = pd.Series(weights, mean.index)
    # to the printed digits: BBY's is .013235 here, a rounding away from the .01324 printed
    pd.testing.assert_series_equal(found, pd.Series(PUBLISHED).reindex(found.index, fill_value=0), atol=6e-6, rtol=0)
    assert set(found[found > 0].index) == set(PUBLISHED)
    volatility = (weights @ covariance.to_numpy() @ weights) ** 0.5
    measured = weights @ mean, volatility, (weights @ mean - 0.02) / volatility
    assert measured == pytest.approx((0.3048, 0.2217, 1.285), abs=5e-4)
    assert gap < 1e-6


@pytest.mark.parametrize("method", OPTIMISED_BASELINES)
def test_weights_are_long_only_sum_to_one_have_no_units_and_repeat(method, returns):
    mean, covariance = 252 * returns.mean(axis=0), 252 * np.cov(returns.T)
    weights, gap = portfolios.solve(method, mean, covariance, 0.02)
    assert weights.min() >= 0
    assert abs(weights.sum() - 1) < 1e-14
    daily = portfolios.solve(method, mean / 252, covariance / 252, 0.02 / 252).weights
    np.testing.assert_allclose(daily, weights, atol=1e-7)
    np.testing.assert_array_equal(portfolios.solve(method, mean, covariance, 0.02).weights, weights)
    assert (gap is None) == (method == "hierarchical_risk_parity")
    assert gap is None or gap < 1e-6


@pytest.mark.parametrize(
    ("method", "estimator"),
    [
        ("risk_parity", "RiskBudgeting()"),
        ("minimum_variance", "MeanRisk()"),
        ("hierarchical_risk_parity", "HierarchicalRiskParity()"),
        ("maximum_sharpe", "MeanRisk(ObjectiveFunction.MAXIMIZE_RATIO, RiskMeasure.STANDARD_DEVIATION)"),
    ],
)
def test_they_are_the_librarys_own_on_the_same_returns(method, estimator, returns):
    from skfolio import RiskMeasure
    from skfolio import optimization as library

    expected = eval(estimator, vars(library) | {"RiskMeasure": RiskMeasure}).fit(returns).weights_
    found = portfolios.solve(method, returns.mean(axis=0), np.cov(returns.T)).weights
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_two_assets_in_closed_form():
    inverse = np.linalg.inv(TWO)
    smallest = inverse.sum(axis=1) / inverse.sum()
    mean = np.array([0.08, 0.1])
    tangent = inverse @ (mean - 0.02) / (inverse @ (mean - 0.02)).sum()
    expected = {
        "minimum_variance": smallest,
        "maximum_sharpe": tangent,
        "risk_parity": np.array([0.6, 0.4]),  # 1 / volatility
        "hierarchical_risk_parity": np.array([9, 4]) / 13,  # 1 / variance
    }
    for method, weights in expected.items():
        np.testing.assert_allclose(portfolios.solve(method, mean, TWO, 0.02).weights, weights, atol=1e-7)


def test_only_one_method_looks_at_means():
    for method in OPTIMISED_BASELINES[:3]:
        one, other = (portfolios.solve(method, mean, TWO, 0.02) for mean in (np.zeros(2), np.array([-0.3, 0.2])))
        np.testing.assert_array_equal(one.weights, other.weights)


@pytest.mark.parametrize("method", OPTIMISED_BASELINES)
def test_one_asset_is_held_whole_and_two_alike_are_held_alike(method):
    assert portfolios.solve(method, np.array([0.1]), np.array([[0.04]]), 0.02) == (np.ones(1), 0.0)
    alike = portfolios.solve(method, np.full(2, 0.1), np.full((2, 2), 0.04), 0.02)
    np.testing.assert_allclose(alike.weights, 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "mean", "covariance", "said"),
    [
        ("maximum_sharpe", [0.01, 0.02], TWO, "the largest mean, 0.02, is not above the risk-free return, 0.02"),
        ("risk_parity", [0.1, 0.1], np.diag([0.04, 0.0]), "asset 1 has no variance"),
        ("risk_parity", [0.1, np.nan], TWO, "not finite"),
        ("risk_parity", [0.1], TWO, r"give \(n,\) and \(n, n\)"),
        ("equal_weight", [0.1, 0.1], TWO, "'equal_weight'; it must be one of risk_parity, "),
        ("minimum_variance", [0.1, 0.1], np.array([[0.04, 0.9], [0.9, 0.04]]), "was not solved"),
    ],
)
def test_what_has_no_portfolio_is_refused(method, mean, covariance, said):
    with pytest.raises(ValueError, match=said):
        portfolios.solve(method, np.array(mean), covariance, 0.02)


def test_means_shrink_to_their_common_one(returns):
    sample, shrunk = returns.mean(axis=0), portfolios.shrunk_mean(returns)
    assert shrunk.mean() == pytest.approx(sample.mean())
    ratio = (shrunk - sample.mean()) / (sample - sample.mean())
    assert ratio.std() < 1e-9
    assert 0 < ratio.mean() < 1
