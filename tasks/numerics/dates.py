"""Rebalance dates and eligibility, from arrays of sessions.

A month is rebalanced on its first session; the decision uses sessions up to the one before.
"""

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
DayArray = NDArray[np.datetime64]
IntArray = NDArray[np.int64]

REQUIRED = 132  # own sessions before an asset may be held: 66 of features, each looking back 66
ALLOWED_GAPS = 5  # bars that may be missing among them, and the exchange's sessions since the last bar


def rebalance_sessions(sessions: DayArray) -> IntArray:
    """Indices of the first session of each calendar month, but for the first month; the as-of session precedes it.

    `sessions` (S,) are days in ascending order.
    """
    months = sessions.astype("datetime64[M]")
    return np.flatnonzero(months[1:] != months[:-1]) + 1


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
