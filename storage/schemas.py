"""The columns of every table, and the rule that rows must keep before they are stored.

`key` names the content a row belongs to (storage.keys); rows of one key are written together, once.
`dataset`, `scenario` and the rest say what people filter by. Times are UTC in microseconds.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import StoreError

TEXT, REAL, COUNT, DAY, TIME = pa.string(), pa.float64(), pa.int64(), pa.date32(), pa.timestamp("us")
TEXTS, REALS = pa.list_(pa.string()), pa.list_(pa.float64())
CASH = "$CASH"


@dataclass(frozen=True)
class Table:
    """A table's columns, those that make a row unique, and those that may be null."""

    columns: dict[str, pa.DataType]
    unique: tuple[str, ...]
    nullable: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, nullability included."""
        return pa.schema([pa.field(name, kind, name in self.nullable) for name, kind in self.columns.items()])


_PRICES = ("open", "high", "low", "close", "adj_close", "volume", "dividend", "split")
_BAR = {"ticker": TEXT, "session": DAY, **dict.fromkeys(_PRICES, REAL), "basis": TEXT, "source": TEXT}
_POSITION = {"key": TEXT, "rebalance_date": DAY, "strategy": TEXT, "ticker": TEXT, "trade": REAL, "cost": REAL}

_SIMPLE = ("label_mean", "calibrated_variance", "trailing_variance", "historical_mean", "historical_variance")
_RATED = ("fitness", "median_fitness", "overfitting", "followed_fitness", "hindsight_fitness", "followed_return")
_RATED += ("hindsight_return",)
_EDGES = tuple(f"{of}_{name}" for of in ("wealth", "sharpe") for name in ("lowest", "median", "highest", "divided"))
_PARTITION = Table({"key": TEXT, "month": TEXT, "as_of": DAY, "names": TEXTS, "rows": COUNT, "blob": TEXT}, ("key",))

TABLES = {
    # what is known of the market, and since when
    "bars": Table(
        {"dataset": TEXT, **_BAR, "known_from": TIME}, ("dataset", "ticker", "session", "known_from"), _PRICES
    ),
    "snapshots": Table(
        {"snapshot": TEXT, "dataset": TEXT, "known_at": TIME, "digest": TEXT, "manifest": TEXT}
        | {"first_session": DAY, "last_session": DAY, "tickers": COUNT, "rows": COUNT},
        ("dataset", "known_at"),
    ),
    "actions": Table(
        {"dataset": TEXT, "ticker": TEXT, "ex_date": DAY, "kind": TEXT, "value": REAL, "retracted": pa.bool_()}
        | {"source": TEXT, "known_from": TIME},
        ("dataset", "ticker", "ex_date", "kind", "known_from"),
    ),
    "instruments": Table(
        {"dataset": TEXT, "ticker": TEXT, "symbol": TEXT, "currency": TEXT, "exchange": TEXT, "timezone": TEXT}
        | {"instrument_type": TEXT, "first_trade_date": DAY, "known_from": TIME},
        ("dataset", "ticker", "known_from"),
        ("first_trade_date",),
    ),
    "restatements": Table(
        {"run": TEXT, "dataset": TEXT, "ticker": TEXT, "verdict": TEXT, "field": TEXT, "rows": COUNT}
        | {"first_session": DAY, "last_session": DAY, "before": REAL, "after": REAL, "ratio": REAL}
        | {"action": TEXT, "known_from": TIME},
        ("run", "dataset", "ticker", "field"),
        ("before", "after", "ratio"),
    ),
    "ingests": Table(
        {"run": TEXT, "dataset": TEXT, "ticker": TEXT, "outcome": TEXT, "rows": COUNT, "detail": TEXT}
        | {"verdict": TEXT, "attempts": COUNT, "requests": COUNT, "first_session": DAY, "last_session": DAY}
        | {"full": pa.bool_(), "payload": TEXT, "created_at": TIME},
        ("run", "dataset", "ticker"),
        ("verdict", "attempts", "requests", "first_session", "last_session", "full", "payload"),
    ),
    "quality": Table(
        {"run": TEXT, "dataset": TEXT, "ticker": TEXT, "session": DAY, "check_name": TEXT, "severity": TEXT}
        | {"value": REAL, "action": TEXT, "detail": TEXT},
        (),
        ("session", "value"),
    ),
    # what is computed, by key
    "features": _PARTITION,
    "predictions": _PARTITION,
    "models": Table(
        {"key": TEXT, "block": COUNT, "as_of": DAY, "kind": TEXT, "parent": TEXT, "blob": TEXT, "loss": REAL}
        | {"seconds": REAL, "lineage": TEXT, "degraded": TEXT},
        ("key",),
        ("parent", "loss", "degraded"),
    ),
    "forecasts": Table(
        {"key": TEXT, "as_of": DAY, "ticker": TEXT, "mean": REAL, "variance": REAL, "baseline_variance": REAL}
        | {"model": TEXT, "degrees": REAL, "scale": REAL, "lower_90": REAL, "upper_90": REAL}
        | dict.fromkeys(_SIMPLE, REAL),
        ("key", "ticker"),
        ("model", "degrees", *_SIMPLE),
    ),
    "gates": Table(
        {"key": TEXT, "as_of": DAY, "months": COUNT, "kept": REAL, "score": REAL, "baseline_score": REAL}
        | {"reason": TEXT, "factor": REAL, "covered": REAL, "fall_back": pa.bool_()},
        ("key",),
        ("score", "baseline_score", "factor", "covered", "fall_back"),
    ),
    "judgements": Table(
        {"key": TEXT, "scenario": TEXT, "start_date": DAY, "end_date": DAY, "created_at": TIME, "forecaster": TEXT}
        | {"kind": TEXT, "label": TEXT, "name": TEXT, "value": REAL, "lower": REAL, "upper": REAL, "rows": COUNT},
        ("key", "forecaster", "kind", "label", "name"),
        ("value", "lower", "upper"),
    ),
    "trials": Table(
        {"key": TEXT, "study": TEXT, "number": COUNT, "family": TEXT, "config": TEXT, "configuration": TEXT}
        | {"terms": TEXT, "code": TEXT, "universe": TEXT, "start_date": DAY, "end_date": DAY, "sessions": COUNT}
        | {"state": TEXT, "objective": TEXT, "value": REAL, "steps": REALS, "daily_sharpe": REAL, "returns": TEXT}
        | {"created_at": TIME, "measures": TEXT},
        ("key",),
        ("value", "daily_sharpe", "returns", "measures"),
    ),
    "own_forecasts": Table(
        {"dataset": TEXT, "as_of": DAY, "ticker": TEXT, "mean": REAL, "variance": REAL, "known_at": TIME}
        | {"known_from": TIME},
        ("dataset", "as_of", "ticker"),
    ),
    "regimes": Table(
        {"key": TEXT, "prefix": TEXT, "as_of": DAY, "regime": TEXT, "volatility": REAL, "lower": REAL, "upper": REAL}
        | {"distance": REAL, "created_at": TIME},
        ("key",),
        ("regime", "volatility", "lower", "upper", "distance"),
    ),
    "tunings": Table(
        {"key": TEXT, "strategy": TEXT, "year": COUNT, "as_of": DAY, "settings": COUNT}
        | {"sessions": COUNT, "number": COUNT, "setting": TEXT, "hindsight": TEXT, "created_at": TIME}
        | dict.fromkeys(_RATED, REAL),
        ("key",),
        ("number", "setting", "hindsight", *_RATED),
    ),
    "carried": Table({"key": TEXT, "as_of": DAY, "strategy": TEXT, "tickers": TEXTS, "state": TEXT}, ("key",)),
    "allocations": Table({"key": TEXT, "as_of": DAY, "strategy": TEXT, "diagnostics": TEXT}, ("key",)),
    "weights": Table({"key": TEXT, "as_of": DAY, "strategy": TEXT, "ticker": TEXT, "weight": REAL}, ("key", "ticker")),
    "trades": Table(_POSITION, ("key", "strategy", "ticker")),
    "executions": Table(
        {**_POSITION, "carried": REAL, "undone": REAL},
        ("key", "rebalance_date", "strategy", "ticker"),
        ("carried", "undone"),
    ),
    "changes": Table(
        {"key": TEXT, "trades": TEXT, "rebalance_date": DAY, "as_of": DAY, "strategy": TEXT, "ticker": TEXT}
        | {"part": TEXT, "change": REAL, "created_at": TIME},
        ("key", "strategy", "ticker", "part"),
    ),
    "spread": Table(
        {"key": TEXT, "allocation": TEXT, "rebalance_date": DAY, "strategy": TEXT, "ticker": TEXT}
        | {"lowest": REAL, "highest": REAL, "deviation": REAL, "created_at": TIME},
        ("key", "ticker"),
    ),
    "wealth": Table(
        {"key": TEXT, "session": DAY, "strategy": TEXT, "wealth": REAL, "daily_return": REAL, "drawdown": REAL},
        ("key", "session", "strategy"),
    ),
    "singles": Table(
        {"key": TEXT, "ticker": TEXT, "cumulative_return": REAL, "annual_volatility": REAL, "sharpe": REAL}
        | {"max_drawdown": REAL, "start_date": DAY, "end_date": DAY},
        ("key", "ticker"),
        ("annual_volatility", "sharpe"),
    ),
    "exposures": Table(
        {"key": TEXT, "strategy": TEXT, "model": TEXT, "factor": TEXT, "kind": TEXT, "session": DAY, "beta": REAL}
        | {"t": REAL, "alpha": REAL, "alpha_t": REAL, "r2": REAL, "rows": COUNT, "lags": COUNT},
        ("key", "strategy", "model", "factor", "kind", "session"),
        ("beta", "t", "alpha", "alpha_t", "r2"),
    ),
    "against": Table(
        {"key": TEXT, "strategy": TEXT, "baseline": TEXT, "excess_return": REAL, "information_ratio": REAL}
        | {"beta": REAL, "alpha": REAL, "alpha_t": REAL, "start_date": DAY, "end_date": DAY},
        ("key", "strategy", "baseline"),
        ("information_ratio", "beta", "alpha", "alpha_t"),
    ),
    "contributions": Table(
        {"key": TEXT, "strategy": TEXT, "ticker": TEXT, "sector": TEXT, "return_contribution": REAL}
        | {"cost_contribution": REAL, "risk_contribution": REAL, "average_weight": REAL},
        ("key", "strategy", "ticker"),
        ("risk_contribution",),
    ),
    "metrics": Table(
        {"key": TEXT, "strategy": TEXT, "name": TEXT, "value": REAL, "start_date": DAY, "end_date": DAY},
        ("key", "strategy", "name"),
        ("value",),
    ),
    "periods": Table(
        {"key": TEXT, "strategy": TEXT, "kind": TEXT, "period": TEXT, "name": TEXT, "value": REAL}
        | {"start_date": DAY, "end_date": DAY, "whole": pa.bool_()},
        ("key", "strategy", "kind", "period", "name"),
        ("value",),
    ),
    "comparisons": Table(
        {"key": TEXT, "strategy": TEXT, "baseline": TEXT, "name": TEXT, "value": REAL, "lower": REAL, "upper": REAL}
        | {"method": TEXT},
        ("key", "strategy", "baseline", "name"),
        ("value", "lower", "upper"),
    ),
    "capacity": Table(
        {"key": TEXT, "scenario": TEXT, "strategy": TEXT, "capital": REAL, "capacity": REAL}
        | dict.fromkeys(("sharpe", "annual_return", "costs", "turnover", "late", "undone"), REAL)
        | {"start_date": DAY, "end_date": DAY, "created_at": TIME},
        ("key", "strategy", "capital"),
        ("capacity", "sharpe"),
    ),
    "portfolio_forecasts": Table(
        {"key": TEXT, "rebalance_date": DAY, "as_of": DAY, "strategy": TEXT}
        | dict.fromkeys(("mean", "volatility", "scale", "degrees", "lower_90", "upper_90", "realised", "pit"), REAL)
        | dict.fromkeys(("drawdown_proxy", "drawdown_proxy_sane", "realised_drawdown"), REAL),
        ("key", "rebalance_date", "strategy"),
        ("degrees", "realised", "pit", "realised_drawdown"),
    ),
    "portfolio_judgements": Table(
        {"key": TEXT, "strategy": TEXT, "kind": TEXT, "label": TEXT, "name": TEXT, "value": REAL, "error": REAL}
        | {"rows": COUNT},
        ("key", "strategy", "kind", "label", "name"),
        ("value", "error"),
    ),
    "studies": Table(
        {"key": TEXT, "study": TEXT, "start_date": DAY, "end_date": DAY, "part": TEXT, "number": COUNT}
        | {"variant": TEXT, "strategy": TEXT, "scenario": TEXT, "name": TEXT, "value": REAL, "difference": REAL}
        | {"lower": REAL, "upper": REAL, "created_at": TIME},
        ("key", "part", "number", "name"),
        ("strategy", "scenario", "value", "difference", "lower", "upper"),
    ),
    "claims": Table(
        {"key": TEXT, "study": TEXT, "start_date": DAY, "end_date": DAY, "part": TEXT, "number": COUNT}
        | {"claim": TEXT, "document": TEXT, "measured": TEXT, "value": REAL, "lower": REAL, "upper": REAL}
        | {"verdict": TEXT, "created_at": TIME},
        ("key", "number"),
        ("value", "lower", "upper"),
    ),
    "bands": Table(
        {"key": TEXT, "study": TEXT, "number": COUNT, "band": TEXT, "accounts": COUNT, "session": DAY}
        | dict.fromkeys(_EDGES, REAL)
        | {"created_at": TIME},
        ("key", "number", "session"),
        tuple(name for name in _EDGES if name.startswith("sharpe")),
    ),
    # what was decided, in order
    "scenarios": Table(
        {"scenario": TEXT, "position": COUNT, "valid_from": DAY, "dataset": TEXT, "universe": TEXT}
        | {"parameters": TEXT, "reason": TEXT, "created_at": TIME},
        ("scenario", "position"),
        ("reason",),
    ),
    "decisions": Table(
        {"scenario": TEXT, "position": COUNT, "rebalance_date": DAY, "as_of": DAY, "kind": TEXT, "revision": COUNT}
        | {"advisory": pa.bool_(), "reason": TEXT, "content_hash": TEXT, "record_hash": TEXT, "parent_hash": TEXT}
        | {"lineage": TEXT, "forecasts": TEXT, "weights": TEXTS, "trades": TEXT, "record": TEXT, "created_at": TIME},
        ("scenario", "position"),
        ("reason", "parent_hash", "forecasts"),
    ),
    "holdings": Table(
        {"scenario": TEXT, "position": COUNT, "holdings": TEXT, "date": DAY, "tickers": TEXTS, "shares": REALS}
        | {"imported_at": TIME},
        ("scenario", "position"),
    ),
    "backtests": Table(
        {"scenario": TEXT, "position": COUNT, "key": TEXT, "first_month": TEXT, "last_month": TEXT, "created_at": TIME},
        ("scenario", "position"),
    ),
    "portfolios": Table(
        {"scenario": TEXT, "position": COUNT, "key": TEXT, "created_at": TIME}, ("scenario", "position")
    ),
    "live": Table(
        {"scenario": TEXT, "session": DAY, "rebalance_date": DAY, "strategy": TEXT, "wealth": REAL}
        | {"daily_return": REAL, "expected": REAL, "lower_90": REAL, "upper_90": REAL, "outside": COUNT}
        | {"created_at": TIME},
        ("scenario", "session"),
        ("expected", "lower_90", "upper_90"),
    ),
    "leak_checks": Table(
        {"scenario": TEXT, "as_of": DAY, "rebalance_date": DAY, "verdict": TEXT, "detail": TEXT, "seconds": REAL}
        | {"created_at": TIME},
        ("scenario", "created_at"),
    ),
    # the diary
    "runs": Table(
        {"run": TEXT, "command": TEXT, "scenario": TEXT, "status": TEXT, "started_at": TIME, "finished_at": TIME}
        | {"detail": TEXT, "stages": TEXT, "first_date": DAY, "last_date": DAY},
        ("run",),
        ("first_date", "last_date"),
    ),
}


def validated(name: str, rows: pa.Table) -> pa.Table:
    """The rows in the table's own columns and types.

    Raises StoreError, before anything is written, on a missing column, a null where none may be, a NaN or
    infinity, a value of another type, or two rows with the same unique columns.
    """
    table = TABLES[name]
    missing = [column for column in table.columns if column not in rows.column_names]
    if missing:
        raise StoreError(f"rows for table {name} lack the columns {', '.join(missing)}; nothing was written")
    rows = rows.select(list(table.columns))
    for column in rows.column_names:
        _check_values(name, column, rows[column], column in table.nullable)
    try:
        rows = rows.cast(table.schema)
    except pa.ArrowException as error:
        raise StoreError(f"rows for table {name} are of another type ({error}); nothing was written") from error
    if table.unique and rows.select(list(table.unique)).to_pandas(date_as_object=False).duplicated().any():
        raise StoreError(f"rows for table {name} repeat a {' + '.join(table.unique)}; nothing was written")
    return rows


def _check_values(name: str, column: str, values: pa.ChunkedArray, nullable: bool) -> None:
    if values.null_count and not nullable:
        raise StoreError(f"column {column} of table {name} has {values.null_count} empty values; nothing was written")
    if pa.types.is_list(values.type):
        _check_values(name, column, pc.list_flatten(values), False)
    if pa.types.is_floating(values.type):
        present = values.drop_null()
        strange = present.filter(pc.invert(pc.is_finite(present)))
        if len(strange):
            raise StoreError(f"column {column} of table {name} holds {strange[0].as_py()}; nothing was written")
