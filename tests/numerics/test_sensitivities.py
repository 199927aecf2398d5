"""Finite differences of a weight: known answers, and correlations that stay correlations."""

import numpy as np
import pytest

from tasks.numerics import sensitivities
from tasks.numerics.configs import ReturnDrawdownConfig
from tasks.numerics.sensitivities import Inputs

RNG = np.random.default_rng(5)
CORRELATION = np.corrcoef(RNG.normal(size=(6, 200)) + 0.7 * RNG.normal(size=200))
CORRELATION = (CORRELATION + CORRELATION.T) / 2
np.fill_diagonal(CORRELATION, 1.0)
INPUTS = Inputs(np.array([0.01, 0.02, 0.03, 0.0, 0.01, 0.02]), np.full(6, 0.1), CORRELATION, ReturnDrawdownConfig())


def by_input(found):
    return {(entry.kind, entry.asset): entry for entry in found}


def test_a_known_allocation_moves_by_known_amounts():
    def solve(inputs):
        return inputs.mean * 2 - inputs.sigma + inputs.config.alpha + 0.1 * inputs.correlation[0]

    found = by_input(sensitivities.of_weight(2, INPUTS, solve))
    assert found["mean", 2].change == pytest.approx(0.002)
    assert found["sigma", 2].change == pytest.approx(-0.001)
    assert found["alpha", None].change == pytest.approx(0.02)
    assert found["mean", 0].change == found["sigma", 5].change == 0.0
    assert len(found) == 6 * 2 + 1 + 3
    close = [asset for kind, asset in found if kind == "correlation"]
    assert set(close) == set(np.argsort(-CORRELATION[2])[1:4].tolist())


def test_the_largest_change_comes_first_and_without_alpha_none_is_tried():
    config = ReturnDrawdownConfig(alpha=0.0)
    found = sensitivities.of_weight(1, INPUTS._replace(config=config), lambda given: given.mean * given.sigma.sum())
    assert (found[0].kind, found[0].asset) == ("mean", 1)
    assert [abs(entry.change) for entry in found] == sorted((abs(entry.change) for entry in found), reverse=True)
    assert "alpha" not in {entry.kind for entry in found}


@pytest.mark.parametrize("step", [0.01, -0.3])
def test_one_correlation_moves_by_the_step_and_the_matrix_stays_one(step):
    moved = sensitivities.towards(CORRELATION, 1, 4, step)
    assert moved[1, 4] == pytest.approx(CORRELATION[1, 4] + step, abs=1e-14)
    np.testing.assert_array_equal(moved, moved.T)
    np.testing.assert_array_equal(np.diag(moved), np.ones(6))
    others = np.arange(6) != 1
    np.testing.assert_array_equal(moved[np.ix_(others, others)], CORRELATION[np.ix_(others, others)])
    assert np.linalg.eigvalsh(moved).min() > 0
    singular = CORRELATION[np.ix_([0, 1, 2, 2], [0, 1, 2, 2])]
    turned = sensitivities.towards(singular, 0, 1, step)
    assert np.linalg.eigvalsh(turned).min() > -1e-12
    assert turned[0, 2] == turned[0, 3]


def test_an_asset_that_moves_exactly_with_another_is_not_turned_towards_it():
    same = CORRELATION[np.ix_([0, 0, 1, 2], [0, 0, 1, 2])].copy()
    same[0, 1] = same[1, 0] = 1.0
    assert 1 not in sensitivities.closest(0, same)
    assert 0 not in sensitivities.closest(0, same)
