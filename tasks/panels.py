"""The prices of a universe as arrays over the portfolio's sessions.

Everything here is causal: a row of any array depends on bars up to its session only, so a stage may load the
panel once and cut it at each of its dates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage import snapshots, universe
from storage.errors import InputError
from storage.keys import Moment, PanelKey, digest
from storage.store import Store
from tasks import calendars
from tasks.numerics import dates, returns

# Shapes: S = sessions of the portfolio, A = assets, T = own sessions of one asset.
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Asset:
    """One ticker on its own sessions."""

    session: NDArray[np.int64]  # (T,) index of the portfolio's session at which each bar is known
    day: NDArray[np.datetime64]  # (T,)
    simple_return: FloatArray  # (T,) the first is NaN
    high_ratio: FloatArray  # (T,) high / close, 1 where there is no high
    low_ratio: FloatArray  # (T,)
    volume: FloatArray  # (T,) split-consistent, NaN where there is none


@dataclass(frozen=True)
class Panel:
    """All that the stages read of the market."""

    universe: universe.Universe
    sessions: NDArray[np.datetime64]  # (S,)
    series: dict[str, Asset]  # by ticker, assets and index
    returns: FloatArray  # (S, A) simple total returns; 0 on a session without a bar, NaN before the first bar
    traded: BoolArray  # (S, A) a bar on that very session
    eligible: BoolArray  # (S, A) may be held by a decision at that session
    index_returns: FloatArray | None  # (S,)

    def at(self, day: date) -> int:
        """Index of the last session up to `day`."""
        return int(np.searchsorted(self.sessions, np.datetime64(day), side="right")) - 1

    @cached_property
    def market(self) -> FloatArray:
        """Simple return of the index, or of the equal-weighted assets where there is no index: (S,), 0 at first."""
        if self.index_returns is not None:
            return np.nan_to_num(self.index_returns)
        known = np.isfinite(self.returns)
        return np.where(known, self.returns, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


@lru_cache(maxsize=4)
def load(store: Store, key: PanelKey) -> Panel:
    """The panel of a snapshot and a universe.

    Raises InputError when no asset of the universe has a bar.
    """
    chosen = universe.load(store, key.universe)
    bars = snapshots.read(store, snapshots.load(store, key.snapshot), chosen.tickers)
    by_ticker = {member.ticker: _of_member(bars, member) for member in chosen.members}
    if not any(len(by_ticker[ticker]) for ticker in chosen.assets):
        raise InputError(f"no asset of universe {chosen.name} has prices in the data; name others with --universe")
    sessions = calendars.sessions(chosen.exchange, bars["session"].min(), bars["session"].max())
    series = {ticker: _asset(rows, sessions) for ticker, rows in by_ticker.items() if len(rows)}
    assets = [series.get(ticker) for ticker in chosen.assets]
    return Panel(
        universe=chosen,
        sessions=sessions,
        series=series,
        returns=np.column_stack([_returns(asset, sessions.size) for asset in assets]),
        traded=np.column_stack([_traded(asset, sessions) for asset in assets]),
        eligible=_eligible_assets(chosen, series, sessions),
        index_returns=_returns(series[chosen.index], sessions.size) if chosen.index in series else None,
    )


def _eligible_assets(
    chosen: universe.Universe, series: dict[str, Asset], sessions: NDArray[np.datetime64]
) -> BoolArray:
    """Assets that have the bars and lie within their dates: (S, A)."""
    exchanges = {member.ticker: member.exchange for member in chosen.members}
    columns = [
        _eligible(series.get(ticker), exchanges[ticker], sessions) & _held(chosen, ticker, sessions)
        for ticker in chosen.assets
    ]
    return np.column_stack(columns)


def _of_member(bars: pd.DataFrame, member: universe.Member) -> pd.DataFrame:
    """Bars under the ticker, and under its aliases on the sessions where the ticker has none."""
    names = (member.ticker, *member.aliases)
    rows = bars[bars["ticker"].isin(names)].assign(rank=lambda frame: frame["ticker"].map(names.index))
    rows = rows.sort_values(["session", "rank"], kind="stable").drop_duplicates("session")
    return rows.reset_index(drop=True)


def _asset(rows: pd.DataFrame, sessions: NDArray[np.datetime64]) -> Asset:
    day = rows["session"].to_numpy().astype("datetime64[D]")
    close, adjusted, dividend, split, volume, high, low = (
        rows[name].to_numpy(np.float64) for name in ("close", "adj_close", "dividend", "split", "volume", "high", "low")
    )
    simple = returns.total_returns(close, adjusted, dividend, split, rows["basis"].iloc[0])
    traded_splits = np.where(np.isnan(split) | (rows["basis"] != "traded"), 1.0, split)
    return Asset(
        session=np.searchsorted(sessions, day).astype(np.int64),
        day=day,
        simple_return=simple,
        high_ratio=np.where(np.isnan(high), 1.0, high / close),
        low_ratio=np.where(np.isnan(low), 1.0, low / close),
        volume=volume / np.cumprod(traded_splits),  # in shares of the first session: no later split changes it
    )


def _returns(asset: Asset | None, count: int) -> FloatArray:
    if asset is None:
        return np.full(count, np.nan)
    return returns.on_sessions(asset.simple_return, asset.session, count)


def _traded(asset: Asset | None, sessions: NDArray[np.datetime64]) -> BoolArray:
    return np.zeros(sessions.size, bool) if asset is None else np.isin(sessions, asset.day)


def _held(chosen: universe.Universe, ticker: str, sessions: NDArray[np.datetime64]) -> BoolArray:
    """Sessions within the from and to dates of one of the ticker's rows."""
    spans = [(member.first, member.last) for member in chosen.members if member.ticker == ticker]
    inside = [(sessions >= np.datetime64(first)) & (sessions <= np.datetime64(last)) for first, last in spans]
    return np.any(inside, axis=0)


