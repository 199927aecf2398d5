"""The terminal: what it prints, how it fails, and that a killed backfill goes on."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import duckdb
import numpy as np
import pytest

from storage import ledger, tables
from storage.store import open_store

pytestmark = pytest.mark.flow
LIGHT = [
    *("--source", "files", "--index", "IDX", "--set", "network.hidden=4", "--set", "network.latent=2"),
    *("--set", "training.epochs=1", "--set", "training.ensemble=1", "--set", "training.minimum_sessions=100"),
    *("--set", "forecast.draws=4"),
]
NUMBERS = {"cumulative_return", "annual_return", "annual_volatility", "sharpe", "sortino", "max_drawdown", "cvar_95"}
NUMBERS |= {"turnover", "costs", "hhi", "effective_positions", "top10", "active_positions"}


@pytest.fixture(scope="module")
def decided(tmp_path_factory, prices):
    """A store with four decided months, made by the command itself."""
    folder = tmp_path_factory.mktemp("decided")
    prices.to_csv(folder / "prices.csv")
    ended = backfill(folder / "store", folder / "prices.csv", "2016-11", "2017-02")
    assert ended.wait() == 0
    return folder / "store"


def backfill(store, path, start, end):
    command = [sys.executable, "-c", "from flows.cli import main; main()", "backfill", *LIGHT]
    command += ["--path", str(path), "--start", start, "--end", end, "--store", str(store)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def test_weights_as_json_hold_every_strategy_with_the_published_one_first(prism, decided):
    code, out, _ = prism("weights", "--json", "--store", decided)
    document = json.loads(out)
    assert code == 0
    assert list(document) == ["scenario", "as_of", "rebalance_date", "published", "strategies"]
    assert (document["as_of"], document["rebalance_date"]) == ("2017-01-31", "2017-02-01")
    assert next(iter(document["strategies"])) == document["published"] == "return_drawdown"
    for strategy in document["strategies"].values():
        assert sum(strategy["weights"].values()) == pytest.approx(1, abs=1e-12)
    assert 0 <= document["strategies"]["return_drawdown"]["gap"] <= 1e-9
    assert document["strategies"]["return_drawdown"]["branch"] in ("positive", "negative")


def test_metrics_as_json_hold_the_measures_of_every_strategy(prism, decided):
    code, out, _ = prism("metrics", "--json", "--store", decided)
    document = json.loads(out)
    assert code == 0
    assert set(document) == {"scenario", "start", "end", "hindsight", "strategies"}
    assert document["hindsight"].startswith("If the 5 assets of all were chosen with hindsight")
    assert all(set(values) >= NUMBERS for values in document["strategies"].values())


@pytest.mark.parametrize("view", ["weights", "trades", "metrics", "forecasts"])
def test_every_view_prints_a_table_and_the_same_rows_as_csv(prism, decided, view):
    code, table, _ = prism(view, "--store", decided)
    assert code == 0
    _, text, _ = prism(view, "--csv", "--store", decided)
    rows = list(csv.DictReader(io.StringIO(text)))
    tickers = {row["ticker"] for row in rows if "ticker" in row}
    assert rows
    assert all(ticker in table for ticker in tickers if view != "trades")


def test_another_month_can_be_asked_for(prism, decided):
    _, out, _ = prism("weights", "--month", "2016-12", "--json", "--store", decided)
    assert json.loads(out)["as_of"] == "2016-11-30"
    code, _, err = prism("weights", "--month", "2012-12", "--store", decided)
    assert code == 2
    assert "has not decided month 2012-12; run `prism run` or `prism backfill` first" in err


def test_query_gives_what_duckdb_gives_by_hand(prism, decided):
    sql = "SELECT strategy, ticker, weight FROM weights WHERE rebalance_date = DATE '2017-02-01' ORDER BY ALL"
    code, out, _ = prism("query", sql, "--json", "--store", decided)
    with duckdb.connect(decided / "catalog.duckdb", read_only=True) as connection:
        by_hand = connection.execute(sql).fetchall()
    assert code == 0
    assert [tuple(row.values()) for row in json.loads(out)] == by_hand


def test_plan_names_what_is_missing_and_runs_nothing(prism, decided):
    before = tables.open_table(open_store(decided), "weights").version()
    code, out, _ = prism("plan", "--start", "2016-12", "--end", "2017-04", "--json", "--store", decided)
    plan = json.loads(out)
    assert code == 0
    assert [(row["month"], row["why"]) for row in plan["months"]] == [
        ("2017-03", "not decided yet"),
        ("2017-04", "not decided yet"),
    ]
    missing = {row["stage"]: row["missing"] for row in plan["stages"]}
    assert (missing["features"], missing["forecast"], missing["train"], missing["index"]) == (2, 2, 0, 2)
    assert tables.open_table(open_store(decided), "weights").version() == before


def test_orders_are_whole_shares_that_the_money_pays_for(prism, decided, tmp_path):
    holdings = tmp_path / "mine.csv"
    holdings.write_text("ticker,shares\nAAA,10\nIDX,3\n$CASH,5000\n")
    code, out, _ = prism("trades", "--holdings", holdings, "--json", "--store", decided)
    document = json.loads(out)
    assert code == 0
    assert all(row["target"] == int(row["target"]) for row in document["orders"])
    assert {row["ticker"]: row["order"] for row in document["orders"]}["IDX"] == -3
    spent = sum(row["order"] * row["price"] + row["cost"] for row in document["orders"])
    assert document["cash"] == pytest.approx(5000 - spent)
    assert document["cash"] >= 0


def test_orders_say_their_cost_the_cash_left_and_what_rounding_misses(prism, decided, tmp_path):
    arguments = ["trades", "--capital", "20000", "--store", decided]
    whole, exact = (json.loads(prism(*arguments, *more, "--json")[1]) for more in ([], ["--fractional"]))
    assert whole["from"] == "cash: no holdings were given or imported"
    assert whole["total_cost"] == pytest.approx(sum(row["cost"] for row in whole["orders"]))
    assert whole["total_cost"] == pytest.approx(0.0005 * sum(row["order"] * row["price"] for row in whole["orders"]))
    assert whole["tracking_error"] > 1e-4
    assert exact["tracking_error"] < 1e-12
    assert (exact["cash"], whole["value"]) == (0.0, 20000)
    _, text, _ = prism(*arguments, "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {float(row["tracking_error"]) for row in rows} == {whole["tracking_error"]}
    _, table, _ = prism(*arguments)
    assert f"cash left: {whole['cash']:,.2f}" in table
    assert "tracking error of rounding: " in table


def test_trades_show_what_is_held_and_what_they_start_from(prism, decided):
    _, table, _ = prism("trades", "--store", decided)
    assert "trades start from the weights decided for 2017-01, drifted" in table
    _, text, _ = prism("trades", "--csv", "--month", "2017-02", "--store", decided)
    for row in csv.DictReader(io.StringIO(text)):
        assert float(row["held"]) + float(row["trade"]) == pytest.approx(float(row["target"]), abs=1e-15)
    _, table, _ = prism("trades", "--month", "2016-11", "--store", decided)
    assert "trades start from cash" in table


@pytest.fixture
def copied(decided, tmp_path):
    """The decided store, which a test may change."""
    shutil.copytree(decided, tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.long
def test_what_is_held_is_imported_and_the_next_run_trades_from_it(prism, copied, tmp_path):
    mine, place = tmp_path / "mine.csv", ["--store", copied]
    mine.write_text("ticker,shares\nAAA,10.5\nIDX,3\n$CASH,500\n")
    code, _, err = prism("holdings", *place)
    assert code == 2
    assert "has no holdings; import what you hold: prism holdings import FILE --date 2024-04-30" in err
    code, out, err = prism("holdings", "import", mine, "--date", "2017-01-20", "--json", *place)
    assert code == 0, err
    made = json.loads(out)
    assert (made["date"], made["rows"], made["new"]) == ("2017-01-20", 3, True)
    code, out, _ = prism("holdings", "import", mine, "--date", "2017-01-20", *place)
    assert out.startswith("3 holdings of 2017-01-20 are known already\n")
    mine.write_text("ticker,shares\nAAB,1\n")
    code, _, err = prism("holdings", "import", mine, "--date", "2017-01-20", *place)
    assert code == 2
    assert "names AAB, which has no prices in dataset files:main; did you mean AAA?" in err
    code, _, err = prism("holdings", "import", mine, "--date", "2014-01-20", *place)
    assert code == 2
    assert "--date 2014-01-20 lies before the stored prices; give a date from 2015-01-02" in err
    shown = json.loads(prism("holdings", "--json", *place)[1])
    assert shown["newest"]["shares"] == {"$CASH": 500.0, "AAA": 10.5, "IDX": 3.0}
    assert [entry["holdings"] for entry in shown["imports"]] == [made["holdings"]]
    rows = list(csv.DictReader(io.StringIO(prism("holdings", "--csv", *place)[1])))
    assert {row["ticker"]: float(row["shares"]) for row in rows} == shown["newest"]["shares"]
    _, out, _ = prism("plan", "--start", "2016-12", "--end", "2017-02", *place)
    assert "1 rebalance date (2017-02 to 2017-02): holdings imported for 2017-01-20" in out
    sheet = json.loads(prism("trades", "--shares", "--json", *place)[1])
    assert sheet["from"].endswith(f"those of 2017-01-20 ({made['holdings'][:12]})")
    assert {row["ticker"]: row["held"] for row in sheet["orders"]}["AAA"] == 10.5
    positions = json.loads(prism("holdings", "--against", "--json", *place)[1])["positions"]
    assert sum(row["held"] for row in positions) == pytest.approx(1)
    assert sum(row["difference"] for row in positions) == pytest.approx(0, abs=1e-12)
    code, out, _ = prism("backfill", "--start", "2017-02", "--end", "2017-02", *place)
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("trades start from "))
    assert line.startswith("trades start from holdings imported on ")
    assert line.endswith(f", those of 2017-01-20 ({made['holdings'][:12]})")
    held = {row["ticker"]: row["held"] for row in positions}
    _, text, _ = prism("trades", "--csv", *place)
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["strategy"] == "return_drawdown"]
    assert {row["ticker"]: float(row["held"]) for row in rows}["AAA"] == pytest.approx(held["AAA"], rel=1e-12)
    assert {row["ticker"]: float(row["trade"]) for row in rows}["IDX"] == pytest.approx(-held["IDX"], rel=1e-12)


def test_params_name_every_parameter_with_default_range_and_help(prism):
    code, out, _ = prism("params", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["return_drawdown.alpha"]["default"] == 0.2
    assert rows["return_drawdown.alpha"]["range"] == ">= 0, <= 100"
    assert rows["features.features"]["range"] == "scaled | document"
    assert all(row["help"] for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--source", "files"], "dataset files:main has no prices yet; name the file or folder with --path"),
        (["--source", "files", "--path", "/nowhere.csv"], "/nowhere.csv does not exist"),
        (["--index", "NOSUCH"], "index 'NOSUCH' has no prices"),
        (["--store", "/etc/hostname"], "the store /etc/hostname is a file; give --store a folder"),
        (["--store", "s3://bucket"], "is no place on S3"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_exit_code_2(prism, tmp_path, arguments, sentence):
    place = [] if "--store" in arguments else ["--store", tmp_path / "new"]
    code, out, err = prism("run", *arguments, *place)
    assert code == 2
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
    assert not out


def test_a_view_of_an_empty_store_says_what_to_run_first(prism, tmp_path):
    code, _, err = prism("weights", "--store", tmp_path / "new")
    assert code == 2
    assert f"there is no store at {tmp_path / 'new'}; run `prism run` first" in err
    assert not (tmp_path / "new").exists()


def test_json_holds_whatever_a_query_returns(prism, decided):
    sql = "SELECT sum(rows) AS bars, 'nan'::DOUBLE AS nothing, 1.5::DECIMAL(3, 1) AS part, [1, 2] AS both FROM ingests"
    code, out, _ = prism("query", sql, "--json", "--store", decided)
    assert code == 0
    assert json.loads(out) == [{"bars": 6 * 755, "nothing": None, "part": 1.5, "both": [1, 2]}]
    code, _, err = prism("query", "SELECT 1 AS a, 2 AS a", "--json", "--store", decided)
    assert code == 2
    assert "names a column twice" in err


def test_a_new_scenario_never_takes_other_prices_unasked(prism, decided):
    code, _, err = prism("run", "--scenario", "other", "--set", "return_drawdown.alpha=0.7", "--store", decided)
    assert code == 2
    assert "main's prices are of source files; say which it takes" in err


def test_a_dry_run_says_what_is_understood_and_stores_nothing(prism, tmp_path, prices):
    flawed = prices.copy()
    flawed.iloc[5, 0] = -1.0
    flawed.to_csv(tmp_path / "flawed.csv")
    place = tmp_path / "new"
    arguments = ["ingest", "--dry-run", "--source", "files", "--path", tmp_path / "flawed.csv", "--store", place]
    code, out, _ = prism(*arguments, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["layout"] == "wide"
    assert {row["ticker"]: row["outcome"] for row in found["tickers"]}["IDX"] == "quarantined"
    [fatal] = [row for row in found["findings"] if row["severity"] == "fatal"]
    assert (fatal["ticker"], fatal["check_name"], fatal["action"]) == ("IDX", "non_positive_price", "quarantined")
    code, out, _ = prism(*arguments, "--accept", "IDX", "--json")
    assert {row["ticker"]: row["outcome"] for row in json.loads(out)["tickers"]}["IDX"] == "taken"
    assert not place.exists()


def test_ingest_says_what_came_and_doctor_what_is_there(prism, tmp_path, prices, monkeypatch):
    flawed, place = prices.copy(), tmp_path / "new"
    flawed.iloc[-3, 1] = -1.0
    flawed.to_csv(tmp_path / "flawed.csv")
    monkeypatch.setenv("PRISM_PROXY", "http://me:secret@proxy:3128")
    code, out, _ = prism("ingest", "--source", "files", "--path", tmp_path / "flawed.csv", "--store", place)
    assert code == 0
    assert "prices of files:main: 5 ok, 1 rejected; 0 requests" in out
    assert "AAA: non_positive_price: " in out
    code, out, _ = prism("doctor", "--json", "--store", place)
    found = json.loads(out)
    assert code == 0
    [dataset] = found["datasets"]
    states = {row["ticker"]: row["state"] for row in dataset["tickers"]}
    assert states == dict.fromkeys(["BBB", "CCC", "DDD", "EEE", "IDX"], "fine") | {"AAA": "quarantined"}
    assert (dataset["bars"], dataset["last"]) == (5 * len(prices), "2017-12-29")
    proxy = next(row for row in found["settings"] if row["name"] == "PRISM_PROXY")
    assert (proxy["origin"], proxy["value"]) == ("environment", "(set, not shown)")
    code, out, _ = prism("doctor", "--store", place)
    assert "secret" not in out
    assert "6 tickers: 5 fine, 1 quarantined" in out


@pytest.mark.long
def test_rates_from_a_file_become_the_cash_of_the_backtest(prism, tmp_path, prices):
    prices.to_csv(tmp_path / "prices.csv")
    days = prices.index.strftime("%Y-%m-%d")
    (tmp_path / "rates.csv").write_text("date,BILL\n" + "\n".join(f"{day},0.02" for day in days))
    place = ["--store", tmp_path / "store"]
    code, _, err = prism("ingest", "--source", "files", "--rates", tmp_path / "rates.csv", *place)
    assert code == 2
    assert "give --unit percent or --unit fraction" in err
    code, _, _ = prism("ingest", "--source", "files", "--rates", tmp_path / "rates.csv", "--unit", "percent", *place)
    assert code == 0
    arguments = ["backfill", *LIGHT, "--set", "risk_free=BILL", "--path", tmp_path / "prices.csv"]
    code, _, err = prism(*arguments, "--start", "2016-11", "--end", "2016-12", *place)
    assert code == 0, err
    sharpe = json.loads(prism("metrics", "--json", *place)[1])["strategies"]["equal_weight"]["sharpe"]
    sql = "SELECT daily_return FROM wealth WHERE strategy = 'equal_weight' ORDER BY session OFFSET 1"
    daily = np.array([row["daily_return"] for row in json.loads(prism("query", sql, "--json", *place)[1])])
    excess = daily - 0.0002
    assert sharpe == pytest.approx(np.sqrt(252) * excess.mean() / excess.std(ddof=1), rel=1e-12)


def test_a_source_that_cannot_be_reached_is_one_sentence(prism, tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_PROXY", "http://me:secret@127.0.0.1:9")
    code, _, err = prism("ingest", "--source", "yahoo", "--universe", "magnificent7", "--store", tmp_path / "new")
    assert code == 1
    said = err.strip().splitlines()[-1]
    assert said.startswith("prism: only 0 of 8 tickers were taken (8 config; ")
    assert "PRISM_PROXY" in said
    assert "secret" not in err


@pytest.mark.long
def test_a_killed_backfill_goes_on_and_ends_as_one_never_killed(tmp_path, prices, content, decided):
    prices.to_csv(tmp_path / "prices.csv")
    killed = tmp_path / "killed"
    running = backfill(killed, tmp_path / "prices.csv", "2016-11", "2017-02")
    while not (killed / "tables/forecasts").exists() or tables.read(open_store(killed), "forecasts").num_rows < 10:
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)  # the command and the Prefect server it started
    running.wait()
    assert not ledger.current(open_store(killed), "main")
    assert backfill(killed, tmp_path / "prices.csv", "2016-11", "2017-02").wait() == 0
    assert content(open_store(killed)) == content(open_store(decided))
