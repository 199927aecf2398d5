"""Yahoo's chart answer as bars and actions of the day: pure, from bytes to a frame.

Yahoo restates a whole history at every split and every dividend. What is kept here are units of the day (as
traded), which nothing later changes: with y_t Yahoo's close and s_x the ratio of the split with ex-date x,

    C_t = y_t * prod_{x > t} s_x,   D alike,   volume over the same product

so an answer has to reach today. Ex-dates come from the list of events, in the exchange's zone. The event of a day
without a priced bar goes to the next bar that has one, whose return then carries the whole move: with D per share
of bar t, R_t = s_t (C_t + D_t) / C_{t-1} - 1.

Two amounts in that list have no known unit: a dividend on the day of a split (per old or per new share), and one in
another currency than the prices. They are taken from Yahoo's own adjusted close A, whose step is the dividend
Yahoo believed in: y_{t-1} (1 - (A/y)_{t-1} / (A/y)_t), per new share.
"""

import json
import math
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
PRICES = ["open", "high", "low", "close"]
COLUMNS = ["session", *PRICES, "adj_close", "volume", "dividend", "split"]
KINDS = {"dividends": "dividend", "splits": "split", "capitalGains": "capital_gain"}
NOISE = 1e-6  # of the price: Yahoo's are rounded to float32, so the step of A/y is known to some 3e-7
UNIT = 1e-2  # relative; the noise moves an implied dividend of .1 % of the price by .03 % of itself
SAME = 1e-6  # relative: a fund's gain that repeats the day's dividend


class BadPayload(ValueError):  # noqa: N818 - it is the answer that is bad
    """The answer is no chart of the ticker asked for, or contradicts itself."""


@dataclass(frozen=True)
class Quote:
    """One ticker as Yahoo gave it, in units of the day (as traded)."""

    ticker: str
    bars: pd.DataFrame  # COLUMNS: session datetime64[s], the exchange's date; float64, NaN where none; sorted, unique
    actions: pd.DataFrame  # ex_date (datetime64[s]), kind (dividend, split, capital_gain), value; sorted
    currency: str
    symbol: str
    exchange: str  # Yahoo's exchangeName
    timezone: str
    instrument_type: str
    first_trade_date: date | None
    live: int  # bars left out because their session was not complete
    raw: bytes = field(repr=False)  # the answer as received


class _Chart(NamedTuple):
    """The parts of an answer, with dates in place of stamps and prices on Yahoo's scale."""

    identity: tuple[str, str, str, str, str, date | None]  # as Quote lists it, from currency on
    unfinished: float  # stamp from which Yahoo itself says that the session is running; infinite where it does not
    rows: pd.DataFrame  # stamp, session, PRICES, adj_close, volume; in the order of stamps
    events: pd.DataFrame  # ex_date, kind, value, foreign


def parse(ticker: str, raw: bytes, last_completed: date) -> Quote:
    """Read the chart answer of `ticker`; sessions after `last_completed` are left out.

    Of `bars`, open to close and volume are as traded, and so is dividend, per share of that day; adj_close is
    Yahoo's own, on the scale of the fetch. Prices that Yahoo lacks stay NaN. In `actions` a dividend is as traded on
    its ex-date, a split is new shares per old one; a fund's capital gain that repeats the dividend of its day is
    listed and counts once. Raises BadPayload with the reason.
    """
    chart = _read(ticker, raw)
    rows = _one_a_day(chart.rows)
    running = (rows["stamp"] >= chart.unfinished) | (rows["session"] > np.datetime64(last_completed, "s"))
    rows = rows[~running].reset_index(drop=True)
    events = chart.events[chart.events["ex_date"] <= np.datetime64(last_completed, "s")]
    # A split of today has rescaled the answer already, although its session is not complete.
    splits = chart.events[chart.events["kind"] == "split"]
    events = _settled(events, splits, rows[rows["close"].notna()])
    bars, actions = _bars(rows, events, splits), _actions(events, splits)
    return Quote(ticker, bars, actions, *chart.identity, live=int(running.sum()), raw=raw)


