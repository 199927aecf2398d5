"""Online gradient descent: derivatives against autograd, steps by hand, and the same bits however it is run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime, brentq

from tasks.numerics.configs import OGD_CONSERVATIVE, OGD_LONG_WINDOW, OnlineConfig
from tasks.numerics.online import gradient, init, objective, run, step, with_reset

SHORT = OnlineConfig(window=10)


def market(seed, sessions, n):
    rng = np.random.default_rng(seed)
    return rng.normal(3e-4, 0.008, (sessions, 1)) + rng.normal(0, 0.012, (sessions, n))


def everything(sessions, n):
    return np.ones((sessions, n), bool)


def rates(seed, sessions):
    return np.random.default_rng(seed).normal(1e-3, 2e-3, sessions)


def standing(weights, velocity, t):
    """A state of the default set."""
    weights = np.asarray(weights, float)
    return init(np.ones(weights.size, bool), SHORT)._replace(
        weights=weights, velocity=np.asarray(velocity, float), t=np.int64(t)
    )


def torch_objective(w, x, config, cash=0.02 / 252):
    r = x @ w + (1 - w.sum()) * cash
    excess = r - cash
    downside = torch.sqrt((torch.clamp(excess, max=0) ** 2).mean() + config.downside_floor**2)
    wealth = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(torch.clamp(1 + r, min=1e-6), 0)])
    drawdown = (1 - wealth / torch.cummax(wealth, 0).values).max()
    return config.sortino_weight * excess.mean() / downside - config.drawdown_weight * drawdown


def plain_run(returns, mask, config, cash=None):
    """The strategy once more in plain numpy, its proximal step by bisection; from equal weights on."""
    n, m = returns.shape[1], config.window
    w, v, path, bound = np.full(n, 1 / n), np.zeros(n), [], 0
    cash = np.full(len(returns), 0.02 / 252) if cash is None else cash
    for t, allowed in enumerate(mask):
        seen = slice(t, t + m)
        if w[~allowed].any():
            w = plain_prox(w, w, 0.0, allowed)
        rate = config.learning_rate * config.decay**t
        v = np.where(allowed, config.momentum * v + rate * plain_gradient(w, returns[seen], config, cash[seen]), 0)
        target = plain_prox(w + v, w, rate * config.turnover_weight / (1 - config.momentum), allowed)
        traded = np.abs(target - w).sum()
        bound += traded > config.turnover_ceiling
        w = w + min(1, config.turnover_ceiling / traded) * (target - w) if traded > 0 else target
        path.append(w)
    return np.array(path), bound / len(mask)


def plain_gradient(w, x, config, cash):
    e = x @ w + (1 - w.sum()) * cash - cash
    d = np.sqrt(np.mean(np.minimum(e, 0) ** 2) + config.downside_floor**2)
    x = x - cash[:, None]  # what a weight earns more than cash
    sortino = x.T @ (1 / d - e.mean() * np.minimum(e, 0) / d**3) / len(e)
    r = x @ w + cash
    g = np.concatenate([[1], np.cumprod(1 + r)])
    trough = int(np.argmax(1 - g / np.maximum.accumulate(g)))
    peak = int(np.argmax(g[: trough + 1]))
    lost = x[peak:trough].T @ (1 / (1 + r[peak:trough]))
    return config.sortino_weight * sortino + config.drawdown_weight * g[trough] / g[peak] * lost


def plain_prox(y, c, penalty, allowed):
    def weights(theta):
        x = y - theta
        moved = c + np.sign(x - c) * np.maximum(np.abs(x - c) - penalty, 0)
        return np.where(allowed, np.maximum(moved, 0), 0)

    reach = np.abs(y).max() + penalty + 2
    return weights(brentq(lambda theta: weights(theta).sum() - 1, -reach, reach, xtol=1e-16, rtol=1e-15))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("config", [OGD_LONG_WINDOW, OnlineConfig(sortino_weight=0.3, drawdown_weight=4)])
def test_value_and_gradient_are_those_of_autograd(seed, config):
    x = market(seed, 90, 12) * (1 + seed / 5)
    w = np.random.default_rng(seed).dirichlet(np.ones(12))
    variable = torch.tensor(w, requires_grad=True)
    value = torch_objective(variable, torch.tensor(x), config)
    value.backward()
    expected = variable.grad.numpy()
    assert objective(w, x, config) == pytest.approx(value.item(), rel=1e-12, abs=1e-15)
    assert np.abs(gradient(w, x, config) - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("seed", range(20))
def test_with_a_series_of_risk_free_returns_they_are_those_of_autograd_too(seed):
    x, cash = market(seed, 90, 12), rates(seed, 90)
    w = np.random.default_rng(seed).dirichlet(np.ones(12))
    variable = torch.tensor(w, requires_grad=True)
    value = torch_objective(variable, torch.tensor(x), OGD_LONG_WINDOW, torch.tensor(cash))
    value.backward()
    expected = variable.grad.numpy()
    assert objective(w, x, OGD_LONG_WINDOW, cash) == pytest.approx(value.item(), rel=1e-12, abs=1e-15)
    assert np.abs(gradient(w, x, OGD_LONG_WINDOW, cash) - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("cash", [None, rates(1, 90)])
def test_the_gradient_is_the_slope_of_the_objective(cash):
    x, w = market(1, 90, 5), np.random.default_rng(1).dirichlet(np.ones(5))
    slope = approx_fprime(w, objective, 1e-8, x, OGD_LONG_WINDOW, cash)
    np.testing.assert_allclose(gradient(w, x, OGD_LONG_WINDOW, cash), slope, rtol=1e-5, atol=1e-6)


def test_only_what_is_earned_above_cash_counts():
    x, cash, w = np.array([[0.02], [-0.01], [0.04]]), np.array([0.01, 0.01, 0.0]), np.ones(1)
    config = OnlineConfig(drawdown_weight=0)
    downside = np.sqrt(0.02**2 / 3 + config.downside_floor**2)
    assert objective(w, x, config, cash) == pytest.approx(0.03 / 3 / downside, rel=1e-14)


def test_the_drawdown_by_hand_counts_the_start_as_a_peak():
    only_drawdown = OnlineConfig(sortino_weight=0)
    x = np.array([[-0.1], [0.05], [-0.2], [0.5], [-0.1]])
    kept = 0.9 * 1.05 * 0.8
    assert objective(np.ones(1), x, only_drawdown, np.zeros(5)) == pytest.approx(-(1 - kept), rel=1e-14)
    expected = kept * (-0.1 / 0.9 + 0.05 / 1.05 - 0.2 / 0.8)
    np.testing.assert_allclose(gradient(np.ones(1), x, only_drawdown, np.zeros(5)), [expected], rtol=1e-14)


def test_of_two_equal_drawdowns_the_first_counts():
    only_drawdown = OnlineConfig(sortino_weight=0)
    x = np.array([[-0.5, 0.0], [1.0, 1.0], [0.0, 0.0], [-0.5, -0.25]])
    np.testing.assert_allclose(gradient(np.array([1.0, 0]), x, only_drawdown, np.zeros(4)), [-0.5, 0], atol=1e-15)


def test_without_drawdown_its_gradient_is_zero():
    x = np.abs(market(2, 20, 4))
    np.testing.assert_array_equal(gradient(np.full(4, 0.25), x, OnlineConfig(sortino_weight=0)), np.zeros(4))


def test_a_day_that_loses_more_than_everything_stays_finite():
    x = np.array([[0.01], [-1.2], [0.3]])
    config = OnlineConfig(sortino_weight=0)
    assert objective(np.ones(1), x, config) == pytest.approx(-(1 - 1e-6), rel=1e-12)
    assert gradient(np.ones(1), x, config) == 0


def test_a_window_without_losses_is_finite_and_bounded_by_the_floor():
    x, w = np.full((90, 3), 0.001), np.full(3, 1 / 3)
    assert objective(w, x, OGD_LONG_WINDOW) == pytest.approx((0.001 - 0.02 / 252) / 1e-4, rel=1e-10)
    after = step(init(np.ones(3, bool), SHORT), x + np.array([0, 0, 1e-4]), np.ones(3, bool), OGD_LONG_WINDOW)
    assert np.isfinite(after.weights).all()
    assert np.abs(after.weights - w).sum() <= 0.2 + 1e-12


def test_momentum_and_decay_by_hand():
    config = OnlineConfig(window=10, momentum=0.5, decay=0.9, learning_rate=1e-3, turnover_weight=0, turnover_ceiling=2)
    x, free = market(3, 12, 2), np.ones(2, bool)
    state = standing([0.5, 0.5], np.zeros(2), 4)
    velocity, w = np.zeros(2), state.weights
    for k in range(3):
        velocity = 0.5 * velocity + 1e-3 * 0.9 ** (4 + k) * gradient(w, x[k : k + 10], config)
        w = w + velocity - velocity.mean()  # the projection inside the simplex
        state = step(state, x[k : k + 10], free, config)
        np.testing.assert_allclose(state.weights, w, atol=1e-15)
        np.testing.assert_allclose(state.velocity, velocity, atol=1e-16)
    assert state.t == 7


def test_turnover_falls_with_its_weight_and_ends():
    x, free = market(4, 90, 20), np.ones(20, bool)
    start = init(free, SHORT)
    traded = []
    for a3 in (0, 0.005, 0.02, 0.03):
        after = step(start, x, free, OnlineConfig(turnover_weight=a3, turnover_ceiling=2))
        traded.append(np.abs(after.weights - start.weights).sum())
    assert (np.diff(traded) < 0).all()
    _, path = run(start, market(4, 200, 20), everything(111, 20), OnlineConfig(turnover_weight=1e4))
    np.testing.assert_array_equal(path.weights, np.tile(start.weights, (111, 1)))


def test_the_ceiling_binds_exactly_along_the_way_to_the_unbound_step():
    x, free = market(5, 90, 20), np.ones(20, bool)
    fast = OnlineConfig(learning_rate=0.5, turnover_weight=0.01, turnover_ceiling=2)
    start = init(free, SHORT)
    unbound = step(start, x, free, fast)
    bound, path = run(start, x, free[None], replace(fast, turnover_ceiling=0.05))
    move, full = bound.weights - start.weights, unbound.weights - start.weights
    assert np.abs(full).sum() > 0.05
    assert np.abs(move).sum() == pytest.approx(0.05, rel=1e-12)
    np.testing.assert_allclose(move, full * 0.05 / np.abs(full).sum(), atol=1e-16)
    np.testing.assert_array_equal(bound.velocity, unbound.velocity)
    assert path.at_ceiling.tolist() == [True]


def test_a_masked_asset_has_no_weight_and_no_velocity_at_once():
    x = market(6, 90, 4)
    config = OnlineConfig(turnover_ceiling=0.01)
    start = standing([0.6, 0.2, 0.2, 0.0], [0.1, 0.0, -0.1, 0.2], 3)
    mask = np.array([False, True, True, False])
    after = step(start, x, mask, config)
    assert (after.weights[~mask] == 0).all()
    assert (after.velocity[~mask] == 0).all()
    moved = np.array([0, 0.5, 0.5, 0])
    assert np.abs(after.weights - moved).sum() <= 0.01 + 1e-12
    assert after.weights.sum() == pytest.approx(1, abs=1e-14)


def test_an_asset_that_enters_starts_at_nothing():
    x = market(7, 90, 3)
    x[:, 2] = 0
    start = init(np.array([True, True, False]), SHORT)
    np.testing.assert_array_equal(start.weights, [0.5, 0.5, 0])
    after = step(start, x, np.ones(3, bool), OnlineConfig(turnover_weight=1e4))
    np.testing.assert_array_equal(after.weights, start.weights)


@pytest.mark.parametrize("series", [False, True])
@pytest.mark.parametrize("config", [OGD_LONG_WINDOW, OGD_CONSERVATIVE, OnlineConfig(window=20, turnover_ceiling=0.02)])
def test_the_path_is_that_of_a_plain_implementation(config, series):
    sessions, n = 250, 9
    x = market(8, config.window - 1 + sessions, n)
    mask = everything(sessions, n)
    mask[60:120, 2] = mask[100:, 5] = False
    cash = rates(8, len(x)) if series else None
    state, path = run(init(np.ones(n, bool), SHORT), x, mask, config, cash)
    expected, expected_share = plain_run(x, mask, config, cash)
    np.testing.assert_allclose(path.weights, expected, atol=1e-10)
    assert path.at_ceiling.mean() == expected_share
    np.testing.assert_array_equal(path.weights[-1], state.weights)
    assert state.t == sessions


def test_every_day_ends_on_the_simplex():
    config = replace(OGD_LONG_WINDOW, learning_rate=0.1)
    rng = np.random.default_rng(9)
    mask = rng.random((300, 30)) < 0.9
    _, path = run(init(np.ones(30, bool), SHORT), market(9, 389, 30), mask, config)
    assert path.weights.min() >= 0
    assert (path.weights[~mask] == 0).all()
    np.testing.assert_allclose(path.weights.sum(axis=1), 1, atol=1e-13)


@pytest.mark.parametrize("cut", [1, 37, 119])
def test_resuming_is_replaying_bit_for_bit(cut):
    x, mask = market(10, 129, 15), np.random.default_rng(10).random((120, 15)) < 0.95
    start, cash = init(np.ones(15, bool), SHORT), rates(10, 129)
    state, path = run(start, x, mask, SHORT, cash)
    middle, first = run(start, x[: cut + 9], mask[:cut], SHORT, cash[: cut + 9])
    resumed, second = run(middle, x[cut:], mask[cut:], SHORT, cash[cut:])
    for straight, one, two in zip(path, first, second, strict=True):
        np.testing.assert_array_equal(np.concatenate([one, two]), straight)
    np.testing.assert_array_equal(resumed.weights, state.weights)
    np.testing.assert_array_equal(resumed.velocity, state.velocity)
    assert resumed.t == state.t


def test_single_steps_are_the_run_bit_for_bit_and_leave_their_input_alone():
    x, mask = market(11, 159, 7), everything(70, 7)
    state = start = init(mask[0], SHORT)
    final, path = run(start, x, mask, OGD_LONG_WINDOW)
    for k in range(70):
        window = np.array(x[k : k + 90], order="F")
        window.flags.writeable = False
        state = step(state, window, mask[k], OGD_LONG_WINDOW)
        np.testing.assert_array_equal(state.weights, path.weights[k])
    np.testing.assert_array_equal(state.velocity, final.velocity)
    np.testing.assert_array_equal(start.weights, np.full(7, 1 / 7))


def test_later_returns_change_no_earlier_bit():
    x, mask = market(12, 109, 6), everything(100, 6)
    start = init(mask[0], SHORT)
    _, path = run(start, x, mask, SHORT)
    x[60:] = market(13, 49, 6)
    _, other = run(start, x, mask, SHORT)
    np.testing.assert_array_equal(other.weights[:51], path.weights[:51])
    assert (other.weights[51] != path.weights[51]).any()


def test_a_series_of_the_constant_changes_no_bit():
    x, mask = market(13, 109, 6), everything(100, 6)
    constant = run(init(mask[0], SHORT), x, mask, SHORT)
    series = run(init(mask[0], SHORT), x, mask, SHORT, np.full(109, 0.02 / 252))
    assert (series[1].weights == constant[1].weights).all()
    assert (series[0].velocity == constant[0].velocity).all()


def test_single_steps_with_a_series_are_the_run_bit_for_bit():
    x, mask, cash = market(14, 79, 7), everything(70, 7), rates(14, 79)
    state = init(mask[0], SHORT)
    _, path = run(state, x, mask, SHORT, cash)
    for k in range(70):
        state = step(state, x[k : k + 10], mask[k], SHORT, cash[k : k + 10])
        np.testing.assert_array_equal(state.weights, path.weights[k])


def test_a_reset_restarts_the_learning_rate_only():
    x, free = market(14, 10, 3), np.ones(3, bool)
    late = standing([0.2, 0.3, 0.5], [1e-3, 0.0, -1e-3], 5000)
    fresh = with_reset(late, SHORT)
    assert fresh.t == 0
    assert fresh.weights is late.weights
    assert fresh.velocity is late.velocity
    moved = [np.abs(step(s, x, free, SHORT).velocity - 0.8 * late.velocity).sum() for s in (late, fresh)]
    assert moved[0] == pytest.approx(moved[1] * 0.997**5000, rel=1e-6)


def test_what_cannot_be_stepped_is_refused():
    start, free = init(np.ones(3, bool), SHORT), np.ones(3, bool)
    holed = market(15, 10, 3)
    holed[4, 1] = np.nan
    with pytest.raises(ValueError, match="row 4, column 1"):
        step(start, holed, free, SHORT)
    with pytest.raises(ValueError, match="row 4, column 1"):
        gradient(start.weights, holed, SHORT)
    with pytest.raises(ValueError, match=r"it must be \(sessions, 3\)"):
        objective(start.weights, np.zeros((10, 2)), SHORT)
    with pytest.raises(ValueError, match=r"returns \(10, 2\), mask \(1, 3\), weights \(1, 3\) and 1 configs"):
        step(start, np.zeros((10, 2)), free, SHORT)
    with pytest.raises(ValueError, match="row 1"):
        run(start, np.zeros((11, 3)), np.array([[True] * 3, [False] * 3]), SHORT)
    with pytest.raises(ValueError, match=r"shape \(9,\) and 9 finite values; it must be \(10,\)"):
        step(start, np.zeros((10, 3)), free, SHORT, np.zeros(9))
    with pytest.raises(ValueError, match=r"shape \(10,\) and 9 finite values"):
        step(start, np.zeros((10, 3)), free, SHORT, np.append(np.zeros(9), np.nan))
    with pytest.raises(ValueError, match="none of 2"):
        init(np.zeros(2, bool), SHORT)
