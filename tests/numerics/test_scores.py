"""Scores against scipy's distributions, numerical integration, and simulated draws."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from tasks.numerics import scores

ALL_DEGREES = pytest.mark.parametrize("degrees", [1.5, 2.5, 6.0, 40.0, np.inf])


def distribution(location, scale, degrees):
    """Scipy's own of one row."""
    if np.isinf(degrees):
        return scipy.stats.norm(location, scale)
    return scipy.stats.t(degrees, location, scale)


def make_rows(count=50, seed=0):
    """Labels, locations and scales of rows that are nothing alike."""
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_t(3, count), rng.standard_normal(count), rng.uniform(0.1, 3, count)


@ALL_DEGREES
def test_likelihood_pit_and_interval_are_those_of_scipy(degrees):
    y, location, scale = make_rows()
    expected = distribution(location, scale, degrees)
    np.testing.assert_allclose(
        scores.negative_log_likelihood(y, location, scale, degrees), -expected.logpdf(y), rtol=1e-10
    )
    np.testing.assert_allclose(scores.pit(y, location, scale, degrees), expected.cdf(y), rtol=1e-10)
    for coverage in (0.5, 0.9, 0.99):
        bounds = scores.interval(location, scale, degrees, coverage)
        np.testing.assert_allclose(bounds, expected.interval(coverage), rtol=1e-8)


def test_the_gaussian_likelihood_has_its_constant():
    assert scores.negative_log_likelihood(np.zeros(1), 0.0, 1.0)[0] == pytest.approx(np.log(2 * np.pi) / 2, rel=1e-15)


@ALL_DEGREES
@pytest.mark.parametrize("y", [-4.0, 0.3, 1.0, 2.5])
def test_crps_is_the_integral_of_the_squared_distance_of_the_cdfs(y, degrees):
    cdf = distribution(0.3, 0.7, degrees).cdf
    below = quad(lambda x: cdf(x) ** 2, -np.inf, y, epsabs=1e-11)[0]
    above = quad(lambda x: (1 - cdf(x)) ** 2, y, np.inf, epsabs=1e-11)[0]
    assert scores.crps(np.array([y]), 0.3, 0.7, degrees)[0] == pytest.approx(below + above, rel=1e-6)


def test_crps_of_a_standard_normal_at_its_centre_is_known():
    assert scores.crps(np.zeros(1), 0.0, 1.0)[0] == pytest.approx((2**0.5 - 1) / np.pi**0.5, rel=1e-12)


@pytest.mark.parametrize("score", [scores.crps, scores.negative_log_likelihood, scores.pit])
def test_a_student_t_of_many_degrees_is_gaussian(score):
    y, location, scale = make_rows()
    gaussian = score(y, location, scale)
    np.testing.assert_allclose(score(y, location, scale, 1e8), gaussian, rtol=1e-5, atol=1e-12)
    assert np.abs(score(y, location, scale, 5.0) - gaussian).max() > 1e-2


@pytest.mark.parametrize("score", [scores.crps, scores.negative_log_likelihood, scores.pit])
def test_rows_may_differ_in_degrees(score):
    y, location, scale = make_rows(3)
    degrees = np.array([3.0, np.inf, 6.0])
    expected = [score(y[[k]], location[k], scale[k], degrees[k])[0] for k in range(3)]
    np.testing.assert_array_equal(score(y, location, scale, degrees), expected)


