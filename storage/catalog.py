"""DuckDB as the lens over the store: one view a table, for `prism query`, notebooks and other tools.

`connect` gives an in-memory database locked to the store's folder; `query` runs only what reads.
`catalog.duckdb` holds the same views for other programs; it is derived, replaced by rename, and may be deleted. Of a
store on S3, which DuckDB by itself cannot reach, the views read Arrow's datasets, and there is no `catalog.duckdb`.
Views show one scenario; `all_<view>` shows every one, with a column `scenario`. Each view reads the pinned list
of files of one version of its Delta table, so a writer in between changes nothing for the reader.
"""

import re
import urllib.parse
import uuid
from pathlib import Path

import duckdb
import pyarrow as pa

from storage import tables
from storage.errors import InputError, explained
from storage.schemas import TABLES
from storage.store import Store

_DECIDED = """
    SELECT * FROM raw.decisions WHERE NOT advisory
    QUALIFY row_number() OVER (PARTITION BY scenario, rebalance_date ORDER BY position DESC) = 1
"""
_RESULT = """
    SELECT * FROM raw.backtests QUALIFY row_number() OVER (PARTITION BY scenario ORDER BY position DESC) = 1
"""
_PORTFOLIOS = """
    SELECT * FROM raw.portfolios QUALIFY row_number() OVER (PARTITION BY scenario ORDER BY position DESC) = 1
"""
_FIXED = "SELECT DISTINCT scenario FROM raw.decisions"
# Views of results, for every scenario; each column list is what people rely on.
_BY_SCENARIO = {
    "forecasts": """
        SELECT d.scenario, r.as_of, r.ticker, r.mean, r.variance, r.baseline_variance, r.model, r.lower_90, r.upper_90,
               r.scale, r.degrees, r.calibrated_variance, r.trailing_variance, r.label_mean, r.historical_mean,
               r.historical_variance
        FROM raw.decided d JOIN raw.forecasts r ON r.key = d.forecasts""",
    "gates": """
        SELECT d.scenario, r.as_of, r.months, r.kept, r.score, r.baseline_score, r.reason, r.factor, r.covered,
               r.fall_back
        FROM raw.decided d JOIN raw.gates r ON r.key = d.forecasts""",
    "judgements": """
        SELECT scenario, forecaster, kind, label, name, value, lower, upper, rows, start_date, end_date, created_at
        FROM raw.judgements QUALIFY created_at = max(created_at) OVER (PARTITION BY scenario)""",
    "weights": """
        SELECT d.scenario, r.as_of, d.rebalance_date, r.strategy, r.ticker, r.weight, a.degraded
        FROM (SELECT *, unnest(weights) AS allocation FROM raw.decided) d JOIN raw.weights r ON r.key = d.allocation
        LEFT JOIN (SELECT key, diagnostics ->> 'degraded' AS degraded FROM raw.allocations) a USING (key)""",
    "tunings": """
        SELECT DISTINCT d.scenario, t.strategy, t.year, t.as_of, t.settings, t.sessions, t.setting, t.fitness,
               t.median_fitness, t.overfitting, t.followed_fitness, t.hindsight_fitness, t.followed_return,
               t.hindsight_return, t.hindsight
        FROM (SELECT scenario, unnest(weights) AS allocation FROM raw.decided) d
        JOIN (SELECT key AS allocation, diagnostics ->> 'choice' AS choice FROM raw.allocations) a USING (allocation)
        JOIN raw.tunings t ON t.key = a.choice""",
    "trades": """
        SELECT d.scenario, r.rebalance_date, r.strategy, r.ticker, r.trade, r.cost
        FROM raw.decided d JOIN raw.trades r ON r.key = d.trades""",
    "changes": """
        SELECT d.scenario, r.rebalance_date, r.as_of, r.strategy, r.ticker, r.part, r.change
        FROM raw.decided d JOIN raw.changes r USING (trades)
        QUALIFY r.key = first_value(r.key) OVER (
            PARTITION BY d.scenario, r.trades ORDER BY r.created_at DESC, r.key)""",
    "spread": """
        SELECT d.scenario, r.rebalance_date, r.strategy, r.ticker, r.lowest, r.highest, r.deviation
        FROM (SELECT *, unnest(weights) AS allocation FROM raw.decided) d JOIN raw.spread r USING (allocation)
        QUALIFY r.key = first_value(r.key) OVER (
            PARTITION BY d.scenario, r.allocation ORDER BY r.created_at DESC, r.key)""",
    "regimes": """
        SELECT d.scenario, r.as_of, d.rebalance_date, r.regime, r.volatility, r.lower, r.upper, r.distance
        FROM (SELECT scenario, rebalance_date, record ->> 'prefix' AS prefix FROM raw.decided) d
        JOIN raw.regimes r USING (prefix)
        QUALIFY r.key = first_value(r.key) OVER (
            PARTITION BY d.scenario, prefix ORDER BY r.created_at DESC, r.key)""",
    "executions": """
        SELECT b.scenario, r.rebalance_date, r.strategy, r.ticker, r.trade, r.cost, r.carried, r.undone
        FROM raw.result b JOIN raw.executions r USING (key)""",
    "wealth": """
        SELECT b.scenario, r.session, r.strategy, r.wealth, r.daily_return, r.drawdown
        FROM raw.result b JOIN raw.wealth r USING (key)""",
    "metrics": """
        SELECT b.scenario, r.strategy, r.name, r.value, r.start_date, r.end_date
        FROM raw.result b JOIN raw.metrics r USING (key)""",
    "singles": """
        SELECT b.scenario, r.ticker, r.cumulative_return, r.annual_volatility, r.sharpe, r.max_drawdown, r.start_date,
               r.end_date
        FROM raw.result b JOIN raw.singles r USING (key)""",
    "exposures": """
        SELECT b.scenario, r.strategy, r.model, r.factor, r.kind, r.session, r.beta, r.t, r.alpha, r.alpha_t, r.r2,
               r.rows, r.lags
        FROM raw.result b JOIN raw.exposures r USING (key)""",
    "against": """
        SELECT b.scenario, r.strategy, r.baseline, r.excess_return, r.information_ratio, r.beta, r.alpha, r.alpha_t,
               r.start_date, r.end_date
        FROM raw.result b JOIN raw.against r USING (key)""",
    "contributions": """
        SELECT b.scenario, r.strategy, r.ticker, r.sector, r.return_contribution, r.cost_contribution,
               r.risk_contribution, r.average_weight
        FROM raw.result b JOIN raw.contributions r USING (key)""",
    "periods": """
        SELECT b.scenario, r.strategy, r.kind, r.period, r.name, r.value, r.start_date, r.end_date, r.whole
        FROM raw.result b JOIN raw.periods r USING (key)""",
    "comparisons": """
        SELECT b.scenario, r.strategy, r.baseline, r.name, r.value, r.lower, r.upper, r.method
        FROM raw.result b JOIN raw.comparisons r USING (key)""",
    "capacity": """
        SELECT scenario, strategy, capital, sharpe, annual_return, costs, turnover, late, undone, capacity, start_date,
               end_date
        FROM raw.capacity QUALIFY created_at = max(created_at) OVER (PARTITION BY scenario)""",
    "portfolio_forecasts": """
        SELECT b.scenario, r.rebalance_date, r.as_of, r.strategy, r.mean, r.volatility, r.lower_90, r.upper_90,
               r.realised, r.pit, r.drawdown_proxy, r.drawdown_proxy_sane, r.realised_drawdown, r.scale, r.degrees
        FROM raw.portfolio b JOIN raw.portfolio_forecasts r USING (key)""",
    "portfolio_judgements": """
        SELECT b.scenario, r.strategy, r.name, r.value, r.rows, r.error, r.kind, r.label
        FROM raw.portfolio b JOIN raw.portfolio_judgements r USING (key)""",
    "decisions": """
        SELECT scenario, rebalance_date, as_of, kind, revision, content_hash, record_hash, parent_hash, created_at,
               reason, forecasts, weights, trades, (record ->> 'known_at')::TIMESTAMP AS known_at,
               record ->> '$.imported.holdings' AS holdings, (record ->> '$.imported.date')::DATE AS holdings_date,
               record ->> '$.publication.said' AS note
        FROM raw.decided""",
    "holdings": """
        SELECT scenario, holdings, date, unnest(tickers) AS ticker, unnest(shares) AS shares, imported_at, position
        FROM raw.holdings""",
    "live": """
        SELECT scenario, session, rebalance_date, strategy, wealth, daily_return, expected, lower_90, upper_90, outside
        FROM raw.live""",
    "leak_checks": """
        SELECT scenario, as_of, rebalance_date, verdict, detail, seconds, created_at FROM raw.leak_checks""",
}
_BARS = """
        SELECT dataset, ticker, session, open, high, low, close, adj_close, volume, dividend, split, basis, source,
               known_from
        FROM raw.bars WHERE {known}
        QUALIFY row_number() OVER (PARTITION BY dataset, ticker, session ORDER BY known_from DESC) = 1"""