def _read(ticker: str, raw: bytes) -> _Chart:
    """The parts of the answer. BadPayload where it is no JSON, holds no chart, or is of another symbol."""
    try:
        answer = json.loads(raw)
    except ValueError as error:
        raise BadPayload(f"the answer for {ticker} is no JSON ({error}); it may be cut off or a page") from error
    try:
        result = answer["chart"]["result"][0]
        meta = result["meta"]
        zone = ZoneInfo(meta["exchangeTimezoneName"])
        if meta["symbol"] != ticker:
            raise BadPayload(f"the answer for {ticker} is that of {meta['symbol']}")
        return _Chart(_identity(meta), _unfinished(meta), _rows(result, meta, zone), _events(result, meta, zone))
    except BadPayload:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BadPayload(f"the answer for {ticker} is no chart ({type(error).__name__}: {error})") from error


def _rows(result: dict[str, Any], meta: dict[str, Any], zone: ZoneInfo) -> pd.DataFrame:
    """Prices and volumes on Yahoo's scale; what is missing or infinite is NaN."""
    quote, indicators = result["indicators"]["quote"][0], result["indicators"]
    adjusted = indicators["adjclose"][0]["adjclose"] if "adjclose" in indicators else [None] * len(quote["close"])
    stamps = np.array(result["timestamp"], dtype=np.int64)
    columns = {name: np.array(quote[name], dtype=np.float64) for name in (*PRICES, "volume")}
    columns["adj_close"] = np.array(adjusted, dtype=np.float64)
    if not stamps.size or any(values.shape != stamps.shape for values in columns.values()):
        raise BadPayload(f"the answer for {meta['symbol']} has {stamps.size} stamps and columns of other lengths")
    rows = pd.DataFrame({"stamp": stamps, "session": _days(stamps, zone, meta.get("regularMarketTime"))} | columns)
    return rows.replace([np.inf, -np.inf], np.nan).sort_values("stamp", kind="stable", ignore_index=True)


def _events(result: dict[str, Any], meta: dict[str, Any], zone: ZoneInfo) -> pd.DataFrame:
    """Dividends, splits and gains as listed: ex_date, kind, value, and whether it is in another currency."""
    found = []
    for name, kind in KINDS.items():
        for event in ((result.get("events") or {}).get(name) or {}).values():
            value = event["numerator"] / event["denominator"] if kind == "split" else event["amount"]
            foreign = (event.get("currency") or meta.get("currency")) != meta.get("currency")
            found.append((int(event["date"]), kind, float(value), foreign and kind != "split"))
    listed = pd.DataFrame(found, columns=["stamp", "kind", "value", "foreign"])
    listed = listed.astype({"stamp": np.int64, "kind": "str", "value": np.float64, "foreign": bool})
    wrong = ~np.isfinite(listed["value"]) | (listed["kind"].eq("split") & ~(listed["value"] > 0))
    if wrong.any():
        raise BadPayload(f"a {listed.loc[wrong, 'kind'].iloc[0]} of {meta['symbol']} has no usable value")
    listed.insert(0, "ex_date", _days(listed.pop("stamp").to_numpy(), zone, None))
    return listed[listed["value"] != 0].sort_values(["ex_date", "kind"], kind="stable", ignore_index=True)


def _days(stamps: NDArray[np.int64], zone: ZoneInfo, last_trade: int | None) -> NDArray[np.datetime64]:
    """The exchange's dates of stamps.

    Yahoo dates some days an hour or two before their midnight, after a change to or from summer time; a running
    bar, stamped with the time of its last trade, is not one of them.
    """
    local = pd.to_datetime(stamps, unit="s", utc=True).tz_convert(zone)
    early = (local.hour >= 22) & (local.minute == 0) & (local.second == 0) & (stamps != (last_trade or 0))
    days = local.tz_localize(None).normalize().to_numpy().astype("datetime64[D]")
    return (days + early.astype(np.int64)).astype("datetime64[s]")


