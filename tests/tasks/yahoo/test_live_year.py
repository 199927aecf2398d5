"""A year of production by the real client: each month decided before its first open, and marked in the evenings."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from flows.live import mark_live
from flows.monthly import monthly_rebalance
from storage import catalog
from storage.store import open_store
from tasks import calendars

TICKERS = ("AAA", "BBB", "CCC", "DDD")
COST, CASH_RATE = 0.002, 0.03
GIVEN = {
    "source": "yahoo",
    "strategies": ["return_drawdown", "equal_weight"],
    "forecast": {"forecaster": "ewma"},
    "accounting": {"cost": COST, "cash_rate": CASH_RATE},
}


@pytest.fixture
def given(store, market, yahoo, tmp_path, monkeypatch):
    """The parameters of a small universe with dividends and a split, at a stand-in for Yahoo."""
    for name, value in {"PROXY": yahoo.proxy, "CA_FILE": yahoo.ca_file, "YAHOO_RATE": 50, "YAHOO_PAUSE": 0.05}.items():
        monkeypatch.setenv(f"PRISM_{name}", str(value))
    for ticker in (*TICKERS, "IDX"):
        market.add(ticker, first="2022-01-03", last="2025-12-31")
    market.add("BBB", first="2022-01-03", last="2025-12-31", dividends={"2024-05-15": 0.8, "2024-08-15": 0.9})
    market.add("CCC", first="2022-01-03", last="2025-12-31", splits={"2024-09-10": 4.0})
    universe = tmp_path / "small.csv"
    universe.write_text("\n".join(["ticker", *TICKERS]))
    return {**GIVEN, "universe": str(universe), "index": "IDX"}


def plain(market, plans, last):
    """An account in currency, from the market's own total returns: wealth by session."""
    truth = {ticker: market.listings[ticker].truth["R"] for ticker in TICKERS}
    cash, held, wealth = 1.0, dict.fromkeys(TICKERS, 0.0), {}
    for day in calendars.sessions("XNYS", min(plans), last):
        session = day.item()
        if session != min(plans):
            cash *= 1 + CASH_RATE / 252
            held = {ticker: value * (1 + truth[ticker].loc[str(session)]) for ticker, value in held.items()}
        value = cash + sum(held.values())
        if session in plans:
            plan = plans[session]
            value -= COST * sum(abs(plan.get(t, 0.0) * value - held[t]) for t in TICKERS)
            held = {ticker: value * plan.get(ticker, 0.0) for ticker in TICKERS}
            cash = value - sum(held.values())
        wealth[session] = value
    return wealth


def read(sql):
    return catalog.query(open_store(), "main", sql).to_pylist()


@pytest.mark.flow
@pytest.mark.long
def test_twelve_months_from_yahoo_are_those_of_a_plain_account(given, market, at):
    days = [day.item() for day in calendars.sessions("XNYS", date(2024, 1, 2), date(2024, 12, 31))]
    firsts = [day for day in days if day == min(other for other in days if other.month == day.month)]
    for day in days:
        if day in firsts:
            at(datetime.combine(day, datetime.min.time()) + timedelta(hours=12))  # before the open in New York
            state = monthly_rebalance(parameters=given, months=1, return_state=True)
            assert state.is_completed(), state.message
        if days.index(day) % 10 == 9 or day == days[-1]:  # the evenings between are caught up
            at(datetime.combine(day, datetime.min.time()) + timedelta(hours=23))
            state = mark_live(return_state=True)
            assert state.name != "Stale", state.message
    plans = {}
    for row in read("SELECT rebalance_date, ticker, weight FROM weights WHERE strategy = 'return_drawdown'"):
        plans.setdefault(row["rebalance_date"], {})[row["ticker"]] = row["weight"]
    kinds = read("SELECT rebalance_date, kind FROM decisions ORDER BY rebalance_date")
    assert [(row["rebalance_date"], row["kind"]) for row in kinds] == [(day, "published") for day in firsts]
    expected = plain(market, plans, days[-1])
    found = read("SELECT session, wealth FROM live ORDER BY session")
    assert [row["session"] for row in found] == list(expected)
    np.testing.assert_allclose([row["wealth"] for row in found], list(expected.values()), rtol=1e-6)  # float32 prices