# Views of market data, by the scenario's dataset at newest knowledge.
_BY_DATASET = {
    "bars": _BARS.format(known="true"),
    "actions": """
        SELECT dataset, ticker, ex_date, kind, value, source, known_from
        FROM (FROM raw.actions QUALIFY row_number() OVER (
            PARTITION BY dataset, ticker, ex_date, kind ORDER BY known_from DESC) = 1) WHERE NOT retracted""",
    "instruments": """
        FROM raw.instruments QUALIFY row_number() OVER (PARTITION BY dataset, ticker ORDER BY known_from DESC) = 1""",
    "quality": """
        SELECT dataset, ticker, session, check_name, severity, value, action, detail FROM raw.quality""",
    "restatements": """
        SELECT dataset, ticker, verdict, field, rows, first_session, last_session, before, after, ratio, action,
               known_from, run
        FROM raw.restatements""",
    "own_forecasts": "SELECT dataset, as_of, ticker, mean, variance, known_at, known_from FROM raw.own_forecasts",
}
_WHOLE = {
    "runs": "SELECT run, command, scenario, status, started_at, finished_at, detail FROM raw.runs",
    "scenarios": f"SELECT * FROM raw.scenarios WHERE scenario IN ({_FIXED})",
    "models": "SELECT key AS model, block, as_of, kind, parent, loss, seconds, lineage, degraded FROM raw.models",
    "trials": "SELECT key AS trial, * EXCLUDE (key) FROM raw.trials",
    "studies": """
        SELECT study, part, variant, strategy, name, value, difference, lower, upper, start_date, end_date, scenario,
               created_at, number
        FROM raw.studies QUALIFY created_at = max(created_at) OVER (PARTITION BY study)""",
    "claims": """
        SELECT study, claim, document, measured, value, lower, upper, verdict, part, start_date, end_date, created_at,
               number
        FROM raw.claims QUALIFY created_at = max(created_at) OVER (PARTITION BY study)""",
    "bands": """
        SELECT study, band, accounts, session, wealth_lowest, wealth_median, wealth_highest, wealth_divided,
               sharpe_lowest, sharpe_median, sharpe_highest, sharpe_divided, created_at, number
        FROM raw.bands QUALIFY created_at = max(created_at) OVER (PARTITION BY study)""",
    "ingests": """
        SELECT run, ticker, outcome, rows, detail, * EXCLUDE (run, ticker, outcome, rows, detail) FROM raw.ingests""",
}
_QUERIES = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI}
VIEWS = tuple(sorted([*_BY_SCENARIO, *_BY_DATASET, *_WHOLE]))
# Order of the rows that people see first.
_ORDER = {
    "bars": "ticker, session",
    "actions": "ticker, ex_date",
    "instruments": "ticker",
    "restatements": "known_from, ticker, field",
    "forecasts": "as_of, ticker",
    "gates": "as_of",
    "judgements": "kind, label, forecaster, name",
    "own_forecasts": "as_of, ticker",
    "weights": "as_of, strategy, ticker",
    "tunings": "strategy, year",
    "trades": "rebalance_date, strategy, ticker",
    "changes": "rebalance_date, strategy, ticker, part",
    "spread": "rebalance_date, strategy, ticker",
    "regimes": "rebalance_date",
    "executions": "rebalance_date, strategy, ticker",
    "wealth": "session, strategy",
    "metrics": "strategy, name",
    "singles": "ticker",
    "exposures": "strategy, model, factor, kind, session",
    "against": "strategy, baseline",
    "contributions": "strategy, ticker",
    "periods": "kind DESC, start_date, period, strategy, name",
    "comparisons": "strategy, baseline, name",
    "capacity": "strategy, capital",
    "portfolio_forecasts": "rebalance_date, strategy",
    "portfolio_judgements": "kind, label, strategy, name",
    "decisions": "rebalance_date",
    "holdings": "position, ticker",
    "live": "session",
    "leak_checks": "created_at",
    "bands": "study, number, session",
}


