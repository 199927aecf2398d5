"""The gate: what is kept where the best share is known in closed form, and by brute force where it is not."""

import numpy as np
import pytest
from scipy import stats

from tasks.numerics import gate

N = 400
ZERO, ONE = np.zeros(N), np.ones(N)


def outcomes(seed=0):
    return np.random.default_rng(seed).standard_normal(N)


def test_nothing_kept_is_the_baseline_and_all_kept_the_forecast():
    rng = np.random.default_rng(0)
    mean, label_mean = rng.standard_normal((2, N))
    variance, baseline = rng.uniform(0.5, 2, (2, N))
    for kept, expected in ((0.0, (label_mean, baseline)), (1.0, (mean, variance))):
        np.testing.assert_allclose(gate.shrunk(kept, mean, variance, label_mean, baseline), expected, rtol=1e-12)


def test_half_kept_is_halfway_in_the_mean_and_in_the_log_variance():
    mean, variance = gate.shrunk(0.5, np.array([3.0]), np.array([8.0]), np.array([1.0]), np.array([2.0]))
    assert mean.tolist() == [2.0]
    assert variance == pytest.approx(4.0)


def sloped(slope):
    """Outcomes of which a mean forecast explains exactly `slope` times itself: the squared error is least there."""
    mean, noise = np.random.default_rng(1).standard_normal((2, N))
    noise -= mean * (noise @ mean) / (mean @ mean)
    return slope * mean + noise, mean


@pytest.mark.parametrize(
    ("slope", "kept"), [(1.4, 1.0), (0.8, 1.0), (0.52, 1.0), (0.4, 0.4), (0.28, 0.3), (0.0, 0.0), (-0.7, 0.0)]
)
def test_a_mean_is_kept_up_to_its_slope_where_the_whole_is_worse_than_none(slope, kept):
    # the score is a parabola of k about the slope: the whole beats none where the slope is above one half
    outcome, mean = sloped(slope)
    found = gate.judge(outcome, mean, ONE, ZERO, ONE)
    assert found.kept == pytest.approx(kept, abs=1e-12)
    assert (found.score <= found.baseline_score) == (slope > 0.5)


@pytest.mark.parametrize(("share", "kept"), [(0.2, 0.2), (0.34, 0.3), (0.0, 0.0), (-0.5, 0.0), (0.9, 1.0), (1.3, 1.0)])
def test_a_variance_is_kept_up_to_the_one_that_the_outcomes_have(share, kept):
    # ln v = ln B + 2: the mean of y^2 / B is e^(2 share), so the score is least at k = share
    outcome = outcomes()
    outcome *= np.sqrt(0.5 * np.exp(2 * share) / np.mean(outcome**2))
    assert gate.judge(outcome, ZERO, 0.5 * np.exp(2) * ONE, ZERO, 0.5 * ONE).kept == pytest.approx(kept, abs=1e-12)


def test_the_truth_is_kept_and_its_scores_are_those_of_scipy():
    rng = np.random.default_rng(3)
    mean, variance = 0.5 * rng.standard_normal(N), rng.uniform(0.2, 3, N)
    outcome = mean + np.sqrt(variance) * rng.standard_normal(N)
    found = gate.judge(outcome, mean, variance, ZERO, ONE)
    assert found.kept == 1
    assert found.score == pytest.approx(-stats.norm.logpdf(outcome, mean, np.sqrt(variance)).mean(), rel=1e-12)
    assert found.baseline_score == pytest.approx(-stats.norm.logpdf(outcome).mean(), rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_of_a_worse_forecast_scores_best_of_the_grid(seed):
    rng = np.random.default_rng(seed)
    label_mean, baseline = np.full(N, 0.1), rng.uniform(0.5, 2, N)
    outcome = 0.1 + np.sqrt(baseline) * rng.standard_normal(N)
    # a part of each correction is right, and too much of it is made
    mean = 0.1 + 0.3 * (outcome - 0.1) + 0.9 * rng.standard_normal(N)
    variance = baseline * np.exp(0.9 * rng.standard_normal(N))
    scores = [
        -stats.norm.logpdf(
            outcome, 0.1 + k * (mean - 0.1), np.exp(0.5 * ((1 - k) * np.log(baseline) + k * np.log(variance)))
        ).mean()
        for k in np.arange(11) / 10
    ]
    assert scores[10] > scores[0] > min(scores)
    assert gate.judge(outcome, mean, variance, label_mean, baseline).kept == pytest.approx(np.argmin(scores) / 10)


def test_a_forecast_that_is_the_baseline_is_kept():
    found = gate.judge(outcomes(), ZERO, ONE, ZERO, ONE)
    assert found == (1.0, pytest.approx(-stats.norm.logpdf(outcomes()).mean()), found.score)
