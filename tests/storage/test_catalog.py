"""The catalog: the views people rely on, whole months only, and nothing outside the store's folder."""

import json
import shutil
import subprocess
import sys
from datetime import date, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest

from storage import catalog, ledger, scenarios, tables
from storage.errors import InputError, StoreError
from storage.ledger import Decision
from storage.scenarios import Terms
from storage.schemas import TABLES, Table
from storage.store import open_store

# what people rely on; more columns may follow
COLUMNS = {
    "bars": "ticker session open high low close adj_close volume dividend split basis source known_from",
    "actions": "ticker ex_date kind value source known_from",
    "instruments": "ticker symbol currency exchange timezone instrument_type first_trade_date known_from",
    "restatements": "ticker verdict field rows first_session last_session before after ratio action known_from",
    "forecasts": "as_of ticker mean variance baseline_variance model lower_90 upper_90 scale degrees",
    "gates": "as_of months kept score baseline_score reason factor covered fall_back",
    "judgements": "forecaster kind label name value lower upper rows start_date end_date",
    "own_forecasts": "as_of ticker mean variance known_at known_from",
    "trials": "trial",
    "studies": "study part variant strategy name value difference lower upper start_date end_date scenario created_at",
    "claims": "study claim document measured value lower upper verdict part start_date end_date created_at",
    "bands": "study band accounts session wealth_lowest wealth_median wealth_highest wealth_divided sharpe_lowest "
    "sharpe_median sharpe_highest sharpe_divided created_at",
    "weights": "as_of rebalance_date strategy ticker weight",
    "trades": "rebalance_date strategy ticker trade cost",
    "executions": "rebalance_date strategy ticker trade cost carried undone",
    "wealth": "session strategy wealth daily_return drawdown",
    "metrics": "strategy name value start_date end_date",
    "singles": "ticker cumulative_return annual_volatility sharpe max_drawdown start_date end_date",
    "exposures": "strategy model factor kind session beta t alpha alpha_t r2 rows lags",
    "against": "strategy baseline excess_return information_ratio beta alpha alpha_t start_date end_date",
    "contributions": "strategy ticker sector return_contribution cost_contribution risk_contribution average_weight",
    "periods": "strategy kind period name value start_date end_date whole",
    "comparisons": "strategy baseline name value lower upper method",
    "portfolio_forecasts": "rebalance_date as_of strategy mean volatility lower_90 upper_90 realised pit "
    "drawdown_proxy drawdown_proxy_sane realised_drawdown scale degrees",
    "portfolio_judgements": "strategy name value rows error kind label",
    "decisions": "rebalance_date as_of kind revision content_hash record_hash parent_hash created_at",
    "holdings": "holdings date ticker shares imported_at position",
    "live": "session rebalance_date strategy wealth daily_return expected lower_90 upper_90 outside",
    "leak_checks": "as_of rebalance_date verdict detail seconds created_at",
    "runs": "run",
    "scenarios": "scenario",
    "models": "model",
    "changes": "rebalance_date as_of strategy ticker part change",
    "spread": "rebalance_date strategy ticker lowest highest deviation",
    "regimes": "as_of rebalance_date regime volatility lower upper distance",
    "tunings": "strategy year as_of settings sessions setting fitness median_fitness overfitting followed_fitness "
    "hindsight_fitness followed_return hindsight_return hindsight",
    "capacity": "strategy capital sharpe annual_return costs turnover late undone capacity start_date end_date",
    "ingests": "run ticker outcome rows detail",
    "quality": "ticker session check_name severity value action",
}
MOMENT = datetime(2024, 5, 1, 12)
OUTSIDE = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('{store}/../other.csv')",
    "SELECT * FROM read_text('{store}2/secret.csv')",
    "SELECT * FROM glob('/etc/*')",
    "COPY (SELECT 1) TO '{store}2/out.csv'",
    "COPY (SELECT 1) TO '/tmp/prism-out.csv'",
    "ATTACH '{store}2/other.db'",
    "INSTALL httpfs",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET lock_configuration = false",
]
FIRST = date(1800, 1, 1)
READER = """
import json, sys
import duckdb
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    print(json.dumps({name: connection.sql(f"SELECT * FROM {name}").fetchall() for name in sys.argv[2:]}, default=str))
"""


