"""Regressions on factors against other implementations and by hand, and comparisons with a baseline."""

import numpy as np
import pytest

from tasks.numerics import exposures

SESSIONS = 600


@pytest.fixture(scope="module")
def sample():
    """Two factors, and returns whose errors depend on time and on a factor's size."""
    rng = np.random.default_rng(3)
    factors = 0.01 * rng.standard_normal((SESSIONS, 2))
    shocks = rng.standard_normal(SESSIONS + 2)
    errors = 0.004 * (shocks[2:] + 0.6 * shocks[1:-1] + 0.3 * shocks[:-2]) * (1 + 40 * np.abs(factors[:, 0]))
    return 2e-4 + factors @ [0.8, -0.3] + errors, factors


def by_loops(y, factors, lags):
    """Coefficients by the normal equations and their errors by the definition, term by term."""
    x = np.column_stack([np.ones(y.size), factors])
    inverse = np.linalg.inv(x.T @ x)
    coefficients = inverse @ x.T @ y
    u, middle = y - x @ coefficients, np.zeros((x.shape[1],) * 2)
    for t in range(y.size):
        for s in range(max(0, t - lags), min(y.size, t + lags + 1)):
            middle += (1 - abs(t - s) / (lags + 1)) * u[t] * u[s] * np.outer(x[t], x[s])
    return coefficients, np.sqrt(np.diag(inverse @ middle @ inverse) * y.size / (y.size - x.shape[1]))


@pytest.mark.parametrize("lags", [0, 1, 6])
def test_coefficients_and_errors_are_those_of_the_definition(sample, lags):
    y, factors = (values[:200] for values in sample)
    coefficients, errors = by_loops(y, factors, lags)
    found = exposures.regress(y, factors, lags)
    np.testing.assert_allclose([found.alpha / 252, *found.beta], coefficients, rtol=1e-10)
    np.testing.assert_allclose([found.alpha_t, *found.t], coefficients / errors, rtol=1e-9)
    assert (found.rows, found.lags) == (200, lags)


def test_they_are_those_of_statsmodels(sample):
    models = pytest.importorskip("statsmodels.api", reason="comes with the extra garch")
    y, factors = sample
    lags = exposures.default_lags(SESSIONS)
    options = {"maxlags": lags, "use_correction": True}
    expected = models.OLS(y, models.add_constant(factors)).fit(cov_type="HAC", cov_kwds=options)
    found = exposures.regress(y, factors)
    np.testing.assert_allclose([found.alpha_t, *found.t], expected.tvalues, rtol=1e-9)
    np.testing.assert_allclose(found.r2, expected.rsquared, rtol=1e-10)


def test_lags_follow_newey_and_west():
    assert [exposures.default_lags(rows) for rows in (1, 100, 252, 1260)] == [1, 4, 4, 7]


def test_a_perfect_fit_has_its_coefficients_and_no_t_value():
    factor = 0.01 * np.random.default_rng(0).standard_normal((100, 1))
    found = exposures.regress(1e-4 + 1.5 * factor[:, 0], factor)
    assert found.alpha == pytest.approx(0.0252)
    assert found.beta[0] == pytest.approx(1.5)
    assert found.r2 == pytest.approx(1)
    assert np.isnan([found.alpha_t, *found.t]).all()


def test_sessions_with_a_gap_are_left_out(sample):
    y, factors = (values.copy() for values in sample)
    known = np.ones(SESSIONS, bool)
    y[3], factors[17, 1] = np.nan, np.nan
    known[[3, 17]] = False
    found, expected = exposures.regress(y, factors), exposures.regress(y[known], factors[known])
    assert found.rows == SESSIONS - 2
    assert found.alpha_t == expected.alpha_t
    np.testing.assert_array_equal(found.beta, expected.beta)


@pytest.mark.parametrize(
    "factors",
    [
        np.full((50, 1), 1e-3),
        np.repeat(np.random.default_rng(1).standard_normal((50, 1)), 2, axis=1),
        np.full((50, 1), np.nan),
    ],
    ids=["constant", "the same twice", "unknown"],
)
def test_factors_that_do_not_vary_on_their_own_give_nothing(factors):
    found = exposures.regress(np.random.default_rng(2).standard_normal(50), factors)
    assert np.isnan([found.alpha, found.alpha_t, found.r2, *found.beta, *found.t]).all()


def test_cash_has_a_beta_of_zero_and_no_share_explained():
    found = exposures.regress(np.zeros(50), np.random.default_rng(2).standard_normal((50, 1)))
    assert (found.alpha, found.beta[0]) == pytest.approx((0, 0), abs=1e-12)
    assert np.isnan(found.r2)


@pytest.mark.parametrize(
    ("excess", "factors", "lags", "said"),
    [
        (np.zeros(3), np.zeros((4, 1)), None, r"give \(T,\) and \(T, k\)"),
        (np.zeros(3), np.zeros((3, 0)), None, "k >= 1"),
        (np.array([0.0, np.inf, 0.0]), np.zeros((3, 1)), None, "infinite"),
        (np.zeros(3), np.zeros((3, 1)), -1, "lags is -1"),
    ],
)
def test_what_cannot_be_regressed_is_refused(excess, factors, lags, said):
    with pytest.raises(ValueError, match=said):
        exposures.regress(excess, factors, lags)


def test_rolling_exposures_are_regressions_on_their_windows_whatever_follows(sample):
    y, factors = sample
    months = np.arange(SESSIONS) // 21
    ends = exposures.month_ends(months)
    assert list(ends[:2]) == [20, 41]
    found = exposures.rolling(y, factors, ends)
    assert [end for end, _ in found] == [end for end in ends if end >= 251]
    for end, fit in found[:3]:
        expected = exposures.regress(y[end - 251 : end + 1], factors[end - 251 : end + 1])
        np.testing.assert_array_equal(fit.beta, expected.beta)
        assert fit.rows == 252
    cut = exposures.rolling(y[:400], factors[:400], exposures.month_ends(months[:400]))
    assert len(cut) < len(found)
    for (end, fit), (other, same) in zip(cut, found, strict=False):
        assert end == other
        np.testing.assert_array_equal(fit.beta, same.beta)


def test_a_comparison_by_hand():
    baseline = np.array([0.01, -0.02, 0.03, 0.0, 0.01])
    found = exposures.compare(2 * baseline + 0.001, baseline, 0.0)
    assert found.beta == pytest.approx(2)
    assert found.alpha == pytest.approx(0.252)
    active = baseline + 0.001
    assert found.information_ratio == pytest.approx(252**0.5 * active.mean() / active.std(ddof=1))
    grown = 1.021 * 0.961 * 1.061 * 1.001 * 1.021
    assert found.excess_return == pytest.approx(grown**50.4 - (1.01 * 0.98 * 1.03 * 1.01) ** 50.4)


def test_cash_is_taken_off_both_before_beta_and_alpha():
    baseline = np.array([0.01, -0.02, 0.03, 0.0, 0.01])
    found = exposures.compare(0.5 * baseline, baseline, 0.002)
    # 0.5 b - f = alpha + 0.5 (b - f) with alpha = -f / 2
    assert (found.beta, found.alpha) == pytest.approx((0.5, -0.252))


def test_a_strategy_that_is_its_baseline_has_no_information_ratio():
    baseline = np.array([0.01, -0.02, 0.03, 0.0, 0.01])
    found = exposures.compare(baseline, baseline, 1e-4)
    assert found.excess_return == 0
    assert np.isnan(found.information_ratio)
    with pytest.raises(ValueError, match="the same sessions"):
        exposures.compare(baseline, baseline[1:], 1e-4)
