"""The probability of backtest overfitting: by hand, of pure noise, and where one trial is truly better."""

import itertools

import numpy as np
import pytest

from tasks.numerics.overfitting import backtest_overfitting, logits


def test_a_tiny_case_by_hand():
    """Two blocks of two sessions: whichever trial is best in one is the worst in the other."""
    returns = np.array([[0.02, 0.00], [0.01, 0.001], [0.00, 0.02], [0.001, 0.01]])
    # ranks 1 of 2: log((1/3) / (2/3))
    np.testing.assert_allclose(logits(returns, 2), np.log([0.5, 0.5]))
    assert backtest_overfitting(returns, 2) == 1.0
    np.testing.assert_allclose(logits(returns[:, :1] + [0, 0.01] * 1, 2), np.log([2, 2]))
    assert backtest_overfitting(returns[:, :1] + [0, 0.01], 2) == 0.0


def plain(returns, blocks):
    """The definition, choice by choice."""
    edges = np.linspace(0, len(returns), blocks + 1).astype(int)
    parts = [returns[a:b] for a, b in itertools.pairwise(edges)]
    found = []
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        inside = np.vstack([parts[k] for k in chosen])
        outside = np.vstack([parts[k] for k in range(blocks) if k not in chosen])
        ratio = outside.mean(axis=0) / outside.std(axis=0)
        best = (inside.mean(axis=0) / inside.std(axis=0)).argmax()
        rank = np.sum(ratio <= ratio[best])
        found.append(np.log(rank / (returns.shape[1] + 1 - rank)))
    return np.array(found)


def test_every_choice_is_that_of_the_definition():
    returns = np.random.default_rng(0).normal(0.0005, 0.01, (203, 9)) * np.linspace(0.5, 2, 9)
    np.testing.assert_allclose(logits(returns, 8), plain(returns, 8))


def test_noise_is_overfit_half_the_time_and_a_dominant_trial_hardly_ever():
    rng = np.random.default_rng(1)
    noise = [backtest_overfitting(rng.normal(0, 0.01, (480, 20)), 8) for _ in range(100)]
    assert np.mean(noise) == pytest.approx(0.5, abs=0.06)
    returns = rng.normal(0, 0.01, (1000, 20))
    returns[:, 3] += 0.003
    assert backtest_overfitting(returns) < 0.01


def test_equal_trials_share_the_middle_rank_and_count_as_overfit():
    same = np.repeat(np.random.default_rng(2).normal(0, 0.01, (100, 1)), 3, axis=1)
    np.testing.assert_allclose(logits(same, 4), 0.0, atol=1e-12)
    assert backtest_overfitting(same, 4) == 1.0


@pytest.mark.parametrize(
    ("shape", "blocks", "said"),
    [((100, 1), 4, "two or more trials"), ((100, 3), 5, "blocks is 5"), ((31, 3), 16, "half of the 31 sessions")],
)
def test_what_cannot_be_judged_is_refused(shape, blocks, said):
    with pytest.raises(ValueError, match=said):
        backtest_overfitting(np.random.default_rng(0).normal(size=shape), blocks)
