"""The return-drawdown allocator: its formula, its gradient, its certificate, and the best of a grid."""

import json

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from tasks.numerics.configs import ReturnDrawdownConfig
from tasks.numerics.return_drawdown import gradient, kkt, ratio, solve

DOCUMENT = ReturnDrawdownConfig()
EXACT = ReturnDrawdownConfig(method="exact")
REGIMES = {  # location and scale of the forecast means
    "mixed": (0.01, 0.03),
    "weak": (0.003, 0.01),
    "bear": (-0.05, 0.03),
    "rising": (0.05, 0.01),
    "falling": (-0.05, 0.01),
    "constant": (-0.02, 0.0),
}


def instance(seed, n, location=0.01, scale=0.03):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (60, 1)) + rng.normal(0, 1, (60, n)) * rng.uniform(0.5, 2, n)
    sigma = 0.09 * np.exp(0.35 * rng.normal(size=n))
    return location + scale * rng.normal(size=n), np.corrcoef(x.T) * np.outer(sigma, sigma)


def grid_of_three(steps=200):
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1))
    inside = i + j <= steps
    return np.stack([i[inside], j[inside], (steps - i - j)[inside]], axis=1) / steps


def best_on_grid(grid, mean, covariance, config):
    m = grid @ mean
    drawdown = 2 * np.sqrt(config.horizon / config.sigma_horizon * ((grid @ covariance) * grid).sum(axis=1))
    drawdown = np.maximum(config.drawdown_floor, drawdown)
    return np.where(m > 0, m / drawdown + config.alpha * m, m * np.sqrt(config.horizon) * drawdown).max()


def assert_allocation(allocation):
    assert (allocation.weights >= 0).all()
    assert abs(allocation.weights.sum() - 1) < 1e-14
    assert np.isfinite(allocation.ratio)
    assert allocation.status == "global"
    assert 0 <= allocation.gap <= 1e-9
    assert allocation.kkt <= 1e-8


def test_the_ratio_is_the_documents_by_hand():
    weights, mean = np.array([0.5, 0.5]), np.array([0.02, 0.04])
    covariance = np.diag([0.01, 0.03])  # volatility 0.1
    drawdown = 2 * np.sqrt(21) * 0.1
    assert ratio(weights, mean, covariance, DOCUMENT) == pytest.approx(0.03 / drawdown + 0.2 * 0.03, rel=1e-14)
    assert ratio(weights, -mean, covariance, DOCUMENT) == pytest.approx(-0.03 * np.sqrt(21) * drawdown, rel=1e-14)
    assert ratio(weights, mean, 0 * covariance, DOCUMENT) == pytest.approx(0.03 / 1e-4 + 0.2 * 0.03, rel=1e-14)


@pytest.mark.parametrize("sigma_horizon", [1, 21])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_is_the_slope_on_both_branches(sign, sigma_horizon):
    config = ReturnDrawdownConfig(alpha=0.7, sigma_horizon=sigma_horizon)
    mean, covariance = instance(0, 12, location=0.04, scale=0.01)
    weights = np.random.default_rng(0).dirichlet(np.ones(12))
    slope = approx_fprime(weights, ratio, 1e-7, sign * mean, covariance, config)
    np.testing.assert_allclose(gradient(weights, sign * mean, covariance, config), slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("sign", [1, -1])
def test_below_the_floor_the_gradient_is_that_of_the_mean_alone(sign):
    mean, weights = sign * np.array([0.01, 0.02]), np.array([0.4, 0.6])
    slope = gradient(weights, mean, 1e-14 * np.eye(2), DOCUMENT)
    expected = (1 / 1e-4 + 0.2) * mean if sign > 0 else np.sqrt(21) * 1e-4 * mean
    np.testing.assert_allclose(slope, expected, rtol=1e-14)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.7, 5.0])
@pytest.mark.parametrize("regime", REGIMES)
def test_no_grid_point_of_three_assets_beats_the_solution(regime, alpha):
    config, grid = ReturnDrawdownConfig(alpha=alpha), grid_of_three()
    for seed in range(8):
        mean, covariance = instance(seed, 3, *REGIMES[regime])
        found, best = solve(mean, covariance, config), best_on_grid(grid, mean, covariance, config)
        assert_allocation(found)
        assert found.ratio >= best - 1e-12 * abs(best)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("n", [9, 20])
