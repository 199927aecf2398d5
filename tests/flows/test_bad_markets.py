"""Prices that can be read and not be used: whole runs that end in a sentence, or leave out what is wrong and say so."""

import hashlib
import re

import numpy as np
import pandas as pd
import pytest

from storage import catalog
from storage.store import open_store

pytestmark = [pytest.mark.flow, pytest.mark.long]
GIVEN = [
    *("--source", "files", "--set", "forecast.forecaster=calibrated_ewma", "--set", "training.minimum_sessions=30"),
    *("--set", 'strategies=["return_drawdown","ogd_conservative","equal_weight"]'),
]


def of_one(prices):
    return prices[["AAA"]]


def identical(prices):
    return prices.assign(BBB=prices["AAA"], CCC=prices["AAA"])[["AAA", "BBB", "CCC"]]


def constant(prices):
    return prices.assign(AAA=100.0, BBB=50.0)[["AAA", "BBB"]]


@pytest.mark.parametrize("market", [of_one, identical])
def test_a_strange_market_is_decided_with_weights_that_add_up(prism, tmp_path, prices, market):
    market(prices).to_csv(tmp_path / "prices.csv")
    place = ["--path", tmp_path / "prices.csv", "--store", tmp_path / "store"]
    code, _, err = prism("backfill", *GIVEN, *place, "--start", "2016-12", "--end", "2017-01")
    assert code == 0, err
    sql = "SELECT rebalance_date, strategy, sum(weight) AS total, min(weight) AS least FROM weights GROUP BY ALL"
    rows = catalog.query(open_store(tmp_path / "store"), "main", sql).to_pylist()
    assert len(rows) == 6
    assert all(row["total"] == pytest.approx(1) and row["least"] >= -1e-9 for row in rows)


def too_short(prices):
    return prices.tail(100)


def of_the_future(prices):
    return prices.set_axis(prices.index + pd.DateOffset(years=100))


def of_long_ago(prices):
    return prices.set_axis(prices.index - pd.DateOffset(years=100))


def without_prices(prices):
    return prices * np.nan


def negative(prices):
    return -prices


def zero(prices):
    return prices * 0


def infinite(prices):
    return prices * np.inf


def beyond_a_double(prices):
    return prices.astype(str) + "e400"


def in_words(prices):
    return prices.map(lambda _: "a lot")


def at_weekends(prices):
    days = pd.date_range("2016-01-02", periods=len(prices), freq="W-SAT", name="date")
    return prices.set_axis(days)


REFUSED = {
    too_short: "no month can be decided: no asset has the 132 sessions needed",
    constant: "no month can be decided",
    of_the_future: "has no bar on a session of its exchange",
    of_long_ago: "has no bar on a session of its exchange",
    without_prices: "has no usable row",
    negative: "no ticker of .* passed the quality gate",
    zero: "no ticker of .* passed the quality gate",
    infinite: "has no usable row",
    beyond_a_double: "has no usable row",
    in_words: "close is a lot; it must be a number",
    at_weekends: "has no bar on a session of its exchange",
}


@pytest.mark.parametrize("market", REFUSED, ids=lambda market: market.__name__)
def test_a_market_that_cannot_be_used_is_a_sentence_and_decides_nothing(prism, tmp_path, prices, market):
    market(prices).to_csv(tmp_path / "prices.csv")
    place = ["--path", tmp_path / "prices.csv", "--store", tmp_path / "store"]
    command = ["backfill", "--start", "2016-12", "--end", "2017-01"] if market is constant else ["run"]
    code, out, err = prism(*command, *GIVEN, *place)
    assert code == 2
    assert "Traceback" not in err
    assert not out
    assert re.search(REFUSED[market], err)
    assert catalog.query(open_store(tmp_path / "store"), "main", "SELECT * FROM all_decisions").num_rows == 0


DEFECTS = {
    "negative": lambda closes: closes.mask(closes.index == "2017-06-01", -1.0),
    "zero": lambda closes: closes.mask(closes.index == "2017-06-01", 0.0),
    "a hundredfold": lambda closes: closes.mask(closes.index >= "2017-06-01", 100 * closes),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_ticker_that_cannot_be_right_is_kept_out_and_the_others_are_not(prism, tmp_path, prices, defect):
    prices.assign(AAA=DEFECTS[defect](prices["AAA"])).to_csv(tmp_path / "prices.csv")
    place = ["--path", tmp_path / "prices.csv", "--store", tmp_path / "store"]
    code, out, err = prism("ingest", "--source", "files", *place)
    assert code == 0, err
    assert "5 ok, 1 rejected" in out
    rows = catalog.query(open_store(tmp_path / "store"), "main", "SELECT DISTINCT ticker FROM bars")
    assert set(rows["ticker"].to_pylist()) == {"BBB", "CCC", "DDD", "EEE", "IDX"}


def test_rows_in_any_order_and_twice_are_the_same_prices(prism, tmp_path, prices):
    digests = []
    for name, frame in {
        "sorted": prices,
        "shuffled": pd.concat([prices, prices.head(9)]).sample(frac=1, random_state=0),
    }.items():
        frame.to_csv(tmp_path / f"{name}.csv")
        place = ["--path", tmp_path / f"{name}.csv", "--store", tmp_path / name]
        assert prism("ingest", "--source", "files", *place)[0] == 0
        rows = catalog.query(open_store(tmp_path / name), "main", "SELECT * EXCLUDE (known_from) FROM bars")
        digests.append(hashlib.sha256(repr(rows.to_pylist()).encode()).hexdigest())
    assert digests[0] == digests[1]
