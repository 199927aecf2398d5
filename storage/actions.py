"""Corporate actions as they were learned, on their true ex-dates: append-only, like bars.

A dividend, split or capital gain that a source no longer lists is retracted by a later row; a reader takes, for
each ticker, ex-date and kind, the newest row known at its moment. Bars carry what their returns need of these:
on a day without a bar the action belongs to the next one.
"""

from datetime import datetime

import pandas as pd
import pyarrow as pa

from storage import tables
from storage.schemas import TABLES
from storage.store import Store

IDENTITY = ["ticker", "ex_date", "kind"]
TOLERANCE = 1e-4  # relative: sources give a dividend in single precision


def latest(store: Store, dataset: str, known_at: datetime | None = None) -> pd.DataFrame:
    """What is known at `known_at` (default: now): ticker, ex_date, kind, value, sorted."""
    frame = tables.read(store, "actions", dataset=dataset).to_pandas()
    frame["ex_date"] = pd.to_datetime(frame["ex_date"]).astype("datetime64[s]")
    if known_at is not None:
        frame = frame[frame["known_from"] <= known_at]
    frame = frame.sort_values([*IDENTITY, "known_from"], kind="stable").drop_duplicates(IDENTITY, keep="last")
    return frame.loc[~frame["retracted"], [*IDENTITY, "value"]].reset_index(drop=True)


def news(known: pd.DataFrame, given: pd.DataFrame, since: pd.Series) -> pd.DataFrame:
    """What a delivery changes: new and corrected actions, and those it no longer lists (`retracted`).

    `since` says, by ticker, from which day on the delivery lists everything; nothing before it is retracted.
    """
    if known.empty and given.empty:
        return given.assign(retracted=False)
    both = known.merge(given, on=IDENTITY, how="outer", suffixes=("_before", ""))
    covered = both["ex_date"] >= both["ticker"].map(since)
    gone = both["value"].isna() & covered
    changed = both["value"].notna() & ~((both["value"] - both["value_before"]).abs() <= TOLERANCE * both["value"].abs())
    rows = both.assign(retracted=gone)[gone | changed]
    rows["value"] = rows["value"].fillna(rows["value_before"])
    return rows[[*IDENTITY, "value", "retracted"]].reset_index(drop=True)


def append(store: Store, dataset: str, rows: pd.DataFrame, source: str, known_from: datetime) -> None:
    """Add what `news` found, known since `known_from`."""
    if rows.empty:
        return
    stamped = rows.assign(dataset=dataset, source=source, known_from=known_from)
    stamped["ex_date"] = stamped["ex_date"].dt.date
    columns, schema = list(TABLES["actions"].columns), TABLES["actions"].schema
    tables.append(store, "actions", pa.Table.from_pandas(stamped[columns], schema, preserve_index=False))