def test_no_random_portfolio_beats_the_solution_and_it_is_stationary(n, regime):
    mean, covariance = instance(n, n, *REGIMES[regime])
    found = solve(mean, covariance, DOCUMENT)
    rivals = np.random.default_rng(0).dirichlet(np.full(n, 0.2), 2000)
    assert found.ratio >= best_on_grid(np.vstack([rivals, np.eye(n)]), mean, covariance, DOCUMENT)
    assert 0 <= found.kkt < 1e-8


def test_the_stationarity_residual_is_large_away_from_a_maximum():
    mean, covariance = instance(1, 9)
    weights = np.full(9, 1 / 9)
    assert kkt(weights, mean, covariance, DOCUMENT) > 0.1
    slope = approx_fprime(weights, ratio, 1e-7, mean, covariance, DOCUMENT)
    gain = (slope.max() - slope.mean()) / abs(ratio(weights, mean, covariance, DOCUMENT))
    assert kkt(weights, mean, covariance, DOCUMENT) == pytest.approx(gain, rel=1e-4)


@pytest.mark.parametrize("location", [0.03, -0.05])
def test_the_residual_agrees_with_the_frontiers_multiplier(location):
    mean, covariance = instance(3, 9, location, 0.01)
    found = solve(mean, covariance, DOCUMENT)
    w, variance = found.weights, found.volatility**2
    c = 2 * np.sqrt(21)
    multiplier = variance * (1 + 0.2 * c * found.volatility) / found.mean if location > 0 else -variance / found.mean
    reduced = covariance @ w - multiplier * mean
    assert reduced.min() >= w @ reduced - 1e-9 * variance
    assert found.multiplier == pytest.approx(multiplier, rel=1e-6)


@pytest.mark.parametrize("location", [0.03, -0.05])
def test_literal_alpha_equals_sane_units_with_alpha_times_root_21(location):
    mean, covariance = instance(4, 9, location, 0.01)
    literal = solve(mean, covariance, ReturnDrawdownConfig(alpha=0.2, sigma_horizon=1))
    config = ReturnDrawdownConfig(alpha=0.2 * np.sqrt(21), sigma_horizon=21)
    sane = solve(mean, covariance, config)
    np.testing.assert_allclose(sane.weights, literal.weights, atol=1e-9)
    unit = np.sqrt(21) if location > 0 else 1 / np.sqrt(21)
    assert sane.ratio == pytest.approx(unit * literal.ratio, rel=1e-9)
    assert ratio(literal.weights, mean, covariance, config) == pytest.approx(unit * literal.ratio, rel=1e-13)


def test_a_positive_forecast_is_found_from_the_wrong_branch():
    mean, covariance = np.array([-0.001, 0.05]), np.diag([0.002, 0.5]) ** 2
    found = solve(mean, covariance, DOCUMENT)
    np.testing.assert_allclose(found.weights, [0, 1], atol=1e-12)
    assert found.branch == "positive"
    assert found.ratio == pytest.approx(0.0209, abs=1e-4)


def test_the_higher_of_two_local_maxima_wins():
    mean, covariance = np.array([0.005, 0.05]), np.diag([0.02, 0.1]) ** 2
    found = solve(mean, covariance, DOCUMENT)
    assert found.mean == pytest.approx(0.0205, abs=1e-4)
    assert found.ratio == pytest.approx(0.06479, abs=1e-5)
    single = ratio(np.array([0.0, 1.0]), mean, covariance, DOCUMENT)
    assert single == pytest.approx(0.06455, abs=1e-5)


@pytest.mark.parametrize("level", [0.02, -0.02])
def test_constant_forecasts_give_the_least_variance(level):
    _, covariance = instance(5, 6)
    covariance[:] = np.diag(np.diag(covariance))
    inverse = 1 / np.diag(covariance)
    found = solve(np.full(6, level), covariance, DOCUMENT)
    np.testing.assert_allclose(found.weights, inverse / inverse.sum(), atol=1e-9)


def test_forecasts_of_zero_leave_equal_weights():
    found = solve(np.zeros(4), np.eye(4), DOCUMENT)
    np.testing.assert_allclose(found.weights, 0.25)
    assert (found.ratio, found.kkt, found.branch) == (0, 0, "negative")


