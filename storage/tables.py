"""Delta tables: rows written once by key, in transactions that several processes may run at once.

Writers validate first, then replace the rows of exactly their keys in one commit, then list its files
(storage.manifests) and sync the disk, so a reader sees all rows of a key or none, and a repeated write changes
nothing. The ledger's tables take a position only while it is free (`claim`).
"""

import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from pyarrow.dataset import Dataset

from storage import commits, manifests
from storage.errors import StoreError, explained
from storage.files import Place, Stat
from storage.schemas import TABLES, validated
from storage.store import Store

_PROPERTIES = WriterProperties(compression="ZSTD")
_DAMAGE = (DeltaError, pa.ArrowException)  # what a log or a file raises that is not as it was written
_ATTEMPTS = 60
_CROWDED = 64  # files of a table above which a writer compacts it
_OURS: set[tuple[Store, str, int]] = set()  # versions that this process has written
DIARIES = frozenset({"runs", "ingests"})  # tables that every run adds to, and no answer depends on
_Log = list[tuple[Place, Stat]]


@dataclass(frozen=True)
class Version:
    """A version of a table, to be read any number of times."""

    rows: Dataset
    files: tuple[str, ...]  # addresses of its data files


def open_table(store: Store, name: str) -> DeltaTable:
    """The table at its newest version, made empty where it is not there yet.

    Raises StoreError when a commit file is empty: a power cut can leave that, and delta-rs would read it as a
    commit without rows.
    """
    with explained(f"opening table {name}", *_DAMAGE):
        # no log, not even the commit that makes the table: its writer has not come so far, or was killed
        return _found(store, name) or _made(store, name)


def versions(store: Store) -> dict[str, int]:
    """The newest version of every table: whatever is written or compacted raises it. 0: made, or not even that."""
    found = {name: [int(file.stem) for file, _ in _log(store, name)] for name in sorted(TABLES)}
    return {name: max(numbers, default=0) for name, numbers in found.items()}


def are_ours(store: Store, since: dict[str, int]) -> bool:
    """Whether this process has written every version that is newer than those, diaries aside."""
    now = versions(store)
    new = {(store, name, n) for name, last in now.items() for n in range(since[name] + 1, last + 1)}
    return all(entry in _OURS for entry in new if entry[1] not in DIARIES)


def _found(store: Store, name: str) -> DeltaTable | None:
    log = _log(store, name)
    if not log:
        return None
    _check_log(name, log)
    table = store.files.delta(store.tables / name)
    return table if store.read_only else _with_all_columns(store, table, name)


def newest(store: Store, name: str) -> Version | None:
    """The table's newest version; None where it is not there yet. Raises StoreError as `open_table` does.

    A log is read again once its files are others than they were.
    """
    with explained(f"opening table {name}", *_DAMAGE):
        log = tuple(sorted((file.name, found.st_size, found.st_mtime) for file, found in _log(store, name)))
        return _version(store, name, log) if log else None


@lru_cache(maxsize=64)  # the tables, and some versions that others read still
def _version(store: Store, name: str, log: tuple[tuple[str, int, float], ...]) -> Version | None:
    """What `newest` keeps, for the files that the log consists of."""
    table = _found(store, name)
    return Version(dataset(store, name, table), tuple(table.file_uris())) if table is not None else None


def _log(store: Store, name: str) -> _Log:
    there = store.files.entries(store.tables / name / commits.LOG)
    return [(file, found) for file, found in there if file.suffix == ".json"]


def _with_all_columns(store: Store, table: DeltaTable, name: str) -> DeltaTable:
    """The table with the columns that came after it was made; its older rows have them empty."""
    there = {field.name for field in table.schema().fields}
    lacking = [field for field in Schema.from_arrow(TABLES[name].schema).fields if field.name not in there]
    if lacking:
        with suppress(CommitFailedError):  # another process adds them at this moment
            table.alter.add_columns(lacking)
        manifests.add(store, name)
        return store.files.delta(store.tables / name)
    return table


