"""Sessions of exchanges (exchange_calendars), their closes, and what was known of one at the close of another.

Days are dates of the exchange itself, moments are UTC without a zone. An exchange is a market identifier code;
`24/5` is that of currencies, whose sessions end at midnight UTC.
"""

from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError
from tasks.numerics import dates

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

DayArray = NDArray[np.datetime64]
TimeArray = NDArray[np.datetime64]
IntArray = NDArray[np.int64]
_START = "1950-01-03"  # the library's own default begins only 20 years back
_LONGEST_PERIOD = timedelta(days=150)  # more than a quarter, and a month by which it may be traded later
_AHEAD = np.timedelta64(60, "D")


@lru_cache(maxsize=64)
def _calendar(exchange: str) -> "ExchangeCalendar":
    """The calendar from 1950 on, or from the first year of which it knows."""
    import exchange_calendars  # all exchanges there are, which most commands do not ask for

    try:
        return exchange_calendars.get_calendar(exchange, start=_START)
    except exchange_calendars.errors.InvalidCalendarName as error:
        raise InputError(f"exchange {exchange!r} is unknown; use a market identifier code such as XNYS") from error
    except ValueError:
        earliest = exchange_calendars.get_calendar(exchange).bound_min()
        return exchange_calendars.get_calendar(exchange, start=earliest)


@lru_cache(maxsize=64)
def _all_sessions(exchange: str) -> DayArray:
    return _calendar(exchange).sessions.to_numpy().astype("datetime64[D]")


@lru_cache(maxsize=64)
def closes(exchange: str) -> TimeArray:
    """When each session of `exchange` closes, in nanoseconds; in the order of its sessions."""
    return _calendar(exchange).closes_nanos.view("datetime64[ns]")


def timezone(exchange: str) -> str:
    """The zone of the exchange's clocks, `America/New_York`."""
    return _calendar(exchange).tz.key


def sessions(exchange: str, first: date | np.datetime64, last: date | np.datetime64) -> DayArray:
    """Sessions of `exchange` from `first` to `last`, both included."""
    days = _all_sessions(exchange)
    return days[(days >= np.datetime64(first)) & (days <= np.datetime64(last))]


def next_session(exchange: str, day: date | np.datetime64) -> np.datetime64:
    """The first session of `exchange` after `day`."""
    days = _all_sessions(exchange)
    after = np.searchsorted(days, np.datetime64(day), side="right")
    if after == days.size:
        raise _too_late(exchange, np.datetime64(day))
    return days[after]


def close_of(exchange: str, day: date) -> datetime:
    """When the session of that day closes."""
    return _calendar(exchange).session_close(str(day)).to_pydatetime().replace(tzinfo=None)


def last_completed(exchange: str, now: datetime, settle: timedelta) -> date:
    """The last session that closed at least `settle` before `now`: its bars are final."""
    done = int(np.searchsorted(closes(exchange), np.datetime64(now - settle, "ns"), side="right"))
    if done == 0:
        raise InputError(f"exchange {exchange} had closed no session at {now}; give a later moment")
    return _all_sessions(exchange)[done - 1].item()


def due(exchange: str, now: datetime, settle: timedelta, schedule: str) -> date:
    """The as-of session of the newest rebalance date that can be decided `now`: a session whose bars are final.

    `schedule`: as of `dates.rebalance_sessions`.
    """
    last = last_completed(exchange, now, settle)
    days = with_following(exchange, sessions(exchange, last - _LONGEST_PERIOD, last))
    first = dates.rebalance_sessions(days, schedule)
    return days[first[days[first - 1] <= np.datetime64(last)][-1] - 1].item()


def with_following(exchange: str, days: DayArray) -> DayArray:
    """The sessions (S,) and those of the two months after the last: enough to tell where each of them lies in its own.

    Raises InputError where the calendar ends with the last one.
    """
    first = next_session(exchange, days[-1])
    return np.concatenate([days, sessions(exchange, first, first + _AHEAD)])


def known_at(own_exchange: str, own_days: DayArray, exchange: str, days: DayArray) -> IntArray:
    """When bars of one exchange are known on another: (T,) for `own_days` (T,) and the ascending sessions `days` (S,).

    Index of the first of `days` whose close is at or after the close of each own day; S where there is none.
    An own day that is no session counts at the close of the next one.
    """
    return np.searchsorted(_closes_on(exchange, days), _closes_on(own_exchange, own_days)).astype(np.int64)


def last_closed(own_exchange: str, exchange: str, days: DayArray) -> DayArray:
    """The own exchange's last session known on another: (S,) for `days` (S,) of `exchange`, NaT before the first.

    It closed at or before the close of the last session of `exchange` up to each day.
    """
    last = np.searchsorted(_all_sessions(exchange), days, side="right") - 1
    done = np.searchsorted(closes(own_exchange), closes(exchange)[np.maximum(last, 0)], side="right") - 1
    found = _all_sessions(own_exchange)[np.maximum(done, 0)]
    return np.where((last >= 0) & (done >= 0), found, np.datetime64("NaT", "D"))


def _closes_on(exchange: str, days: DayArray) -> TimeArray:
    """The close of the first session at or after each day."""
    place = np.searchsorted(_all_sessions(exchange), days)
    if place.size and place.max() == _all_sessions(exchange).size:
        raise _too_late(exchange, np.max(days))
    return closes(exchange)[place]


def _too_late(exchange: str, day: np.datetime64) -> InputError:
    return InputError(f"the calendar of {exchange} ends at {_all_sessions(exchange)[-1]}; {day} is too late")