def test_when_no_forecast_is_positive_the_best_is_to_expect_nothing():
    found = solve(np.array([0.0, -0.02, -0.05]), np.diag([0.09, 0.01, 0.01]), DOCUMENT)
    np.testing.assert_allclose(found.weights, [1, 0, 0], atol=1e-9)


def test_an_asset_without_volatility_and_some_return_is_all_that_is_held():
    mean, covariance = np.array([0.001, 0.02, 0.03]), np.diag([0.0, 0.01, 0.02])
    found = solve(mean, covariance, DOCUMENT)
    assert found.ratio >= ratio(np.array([1.0, 0, 0]), mean, covariance, DOCUMENT)
    assert found.weights[0] > 0.999
    assert found.drawdown == pytest.approx(1e-4, rel=0.1)


def test_more_assets_than_the_covariance_has_rank_is_no_obstacle():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(10, 30)) + rng.normal(size=(10, 1))
    mean, covariance = 0.03 * rng.normal(size=30), 0.01 * np.corrcoef(x.T)
    found = solve(mean, covariance, DOCUMENT)
    assert_allocation(found)
    assert found.ratio >= best_on_grid(rng.dirichlet(np.full(30, 0.1), 5000), mean, covariance, DOCUMENT)


def test_assets_that_are_not_finite_are_left_out_and_change_nothing_else():
    mean, covariance = instance(7, 5)
    wide_mean = np.insert(mean, [1, 3], [np.nan, 0.5])
    wide = np.insert(np.insert(covariance, [1, 3], 0.001, axis=0), [1, 3], 0.001, axis=1)
    wide[4, :] = wide[:, 4] = np.nan
    found, expected = solve(wide_mean, wide, DOCUMENT), solve(mean, covariance, DOCUMENT)
    np.testing.assert_array_equal(found.weights[[1, 4]], 0)
    np.testing.assert_array_equal(np.delete(found.weights, [1, 4]), expected.weights)


def test_one_asset_gets_everything():
    for mean in (0.02, -0.02):
        found = solve(np.array([mean]), np.array([[0.01]]), DOCUMENT)
        np.testing.assert_array_equal(found.weights, [1])


def test_the_report_is_about_the_weights():
    mean, covariance = instance(8, 9)
    found = solve(mean, covariance, DOCUMENT)
    assert found.ratio == pytest.approx(ratio(found.weights, mean, covariance, DOCUMENT), rel=1e-13)
    assert found.mean == pytest.approx(found.weights @ mean, rel=1e-13)
    assert found.volatility**2 == pytest.approx(found.weights @ covariance @ found.weights, rel=1e-13)
    assert found.drawdown == pytest.approx(2 * np.sqrt(21) * found.volatility, rel=1e-13)
    assert found.branch == ("positive" if found.mean > 0 else "negative")
    assert found.iterations > 0
    assert found.bound == pytest.approx(found.ratio, rel=1e-9)
    assert (found.binding, found.turnover, found.turnover_needed) == ((), None, None)
    notes = {name: value for name, value in found._asdict().items() if name != "weights"}
    assert json.loads(json.dumps(notes, allow_nan=False))["corners"] == found.corners


@pytest.mark.parametrize("n", [9, 20, 109])
@pytest.mark.parametrize("regime", REGIMES)
def test_slsqp_starts_where_it_can_only_stay_and_both_methods_agree(n, regime):
    for seed in range(6):
        mean, covariance = instance(seed, n, *REGIMES[regime])
        polished, exact = solve(mean, covariance, DOCUMENT), solve(mean, covariance, EXACT)
        assert_allocation(polished)
        assert_allocation(exact)
        assert exact.iterations == 0 < polished.iterations
        assert polished.ratio == pytest.approx(exact.ratio, rel=1e-9)
        assert polished.ratio >= exact.ratio - 1e-14 * abs(exact.ratio)
        assert polished.bound == exact.bound == exact.ratio


