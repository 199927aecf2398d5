"""Rebalance dates and eligibility, against loops that say the rule once more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.dates import ALLOWED_GAPS, REQUIRED, eligible, rebalance_sessions


def days(*texts):
    return np.array(texts, "datetime64[D]")


def test_a_month_is_rebalanced_on_its_first_session_but_for_the_first_month():
    sessions = days("2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02", "2024-04-03", "2025-04-01")
    assert rebalance_sessions(sessions).tolist() == [2, 4, 5]


def test_a_quarter_is_rebalanced_on_its_first_session_and_every_session_but_the_first_may_be():
    sessions = days("2023-12-29", "2024-01-02", "2024-02-01", "2024-04-03", "2024-06-28", "2025-04-01", "2025-07-02")
    assert rebalance_sessions(sessions, "Q").tolist() == [1, 3, 5, 6]
    assert rebalance_sessions(sessions, "D").tolist() == [1, 2, 3, 4, 5, 6]
    early = days("1969-09-30", "1969-10-01", "1969-12-31", "1970-01-02")
    assert rebalance_sessions(early, "Q").tolist() == [1, 3]


def test_another_frequency_is_refused():
    with pytest.raises(ValueError, match="rebalance is 'W'; it must be one of D, M, Q"):
        rebalance_sessions(days("2024-01-02"), "W")


@pytest.mark.parametrize("later", [1, 5, 20])
@pytest.mark.parametrize(("rebalance", "unit"), [("M", "M"), ("Q", "3M")])
def test_an_offset_counts_sessions_from_the_first_and_ends_with_the_month(rebalance, unit, later):
    every = np.arange("2023-11-01", "2024-08-01", dtype="datetime64[D]")
    sessions = every[np.is_busday(every, holidays=["2024-02-19"])]
    expected, periods = [], sessions.astype(f"datetime64[{unit}]")
    for period in np.unique(periods)[1:]:
        own = np.flatnonzero(periods == period)
        is_whole = period != periods[-1]
        if later < own.size or is_whole:
            expected.append(own[min(later, own.size - 1)])
    assert rebalance_sessions(sessions, f"{rebalance}+{later}").tolist() == expected
    assert rebalance_sessions(sessions, f"{rebalance}+0").tolist() == rebalance_sessions(sessions, rebalance).tolist()


@pytest.mark.parametrize("schedule", ["D+1", "M+", "M-1", "M+x"])
def test_another_schedule_is_refused(schedule):
    with pytest.raises(ValueError, match="it must be one of D, M, Q, or like M"):
        rebalance_sessions(days("2024-01-02"), schedule)


@pytest.mark.parametrize("sessions", [days(), days("2024-01-02"), days("2024-01-02", "2024-01-31")])
def test_sessions_of_one_month_have_no_rebalance(sessions):
    assert rebalance_sessions(sessions).tolist() == []


def plainly(has_bar):
    """The rule, session by session."""
    found = []
    for t in range(len(has_bar)):
        seen = has_bar[: t + 1]
        enough = sum(seen) >= REQUIRED and sum(seen[-REQUIRED:]) >= REQUIRED - ALLOWED_GAPS
        found.append(enough and any(seen[-ALLOWED_GAPS:]))
    return found


@given(st.lists(st.integers(0, 400), max_size=12), st.integers(0, 150), st.integers(1, 400))
def test_eligibility_is_the_rule_at_every_session(missing, start, count):
    has_bar = np.ones(count, bool)
    has_bar[:start] = False
    has_bar[[place for place in missing if place < count]] = False
    assert eligible(has_bar).tolist() == plainly(has_bar.tolist())


def test_eligibility_up_to_a_session_does_not_depend_on_what_follows():
    has_bar = np.random.default_rng(0).random(400) < 0.98
    whole = eligible(has_bar)
    assert whole.any()
    for cut in (1, 131, 132, 133, 250, 399):
        np.testing.assert_array_equal(eligible(has_bar[:cut]), whole[:cut])


def test_no_session_gives_no_eligibility():
    assert eligible(np.zeros(0, bool)).size == 0