Connection = duckdb.DuckDBPyConnection


def connect(store: Store, scenario: str = "main") -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with the views of a scenario, which may touch the store's folder and nothing else."""
    connection = duckdb.connect()
    with explained(f"opening the catalog of {store.root}", duckdb.Error):
        _define(connection, store, scenario)
    connection.execute("SET temp_directory = ''")  # what does not fit into memory is refused, not written somewhere
    if isinstance(store.root, Path):
        connection.execute(f"SET allowed_directories = [{_literal(str(store.root))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def rebuild(store: Store) -> Path | None:
    """Write `catalog.duckdb` anew, whole or not at all: the same views, `main` first. None where there can be none."""
    if not isinstance(store.root, Path):
        return None
    target = store.root / "catalog.duckdb"
    temporary = store.root / f".catalog.{uuid.uuid4().hex}"
    with explained(f"writing {target}", duckdb.Error):
        try:
            with duckdb.connect(temporary) as connection:
                connection.begin()  # or each view is written and synced by itself
                _define(connection, store, "main")
                connection.commit()
                connection.execute("CHECKPOINT")  # closing would do it too, and say nothing of a full disk
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
            temporary.with_name(f"{temporary.name}.wal").unlink(missing_ok=True)
    return target


def _unique_names(rows: pa.Table) -> pa.Table:
    if len(set(rows.column_names)) != rows.num_columns:
        raise InputError(f"the query names a column twice ({', '.join(rows.column_names)}); rename one with AS")
    return rows


def query(store: Store, scenario: str, sql: str) -> pa.Table:
    """The rows of a person's own SQL.

    Raises InputError with DuckDB's sentence where the SQL is wrong.
    """
    with connect(store, scenario) as connection:
        try:
            _check_reads(connection, sql)
            return _unique_names(connection.sql(sql).to_arrow_table())
        except duckdb.Error as error:
            said = str(error).strip().splitlines()[0]
            raise InputError(f"the query was refused ({said}); views are {', '.join(VIEWS)}") from error


def _check_reads(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse what is not one query: `COPY` may write where DuckDB may read, in the store's folder."""
    kinds = [statement.type for statement in connection.extract_statements(sql)]
    # EXPLAIN ANALYZE runs what it explains; PIVOT is several statements to DuckDB, as is a COPY of one
    copies = kinds != [duckdb.StatementType.SELECT] and re.search(r"\bcopy\b", sql, re.IGNORECASE)
    if len(kinds) != 1 or kinds[0] not in _QUERIES or copies:
        raise InputError(f"{sql!r} is not one query that only reads; views are {', '.join(VIEWS)}")


def _define(connection: duckdb.DuckDBPyConnection, store: Store, scenario: str) -> None:
    # extensions would be fetched from the network; times without a zone are UTC
    for setting in ("autoinstall_known_extensions = false", "autoload_known_extensions = false", "TimeZone = 'UTC'"):
        connection.execute(f"SET {setting}")
    connection.execute("CREATE SCHEMA raw")
    # what is written last is looked at first, so that a decision seen has its weights
    for name in reversed(TABLES):
        connection.execute(f"CREATE VIEW raw.{name} AS {_source(connection, store, name)}")
    connection.execute(f"CREATE VIEW raw.decided AS {_DECIDED}")
    connection.execute(f"CREATE VIEW raw.result AS {_RESULT}")
    connection.execute(f"CREATE VIEW raw.portfolio AS {_PORTFOLIOS}")
    wanted = _literal(scenario)
    for name, sql in _WHOLE.items():
        connection.execute(f"CREATE VIEW {name} AS {sql}")
    for name, sql in _BY_SCENARIO.items():
        connection.execute(f"CREATE VIEW all_{name} AS {sql} {_ordered(name)}, scenario")
        connection.execute(
            f"CREATE VIEW {name} AS SELECT * EXCLUDE (scenario) FROM all_{name} "
            f"WHERE scenario = {wanted} {_ordered(name)}"
        )
    for name, sql in _BY_DATASET.items():
        connection.execute(f"CREATE VIEW all_{name} AS {sql}")
        connection.execute(
            f"CREATE VIEW {name} AS SELECT * EXCLUDE (dataset) FROM all_{name} "
            f"WHERE dataset = ({_dataset(wanted)}) {_ordered(name)}"
        )
    connection.execute(
        f"CREATE MACRO bars_at(moment) AS TABLE SELECT * EXCLUDE (dataset) FROM "
        f"({_BARS.format(known='known_from <= moment::TIMESTAMP')}) "
        f"WHERE dataset = ({_dataset(wanted)}) {_ordered('bars')}"
    )


def _ordered(name: str) -> str:
    return f"ORDER BY {_ORDER[name]}" if name in _ORDER else ""


def _dataset(scenario: str) -> str:
    """The scenario's dataset; before anything is decided, the one last ingested."""
    return f"""
        SELECT coalesce(
            (SELECT dataset FROM scenarios WHERE scenario = {scenario} ORDER BY position DESC LIMIT 1),
            (SELECT dataset FROM raw.snapshots ORDER BY known_at DESC LIMIT 1))"""


def _source(connection: duckdb.DuckDBPyConnection, store: Store, name: str) -> str:
    """The files of the table's newest version, or an empty relation with its columns."""
    columns = ", ".join(f"NULL::{_sql_type(kind)} AS {column}" for column, kind in TABLES[name].columns.items())
    empty = f"SELECT {columns} WHERE false"
    version = tables.newest(store, name)
    if version is None:
        return empty
    if not isinstance(store.root, Path):
        connection.register(f"files_of_{name}", version.rows)
        return f"SELECT * FROM files_of_{name}"
    files = [urllib.parse.unquote(uri.removeprefix("file://")) for uri in version.files]
    if not files:
        return empty
    # files of an earlier version lack the columns that came later
    read = f"SELECT * FROM read_parquet([{', '.join(map(_literal, files))}], union_by_name = true)"
    return f"{read} UNION ALL BY NAME {empty}"


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    names = {"string": "VARCHAR", "double": "DOUBLE", "int64": "BIGINT", "date32[day]": "DATE", "bool": "BOOLEAN"}
    return names.get(str(kind), "TIMESTAMP")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
