"""What shares are worth at a date: closes known by then, in the universe's currency, and splits since a day."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from storage import snapshots, universe
from storage.store import Store
from storage.universe import Universe
from tasks import calendars


@dataclass(frozen=True)
class Quotes:
    """Bars of some tickers, each under its own name, and the universe that says their exchange and currency."""

    chosen: Universe | None
    bars: pd.DataFrame  # ticker, and the name under which the bar is stored
    aliases: dict[str, str]  # tickers by other names

    def closes(self, as_of: date) -> pd.Series:
        """By ticker the last close known at the portfolio's close of `as_of`, in the universe's currency."""
        last = {name: self._last_known(name, as_of) for name in set(self.bars["name"])}
        known = self.bars[self.bars["session"] <= self.bars["name"].map(last)].sort_values("session", kind="stable")
        closes = known.groupby("ticker")["close"].last()
        return closes * [self._in_base(ticker, closes) for ticker in closes.index]

    def splits(self, since: date, as_of: date) -> pd.Series:
        """By ticker the shares that one held at the close of `since` has become in the closes' own unit.

        As-traded closes are in shares of their own day, so splits up to `as_of` count; all others are in shares of the
        newest bar.
        """
        after = self.bars[self.bars["session"] > pd.Timestamp(since)]
        counts = (after["session"] <= pd.Timestamp(as_of)) | (after["basis"] != "traded")
        return after["split"].where(counts).fillna(1.0).groupby(after["ticker"]).prod()

    def _last_known(self, name: str, day: date) -> pd.Timestamp:
        """The last session of the name's own exchange that is known at the portfolio's close of `day`."""
        if self.chosen is None:
            return pd.Timestamp(day)
        own = self.chosen.exchanges.get(name, self.chosen.exchange)
        return pd.Timestamp(calendars.last_closed(own, self.chosen.exchange, np.array([day], "datetime64[D]"))[0])

    def _in_base(self, ticker: str, closes: pd.Series) -> float:
        """What turns the ticker's close into the universe's currency: the unit of its quotes, and the exchange rate."""
        chosen = self.chosen
        if chosen is None or ticker not in chosen.currencies or ticker in chosen.rates:
            return 1.0
        rate = chosen.rate_of(ticker)
        return universe.unit(chosen.currencies[ticker]) * (1.0 if rate is None else float(closes[rate]))


def quotes(store: Store, snapshot: str, universe_id: str | None, tickers: Iterable[str]) -> Quotes:
    """Bars of `tickers` under their own names and their aliases, and of the exchange rates they need."""
    chosen = universe.load(store, universe_id) if universe_id else None
    names = chosen.names if chosen else {}
    aliases = {alias: ticker for ticker, known in names.items() for alias in known[1:]}
    wanted = {aliases.get(ticker, ticker) for ticker in tickers}
    read = {name for ticker in wanted for name in names.get(ticker, (ticker,))} | set(chosen.rates if chosen else ())
    bars = snapshots.read(store, snapshots.load(store, snapshot), sorted(read))
    return Quotes(chosen, bars.assign(name=bars["ticker"], ticker=bars["ticker"].replace(aliases)), aliases)
