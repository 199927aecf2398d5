"""Sessions of exchanges (exchange_calendars), as arrays of days."""

from datetime import date, datetime
from functools import lru_cache

import exchange_calendars
import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError

DayArray = NDArray[np.datetime64]
_START = "1980-01-01"  # the library's own default begins only 20 years back


@lru_cache(maxsize=16)
def _all_sessions(exchange: str) -> DayArray:
    try:
        calendar = exchange_calendars.get_calendar(exchange, start=_START)
    except exchange_calendars.errors.InvalidCalendarName as error:
        raise InputError(f"exchange {exchange!r} is unknown; use a market identifier code such as XNYS") from error
    return calendar.sessions.to_numpy().astype("datetime64[D]")


def sessions(exchange: str, first: date | np.datetime64, last: date | np.datetime64) -> DayArray:
    """Sessions of `exchange` from `first` to `last`, both included."""
    days = _all_sessions(exchange)
    return days[(days >= np.datetime64(first)) & (days <= np.datetime64(last))]


def next_session(exchange: str, day: date | np.datetime64) -> np.datetime64:
    """The first session of `exchange` after `day`."""
    days = _all_sessions(exchange)
    after = np.searchsorted(days, np.datetime64(day), side="right")
    if after == days.size:
        raise InputError(f"the calendar of {exchange} ends at {days[-1]}; {day} is too late")
    return days[after]


def close_of(exchange: str, day: date) -> datetime:
    """When the session of that day closes: UTC, without a zone."""
    calendar = exchange_calendars.get_calendar(exchange, start=_START)
    return calendar.session_close(str(day)).to_pydatetime().replace(tzinfo=None)
