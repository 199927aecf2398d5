"""Snapshots: all bars of a dataset known at one moment, immutable, in monthly partitions.

A manifest lists, for each month, the partition's blob and, ticker by ticker, the hash of its rows. From
these come the *prefix hashes*: what a decision at d may see is named by the hash of its tickers' rows up to
d, so a later session, a later snapshot or another ticker leaves the name as it was, and a restated bar
renames exactly the dates from its month on. Inside a month the partition is cut at d before it is hashed; a
ticker of another exchange is cut at that exchange's last session known at d. A snapshot may also say which
tickers were delisted: such a day has its say in the prefixes from that day on.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage import blobs, partitions, tables
from storage.bars import VALUES, in_pandas
from storage.errors import NoDataError, StoreError
from storage.keys import digest, to_json
from storage.schemas import TABLES
from storage.store import Store

BASES = ["traded", "split", "adjusted", "rate", "yield"]  # a hash holds the place in this list: append only
COLUMNS = ["ticker", "session", *VALUES, "basis"]
_DAY_ZERO = date(1970, 1, 1)  # of numpy's day numbers
Stored = Callable[[str, dict[str, str]], bytes | None]  # by month and the hashes of its tickers


@dataclass(frozen=True)
class Snapshot:
    """A row of the table of snapshots."""

    snapshot: str
    dataset: str
    known_at: datetime
    manifest: str
    first_session: date
    last_session: date


def take(
    store: Store,
    dataset: str,
    bars: pd.DataFrame,
    known_at: datetime,
    source_digest: str,
    delisted: Mapping[str, date] | None = None,
) -> Snapshot:
    """Keep `bars` (sorted by ticker and session) as the dataset's snapshot of `known_at`.

    `source_digest` names the delivery it follows from, so that the same delivery need not be read again. `delisted`
    gives the day from which a ticker is no longer traded.
    """
    data, content, identity = contents(dataset, bars, delisted, _stored(store, dataset))
    blobs.put_all(store, data)
    manifest = blobs.put(store, content)
    first, last = bars["session"].min().date(), bars["session"].max().date()
    row = {
        "snapshot": identity,
        "dataset": dataset,
        "known_at": known_at,
        "digest": source_digest,
        "manifest": manifest,
        "first_session": first,
        "last_session": last,
        "tickers": bars["ticker"].nunique(),
        "rows": len(bars),
    }
    tables.append(store, "snapshots", pa.Table.from_pylist([row], TABLES["snapshots"].schema))
    return Snapshot(identity, dataset, known_at, manifest, first, last)


def _stored(store: Store, dataset: str) -> Stored:
    """What finds the bytes of a month that the dataset's newest snapshot holds with the same rows."""
    rows = _newest_first(store, dataset)

    def find(month: str, hashes: dict[str, str]) -> bytes | None:
        with suppress(StoreError):  # what is damaged is written anew
            entry = manifest(store, _snapshot(rows[0])).get(month) if rows else None
            return blobs.get(store, entry["blob"]) if entry and entry["tickers"] == hashes else None
        return None

    return find


def contents(
    dataset: str,
    bars: pd.DataFrame,
    delisted: Mapping[str, date] | None = None,
    stored: Stored = lambda month, hashes: None,
) -> tuple[list[bytes], bytes, str]:
    """What a snapshot of `bars` consists of: its months, its manifest, and its id.

    `stored` gives the bytes of a month, by the hashes of its tickers, where they need not be made.
    """
    rows = bars[COLUMNS].iloc[np.argsort(bars["session"].to_numpy("datetime64[M]"), kind="stable")]
    columns, table = _columns(rows), _table(rows)
    codes, names = pd.factorize(rows["ticker"])  # numbers: a string for each row would take more than its values
    days = rows["session"].to_numpy("datetime64[D]")
    partitions, months = [], {}
    for begin, end in _runs(days.astype("datetime64[M]")):
        month = str(days[begin].astype("datetime64[M]"))
        hashes = _hashes([column[begin:end] for column in columns], codes[begin:end], names.tolist())
        partitions.append(stored(month, hashes) or _parquet(table.slice(begin, end - begin)))
        months[month] = {
            "blob": hashlib.sha256(partitions[-1]).hexdigest(),
            "last": days[begin:end].max().item(),
            "tickers": hashes,
        }
    gone = {"delisted": dict(delisted)} if delisted else {}
    identity = digest([dataset, {month: entry["tickers"] for month, entry in months.items()}, *gone.values()])
    return partitions, to_json({"dataset": dataset, "months": months} | gone).encode(), identity


