"""The prices of a universe as arrays over the portfolio's sessions.

Everything here is causal: a row of any array depends on bars known at the close of its session only, so a stage may
load the panel once and cut it at each of its dates. A bar is known when its own exchange closes: that of Tokyo
counts for New York's session of the same date, that of New York for Tokyo's next session.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage import snapshots, universe
from storage.bars import RATES, by_ticker
from storage.errors import InputError
from storage.keys import Moment, PanelKey, digest
from storage.store import Store
from storage.universe import Universe
from tasks import calendars
from tasks.calendars import DayArray
from tasks.numerics import dates, impact, returns
from tasks.numerics.configs import RISK_FREE, TRADING_DAYS

# Shapes: S = sessions of the portfolio, A = assets, T = own sessions of one asset.
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Asset:
    """One ticker on the sessions of its own exchange, in the universe's currency."""

    exchange: str
    own_day: DayArray  # (T,) its exchange's session
    session: IntArray  # (T,) index of the portfolio's session at whose close each bar is known
    day: DayArray  # (T,) that session: what may be seen at d is what has a day up to d
    simple_return: FloatArray  # (T,) the first is NaN
    high_ratio: FloatArray  # (T,) high / close, 1 where there is no high
    low_ratio: FloatArray  # (T,)
    volume: FloatArray  # (T,) split-consistent, NaN where there is none
    spread: FloatArray  # (T,) of the session and the one before it, NaN where there is no high or low
    traded_value: FloatArray  # (T,) close x volume in the universe's currency, NaN where there is no volume


@dataclass(frozen=True)
class Panel:
    """All that the stages read of the market."""

    universe: Universe
    sessions: DayArray  # (S,)
    series: dict[str, Asset]  # by ticker, assets and index
    returns: FloatArray  # (S, A) simple total returns; 0 on a session without a bar, NaN before the first bar
    traded: BoolArray  # (S, A) a bar on that very session
    eligible: BoolArray  # (S, A) may be held by a decision at that session
    index_returns: FloatArray | None  # (S,)
    risk_free: FloatArray | None  # (S,) simple return of cash since the session before; None: a constant
    factors: dict[str, FloatArray]  # (S,) simple returns by ticker; 0 on a session without a bar, NaN before the first
    declared: dict[str, date]  # by ticker the day from which it is said to be no longer traded
    delisted: IntArray  # (A,) session from which an asset counts as delisted, S where it never does

    def at(self, day: date) -> int:
        """Index of the last session up to `day`."""
        return int(np.searchsorted(self.sessions, np.datetime64(day), side="right")) - 1

    @cached_property
    def first_eligible(self) -> date:
        """The first session on which some asset may be held; the last day there is where none may ever be."""
        some = np.flatnonzero(self.eligible.any(axis=1))
        return self.sessions[some[0]].item() if some.size else date.max

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

    Raises InputError when no asset of the universe has a bar, and when an exchange rate that one needs has none.
    """
    chosen, snapshot = universe.load(store, key.universe), snapshots.load(store, key.snapshot)
    stored = snapshots.read(store, snapshot, chosen.tickers)
    by_name = by_ticker(stored, stored["ticker"])
    found = {ticker: _of_names(by_name, names) for ticker, names in chosen.names.items()}
    rows = {ticker: own for ticker, own in found.items() if len(own)}
    _check_kinds(chosen, rows)
    _check_rates(chosen, rows)
    sessions = _sessions(chosen, rows)
    placed = {ticker: _asset(ticker, chosen, rows, sessions) for ticker in _held_of(chosen) if ticker in rows}
    series = {ticker: asset for ticker, asset in placed.items() if asset is not None}
    if not series.keys() & set(chosen.assets):
        raise InputError(f"no asset of universe {chosen.name} has prices in the data; name others with --universe")
    declared = _declared(chosen, by_name, snapshots.delisted(store, snapshot), sessions)
    assets = [series.get(ticker) for ticker in chosen.assets]
    seen = seen_of(series.values(), chosen.exchange, sessions)
    return Panel(
        universe=chosen,
        sessions=sessions,
        series=series,
        returns=np.column_stack([returns_of(asset, sessions.size) for asset in assets]),
        traded=np.column_stack([traded_of(asset, seen, sessions.size) for asset in assets]),
        eligible=_eligible_assets(chosen, series, declared, sessions, seen),
        index_returns=returns_of(series[chosen.index], sessions.size) if chosen.index in series else None,
        risk_free=_cash(chosen, rows, sessions),
        factors={ticker: _factor(ticker, chosen, rows, sessions) for ticker in chosen.factors if ticker in rows},
        declared=declared,
        delisted=np.array([gone_from(series.get(t), declared.get(t), sessions) for t in chosen.assets], np.int64),
    )


def _check_kinds(chosen: Universe, rows: Mapping[str, pd.DataFrame]) -> None:
    """Refuse to hold what is stored as a rate: nobody can buy a return or a yield."""
    wrong = [ticker for ticker in _held_of(chosen) if ticker in rows and rows[ticker]["basis"].isin(RATES).any()]
    if wrong:
        raise InputError(f"{wrong[0]} of universe {chosen.name} is stored as a rate and cannot be held; take it out")


def _held_of(chosen: Universe) -> tuple[str, ...]:
    """What an account may hold: assets and index."""
    return (*chosen.assets, *chosen.of_role("index"))


def _of_names(by_name: Mapping[str, pd.DataFrame], names: tuple[str, ...]) -> pd.DataFrame:
    """Bars under the ticker, and under its aliases on the sessions where the ticker has none; empty without any."""
    rows = [by_name[name] for name in names if name in by_name]  # of the same session the first name's come first
    if len(rows) < 2:
        return rows[0] if rows else pd.DataFrame()
    return pd.concat(rows).sort_values("session", kind="stable").drop_duplicates("session").reset_index(drop=True)


def _days(rows: pd.DataFrame) -> DayArray:
    return rows["session"].to_numpy().astype("datetime64[D]")


def _check_rates(chosen: Universe, rows: Mapping[str, pd.DataFrame]) -> None:
    """Raise InputError for prices in a currency whose rate has no bars."""
    needed = {ticker: chosen.rate_of(ticker) for ticker in _held_of(chosen) if ticker in rows}
    lacking = sorted({pair for pair in needed.values() if pair and pair not in rows})
    if lacking:
        needing = ", ".join(ticker for ticker, pair in needed.items() if pair == lacking[0])
        raise InputError(
            f"universe {chosen.name} holds {needing}, but the data have no bars of {lacking[0]}, which turns prices "
            f"into {chosen.currency}; bring bars of {lacking[0]}, or name a universe without them with --universe"
        )


def _sessions(chosen: Universe, rows: Mapping[str, pd.DataFrame]) -> DayArray:
    """The portfolio's sessions that the bars of assets and index show to be over; none without any such bar."""
    days = {ticker: _days(rows[ticker]) for ticker in _held_of(chosen) if ticker in rows}
    if not days:
        return np.array([], "datetime64[D]")
    over = [calendars.last_closed(chosen.exchange, chosen.exchanges[t], own[-1:]) for t, own in days.items()]
    return calendars.sessions(chosen.exchange, min(own[0] for own in days.values()), np.fmax.reduce(over)[0])