@given(st.floats(-5, 5), st.floats(0.01, 100), st.sampled_from([1.5, 4.0, np.inf]))
@settings(max_examples=50, deadline=None)
def test_scores_follow_shifts_and_units(shift, unit, degrees):
    y, location, scale = make_rows(20)
    moved = unit * y + shift, unit * location + shift, unit * scale, degrees
    np.testing.assert_allclose(scores.crps(*moved), unit * scores.crps(y, location, scale, degrees), rtol=1e-6)
    np.testing.assert_allclose(scores.pit(*moved), scores.pit(y, location, scale, degrees), rtol=1e-6)
    np.testing.assert_allclose(
        scores.negative_log_likelihood(*moved),
        scores.negative_log_likelihood(y, location, scale, degrees) + np.log(unit),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("score", [scores.crps, scores.negative_log_likelihood])
@pytest.mark.parametrize("degrees", [4.0, np.inf])
def test_the_true_distribution_scores_best(score, degrees):
    y = distribution(0.1, 1.3, degrees).rvs(20_000, random_state=np.random.default_rng(0))
    best = score(y, 0.1, 1.3, degrees).mean()
    for location, scale in ((0.3, 1.3), (-0.1, 1.3), (0.1, 1.1), (0.1, 1.5)):
        assert score(y, location, scale, degrees).mean() > best


@pytest.mark.parametrize("degrees", [3.0, np.inf])
@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95])
def test_intervals_cover_simulated_draws_as_often_as_they_say(degrees, coverage):
    y = distribution(0.2, 0.5, degrees).rvs(40_000, random_state=np.random.default_rng(1))
    lower, upper = scores.interval(0.2, 0.5, degrees, coverage)
    inside = np.mean((y >= lower) & (y <= upper))
    assert inside == pytest.approx(coverage, abs=4 * (coverage * (1 - coverage) / y.size) ** 0.5)
    assert scores.covered(scores.pit(y, 0.2, 0.5, degrees), coverage) == pytest.approx(inside, abs=1e-4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_kolmogorov_distance_is_that_of_the_one_sample_test(values):
    expected = scipy.stats.kstest(values, "uniform").statistic
    assert scores.kolmogorov(np.array(values)) == pytest.approx(expected, abs=1e-12)


def test_sign_accuracy_leaves_out_rows_without_a_sign():
    y = np.array([1.0, -1.0, 2.0, 0.0, 3.0, -2.0])
    mean = np.array([0.1, 0.1, 0.2, 0.3, 0.0, -0.1])
    assert scores.sign_accuracy(y, mean) == pytest.approx(3 / 4)
    assert np.isnan(scores.sign_accuracy(y, np.zeros(6)))


def test_rank_correlations_are_spearmans_of_each_group_in_order():
    rng = np.random.default_rng(0)
    group = rng.integers(-2, 9, 100)
    y, mean = rng.integers(0, 9, (2, 100)).astype(float)
    got = scores.rank_correlations(y, mean, group)
    expected = [scipy.stats.spearmanr(y[group == g], mean[group == g]).statistic for g in np.unique(group)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_groups_without_a_ranking_have_no_correlation():
    group = np.array([5, 5, 5, 1, 1, 3, 3, 3, 4, 4, 4])
    y = np.array([1, 2, 3, 1, 2, 1, 2, 3, 7, 7, 7], float)
    mean = np.array([1, 5, 9, 1, 2, 4, 4, 4, 1, 2, 3], float)
    np.testing.assert_allclose(scores.rank_correlations(y, mean, group), [np.nan, np.nan, np.nan, 1])
    assert scores.rank_correlations(y[:0], mean[:0], group[:0]).shape == (0,)


def test_a_missing_forecast_has_missing_scores():
    y, location, scale = np.zeros(2), np.array([0.0, np.nan]), np.array([1.0, np.nan])
    for score in (scores.crps, scores.negative_log_likelihood, scores.pit):
        np.testing.assert_array_equal(np.isnan(score(y, location, scale, 5.0)), [False, True])


def test_impossible_distributions_and_probabilities_are_refused():
    y = np.zeros(2)
    for score in (scores.crps, scores.negative_log_likelihood, scores.pit):
        with pytest.raises(ValueError, match=r"scale is -0.5 at least once"):
            score(y, 0.0, np.array([1.0, -0.5]))
        with pytest.raises(ValueError, match=r"degrees is 0.0 at least once"):
            score(y, 0.0, 1.0, np.array([np.inf, 0.0]))
    with pytest.raises(ValueError, match=r"degrees is 1.0 at least once; it must be above 1"):
        scores.crps(y, 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"scale is 0.0 at least once"):
        scores.interval(0.0, 0.0)
    for coverage in (0.0, 1.0, 90):
        with pytest.raises(ValueError, match=f"coverage is {coverage}"):
            scores.interval(0.0, 1.0, coverage=coverage)
        with pytest.raises(ValueError, match=f"coverage is {coverage}"):
            scores.covered(y, coverage)


def test_what_is_no_pit_or_no_pairing_is_refused():
    for measure in (scores.kolmogorov, lambda pit: scores.covered(pit, 0.9)):
        with pytest.raises(ValueError, match="pit is empty"):
            measure(np.zeros(0))
        for bad in (np.nan, -0.1, 1.5):
            with pytest.raises(ValueError, match=f"pit is {bad} at row 1"):
                measure(np.array([0.5, bad]))
    with pytest.raises(ValueError, match=r"shapes \(2,\), \(2,\) and \(3,\)"):
        scores.rank_correlations(np.zeros(2), np.zeros(2), np.zeros(3, int))
