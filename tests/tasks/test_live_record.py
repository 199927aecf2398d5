"""The live record: what was published in time, and nothing else, marked to market as a plain account does it."""

from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from storage import clock, tables
from storage.keys import PanelKey
from storage.schemas import CASH
from tasks import decide, live, panels
from tasks.numerics.cone import cone
from tasks.numerics.configs import AccountingConfig

COSTS = AccountingConfig(cost=0.002, cash_rate=0.03)
PLANS = [{"A": 0.6, "B": 0.2}, {"B": 0.5, "C": 0.5}, {"D": 0.9, "E": 0.1}, {"A": 1.2, "E": -0.4}] * 3
FORECAST = {"mean": 0.01, "volatility": 0.05, "horizon": 21}


@pytest.fixture
def at(monkeypatch):
    """Set the time."""
    return lambda when: monkeypatch.setattr(clock, "now", lambda: when)


@pytest.fixture
def year(market):
    """A panel with its twelve months of 2016, the bars, and the rebalance date before each."""
    bars = market.bars(count=500)
    panel = market.panel(bars)
    found = panels.moments(market.store, panel)
    months = [(moment, before) for before, moment in pairwise(found) if moment.month.startswith("2016")]
    assert len(months) == 12
    return panel, bars, months


def publish(market, panel, months, place, kind="published", at=None, when=None, amend=None, plan=None):
    """Decide one month at a time of day, its opening by default."""
    moment, before = months[place]
    weights = plan or PLANS[place]
    key = f"{moment.prefix} {sorted(weights.items())}"
    market.put_weights(key, moment, "hand", [*weights.items(), (CASH, 1 - sum(weights.values()))])
    made = {"parameters": {"accounting": asdict(COSTS), "publish": "hand"}, "code": {}, "versions": {}}
    said = {"measured": {"forecast": FORECAST}}
    month = decide.Month(moment, before.rebalance_date, kind, None, None, (("hand", key),), COSTS, made, amend, "hand")
    at(when or datetime.combine(moment.rebalance_date, datetime.min.time()) + timedelta(hours=14))
    decide.decide.fn(panel, "main", (replace(month, publication=said),))


def plain(bars, trades, first, last):
    """An account in currency, share by share, straight from the closes: wealth by session."""
    close = bars.pivot(index="session", columns="ticker", values="close").loc[first:last].ffill()
    cash, shares, wealth = 1.0, {}, {}
    before = None
    for day in close.index:
        if before is not None:
            short = sum(-n * close.loc[before, t] for t, n in shares.items() if n < 0)
            rate = COSTS.cash_rate + (0 if cash > 0 else COSTS.borrow_spread)
            cash += cash * rate / 252 - short * COSTS.short_rate / 252
        if day.date() in trades:
            plan, value = trades[day.date()], cash + sum(n * close.loc[day, t] for t, n in shares.items())
            names = plan.keys() | shares.keys()
            traded = sum(abs(plan.get(t, 0.0) * value - shares.get(t, 0.0) * close.loc[day, t]) for t in names)
            value -= COSTS.cost * traded
            shares = {t: w * value / close.loc[day, t] for t, w in plan.items()}
            cash = value * (1 - sum(plan.values()))
        wealth[day.date()] = cash + sum(n * close.loc[day, t] for t, n in shares.items())
        before = day
    return wealth


def rows(market):
    return tables.read(market.store, "live", scenario="main").sort_by("session").to_pylist()


