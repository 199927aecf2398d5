"""A simulated market with known truth, and Yahoo's way of telling it.

A listing's truth is as traded: closes, dividends per share of their day, splits, and the returns that they add up to.
`Market.chart` renders what Yahoo would answer at a moment: everything divided by the splits up to that moment, prices
rounded to float32, the adjusted close by Yahoo's factor 1 - D / C[ex-1], the bar of a running session among the others.
"""

import zlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import exchange_calendars
import numpy as np
import pandas as pd

NAMES = {
    "XNYS": ("NYQ", "USD"),
    "XLON": ("LSE", "GBp"),
    "XTKS": ("JPX", "JPY"),
    "XASX": ("ASX", "AUD"),
    "24/5": ("CCY", "USD"),
}


@dataclass
class Listing:
    """One ticker: the truth, and how Yahoo is to spoil it. Dates are the exchange's."""

    ticker: str
    exchange: str
    currency: str
    truth: (
        pd.DataFrame
    )  # index session; open, high, low, close, volume as traded; payout per share of the day, split, R
    dividends: dict[date, float]
    splits: dict[date, float]
    gains: dict[date, float] = field(default_factory=dict)
    instrument: str = "EQUITY"
    symbol: str | None = None  # answered under this symbol instead
    missing: set[date] = field(default_factory=set)  # sessions without a row
    unpriced: set[date] = field(default_factory=set)  # sessions with a row of nulls
    per_old_share: set[date] = field(default_factory=set)  # split days whose dividend is listed per old share
    dividend_currency: str | None = None
    running: str = "last trade"  # stamp of the running bar: "last trade", "open", or "both": two rows
    settled: bool = True  # whether trades after the close are seen, as they are unless an answer is old

    @property
    def timezone(self) -> str:
        return str(calendar(self.exchange).tz)


def calendar(exchange):
    # no calendar begins later
    return exchange_calendars.get_calendar(exchange, start="1997-01-02")


def yahoo_number(values):
    """Rounded as Yahoo rounds; None where there is none."""
    return [None if np.isnan(value) else float(np.float32(value)) for value in values]