def _runs(values: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Where equal neighbours begin and end."""
    return pairwise([0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), values.size])


def _hashes(columns: Sequence[NDArray], codes: NDArray[np.int64], names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the canonical bytes of each ticker; `codes` says for each row which of the names it has."""
    raw = _canonical(columns)
    return {names[codes[begin]]: hashlib.sha256(raw[begin:end]).hexdigest() for begin, end in _runs(codes)}


def _columns(bars: pd.DataFrame) -> list[NDArray]:
    """What is hashed of bars: day numbers, values, and places of their basis."""
    days = bars["session"].to_numpy("datetime64[D]").astype(np.int64)
    basis = pc.index_in(pa.array(bars["basis"]), pa.array(BASES)).to_numpy(zero_copy_only=False)
    return [days, *(bars[name].to_numpy(np.float64) for name in VALUES), basis]


def _canonical(columns: Sequence[NDArray]) -> NDArray[np.int64]:
    """The same row by row, as it is hashed: one NaN, no minus zero."""
    raw = np.empty((columns[0].size, len(columns)), "<i8")
    raw[:, 0], raw[:, -1] = columns[0], columns[-1]
    for place, column in enumerate(columns[1:-1], 1):
        values = column + 0.0
        values[np.isnan(values)] = np.nan
        raw[:, place] = values.view(np.int64)
    return raw


def _table(bars: pd.DataFrame) -> pa.Table:
    """The columns that are kept; converted at once, since a conversion costs more than a month's rows."""
    table = pa.Table.from_pandas(bars, preserve_index=False).replace_schema_metadata(None)
    return table.set_column(COLUMNS.index("session"), "session", table["session"].cast(pa.date32()))


def _parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def newest(store: Store, dataset: str) -> Snapshot:
    """The dataset's newest snapshot; raises NoDataError when nothing was ingested."""
    rows = _newest_first(store, dataset)
    if not rows:
        raise NoDataError(f"dataset {dataset} has no prices yet; run `prism ingest` or `prism run` first")
    return _snapshot(rows[0])


def at(store: Store, dataset: str, moment: datetime) -> Snapshot:
    """The dataset's newest snapshot known at `moment`; raises NoDataError when nothing was known by then."""
    rows = _newest_first(store, dataset)
    known = [row for row in rows if row["known_at"] <= moment]
    if not known:
        first = f"first known at {rows[-1]['known_at']}" if rows else "never ingested"
        raise NoDataError(f"dataset {dataset} was {first}; nothing of it was known at {moment}, give a later moment")
    return _snapshot(known[0])


def delivered(store: Store, dataset: str, source_digest: str) -> Snapshot | None:
    """The newest snapshot, if it follows from that very delivery."""
    rows = _newest_first(store, dataset)
    return _snapshot(rows[0]) if rows and rows[0]["digest"] == source_digest else None


def _newest_first(store: Store, dataset: str) -> list[dict]:
    return tables.read(store, "snapshots", dataset=dataset).sort_by([("known_at", "descending")]).to_pylist()


@lru_cache(maxsize=64)
def load(store: Store, identity: str) -> Snapshot:
    """The snapshot of that id (of equal ones the oldest)."""
    rows = tables.read(store, "snapshots", snapshot=identity).sort_by("known_at").slice(0, 1).to_pylist()
    if not rows:
        raise NoDataError(f"snapshot {identity[:12]} is not in {store.root}; run `prism ingest` first")
    return _snapshot(rows[0])


def _snapshot(row: dict) -> Snapshot:
    return Snapshot(**{name: row[name] for name in Snapshot.__dataclass_fields__})


@lru_cache(maxsize=8)
def _content(store: Store, manifest: str) -> dict[str, dict]:
    return json.loads(blobs.get(store, manifest))


def manifest(store: Store, snapshot: Snapshot) -> dict[str, dict]:
    """Months in order, each with its partition's `blob`, its `last` session, and the hash of each of its `tickers`."""
    return _content(store, snapshot.manifest)["months"]  # canonical JSON is sorted


def delisted(store: Store, snapshot: Snapshot) -> dict[str, date]:
    """By ticker the day from which it is no longer traded, as the snapshot says."""
    days = _content(store, snapshot.manifest).get("delisted", {})
    return {ticker: date.fromisoformat(day) for ticker, day in days.items()}


def read(store: Store, snapshot: Snapshot, tickers: Sequence[str]) -> pd.DataFrame:
    """Bars of `tickers`, sorted by ticker and session."""
    ids = [entry["blob"] for entry in manifest(store, snapshot).values()]
    rows = partitions.rows(store, ids)
    place = pc.index_in(rows["ticker"], pa.array(sorted(tickers), pa.string()))
    order = pc.sort_indices(place).slice(0, len(place) - place.null_count)  # stable, and months are in order of time
    rows = rows.take(order)  # of the months nothing is held any more
    return in_pandas(rows)


def _partition(store: Store, blob: str) -> pd.DataFrame:
    """The rows of a partition."""
    return in_pandas(partitions.rows(store, [blob]))


def prefixes(
    store: Store,
    snapshot: Snapshot,
    tickers: Sequence[str],
    label: str,
    dates: Sequence[date],
    seen: Mapping[str, Sequence[date | None]] | None = None,
) -> list[str]:
    """For each of the ascending `dates` the hash of `label` and of all that a decision on it may see of `tickers`.

    That is their rows up to and on the date, and the delistings of by then. `seen` gives, for tickers of other
    exchanges, the last day that is known at each of the dates (None: no day yet); the months before that of the date
    are known as a whole.
    """
    names, running, result = sorted(tickers), hashlib.sha256(label.encode()), []
    gone = sorted((name, day) for name, day in delisted(store, snapshot).items() if name in tickers)
    months = iter(manifest(store, snapshot).items())
    month, entry = next(months, (None, None))
    for place, day in enumerate(dates):
        while month is not None and month < f"{day:%Y-%m}":
            _extend(running, month, entry["tickers"], names)
            month, entry = next(months, (None, None))
        cut = running.copy()
        if month == f"{day:%Y-%m}":
            last = {name: seen[name][place] if seen and name in seen else day for name in names}
            _extend(cut, month, _cut(store, entry, last), names)
        cut.update("".join(f"delisted {name} {since}\n" for name, since in gone if since <= day).encode())
        result.append(cut.hexdigest())
    return result


def _extend(running: "hashlib._Hash", month: str, hashes: dict[str, str], names: list[str]) -> None:
    rows = [f"{month} {name} {hashes[name]}\n" for name in names if name in hashes]
    running.update("".join(rows).encode())


def _cut(store: Store, entry: dict, last: dict[str, date | None]) -> dict[str, str]:
    """The month's row hashes of the rows up to the `last` day of each ticker; the manifest's where none is later."""
    known = {name: day for name, day in last.items() if name in entry["tickers"]}
    early = {name: day for name, day in known.items() if day is None or day.isoformat() < entry["last"]}
    hashes = {name: value for name, value in entry["tickers"].items() if name not in early}
    rows = _rows_of(store, entry["blob"]) if early else {}
    for name, day in early.items():
        seen = 0 if day is None else np.searchsorted(rows[name][:, 0], (day - _DAY_ZERO).days, side="right")
        if seen:
            hashes[name] = hashlib.sha256(rows[name][:seen].tobytes()).hexdigest()
    return hashes


@lru_cache(maxsize=4)
def _rows_of(store: Store, blob: str) -> dict[str, NDArray[np.int64]]:
    """The canonical rows of a partition by ticker, in order of time: every date of its month cuts the same ones."""
    bars = _partition(store, blob)
    raw, groups = _canonical(_columns(bars)), bars.groupby("ticker", sort=False).indices
    return {str(ticker): raw[positions] for ticker, positions in groups.items()}


def broken(store: Store, snapshot: Snapshot) -> str | None:
    """What is wrong with a snapshot's hashes or with the rows they are of, as a sentence; None when they agree."""
    content = json.loads(blobs.get(store, snapshot.manifest))
    gone = [content["delisted"]] if "delisted" in content else []
    tickers = {month: entry["tickers"] for month, entry in content["months"].items()}
    if digest([snapshot.dataset, tickers, *gone]) != snapshot.snapshot:
        return "is not what its manifest lists"
    for month, entry in content["months"].items():
        rows = _rows_of(store, entry["blob"])
        if {ticker: hashlib.sha256(raw.tobytes()).hexdigest() for ticker, raw in rows.items()} != entry["tickers"]:
            return f"holds other rows in {month} than its manifest lists"
    return None


@lru_cache(maxsize=8)
def restated(store: Store, before: str, after: str, tickers: tuple[str, ...]) -> tuple[date, ...]:
    """Sessions of the bars of `tickers` that differ between two snapshots, one entry a bar, in order.

    A bar that only one of the two holds counts too.
    """
    manifests = [manifest(store, load(store, identity)) for identity in (before, after)]
    found: list[date] = []
    for month in sorted({month for each in manifests for month in each}):
        entries = [each.get(month, {"blob": None, "tickers": {}}) for each in manifests]
        if any(entries[0]["tickers"].get(name) != entries[1]["tickers"].get(name) for name in tickers):
            found += _differing(*(_indexed(store, entry["blob"], tickers) for entry in entries))
    return tuple(found)


def _indexed(store: Store, blob: str | None, tickers: Sequence[str]) -> pd.DataFrame:
    """A partition's rows of `tickers` by session and ticker."""
    rows = _partition(store, blob) if blob else pd.DataFrame(columns=COLUMNS)
    return rows[rows["ticker"].isin(tickers)].set_index(["session", "ticker"])


def _differing(old: pd.DataFrame, new: pd.DataFrame) -> list[date]:
    both = old.index.union(new.index)
    left, right = old.reindex(both), new.reindex(both)
    same = ((left == right) | (left.isna() & right.isna())).all(axis=1).to_numpy()
    sessions = both[~same].get_level_values("session")
    return [session.date() for session in sessions]
