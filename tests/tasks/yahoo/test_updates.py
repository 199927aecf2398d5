"""Monthly updates through the real client into a store, against the market's truth and against one whole refetch."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from storage import bars, snapshots, tables, universe
from storage.keys import PanelKey
from storage.store import open_store
from tasks import calendars, panels
from tasks import fetch as stage

FIRST = "2022-01-03"


@pytest.fixture
def ingest(store, yahoo, monkeypatch):
    """Ingest a universe, given as CSV rows, by nothing but the settings a firm would use."""
    monkeypatch.setenv("PRISM_PROXY", yahoo.proxy)
    monkeypatch.setenv("PRISM_CA_FILE", str(yahoo.ca_file))
    monkeypatch.setenv("PRISM_YAHOO_RATE", "50")
    monkeypatch.setenv("PRISM_YAHOO_PAUSE", "0.05")

    def run(*rows, head="ticker"):
        chosen = universe.keep(open_store(), universe.parse("test", "\n".join([head, *rows])))
        return PanelKey(stage.ingest.fn("yahoo", "yahoo", None, chosen), chosen)

    return run


def charts(yahoo):
    return [request for request in yahoo.asked() if "/v8/finance/chart/" in request.path]


def month_ends(count):
    """Noon, UTC, of the first weekday of each month."""
    days = pd.date_range("2023-02-01", periods=count, freq="BMS")
    return [datetime(day.year, day.month, day.day, 12) for day in days]


def returns_of(panel):
    return pd.DataFrame(panel.returns, pd.DatetimeIndex(panel.sessions).as_unit("s"), panel.universe.assets)


@pytest.mark.long
def test_36_monthly_updates_give_the_true_returns_and_those_of_one_whole_refetch(
    market, yahoo, at, ingest, place_of_store
):
    quarters = ["02-10", "05-12", "08-11", "11-10"]
    paid = {f"{year}-{day}": 0.4 + 0.1 * (year - 2022) for year in range(2022, 2024) for day in quarters}
    market.add("SPLT", first=FIRST, splits={"2023-06-12": 4.0, "2024-09-16": 2.0, "2025-03-10": 0.1})
    market.add("PAYS", first=FIRST, dividends=paid | {"2024-12-13": 6.0, "2025-06-13": 0.7})
    market.add("BOTH", first=FIRST, splits={"2024-05-15": 5.0}, dividends={"2023-05-15": 1.0, "2024-05-15": 0.25})
    market.add("GAIN", first=FIRST, gains={"2023-12-15": 2.0}, dividends={"2024-12-16": 1.5}, instrument="MUTUALFUND")
    names = ["BOTH", "GAIN", "PAYS", "SPLT"]
    moments = month_ends(36)
    for moment in moments:
        at(moment)
        key = ingest(*names)
    found = returns_of(panels.load(open_store(), key))
    last = found.index[-1]
    assert str(last.date()) == "2025-12-31"
    for name in names:
        truth = market.listings[name].truth["R"].loc[:last]
        np.testing.assert_allclose(found[name].iloc[1:], truth.iloc[1:], rtol=0, atol=1e-6)
    assert len(charts(yahoo)) == 36 * 4  # one request a ticker and month
    outcomes = tables.read(open_store(), "ingests").to_pandas()
    assert set(outcomes["outcome"]) == {"ok"}
    place_of_store("whole")
    whole = returns_of(panels.load(open_store(), ingest(*names)))
    np.testing.assert_allclose(found.iloc[1:], whole.iloc[1:], rtol=0, atol=1e-6)
    pd.testing.assert_index_equal(found.index, whole.index)


@pytest.fixture
def place_of_store(tmp_path, monkeypatch):
    """Make another folder the store of what follows."""
    return lambda name: monkeypatch.setenv("PRISM_STORE", str(tmp_path / name))


def test_a_second_run_on_the_same_day_asks_for_nothing(market, yahoo, at, ingest):
    market.add("AAA", first=FIRST)
    at(datetime(2024, 3, 1, 12))
    first = ingest("AAA")
    asked = len(yahoo.asked())
    at(datetime(2024, 3, 1, 14))
    assert ingest("AAA") == first
    assert len(yahoo.asked()) == asked


def test_days_between_are_asked_for_as_a_window_that_reaches_now(market, yahoo, at, ingest):
    market.add("AAA", first=FIRST, splits={"2024-03-06": 4.0}, dividends={"2024-03-11": 0.5})
    for day in (1, 4, 5, 6, 7, 8, 11, 12):
        at(datetime(2024, 3, day, 23))
        key = ingest("AAA")
    found = returns_of(panels.load(open_store(), key))["AAA"]
    truth = market.listings["AAA"].truth["R"].loc[: found.index[-1]]
    np.testing.assert_allclose(found.iloc[1:], truth.iloc[1:], rtol=0, atol=1e-6)
    assert tables.read(open_store(), "restatements").num_rows == 0
    starts = [int(request.query["period1"]) for request in charts(yahoo)]
    assert starts[0] < starts[1] < starts[2]


@pytest.mark.long
def test_a_symbol_dies_is_retired_and_revives_with_its_history_whole(market, yahoo, at, ingest):
    market.add("AAA", first=FIRST)
    market.add("BBB", first=FIRST)
    others = [market.add(f"C{number:02d}", first=FIRST).ticker for number in range(9)]
    names = ["AAA", "BBB", *others]
    at(datetime(2024, 3, 1, 23))
    ingest(*names)
    gone = market.listings.pop("BBB")
    for day in (4, 5, 6):
        at(datetime(2024, 3, day, 23))
        key = ingest(*names)
    store = open_store()
    snapshot = snapshots.load(store, key.snapshot)
    assert list(snapshots.delisted(store, snapshot)) == ["BBB"]
    panel = panels.load(store, key)
    assert panel.delisted[panel.universe.assets.index("BBB")] < panel.sessions.size
    market.listings["BBB"] = gone
    at(datetime(2024, 4, 10, 23))
    key = ingest(*names)
    assert snapshots.delisted(store, snapshots.load(store, key.snapshot)) == {}
    found = returns_of(panels.load(store, key))["BBB"]
    np.testing.assert_allclose(found.iloc[1:], gone.truth["R"].loc[: found.index[-1]].iloc[1:], rtol=0, atol=1e-6)


def test_two_exchanges_two_currencies_and_todays_tokyo_bar(market, at, ingest):
    market.add("AAA", first=FIRST)
    market.add("7203.T", exchange="XTKS", first=FIRST, start=2000.0)
    market.add("JPYUSD=X", exchange="24/5", first=FIRST, start=0.007, instrument="CURRENCY")
    at(datetime(2024, 3, 1, 12))  # Tokyo's March 1 is over, New York's has not begun
    rows = ("AAA,XNYS,USD", "7203.T,XTKS,JPY")
    key = ingest(*rows, head="ticker,exchange,currency")
    store = open_store()
    known = bars.latest(store, "yahoo").groupby("ticker")["session"].max().dt.strftime("%F").to_dict()
    assert known == {"7203.T": "2024-03-01", "AAA": "2024-02-29", "JPYUSD=X": "2024-02-29"}
    panel = panels.load(store, key)
    assert str(panel.sessions[-1]) == "2024-02-29"
    fx, local = market.listings["JPYUSD=X"].truth["close"], market.listings["7203.T"].truth
    rate = fx.loc[
        ["2024-02-27", "2024-02-28"]
    ].to_numpy()  # that of the day before is the last one known at Tokyo's close
    expected = (1 + local.loc["2024-02-29", "R"]) * rate[1] / rate[0] - 1
    column = panel.universe.assets.index("7203.T")
    assert panel.returns[-1, column] == pytest.approx(expected, abs=1e-6)  # single precision
    days = calendars.sessions("XTKS", np.datetime64("2024-02-29"), np.datetime64("2024-03-01"))
    assert days.size == 2
    at(datetime(2024, 3, 1, 23))
    assert str(panels.load(store, ingest(*rows, head="ticker,exchange,currency")).sessions[-1]) == "2024-03-01"