class Market:
    """Listings by ticker, seen at `now` (UTC with zone; None is the clock's)."""

    def __init__(self) -> None:
        self.listings: dict[str, Listing] = {}
        self.now: datetime | None = None

    def moment(self) -> datetime:
        return self.now or datetime.now(UTC)

    def add(
        self, ticker, *, exchange="XNYS", first="2024-01-02", last=None, close=None, splits=None, dividends=None,
        gains=None, start=100.0, **how,
    ) -> Listing:  # fmt: skip
        """List a ticker with random closes, or with the given ones, from `first` on. Events by date or ISO text."""
        splits, dividends, gains = (
            {day(at): value for at, value in (e or {}).items()} for e in (splits, dividends, gains)
        )
        sessions = calendar(exchange).sessions
        last = last or (self.moment() + timedelta(days=10)).date()
        sessions = sessions[(sessions >= str(first)) & (sessions <= str(last))].as_unit("s")
        truth = pd.DataFrame({"split": 1.0, "payout": 0.0}, index=sessions)
        strange = {str(at) for at in splits | dividends | gains} - set(sessions.strftime("%F"))
        assert not strange, f"no session on {strange}"
        for at, value in splits.items():
            truth.loc[str(at), "split"] = value
        for at in dividends | gains:
            paid = {dividends.get(at, 0.0), gains.get(at, 0.0)}  # a gain that equals the dividend is the dividend
            truth.loc[str(at), "payout"] = sum(paid)
        rng = np.random.default_rng(zlib.crc32(ticker.encode()))
        truth = self._prices(truth, rng, start) if close is None else truth.assign(close=np.asarray(close, float))
        before = truth["close"].shift()
        truth["R"] = truth["split"] * (truth["close"] + truth["payout"]) / before - 1
        wide = truth["close"].to_numpy() * rng.uniform(0.001, 0.01, (3, len(truth)))
        truth["open"] = truth["close"] + (wide[0] - wide[1]) / 2
        truth["high"] = truth[["open", "close"]].max(axis=1) + wide[1]
        truth["low"] = truth[["open", "close"]].min(axis=1) - wide[2]
        truth["volume"] = rng.integers(1_000_000, 5_000_000, len(truth)).astype(float)
        how = {"currency": NAMES[exchange][1]} | how
        self.listings[ticker] = Listing(
            ticker, exchange, truth=truth, dividends=dividends, splits=splits, gains=gains, **how
        )
        return self.listings[ticker]

    @staticmethod
    def _prices(truth, rng, start):
        """Closes whose total returns are independent draws."""
        close, moves = [start], rng.normal(4e-4, 0.012, len(truth))
        for move, split, payout in zip(moves[1:], truth["split"].iloc[1:], truth["payout"].iloc[1:], strict=True):
            close.append(close[-1] * (1 + move) / split - payout)
        return truth.assign(close=close)

    def chart(self, ticker, period1=None, period2=None):
        """Status and body of Yahoo's answer for stamps from `period1` to `period2` (seconds)."""
        listing, now = self.listings.get(ticker), self.moment()
        if listing is None:
            return 404, refusal("Not Found", "No data found, symbol may be delisted")
        if period1 is not None and period1 > now.timestamp():
            said = f"Data doesn't exist for startDate = {period1}, endDate = {period2}"
            return 400, refusal("Bad Request", said)
        times = calendar(listing.exchange).schedule.reindex(listing.truth.index)
        opened = (times["open"] <= now).to_numpy()
        rows, times = self._as_of(listing, opened), times[opened]
        running = bool(len(rows)) and now < times["close"].iloc[-1]
        if running:
            part = (now - times["open"].iloc[-1]) / (times["close"].iloc[-1] - times["open"].iloc[-1])
            end = rows.index[-1]
            rows.loc[end, "close"] = rows.loc[end, "open"] + part * (rows.loc[end, "close"] - rows.loc[end, "open"])
            rows.loc[end, "volume"] *= part
        rows["adjclose"] = rows["close"] * adjustment(rows)
        rows["stamp"] = seconds(times["open"])
        meta = self._meta(listing, times, running)
        if running:
            rows = with_running_bar(rows, listing.running, meta["regularMarketTime"])
        rows.loc[rows.index.isin(stamps(listing.unpriced)), ["open", "high", "low", "close", "adjclose", "volume"]] = (
            np.nan
        )
        rows = rows[~rows.index.isin(stamps(listing.missing))]
        inside = rows["stamp"].between(period1 or 0, min(period2 or np.inf, now.timestamp()))
        return 200, self._answer(meta, rows[inside], self._events(listing, times, period1 or 0))

    @staticmethod
    def _as_of(listing, opened):
        """The rows of sessions opened so far, on the scale of the newest."""
        rows = listing.truth[opened].copy()
        rows["later"] = later(rows["split"])
        for name in ("open", "high", "low", "close", "payout"):
            rows[name] /= rows["later"]
        rows["volume"] *= rows["later"]
        return rows

    def _meta(self, listing, times, running):
        now, zone = self.moment(), listing.timezone
        following = calendar(listing.exchange).schedule
        today = pd.Timestamp(now).tz_convert(zone).date()
        current = following[following.index.date >= today].iloc[0]
        traded = now if running else times["close"].iloc[-1] if len(times) else now
        if not listing.settled:
            traded = min(traded, times["close"].iloc[-1] - pd.Timedelta(minutes=5))
        first = calendar(listing.exchange).session_open(listing.truth.index[0])
        period = {
            "timezone": "X",
            "gmtoffset": 0,
            "start": int(current["open"].timestamp()),
            "end": int(current["close"].timestamp()),
        }
        return {
            "currency": listing.currency, "symbol": listing.symbol or listing.ticker,
            "exchangeName": NAMES[listing.exchange][0], "instrumentType": listing.instrument,
            "firstTradeDate": int(first.timestamp()), "regularMarketTime": int(traded.timestamp()),
            "exchangeTimezoneName": zone, "timezone": "X", "gmtoffset": 0, "priceHint": 2, "dataGranularity": "1d",
            "currentTradingPeriod": {"pre": period, "regular": period, "post": period},
            "range": "", "validRanges": ["1d", "5d", "1mo", "max"],
        }  # fmt: skip

    @staticmethod
    def _events(listing, times, since):
        """Events of the sessions opened so far, stamped at their open, amounts on the newest scale."""
        scale = later(listing.truth["split"].reindex(times.index))
        listed = {"dividends": {}, "splits": {}, "capitalGains": {}}
        for name, amounts in (("dividends", listing.dividends), ("capitalGains", listing.gains)):
            for at, amount in amounts.items():
                if (stamp := opening(times, at, since)) is None:
                    continue
                per = listing.splits[at] if at in listing.per_old_share else 1.0
                value = float(np.float32(amount * per / scale[str(at)]))
                listed[name][str(stamp)] = {"amount": value, "date": stamp}
                if listing.dividend_currency:
                    listed[name][str(stamp)]["currency"] = listing.dividend_currency
        for at, ratio in listing.splits.items():
            if (stamp := opening(times, at, since)) is not None:
                up, down = (ratio, 1.0) if ratio >= 1 else (1.0, round(1 / ratio, 6))
                said = f"{up:g}:{down:g}"
                listed["splits"][str(stamp)] = {"date": stamp, "numerator": up, "denominator": down, "splitRatio": said}
        return {name: events for name, events in listed.items() if events}

    @staticmethod
    def _answer(meta, rows, events):
        if rows.empty:
            result = {"meta": meta, "indicators": {"quote": [{}], "adjclose": [{}]}}
        else:
            quote = {name: yahoo_number(rows[name]) for name in ("open", "high", "low", "close")}
            quote["volume"] = [None if np.isnan(value) else round(value) for value in rows["volume"]]
            adjusted = [{"adjclose": yahoo_number(rows["adjclose"])}]
            result = {"meta": meta, "timestamp": rows["stamp"].astype(int).tolist()}
            result |= {"events": events} if events else {}
            result["indicators"] = {"quote": [quote], "adjclose": adjusted}
        return {"chart": {"result": [result], "error": None}}


