"""The proximal step: a general solver, optimality conditions, the cases known in closed form, and hostile input."""

import clarabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit
from scipy import sparse
from scipy.optimize import minimize

from tasks.numerics.projections import Feasible, nearest, proximal

INF = float("inf")
SIMPLEX = Feasible(1.0, 0.0, 0.0, True)
SETS = {
    "simplex": SIMPLEX,
    "cash": Feasible(1.0, 0.0, 0.0, False),
    "leverage": Feasible(1.5, 0.0, 0.0, False),
    "long_short": Feasible(1.6, 0.05, 0.3, True),
    "long_short_by_gross": Feasible(1.3, 0.5, 0.5, True),
    "long_short_with_cash": Feasible(1.5, 0.05, 0.3, False),
    "short_books_only": Feasible(0.4, 0.2, 0.5, False),
    "hardly_short": Feasible(1.1, 0.2, 0.03, True),
    "no_gross_limit": Feasible(INF, 0.1, 0.15, False),
    "no_limit": Feasible(INF, INF, INF, True),
}
PENALTIES = {"free": (0.0, 0.0), "turnover": (0.02, 0.0), "l1": (0.0, 0.05), "both": (0.1, 0.03)}
every_set = pytest.mark.parametrize("name", SETS)


def simplex(point, mask):
    return nearest(point, np.zeros(point.size), 0.0, 0.0, mask, SIMPLEX)


def turnover_prox(point, previous, penalty, mask):
    return nearest(point, previous, penalty, 0.0, mask, SIMPLEX)


@st.composite
def problems(draw):
    n = draw(st.integers(1, 12))
    point = draw(arrays(float, n, elements=st.floats(-3, 3, width=32)))
    raw = draw(arrays(float, n, elements=st.floats(0, 1, width=32)))
    mask = draw(arrays(bool, n))
    mask[draw(st.integers(0, n - 1))] = True
    previous = raw / raw.sum() if raw.sum() > 0.01 else np.full(n, 1 / n)
    return point, previous, draw(st.sampled_from([0.0, 1e-4, 0.02, 0.3, 5.0])), mask


@st.composite
def hostile_problems(draw):
    """Ties, scales, previous weights of any sign, few allowed assets."""
    n = draw(st.integers(1, 9))
    values = st.one_of(st.floats(-3, 3, width=32), st.sampled_from([0.0, 1e-9, -1e-9, 0.05, -0.05, 0.5, 1.0]))
    scale = draw(st.sampled_from([1e-300, 1e-9, 0.1, 1.0, 1e4, 1e12]))
    previous = draw(arrays(float, n, elements=values))
    point = draw(st.sampled_from([0.0, 1.0])) * previous + scale * draw(arrays(float, n, elements=values))
    mask = draw(arrays(bool, n))
    mask[draw(st.integers(0, n - 1))] = True
    penalties = st.sampled_from([0.0, 1e-300, 1e-9, 0.01, 0.5, 1e4, 1e12])
    return point, previous, draw(penalties), draw(penalties), mask


def random_problem(rng, feasible, l1):
    """Point, previous weights (of the set, of a larger one, of none, or nearly what is best) and mask."""
    n = rng.integers(1, 15)
    mask = rng.random(n) < rng.choice([0.7, 1.1])
    mask[0] = True
    previous = rng.normal(0.03, 0.15, n)
    larger = Feasible(2.5, 0.3, 0.8, feasible.invested)
    kind = rng.integers(4)
    if kind == 3:
        point = previous + rng.normal(0, 0.2, n)
        previous = nearest(point, previous, 0.0, l1, mask, feasible)
        point[rng.integers(n)] += rng.uniform(-0.3, 0.3)
        return point, previous, mask
    if kind < 2:
        previous = nearest(previous, previous, 0.0, 0.02, np.ones(n, bool), (feasible, larger)[kind])
    return previous + rng.normal(0, rng.choice([0.02, 0.2, 1.0]), n), previous, mask


