"""Bars made by hand: with closes of one's own, with gaps, and of several exchanges."""

from datetime import date

import numpy as np
import pandas as pd

from storage.universe import Member


def quotes(ticker, closes, basis="traded"):
    """Bars of days of 2024 and closes."""
    session = pd.to_datetime([f"2024-{day}" for day in closes]).astype("datetime64[s]")
    empty = dict.fromkeys(("open", "high", "low", "adj_close", "volume", "dividend", "split"), np.nan)
    return pd.DataFrame({"ticker": ticker, "session": session, "close": [*map(float, closes.values())]} | empty).assign(
        basis=basis
    )


def drop(bars, ticker, places):
    """The bars without some of a ticker's, by place."""
    own = bars.index[bars["ticker"] == ticker]
    return bars.drop(own[places])


def abroad(market, first="A"):
    """Assets of New York, London and Tokyo with an index, rates, a yield and a factor; `first` sets the sessions."""
    members = [
        Member("A"),
        Member("B", delisted=date(2016, 2, 10)),
        Member("L", exchange="XLON", currency="GBp"),
        Member("T", exchange="XTKS", currency="JPY"),
        Member("I", exchange="XTSE", currency="CAD", role="index"),
        Member("Y", role="risk_free"),
        Member("F", exchange="XLON", role="factor"),
    ]
    members.sort(key=lambda member: member.ticker != first)
    base = members[0].currency
    pairs = [f"{code}{base}=X" for code in ("USD", "GBP", "JPY", "CAD") if code != base]
    bars = [market.bars(m.ticker, exchange=m.exchange) for m in members] + [market.bars(pairs, exchange="24/5")]
    return pd.concat(bars, ignore_index=True), members
