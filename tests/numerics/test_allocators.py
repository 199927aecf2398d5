"""One interface: sectors first, modules of one's own, and resuming bit for bit."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tasks.numerics.allocators import Equal, Market, Online, SectorFirst, Stepped, capped
from tasks.numerics.configs import EXPONENTIATED_GRADIENT, OGD_LONG_WINDOW
from tasks.numerics.online import run

FAST = Online(replace(OGD_LONG_WINDOW, window=20, learning_rate=0.1))
EG = Online(EXPONENTIATED_GRADIENT)
SECTORS = ("b", "a", "b", "a", "c", "b")


def market(seed, sessions, n=6, before=30):
    rng = np.random.default_rng(seed)
    returns = rng.normal(4e-4, 0.01, (before + sessions, 1)) + rng.normal(0, 0.012, (before + sessions, n))
    mask = np.ones((sessions, n), bool)
    return Market(returns, mask, np.full(before + sessions, 1e-4), {})


def cut(whole, begin, end, before=30):
    seen = slice(begin, end + before)
    return Market(whole.returns[seen], whole.mask[begin:end], whole.risk_free[seen], whole.factors)


def follow_the_last(state, seen):
    """A module's step: weights in proportion to the last session's gains."""
    gains = np.where(seen.mask, np.maximum(seen.returns[-1], 0) + 1e-6, 0)
    return {"weights": gains / gains.sum(), "steps": state["steps"] + 1}


MINE = Stepped("mine", lambda mask: {"weights": mask / mask.sum(), "steps": 0}, follow_the_last, sessions=5)


@pytest.mark.parametrize(("outer", "inner"), [(FAST, FAST), (EG, FAST), (Equal(), EG), (MINE, Equal()), (FAST, MINE)])
def test_sector_first_weights_are_outer_times_inner(outer, inner):
    whole = market(1, 60)
    found = SectorFirst(outer, inner, SECTORS)
    _, path, _ = found.run(found.init(whole.mask[0]), whole)
    within = np.zeros_like(path)
    for columns in ([1, 3], [0, 2, 5], [4]):
        own = whole._replace(returns=whole.returns[:, columns], mask=whole.mask[:, columns])
        within[:, columns] = inner.run(inner.init(own.mask[0]), own)[1]
    state, shares = outer.init(np.ones(3, bool)), np.zeros((60, 3))
    for t in range(60):
        seen = whole.returns[: 30 + t + 1]
        sectors = np.column_stack([seen[:, c] @ within[t, c] for c in ([1, 3], [0, 2, 5], [4])])
        among = Market(sectors, np.ones((1, 3), bool), whole.risk_free[: 30 + t + 1], {})
        state, weights, _ = outer.run(state, among)
        shares[t] = weights[-1]
    expected = within * shares[:, [1, 0, 1, 0, 2, 1]]
    np.testing.assert_allclose(path, expected, atol=1e-12)
    np.testing.assert_allclose(path.sum(axis=1), 1, atol=1e-12)


def test_sector_caps_are_kept():
    whole = market(2, 100)
    whole.returns[:, [0, 2, 5]] += 3e-3
    free, tight = SectorFirst(FAST, FAST, SECTORS), SectorFirst(FAST, FAST, SECTORS, cap=0.4)
    sums = [found.run(found.init(whole.mask[0]), whole)[1][:, [0, 2, 5]].sum(axis=1) for found in (free, tight)]
    assert sums[0].max() > 0.5
    assert sums[1].max() <= 0.4 + 1e-12
    _, path, notes = tight.run(tight.init(whole.mask[0]), whole)
    assert notes["sectors"]["b"] == pytest.approx(path[-1, [0, 2, 5]].sum())
    np.testing.assert_allclose(path.sum(axis=1), 1, atol=1e-12)


def test_what_a_cap_takes_goes_to_the_others_in_equal_parts_and_else_to_cash():
    free = np.ones(3, bool)
    np.testing.assert_allclose(capped(np.array([0.7, 0.2, 0.1]), 0.4, free), [0.4, 0.35, 0.25], atol=1e-14)
    np.testing.assert_allclose(capped(np.array([1.0, 0.0, 0.0]), 0.4, free), [0.4, 0.3, 0.3], atol=1e-14)
    closed = np.array([True, True, False])
    np.testing.assert_allclose(capped(np.array([0.7, 0.3, 0.0]), 0.4, closed), [0.4, 0.4, 0.0], atol=1e-14)
    even = np.array([0.4, 0.3, 0.3])
    assert capped(even, 0.4, free) is even


def test_sectors_come_and_go():
    whole = market(3, 80)
    whole.mask[:20, 4] = False  # a sector that opens later
    whole.mask[40:60, [1, 3]] = False  # and one that closes for a while
    found = SectorFirst(EG, FAST, SECTORS)
    _, path, _ = found.run(found.init(whole.mask[0]), whole)
    assert (path[~whole.mask] == 0).all()
    np.testing.assert_allclose(path.sum(axis=1), 1, atol=1e-12)
    assert path[20:, 4].max() > 0
    assert path[60:, [1, 3]].sum() > 0


@pytest.mark.parametrize("found", [FAST, EG, Equal(), MINE, SectorFirst(FAST, EG, SECTORS, 0.5)])
@pytest.mark.parametrize("at", [1, 25])
def test_resuming_is_going_on_bit_for_bit(found, at):
    whole = market(4, 50)
    whole.mask[:30, 4] = False
    _, path, _ = found.run(found.init(whole.mask[0]), whole)
    state, first, _ = found.run(found.init(whole.mask[0]), cut(whole, 0, at))
    _, second, _ = found.run(state, cut(whole, at, 50))
    np.testing.assert_array_equal(np.vstack([first, second]), path)


def test_online_is_the_run_of_its_config():
    whole = market(5, 40)
    state, path, notes = FAST.run(FAST.init(whole.mask[0]), whole)
    _, expected = run(FAST.init(whole.mask[0]), whole.returns, whole.mask, FAST.config, whole.risk_free)
    np.testing.assert_array_equal(path, expected.weights)
    assert notes == {"steps": 40, "counts": {"sessions": 40, "ceiling_binding": expected.at_ceiling.sum()}}
    assert FAST.new_block(state).t == 0


def test_a_module_sees_the_past_alone():
    whole = market(6, 30)
    changed = whole._replace(returns=whole.returns.copy())
    changed.returns[50:] += 0.01
    paths = [MINE.run(MINE.init(whole.mask[0]), seen)[1] for seen in (whole, changed)]
    np.testing.assert_array_equal(paths[0][:20], paths[1][:20])
    assert (paths[0][20:] != paths[1][20:]).any()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.array([0.5, 0.5]), "mine gave weights of shape (2,); it must give 3 finite numbers"),
        (np.array([0.5, np.nan, 0.5]), "mine gave weights of shape (3,); it must give 3 finite numbers"),
        (np.array([0.5, 0.2, 0.3]), "mine gave asset 2 the weight 0.3, and its mask is False; give it 0"),
    ],
)
def test_weights_of_a_module_that_cannot_be_held_are_refused(weights, said):
    own = Stepped("mine", lambda mask: {}, lambda state, seen: {"weights": weights})
    whole = market(7, 2, 3)
    whole.mask[:, 2] = False
    with pytest.raises(ValueError, match=re.escape(said)):
        own.run(own.init(whole.mask[0]), whole)