def random_member(rng, mask, feasible):
    """Weights of the set, made without any projection."""
    allowed = rng.permutation(np.flatnonzero(mask))
    longs, shorts = np.split(allowed, [rng.integers(1, allowed.size + 1)])
    weights = np.zeros(mask.size)
    owed = 0.0
    if shorts.size:
        most = 0.5 * (feasible.gross - 1) if feasible.invested else feasible.gross
        parts = rng.dirichlet(np.ones(shorts.size))
        owed = rng.choice([0.5, 1.0]) * min(feasible.short_total, most, feasible.short_each / parts.max(), 3.0)
        weights[shorts] = -owed * parts
    held = 1 + owed if feasible.invested else rng.choice([0.5, 1.0]) * (min(feasible.gross, 4.0) - owed)
    weights[longs] = held * rng.dirichlet(np.ones(longs.size))
    return weights


def cost(weights, point, previous, turnover, l1=0.0):
    traded, gross = np.abs(weights - previous).sum(), np.abs(weights).sum()
    return 0.5 * ((weights - point) ** 2).sum() + turnover * traded + l1 * gross


def broken(weights, mask, feasible):
    """By how much the weights miss the set."""
    short = np.maximum(-weights, 0)
    return max(
        np.abs(weights[~mask]).max(initial=0),
        short.max() - feasible.short_each,
        short.sum() - feasible.short_total,
        np.abs(weights).sum() - feasible.gross,
        abs(weights.sum() - 1) if feasible.invested else 0,
    )


def solve_by_clarabel(point, previous, turnover, l1, mask, feasible):
    """The same problem, smooth in long and short parts and in what is traded."""
    y, c, n = point[mask], previous[mask], mask.sum()
    one, no, row = np.eye(n), np.zeros((n, n)), np.ones((1, n))
    equal = np.block([[row, -row, 0 * row]])[: int(feasible.invested)]
    at_most = [[-one, no, no], [no, -one, no], [one, -one, -one], [-one, one, -one], [no, one, no]]
    at_most = np.block([*at_most, [0 * row, row, 0 * row], [row, row, 0 * row]])
    limits = [np.zeros(2 * n), c, -c, np.full(n, feasible.short_each), [feasible.short_total, feasible.gross]]
    limits = np.concatenate(limits)
    finite = np.isfinite(limits)
    matrix = sparse.csc_matrix(np.vstack([equal, at_most[finite]]))
    bounds = np.concatenate([np.ones(len(equal)), limits[finite]])
    cones = [clarabel.ZeroConeT(len(equal)), clarabel.NonnegativeConeT(finite.sum())]
    square = sparse.csc_matrix(np.triu(np.block([[one, -one, no], [-one, one, no], [no, no, no]])))
    linear = np.concatenate([l1 - y, l1 + y, np.full(n, turnover)])
    for tolerance in (1e-14, 1e-13, 1e-12):  # the tightest that it can reach
        options = clarabel.DefaultSettings()
        options.verbose = False
        options.tol_gap_abs = options.tol_gap_rel = options.tol_feas = tolerance
        result = clarabel.DefaultSolver(square, linear, matrix, bounds, cones, options).solve()
        if str(result.status) == "Solved":
            break
    x = np.array(result.x)
    weights = np.zeros(point.size)
    weights[mask] = x[:n] - x[n : 2 * n]
    return weights


