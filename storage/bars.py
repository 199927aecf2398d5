"""Bars as they were learned: append-only, one row for each value ever known of a ticker and session.

`known_from` says since when a row is known. Nothing changes a row: a vendor's revision is a new row with a
later `known_from`, and a reader takes, for each ticker and session, the newest row known at its moment.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

import pandas as pd
import pyarrow as pa

from storage import tables
from storage.schemas import TABLES
from storage.store import Store

VALUES = ["open", "high", "low", "close", "adj_close", "volume", "dividend", "split"]
IDENTITY = ["ticker", "session"]
RATES = ("rate", "yield")  # bases of bars that are no prices
EXACT: Mapping[str, float] = {}


def latest(
    store: Store, dataset: str, known_at: datetime | None = None, tickers: Collection[str] | None = None
) -> pd.DataFrame:
    """The newest row of each ticker and session known at `known_at` (default: now), sorted by ticker and session.

    Columns: ticker, session, VALUES, basis, known_from.
    """
    some = {} if tickers is None else {"ticker": sorted(tickers)}
    frame = in_pandas(tables.read(store, "bars", [*IDENTITY, *VALUES, "basis", "known_from"], dataset=dataset, **some))
    if known_at is not None:
        frame = frame[frame["known_from"] <= known_at]
    frame = frame.sort_values([*IDENTITY, "known_from"], kind="stable")
    older = frame.duplicated(IDENTITY, keep="last")
    return (frame[~older] if older.any() else frame).reset_index(drop=True)


def in_pandas(rows: pa.Table) -> pd.DataFrame:
    """Rows with a `session`, without a Python object for each and without a copy of columns that lack no value."""
    place = rows.column_names.index("session")
    return rows.set_column(place, "session", rows["session"].cast(pa.timestamp("s"))).to_pandas(split_blocks=True)


def by_ticker(rows: pd.DataFrame, tickers: pd.Series) -> dict[str, pd.DataFrame]:
    """Rows, sorted by their tickers, as those of each: parts of the frame, and no copies of it."""
    ends = tickers.value_counts(sort=False).cumsum()
    return {name: rows.iloc[begin:end] for name, begin, end in zip(ends.index, [0, *ends], ends, strict=False)}


def are_rates(rows: pd.DataFrame) -> bool:
    """Whether all of these bars are of rates."""
    return set(rows["basis"].unique()) <= set(RATES)


def rates(store: Store, dataset: str) -> set[str]:
    """Names whose bars are rates: risk-free rates and returns of factors, which nobody can hold."""
    return set(tables.read(store, "bars", ["ticker"], dataset=dataset, basis=RATES)["ticker"].to_pylist())


def news(
    known: pd.DataFrame, delivered: pd.DataFrame, tolerance: Mapping[str, float] = EXACT
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a delivery adds to what is known: rows never seen, and rows whose values differ (revisions).

    `tolerance` is relative, by column. A delivery that lacks rows known before takes nothing away.
    """
    if known.empty:
        return delivered, delivered.iloc[:0]
    compared = [*VALUES, "basis"]
    before = known[[*IDENTITY, *compared]].rename(columns={name: f"{name}_before" for name in compared})
    joined = delivered.merge(before, on=IDENTITY, how="left", indicator=True)
    seen = joined.pop("_merge") == "both"
    same = pd.Series(True, index=joined.index)
    for name in compared:
        old, new = joined[f"{name}_before"], joined[name]
        close = (old - new).abs() <= tolerance[name] * new.abs() if name in tolerance else old == new
        same &= close | (old.isna() & new.isna())
    return joined.loc[~seen, delivered.columns], joined.loc[seen & ~same, delivered.columns]


def changes(known: pd.DataFrame, revised: pd.DataFrame) -> pd.DataFrame:
    """What revisions change, one row a ticker and field: how many rows, from when to when, and the newest of them.

    `ratio` is the median of after / before: one number tells a split that was taken into account from a typing error.
    """
    both = revised.merge(known, on=IDENTITY, suffixes=("", "_before"))
    parts = []
    for name in VALUES:
        old, new = both[f"{name}_before"], both[name]
        moved = both[(old != new) & ~(old.isna() & new.isna())]
        values = {"field": name, "before": moved[f"{name}_before"], "after": moved[name]}
        parts.append(moved[IDENTITY].assign(**values, ratio=moved[name] / moved[f"{name}_before"]))
    cells = pd.concat(parts, ignore_index=True).sort_values([*IDENTITY, "field"], kind="stable")
    how = {"rows": ("session", "size"), "first_session": ("session", "first"), "last_session": ("session", "last")}
    how |= {"before": ("before", "last"), "after": ("after", "last"), "ratio": ("ratio", "median")}
    return cells.groupby(["ticker", "field"], as_index=False).agg(**how)


def append(store: Store, dataset: str, rows: pd.DataFrame, known_from: datetime) -> None:
    """Add rows, known since `known_from`."""
    if rows.empty:
        return
    stamped = rows.assign(dataset=dataset, known_from=known_from)
    columns = list(TABLES["bars"].columns)
    tables.append(store, "bars", pa.Table.from_pandas(stamped[columns], TABLES["bars"].schema, preserve_index=False))
