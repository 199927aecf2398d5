"""Sets, limits, guard, sparsity, siblings and lanes of the online strategies: what each promises."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.numerics.configs import (
    EXPONENTIATED_GRADIENT,
    HEDGE,
    MIRROR_DESCENT,
    OGD_LEVERAGED,
    OGD_LONG_SHORT,
    OGD_LONG_WINDOW,
    OnlineConfig,
)
from tasks.numerics.online import gradient, init, run, sessions_needed, step, with_reset

RF = 0.02 / 252
QUICK = replace(OGD_LONG_WINDOW, learning_rate=0.2, window=20)
ALL = {
    "long window": OGD_LONG_WINDOW,
    "leveraged": OGD_LEVERAGED,
    "long and short": OGD_LONG_SHORT,
    "exponentiated gradient": EXPONENTIATED_GRADIENT,
    "mirror descent": MIRROR_DESCENT,
    "hedge": HEDGE,
    "limits": replace(QUICK, fully_invested=False, drawdown_limit=0.1, volatility_limit=0.1),
    "guard": replace(QUICK, guard_limit=0.1),
    "ten positions": replace(QUICK, max_positions=3),
    "terms": replace(QUICK, cvar_weight=5, volatility_weight=1, concentration_weight=0.1, effective_minimum=5),
    "parts": replace(
        MIRROR_DESCENT, fully_invested=False, gross_limit=1.5, short_each=1.5, short_total=1.5, learning_rate=0.5
    ),
    "entropy with cash": replace(EXPONENTIATED_GRADIENT, fully_invested=False, gross_limit=1.2),
}


def market(seed, sessions, n, fall=0.0):
    """Returns with a common factor; the middle third falls by `fall` a session on average."""
    rng = np.random.default_rng(seed)
    drift = np.full((sessions, 1), 3e-4)
    drift[sessions // 3 : 2 * sessions // 3] -= fall
    return drift + rng.normal(0, 0.009, (sessions, 1)) + rng.normal(0, 0.012, (sessions, n))


def drawdown(returns):
    wealth = np.concatenate([[1], np.cumprod(1 + returns)])
    return (1 - wealth / np.maximum.accumulate(wealth)).max()


def holes(seed, sessions, n):
    """A mask in which assets come and go, never all of them."""
    mask = np.random.default_rng(seed).random((sessions, n)) < 0.97
    mask[:, 0] = True
    mask[: sessions // 2, 1] = mask[sessions // 3 :, 2] = False
    return mask


@pytest.mark.parametrize("name", ALL)
def test_every_session_ends_in_the_set(name):
    config, x, mask = ALL[name], market(1, 500, 8, 2e-3), holes(1, 400, 8)
    _, path = run(init(mask[0], config), x[101 - min(101, sessions_needed(config)) :], mask, config)
    w = path.weights
    assert np.isfinite(w).all()
    assert (w[~mask] == 0).all()
    assert np.abs(w).sum(axis=1).max() <= config.gross_limit + 1e-9
    assert w.min() >= -config.short_each - 1e-9
    assert np.maximum(-w, 0).sum(axis=1).max() <= config.short_total + 1e-9
    if config.fully_invested:
        np.testing.assert_allclose(w.sum(axis=1), path.exposure, atol=1e-12)


def test_leverage_and_shorts_are_used_where_they_pay():
    x = market(2, 490, 8) + 2e-3
    x[:, 1] -= 6e-3
    mask = np.ones((400, 8), bool)
    levered, short = (
        run(init(mask[0], config), x[1:], mask, config)[1].weights
        for config in (replace(OGD_LEVERAGED, return_weight=100), replace(OGD_LONG_SHORT, learning_rate=0.05))
    )
    assert levered.sum(axis=1).max() > 1.2
    assert short[-1, 1] < -0.03


@pytest.mark.parametrize("config", [ALL["limits"], replace(QUICK, drawdown_limit=0.08, fully_invested=False)])
def test_limits_hold_over_the_window_after_every_session(config):
    x, mask = market(3, 652, 6, 3e-3), np.ones((400, 6), bool)
    _, path = run(init(mask[0], config), x[1:], mask, config)
    bound = 0
    for t, w in enumerate(path.weights):
        seen = x[t + 1 : t + 253] if t + 253 <= len(x) else x[-252:]
        r = seen @ w + (1 - w.sum()) * RF
        assert drawdown(r) <= config.drawdown_limit + 1e-9
        if config.volatility_limit:
            assert np.sqrt(252) * r.std(ddof=1) <= config.volatility_limit + 1e-9
        bound += drawdown(r) > 0.99 * config.drawdown_limit
    assert bound > 10  # it did bind
    assert not path.infeasible.any()


def test_a_limit_takes_the_largest_share_of_the_step_that_keeps_it():
    x, mask = market(4, 300, 5, 2e-3), np.ones(5, bool)
    free = replace(QUICK, fully_invested=False, learning_rate=1.0, turnover_ceiling=2.0, turnover_weight=0)
    start = init(mask, free)._replace(weights=np.full(5, 0.05))
    target = step(start, x, mask, free).weights
    seen = x[-252:]

    def fall(share):
        w = 0.05 + share * (target - 0.05)
        return drawdown(seen @ w + (1 - w.sum()) * RF)

    limit = fall(0.6)
    assert fall(1.0) > limit > fall(0.0)
    found = step(start, x, mask, replace(free, drawdown_limit=limit)).weights
    np.testing.assert_allclose(found, 0.05 + 0.6 * (target - 0.05), atol=1e-9)


def test_what_cannot_keep_a_limit_is_kept_and_said():
    x, mask = market(5, 400, 4, 6e-3), np.ones((148, 4), bool)
    invested = replace(QUICK, drawdown_limit=0.02)
    _, path = run(init(mask[0], invested), x[1:], mask, invested)
    assert path.infeasible.any()
    np.testing.assert_allclose(path.weights.sum(axis=1), 1, atol=1e-12)
    cash = replace(invested, fully_invested=False)
    _, path = run(init(mask[0], cash), x[1:], mask, cash)
    assert not path.infeasible.any()
    assert path.weights.sum(axis=1).min() < 0.5


@pytest.mark.parametrize("limit", [0.1, 0.2])
def test_the_guard_keeps_the_account_above_its_floor(limit):
    x, mask = market(6, 900, 5, 4e-3), np.ones((880, 5), bool)
    config = replace(QUICK, guard_limit=limit)
    _, path = run(init(mask[0], config), x[1:], mask, config)
    free = run(init(mask[0], QUICK), x[1:], mask, QUICK)[1].weights
    np.testing.assert_allclose(path.weights, path.exposure[:, None] * free, atol=1e-15)
    # traded at the close after the decision, at work from the session after that
    daily = (path.weights[:-2] * x[-878:]).sum(axis=1) + (1 - path.weights[:-2].sum(axis=1)) * RF
    wealth = np.concatenate([[1], np.cumprod(1 + daily)])
    worst = max(1 - wealth[k] / wealth[max(0, k - 251) : k + 1].max() for k in range(len(wealth)))
    assert 0.8 * limit < worst <= limit
    assert path.exposure.min() < 0.3
    peak = np.array([wealth[max(0, k - 251) : k + 1].max() for k in range(len(wealth))])
    expected = np.clip((wealth - (1 - limit) * peak) / wealth / limit, 0, 1)
    np.testing.assert_allclose(path.exposure[2:], expected[1:], atol=1e-12)


def test_no_more_than_the_largest_positions_are_held():
    config, x, mask = replace(QUICK, max_positions=3), market(7, 419, 10), holes(7, 400, 10)
    _, path = run(init(mask[0], config), x, mask, config)
    assert (path.weights > 0).sum(axis=1).max() == 3
    assert len({tuple(row) for row in (path.weights > 0).tolist()}) > 3  # not always the same ones
    np.testing.assert_allclose(path.weights.sum(axis=1), 1, atol=1e-12)


def test_the_absolute_sum_costs_only_where_it_is_free():
    x, mask = market(8, 290, 8) + 2e-3, np.ones((200, 8), bool)
    gross = []
    for a4 in (0.0, 0.2, 0.5):
        leveraged = replace(OGD_LEVERAGED, l1_weight=a4, return_weight=100, drawdown_weight=0)
        gross.append(np.abs(run(init(mask[0], leveraged), x[1:], mask, leveraged)[1].weights).sum(axis=1).mean())
    assert gross[0] > gross[1] > gross[2]
    paths = [
        run(init(mask[0], config), x[1:], mask, config)[1].weights
        for config in (replace(OGD_LONG_WINDOW, l1_weight=0), replace(OGD_LONG_WINDOW, l1_weight=5))
    ]
    np.testing.assert_allclose(paths[0], paths[1], atol=1e-9)  # on the simplex it is constant


def test_a_larger_penalty_trades_less():
    x, mask = market(9, 490, 10), np.ones((400, 10), bool)
    traded = []
    for a3 in (0.0, 0.02, 0.1, 0.2):
        config = replace(OGD_LONG_WINDOW, turnover_weight=a3)
        path = run(init(mask[0], config), x[1:], mask, config)[1].weights
        traded.append(np.abs(np.diff(path, axis=0)).sum())
    assert (np.diff(traded) < 0).all()
    assert traded[-1] < 0.5 * traded[0]


@pytest.mark.parametrize("config", [EXPONENTIATED_GRADIENT, HEDGE])
def test_multiplicative_weights_by_hand(config):
    x, mask = market(10, 60, 4), np.ones((60, 4), bool)
    _, path = run(init(mask[0], config), x, mask, config)
    w = np.full(4, 0.25)
    for t in range(60):
        gain = (1 + x[t]) / (1 + x[t] @ w) if config.objective == "log_wealth" else x[t]
        w = w * np.exp(0.05 * gain)
        w = w / w.sum()
        np.testing.assert_allclose(path.weights[t], w, atol=1e-14)


def test_mirror_descent_climbs_the_objective_of_the_window():
    x, mask = market(11, 90, 5), np.ones(5, bool)
    config = replace(MIRROR_DESCENT, turnover_ceiling=10)
    found = step(init(mask, config), x, mask, config).weights
    expected = 0.2 * np.exp(0.05 * gradient(np.full(5, 0.2), x, config))
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-14)


def test_both_signs_of_an_asset_have_a_part():
    x, mask = market(12, 120, 4), np.ones((100, 4), bool)
    x[:, 0] += 3e-3
    x[:, 1] -= 6e-3
    config = replace(ALL["parts"], objective="linear", learning_rate=2.0)
    start = init(mask[0], config)
    assert start.weights.sum() + 2 * start.parts.sum() == pytest.approx(1.5)
    state, path = run(start, x[-100:], mask, config)
    long, short = start.weights + start.parts, start.parts
    for row in x[-100:]:
        long, short = long * np.exp(2 * (row - RF)), short * np.exp(-2 * (row - RF))
        whole = 1.5 / (long + short).sum()
        long, short = long * whole, short * whole
    np.testing.assert_allclose(path.weights[-1], long - short, atol=1e-12)
    np.testing.assert_allclose(state.parts, short, atol=1e-12)
    assert path.weights[-1, 1] < 0 < path.weights[-1, 0]


def test_a_new_asset_gets_an_equal_share_where_nothing_would_stay_nothing():
    x, mask = market(13, 30, 4), np.ones((30, 4), bool)
    mask[:10, 3] = False
    _, path = run(init(mask[0], EXPONENTIATED_GRADIENT), x, mask, EXPONENTIATED_GRADIENT)
    assert path.weights[9, 3] == 0
    assert path.weights[10, 3] == pytest.approx(0.25, rel=0.01)
    np.testing.assert_allclose(path.weights[10, :3] / path.weights[9, :3], 0.75, rtol=0.01)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("cut", [1, 63])
def test_every_strategy_resumes_bit_for_bit(name, cut):
    config, x, mask = ALL[name], market(14, 352, 7, 2e-3), holes(14, 100, 7)
    needed = sessions_needed(config)
    seen = x[252 - needed + 1 :]
    straight, path = run(init(mask[0], config), seen, mask, config)
    middle, first = run(init(mask[0], config), seen[: needed - 1 + cut], mask[:cut], config)
    resumed, second = run(middle, seen[cut:], mask[cut:], config)
    for whole, one, two in zip(path, first, second, strict=True):
        np.testing.assert_array_equal(np.concatenate([one, two]), whole)
    for whole, part in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(part, whole)


def test_a_lane_of_many_is_the_single_run():
    x, mask = market(15, 352, 7, 2e-3), holes(15, 100, 7)
    configs = list(ALL.values())
    state, path = run(init(mask[0], configs), x[1:], mask, configs)
    for place, config in enumerate(configs):
        single, alone = run(init(mask[0], config), x[1:], mask, config)
        np.testing.assert_allclose(path.weights[:, place], alone.weights, atol=1e-12, err_msg=list(ALL)[place])
        np.testing.assert_array_equal(path.infeasible[:, place], alone.infeasible)
        for many, one in zip(state, single, strict=True):
            np.testing.assert_allclose(many[place], one, atol=1e-12)


def test_lanes_of_a_sweep_are_single_runs_and_resume_bit_for_bit():
    x, mask = market(16, 160, 7, 2e-3), holes(16, 71, 7)
    rates = np.geomspace(1e-3, 0.05, 70).tolist()  # with two windows more lanes than the kernel takes at once
    configs = [replace(OGD_LONG_WINDOW, learning_rate=rate, window=m) for m in (20, 90) for rate in rates]
    straight, path = run(init(mask[0], configs), x, mask, configs)
    for place in (0, 31, 32, 69, 127, 128, 139):
        _, alone = run(init(mask[0], configs[place]), x, mask, configs[place])
        np.testing.assert_allclose(path.weights[:, place], alone.weights, rtol=0, atol=1e-12)
    middle, first = run(init(mask[0], configs), x[:119], mask[:30], configs)
    resumed, second = run(middle, x[30:], mask[30:], configs)
    np.testing.assert_array_equal(np.concatenate([first.weights, second.weights]), path.weights)
    for whole, part in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("name", list(ALL))
def test_a_run_leaves_the_state_that_it_begins_with_alone(name):
    x, mask = market(17, 352, 7, 2e-3), holes(17, 100, 7)
    begun, _ = run(init(mask[0], ALL[name]), x[1:], mask, ALL[name])
    copies = [np.array(part) for part in begun]
    run(begun, x[1:], mask, ALL[name])
    for part, copy in zip(begun, copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_a_new_block_resets_the_rates_that_are_to_be():
    never = replace(OGD_LONG_WINDOW, lr_reset="never")
    state = init(np.ones(3, bool), [OGD_LONG_WINDOW, never])._replace(t=np.array([300, 300]))
    assert with_reset(state, [OGD_LONG_WINDOW, never]).t.tolist() == [0, 300]


def test_a_hard_config_does_not_break_the_kernel():
    x = market(16, 352, 6, 0.02)
    x[200:210] = -0.5
    mask = np.ones((100, 6), bool)
    wild = OnlineConfig(
        learning_rate=10, momentum=0.99, decay=1, gross_limit=3, short_each=3, short_total=3, fully_invested=False
    )
    for config in (wild, replace(wild, drawdown_limit=0.05, volatility_limit=0.05, guard_limit=0.05)):
        _, path = run(init(mask[0], config), x[1:], mask, config)
        assert np.isfinite(path.weights).all()
