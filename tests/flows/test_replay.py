"""Replay: a decided date comes out again, from nothing but what was known; what explains it when it does not."""

import json
import shutil
import tempfile
from datetime import date

import pandas as pd
import pytest

from flows import leak
from flows import parameters as forms
from flows.backfill import backfill
from flows.ingest import ingest_prices
from flows.replay import replay
from storage import ledger, tables
from storage.schemas import TABLES
from storage.store import open_store
from tasks import allocate, caching, own_forecasts, own_holdings
from tasks.numerics import return_drawdown

pytestmark = pytest.mark.flow
long = pytest.mark.long
START, END = "2016-12", "2017-01"


def changed(parameters, **values):
    return forms.make(forms.merged(parameters.values(), values))


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where scratch stores are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def versions(store):
    names = [name for name in TABLES if (store.tables / name).exists()]
    return {name: tables.open_table(store, name).version() for name in names}


def verdicts(result):
    return [entry["verdict"] for entry in result["dates"]]


def test_a_replay_is_identical_recomputes_everything_and_leaves_no_trace(decided_quickly, place, scratch, monkeypatch):
    store, solved = place(decided_quickly), []
    original = allocate._optimise
    monkeypatch.setattr(allocate, "_optimise", lambda *given: solved.append(given[1].moment.month) or original(*given))
    before = versions(store)
    result = replay("2017-01", "2017-01")
    assert verdicts(result) == ["identical"]
    assert sorted(solved) == ["2016-12", "2017-01"]  # the month itself, and the one whose weights its trades start from
    assert result["dates"][0]["changes"] == []
    assert {name: versions(store)[name] for name in before} == before
    assert list(scratch.glob("prism-*")) == []
    assert open_store() == store


def test_a_replay_that_fails_leaves_no_trace_either(decided_quickly, place, scratch, monkeypatch):
    store = place(decided_quickly)

    def broken(*_, **__):
        raise RuntimeError("the power went")

    monkeypatch.setattr(allocate, "_optimise", broken)
    with pytest.raises(RuntimeError, match="the power went"):
        replay("2017-01", "2017-01")
    assert list(scratch.glob("prism-*")) == []
    assert open_store() == store


def halved(monkeypatch):
    """Another formula for the weights."""
    original = return_drawdown.solve

    def other(*given):
        found = original(*given)
        return found._replace(weights=found.weights / 2 + 1 / 2 / len(found.weights))

    monkeypatch.setattr(return_drawdown, "solve", other)


def test_other_results_of_other_code_are_explained_field_by_field(decided_quickly, place, prism, monkeypatch):
    place(decided_quickly)
    halved(monkeypatch)
    source = caching.source
    edited = "tasks.numerics.return_drawdown"
    monkeypatch.setattr(caching, "source", lambda name: source(name) + "\n# edited" * (name == edited))
    caching.fingerprint.cache_clear()
    try:
        code, out, _ = prism("replay", "2017-01", "--store", decided_quickly, "--json")
    finally:
        caching.fingerprint.cache_clear()
    entry = json.loads(out)["dates"][0]
    assert (code, entry["verdict"]) == (0, "explained")
    assert {change["field"] for change in entry["changes"]} == {f"code.{edited}", f"before.code.{edited}"}
    assert entry["largest_change"]["strategy"] == "return_drawdown"
    assert abs(entry["largest_change"]["change"]) > 0.001


@long
def test_other_results_of_the_same_code_are_different_and_shown(decided_quickly, place, prism, monkeypatch):
    place(decided_quickly)
    halved(monkeypatch)
    code, out, _ = prism("replay", "--start", START, "--end", END, "--store", decided_quickly)
    assert code == 1
    lines = out.splitlines()
    assert lines[0].startswith("2016-12  different; largest change of a weight ")
    assert any(line.startswith("    weights of return_drawdown, 2016-12-30 ") for line in lines)
    assert lines[-1] == "2 rebalance dates of main: 0 identical, 0 explained, 2 different"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["2015-01"], "has decided no date from 2015-01 to 2015-01; the decided ones are 2016-12-01 to 2017-01-03"),
        ([], "say what to replay"),
        (["2017-01", "--start", "2016-12"], "say what to replay"),
        (["--start", "2017-01", "--end", "2016-12"], "start 2017-01 is after end 2016-12"),
        (["May"], "'May' is neither a month nor a day"),
    ],
)
def test_what_cannot_be_replayed_is_refused(decided_quickly, prism, given, sentence):
    code, _, error = prism("replay", *given, "--store", decided_quickly)
    assert code == 2
    assert sentence in error


