"""One ticker as the quality gate sees it: its bars as arrays over its own sessions, and what is known beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.numerics import quality
from tasks.numerics.returns import total_returns

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
DayArray = NDArray[np.datetime64]

_COLUMNS = ("open", "high", "low", "close", "adj_close", "volume", "dividend", "split")


@dataclass(frozen=True)
class Context:
    """What a delivery is judged against."""

    exchange: str  # market identifier code
    sessions: DayArray  # from well before the first bar to the last completed one; empty: no calendar is known
    known: pd.DataFrame  # what is stored of the ticker, may be empty: session, open to split, basis; sorted
    actions: pd.DataFrame  # ex_date, kind, value on true ex-dates; may be empty, as for files
    identity: Mapping[str, object]  # symbol, currency, exchange, instrument_type, first_trade_date; may be empty
    known_identity: Mapping[str, object]  # the same as stored last time
    expects_last: bool  # whether the source should reach the last session, or may end earlier
    accepted: bool  # a person accepts this ticker's oddities in this delivery
    conflicts: tuple[date, ...] = ()  # days given twice with different values, not among the bars

    @property
    def disputed(self) -> DayArray:
        """The days of `conflicts`, in order."""
        return np.unique(np.array(self.conflicts, "datetime64[D]"))

    def dates(self, kind: str) -> DayArray:
        """The ex-dates of one kind of action, in order."""
        if self.actions.empty:
            return np.array([], "datetime64[D]")
        chosen = self.actions.loc[self.actions["kind"] == kind, "ex_date"]
        return np.unique(chosen.to_numpy().astype("datetime64[D]"))

    def values(self, kind: str, day: np.datetime64) -> FloatArray:
        """What was paid on a day by one kind of action."""
        there = self.actions["ex_date"].to_numpy().astype("datetime64[D]") == day
        return self.actions.loc[there & (self.actions["kind"] == kind), "value"].to_numpy(np.float64)


@dataclass(frozen=True)
class Series:
    """One ticker's bars as arrays over its own sessions, (T,) each."""

    days: DayArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    adj_close: FloatArray
    volume: FloatArray
    dividend: FloatArray  # 0 where none
    listed: FloatArray  # split ratio, 1 where none
    lost: BoolArray  # whether a row with a dividend or split was left out since the session before
    basis: str

    @classmethod
    def of(cls, bars: pd.DataFrame) -> "Series":
        """The arrays of a frame of bars; prices and volumes stay NaN where absent."""
        days = bars["session"].to_numpy().astype("datetime64[D]")
        columns = [bars[name].to_numpy(np.float64) for name in _COLUMNS]
        paid, ratio = np.nan_to_num(columns[6], nan=0.0), np.nan_to_num(columns[7], nan=1.0)
        lost, basis = np.zeros(days.size, bool), bars["basis"].iloc[0] if len(bars) else "traded"
        return cls(days, *columns[:6], paid, ratio, lost, basis)

    def __len__(self) -> int:
        return self.days.size

    def where(self, keep: BoolArray) -> "Series":
        """These sessions only."""
        if keep.all():
            return self
        arrays = (entry.name for entry in fields(self) if entry.name != "basis")
        kept = replace(self, **{name: getattr(self, name)[keep] for name in arrays})
        acted = ~keep & (self.lost | (self.dividend > 0) | ((self.listed != 1) & (self.listed > 0)))
        after = np.searchsorted(kept.days, self.days[acted])
        # nothing is lost before the first bar, whose return nobody earns
        kept.lost[after[(after > 0) & (after < len(kept))]] = True
        return kept

    def outside(self, price: FloatArray) -> FloatArray:
        """How far a price lies outside of low to high; not above 0 where it lies within."""
        return np.maximum(price - self.high, self.low - price)

    @cached_property
    def price(self) -> FloatArray:
        """The price that returns are made of."""
        adjusted = self.basis == "adjusted" and not np.isnan(self.adj_close).all()
        return self.adj_close if adjusted else self.close

    @cached_property
    def split(self) -> FloatArray:
        """The split ratio that is still in the closes."""
        return self.listed if self.basis == "traded" else np.ones(len(self))

    @cached_property
    def simple(self) -> FloatArray:
        """Simple total returns, as a portfolio would earn them."""
        return total_returns(self.close, self.adj_close, self.dividend, self.split, self.basis)

    @cached_property
    def returns(self) -> FloatArray:
        """Log total returns."""
        return np.log1p(self.simple)

    @cached_property
    def deviation(self) -> float:
        """Robust standard deviation of the log returns."""
        return quality.robust_deviation(self.returns)

    @cached_property
    def compared(self) -> BoolArray:
        """Sessions on which the source's own total return can be compared with ours."""
        return ~np.isnan(self.vendor) & ~self.lost & (self.basis != "adjusted")

    @cached_property
    def vendor(self) -> FloatArray:
        """The source's own simple total return."""
        return quality.vendor_return(self.adj_close)

    @cached_property
    def paid(self) -> FloatArray:
        """Dividend as a share of the close before."""
        return quality.paid_share(self.close, self.dividend, self.split)

    @cached_property
    def implied(self) -> FloatArray:
        """What the adjusted close takes off, as such a share."""
        return quality.implied_share(self.close, self.adj_close, self.split)