def days(month):
    return date(2024, month, 1), date(2023 + (month > 1), (month - 2) % 12 + 1, 28)


def write(store, name, rows):
    tables.put(store, name, pa.Table.from_pylist(rows, TABLES[name].schema))


def compute(store, month, tag=""):
    """The results of a month, as the stages leave them: no decision yet."""
    rebalance, as_of = days(month)
    forecast = {"mean": 0.1, "variance": 0.2, "baseline_variance": 0.3, "model": "m"}
    forecast |= {"scale": 0.4, "lower_90": -0.6, "upper_90": 0.8}
    write(store, "forecasts", [{"key": f"f{month}{tag}", "as_of": as_of, "ticker": t, **forecast} for t in "AB"])
    for strategy, share in (("s", 0.25), ("u", 0.5)):
        shares = {"A": share, "$CASH": 1 - share}
        held = [{"ticker": ticker, "weight": weight} for ticker, weight in shares.items()]
        fixed = {"key": f"{strategy}{month}{tag}", "as_of": as_of, "strategy": strategy}
        write(store, "weights", [fixed | row for row in held])
    trade = {"key": f"t{month}{tag}", "rebalance_date": rebalance, "strategy": "s", "ticker": "A"}
    write(store, "trades", [trade | {"trade": 0.25, "cost": 0.0005}])


def decide(store, month, scenario="main", tag="", **others):
    compute(store, month, tag)
    keys = {"forecasts": f"f{month}{tag}", "weights": (f"s{month}{tag}", f"u{month}{tag}"), "trades": f"t{month}{tag}"}
    made = {"scenario": scenario, "kind": "backfill", **keys, "record": {}, "content_hash": f"c{tag}"}
    ledger.append(store, [Decision(**{**made, "rebalance_date": days(month)[0], "as_of": days(month)[1], **others})])


def account(store, key, position, scenario="main"):
    day = {"key": key, "strategy": "s"}
    write(store, "wealth", [day | {"session": FIRST, "wealth": 1.5, "daily_return": 0.5, "drawdown": 0.0}])
    write(store, "metrics", [day | {"name": "sharpe", "value": None, "start_date": FIRST, "end_date": FIRST}])
    write(store, "executions", [day | {"rebalance_date": FIRST, "ticker": "A", "trade": 0.1, "cost": 0.0}])
    point = {"scenario": scenario, "position": position, "key": key, "created_at": MOMENT}
    row = point | {"first_month": "2024-01", "last_month": "2024-02"}
    assert tables.claim(store, "backtests", pa.Table.from_pylist([row], TABLES["backtests"].schema))


def know(store, dataset, close, known_from, ticker="A"):
    """A bar, a diary row of it, and the snapshot that follows."""
    bar = dict.fromkeys(TABLES["bars"].columns) | {"dataset": dataset, "ticker": ticker, "session": date(2024, 1, 2)}
    bar |= {"close": close, "basis": "traded", "source": "files", "known_from": known_from}
    tables.append(store, "bars", pa.Table.from_pylist([bar], TABLES["bars"].schema))
    found = {"run": "r", "dataset": dataset, "ticker": ticker, "session": None, "check_name": "gap", "value": 1.0}
    found |= {"severity": "fatal", "action": "refused", "detail": "why"}
    tables.append(store, "quality", pa.Table.from_pylist([found], TABLES["quality"].schema))
    row = {"snapshot": "s", "dataset": dataset, "known_at": known_from, "digest": "d", "manifest": "m", "rows": 1}
    row |= {"first_session": FIRST, "last_session": FIRST, "tickers": 1}
    tables.append(store, "snapshots", pa.Table.from_pylist([row], TABLES["snapshots"].schema))


