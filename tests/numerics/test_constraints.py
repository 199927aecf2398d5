"""Limits on sectors, turnover and small positions: kept, as good as a QP solver's frontier, or refused."""

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tasks.numerics import constraints, return_drawdown
from tasks.numerics.configs import ReturnDrawdownConfig
from tasks.numerics.return_drawdown import ratio, solve

MEANS = {"mixed": (0.01, 0.03), "weak": (0.003, 0.01), "falling": (-0.08, 0.02)}
NAMES = ("Energy", "Financials", "Health Care", "Industrials", "")


def instance(seed, n, regime="mixed"):
    """Means, a factor Z of the covariance, a sector for each asset, and weights held."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 1)) + rng.normal(size=(60, n)) * rng.uniform(0.5, 2, n)
    x -= x.mean(axis=0)
    z = x / np.sqrt((x**2).sum(axis=0)) * 0.09 * np.exp(0.35 * rng.normal(size=n))
    location, scale = MEANS[regime]
    held = rng.dirichlet(np.full(n, 0.3))
    held[held < 0.02] = 0
    sectors = tuple(NAMES[place] for place in rng.integers(0, len(NAMES), n))
    return location + scale * rng.normal(size=n), z, sectors, 0.95 * held / held.sum()


def best_along_the_frontier(mean, z, config, sectors, held):
    """The best f of the minimal portfolios 1/2 V - lam m within the limits, over all lam."""
    w, lam = cp.Variable(mean.size), cp.Parameter(nonneg=True)
    within = [cp.sum(w) == 1, w >= 0, w <= config.max_weight]
    for name in set(sectors) - {""}:
        within.append(
            cp.sum(w[[place for place, sector in enumerate(sectors) if sector == name]]) <= config.max_sector_weight
        )
    if config.turnover_limit < 1:
        within.append(cp.norm1(w - held) <= 2 * config.turnover_limit)
    problem = cp.Problem(cp.Minimize(500 * cp.sum_squares(z @ w) - 1000 * lam * (mean @ w)), within)

    def negative_ratio(logarithm):
        lam.value = np.exp(logarithm)
        problem.solve(solver=cp.CLARABEL)
        return -ratio(w.value / w.value.sum(), mean, z.T @ z, config)

    logarithms = np.linspace(np.log(2e-3), np.log(20), 16)
    values = [negative_ratio(logarithm) for logarithm in logarithms]
    best = int(np.argmin(values))
    around = logarithms[max(best - 1, 0)], logarithms[min(best + 1, 15)]
    found = minimize_scalar(negative_ratio, bounds=around, method="bounded", options={"xatol": 1e-4})
    return -min(found.fun, *values)


def assert_kept(found, config, sectors=None, held=None):
    w, tolerance = found.weights, 1e-9
    assert abs(w.sum() - 1) <= tolerance
    assert w.min() >= 0
    assert w.max() <= config.max_weight + tolerance
    assert not ((w > 0) & (w < config.min_weight - tolerance)).any()
    for name in set(sectors or ()) - {""}:
        assert w[[sector == name for sector in sectors]].sum() <= config.max_sector_weight + tolerance
    if held is not None:
        assert found.turnover == pytest.approx(0.5 * np.abs(w - held).sum(), abs=1e-15)
        assert found.turnover <= (found.turnover_needed or config.turnover_limit) + tolerance
    assert found.gap >= 0
    assert found.ratio <= found.bound + 1e-9 * abs(found.bound)


@pytest.mark.parametrize(
    "options",
    [
        {"max_sector_weight": 0.3},
        {"turnover_limit": 0.15},
        {"max_sector_weight": 0.35, "turnover_limit": 0.4, "max_weight": 0.3},
    ],
    ids=["sectors", "turnover", "all"],
)
@pytest.mark.parametrize("regime", MEANS)
@pytest.mark.parametrize("n", [8, 30])
def test_within_the_limits_the_best_is_that_of_a_qp_solvers_frontier(n, regime, options):
    config = ReturnDrawdownConfig(**options)
    for seed in range(3):
        mean, z, sectors, held = instance(seed, n, regime)
        held = held if "turnover_limit" in options else None
        found = solve(mean, z.T @ z, config, sectors, held)
        if found.turnover_needed is None:
            assert_kept(found, config, sectors, held)
            assert found.kkt < 1e-5
            limits = constraints.limits(config, np.ones(n, bool), sectors, held)
            assert found.branch == ("positive" if constraints.extreme(limits, mean) @ mean > 0 else "negative")
            best = best_along_the_frontier(mean, z, config, sectors, held)
            assert found.ratio >= best - 1e-6 * abs(best)  # the solver's precision


def test_many_assets_are_climbed_on_a_few_and_still_stationary_on_all():
    config = ReturnDrawdownConfig(max_sector_weight=0.3, turnover_limit=0.2)
    for seed, regime in enumerate(MEANS):
        mean, z, sectors, held = instance(seed, 150, regime)
        found = solve(mean, z.T @ z, config, sectors, held)
        assert_kept(found, config, sectors, held)
        assert found.status == "constrained"
        assert found.kkt < 1e-5


def test_a_climb_of_few_moves_ends_where_one_of_all_moves_does(monkeypatch):
    config, run, shares = ReturnDrawdownConfig(max_sector_weight=0.3, turnover_limit=0.2), return_drawdown._run, []

    def over_all(problem, limits, start, chosen, *rest):
        shares.append(chosen.mean())
        return run(problem, limits, start, None, *rest)

    for seed, regime in enumerate(MEANS):
        mean, z, sectors, _ = instance(seed, 60, regime)
        held = np.full(60, 1 / 60)
        few = solve(mean, z.T @ z, config, sectors, held)
        with monkeypatch.context() as patched:
            patched.setattr(return_drawdown, "_run", over_all)
            whole = solve(mean, z.T @ z, config, sectors, held)
        assert few.ratio == pytest.approx(whole.ratio, rel=1e-8)
        np.testing.assert_allclose(few.weights, whole.weights, atol=1e-5)
    assert max(shares) < 0.6  # of twice as many moves as assets


@pytest.mark.parametrize(
    ("seed", "options"),
    [(32, {"max_sector_weight": 0.4}), (278, {"max_sector_weight": 0.4}), (80, {"turnover_limit": 0.3})],
)
def test_several_starts_find_what_one_alone_would_miss(seed, options):
    _, z, sectors, held = instance(seed, 20, "mixed")
    mean = -0.05 * np.abs(np.random.default_rng(seed).normal(size=20))
    config, held = ReturnDrawdownConfig(**options), held if "turnover_limit" in options else None
    found = solve(mean, z.T @ z, config, sectors, held)
    best = best_along_the_frontier(mean, z, config, sectors, held)
    assert found.ratio >= best - 1e-6 * abs(best)


def test_an_end_of_slsqp_that_is_worse_or_outside_the_limits_is_not_taken(monkeypatch):
    mean, z, sectors, held = instance(0, 9)
    ends = iter([np.zeros, np.ones] * 20)

    def failing(_, x, **__):
        return next(ends)(x.size), 0.0, 3, 0, "Optimization terminated successfully"

    options = {"max_sector_weight": 0.4, "turnover_limit": 0.3}
    climbed = solve(mean, z.T @ z, ReturnDrawdownConfig(**options), sectors, held)
    exact = solve(mean, z.T @ z, ReturnDrawdownConfig(method="exact"))
    monkeypatch.setattr(return_drawdown, "fmin_slsqp", failing)
    for config, sides in ((ReturnDrawdownConfig(**options), (sectors, held)), (ReturnDrawdownConfig(), (None, None))):
        found = solve(mean, z.T @ z, config, *sides)
        assert_kept(found, config, *sides)
        assert found.iterations >= 3
        best = exact if sides[0] is None else climbed
        assert best.ratio - 0.5 * abs(best.ratio) < found.ratio <= best.ratio
    np.testing.assert_array_equal(found.weights, exact.weights)


def test_limits_that_do_not_bind_leave_the_global_optimum():
    mean, z, sectors, _ = instance(0, 20)
    free = solve(mean, z.T @ z, ReturnDrawdownConfig())
    least = free.weights[free.weights > 0].min()
    loose = ReturnDrawdownConfig(max_sector_weight=0.99, turnover_limit=0.5, min_weight=least / 2)
    found = solve(mean, z.T @ z, loose, sectors, free.weights)
    np.testing.assert_array_equal(found.weights, free.weights)
    assert (found.status, found.binding, found.turnover) == ("global", (), 0)
    assert found.gap <= 1e-9


@pytest.mark.parametrize("method", ["slsqp", "exact"])
def test_what_binds_is_named(method):
    mean, z, _, _ = instance(1, 6)
    mean[:2] += 0.1
    sectors = ("Energy", "Energy", "Health Care", "Health Care", "", "")
    config = ReturnDrawdownConfig(method=method, max_sector_weight=0.9, sector_caps="Energy=0.25")
    found = solve(mean, z.T @ z, config, sectors)
    assert found.weights[:2].sum() == pytest.approx(0.25, abs=1e-9)
    assert (found.status, found.binding) == ("constrained", ("sector Energy",))
    assert found.gap > 0.01
    held = np.full(6, 1 / 6)
    found = solve(mean, z.T @ z, ReturnDrawdownConfig(method=method, turnover_limit=0.1), None, held)
    assert found.turnover == pytest.approx(0.1, abs=1e-9)
    assert found.binding == ("turnover_limit",)


def test_a_sectors_own_cap_goes_before_that_of_all_and_no_name_is_no_sector():
    mean, z, _, _ = instance(2, 6, "falling")
    sectors = ("Energy", "Energy", "Health Care", "Health Care", "", "")
    config = ReturnDrawdownConfig(max_sector_weight=0.05, sector_caps="Energy=0.6, Health Care=0")
    found = solve(mean, z.T @ z, config, sectors)
    np.testing.assert_array_equal(found.weights[2:4], 0)
    assert found.weights[:2].sum() <= 0.6 + 1e-9
    assert found.weights[4:].sum() >= 0.4 - 1e-9
    assert_kept(solve(mean, z.T @ z, ReturnDrawdownConfig(max_sector_weight=0.05), sectors), ReturnDrawdownConfig())


def test_small_positions_are_dropped_or_raised():
    dropped = 0
    for seed in range(12):
        mean, z, _, _ = instance(seed, 40)
        free = solve(mean, z.T @ z, ReturnDrawdownConfig())
        config = ReturnDrawdownConfig(min_weight=0.08)
        found = solve(mean, z.T @ z, config)
        assert_kept(found, config)
        dropped += (found.weights > 0).sum() < (free.weights > 0).sum()
        assert found.gap < 0.2
        equal = np.zeros(40)
        equal[np.argsort(-mean)[:12]] = 1 / 12
        assert found.ratio >= ratio(equal, mean, z.T @ z, config)
    assert dropped > 6


def test_where_nothing_can_be_dropped_small_positions_are_raised():
    mean, covariance = np.array([0.05, 0.04, 0.0005]), 0.01 * (np.eye(3) + 0.1)
    config = ReturnDrawdownConfig(max_weight=0.4, min_weight=0.3)  # three assets, or the sum is at most 0.8
    found = solve(mean, covariance, config)
    assert_kept(found, config)
    np.testing.assert_allclose(found.weights, [0.4, 0.3, 0.3], atol=1e-9)
    assert "min_weight" in found.binding
    with pytest.raises(ValueError, match=r"min_weight is 0.35; no portfolio was found that keeps it"):
        solve(mean, covariance, ReturnDrawdownConfig(max_weight=0.4, min_weight=0.35))


def test_all_limits_at_once_are_kept():
    config = ReturnDrawdownConfig(max_weight=0.3, min_weight=0.04, max_sector_weight=0.5, turnover_limit=0.5)
    for seed, regime in enumerate(("mixed", "weak", "falling", "mixed")):
        mean, z, sectors, held = instance(20 + seed, 25, regime)
        assert_kept(solve(mean, z.T @ z, config, sectors, held), config, sectors, held)


def test_a_first_purchase_from_cash_has_turnover_one_half_and_any_portfolio_needs_that():
    mean, z, _, _ = instance(3, 10)
    found = solve(mean, z.T @ z, ReturnDrawdownConfig(turnover_limit=0.2), None, np.zeros(10))
    free = solve(mean, z.T @ z, ReturnDrawdownConfig())
    np.testing.assert_allclose(found.weights, free.weights, atol=1e-9)
    assert found.turnover == pytest.approx(0.5)
    assert found.turnover_needed == pytest.approx(0.5)
    assert found.status == "global"


def test_where_caps_need_more_turnover_than_the_limit_the_least_is_taken_and_said():
    mean, z, _, _ = instance(4, 10)
    held = np.zeros(10)
    held[0] = 1.0
    config = ReturnDrawdownConfig(max_weight=0.25, turnover_limit=0.1)
    found = solve(mean, z.T @ z, config, None, held)
    assert found.turnover_needed == pytest.approx(0.75, abs=1e-9)
    assert_kept(found, config, None, held)
    assert found.weights[0] == pytest.approx(0.25, abs=1e-9)


def test_what_may_no_longer_be_held_is_sold_and_counts():
    mean, z, _, _ = instance(5, 10)
    covariance = z.T @ z
    mean[3] = np.nan
    held = np.full(10, 0.1)
    config = ReturnDrawdownConfig(turnover_limit=0.25)
    found = solve(mean, covariance, config, None, held)
    assert found.weights[3] == 0
    assert_kept(found, config, None, held)
    assert found.turnover == pytest.approx(0.25, abs=1e-9)


def test_without_holdings_there_is_no_limit_on_turnover():
    mean, z, _, _ = instance(6, 10)
    limited = solve(mean, z.T @ z, ReturnDrawdownConfig(turnover_limit=0.01))
    np.testing.assert_array_equal(limited.weights, solve(mean, z.T @ z, ReturnDrawdownConfig()).weights)
    assert limited.turnover is None


def test_the_linear_programs_find_the_nearest_and_the_extreme_portfolio():
    config = ReturnDrawdownConfig(max_weight=0.4, max_sector_weight=0.5, turnover_limit=0.2)
    held = np.array([0.5, 0.3, 0.2, 0.0])
    limits = constraints.limits(config, np.ones(4, bool), ("a", "a", "b", ""), held)
    assert constraints.nearest(limits, held).sum() == pytest.approx(1)
    assert constraints.turnover(limits, constraints.nearest(limits, held)) == pytest.approx(0.3)
    assert constraints.reachable(limits).turnover == pytest.approx(0.3)
    roomy = limits._replace(turnover=0.35)
    assert constraints.reachable(roomy) is roomy
    slope = np.array([0.0, 1.0, 2.0, 3.0])
    # 0.35 of turnover buys 0.35 of the others, out of sector a
    np.testing.assert_allclose(constraints.extreme(roomy, slope), [0.15, 0.3, 0.2, 0.35], atol=1e-9)
    np.testing.assert_allclose(
        constraints.extreme(roomy._replace(turnover=np.inf), slope), [0, 0.2, 0.4, 0.4], atol=1e-9
    )
    with pytest.raises(ValueError, match=r"turnover of 0.2; take `reachable` limits"):
        constraints.extreme(limits, slope)
    assert constraints.violation(roomy, held) == pytest.approx(0.3)
    assert constraints.violation(roomy, np.array([0.15, 0.3, 0.2, 0.35])) < 1e-12


def test_cleaned_weights_sum_to_one_between_their_bounds():
    config = ReturnDrawdownConfig(max_weight=0.4)
    limits = constraints.limits(config, np.ones(5, bool), None, None)._replace(lower=np.array([0.3, 0, 0, 0, 0]))
    for off in (1e-10, -1e-10):
        cleaned = constraints.clean(limits, np.array([0.3 - off, 0.4 + off / 2, 0.2 + off, 0.1, 1e-14]))
        assert abs(cleaned.sum() - 1) < 1e-15
        assert (cleaned >= limits.lower).all()
        assert (cleaned <= 0.4).all()
        assert cleaned[4] == 0


def test_contradictions_and_what_does_not_match_are_refused():
    mean, z, _, _ = instance(7, 4)
    covariance, sectors = z.T @ z, ("Energy", "Energy", "Health Care", "Health Care")

    def refused(match, names=sectors, held=None, **options):
        with pytest.raises(ValueError, match=match):
            solve(mean, covariance, ReturnDrawdownConfig(**options), names, held)

    refused(r"leave room for weights of 0.6 in 4 assets; raise", max_sector_weight=0.3)
    refused(r"leave room for weights of 0.8", max_weight=0.2)
    refused(r"sector_caps names 'Enery', a sector of no asset; the nearest is 'Energy'", sector_caps="Enery=0.3")
    refused(r"a sector of no asset; there are none", names=("", "", "", ""), sector_caps="Energy=0.3")
    refused(r"gives Energy a cap of 1.3", sector_caps="Energy=1.3")
    refused(r"no sectors are known; give the sector", names=None, max_sector_weight=0.5)
    refused(r"names 3 assets of 4", names=("a", "b", "c"), max_sector_weight=0.5)
    refused(r"min_weight is 0.5, above max_weight, 0.4", min_weight=0.5, max_weight=0.4)
    refused(r"shape \(3,\); it must be \(4,\)", held=np.ones(3) / 3, turnover_limit=0.5)
    refused(r"from -0.1 that sum to 1.0", held=np.array([-0.1, 0.3, 0.4, 0.4]), turnover_limit=0.5)
    refused(r"that sum to 1.2", held=np.array([0.3, 0.3, 0.3, 0.3]), turnover_limit=0.5)
