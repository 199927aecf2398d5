"""Sessions of exchanges: holidays, ends, closes, what is known of one at another's close, and answers in words."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from storage.errors import InputError
from tasks import calendars

HALF_AN_HOUR = timedelta(minutes=30)


def days(*texts):
    return np.array(texts, "datetime64[D]")


def test_sessions_leave_out_weekends_and_holidays_and_include_both_ends():
    days = calendars.sessions("XNYS", date(2024, 7, 3), date(2024, 7, 8))
    assert days.astype(str).tolist() == ["2024-07-03", "2024-07-05", "2024-07-08"]
    assert calendars.sessions("XNYS", date(2024, 7, 4), date(2024, 7, 4)).size == 0


def test_exchanges_keep_their_own_holidays():
    assert calendars.sessions("XLON", date(2024, 7, 4), date(2024, 7, 4)).size == 1
    assert calendars.sessions("XLON", date(2024, 5, 6), date(2024, 5, 6)).size == 0


def test_sessions_reach_back_to_1950():
    assert calendars.sessions("XNYS", date(1949, 1, 1), date(1950, 1, 31))[0] == np.datetime64("1950-01-03")


def test_the_next_session_is_strictly_later():
    assert calendars.next_session("XNYS", date(2024, 7, 3)) == np.datetime64("2024-07-05")
    assert calendars.next_session("XNYS", date(2024, 7, 6)) == np.datetime64("2024-07-08")


def test_a_day_after_the_calendars_end_is_refused():
    with pytest.raises(InputError, match=r"the calendar of XNYS ends at .*; 2200-01-01 is too late"):
        calendars.next_session("XNYS", date(2200, 1, 1))


def test_an_unknown_exchange_is_named():
    with pytest.raises(InputError, match="exchange 'NOWHERE' is unknown; use a market identifier code"):
        calendars.sessions("NOWHERE", date(2024, 1, 1), date(2024, 2, 1))


def test_closes_are_in_utc_and_know_half_days_and_daylight_saving():
    assert calendars.close_of("XNYS", date(2024, 1, 3)) == datetime(2024, 1, 3, 21)
    assert calendars.close_of("XNYS", date(2024, 7, 8)) == datetime(2024, 7, 8, 20)
    assert calendars.close_of("XNYS", date(2024, 7, 3)) == datetime(2024, 7, 3, 17)


def test_closes_stand_beside_the_sessions():
    found = dict(zip(calendars.sessions("XNYS", "1950-01-01", "2100-01-01"), calendars.closes("XNYS"), strict=True))
    assert calendars.closes("XNYS").dtype == "datetime64[ns]"
    assert found[np.datetime64("2024-11-29")] == np.datetime64("2024-11-29T18:00")  # the day after Thanksgiving
    for day in (date(1987, 10, 19), date(2001, 9, 17), date(2024, 7, 3), date(2024, 12, 2)):
        assert found[np.datetime64(day)] == np.datetime64(calendars.close_of("XNYS", day))


def test_the_market_of_currencies_closes_at_the_midnight_that_ends_the_day():
    found = calendars.sessions("24/5", "2024-07-03", "2024-07-08")
    assert found.astype(str).tolist() == ["2024-07-03", "2024-07-04", "2024-07-05", "2024-07-08"]
    assert calendars.close_of("24/5", date(2024, 7, 5)) == datetime(2024, 7, 6)


def test_a_calendar_that_begins_after_1950_begins_with_its_first_year():
    assert calendars.sessions("XTKS", "1980-01-01", "1997-01-06").tolist() == [date(1997, 1, 6)]


def test_the_clocks_of_an_exchange_have_a_zone():
    assert [calendars.timezone(name) for name in ("XNYS", "XTKS", "24/5")] == ["America/New_York", "Asia/Tokyo", "UTC"]


@pytest.mark.parametrize(
    ("exchange", "now", "settle", "day"),
    [
        ("XNYS", datetime(2026, 11, 27, 18, 29, 59), HALF_AN_HOUR, "2026-11-25"),  # Thanksgiving lies between
        ("XNYS", datetime(2026, 11, 27, 18, 30), HALF_AN_HOUR, "2026-11-27"),  # a half day
        ("XNYS", datetime(2026, 11, 29, 12), HALF_AN_HOUR, "2026-11-27"),  # a Sunday
        ("XNYS", datetime(2025, 1, 9, 23), HALF_AN_HOUR, "2025-01-08"),  # the day of mourning for a president
        ("XNYS", datetime(2025, 1, 10, 21, 30), HALF_AN_HOUR, "2025-01-10"),
        ("XNYS", datetime(2025, 1, 10, 21, 30), timedelta(hours=24), "2025-01-08"),
        ("XNYS", datetime(2024, 7, 8, 20, 29), HALF_AN_HOUR, "2024-07-05"),  # daylight saving
        ("XLON", datetime(2024, 12, 24, 13), HALF_AN_HOUR, "2024-12-24"),  # closes at 12:30
        ("XLON", datetime(2024, 12, 26, 20), HALF_AN_HOUR, "2024-12-24"),
        ("XTKS", datetime(2024, 10, 31, 6, 29), HALF_AN_HOUR, "2024-10-30"),
        ("XTKS", datetime(2024, 10, 31, 6, 30), HALF_AN_HOUR, "2024-10-31"),
        ("XTKS", datetime(2024, 11, 5, 6, 59), HALF_AN_HOUR, "2024-11-01"),  # it closes at 15:30 from that day on
        ("24/5", datetime(2024, 7, 6, 0, 29), HALF_AN_HOUR, "2024-07-04"),
    ],
)
def test_a_session_is_complete_when_its_close_has_settled(exchange, now, settle, day):
    assert calendars.last_completed(exchange, now, settle) == date.fromisoformat(day)


def test_before_the_first_session_none_is_complete():
    with pytest.raises(InputError, match="exchange XNYS had closed no session at 1940-01-01"):
        calendars.last_completed("XNYS", datetime(1940, 1, 1), HALF_AN_HOUR)


def test_on_its_own_exchange_a_bar_is_known_on_its_day_or_at_the_next_session():
    sessions = calendars.sessions("XNYS", "1995-01-01", "2024-12-31")
    every = np.arange("1995-01-01", "2024-12-25", dtype="datetime64[D]")
    np.testing.assert_array_equal(calendars.known_at("XNYS", every, "XNYS", sessions), np.searchsorted(sessions, every))


def test_new_york_knows_tokyo_on_the_same_day_and_tokyo_new_york_on_the_next():
    new_york = calendars.sessions("XNYS", "2024-07-01", "2024-07-09")  # closed on the 4th
    tokyo = calendars.sessions("XTKS", "2024-07-01", "2024-07-09")
    seen = new_york[calendars.known_at("XTKS", tokyo[:6], "XNYS", new_york)]
    assert seen.astype(str).tolist() == [f"2024-07-0{day}" for day in (1, 2, 3, 5, 5, 8)]
    seen = tokyo[calendars.known_at("XNYS", new_york[:5], "XTKS", tokyo)]
    assert seen.astype(str).tolist() == [f"2024-07-0{day}" for day in (2, 3, 4, 8, 9)]


def test_on_a_half_day_a_market_that_closes_later_is_not_known_yet():
    new_york = calendars.sessions("XNYS", "2024-07-01", "2024-07-09")
    toronto = calendars.sessions("XTSE", "2024-07-02", "2024-07-08")
    seen = new_york[calendars.known_at("XTSE", toronto, "XNYS", new_york)]
    assert toronto.astype(str).tolist() == [f"2024-07-0{day}" for day in (2, 3, 4, 5, 8)]
    assert seen.astype(str).tolist() == [f"2024-07-0{day}" for day in (2, 5, 5, 5, 8)]


def test_what_closes_after_the_last_session_is_not_known_at_any():
    sessions = days("2024-07-01", "2024-07-02")
    assert calendars.known_at("24/5", days("2024-07-01", "2024-07-02"), "XNYS", sessions).tolist() == [1, 2]
    with pytest.raises(InputError, match=r"the calendar of XLON ends at .*; 2200-01-01 is too late"):
        calendars.known_at("XLON", days("2200-01-01"), "XNYS", sessions)


@pytest.mark.parametrize("own", ["XNYS", "XLON", "XTKS", "XTSE", "24/5"])
@pytest.mark.parametrize("exchange", ["XNYS", "XTKS", "24/5"])
def test_a_bar_is_known_exactly_where_its_session_is_among_the_closed_ones(own, exchange):
    bars = calendars.sessions(own, "2019-06-01", "2020-06-30")
    sessions = calendars.sessions(exchange, "2019-07-01", "2020-05-29")
    known = calendars.known_at(own, bars, exchange, sessions)[:, None] <= np.arange(sessions.size)
    np.testing.assert_array_equal(known, bars[:, None] <= calendars.last_closed(own, exchange, sessions))


def test_the_last_closed_session_of_a_day_without_one_is_that_of_the_session_before():
    found = calendars.last_closed("XTKS", "XNYS", days("1979-12-31", "1996-12-31", "2024-07-03", "2024-07-04"))
    assert found.astype(str).tolist() == ["NaT", "NaT", "2024-07-03", "2024-07-03"]
    assert calendars.last_closed("XNYS", "XTKS", days("2024-07-08")) == days("2024-07-05")