def day(at) -> date:
    return at if isinstance(at, date) else date.fromisoformat(at)


def stamps(days):
    return pd.DatetimeIndex(sorted(str(at) for at in days)).as_unit("s")


def seconds(times):
    return times.dt.tz_convert(None).to_numpy().astype("datetime64[s]").astype(np.int64)


def later(split):
    """The product of the splits after each session."""
    ratios = split.to_numpy()
    return pd.Series(np.append(np.cumprod(ratios[::-1])[::-1][1:], 1.0), split.index)


def adjustment(rows):
    """Yahoo's factor: at each ex-date everything before is multiplied by 1 - D / C[ex-1]."""
    close, payout = rows["close"].to_numpy(), rows["payout"].to_numpy()
    steps = 1 - payout[1:] / close[:-1]
    return np.append(np.cumprod(steps[::-1])[::-1], 1.0)


def opening(times, at, since):
    """The stamp of a day's open, if the session has opened and is asked for."""
    if str(at) not in times.index:
        return None
    stamp = int(times.loc[str(at), "open"].timestamp())
    return stamp if stamp >= since else None


def with_running_bar(rows, how, traded):
    """The last row stamped as Yahoo stamps a running bar."""
    if how == "both":
        rows = pd.concat([rows, rows.iloc[-1:]])
    if how != "open":
        rows.iloc[-1, rows.columns.get_loc("stamp")] = traded
    return rows


def refusal(code, description):
    return {"chart": {"result": None, "error": {"code": code, "description": description}}}
