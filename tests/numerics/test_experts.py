"""Shares that follow wealth, and the regret of having followed it."""

import re

import numpy as np
import pytest

from tasks.numerics.configs import ExpertsConfig
from tasks.numerics.experts import regret, shares


def growth(seed, periods=60, count=4):
    return np.exp(np.random.default_rng(seed).normal(0.005, 0.04, (periods, count)))


def test_shares_are_those_of_money_left_in_each_account():
    g = growth(1)
    path = shares(g, ExpertsConfig())
    wealth = np.vstack([np.ones(4), np.cumprod(g, axis=0)])
    np.testing.assert_allclose(path, wealth / wealth.sum(axis=1, keepdims=True), rtol=1e-12)
    own = np.prod((path[:-1] * g).sum(axis=1))
    assert own == pytest.approx(wealth[-1].mean(), rel=1e-12)


def test_the_learning_rate_is_a_power_of_wealth():
    g = growth(2)
    wealth = np.prod(g, axis=0) ** 3
    np.testing.assert_allclose(shares(g, ExpertsConfig(learning_rate=3))[-1], wealth / wealth.sum(), rtol=1e-10)


def test_a_fixed_share_keeps_everyone_in():
    g = np.tile([1.1, 0.5], (50, 1))
    path = shares(g, ExpertsConfig(fixed_share=0.1))
    assert path[1:, 1].min() > 0.05
    np.testing.assert_allclose(path.sum(axis=1), 1, atol=1e-14)
    p = np.array([0.5, 0.5]) * [1.1, 0.5]
    np.testing.assert_allclose(path[1], 0.9 * p / p.sum() + 0.05, rtol=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_the_regret_against_the_best_is_at_most_the_logarithm_of_their_number(seed):
    g = growth(seed, 120, 7)
    found = regret(g, shares(g, ExpertsConfig()))
    assert found.best == np.prod(g, axis=0).argmax()
    assert 0 <= found.best_expert <= np.log(7)
    assert found.best_mix >= found.best_expert - 1e-9


def test_regret_by_hand():
    g = np.array([[2.0, 0.5], [0.5, 2.0]])
    found = regret(g, np.full((3, 2), 0.5))
    assert found.best_expert == pytest.approx(-np.log(1.25**2))
    assert found.best_mix == pytest.approx(0, abs=1e-9)


def test_a_ruined_strategy_keeps_no_share_and_no_mix_is_best():
    g = np.array([[1.0, 0.0], [1.1, 1.0]])
    path = shares(g, ExpertsConfig())
    np.testing.assert_allclose(path[-1], [1, 0])
    assert np.isnan(regret(g, path).best_mix)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.array([[1.0, -0.1]]), "growth is -0.1 in period 0, strategy 1; it must not be below 0"),
        (np.array([[1.0, np.nan]]), "growth is nan in period 0, strategy 1"),
        (np.array([[0.0, 0.0]]), "every strategy with a share lost everything in period 0"),
    ],
)
def test_what_no_account_can_do_is_refused(bad, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        shares(bad, ExpertsConfig())
