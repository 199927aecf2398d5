"""Measures of parts of a record: of each calendar year, and of times of stress that have a name.

A part holds the returns of the sessions after one day up to and including another, so that a fall from the close of a
peak to the close of a trough counts whole. In each: the return of the part (not annual), volatility and Sharpe ratio
(annual), maximum drawdown from the part's own start, and the turnover of its trades (their sum).

The times of stress, in days of the S&P 500 index:

    financial_crisis_2008  from the close of 2007-10-09, the peak, to that of 2009-03-09, the trough: -56.8 %
    euro_crisis_2011       May to October 2011, from the peak of April 29 over the trough of October 3 to its end
    fourth_quarter_2018    the quarter, nearly all of whose fall (-19.8 % since September 20) came before December 24
    covid_2020             from the close of 2020-02-19, the peak, to that of 2020-03-23, the trough: -33.9 %
    inflation_2022         the year of rising rates, in which stocks and bonds fell together; its peak is January 3
"""
# Shapes: S = sessions, K = trades.

from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import metrics
from tasks.numerics.configs import TRADING_DAYS

FloatArray = NDArray[np.float64]
DayArray = NDArray[np.datetime64]

STRESS = {
    "financial_crisis_2008": (date(2007, 10, 9), date(2009, 3, 9)),
    "euro_crisis_2011": (date(2011, 4, 30), date(2011, 10, 31)),
    "fourth_quarter_2018": (date(2018, 9, 30), date(2018, 12, 31)),
    "covid_2020": (date(2020, 2, 19), date(2020, 3, 23)),
    "inflation_2022": (date(2021, 12, 31), date(2022, 12, 31)),
}  # returns after the first day, up to and including the second


class Part(NamedTuple):
    """One part of a record, with its measures by name; NaN where one is undefined."""

    kind: str  # year or stress
    period: str
    start: date  # the session whose close the returns start from
    end: date  # the last session
    whole: bool  # whether the record covers all of it
    measures: dict[str, float]


def measured(
    before: date,
    sessions: DayArray,
    following: date,
    daily_return: FloatArray,
    risk_free: FloatArray,
    traded: DayArray,
    turnover: FloatArray,
) -> list[Part]:
    """The years and times of stress in which the record has a return, years first.

    `sessions` (S,) of the returns (S,), ascending, `before` the session before the first of them and `following` the
    one after the last, which tell whether a part is whole; `risk_free` (S,) of each session; `traded` (K,) sessions on
    which the turnover (K,) was done.
    """
    years = range(sessions[0].item().year, sessions[-1].item().year + 1)
    spans = [("year", f"{year}", date(year - 1, 12, 31), date(year, 12, 31)) for year in years]
    spans += [("stress", name, *span) for name, span in STRESS.items()]
    closes = np.concatenate(([np.datetime64(before, "D")], sessions))
    found = []
    for kind, name, after, until in spans:
        first, last = np.searchsorted(sessions, np.array([after, until], "datetime64[D]"), side="right")
        if first < last:
            inside = (traded > np.datetime64(after)) & (traded <= np.datetime64(until))
            values = _measures(daily_return[first:last], risk_free[first:last], turnover[inside])
            whole = closes[0] <= np.datetime64(after) and following > until
            found.append(Part(kind, name, closes[first].item(), closes[last].item(), bool(whole), values))
    return found


def _measures(daily: FloatArray, risk_free: FloatArray, turnover: FloatArray) -> dict[str, float]:
    wealth, excess = np.cumprod(1.0 + daily), daily - risk_free
    deviation, noise = (float(np.std(values, ddof=1)) if daily.size > 1 else np.nan for values in (daily, excess))
    return {
        "return": float(wealth[-1] - 1.0),
        "volatility": np.sqrt(TRADING_DAYS) * deviation,
        "sharpe": np.sqrt(TRADING_DAYS) * float(excess.mean()) / noise if noise > metrics.ZERO else np.nan,
        "max_drawdown": float(metrics.drawdowns(wealth).max()),
        "turnover": float(turnover.sum()),
    }
