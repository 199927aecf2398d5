"""The verdict on an overlap, for the ways in which sources are known to change scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.overlap import verdict


def closes(count=60, start=3):
    return 80 * np.exp(np.cumsum(np.random.default_rng(start).normal(0, 0.02, count)))


@pytest.mark.parametrize("factor", [0.25, 4.0, 100.0, 0.01, 1.0005])
def test_one_factor_on_all_sessions_is_a_rescaling(factor):
    found = verdict(closes(), factor * closes())
    assert (found.kind, found.differing.all()) == ("rescaled", True)
    assert found.ratio == pytest.approx(factor, rel=1e-12)


def test_prices_that_wobble_within_the_tolerance_fit():
    noise = np.random.default_rng(1).uniform(-1.9e-4, 1.9e-4, 60)
    found = verdict(closes(), closes() * (1 + noise))
    assert (found.kind, found.differing.any()) == ("ok", False)
    assert found.ratio == pytest.approx(1, abs=2e-4)


def test_single_sessions_that_differ_are_revisions():
    fetched = closes()
    fetched[[7, 20, 21]] *= [1.01, 0.98, 1.002]
    found = verdict(closes(), fetched)
    assert (found.kind, found.ratio) == ("revised_rows", 1.0)
    assert np.flatnonzero(found.differing).tolist() == [7, 20, 21]


def test_one_revised_session_amid_a_rescaling_hides_nothing():
    fetched = closes() * 0.5
    fetched[11] *= 1.07
    assert verdict(closes(), fetched).kind == "rescaled"


@pytest.mark.parametrize("begin", [1, 30, 57])
def test_a_rescaling_that_begins_inside_the_overlap_is_one(begin):
    fetched = closes()
    fetched[begin:] *= 0.25
    found = verdict(closes(), fetched)
    assert (found.kind, found.ratio) == ("rescaled", pytest.approx(0.25))
    assert np.flatnonzero(found.differing)[0] == begin


def test_two_changed_sessions_are_too_few_to_share_a_factor():
    fetched = closes()
    fetched[-2:] *= 0.25
    assert verdict(closes(), fetched).kind == "revised_rows"


def test_fewer_than_three_common_prices_say_nothing():
    known, fetched = closes(5), closes(5)
    known[:2], fetched[2] = np.nan, np.nan
    found = verdict(known, fetched)
    assert found.kind == "no_overlap"
    assert np.isnan(found.ratio)
    fetched[2] = known[2]
    assert verdict(known, fetched).kind == "ok"
    assert verdict(np.array([]), np.array([])).kind == "no_overlap"


def test_absent_prices_do_not_differ_and_a_zero_does():
    known, fetched = closes(), closes()
    known[3], known[4], fetched[5], fetched[9] = np.nan, -1.0, np.nan, 0.0
    found = verdict(known, fetched)
    assert np.flatnonzero(found.differing).tolist() == [9]
    assert found.kind == "revised_rows"


@given(st.floats(1e-3, 1e3), st.integers(0, 10_000))
def test_the_verdict_does_not_depend_on_the_scale_of_both(scale, start):
    known, fetched = closes(20, start), closes(20, start)
    fetched[4] *= 1.5
    one, other = verdict(known, fetched), verdict(scale * known, scale * fetched)
    assert (one.kind, one.differing.tolist()) == (other.kind, other.differing.tolist())


def test_closes_of_other_sessions_are_refused():
    with pytest.raises(ValueError, match=r"known has shape \(3,\) and fetched \(2,\)"):
        verdict(np.ones(3), np.ones(2))