def test_twelve_months_are_those_of_a_plain_account(market, year, at):
    panel, bars, months = year
    for place, (moment, _) in enumerate(months):
        kind = {3: "held", 6: "backfill"}.get(place, "published")
        publish(market, panel, months, place, kind, at)
        if place % 3 == 2:  # evenings that were missed are caught up
            live.mark.fn(panel, "main", moment.rebalance_date)
    last = panels.load(market.store, panel).sessions[-1].item()
    marked = live.mark.fn(panel, "main", last)
    trades = {m.rebalance_date: PLANS[place] for place, (m, _) in enumerate(months) if place not in (3, 6)}
    expected = plain(bars, trades, pd.Timestamp(min(trades)), pd.Timestamp(last))
    found = rows(market)
    assert [row["session"] for row in found] == list(expected)
    np.testing.assert_allclose([row["wealth"] for row in found], list(expected.values()), rtol=1e-10)
    np.testing.assert_allclose(np.cumprod([1 + row["daily_return"] for row in found]), list(expected.values()), 1e-10)
    assert (marked.session, marked.wealth) == (last, found[-1]["wealth"])
    assert live.mark.fn(panel, "main", last).new == 0
    assert rows(market) == found


def test_nothing_is_marked_before_the_first_trade_nor_of_a_backfill(market, year, at):
    panel, _, months = year
    publish(market, panel, months, 0, "backfill", at)
    publish(market, panel, months, 1, "published", at)
    assert live.mark.fn(panel, "main", months[1][0].as_of) == live.Marked(0, None, 1.0, 0, alert=False)
    live.mark.fn(panel, "main", months[1][0].rebalance_date)
    [first] = rows(market)
    assert first["daily_return"] == pytest.approx(first["wealth"] - 1)
    assert (first["session"], first["expected"]) == (months[1][0].rebalance_date, None)


def test_what_is_amended_after_the_close_was_never_held(market, year, at):
    panel, _, months = year
    publish(market, panel, months, 0, "published", at)
    late = datetime(2016, 1, 20)
    publish(market, panel, months, 0, "published", at, late, amend="a mistake", plan={"E": 1.0})
    [standing] = live.decided_in_time(market.store, "main", "XNYS")
    assert standing.revision == 0


def test_a_price_corrected_later_moves_the_next_session_and_no_row_before(market, year, at):
    panel, bars, months = year
    publish(market, panel, months, 0, "published", at)
    live.mark.fn(panel, "main", date(2016, 1, 14))
    before = rows(market)
    bars = bars.copy()
    bars.loc[(bars["ticker"] == "A") & (bars["session"] >= "2016-01-08"), ["close", "adj_close"]] *= 1.1
    again = PanelKey(market.take(bars), panel.universe)
    live.mark.fn(again, "main", date(2016, 1, 15))
    after = rows(market)
    assert after[:-1] == before
    assert after[-1]["daily_return"] > 0.04


def test_outside_the_cone_for_21_sessions_in_a_row_is_an_alert_once(market, year, at, monkeypatch):
    panel, _, months = year
    monkeypatch.setitem(FORECAST, "mean", 0.5)  # what no market gives
    monkeypatch.setitem(FORECAST, "volatility", 0.01)
    publish(market, panel, months, 0, "published", at)
    days = [day.item() for day in panels.load(market.store, panel).sessions if day > np.datetime64("2016-01-04")]
    alerts = [live.mark.fn(panel, "main", day) for day in days[:24]]
    outside = [row["outside"] for row in rows(market)]
    first = outside.index(1) - 1  # among `alerts`
    assert [place for place, marked in enumerate(alerts) if marked.alert] == [first + 20]
    assert outside[-1] > 20


def test_a_cone_widens_with_the_root_of_time_and_begins_anew_after_a_gap():
    mean, variance = np.full(6, 0.001), np.full(6, 0.0004)
    mean[3] = variance[3] = np.nan
    found = cone(np.array([1.0, 1.1, 1.2, 2.0, 1.0, 1.0]), mean, variance)
    np.testing.assert_allclose(np.log(found.upper / found.middle)[:3], 1.6448536269514722 * 0.02 * np.sqrt([1, 2, 3]))
    np.testing.assert_allclose(
        np.log(found.middle), [0.0008, 0.0016, 0.0024, np.nan, *(np.log(2) + 0.0008 * np.array([1, 2]))]
    )
    assert np.isnan(found.lower[3])
