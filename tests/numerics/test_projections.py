"""Projections: optimality conditions, a general solver, and the cases known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from tasks.numerics.projections import simplex, turnover_prox


@st.composite
def problems(draw):
    n = draw(st.integers(1, 12))
    point = draw(arrays(float, n, elements=st.floats(-3, 3, width=32)))
    raw = draw(arrays(float, n, elements=st.floats(0, 1, width=32)))
    mask = draw(arrays(bool, n))
    mask[draw(st.integers(0, n - 1))] = True
    previous = raw / raw.sum() if raw.sum() > 0.01 else np.full(n, 1 / n)
    return point, previous, draw(st.sampled_from([0.0, 1e-4, 0.02, 0.3, 5.0])), mask


def cost(weights, point, previous, penalty):
    return 0.5 * ((weights - point) ** 2).sum() + penalty * np.abs(weights - previous).sum()


def solve_by_slsqp(point, previous, penalty):
    """The same problem on all assets, smooth in bought and sold amounts."""
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


@pytest.mark.parametrize("lost", [1e-15, 1e-11, 1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("penalty", [0.02, 5.0, 1e4])
def test_a_small_weight_that_is_masked_out_goes_to_the_others_at_once(lost, penalty):
    previous = np.array([0.6 - lost, lost, 0.4])
    w = turnover_prox(previous.copy(), previous, penalty, np.array([True, False, True]))
    assert w[1] == 0
    assert abs(w.sum() - 1) < 1e-13 * (1 + penalty)
    assert np.abs(w - [0.6, 0, 0.4]).max() <= lost + 1e-13 * (1 + penalty)


@settings(max_examples=300, deadline=None)
@given(problems())
def test_no_move_of_weight_between_two_assets_lowers_the_cost(problem):
    point, previous, penalty, mask = problem
    w = turnover_prox(point, previous, penalty, mask)
    assert (w >= 0).all()
    assert (w[~mask] == 0).all()
    assert abs(w.sum() - 1) < 1e-13 * (1 + penalty + np.abs(point).max())
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


def test_turnover_falls_as_its_price_rises():
    rng = np.random.default_rng(1)
    previous, mask = rng.dirichlet(np.ones(109)), np.ones(109, bool)
    point = previous + rng.normal(0, 0.05, 109)
    traded = [np.abs(turnover_prox(point, previous, p, mask) - previous).sum() for p in (0, 0.01, 0.03, 0.06, 0.1)]
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
            assert abs(w.sum() - 1) < 1e-13 * (1 + scale)


def test_what_has_no_projection_is_refused():
    one = np.ones(3)
    with pytest.raises(ValueError, match="mask allows none of 3"):
        simplex(one, np.zeros(3, bool))
    with pytest.raises(ValueError, match="asset 1"):
        simplex(np.array([1, np.nan, 1]), np.ones(3, bool))
    with pytest.raises(ValueError, match="3 assets, previous 2, mask 3"):
        turnover_prox(one, np.ones(2), 0.1, np.ones(3, bool))
    np.testing.assert_allclose(simplex(np.array([np.nan, 1]), np.array([False, True])), [0, 1], atol=1e-15)


def test_previous_weights_that_sum_to_one_up_to_rounding_are_kept_at_once():
    previous = np.array([0.9999999999999991, 0.0, 0.0])
    weights = turnover_prox(np.array([0.96316329, 0.0, 0.0]), previous, 0.0049, np.array([True, False, False]))
    np.testing.assert_allclose(weights, previous, atol=1e-12)
