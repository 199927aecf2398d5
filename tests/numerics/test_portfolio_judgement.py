"""Predictions of portfolios against simulation, closed forms, and their own nominal rates."""

import numpy as np
import pytest
from scipy import stats

from tasks.numerics import portfolio_judgement
from tasks.numerics.portfolio_judgement import Judged

SIGMA = np.array([0.05, 0.08, 0.11])
MATRIX = np.array([[1, 0.4, 0.2], [0.4, 1, -0.3], [0.2, -0.3, 1]]) * np.outer(SIGMA, SIGMA)
MEAN, WEIGHTS = np.array([0.01, 0.02, -0.01]), np.array([0.7, 0.5, -0.4])  # 20 % in cash


@pytest.mark.parametrize("degrees", [np.inf, 5.0])
def test_a_prediction_has_the_quantiles_of_simulated_portfolios(degrees):
    tail = 1.0 if np.isinf(degrees) else 0.8
    found = portfolio_judgement.predict(WEIGHTS, MEAN, MATRIX, tail * SIGMA, np.full(3, degrees), 0.002)
    rng, n = np.random.default_rng(0), 400_000
    shocks = rng.multivariate_normal(np.zeros(3), MATRIX, n)
    common = 1.0 if np.isinf(degrees) else np.sqrt(degrees / rng.chisquare(degrees, n))[:, None]
    value = (MEAN + tail * shocks * common) @ WEIGHTS + 0.2 * 0.002
    assert found.mean == pytest.approx(WEIGHTS @ MEAN + 0.2 * 0.002, abs=1e-15)
    assert found.volatility == pytest.approx(np.sqrt(WEIGHTS @ MATRIX @ WEIGHTS), rel=1e-12)
    for coverage in (0.5, 0.9):
        ends = np.quantile(value, [(1 - coverage) / 2, (1 + coverage) / 2])
        np.testing.assert_allclose(found.interval(coverage), ends, atol=6e-4)
    assert found.pit(found.interval(0.9)[1]) == pytest.approx(0.95, abs=1e-12)


def test_tails_of_assets_that_are_not_held_do_not_count():
    weights, degrees = np.array([0.5, 0.0, 0.5]), np.array([8.0, 3.0, np.inf])
    assert portfolio_judgement.predict(weights, MEAN, MATRIX, SIGMA, degrees, 0.0).degrees == 8.0
    assert portfolio_judgement.predict(np.array([0.0, 0, 1]), MEAN, MATRIX, SIGMA, degrees, 0.0).degrees == np.inf


def test_what_is_held_is_bought_once_and_compounds():
    returns = np.array([[0.1, -0.2, 0.0], [0.05, 0.5, -0.5]])
    found = portfolio_judgement.held(WEIGHTS, returns, np.array([0.01, 0.02]))
    first = 0.7 * 1.1 + 0.5 * 0.8 - 0.4 * 1.0 + 0.2 * 1.01
    second = 0.7 * 1.1 * 1.05 + 0.5 * 0.8 * 1.5 - 0.4 * 0.5 + 0.2 * 1.01 * 1.02
    np.testing.assert_allclose(found, [first, second], rtol=1e-15)


def test_drawdowns_count_from_the_purchase():
    assert portfolio_judgement.drawdown(np.array([0.9, 0.95, 1.2, 0.9, 1.1])) == pytest.approx(0.25)
    assert portfolio_judgement.drawdown(np.array([0.9, 0.95])) == pytest.approx(0.1)
    assert portfolio_judgement.drawdown(np.array([1.1, 1.2])) == 0.0


def test_the_proxy_in_both_units():
    literal, sane = portfolio_judgement.proxies(0.05, 21, 1e-4)
    assert literal == pytest.approx(2 * np.sqrt(21) * 0.05)
    assert sane == pytest.approx(0.1)
    assert portfolio_judgement.proxies(1e-9, 21, 1e-4) == (1e-4, 1e-4)


def judged(count, wrong=1.0, degrees=np.inf, seed=0):
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.02, 0.08, count)
    noise = rng.standard_normal(count) if np.isinf(degrees) else rng.standard_t(degrees, count)
    volatility = sigma * (1.0 if np.isinf(degrees) else np.sqrt(degrees / (degrees - 2)))
    drawdown = rng.uniform(0, 0.2, count)
    values = (0.01 + wrong * sigma * noise, np.full(count, 0.01), volatility, sigma, np.full(count, degrees))
    return Judged(*values, drawdown, np.full(count, 0.25), np.full(count, 0.05))


@pytest.mark.parametrize("degrees", [np.inf, 6.0])
def test_right_predictions_hold_as_often_as_they_claim(degrees):
    found = portfolio_judgement.measures(judged(4000, degrees=degrees), 0)
    for name, value in {"covers_50": 0.5, "covers_90": 0.9, "covers_95": 0.95, "bias": 0, "z_mean": 0}.items():
        assert abs(found[name].value - value) < 3 * found[name].error, name
    assert found["covers_90"].error == pytest.approx(np.sqrt(0.09 / 4000), rel=0.1)
    assert abs(found["z_deviation"].value - 1) < 3 * found["z_deviation"].error
    assert found["pit_distance"].value < found["pit_distance_limit"].value
    assert found["proxy_held"].value == 1.0
    assert found["proxy_sane_held"].value == pytest.approx(0.25, abs=0.03)
    assert found["proxy_sane_ratio"].value == pytest.approx(2.0, abs=0.1)


def test_volatilities_that_are_too_small_show_in_every_measure():
    found = portfolio_judgement.measures(judged(1000, wrong=1.6), 0)
    assert found["z_deviation"].value == pytest.approx(1.6, abs=0.1)
    assert found["covers_90"].value == pytest.approx(2 * stats.norm.cdf(1.645 / 1.6) - 1, abs=0.04)
    assert found["pit_distance"].value > found["pit_distance_limit"].value


@pytest.mark.parametrize("count", [1, 5, 24, 400])
def test_the_limit_of_the_distance_is_kolmogorovs_for_so_many_dates(count):
    found = portfolio_judgement.measures(judged(count), 0)
    assert found["pit_distance_limit"].value == pytest.approx(stats.kstwo.ppf(0.95, count), abs=1e-6)


def test_one_date_has_values_without_errors():
    found = portfolio_judgement.measures(judged(1), 0)
    assert np.isfinite(found["bias"].value)
    assert np.isnan(found["bias"].error)
    assert np.isnan(found["z_deviation"].value)


def test_errors_allow_for_horizons_that_overlap():
    assert portfolio_judgement.overlap(np.arange(0, 2100, 21), 21) == 0
    assert portfolio_judgement.overlap(np.arange(0, 6300, 63), 21) == 0
    assert portfolio_judgement.overlap(np.arange(500), 21) == 60
    assert portfolio_judgement.overlap(np.arange(10), 21) == 9
    assert portfolio_judgement.overlap(np.array([3]), 21) == 0


def test_rolling_measures_are_those_of_their_24_months():
    rows, month = judged(40), np.arange(100, 140)
    found = portfolio_judgement.rolling(rows, month, 0)
    assert list(found) == list(range(123, 140))
    count, measures = found[130]
    whole = portfolio_judgement.measures(rows.some((month > 106) & (month <= 130)), 0)
    assert count == 24
    assert measures == {name: whole[name] for name in portfolio_judgement.ROLLING}
    assert portfolio_judgement.rolling(judged(23), month[:23], 0) == {}
