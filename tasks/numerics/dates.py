"""Rebalance dates and eligibility, from arrays of sessions.

A month or a quarter is rebalanced on its first session, or a number of sessions later, or every session is; a decision
uses sessions up to the one before. A schedule is named by its period and the sessions after the first: `M`, `Q+5`, `D`.
"""

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
DayArray = NDArray[np.datetime64]
IntArray = NDArray[np.int64]

PERIODS = {"D": "D", "M": "M", "Q": "3M"}  # of which the first session trades, as units of numpy
REQUIRED = 132  # own sessions before an asset may be held: 66 of features, each looking back 66
ALLOWED_GAPS = 5  # bars that may be missing among them, and the exchange's sessions since the last bar


def rebalance_sessions(sessions: DayArray, schedule: str = "M") -> IntArray:
    """Indices of the first session of each calendar month, but for the first month; the as-of session precedes it.

    `schedule` is "M", or "Q" for calendar quarters, or "D" for every session; "M+5" is five sessions later, or on the
    last session of a shorter month. `sessions` (S,) are days in ascending order. Raises ValueError for another
    `schedule`.
    """
    rebalance, plus, later = schedule.partition("+")
    if rebalance not in PERIODS or (plus and (rebalance == "D" or not later.isdecimal())):
        raise ValueError(f"rebalance is {schedule!r}; it must be one of {', '.join(PERIODS)}, or like M+5")
    periods = sessions.astype(f"datetime64[{PERIODS[rebalance]}]")
    first = np.flatnonzero(periods[1:] != periods[:-1]) + 1
    if not plus:
        return first
    ends = np.append(first[1:], sessions.size + int(later))  # of the newest period the end is not known
    found = np.minimum(first + int(later), ends - 1)
    return found[found < sessions.size]


def among(days: DayArray, others: DayArray) -> BoolArray:
    """Which of the days are among the others; as whole numbers they are looked up in a table."""
    return np.isin(days.astype(np.int64), others.astype(np.int64))


def eligible(has_bar: BoolArray) -> BoolArray:
    """Sessions of an exchange on which an asset may be held, (E,), by its bars up to and on each.

    At least 132 bars so far, at most 5 missing among the exchange's last 132 sessions, and one of the last 5
    sessions with a bar.
    """
    bars = np.cumsum(has_bar, dtype=np.int64)
    return (
        (bars >= REQUIRED)
        & (_trailing(bars, REQUIRED) >= REQUIRED - ALLOWED_GAPS)
        & (_trailing(bars, ALLOWED_GAPS) > 0)
    )


def _trailing(running: IntArray, length: int) -> IntArray:
    """Count over the last `length` sessions, from a running count."""
    before = np.zeros_like(running)
    before[length:] = running[:-length]
    return running - before
