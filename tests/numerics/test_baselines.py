"""Simple forecasters by brute force, their causality to the byte, and the optimum of the calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tasks.numerics import baselines, windows
from tasks.numerics.features import VARIANCE_FLOOR

H = 21
SETTINGS = settings(max_examples=25, deadline=None)


def make_returns(lengths=(300, 200, 67, 66, 1, 0), seed=0):
    """Log returns of assets that start together and end one after another: (A, T)."""
    rng = np.random.default_rng(seed)
    column = np.arange(max(lengths))
    known = (column > 0) & (column < np.array(lengths)[:, None])
    return np.where(known, 0.01 * rng.standard_t(4, known.shape), np.nan)


def every_forecaster(log_return):
    return [
        baselines.trailing_variance(log_return),
        baselines.expanding_variance(log_return),
        *baselines.unconditional(log_return, H),
    ]


def make_samples(count=4000, theta=(-0.8, 0.6, 0.3), seed=0, degrees=np.inf, mean=0.01):
    """Labels whose variance is log-linear in two lognormal ones, as arguments of `calibrate`."""
    rng = np.random.default_rng(seed)
    logs = rng.multivariate_normal([-5.5, -5.2], [[0.5, 0.15], [0.15, 0.2]], count)
    deviation = np.exp((theta[0] + logs @ theta[1:]) / 2)
    noise = rng.standard_normal(count) if np.isinf(degrees) else rng.standard_t(degrees, count)
    return mean + deviation * noise, np.exp(logs[:, 0]), np.exp(logs[:, 1]), mean


def objective(theta, labels, ewma, long_run, mean):
    log_variance = theta[0] + theta[1] * np.log(ewma) + theta[2] * np.log(long_run)
    return np.mean(log_variance + (labels - mean) ** 2 * np.exp(-log_variance)) / 2


def gradient(theta, labels, ewma, long_run, mean):
    x = np.stack([np.ones_like(ewma), np.log(ewma), np.log(long_run)])
    return x @ (1 - (labels - mean) ** 2 * np.exp(-theta @ x)) / (2 * labels.size)


def test_trailing_variance_is_the_mean_square_of_the_last_returns():
    log_return = make_returns()
    got = baselines.trailing_variance(log_return, 10)
    for asset, t in np.ndindex(got.shape):
        window = log_return[asset, t - 9 : t + 1] if t >= 9 else np.full(10, np.nan)
        np.testing.assert_allclose(got[asset, t], np.mean(window**2), rtol=1e-13)


def test_expanding_variance_is_the_mean_square_so_far():
    log_return = make_returns()
    got = baselines.expanding_variance(log_return)
    for asset, t in np.ndindex(got.shape):
        so_far = log_return[asset, 1 : t + 1]
        expected = np.mean(so_far**2) if t >= 66 else np.nan
        np.testing.assert_allclose(got[asset, t], expected, rtol=1e-13)


def test_trailing_and_expanding_agree_at_their_first_session():
    log_return = make_returns()
    trailing, expanding = baselines.trailing_variance(log_return), baselines.expanding_variance(log_return)
    np.testing.assert_allclose(trailing[:3, 66], expanding[:3, 66], rtol=1e-14)
    assert np.isnan(trailing[3:]).all()
    assert np.isnan(expanding[3:]).all()


def test_unconditional_moments_are_those_of_the_labels_known_by_then():
    log_return = make_returns()
    labels = windows.targets(log_return, H)
    mean, variance = baselines.unconditional(log_return, H)
    for asset, t in np.ndindex(mean.shape):
        known = labels[asset, : max(t - H + 1, 0)]
        known = known[np.isfinite(known)]
        if known.size < 66 or np.isnan(log_return[asset, t]):
            assert np.isnan([mean[asset, t], variance[asset, t]]).all()
            continue
        np.testing.assert_allclose(mean[asset, t], known.mean(), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(variance[asset, t], known.var(ddof=1), rtol=1e-10)


def test_unconditional_moments_need_66_labels():
    mean, _ = baselines.unconditional(make_returns(), H)
    assert np.flatnonzero(np.isfinite(mean[0])).tolist() == list(range(65 + H, 300))


def test_a_running_variance_keeps_its_digits_far_from_zero():
    log_return = make_returns((400,)) + 1e4
    expected = windows.targets(log_return, H)[0, : 399 - H + 1].var(ddof=1)
    np.testing.assert_allclose(baselines.unconditional(log_return, H)[1][0, -1], expected, rtol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 299))
@SETTINGS
def test_earlier_rows_are_the_same_bytes_whatever_follows(seed, cut):
    log_return = make_returns(seed=seed)
    part = log_return[:, :cut].copy()
    other = np.hstack([part, np.full((part.shape[0], 50), 7.0)])
    for whole, changed, short in zip(*map(every_forecaster, (log_return, other, part)), strict=True):
        assert whole[:, :cut].tobytes() == short.tobytes() == changed[:, :cut].tobytes()


@pytest.mark.parametrize("sessions", [0, 1, 21, 22])
def test_a_short_history_has_no_forecast(sessions):
    for values in every_forecaster(make_returns((max(sessions, 1),))[:, :sessions]):
        assert values.shape == (1, sessions)
        assert np.isnan(values).all()


def test_an_asset_that_stands_still_has_a_variance():
    log_return = np.zeros((1, 200))
    trailing, expanding, mean, variance = every_forecaster(log_return)
    assert trailing[0, -1] == expanding[0, -1] == VARIANCE_FLOOR
    assert (mean[0, -1], variance[0, -1]) == (0, H * VARIANCE_FLOOR)


def test_a_length_without_a_return_is_refused():
    with pytest.raises(ValueError, match="length is 0"):
        baselines.trailing_variance(make_returns(), 0)


def test_calibration_recovers_the_coefficients_of_simulated_labels():
    theta = np.array([-0.8, 0.6, 0.3])
    samples = make_samples(100_000, theta)
    x = np.stack([np.ones(100_000), np.log(samples[1]), np.log(samples[2])])
    error = np.sqrt(2 * np.diag(np.linalg.inv(x @ x.T)))
    assert (np.abs(baselines.calibrate(*samples) - theta) < 4 * error).all()


@pytest.mark.parametrize("degrees", [np.inf, 3.0, 1.5])
def test_calibration_is_a_stationary_point_also_with_heavy_tails(degrees):
    samples = make_samples(degrees=degrees)
    theta = baselines.calibrate(*samples)
    np.testing.assert_allclose(gradient(theta, *samples), 0, atol=1e-9)


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e8])
def test_calibration_finds_the_optimum_of_a_general_solver_from_far_away(factor):
    labels, ewma, long_run, mean = make_samples()
    samples = labels, factor * ewma, long_run, mean
    theta = baselines.calibrate(*samples)
    centre = np.array([-np.log(factor) * 0.6 - 0.8, 0.6, 0.3])
    found = minimize(objective, centre, samples, "BFGS", jac=gradient, options={"gtol": 1e-9})
    np.testing.assert_allclose(theta, found.x, atol=1e-5)
    assert objective(theta, *samples) <= found.fun + 1e-14


@given(st.floats(1e-3, 1e3), st.integers(0, 1000))
@SETTINGS
def test_calibration_does_not_depend_on_the_unit_of_returns(unit, seed):
    labels, ewma, long_run, mean = make_samples(500, seed=seed)
    a, b, c = baselines.calibrate(labels, ewma, long_run, mean)
    scaled = baselines.calibrate(unit * labels, unit**2 * ewma, unit**2 * long_run, unit * mean)
    np.testing.assert_allclose(scaled, [a + 2 * np.log(unit) * (1 - b - c), b, c], rtol=1e-6, atol=1e-7)


def test_a_calibrated_variance_is_the_log_linear_one():
    labels, ewma, long_run, mean = make_samples()
    theta = baselines.calibrate(labels, ewma, long_run, mean)
    variance = baselines.calibrated_variance(theta, ewma.reshape(40, 100), long_run.reshape(40, 100)).ravel()
    np.testing.assert_allclose(np.log(variance), theta[0] + theta[1] * np.log(ewma) + theta[2] * np.log(long_run))
    # the first-order condition of the intercept: standardised residuals have unit mean square
    assert np.mean((labels - mean) ** 2 / variance) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(baselines.calibrated_variance(baselines.START, ewma, long_run), ewma, rtol=1e-13)
    assert np.isnan(baselines.calibrated_variance(theta, np.array([np.nan]), np.array([1.0]))).all()


def test_samples_that_cannot_be_calibrated_are_refused():
    labels, ewma, long_run, mean = make_samples(200)
    with pytest.raises(ValueError, match="99 labels are known; a calibration needs at least 100"):
        baselines.calibrate(labels[:99], ewma[:99], long_run[:99], mean)
    with pytest.raises(ValueError, match=r"shapes \(200,\), \(199,\), \(200,\)"):
        baselines.calibrate(labels, ewma[1:], long_run, mean)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"long_run is {bad} at sample 3; it must be finite, a variance"):
            baselines.calibrate(labels, ewma, np.where(np.arange(200) == 3, bad, long_run), mean)
    with pytest.raises(ValueError, match=r"ewma is 0\.0 at sample 0"):
        baselines.calibrate(labels, 0 * ewma, long_run, mean)
    with pytest.raises(ValueError, match="labels - mean is nan at sample 7"):
        baselines.calibrate(np.where(np.arange(200) == 7, np.nan, labels), ewma, long_run, mean)
    with pytest.raises(ValueError, match="both must vary on their own"):
        baselines.calibrate(labels, ewma, 2 * ewma, mean)
    with pytest.raises(ValueError, match="are the labels all the mean"):
        baselines.calibrate(np.full(200, mean), ewma, long_run, mean)


def garch_by_hand(log_return, omega, alpha, beta, horizon):
    """Variance of the next returns' sum at the last session, written out."""
    known = log_return[1:]
    level = np.mean(known[:66] ** 2)
    for value in known[66:]:
        level = omega + alpha * value**2 + beta * level
    expected = [level]
    for _ in range(horizon - 1):
        expected.append(omega + (alpha + beta) * expected[-1])
    return sum(expected)


@pytest.mark.parametrize("count", [67, 68, 150])
@pytest.mark.parametrize("horizon", [1, 21])
def test_garch_sums_the_expected_variances_of_the_next_sessions(count, horizon):
    log_return = np.append(np.nan, 0.01 * np.random.default_rng(0).standard_normal(count - 1))
    found = baselines.garch_variance(log_return, 2e-6, 0.08, 0.9, horizon)
    assert found[-1] == pytest.approx(garch_by_hand(log_return, 2e-6, 0.08, 0.9, horizon), rel=1e-12)
    assert np.flatnonzero(np.isfinite(found))[0] == 66
    longer = baselines.garch_variance(np.append(log_return, 5.0), 2e-6, 0.08, 0.9, horizon)
    assert longer[:-1].tobytes() == found.tobytes()


def test_garch_without_reaction_is_its_long_run_variance():
    log_return = np.append(np.nan, 0.01 * np.random.default_rng(0).standard_normal(2000))
    found = baselines.garch_variance(log_return, 1e-5, 0.0, 0.9, 21)
    assert found[-1] == pytest.approx(21 * 1e-5 / 0.1, rel=1e-6)
