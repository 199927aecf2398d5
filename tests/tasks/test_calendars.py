"""Sessions of exchanges: holidays, ends, closes, and answers in words."""

from datetime import date, datetime

import numpy as np
import pytest

from storage.errors import InputError
from tasks import calendars


def test_sessions_leave_out_weekends_and_holidays_and_include_both_ends():
    days = calendars.sessions("XNYS", date(2024, 7, 3), date(2024, 7, 8))
    assert days.astype(str).tolist() == ["2024-07-03", "2024-07-05", "2024-07-08"]
    assert calendars.sessions("XNYS", date(2024, 7, 4), date(2024, 7, 4)).size == 0


def test_exchanges_keep_their_own_holidays():
    assert calendars.sessions("XLON", date(2024, 7, 4), date(2024, 7, 4)).size == 1
    assert calendars.sessions("XLON", date(2024, 5, 6), date(2024, 5, 6)).size == 0


def test_sessions_reach_back_to_1980():
    assert calendars.sessions("XNYS", date(1979, 1, 1), date(1980, 1, 31))[0] == np.datetime64("1980-01-02")


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
