"""Calibration: the factor that past intervals ask for, and whether the forecaster was worse than EWMA."""

import numpy as np
import pytest
from scipy import stats

from tasks.numerics import calibration
from tasks.numerics.calibration import Past
from tasks.numerics.configs import CalibrationConfig

OPEN = CalibrationConfig(prior=0.0)


def past(claimed=1.0, rows=4000, degrees=np.inf, seed=0, baseline=1.0):
    """Outcomes of sigma 0.05 (or more by row), forecasts whose sigma is `claimed` times too large."""
    rng = np.random.default_rng(seed)
    sigma = 0.05 * np.exp(rng.normal(0, 0.4, rows))
    noise = rng.standard_normal(rows) if np.isinf(degrees) else rng.standard_t(degrees, rows)
    told = claimed * sigma
    values = (0.01 + sigma * noise, np.full(rows, 0.01), told**2, told, np.full(rows, degrees))
    return Past(*values, np.zeros(rows), np.full(rows, (baseline * 0.055) ** 2))


@pytest.mark.parametrize("degrees", [np.inf, 6.0])
@pytest.mark.parametrize("claimed", [0.6, 1.0, 1.5])
def test_the_factor_undoes_a_wrong_volatility(claimed, degrees):
    rows = past(claimed, degrees=degrees)
    found = calibration.judge(rows, 24, OPEN)
    assert found.factor == pytest.approx(1 / claimed, rel=0.04)
    inside = np.abs(rows.outcome - rows.mean) <= found.factor * rows.scale * stats.t(degrees).ppf(0.95)
    assert inside.mean() == pytest.approx(0.9, abs=1e-3)
    covered = np.abs(rows.outcome - rows.mean) <= rows.scale * stats.t(degrees).ppf(0.95)
    assert found.covered == pytest.approx(covered.mean(), abs=1e-12)


def test_fewer_dates_and_a_larger_prior_pull_the_factor_to_1_and_limits_hold():
    rows = past(0.4)
    whole = calibration.judge(rows, 24, CalibrationConfig(prior=0.0, highest_factor=10.0)).factor
    for dates, prior in ((24, 6.0), (12, 24.0)):
        shrunk = calibration.judge(rows, dates, CalibrationConfig(prior=prior, highest_factor=10.0)).factor
        assert shrunk == pytest.approx(whole ** (dates / (dates + prior)), rel=1e-12)
    assert calibration.judge(rows, 24, OPEN).factor == 2.0
    assert calibration.judge(past(5.0), 24, OPEN).factor == 0.5


def test_a_wrong_level_is_mended_and_not_held_against_the_forecaster():
    whole = calibration.judge(past(1.0), 24, OPEN)
    for wrong in (0.1, 0.6, 3.0):
        found = calibration.judge(past(wrong), 24, CalibrationConfig())
        assert not found.is_worse
        assert (found.score, found.baseline_score) == pytest.approx((whole.score, whole.baseline_score), rel=1e-9)
    assert whole.factor == pytest.approx(1, abs=0.03)


def test_a_forecaster_of_noise_is_worse_than_its_baseline():
    rows, rng = past(), np.random.default_rng(3)
    wild = 0.05 * np.exp(rng.normal(0, 1.2, rows.outcome.size))
    found = calibration.judge(rows._replace(variance=wild**2, scale=wild), 24, OPEN)
    assert found.is_worse
    sigma = np.quantile(np.abs(rows.outcome - rows.mean) / (stats.norm.ppf(0.95) * wild), 0.9) * wild
    assert found.score == pytest.approx(-stats.norm(rows.mean, sigma).logpdf(rows.outcome).mean(), rel=1e-9)
    assert calibration.judge(rows._replace(mean=rows.mean + 0.2), 24, OPEN).is_worse


@pytest.mark.parametrize("scale", [1.0, 0.83])
def test_the_baseline_itself_is_never_worse_than_the_baseline(scale):
    rows = past(seed=4)
    same = rows._replace(mean=rows.label_mean, variance=rows.baseline, scale=scale * np.sqrt(rows.baseline))
    found = calibration.judge(same._replace(degrees=np.full(4000, 5.0)), 12, CalibrationConfig())
    assert not found.is_worse
    assert found.score == pytest.approx(found.baseline_score, abs=1e-12)