def _asset(ticker: str, chosen: Universe, rows: Mapping[str, pd.DataFrame], sessions: DayArray) -> Asset | None:
    """The ticker's bars from the first known exchange rate on and up to the last session; None where none is left."""
    own, exchange = rows[ticker], chosen.exchanges[ticker]
    days = _days(own)
    session = calendars.known_at(exchange, days, chosen.exchange, sessions)
    rate = _rate(ticker, chosen, rows, days)
    usable = np.isfinite(rate) & (session < sessions.size)
    if not usable.any():
        return None
    if not usable.all():
        own, days, session, rate = own[usable], days[usable], session[usable], rate[usable]
    close, adjusted, dividend, split, volume, high, low = (
        own[name].to_numpy(np.float64) for name in ("close", "adj_close", "dividend", "split", "volume", "high", "low")
    )
    simple = returns.total_returns(close, adjusted, dividend, split, own["basis"].iloc[0])
    traded_splits = np.where(np.isnan(split) | (own["basis"] != "traded"), 1.0, split)
    unit = universe.unit(chosen.currencies[ticker]) if ticker in chosen.currencies else 1.0
    return Asset(
        exchange=exchange,
        own_day=days,
        session=session,
        day=sessions[session],
        simple_return=returns.in_currency(simple, rate) if chosen.rate_of(ticker) else simple,
        high_ratio=np.where(np.isnan(high), 1.0, high / close),
        low_ratio=np.where(np.isnan(low), 1.0, low / close),
        volume=volume / np.cumprod(traded_splits),  # in shares of the first session: no later split changes it
        spread=impact.corwin_schultz(high / close, low / close, simple),
        traded_value=unit * rate * close * volume,
    )


def _rate(ticker: str, chosen: Universe, rows: Mapping[str, pd.DataFrame], days: DayArray) -> FloatArray:
    """Units of the universe's currency for one of the ticker's: the last known at each close of its `days`, (T,)."""
    pair = chosen.rate_of(ticker)
    if pair is None:
        return np.ones(days.size)
    rates, known = _known(pair, chosen, rows, chosen.exchanges[ticker], days)
    return returns.last_known(rates["close"].to_numpy(np.float64), known, days.size)


