"""The prices that accounts read: several universes on one calendar, delistings, cash, currencies."""

import numpy as np
import pandas as pd
import pytest

from storage.errors import InputError
from storage.keys import PanelKey
from storage.universe import Member
from tasks import panels
from tasks.prices import prices_of
from tests.tasks.quotes import abroad, drop, quotes

CONSTANT = 0.02 / 252  # of cash, where no risk-free rate is known


def test_prices_of_several_universes_cover_all_their_sessions(market):
    bars = pd.concat([market.bars("AB"), drop(market.bars("Z"), "Z", range(300))])
    snapshot = market.take(bars)
    old, new = market.universe("AB"), market.universe("Z")
    prices = prices_of(market.store, snapshot, [old, new])
    single = panels.load(market.store, PanelKey(snapshot, old))
    np.testing.assert_array_equal(prices.sessions, single.sessions)
    assert prices.tickers == ("A", "B", "Z")
    np.testing.assert_array_equal(prices.returns[:, :2], single.returns)
    assert np.isnan(prices.returns[:301, 2]).all()
    np.testing.assert_array_equal(prices.traded[:, 2], np.arange(400) >= 300)


def test_prices_of_universes_on_two_exchanges_are_those_of_the_last_ones_sessions(market):
    bars, members = abroad(market)
    snapshot = market.take(bars)
    tokyo, new_york = (market.universe(sorted(members, key=lambda m: m.ticker != t), "USD") for t in "TA")
    prices = prices_of(market.store, snapshot, [tokyo, new_york])
    single = panels.load(market.store, PanelKey(snapshot, new_york))
    size = prices.sessions.size - single.sessions.size
    np.testing.assert_array_equal(prices.sessions[size:], single.sessions)
    assert prices.tickers == ("A", "B", "I", "L", "T")
    np.testing.assert_array_equal(prices.returns[size:][:, [0, 1, 3, 4]], single.returns)
    np.testing.assert_array_equal(prices.returns[size:, 2], single.index_returns)
    np.testing.assert_array_equal(prices.traded[size:][:, [0, 1, 3, 4]], single.traded)
    np.testing.assert_array_equal(prices.delisted[[0, 1, 3, 4]], single.delisted + size)
    np.testing.assert_array_equal(prices.risk_free[size:], single.risk_free)


def test_prices_know_delistings_and_cash_on_all_their_sessions(market):
    bars = pd.concat(
        [drop(market.bars("AB"), "B", range(350, 400)), drop(market.bars("Z"), "Z", range(300)), market.bars("I")]
    )
    bars = pd.concat([bars, quotes("RF", {"01-02": 1.0}, "rate").assign(session=pd.Timestamp("2016-06-01"))])
    day = market.days()[360].item()
    snapshot = market.take(bars, {"B": day, "I": day})
    old = market.universe(["A", "B", Member("I", role="index")])
    new = market.universe(["Z", Member("RF", role="risk_free")])
    prices = prices_of(market.store, snapshot, [old, new])
    assert dict(zip(prices.tickers, prices.delisted.tolist(), strict=True)) == {"A": 400, "B": 360, "I": 400, "Z": 400}
    np.testing.assert_array_equal(
        prices.risk_free, np.where(prices.sessions < np.datetime64("2016-06-01"), CONSTANT, 1.0)
    )
    assert prices_of(market.store, snapshot, [old]).risk_free is None


def test_one_account_is_kept_in_one_currency(market):
    bars, members = abroad(market)
    euro = pd.concat([bars, market.bars(["USDEUR=X", "GBPEUR=X", "JPYEUR=X", "CADEUR=X"], exchange="24/5")])
    snapshot = market.take(euro)
    universes = [market.universe(members, currency) for currency in ("USD", "EUR")]
    with pytest.raises(InputError, match=r"one account cannot be kept in EUR and USD; .* --scenario NAME"):
        prices_of(market.store, snapshot, universes)
