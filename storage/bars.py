"""Bars as they were learned: append-only, one row for each value ever known of a ticker and session.

`known_from` says since when a row is known. Nothing changes a row: a vendor's revision is a new row with a
later `known_from`, and a reader takes, for each ticker and session, the newest row known at its moment.
"""

from datetime import datetime

import pandas as pd
import pyarrow as pa

from storage import tables
from storage.schemas import TABLES
from storage.store import Store

VALUES = ["open", "high", "low", "close", "adj_close", "volume", "dividend", "split"]
IDENTITY = ["ticker", "session"]


def latest(store: Store, dataset: str, known_at: datetime | None = None) -> pd.DataFrame:
    """The newest row of each ticker and session known at `known_at` (default: now), sorted by ticker and session."""
    frame = tables.read(store, "bars", dataset=dataset).to_pandas()
    frame["session"] = pd.to_datetime(frame["session"])
    if known_at is not None:
        frame = frame[frame["known_from"] <= known_at]
    frame = frame.sort_values([*IDENTITY, "known_from"], kind="stable").drop_duplicates(IDENTITY, keep="last")
    return frame.reset_index(drop=True)


def news(known: pd.DataFrame, delivered: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a delivery adds to what is known: rows never seen, and rows whose values differ (revisions).

    A delivery that lacks rows known before takes nothing away.
    """
    compared = [*VALUES, "basis"]
    before = known[[*IDENTITY, *compared]].rename(columns={name: f"{name}_before" for name in compared})
    joined = delivered.merge(before, on=IDENTITY, how="left", indicator=True)
    seen = joined.pop("_merge") == "both"
    same = pd.Series(True, index=joined.index)
    for name in compared:
        old, new = joined[f"{name}_before"], joined[name]
        same &= (old == new) | (old.isna() & new.isna())
    return joined.loc[~seen, delivered.columns], joined.loc[seen & ~same, delivered.columns]


def append(store: Store, dataset: str, rows: pd.DataFrame, known_from: datetime) -> None:
    """Add rows, known since `known_from`."""
    if rows.empty:
        return
    stamped = rows.assign(dataset=dataset, known_from=known_from)
    stamped["session"] = stamped["session"].dt.date
    columns = list(TABLES["bars"].columns)
    tables.append(store, "bars", pa.Table.from_pandas(stamped[columns], TABLES["bars"].schema, preserve_index=False))