def _known(
    ticker: str, chosen: Universe, rows: Mapping[str, pd.DataFrame], exchange: str, days: DayArray
) -> tuple[pd.DataFrame, IntArray]:
    """Bars that have a value, and at which of the sessions `days` of `exchange` each is known."""
    own = rows[ticker].dropna(subset="close")
    return own, calendars.known_at(chosen.exchanges[ticker], _days(own), exchange, days)


def _cash(chosen: Universe, rows: Mapping[str, pd.DataFrame], sessions: DayArray) -> FloatArray | None:
    """The simple return of cash from the session before to each session, (S,); None without a risk-free rate.

    Bars of the basis `rate` hold that return itself, and a session without a bar has that of the one before it.
    Others are annual yields in percent: cash earns, over a year's 252 sessions, the last one known at the session
    before. Until the first is known it is the constant that holds without a risk-free rate.
    """
    ticker = chosen.risk_free
    if ticker is None or ticker not in rows:
        return None
    own, known = _known(ticker, chosen, rows, chosen.exchange, sessions)
    cash = returns.last_known(own["close"].to_numpy(np.float64), known, sessions.size)
    if rows[ticker]["basis"].iloc[0] != "rate":
        cash = np.append(np.nan, cash[:-1]) / 100 / TRADING_DAYS
    return np.where(np.isnan(cash), RISK_FREE / TRADING_DAYS, cash)


def _factor(ticker: str, chosen: Universe, rows: Mapping[str, pd.DataFrame], sessions: DayArray) -> FloatArray:
    own, known = _known(ticker, chosen, rows, chosen.exchange, sessions)
    values = (own[name].to_numpy(np.float64) for name in ("close", "adj_close", "dividend", "split"))
    return returns.on_sessions(returns.total_returns(*values, rows[ticker]["basis"].iloc[0]), known, sessions.size)


def returns_of(asset: Asset | None, count: int) -> FloatArray:
    """Simple returns on `count` sessions: 0 without a bar, NaN before the first one."""
    if asset is None:
        return np.full(count, np.nan)
    return returns.on_sessions(asset.simple_return, asset.session, count)


def seen_of(series: Iterable[Asset], exchange: str, sessions: DayArray) -> dict[str, DayArray]:
    """By exchange of the series its last session that is known at each of the portfolio's: (S,)."""
    others = sorted({asset.exchange for asset in series})
    return {other: calendars.last_closed(other, exchange, sessions) for other in others}


def traded_of(asset: Asset | None, seen: Mapping[str, DayArray], count: int) -> BoolArray:
    """Sessions since whose predecessor the asset's own exchange has closed, on a day with a bar."""
    if asset is None:
        return np.zeros(count, bool)
    days = seen[asset.exchange]
    return dates.among(days, asset.own_day) & (days != np.append(np.datetime64("NaT"), days[:-1]))


def _eligible_assets(
    chosen: Universe,
    series: dict[str, Asset],
    declared: dict[str, date],
    sessions: DayArray,
    seen: Mapping[str, DayArray],
) -> BoolArray:
    """Assets that have the bars, lie within their dates and are not delisted: (S, A)."""
    columns = [
        _eligible(series.get(ticker), seen, sessions.size)
        & _held(chosen, ticker, sessions)
        & (sessions < np.datetime64(declared.get(ticker, date.max)))
        for ticker in chosen.assets
    ]
    return np.column_stack(columns)


def _held(chosen: Universe, ticker: str, sessions: DayArray) -> BoolArray:
    """Sessions within the from and to dates of one of the ticker's rows."""
    spans = [(member.first, member.last) for member in chosen.members if member.ticker == ticker]
    inside = [(sessions >= np.datetime64(first)) & (sessions <= np.datetime64(last)) for first, last in spans]
    return np.any(inside, axis=0)


def _eligible(asset: Asset | None, seen: Mapping[str, DayArray], count: int) -> BoolArray:
    """Eligibility by the sessions of the asset's own exchange that are over at each of the portfolio's."""
    if asset is None:
        return np.zeros(count, bool)
    days = seen[asset.exchange]
    own = calendars.sessions(asset.exchange, asset.own_day[0], days[-1])
    may = dates.eligible(dates.among(own, asset.own_day))
    place = np.where(np.isnat(days), 0, np.searchsorted(own, days, side="right")) - 1
    return np.where(place >= 0, may[np.maximum(place, 0)], False)


