"""A person's own forecasts: brought from a file, checked, stored once, read by as-of date.

One row is `as_of, ticker, mean, variance, known_at`: mean and variance of the log return over the horizon after as_of,
and when the forecast was made. A forecast known only after its as-of date would let a backtest see the future, so the
file is refused; the day counts as it is written, in whatever time zone. What is stored is never changed: another
forecast for the same day and ticker is refused too.
"""

import logging
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from storage import clock, tables
from storage.errors import InputError
from storage.keys import digest
from storage.schemas import TABLES
from storage.store import Store

COLUMNS = ("as_of", "ticker", "mean", "variance", "known_at")
log = logging.getLogger("prism.forecast")


@dataclass(frozen=True)
class Own:
    """What there is of a person's own forecasts of some tickers, by as-of date."""

    digests: dict[date, str] = field(default_factory=dict)  # hash of the rows
    tickers: dict[date, frozenset[str]] = field(default_factory=dict)


def take(store: Store, dataset: str, path: str) -> int:
    """Add the forecasts of a file to a dataset; how many were new.

    Raises InputError, with nothing stored, for a file that cannot be read, lacks a column, holds a row that breaks a
    rule, or contradicts what is stored.
    """
    rows = _checked(_read(Path(path).expanduser()), path)
    known = tables.read(store, "own_forecasts", dataset=dataset).to_pandas()
    both = rows.merge(known, on=["as_of", "ticker"], suffixes=("", "_stored"))
    other = both[(both["mean"] != both["mean_stored"]) | (both["variance"] != both["variance_stored"])]
    if len(other):
        first = other.iloc[0]
        raise InputError(
            f"{path}: {first['ticker']} on {first['as_of']} has mean {first['mean']:g} and variance "
            f"{first['variance']:g}; stored are {first['mean_stored']:g} and {first['variance_stored']:g}, and a "
            "forecast once stored stays: take the row out, or give another --scenario"
        )
    stored = set(zip(known["as_of"], known["ticker"], strict=True))
    new = rows[[pair not in stored for pair in zip(rows["as_of"], rows["ticker"], strict=True)]]
    if len(new):
        new = new.assign(dataset=dataset, known_from=clock.now())
        tables.append(store, "own_forecasts", pa.Table.from_pylist(new.to_dict("records"), _schema()))
    log.info("own forecasts of %s: %d rows, %d new", dataset, len(rows), len(new))
    return len(new)


def _schema() -> pa.Schema:
    return TABLES["own_forecasts"].schema


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        # as text: 0700 and NA are tickers
        return pd.read_csv(path, dtype=str, keep_default_na=False).rename(columns=str.strip)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a CSV or Parquet file of forecasts") from error


def _checked(rows: pd.DataFrame, path: str) -> pd.DataFrame:
    """The rows in their types; raises InputError that names the first one that breaks a rule."""
    missing = [name for name in COLUMNS if name not in rows]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; a forecast has the columns {', '.join(COLUMNS)}")
    rows = rows.replace("", np.nan)
    for name in ("as_of", "ticker", "known_at"):
        if rows[name].isna().any():
            first = rows[rows[name].isna()].iloc[0]
            raise InputError(f"{path}: {name} is empty for {_said(first)}; fill it in, or remove the row")
    rows = _typed(rows, path)
    rules = {
        "its mean must be a finite number": ~np.isfinite(rows["mean"]),
        "its variance must be a positive number": ~(np.isfinite(rows["variance"]) & (rows["variance"] > 0)),
        "it was known only after its as-of date": rows["written"] > rows["as_of"],
        "it stands there twice": rows.duplicated(["as_of", "ticker"]),
    }
    for rule, broken in rules.items():
        if broken.any():
            said = _said(rows[broken].iloc[0])
            raise InputError(f"{path}: {rule} ({said}; rows like it: {broken.sum()}); correct or remove it")
    return rows.drop(columns="written")


def _said(row: pd.Series) -> str:
    return ", ".join(f"{name} {row[name]}" for name in COLUMNS)


def _typed(rows: pd.DataFrame, path: str) -> pd.DataFrame:
    """The rows in their types, with the day of known_at as it is written; times without a zone are UTC."""
    try:
        times, days = (
            [pd.to_datetime(value, format="ISO8601") for value in rows[name]] for name in ("known_at", "as_of")
        )
        numbers = {name: rows[name].astype(float).to_numpy() for name in ("mean", "variance")}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} holds a value of another type ({error}); write dates as 2019-12-31") from error
    known_at = [time.tz_convert("UTC").tz_localize(None) if time.tzinfo else time for time in times]
    return pd.DataFrame(
        {
            "as_of": [day.date() for day in days],
            "ticker": rows["ticker"].astype(str).to_numpy(),
            **numbers,
            "known_at": pd.Series(known_at, dtype="datetime64[us]"),
            "written": [time.date() for time in times],
        }
    )


def of(store: Store, dataset: str, tickers: tuple[str, ...]) -> Own:
    """What there is of a dataset's own forecasts of these tickers."""
    rows = tables.read(store, "own_forecasts", ["as_of", "ticker", "mean", "variance"], dataset=dataset).to_pandas()
    rows = rows[rows["ticker"].isin(tickers)].sort_values(["as_of", "ticker"])
    days = dict(list(rows.groupby("as_of")[["ticker", "mean", "variance"]]))
    return Own(
        digests={day: digest(part.to_numpy().tolist()) for day, part in days.items()},
        tickers={day: frozenset(part["ticker"]) for day, part in days.items()},
    )


def at(store: Store, dataset: str, day: date) -> dict[str, tuple[float, float]]:
    """Mean and variance by ticker of the forecasts with that as-of date."""
    rows = tables.read(store, "own_forecasts", ["ticker", "mean", "variance"], dataset=dataset, as_of=day).to_pylist()
    return {row["ticker"]: (row["mean"], row["variance"]) for row in rows}
