"""Rows by month: one Parquet blob for the sessions between two as-of dates, and a table's row that finds it by key."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from storage import blobs, tables
from storage.errors import StoreError
from storage.schemas import TABLES
from storage.store import Store


@dataclass(frozen=True)
class Partition:
    """One month of a table: rows of `ticker, session`, then the named columns."""

    key: str
    month: str
    as_of: date
    names: tuple[str, ...]
    rows: pd.DataFrame


def put(store: Store, table: str, partitions: Sequence[Partition]) -> None:
    """Keep the partitions: blobs first, then their rows in one commit."""
    if not partitions:
        return
    ids = blobs.put_all(store, [_parquet(partition.rows) for partition in partitions])
    rows = [
        {"key": p.key, "month": p.month, "as_of": p.as_of, "names": list(p.names), "rows": len(p.rows), "blob": blob}
        for p, blob in zip(partitions, ids, strict=True)
    ]
    tables.put(store, table, pa.Table.from_pylist(rows, TABLES[table].schema))


def _parquet(rows: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, sink, compression="zstd", use_dictionary=["ticker"], write_page_checksum=True)
    return sink.getvalue()


def rows(store: Store, ids: Iterable[str]) -> pa.Table:
    """The rows of partitions, one after the other; each is too small for the threads that Arrow would start."""
    files = [pq.ParquetFile(pa.BufferReader(blobs.get(store, blob))) for blob in ids]
    return pa.concat_tables([file.read(use_threads=False) for file in files], promote_options="default")


def read(store: Store, table: str, keys: Iterable[str]) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Column names and rows of the partitions under `keys`, sorted by ticker and session.

    Raises StoreError when one is missing.
    """
    wanted = list(keys)
    index = tables.read(store, table, key=wanted).sort_by("as_of").to_pylist()
    if len(index) != len(wanted):
        raise StoreError(f"{len(wanted) - len(index)} of {len(wanted)} months of {table} are missing; run it again")
    frame = rows(store, [row["blob"] for row in index]).to_pandas()
    return tuple(index[-1]["names"]), frame.sort_values(["ticker", "session"], kind="stable").reset_index(drop=True)