def _declared(
    chosen: Universe, by_name: Mapping[str, pd.DataFrame], said: Mapping[str, date], sessions: DayArray
) -> dict[str, date]:
    """By ticker the day from which it is no longer traded, by its rows or by the snapshot, whichever is first.

    The snapshot speaks of names: a ticker is delisted when every name under which it has bars by then is.
    """
    known = {
        name: calendars.known_at(chosen.exchanges[name], _days(rows)[:1], chosen.exchange, sessions)[0]
        for name, rows in by_name.items()
    }
    found = {}
    for ticker in _held_of(chosen):
        days = [member.delisted for member in chosen.members if member.ticker == ticker and member.delisted]
        for day in sorted(said[name] for name in chosen.names[ticker] if name in said):
            at = np.searchsorted(sessions, np.datetime64(day))
            alive = [name for name in chosen.names[ticker] if name in known and known[name] <= at]
            if all(name in said and said[name] <= day for name in alive):
                days.append(day)
        if days:
            found[ticker] = min(days)
    return found


def gone_from(asset: Asset | None, declared: date | None, sessions: DayArray) -> int:
    """The first session from the declared day on at which no bar becomes known; their number where there is none.

    Bars that go on after the declaration are believed, but no later bar undoes it.
    """
    if declared is None:
        return sessions.size
    quiet = sessions >= np.datetime64(declared)
    if asset is not None:
        quiet[asset.session[asset.session < sessions.size]] = False
    return int(np.append(np.flatnonzero(quiet), sessions.size)[0])


def sectors(panel: Panel) -> tuple[str, ...]:
    """The sector of each asset, by its newest row; empty where it has none."""
    named = {member.ticker: member.sector for member in panel.universe.members if member.role == "asset"}
    return tuple(named[ticker] for ticker in panel.universe.assets)


def level_returns(panel: Panel) -> FloatArray:
    """The market's simple returns as `Panel.market` has them, NaN up to the index's first: (S,)."""
    return panel.market if panel.index_returns is None else panel.index_returns


def market_on(panel: Panel, asset: Asset) -> FloatArray:
    """The market's log return over each of the asset's own intervals, (T,), the first NaN."""
    level = np.cumsum(np.log1p(panel.market))
    return np.diff(level[asset.session], prepend=np.nan)


@lru_cache(maxsize=8)
def moments(store: Store, key: PanelKey, schedule: str = "M") -> tuple[Moment, ...]:
    """Every rebalance date that the data can decide, in order, with the prefix that names what each may see.

    `schedule`: the first session of each month ("M"), of each quarter ("Q"), every session ("D"), or a number of
    sessions later ("M+5").
    """
    panel = load(store, key)
    sessions = calendars.with_following(panel.universe.exchange, panel.sessions)
    first = dates.rebalance_sessions(sessions, schedule)
    first = first[first <= panel.sessions.size]
    days, as_of = sessions[first].tolist(), sessions[first - 1].tolist()
    prefixes = _distinct(_prefixes(store, key, as_of), as_of)
    daily = schedule == "D"
    return tuple(Moment(*values, daily=daily) for values in zip(days, as_of, prefixes, strict=True))


def _distinct(prefixes: list[str], days: Sequence[date]) -> list[str]:
    """The prefixes, with its day in one that equals the one before: no bar came, but a state has stepped on."""
    pairs = zip(["", *prefixes], prefixes, days, strict=False)
    return [digest([own, day]) if own == before else own for before, own, day in pairs]


def prefix(store: Store, key: PanelKey, day: date) -> str:
    """The name of all that may be seen at `day`."""
    return _prefixes(store, key, [day])[0]


def _prefixes(store: Store, key: PanelKey, days: Sequence[date]) -> list[str]:
    chosen, snapshot = universe.load(store, key.universe), snapshots.load(store, key.snapshot)
    own, at = chosen.exchange, np.array(days, "datetime64[D]")
    others = sorted(set(chosen.exchanges.values()) - {own})
    last = {exchange: calendars.last_closed(exchange, own, at).tolist() for exchange in others}
    seen = {name: last[exchange] for name, exchange in chosen.exchanges.items() if exchange != own}
    label = digest([chosen.members, own, chosen.currency])
    return snapshots.prefixes(store, snapshot, chosen.tickers, label, days, seen)


def left_out(panel: Panel, day: date) -> dict[str, str]:
    """Assets of the universe that may not be held at `day`, each with the reason."""
    at, names = panel.at(day), panel.universe.assets
    return {name: _reason(panel, name, at) for place, name in enumerate(names) if not panel.eligible[at, place]}


def _reason(panel: Panel, ticker: str, at: int) -> str:
    asset, day = panel.series.get(ticker), panel.sessions[at]
    if panel.declared.get(ticker, date.max) <= day.item():
        return f"delisted on {panel.declared[ticker]}"
    if asset is None or asset.day[0] > day:
        return "no prices yet"
    if not _held(panel.universe, ticker, panel.sessions)[at]:
        return "not in the universe on that day"
    own = int((asset.day <= day).sum())
    if own < dates.REQUIRED:
        return f"{own} of the {dates.REQUIRED} sessions needed"
    return f"too many bars missing; the last one is of {asset.own_day[own - 1]}"
