"""Errors of Sharpe ratios, probabilistic and deflated ratios: worked examples, closed forms, simulations."""

import numpy as np
import pytest
import scipy.stats

from tasks.numerics import inference
from tasks.numerics.metrics import measures


def test_the_worked_example_of_the_deflated_ratio():
    """Bailey and Lopez de Prado: annual ratio 2.5 over five years of 250 days, the best of 100 of variance 1/2."""
    error = inference.iid_error(2.5 / 250**0.5, 1250, -3.0, 10.0)
    assert round(inference.expected_maximum(100, 0.5 / 250), 4) == 0.1132
    assert round(inference.deflated(2.5 / 250**0.5, error, 100, 0.5 / 250), 4) == 0.9004


def test_a_single_trial_leaves_the_probabilistic_ratio():
    error = inference.iid_error(0.05, 500)
    assert inference.deflated(0.05, error, 1, 0.3) == inference.probabilistic(0.05, error)
    assert inference.deflated(0.05, error, 2, 0.01) < inference.probabilistic(0.05, error)


def test_the_hurdle_is_the_mean_maximum_of_worthless_trials():
    drawn = np.random.default_rng(0).normal(0, 0.03, (20_000, 50)).max(axis=1)
    assert inference.expected_maximum(50, 0.03**2) == pytest.approx(drawn.mean(), rel=0.02)


@pytest.mark.parametrize(("trials", "variance"), [(0, 0.1), (3, -0.1), (3, np.nan)])
def test_no_trials_and_no_variance_are_refused(trials, variance):
    with pytest.raises(ValueError, match=f"trials is {trials} and variance {variance}"):
        inference.expected_maximum(trials, variance)


def test_the_iid_error_is_los_for_gaussian_returns():
    # Lo's table: a ratio of 0.5 a period over 60 periods has the error 0.137
    assert inference.iid_error(0.5, 61) == pytest.approx(((1 + 0.5**2 / 2) / 60) ** 0.5)
    assert round(inference.iid_error(0.5, 61), 3) == 0.137
    assert np.isnan(inference.iid_error(0.5, 1))


def ratios(series):
    return np.array([inference.sharpe(one) for one in series])


def test_both_errors_are_the_spread_of_ratios_of_independent_returns():
    series = scipy.stats.gamma(2.0).rvs((1000, 500), random_state=0) * -0.01 + 0.025
    spread = ratios(series).std()
    moments = scipy.stats.skew(series.ravel()), scipy.stats.kurtosis(series.ravel(), fisher=False)
    assert inference.iid_error(0.5 / 2**0.5, 500, *moments) == pytest.approx(spread, rel=0.08)
    assert np.mean([inference.error(one) for one in series[:200]]) == pytest.approx(spread, rel=0.08)


def autocorrelated(count, sessions, rho, start):
    noise = np.random.default_rng(start).normal(0.0, 0.01, (sessions, count))
    for t in range(1, sessions):
        noise[t] += rho * noise[t - 1]
    return noise.T


def test_the_error_grows_with_autocorrelation_as_the_spread_does():
    series = 0.001 + autocorrelated(600, 1000, 0.3, 1)
    spread = ratios(series).std()
    assert np.mean([inference.error(one) for one in series[:200]]) == pytest.approx(spread, rel=0.1)
    assert inference.iid_error(ratios(series).mean(), 1000) < 0.8 * spread


def test_the_error_of_a_difference_is_its_spread():
    rng = np.random.default_rng(2)
    common = rng.normal(0.0005, 0.01, (600, 500))
    own, other = (common + rng.normal(0, 0.004, common.shape) for _ in range(2))
    spread = (ratios(own) - ratios(other)).std()
    errors = [inference.difference_error(*pair) for pair in zip(own[:200], other[:200], strict=True)]
    assert np.mean(errors) == pytest.approx(spread, rel=0.08)
    assert spread < 0.6 * ratios(own).std()
    with pytest.raises(ValueError, match=r"shape \(500,\) and other \(499,\)"):
        inference.difference_error(own[0], other[0, 1:])


def test_the_influence_is_the_change_that_one_more_session_makes():
    excess = np.random.default_rng(3).normal(0.001, 0.01, 2000)
    psi = inference.influence(excess)
    for t in (0, 5, 1999):
        doubled = inference.sharpe(np.append(excess, excess[t]))
        assert 2000 * (doubled - inference.sharpe(excess)) == pytest.approx(psi[t], abs=0.01)


def test_years_needed_are_those_after_which_the_interval_leaves_zero():
    needed = inference.years_needed(0.3, 0.5, 4.0)
    assert needed == pytest.approx(4 * (1.959964 * 0.5 / 0.3) ** 2, rel=1e-6)
    assert 0.3 - 1.959964 * 0.5 * (4 / needed) ** 0.5 == pytest.approx(0, abs=1e-6)
    assert inference.years_needed(-0.3, 0.5, 4.0) == needed
    assert np.isnan(inference.years_needed(0.0, 0.5, 4.0))
    assert np.isnan(inference.years_needed(0.3, np.nan, 4.0))


def test_measures_hold_annual_errors_and_the_probability():
    daily = np.random.default_rng(4).standard_t(5, 750) * 0.01 + 0.0008
    got = measures(daily, np.ones((1, 1)), np.array([0.5]), np.array([0.0]), np.arange(750) // 21)
    excess = daily - 0.02 / 252
    ratio, shape = got["sharpe"] / 252**0.5, (scipy.stats.skew(excess), scipy.stats.kurtosis(excess, fisher=False))
    error = ((1 - shape[0] * ratio + (shape[1] - 1) / 4 * ratio**2) / 749) ** 0.5
    assert got["sessions"] == 750
    assert got["sharpe_error_iid"] == pytest.approx(252**0.5 * error, rel=1e-10)
    assert got["psr"] == pytest.approx(scipy.stats.norm.cdf(ratio / error), rel=1e-10)
    assert got["sharpe_error"] == pytest.approx(got["sharpe_error_iid"], rel=0.2)


@pytest.mark.parametrize("excess", [[], [0.01], [0.01, 0.01, 0.01]])
def test_what_has_no_ratio_has_no_error(excess):
    assert np.isnan(inference.sharpe(np.array(excess)))
    assert np.isnan(inference.error(np.array(excess)))
    assert np.isnan(inference.probabilistic(np.nan, np.nan))