def rows(store, sql, scenario="main"):
    return [tuple(row.values()) for row in catalog.query(store, scenario, sql).to_pylist()]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two months of `main`, one of a what-if, and their accounts."""
    store = open_store(tmp_path_factory.mktemp("template"))
    for name in ("main", "whatif"):
        scenarios.write(store, name, Terms("files:main", "u", {"alpha": 0.2}))
    decide(store, 2)
    decide(store, 1)
    decide(store, 1, "whatif", tag="-if")
    account(store, "old", 0)
    account(store, "new", 1)
    know(store, "files:main", 2.0, MOMENT)
    return store


@pytest.fixture
def decided(template, store):
    """A store of its own with the months of the template."""
    shutil.copytree(template.tables, store.tables, dirs_exist_ok=True)
    return store


@pytest.mark.parametrize("filled", [False, True])
def test_every_view_has_the_columns_that_people_rely_on_in_their_order(filled, request):
    store = request.getfixturevalue("decided" if filled else "store")
    assert set(COLUMNS) == set(catalog.VIEWS)
    with catalog.connect(store) as connection:
        for view, columns in COLUMNS.items():
            expected = columns.split()
            assert connection.sql(f"FROM {view}").columns[: len(expected)] == expected


def test_an_empty_store_answers_with_no_rows(store):
    with catalog.connect(store) as connection:
        for view in catalog.VIEWS:
            assert connection.sql(f"FROM {view}").fetchall() == []
    assert rows(store, "SELECT count(*), sum(weight) FROM all_weights") == [(0, None)]


def test_a_view_and_its_counterpart_over_all_scenarios_agree(decided):
    assert rows(decided, "SELECT as_of, strategy, ticker, weight FROM weights LIMIT 3") == [
        (days(1)[1], "s", "$CASH", 0.75),
        (days(1)[1], "s", "A", 0.25),
        (days(1)[1], "u", "$CASH", 0.5),
    ]
    for scenario, months in (("main", 2), ("whatif", 1)):
        with catalog.connect(decided, scenario) as connection:
            for view, number in (("weights", 4), ("forecasts", 2), ("trades", 1), ("decisions", 1)):
                found = connection.sql(f"FROM {view}").fetchall()
                assert len(found) == months * number
                everywhere = f"SELECT * EXCLUDE (scenario) FROM all_{view} WHERE scenario = '{scenario}'"
                assert connection.sql(everywhere).fetchall() == found
                assert connection.sql(f"SELECT count(*) FROM all_{view}").fetchall() == [(3 * number,)]


def test_only_the_newest_account_of_a_scenario_is_shown(decided):
    for view, key in (("wealth", "wealth"), ("metrics", "name"), ("executions", "ticker")):
        assert len(rows(decided, f"SELECT {key} FROM {view}")) == 1
        assert rows(decided, f"SELECT {key} FROM {view}", "whatif") == []
    account(decided, "old", 0, "whatif")
    assert rows(decided, "SELECT wealth FROM wealth", "whatif") == [(1.5,)]


def test_a_half_finished_month_is_not_seen(decided):
    compute(decided, 3)
    newest = (
        "SELECT max(w.as_of), max(f.as_of), max(t.rebalance_date) FROM all_weights w, all_forecasts f, all_trades t"
    )
    assert rows(decided, newest) == [(days(2)[1], days(2)[1], days(2)[0])]
    decide(decided, 3)
    assert rows(decided, newest) == [(days(3)[1], days(3)[1], days(3)[0])]


@pytest.mark.parametrize("moment", ["forecasts", "weights", "trades", "decisions", "backtests"])
def test_a_month_decided_while_the_catalog_opens_is_seen_whole_or_not_at_all(decided, monkeypatch, moment):
    look = catalog._source

    def interrupted(connection, place, name):
        if name == moment:
            monkeypatch.setattr(catalog, "_source", look)
            decide(place, 3)
        return look(connection, place, name)

    monkeypatch.setattr(catalog, "_source", interrupted)
    with catalog.connect(decided) as connection:
        months = connection.sql("SELECT rebalance_date FROM decisions").fetchall()
        assert connection.sql("SELECT DISTINCT rebalance_date FROM weights ORDER BY 1").fetchall() == months
        assert connection.sql("SELECT DISTINCT rebalance_date FROM trades ORDER BY 1").fetchall() == months
        assert len(connection.sql("SELECT DISTINCT as_of FROM forecasts").fetchall()) == len(months)


def test_a_revision_replaces_a_month_and_an_advisory_does_not(decided):
    decide(decided, 2, tag="-new", revision=1)
    decide(decided, 1, tag="-advised", advisory=True)
    assert rows(decided, "SELECT rebalance_date, content_hash, revision FROM decisions") == [
        (days(1)[0], "c", 0),
        (days(2)[0], "c-new", 1),
    ]
    assert rows(decided, "SELECT count(*) FROM weights") == [(8,)]


def test_bars_are_those_of_the_scenario_at_newest_knowledge(decided):
    know(decided, "files:main", 3.0, MOMENT.replace(hour=13))
    know(decided, "yahoo", 9.0, MOMENT.replace(hour=14))
    assert rows(decided, "SELECT ticker, close, known_from FROM bars") == [("A", 3.0, MOMENT.replace(hour=13))]
    assert rows(decided, "SELECT close FROM all_bars ORDER BY close") == [(3.0,), (9.0,)]
    assert len(rows(decided, "SELECT * FROM quality")) == 2
    assert rows(decided, "SELECT close FROM bars", "unknown") == [(9.0,)], "the dataset last ingested"


def test_the_dataset_is_that_of_the_terms_that_hold_not_of_a_run_that_died(store):
    know(store, "yahoo", 9.0, MOMENT)
    know(store, "sample", 1.0, MOMENT.replace(hour=13))
    scenarios.write(store, "main", Terms("yahoo", "u", {}))
    assert rows(store, "SELECT close FROM bars") == [(1.0,)]
    scenarios.write(store, "main", Terms("sample", "u", {}))
    know(store, "yahoo", 9.5, MOMENT.replace(hour=14))
    decide(store, 1)
    assert rows(store, "SELECT close FROM bars") == [(1.0,)]


def test_a_hostile_scenario_is_a_value_and_nothing_else(decided):
    for month, name in enumerate(("it's", "x' OR '1'='1", "'; DROP VIEW weights; --", 'a"b', "", "a\nb"), start=3):
        assert rows(decided, "SELECT count(*) FROM weights", name) == [(0,)]
        keys = {"forecasts": None, "weights": ("s2",), "trades": "t2", "record": {}}
        ledger.append(decided, [Decision(name, *days(month), "backfill", **keys)])
        assert rows(decided, "SELECT DISTINCT rebalance_date FROM weights", name) == [(days(month)[0],)]
    assert rows(decided, "SELECT count(*) FROM weights") == [(8,)]


def test_the_connection_reaches_nothing_outside_the_store(store):
    beside = store.root.with_name("store2")
    beside.mkdir()
    for file in (beside / "secret.csv", store.root.with_name("other.csv")):
        file.write_text("a\n1\n")
    with catalog.connect(store) as connection:
        for sql in OUTSIDE:
            with pytest.raises(duckdb.Error):
                connection.execute(sql.replace("{store}", str(store.root))).fetchall()
            assert connection.execute("SELECT count(*) FROM weights").fetchall() == [(0,)]
    assert [entry.name for entry in beside.iterdir()] == ["secret.csv"]
    with pytest.raises(
        InputError, match=r"Permission Error.*; views are actions, against, bands, bars, capacity, changes, claims"
    ):
        catalog.query(store, "main", OUTSIDE[0])


@pytest.mark.parametrize(
    "sql",
    [
        "SELEC 1",
        "SELECT nothing FROM weights",
        "SELECT * FROM nowhere",
        "SELECT weight + DATE '2024-01-01' FROM weights",
    ],
)
def test_bad_sql_is_answered_with_duckdbs_sentence_and_the_views(store, sql):
    with pytest.raises(
        InputError, match=r"Error: .*; views are actions, against, bands, bars, capacity, changes, claims"
    ) as raised:
        catalog.query(store, "main", sql)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("FROM weights", 8),
        ("WITH w AS (SELECT * FROM weights) SELECT * FROM w;", 8),
        ("PIVOT weights ON strategy USING sum(weight)", 4),
        ("EXPLAIN SELECT 1", 1),
        ("DESCRIBE weights", 6),
    ],
)
def test_whatever_only_reads_is_a_query(decided, sql, number):
    assert catalog.query(decided, "main", sql).num_rows == number


def test_times_are_utc_and_have_no_zone(decided):
    found = catalog.query(decided, "main", "SELECT known_from, current_setting('TimeZone') AS zone FROM bars")
    assert found.schema.field("known_from").type == pa.timestamp("us")
    assert found.to_pylist() == [{"known_from": MOMENT, "zone": "UTC"}]


def test_plain_duckdb_in_another_process_shows_the_same_rows(decided):
    path = catalog.rebuild(decided)
    assert path == decided.root / "catalog.duckdb"
    views = ["weights", "all_weights", "decisions", "metrics", "bars", "wealth", "scenarios", "raw.backtests"]
    command = [sys.executable, "-c", READER, str(path), *views]
    said = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=decided.root.parent).stdout)
    with catalog.connect(decided) as connection:
        for view in views:
            mine = connection.sql(f"SELECT * FROM {view}").fetchall()
            assert sorted(said[view], key=str) == sorted(json.loads(json.dumps(mine, default=str)), key=str)
            assert mine


def test_the_file_is_replaced_whole_and_nothing_is_left_beside_it(decided, monkeypatch):
    path = catalog.rebuild(decided)
    decide(decided, 3)
    with duckdb.connect(path, read_only=True) as old:
        catalog.rebuild(decided)
        assert old.sql("SELECT count(*) FROM decisions").fetchall() == [(2,)]
    with duckdb.connect(path, read_only=True) as new:
        assert new.sql("SELECT count(*) FROM decisions").fetchall() == [(3,)]
    monkeypatch.setattr(catalog, "_define", lambda *_: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        catalog.rebuild(decided)
    kept = ["STORE.json", "blobs", "catalog.duckdb", "manifests", "tables"]
    assert sorted(entry.name for entry in decided.root.iterdir()) == kept


def test_a_missing_data_file_is_told_with_the_remedy(decided):
    for file in (decided.tables / "weights").glob("*.parquet"):
        file.unlink()
    with pytest.raises(StoreError, match=r"opening the catalog of .* restore the store from a backup$"):
        catalog.query(decided, "main", "SELECT * FROM weights")


def test_bars_can_be_read_as_they_were_known_at_a_moment(decided):
    know(decided, "files:main", 2.5, MOMENT + timedelta(days=1))
    assert rows(decided, "SELECT close FROM bars") == [(2.5,)]
    assert rows(decided, f"SELECT close FROM bars_at('{MOMENT}')") == [(2.0,)]
    assert rows(decided, f"SELECT close FROM bars_at('{MOMENT - timedelta(seconds=1)}')") == []


def test_rows_of_a_version_that_had_fewer_columns_are_read_with_the_others_empty(store, monkeypatch):
    row = {
        "key": "k",
        "rebalance_date": date(2020, 1, 2),
        "strategy": "mine",
        "ticker": "AAA",
        "trade": 0.5,
        "cost": 0.1,
    }
    with monkeypatch.context() as patched:
        older = {name: kind for name, kind in TABLES["executions"].columns.items() if name not in ("carried", "undone")}
        patched.setitem(TABLES, "executions", Table(older, TABLES["executions"].unique))
        tables.put(store, "executions", pa.Table.from_pylist([row], TABLES["executions"].schema))
    with catalog.connect(store) as connection:
        rows = connection.sql("SELECT ticker, trade, carried, undone FROM raw.executions").fetchall()
    assert rows == [("AAA", 0.5, None, None)]