def _eligible(asset: Asset | None, exchange: str, sessions: NDArray[np.datetime64]) -> BoolArray:
    """Eligibility by the sessions of the asset's own exchange, carried to the portfolio's sessions."""
    if asset is None:
        return np.zeros(sessions.size, bool)
    own = calendars.sessions(exchange, sessions[0], sessions[-1])
    may = dates.eligible(np.isin(own, asset.day))
    place = np.searchsorted(own, sessions, side="right") - 1
    return np.where(place >= 0, may[np.maximum(place, 0)], False)


def market_on(panel: Panel, asset: Asset) -> FloatArray:
    """The market's log return over each of the asset's own intervals, (T,), the first NaN."""
    level = np.cumsum(np.log1p(panel.market))
    return np.diff(level[np.minimum(asset.session, level.size - 1)], prepend=np.nan)


@lru_cache(maxsize=4)
def moments(store: Store, key: PanelKey) -> tuple[Moment, ...]:
    """Every month that the data can decide, in order, with the prefix that names what each decision may see."""
    panel = load(store, key)
    following = calendars.next_session(panel.universe.exchange, panel.sessions[-1])
    sessions = np.append(panel.sessions, following)
    first = dates.rebalance_sessions(sessions)
    as_of = [day.item() for day in sessions[first - 1]]
    prefixes = _prefixes(store, key, as_of)
    days = [day.item() for day in sessions[first]]
    return tuple(Moment(*values) for values in zip(days, as_of, prefixes, strict=True))


def prefix(store: Store, key: PanelKey, day: date) -> str:
    """The name of all that may be seen at `day`."""
    return _prefixes(store, key, [day])[0]


def _prefixes(store: Store, key: PanelKey, days: Sequence[date]) -> list[str]:
    chosen, snapshot = universe.load(store, key.universe), snapshots.load(store, key.snapshot)
    return snapshots.prefixes(store, snapshot, chosen.tickers, digest(chosen.members), days)


def left_out(panel: Panel, day: date) -> dict[str, str]:
    """Assets of the universe that may not be held at `day`, each with the reason."""
    at, names = panel.at(day), panel.universe.assets
    return {name: _reason(panel, name, at) for place, name in enumerate(names) if not panel.eligible[at, place]}


def _reason(panel: Panel, ticker: str, at: int) -> str:
    asset, day = panel.series.get(ticker), panel.sessions[at]
    if asset is None or asset.day[0] > day:
        return "no prices yet"
    if not _held(panel.universe, ticker, panel.sessions)[at]:
        return "not in the universe on that day"
    own = int((asset.day <= day).sum())
    if own < dates.REQUIRED:
        return f"{own} of the {dates.REQUIRED} sessions needed"
    last = asset.day[own - 1]
    return f"too many bars missing; the last one is of {last}"


@dataclass(frozen=True)
class Prices:
    """What accounting reads, of every ticker of one or more universes."""

    sessions: NDArray[np.datetime64]  # (S,)
    tickers: tuple[str, ...]
    returns: FloatArray  # (S, n) simple total returns
    traded: BoolArray  # (S, n) whether there is a bar


def prices_of(store: Store, snapshot: str, universes: Sequence[str]) -> Prices:
    """Returns of all assets and indices of the universes, up to the last one's last session and on its exchange."""
    loaded = [load(store, PanelKey(snapshot, identity)) for identity in universes]
    first = min(panel.sessions[0] for panel in loaded)
    sessions = calendars.sessions(loaded[-1].universe.exchange, first, loaded[-1].sessions[-1])
    series = {
        ticker: replace(asset, session=np.searchsorted(sessions, asset.day).astype(np.int64))
        for panel in loaded
        for ticker, asset in panel.series.items()
    }
    tickers = tuple(sorted(series))
    return Prices(
        sessions,
        tickers,
        np.column_stack([_returns(series[ticker], sessions.size) for ticker in tickers]),
        np.column_stack([_traded(series[ticker], sessions) for ticker in tickers]),
    )
