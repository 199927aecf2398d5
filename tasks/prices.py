"""The prices that accounts read: those of every universe that a scenario has held, on one calendar."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError
from storage.keys import PanelKey
from storage.store import Store
from tasks import calendars, panels
from tasks.calendars import DayArray
from tasks.numerics import dates
from tasks.numerics.configs import RISK_FREE, TRADING_DAYS

# Shapes: S = sessions of the account, n = tickers.
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Prices:
    """What accounting reads, of every ticker of one or more universes."""

    sessions: DayArray  # (S,)
    tickers: tuple[str, ...]
    returns: FloatArray  # (S, n) simple total returns
    traded: BoolArray  # (S, n) whether there is a bar
    delisted: IntArray  # (n,) session from which a ticker counts as delisted, S where it never does
    risk_free: FloatArray | None  # (S,) simple return of cash since the session before; None: a constant
    series: dict[str, panels.Asset]  # by ticker, on these sessions
    exchange: str  # whose sessions these are

    def halted_since(self, ticker: str, at: int) -> date | None:
        """The day of the ticker's last bar, if its own exchange has had 5 sessions or more since, by session `at`."""
        asset = self.series[ticker]
        bars = int(np.searchsorted(asset.session, at, side="right"))
        if not bars:
            return None
        last = asset.own_day[bars - 1]
        seen = calendars.last_closed(asset.exchange, self.exchange, self.sessions[at : at + 1])[0]
        missed = calendars.sessions(asset.exchange, last, seen).size - 1
        return last.item() if missed >= dates.ALLOWED_GAPS else None

    def until(self, count: int) -> "Prices":
        """The prices as they were known when `count` sessions were over."""
        return replace(
            self,
            sessions=self.sessions[:count],
            returns=self.returns[:count],
            traded=self.traded[:count],
            delisted=np.minimum(self.delisted, count),
            risk_free=None if self.risk_free is None else self.risk_free[:count],
        )


def prices_of(store: Store, snapshot: str, universes: Sequence[str]) -> Prices:
    """Returns of all assets and indices of the universes, up to the last one's last session and on its exchange.

    Cash is the last one's too. Raises InputError for universes in several currencies.
    """
    return _prices_of(store, snapshot, tuple(universes))


@lru_cache(maxsize=4)
def _prices_of(store: Store, snapshot: str, universes: tuple[str, ...]) -> Prices:
    loaded = [panels.load(store, PanelKey(snapshot, identity)) for identity in universes]
    last, currencies = loaded[-1], {panel.universe.currency for panel in loaded}
    if len(currencies) > 1:
        raise InputError(
            f"one account cannot be kept in {' and '.join(sorted(currencies))}; decide the months in another currency "
            "as a scenario of their own with --scenario NAME"
        )
    exchange, first = last.universe.exchange, min(panel.sessions[0] for panel in loaded)
    sessions = calendars.sessions(exchange, first, last.sessions[-1])
    series = {
        ticker: replace(asset, session=calendars.known_at(asset.exchange, asset.own_day, exchange, sessions))
        for panel in loaded
        for ticker, asset in panel.series.items()
    }
    declared = {ticker: day for panel in loaded for ticker, day in panel.declared.items()}
    tickers = tuple(sorted(series))
    before = np.full(sessions.size - last.sessions.size, RISK_FREE / TRADING_DAYS)
    seen = panels.seen_of(series.values(), exchange, sessions)
    return Prices(
        sessions,
        tickers,
        np.column_stack([panels.returns_of(series[ticker], sessions.size) for ticker in tickers]),
        np.column_stack([panels.traded_of(series[ticker], seen, sessions.size) for ticker in tickers]),
        np.array([panels.gone_from(series[ticker], declared.get(ticker), sessions) for ticker in tickers], np.int64),
        None if last.risk_free is None else np.concatenate([before, last.risk_free]),
        series,
        exchange,
    )