def _one_a_day(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without the running one that Yahoo may add to the settled one of the newest day."""
    double = rows[rows["session"].duplicated(keep=False)]
    if double.empty:
        return rows
    if len(double) == 2 and double.index[-1] == rows.index[-1] and double["stamp"].is_unique:
        return rows.iloc[:-1]
    first = double["session"].iloc[0]
    raise BadPayload(f"{len(double)} rows share their day with another one, the first on {first:%F}")


def _unfinished(meta: dict[str, Any]) -> float:
    """The start of the current session, where no trade at or after its end shows that it is over.

    Such a trade is also missing in an answer that was kept for too long, and for a stock that did not trade; its bar
    waits until Yahoo has moved on to the next session.
    """
    period = (meta.get("currentTradingPeriod") or {}).get("regular")
    traded = meta.get("regularMarketTime")
    over = period is None or traded is None or traded >= period["end"]
    return math.inf if over else float(period["start"])


def _later(splits: pd.DataFrame, days: pd.Series) -> FloatArray:
    """The product of the ratios of the splits after each day."""
    ratios = splits["value"].to_numpy(np.float64)
    products = np.append(np.cumprod(ratios[::-1])[::-1], 1.0)
    return products[np.searchsorted(splits["ex_date"].to_numpy(), days.to_numpy(), side="right")]


def _settled(events: pd.DataFrame, splits: pd.DataFrame, priced: pd.DataFrame) -> pd.DataFrame:
    """The events, with `bar` (the position of their priced row), `counts`, and amounts of unknown unit settled."""
    paid, ratio = events["kind"] != "split", splits.groupby("ex_date")["value"].prod()
    bar = np.searchsorted(priced["session"].to_numpy(), events["ex_date"].to_numpy())
    events = events.assign(bar=bar, paid=paid, counts=paid & ~_repeated(events), ratio=events["ex_date"].map(ratio))
    unsure = paid & (events["foreign"] | events["ratio"].notna())
    before, implied = _implied(priced)
    for bar, here in events[events["counts"]].groupby("bar"):
        doubtful = here[unsure[here.index]]
        left = implied[bar] - here["value"].sum() + doubtful["value"].sum()
        if len(doubtful) and NOISE * before[bar] < left < before[bar]:
            factor = _unit(left / doubtful["value"].sum(), doubtful["ratio"].iloc[0])
            events.loc[unsure & events["bar"].eq(bar), "value"] *= factor
    return events


def _implied(priced: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """The close before each priced row, and what Yahoo's adjusted close took off it; NaN at both ends."""
    close = priced["close"].to_numpy()
    before = np.concatenate([[np.nan], close])
    with np.errstate(divide="ignore", invalid="ignore"):  # a price of zero is the gate's to refuse
        factor = priced["adj_close"].to_numpy() / close
        return before, before * (1 - np.concatenate([[np.nan], factor]) / np.concatenate([factor, [np.nan]]))


def _unit(factor: float, ratio: float) -> float:
    """The factor to a listed amount: 1 or one over the split's ratio, without float noise, if it is one of these."""
    return next((known for known in (1.0, 1 / ratio) if abs(factor / known - 1) < UNIT), factor)


def _repeated(events: pd.DataFrame) -> pd.Series:
    """Which events are capital gains that equal the dividend of their day."""
    dividends = events[events["kind"] == "dividend"].groupby("ex_date")["value"].sum()
    same = np.isclose(events["value"], events["ex_date"].map(dividends).astype(np.float64), rtol=SAME, atol=0)
    return events["kind"].eq("capital_gain") & same


def _bars(rows: pd.DataFrame, events: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """The rows as traded, each priced one with the events since the priced one before."""
    scale = _later(splits, rows["session"])
    bars = rows.drop(columns="stamp").assign(volume=rows["volume"] / scale, dividend=np.nan, split=np.nan)
    bars[PRICES] = rows[PRICES].mul(scale, axis=0)
    place = np.flatnonzero(rows["close"].notna())
    events = events[events["bar"] < place.size]
    paid = events[events["counts"]].groupby("bar")["value"].sum()
    ratio = events[~events["paid"]].groupby("bar")["value"].prod()
    bars.loc[place[paid.index], "dividend"] = paid.to_numpy() * scale[place[paid.index]]
    bars.loc[place[ratio.index], "split"] = ratio.to_numpy()
    return bars[COLUMNS]


def _actions(events: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """The events as traded, by ex-date."""
    scale = np.where(events["paid"], _later(splits, events["ex_date"]), 1.0)
    return events[["ex_date", "kind"]].assign(value=events["value"] * scale).reset_index(drop=True)


def _identity(meta: dict[str, Any]) -> tuple[str, str, str, str, str, date | None]:
    """Currency, symbol, exchange, zone, type of instrument and first trade, as Quote lists them."""
    texts = (str(meta.get(name) or "") for name in ("currency", "symbol", "exchangeName"))
    zone, first = meta["exchangeTimezoneName"], meta.get("firstTradeDate")
    began = None if first is None else pd.Timestamp(int(first), unit="s", tz="UTC").tz_convert(zone).date()
    return *texts, zone, str(meta.get("instrumentType") or ""), began
