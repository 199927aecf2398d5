"""Regimes of dates: kept once, the same whatever came later, and joined to the dates that were decided."""

import numpy as np

from storage import tables
from storage.universe import Member
from tasks import panels, regimes
from tasks.numerics import regimes as kinds

COLUMNS = ["as_of", "regime", "volatility", "lower", "upper", "distance"]


def label(market, panel):
    moments = panels.moments(market.store, panel)
    keys = regimes.label_dates.fn(panel, moments).keys
    return keys, tables.read(market.store, "regimes", key=list(keys)).sort_by("as_of").to_pandas()


def test_dates_have_the_regime_of_their_as_of_session(market):
    panel = market.panel(market.bars(count=700))
    _, rows = label(market, panel)
    loaded = panels.load(market.store, panel)
    places = np.array([loaded.at(day) for day in rows["as_of"]])
    found = kinds.at(loaded.market, places)
    assert rows["regime"].isna().tolist() == (found.regime < 0).tolist()
    assert rows["regime"].dropna().tolist() == [kinds.NAMES[place] for place in found.regime if place >= 0]
    assert 0 < rows["regime"].isna().sum() < len(rows)


def test_later_sessions_change_no_row(market):
    short, early = label(market, market.panel(market.bars(count=600)))
    changed = market.bars(count=700)
    late = changed["session"] > str(early["as_of"].iloc[-1])
    for name in ("open", "high", "low", "close", "adj_close"):
        changed.loc[late, name] *= 3
    long, rows = label(market, market.panel(changed))
    assert set(short) <= set(long)
    assert rows[COLUMNS].iloc[: len(early)].equals(early[COLUMNS])


def test_the_index_is_the_market_where_there_is_one(market):
    members = [*map(Member, "ABCD"), Member("E", role="index")]
    panel = market.panel(market.bars(count=700), members)
    _, rows = label(market, panel)
    loaded = panels.load(market.store, panel)
    own = kinds.at(loaded.index_returns, np.array([loaded.at(day) for day in rows["as_of"]]))
    np.testing.assert_array_equal(rows["volatility"].dropna(), own.volatility[own.regime >= 0])
    assert (own.volatility != kinds.at(loaded.market, np.arange(650, 651)).volatility).all()