def _made(store: Store, name: str) -> DeltaTable:
    """The table, made now, or a moment ago by another process.

    Its first commit is put in place only where there is none: of several processes that find no table, delta-rs lets
    each one commit its own, after rows of another one even.
    """
    folder, first = store.tables / name, commits.commit_path(0)
    with TemporaryDirectory() as scratch:
        DeltaTable.create(scratch, schema=TABLES[name].schema)
        store.files.create(folder / first, (Path(scratch) / first).read_bytes())
    manifests.add(store, name)
    return store.files.delta(folder)


def _check_log(name: str, log: _Log) -> None:
    for commit, found in log:
        if not found.st_size:
            raise StoreError(f"table {name}: commit {commit} is empty, so rows would be lost; restore it from a backup")


def read(store: Store, name: str, columns: list[str] | None = None, **where: Any) -> pa.Table:
    """Rows whose columns equal the values given (a list, tuple or set: any of them), in no particular order."""
    with explained(f"reading table {name}", *_DAMAGE):
        version = newest(store, name)
        if version is None and not store.read_only:
            _made(store, name)
            version = newest(store, name)
        if version is None:
            return TABLES[name].schema.empty_table().select(columns or list(TABLES[name].columns))
        return version.rows.to_table(columns=columns, filter=_condition(name, where))


def _rows(store: Store, name: str, table: DeltaTable, columns: list[str] | None, where: dict[str, Any]) -> pa.Table:
    return dataset(store, name, table).to_table(columns=columns, filter=_condition(name, where))


def dataset(store: Store, name: str, table: DeltaTable) -> Dataset:
    """The files of a version of a table, to be read with Arrow."""
    # Arrow's own file system: Delta's calls back into Python from threads, which abort a process that ends meanwhile
    files = store.files.arrow(store.tables / name)
    schema = TABLES[name].schema if store.read_only else None  # columns that an older table lacks are empty
    return table.to_pyarrow_dataset(filesystem=files, schema=schema)


def _condition(name: str, where: dict[str, Any]) -> pc.Expression | None:
    condition = None
    for column, value in where.items():
        field = pc.field(column)
        many = isinstance(value, (list, tuple, set, frozenset, dict))
        test = field.isin(pa.array(list(value), TABLES[name].columns[column])) if many else field == value
        condition = test if condition is None else condition & test
    return condition


def existing(store: Store, name: str, keys: Iterable[str]) -> set[str]:
    """Those of `keys` that the table holds."""
    wanted = list(keys)
    if not wanted:
        return set()
    return set(read(store, name, ["key"], key=wanted)["key"].to_pylist())


def put(store: Store, name: str, rows: pa.Table) -> None:
    """Write all rows of the keys that occur in `rows`, replacing what these keys hold."""
    rows = validated(name, rows)
    if not rows.num_rows:
        return
    keys = pc.unique(rows["key"]).to_pylist()
    predicate = f"key IN ({', '.join(map(_literal, keys))})"

    def commit() -> DeltaTable:
        table = open_table(store, name)
        write_deltalake(table, rows, mode="overwrite", predicate=predicate, writer_properties=_PROPERTIES)
        return table

    _commit(store, name, commit)


def forget(store: Store, name: str, keys: Iterable[str]) -> None:
    """Take out the rows of these keys, so that whoever needs them computes them again."""
    wanted = list(keys)
    if wanted and (store.tables / name).is_dir():
        predicate = f"key IN ({', '.join(map(_literal, wanted))})"

        def commit() -> DeltaTable:
            table = open_table(store, name)
            table.delete(predicate)
            return table

        _commit(store, name, commit)


def append(store: Store, name: str, rows: pa.Table) -> None:
    """Add rows of knowledge (bars, the diary); never for rows that have a key."""
    rows = validated(name, rows)

    def commit() -> DeltaTable:
        table = open_table(store, name)
        write_deltalake(table, rows, mode="append", writer_properties=_PROPERTIES)
        return table

    _commit(store, name, commit)


