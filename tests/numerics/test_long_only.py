"""The step of many lanes at once: the general solution, lane by lane, to the last bits that rounding leaves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.numerics import long_only
from tasks.numerics.projections import Feasible, nearest

SIMPLEX = Feasible(1.0, 0.0, 0.0, True)


def filled(point, previous, turnover):
    """Weights (B, n), with what each lane trades."""
    weights, traded = np.empty_like(point), np.empty(len(point))
    long_only.fill(weights, point, previous, turnover, traded)
    return weights, traded


def problem(lanes, n, seed, scale=0.01):
    """Points near weights of which some are 0, at prices of trading from nothing to much."""
    rng = np.random.default_rng(seed)
    previous = rng.dirichlet(np.full(n, 0.3), lanes)
    previous[previous < 1e-3] = 0.0
    previous /= previous.sum(axis=1, keepdims=True)
    return previous + scale * rng.standard_normal((lanes, n)), previous, rng.choice([0.0, 1e-4, 2e-3, 0.02], lanes)


@given(st.integers(2, 130), st.integers(0, 10**6), st.sampled_from([1e-4, 0.01, 0.3, 10.0]))
@settings(max_examples=150, deadline=None)
def test_a_lane_gets_the_nearest_weights_of_the_simplex(n, seed, scale):
    point, previous, turnover = problem(3, n, seed, scale)
    weights, traded = filled(point, previous, turnover)
    for b in np.flatnonzero(traded >= 0.0):
        wanted = nearest(point[b], previous[b], turnover[b], 0.0, np.ones(n, bool), SIMPLEX)
        np.testing.assert_allclose(weights[b], wanted, rtol=0, atol=1e-13 * (1.0 + scale))
        assert traded[b] == pytest.approx(np.abs(weights[b] - previous[b]).sum(), abs=1e-13)


def test_most_lanes_are_served():
    _, traded = filled(*problem(500, 109, 0))
    assert (traded > 0.0).mean() > 0.8


def test_a_lane_is_the_same_alone_and_beside_others():
    point, previous, turnover = problem(40, 109, 1)
    together, _ = filled(point, previous, turnover)
    for b in range(40):
        alone, _ = filled(point[b : b + 1], previous[b : b + 1], turnover[b : b + 1])
        np.testing.assert_array_equal(alone[0], together[b])


def test_what_may_not_be_held_gets_nothing():
    point, previous, turnover = problem(20, 30, 2, scale=0.1)
    previous[:, :5] = 0.0
    previous /= previous.sum(axis=1, keepdims=True)
    point[:, :5] = -np.inf
    weights, traded = filled(point, previous, turnover)
    assert (traded > 0.0).sum() > 10
    assert not weights[traded > 0.0, :5].any()


@pytest.mark.parametrize("moved", [0.0, 1e-3])
def test_a_lane_that_stays_is_left_to_the_general_solution(moved):
    previous = np.full((1, 8), 0.125)
    point = previous + moved * np.linspace(-1.0, 1.0, 8)
    assert filled(point, previous, np.array([0.01]))[1] == [-1.0]


def test_a_lane_that_is_not_asked_for_or_holds_nothing_is_left_alone():
    previous = np.array([[0.5, 0.5], [0.0, 0.0]])
    _, traded = filled(previous + 0.1, previous, np.array([np.nan, 0.0]))
    np.testing.assert_array_equal(traded, [-1.0, -1.0])