def solve_by_slsqp(point, previous, penalty):
    """The long-only problem on all assets, smooth in bought and sold amounts."""
    n = point.size

    def weights(z):
        return previous + z[:n] - z[n:]

    result = minimize(
        lambda z: 0.5 * ((weights(z) - point) ** 2).sum() + penalty * z.sum(),
        np.full(2 * n, 0.01),
        jac=lambda z: np.concatenate([weights(z) - point + penalty, point - weights(z) + penalty]),
        method="SLSQP",
        bounds=[(0, 3)] * (2 * n),
        constraints=[
            {"type": "eq", "fun": lambda z: weights(z).sum() - 1, "jac": lambda _: np.repeat([1.0, -1.0], n)},
            {"type": "ineq", "fun": weights, "jac": lambda _: np.hstack([np.eye(n), -np.eye(n)])},
        ],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return weights(result.x)


@every_set
@pytest.mark.parametrize("penalties", PENALTIES)
def test_a_quadratic_solver_finds_the_same_weights(name, penalties):
    rng = np.random.default_rng(7)
    for _ in range(60):
        turnover, l1 = PENALTIES[penalties]
        point, previous, mask = random_problem(rng, SETS[name], l1)
        problem = (point, previous, turnover, l1, mask, SETS[name])
        weights = nearest(*problem)
        assert broken(weights, mask, SETS[name]) < 1e-12
        np.testing.assert_allclose(weights, solve_by_clarabel(*problem), rtol=0, atol=1e-8, err_msg=repr(problem))


@every_set
def test_no_other_weights_of_the_set_cost_less_than_strong_convexity_allows(name):
    rng = np.random.default_rng(8)
    for _ in range(200):
        turnover, l1 = rng.choice([0, 0.01, 0.1, 1.0], 2)
        point, previous, mask = random_problem(rng, SETS[name], l1)
        weights = nearest(point, previous, turnover, l1, mask, SETS[name])
        least = cost(weights, point, previous, turnover, l1)
        near = nearest(weights + rng.normal(0, 0.01, mask.size), weights, 0.0, 0.0, mask, SETS[name])
        for other in (near, *(random_member(rng, mask, SETS[name]) for _ in range(5))):
            assert broken(other, mask, SETS[name]) < 1e-12
            further = cost(other, point, previous, turnover, l1) - 0.5 * ((other - weights) ** 2).sum()
            assert further >= least - 1e-12 * (1 + least)


@settings(max_examples=300, deadline=None)
@given(hostile_problems())
def test_hostile_problems_end_within_every_limit(problem):
    *arguments, mask = problem
    for name, feasible in SETS.items():
        weights = nearest(*arguments, mask, feasible)
        assert broken(weights, mask, feasible) < 2e-12 * max(1, np.abs(weights).max()), name


@settings(max_examples=200, deadline=None)
@given(hostile_problems(), st.sampled_from([1e-5, 1.0, 1e5]))
def test_what_is_best_already_is_kept_bit_for_bit_at_any_price_of_trading(problem, factor):
    point, previous, _, l1, mask = problem
    turnover = factor * (1 + np.abs(point).max() + l1)
    for name, feasible in SETS.items():
        best = nearest(point, previous, 0.0, l1, mask, feasible)
        # the sum of huge weights has a rounding that no longer counts as such; a tiny one may be that of none
        if np.abs(best).max() < 10 and np.abs(best[best != 0]).min(initial=1) > 1e-14:
            kept = nearest(point, best, turnover, l1, mask, feasible)
            np.testing.assert_array_equal(kept, best, err_msg=name)


@settings(max_examples=200, deadline=None)
@given(hostile_problems())
def test_a_projection_is_its_own_projection(problem):
    point, previous, _, _, mask = problem
    for name, feasible in SETS.items():
        once = nearest(point, previous, 0.0, 0.0, mask, feasible)
        if np.abs(once).max() < 10:
            kept = nearest(once, once, 0.0, 0.0, mask, feasible)
            np.testing.assert_array_equal(kept, once, err_msg=name)
        twice = nearest(once, previous, 0.0, 0.0, mask, feasible)
        np.testing.assert_allclose(twice, once, rtol=0, atol=2e-12 * max(1, np.abs(once).max()), err_msg=name)


@every_set
def test_a_huge_turnover_penalty_keeps_any_weights_of_the_set_bit_for_bit(name):
    rng = np.random.default_rng(9)
    for _ in range(100):
        mask = rng.random(rng.integers(1, 110)) < rng.choice([0.5, 1.1])
        mask[0] = True
        member = random_member(rng, mask, SETS[name])
        point = rng.normal(0, 1, mask.size)
        for turnover in (10.0, 1e3, 1e9):
            np.testing.assert_array_equal(nearest(point, member, turnover, 0.5, mask, SETS[name]), member)


@every_set
def test_previous_weights_outside_the_set_move_no_further_than_they_must(name):
    mask = np.array([False, True, True, True])
    for lost in (1e-13, 1e-11, 1e-9, 1e-3):
        previous = np.array([lost, 0.3 - lost, 0.1, 0.0])
        if SETS[name].invested:
            previous[2] = 0.7
        weights = nearest(previous, previous, 50.0, 0.0, mask, SETS[name])
        assert weights[0] == 0
        assert np.abs(weights - previous).sum() <= 2 * lost + 1e-12


@every_set
def test_weights_do_not_depend_on_where_the_arrays_begin(name):
    rng = np.random.default_rng(10)
    for n in (5, 17, 109):
        rows = np.zeros((2, n + 3))
        rows[:, :n] = rng.normal(0.01, 0.1, (2, n))
        mask = rng.random(n) < 0.9
        weights = nearest(rows[0, :n], rows[1, :n], 0.01, 0.01, mask, SETS[name])
        for start in (1, 2, 3):
            moved = np.zeros((2, n + 3))
            moved[:, start : start + n] = rows[:, :n]
            arrays_moved = moved[0, start : start + n], moved[1, start : start + n]
            np.testing.assert_array_equal(nearest(*arrays_moved, 0.01, 0.01, mask, SETS[name]), weights)


@pytest.mark.parametrize("lost", [1e-15, 1e-11, 1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("penalty", [0.02, 5.0, 1e4])
def test_a_small_weight_that_is_masked_out_goes_to_the_others_at_once(lost, penalty):
    previous = np.array([0.6 - lost, lost, 0.4])
    w = turnover_prox(previous.copy(), previous, penalty, np.array([True, False, True]))
    assert w[1] == 0
    assert abs(w.sum() - 1) < 1e-13
    assert np.abs(w - [0.6, 0, 0.4]).max() <= lost + 1e-13 * (1 + penalty)


@settings(max_examples=300, deadline=None)
@given(problems())
def test_no_move_of_weight_between_two_assets_lowers_the_cost(problem):
    point, previous, penalty, mask = problem
    w = turnover_prox(point, previous, penalty, mask)
    assert (w >= 0).all()
    assert (w[~mask] == 0).all()
    assert abs(w.sum() - 1) <= 1e-12
    up = w - point + penalty * np.where(w >= previous - 1e-12, 1, -1)  # one-sided slopes of the cost
    down = w - point + penalty * np.where(w > previous + 1e-12, 1, -1)
    held = w > 0
    assert up[mask].min() >= down[held].max() - 1e-12


@settings(max_examples=100, deadline=None)
@given(problems())
def test_the_projection_is_the_proximal_step_at_no_penalty(problem):
    point, previous, _, mask = problem
    np.testing.assert_allclose(simplex(point, mask), turnover_prox(point, previous, 0.0, mask), atol=1e-13)


@settings(max_examples=100, deadline=None)
@given(problems(), st.floats(-5, 5, width=32))
def test_the_projection_ignores_a_constant_and_is_its_own_projection(problem, constant):
    point, _, _, mask = problem
    w = simplex(point, mask)
    np.testing.assert_allclose(simplex(point + constant, mask), w, atol=1e-13)
    np.testing.assert_allclose(simplex(w, mask), w, atol=1e-13)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_a_penalty_above_half_the_spread_of_wishes_stops_all_trading_bit_for_bit(problem):
    point, previous, _, _ = problem
    wish = point - previous
    penalty = 0.5 * (wish.max() - wish.min()) + 1e-9
    np.testing.assert_array_equal(turnover_prox(point, previous, penalty, np.ones(point.size, bool)), previous)


@pytest.mark.parametrize("seed", range(30))
def test_a_general_solver_finds_the_same_weights(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(2, 9)
    previous = rng.dirichlet(np.ones(n))
    point = previous + rng.normal(0, 0.3, n)
    penalty = rng.choice([0.0, 0.01, 0.05, 0.2])
    w = turnover_prox(point, previous, penalty, np.ones(n, bool))
    other = solve_by_slsqp(point, previous, penalty)
    np.testing.assert_allclose(w, other, atol=1e-6)
    assert cost(w, point, previous, penalty) <= cost(other, point, previous, penalty) + 1e-12


def test_the_projection_of_the_sorted_formula():
    rng = np.random.default_rng(0)
    for n in (1, 2, 20, 500):
        point = rng.normal(0, 1, n)
        mask = rng.random(n) < 0.7
        mask[0] = True
        descending = np.sort(point[mask])[::-1]
        shifts = (np.cumsum(descending) - 1) / np.arange(1, descending.size + 1)
        theta = shifts[descending > shifts][-1]
        np.testing.assert_allclose(simplex(point, mask), np.where(mask, np.maximum(point - theta, 0), 0), atol=1e-13)


def test_the_l1_ball_is_the_simplex_of_sizes_with_the_signs_of_the_point():
    rng = np.random.default_rng(3)
    for n in (1, 2, 20, 500):
        point, mask = rng.normal(0, 1, n), rng.random(n) < 2
        ball = Feasible(0.8, INF, INF, False)
        sizes = 0.8 * simplex(np.abs(point) / 0.8, mask)
        np.testing.assert_allclose(
            nearest(point, np.zeros(n), 0.0, 0.0, mask, ball), np.sign(point) * sizes, atol=1e-13
        )


def test_without_limits_the_l1_penalty_is_a_soft_threshold():
    point = np.array([0.3, -0.02, 0.02, -0.4])
    weights = nearest(point, np.zeros(4), 0.0, 0.05, np.ones(4, bool), Feasible(INF, INF, INF, False))
    np.testing.assert_allclose(weights, [0.25, 0, 0, -0.35], atol=1e-16)


def test_the_l1_penalty_changes_nothing_where_absolute_weights_sum_to_one_anyway():
    rng = np.random.default_rng(4)
    point, previous, mask = rng.normal(0, 0.1, 50), rng.dirichlet(np.ones(50)), np.ones(50, bool)
    plain = nearest(point, previous, 0.01, 0.0, mask, SIMPLEX)
    np.testing.assert_array_equal(nearest(point, previous, 0.01, 3.0, mask, SIMPLEX), plain)


def test_strong_wishes_end_at_every_limit_of_a_long_short_set():
    point = np.concatenate([np.full(10, -1.0), np.linspace(0.1, 0.3, 10)])
    mask, previous = np.ones(20, bool), np.full(20, 0.05)
    bound = nearest(point, previous, 0.0, 0.0, mask, SETS["long_short"])
    np.testing.assert_allclose([bound[bound < 0].sum(), bound.sum()], [-0.3, 1.0], atol=1e-14)
    np.testing.assert_allclose(bound[:10], -0.03, atol=1e-15)
    by_gross = nearest(point, previous, 0.0, 0.0, mask, SETS["long_short_by_gross"])
    np.testing.assert_allclose([by_gross[by_gross < 0].sum(), by_gross.sum()], [-0.15, 1.0], atol=1e-14)
    each = nearest(point, previous, 0.0, 0.0, mask, Feasible(3.0, 0.01, 1.0, True))
    np.testing.assert_array_equal(each[:10], np.full(10, -0.01))


def test_both_books_grow_only_where_that_is_worth_the_penalties():
    previous, apart, mask = np.array([1.05, -0.05]), np.array([1.0, -1.0]), np.ones(2, bool)
    for wish, grown in ((0.04, 0.0), (0.1, 0.05), (0.5, 0.1)):  # less turnover + l1 = 0.05, up to the gross limit
        weights = nearest(previous + wish * apart, previous, 0.02, 0.03, mask, SETS["long_short_by_gross"])
        np.testing.assert_allclose(weights, previous + grown * apart, rtol=0, atol=1e-15)


def test_cash_holds_what_no_asset_earns():
    mask = np.ones(3, bool)
    weights = nearest(np.array([0.2, -0.1, 0.3]), np.zeros(3), 0.0, 0.0, mask, SETS["cash"])
    np.testing.assert_array_equal(weights, [0.2, 0, 0.3])
    assert not nearest(np.ones(3), np.ones(3), 0.0, 0.0, ~mask, SETS["cash"]).any()


def test_a_single_allowed_asset_takes_all_that_must_be_invested():
    point, previous = np.array([-5.0, 3.0]), np.array([-0.4, 0.7])
    for name, feasible in SETS.items():
        weights = nearest(point, previous, 0.3, 0.2, np.array([True, False]), feasible)
        if feasible.invested:
            np.testing.assert_array_equal(weights, [1, 0], err_msg=name)


def test_turnover_falls_as_its_price_rises():
    rng = np.random.default_rng(1)
    previous, mask = rng.dirichlet(np.ones(109)), np.ones(109, bool)
    point = previous + rng.normal(0, 0.05, 109)
    traded = [np.abs(turnover_prox(point, previous, p, mask) - previous).sum() for p in (0.0, 0.01, 0.03, 0.06, 0.1)]
    assert (np.diff(traded) < 0).all()


def test_weight_of_a_masked_asset_moves_to_the_others():
    previous = np.array([0.5, 0.3, 0.2, 0.0])
    w = turnover_prox(previous, previous, 0.01, np.array([False, True, True, False]))
    np.testing.assert_allclose(w, [0, 0.55, 0.45, 0], atol=1e-15)


def test_points_of_any_size_end_on_the_simplex():
    rng = np.random.default_rng(2)
    for scale in (1e-300, 1e-12, 1e6, 1e12):
        for penalty in (0.0, scale):
            w = turnover_prox(scale * rng.normal(size=50), np.full(50, 0.02), penalty, np.ones(50, bool))
            assert abs(w.sum() - 1) < 1e-13


def test_shifts_that_rounding_swallows_do_not_hold_up_the_search():
    point = np.array([-1e30, 1e30])
    previous = np.array([0.12565125680181366, -0.5743941101746224])
    weights = nearest(point, previous, 1e12, 0.001, np.ones(2, bool), SETS["no_limit"])
    assert np.isfinite(weights).all()
    sold = nearest(np.full(9, 2.0), np.full(9, 2.0), 1e30, 0.0, np.ones(9, bool), SETS["no_limit"])
    assert abs(sold.sum() - 1) < 1e-12


def test_previous_weights_that_sum_to_one_up_to_rounding_are_kept_at_once():
    previous = np.array([0.9999999999999991, 0.0, 0.0])
    weights = turnover_prox(np.array([0.96316329, 0.0, 0.0]), previous, 0.0049, np.array([True, False, False]))
    np.testing.assert_array_equal(weights, previous)


def test_compiled_code_may_call_the_step_with_any_set():
    @njit
    def compiled(point, mask, feasible):
        weights = np.empty(point.size)
        proximal(weights, point, np.zeros(point.size), 0.0, 0.0, mask, feasible)
        return weights

    point, mask = np.array([0.5, -0.2, 0.4]), np.ones(3, bool)
    for feasible in SETS.values():
        expected = nearest(point, np.zeros(3), 0.0, 0.0, mask, feasible)
        np.testing.assert_array_equal(compiled(point, mask, feasible), expected)


def test_what_has_no_projection_is_refused():
    one, mask = np.ones(3), np.ones(3, bool)
    with pytest.raises(ValueError, match="mask allows none of 3"):
        simplex(one, ~mask)
    with pytest.raises(ValueError, match="asset 1"):
        simplex(np.array([1, np.nan, 1]), mask)
    with pytest.raises(ValueError, match="asset 2"):
        nearest(one, np.array([0, 0, INF]), 0.0, 0.0, mask, SETS["cash"])
    with pytest.raises(ValueError, match="3 assets, previous 2, mask 3"):
        turnover_prox(one, np.ones(2), 0.1, mask)
    with pytest.raises(ValueError, match=r"gross is 0\.9 and weights must sum to 1"):
        nearest(one, one, 0.0, 0.0, mask, Feasible(0.9, 0.0, 0.0, True))
    for turnover, l1, wrong in ((-0.1, 0.0, "turnover"), (0.0, np.nan, "l1"), (INF, 0.0, "turnover")):
        with pytest.raises(ValueError, match=rf"^{wrong} is .*; give a number from 0 to 1e100"):
            nearest(one, one, turnover, l1, mask, SIMPLEX)
    for limits in ((-1.0, 0.0, 0.0), (1.0, np.nan, 0.0), (1.0, 0.0, -1.0)):
        with pytest.raises(ValueError, match=r"^(gross|short_each|short_total) is .*; give 0 to infinity"):
            nearest(one, one, 0.0, 0.0, mask, Feasible(*limits, False))
    np.testing.assert_allclose(simplex(np.array([np.nan, 1]), np.array([False, True])), [0, 1], atol=1e-15)