def claim(store: Store, name: str, rows: pa.Table) -> bool:
    """Add ledger rows at their positions, all or none; False when one of the positions is taken."""
    rows = validated(name, rows)
    same = " AND ".join(f"old.{column} = new.{column}" for column in TABLES[name].unique)
    inserted, tried = 0, False

    def commit() -> DeltaTable | None:
        nonlocal inserted, tried
        # one version for the look and the merge: a writer in between makes the merge fail, and it is looked again
        table = open_table(store, name)
        if _taken(store, name, table, rows):
            inserted = rows.num_rows if tried and _is_made(store, name, table, rows) else 0
            return None
        tried = True
        merge = table.merge(rows, same, "new", "old", writer_properties=_PROPERTIES)
        inserted = merge.when_not_matched_insert_all().execute()["num_target_rows_inserted"]
        return table

    _commit(store, name, commit)
    return inserted == rows.num_rows


def _taken(store: Store, name: str, table: DeltaTable, rows: pa.Table) -> bool:
    unique = list(TABLES[name].unique)
    return _rows(store, name, table, unique, {}).join(rows.select(unique), unique, join_type="inner").num_rows > 0


def _is_made(store: Store, name: str, table: DeltaTable, rows: pa.Table) -> bool:
    """Whether these very rows are there: a storage's first answer to the claim was lost, and it refused the second."""
    there = _rows(store, name, table, None, {}).select(rows.column_names).to_pylist()
    return all(row in there for row in rows.to_pylist())


def _commit(store: Store, name: str, commit: Callable[[], DeltaTable | None]) -> None:
    """Run `commit` until no other writer got in between, then list its files and make all of it durable.

    It returns the table at the version that it wrote, None where it wrote none.
    """
    with explained(f"writing table {name}", *_DAMAGE):
        manifests.newest(store, name)  # a damaged one is told before anything is written
        for attempt in range(_ATTEMPTS):
            try:
                written = commit()
                break
            except CommitFailedError:
                time.sleep(random.uniform(0, 0.02 * (attempt + 1)))  # noqa: S311 - jitter, no secret
        else:
            raise StoreError(f"table {name}: other writers were first {_ATTEMPTS} times; run the same command again")
        if written is not None:
            _OURS.add((store, name, written.version()))
        manifests.add(store, name)


def compact(store: Store, crowded: int | None = None) -> None:
    """Merge the small files of tables with more than `crowded` (by default those that a writer finds too many).

    Readers and writers go on, and a writer that is first wins.

    Of two processes one compacts a table, by a lock, or because the commit of the second is refused.
    """
    for name in sorted(TABLES):
        there = store.files.entries(store.tables / name)
        if sum(file.suffix == ".parquet" for file, _ in there) <= (crowded or _CROWDED):
            continue  # some may be of earlier versions, none is missing
        with store.files.locked(manifests.folder_of(store, name) / ".compacting", wait=False) as alone:
            if alone:
                _compact(store, name, crowded or _CROWDED)


def _compact(store: Store, name: str, crowded: int) -> None:
    table = open_table(store, name)
    if len(table.file_uris()) > crowded:
        with explained(f"compacting table {name}", *_DAMAGE), suppress(CommitFailedError):
            store.files.compact(table, store.tables / name, _PROPERTIES)
            _OURS.add((store, name, table.version()))
            manifests.add(store, name)


def vacuum(store: Store, days: int) -> int:
    """Delete data files that the tables took out at least `days` ago, after a compaction say; how many.

    A reader that is older than that fails, and one that begins now does not need them. Files of that age that no
    commit ever named, since their writer was killed, go too: Delta looks for those in a full vacuum only.
    """
    deleted, asked = 0, {"retention_hours": 24 * days, "enforce_retention_duration": False, "full": True}
    for name in sorted(TABLES):
        if (store.tables / name).is_dir():
            table = open_table(store, name)
            with explained(f"vacuuming table {name}", *_DAMAGE), suppress(CommitFailedError):
                if table.vacuum(**asked):
                    deleted += len(table.vacuum(**asked, dry_run=False))
                manifests.add(store, name)  # what a killed writer has not listed, too
                manifests.sweep(store, name)
    return deleted


def _literal(value: str | int | date | datetime) -> str:
    """The SQL literal of a value; Delta's predicates take no parameters."""
    if isinstance(value, bool) or not isinstance(value, (str, int, date)):
        raise TypeError(f"{value!r} cannot stand in a predicate")
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