MODULE = """
import numpy as np

def allocate(seen):
    scores = np.where(seen.mask, 1.0 + np.nan_to_num(seen.returns[-21:].sum(axis=0)), 0.0)
    return scores / scores.sum()
"""
CASES = {
    "network": {"forecast": {"forecaster": "vlstm"}},
    "daily": {"rebalance": "D"},
    "quarterly": {"rebalance": "Q"},
    "chained": {"return_drawdown": {"turnover_limit": 0.2}},
    "experts": {"strategies": ["return_drawdown", "ogd_long_window", "hedge", "equal_weight", "experts"]},
    "limited": {"ogd_long_window": {"max_trade": 0.2}},
    "own": {"own": {"momentum": "momentum_of_mine"}},
}


@long
@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_scenario_is_replayed(store, quick, csv, scratch, tmp_path, monkeypatch, case):
    (tmp_path / "momentum_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    backfill("2016-12", "2017-01", parameters=changed(quick, **CASES[case]), path=csv)
    result = replay("2016-12", "2017-01")
    assert set(verdicts(result)) == {"identical"}
    assert len(verdicts(result)) == {"daily": 41, "quarterly": 1}.get(case, 2)
    assert list(scratch.glob("prism-*")) == []


@long
def test_amended_and_restated_months_are_replayed_by_what_held_then(store, quick, prices, written, tmp_path):
    backfill("2016-11", "2016-12", parameters=quick, path=written(prices[:"2016-12-20"], tmp_path / "a.csv"))
    restated = prices.copy()
    restated.loc["2016-10-03":"2016-12-15", "BBB"] *= 1.05
    other = changed(quick, return_drawdown={"alpha": 0.7})
    backfill("2017-01", "2017-02", parameters=other, amend="a test", path=written(restated, tmp_path / "b.csv"))
    records = ledger.current(store, "main")
    assert len({entry.record["snapshot"] for entry in records.values()}) == 2
    assert verdicts(replay("2016-11", "2017-02")) == ["identical"] * 4


@long
def test_own_forecasts_that_came_later_are_left_out(store, quick, csv, tmp_path):
    mine = changed(quick, forecast={"forecaster": "files"})

    def bring(*tickers):
        rows = [("2016-12-30", ticker, 0.01, 0.002, "2016-12-30T21:00:00") for ticker in tickers]
        path = tmp_path / "own.csv"
        pd.DataFrame(rows, columns=own_forecasts.COLUMNS).to_csv(path, index=False)
        ingest_prices(parameters=mine, forecasts=str(path))

    ingest_prices(parameters=mine, path=csv)
    bring("AAA", "BBB")
    backfill(START, END, parameters=mine, path=csv)
    bring("CCC")
    assert verdicts(replay(START, END)) == ["identical"] * 2


@long
def test_rows_changed_in_the_store_are_noticed(tmp_path, quick, csv, place):
    store = place(tmp_path / "store")
    backfill(END, END, parameters=quick, path=csv)
    keys = ledger.current(store, "main")[date(2017, 1, 3)].weights
    rows = tables.read(store, "weights", key=keys, strategy="return_drawdown").sort_by("weight")
    weights = rows["weight"].to_pylist()[::-1]
    tables.put(store, "weights", rows.set_column(rows.column_names.index("weight"), "weight", [weights]))
    found = replay(END, END)["dates"][0]
    assert (found["verdict"], found["note"]) == ("different", "the stored rows are not those that were recorded")


def test_a_month_that_started_from_imported_holdings_is_replayed_from_them(decided_quickly, place, tmp_path):
    store, file = place(shutil.copytree(decided_quickly, tmp_path / "store")), tmp_path / "held.csv"
    held = {row["ticker"] for row in tables.read(store, "weights").to_pylist()} - {"$CASH"}
    file.write_text("ticker,shares\n" + "".join(f"{ticker},10\n" for ticker in sorted(held)) + "$CASH,500\n")
    own_holdings.take(store, "main", file, date(2016, 12, 29))
    assert backfill("2017-01", "2017-01")["decided"] == ["2017-01"]
    assert ledger.current(store, "main")[date(2017, 1, 3)].record["imported"]["date"] == "2016-12-29"
    assert verdicts(replay("2016-12", "2017-01")) == ["identical", "identical"]
    assert leak.leak_check("main", date(2017, 1, 3)) == ""
