"""Tails fitted to simulated residuals, against scipy and the first-order conditions."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.numerics import scores, tails


def draws(degrees, scale, count=20_000, seed=0):
    return scale * np.random.default_rng(seed).standard_t(degrees, count)


def loss(residuals, degrees, scale):
    return scores.negative_log_likelihood(residuals, 0.0, scale, degrees).mean()


@pytest.mark.parametrize(("degrees", "scale"), [(3.0, 0.6), (6.0, 0.8), (15.0, 2.0)])
def test_degrees_and_scale_of_simulated_draws_are_recovered(degrees, scale):
    found = tails.fit(draws(degrees, scale, 200_000))
    assert found.degrees == pytest.approx(degrees, rel=0.08)
    assert found.scale == pytest.approx(scale, rel=0.01)


def test_normal_residuals_are_nearly_gaussian():
    residuals = 1.2 * np.random.default_rng(1).standard_normal(50_000)
    found = tails.fit(residuals)
    assert found.degrees > 60
    assert found.scale == pytest.approx(1.2, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [30, 300])
def test_the_fit_is_the_likeliest_on_a_grid(seed, count):
    residuals = draws(5.0, 1.0, count, seed)
    found = tails.fit(residuals)
    best = loss(residuals, *found)
    for degrees in np.geomspace(*tails.DEGREES, 25):
        for factor in np.linspace(0.6, 1.6, 21):
            assert best <= loss(residuals, degrees, factor * found.scale) + 1e-9


def test_the_fit_agrees_with_scipys():
    residuals = draws(4.0, 0.7, 2000)
    degrees, _, scale = scipy.stats.t.fit(residuals, floc=0.0)
    found = tails.fit(residuals)
    assert found.degrees == pytest.approx(degrees, rel=1e-3)
    assert found.scale == pytest.approx(scale, rel=1e-3)


def test_at_the_optimum_the_weighted_mean_square_is_one():
    residuals = draws(4.0, 0.7, 2000)
    degrees, scale = tails.fit(residuals)
    squares = (residuals / scale) ** 2
    assert np.mean((degrees + 1) * squares / (degrees + squares)) == pytest.approx(1, abs=1e-6)


@given(st.floats(1e-6, 1e6), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_the_scale_follows_the_unit_of_the_residuals_and_the_degrees_do_not(unit, seed):
    residuals = draws(5.0, 1.0, 200, seed)
    found, scaled = tails.fit(residuals), tails.fit(unit * residuals)
    assert scaled.degrees == pytest.approx(found.degrees, rel=1e-3)
    assert scaled.scale == pytest.approx(unit * found.scale, rel=1e-4)


def test_degrees_stay_within_their_bounds():
    assert tails.fit(draws(0.8, 1.0)).degrees == pytest.approx(2.5)
    assert tails.fit(np.tile([-1.0, 1.0], 50)).degrees == pytest.approx(100)


def test_the_fit_repeats_to_the_byte_and_ignores_signs():
    residuals = draws(5.0, 1.0, 500)
    assert tails.fit(residuals) == tails.fit(residuals.copy()) == tails.fit(-residuals)


def test_one_wild_residual_moves_the_scale_little():
    residuals = draws(5.0, 1.0, 2000)
    wild = tails.fit(np.append(residuals, 1e6))
    assert wild.scale == pytest.approx(tails.fit(residuals).scale, rel=0.1)


def test_intervals_of_fitted_tails_cover_what_they_say():
    found = tails.fit(draws(4.0, 0.8, seed=1))
    pit = scores.pit(draws(4.0, 0.8, seed=2), 0.0, found.scale, found.degrees)
    assert scores.covered(pit, 0.99) == pytest.approx(0.99, abs=0.004)
    assert scores.kolmogorov(pit) < 0.015


def test_residuals_that_have_no_fit_are_refused():
    residuals = draws(5.0, 1.0, 100)
    with pytest.raises(ValueError, match="29 residuals are known; their tails need at least 30"):
        tails.fit(residuals[:29])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"residuals\[4\] is {bad}"):
            tails.fit(np.where(np.arange(100) == 4, bad, residuals))
    with pytest.raises(ValueError, match="60 of 100 residuals are 0"):
        tails.fit(np.where(np.arange(100) < 60, 0.0, residuals))