def test_in_bad_markets_slsqp_alone_reports_success_and_stays_below():
    below = 0
    for seed in range(12):
        mean, covariance = instance(seed, 40, 0.0, 0.03)
        mean = -np.abs(mean)
        result = minimize(
            lambda w, *forecast: -ratio(w, *forecast),
            np.full(40, 1 / 40),
            args=(mean, covariance, DOCUMENT),
            method="SLSQP",
            bounds=[(0, 1)] * 40,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        )
        found = solve(mean, covariance, DOCUMENT)
        assert result.success
        assert found.ratio >= -result.fun * (1 + 1e-9)
        below += found.ratio > -result.fun * 0.99
    assert below > 3


@pytest.mark.parametrize("cap", [0.5, 0.2, 1 / 9])
@pytest.mark.parametrize("location", [0.01, -0.1])
def test_a_cap_is_kept_and_the_best_within_it_is_global(cap, location):
    config = ReturnDrawdownConfig(max_weight=cap)
    rivals = np.random.default_rng(0).dirichlet(np.ones(9), 20_000)
    rivals = np.vstack([rivals[(rivals <= cap).all(axis=1)], np.full(9, 1 / 9)])
    for seed in range(5):
        mean, covariance = instance(seed, 9, location, 0.03)
        found = solve(mean, covariance, config)
        assert_allocation(found)
        assert found.weights.max() <= cap + 1e-12
        assert found.kkt == kkt(found.weights, mean, covariance, config)
        assert found.ratio >= best_on_grid(rivals, mean, covariance, config) - 1e-12
        assert (found.binding == ("max_weight",)) == (found.weights.max() > cap - 1e-9)


def test_a_sweep_that_fails_is_recognised_and_not_called_certified():
    rng = np.random.default_rng(6)
    a = rng.normal(size=(20, 20))
    found = solve(0.01 + 0.03 * rng.normal(size=20), (a + a.T) / 20 + np.eye(20) * 0.02, DOCUMENT)
    assert (found.status, found.gap) == ("uncertified", None)
    assert abs(found.weights.sum() - 1) < 1e-12


def test_what_is_no_problem_is_refused():
    with pytest.raises(ValueError, match="none of 2 assets"):
        solve(np.array([np.nan, 0.1]), np.diag([1.0, np.inf]), DOCUMENT)
    with pytest.raises(ValueError, match=r"\(2, 2\); 3 means"):
        solve(np.zeros(3), np.eye(2), DOCUMENT)
    with pytest.raises(ValueError, match=r"room for weights of 0.6 in 3 assets; raise max_weight"):
        solve(np.array([0.1, np.nan, 0.2, 0.3]), np.eye(4), ReturnDrawdownConfig(max_weight=0.2))
    with pytest.raises(ValueError, match="column 2"):
        solve(
            np.array([np.nan, 0, 0, 0]),
            np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, np.nan, 1.0]]),
            DOCUMENT,
        )


@pytest.mark.parametrize(("n", "seed"), [(3, 0), (12, 1), (25, 2)])
def test_the_documents_method_ends_where_scipy_ends_from_equal_weights(n, seed):
    mean, covariance = instance(seed, n, *REGIMES["mixed"])
    found = solve(mean, covariance, ReturnDrawdownConfig(method="document"))
    theirs = minimize(
        lambda w: -ratio(w, mean, covariance, DOCUMENT), np.full(n, 1 / n), method="SLSQP", bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"maxiter": 1000},
    )  # fmt: skip
    assert found.start == "equal"
    assert found.ratio == pytest.approx(-theirs.fun, rel=1e-4)
    assert found.ratio <= solve(mean, covariance, DOCUMENT).ratio + 1e-9


def test_the_documents_method_says_how_far_it_is_from_the_best():
    found = [
        (solve(mean, covariance, ReturnDrawdownConfig(method="document")), solve(mean, covariance, DOCUMENT))
        for mean, covariance in (instance(seed, 60, *REGIMES["bear"]) for seed in range(8))
    ]
    assert {own.status for own, _ in found} >= {"local"}
    for own, best in found:
        assert own.bound == pytest.approx(best.ratio, rel=1e-9)
        assert own.gap == pytest.approx((best.ratio - own.ratio) / abs(best.ratio), abs=1e-8)
        assert own.status == ("global" if own.gap <= 1e-9 else "local")


def test_the_documents_method_knows_no_limits():
    with pytest.raises(ValueError, match=r"max_weight is 0.5 and method 'document', which knows no limits"):
        ReturnDrawdownConfig(method="document", max_weight=0.5)
