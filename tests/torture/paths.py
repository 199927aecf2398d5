"""The ways in which a store is written: how each begins, what it does, and the state that it leaves.

A state is what readers see, as JSON; it is old or new, and nothing else.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from storage import backups, blobs, catalog, checkpoints, ledger, manifests, pruning, tables, unfinished
from storage.schemas import TABLES
from storage.store import Store, open_store
from tests.torture import work
from tests.torture.kills import age

State = Any
DATA = [b"one" * 1000, b"two"]
ARRAYS = {"weights": np.arange(600.0).reshape(20, 30)}


@dataclass(frozen=True)
class Way:
    """One way of writing."""

    name: str
    prepare: Callable[[Path], object]
    act: Callable[[Store], object]
    state: Callable[[Store], State]
    opens: bool = False  # it makes the store itself, or one that can be opened


def _weights(store: Store, number: int, name: str = "weights") -> None:
    work.WRITERS[name](store, number)


def _some(*numbers: int) -> Callable[[Path], object]:
    """A store with the weights of some jobs."""

    def prepare(root: Path) -> None:
        for number in numbers:
            _weights(open_store(root), number)

    return prepare


def _empty(root: Path) -> None:
    open_store(root)


def _decided(root: Path) -> None:
    for number in (0, 1):
        work.do(open_store(root), number)


def _rows(*names: str) -> Callable[[Store], State]:
    """The rows of some tables, with the blobs that they name read."""

    def state(store: Store) -> State:
        content = work.content(store)
        return {name: content.get(name, []) for name in names}

    return state


def _blobs(store: Store) -> State:
    names = sorted(file.name for file in store.blobs.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {name: len(blobs.get(store, name)) for name in names}


def _new_blobs(store: Store) -> State:
    """All of a call's blobs, or that they are not all there: each is whole, and no row names one yet."""
    return _blobs(store) if len(_blobs(store)) == len(DATA) else {}


def _unfinished(store: Store) -> State:
    found = unfinished.get(store, "key")
    return None if found is None else {name: array.tolist() for name, array in found.items()}


def _put_later(store: Store) -> None:
    unfinished.put(store, "key", {"weights": ARRAYS["weights"] + 1})


def _crowded(root: Path) -> None:
    for number in range(4):
        _weights(open_store(root), number)


def _compact(store: Store) -> None:
    tables.compact(store, 2)


def _compacted_long_ago(root: Path) -> None:
    _crowded(root)
    _compact(open_store(root))
    age(root)


def _vacuum(store: Store) -> None:
    # what a compaction took out is as old as its log entry says
    table = tables.open_table(store, "weights")
    asked = {"retention_hours": 0, "enforce_retention_duration": False, "full": True}
    with tables.explained("vacuuming table weights", *tables._DAMAGE):
        if table.vacuum(**asked):
            table.vacuum(**asked, dry_run=False)
            manifests.add(store, "weights")


def _with_old_blobs(root: Path) -> None:
    store = open_store(root)
    work.WRITERS["features"](store, 0)
    blobs.put_all(store, DATA)
    age(root)


def _used_blobs(store: Store) -> State:
    return _rows("features")(store)


def _many_manifests(root: Path) -> None:
    _some(0, 1, 2)(root)


def _merging(store: Store) -> None:
    manifests._MANY = 2
    _weights(store, 5)


def _checkpoint(store: Store) -> None:
    with tables.explained("writing a checkpoint", *tables._DAMAGE):
        tables.open_table(store, "weights").create_checkpoint()
    _weights(store, 5)


def _views(store: Store) -> State:
    """What a person's DuckDB sees in the catalog: None where there is none."""
    place = store.root / "catalog.duckdb"
    if not place.exists():
        return None
    with suppress(duckdb.Error), duckdb.connect(place, read_only=True) as connection:
        return list(connection.execute("SELECT count(*), count(DISTINCT key) FROM raw.weights").fetchone())
    return "broken"


def _with_catalog(root: Path) -> None:
    _some(0)(root)
    catalog.rebuild(open_store(root))
    _weights(open_store(root), 1)


def _backups(store: Store) -> State:
    """The named backups, each a whole store."""
    found = sorted((store.root.parent / "backups").glob("store-*"))
    return [_rows("weights")(Store(place, "", read_only=True)) for place in found][:1]


def _back_up(store: Store) -> None:
    if not list((store.root.parent / "backups").glob("store-*")):
        backups.take(store, store.root.parent / "backups")


def _append(store: Store) -> None:
    key = [work.key_of("ingests", 0)]
    if not tables.read(store, "runs", run=key).num_rows:
        row = dict.fromkeys(TABLES["runs"].columns) | {"run": key[0], "command": "x", "scenario": "main"}
        row |= {"status": "s", "detail": "", "stages": "{}"} | dict.fromkeys(("started_at", "finished_at"), 0)
        tables.append(store, "runs", pa.Table.from_pylist([row], TABLES["runs"].schema))


def _runs(store: Store) -> State:
    return tables.read(store, "runs", ["run"])["run"].to_pylist()


def _claim(store: Store) -> None:
    work._decide(store, 2)


def _ledger(store: Store) -> State:
    said = ledger.broken(store, "main")
    return said or [record.rebalance_date.isoformat() for record in ledger.read(store, "main")]


def _decidable(root: Path) -> None:
    _decided(root)
    for name in ("forecasts", "weights", "trades"):
        work.WRITERS[name](open_store(root), 2)


def _column_later(root: Path) -> None:
    """A table of an earlier version, which lacks a column."""
    store = open_store(root)
    _weights(store, 0, "trades")
    fields = [entry for entry in TABLES["executions"].schema if entry.name not in ("carried", "undone")]
    DeltaTable.create(store.tables / "executions", schema=pa.schema(fields))
    manifests.add(store, "executions")


def _execute(store: Store) -> None:
    row = {"key": "k", "rebalance_date": date(2024, 1, 1), "strategy": "s", "ticker": "A", "trade": 0.1, "cost": 0.0}
    rows = pa.Table.from_pylist([row | {"carried": 0.5, "undone": None}], TABLES["executions"].schema)
    tables.put(store, "executions", rows)


def _identity(store: Store) -> State:
    """A store has a marker that says its format; None: there is no store yet."""
    marker = store.root / "STORE.json"
    return json.loads(marker.read_text())["format"] if marker.exists() else None


def _report(store: Store) -> None:
    with tables.explained("writing the report"):
        store.files.write(store.root / "reports" / "main.html", b"<html>" + b"x" * 5000 + b"</html>")


def _page(store: Store) -> State:
    place = store.root / "reports" / "main.html"
    return len(place.read_bytes()) if place.exists() else None


WAYS = (
    Way("a first put", _empty, lambda store: _weights(store, 1), _rows("weights")),
    Way("put", _some(0), lambda store: _weights(store, 1), _rows("weights")),
    Way("append", _empty, _append, _runs),
    Way("claim", _decidable, _claim, _ledger),
    Way("a later column", _column_later, _execute, _rows("executions")),
    Way("blobs", _empty, lambda store: blobs.put_all(store, DATA), _new_blobs),
    Way("partitions", _some(0), lambda store: _weights(store, 1, "features"), _rows("features")),
    Way("checkpoint of a model", _some(0), lambda store: checkpoints.put(store, ARRAYS, {"a": 1}), _blobs),
    Way("prices and snapshot", _some(0), lambda store: work._learn(store, 1), _rows("snapshots")),
    Way("unfinished work", _empty, lambda store: unfinished.put(store, "key", ARRAYS), _unfinished),
    Way("unfinished again", lambda root: unfinished.put(open_store(root), "key", ARRAYS), _put_later, _unfinished),
    Way("compaction", _crowded, _compact, _rows("weights")),
    Way("vacuum", _compacted_long_ago, _vacuum, _rows("weights")),
    Way("prune", _with_old_blobs, lambda store: (pruning.prune(store, 7), pruning.sweep(store, 7)), _used_blobs),
    Way("merged manifests", _many_manifests, _merging, _rows("weights")),
    Way("checkpoint of a log", _some(0, 1), _checkpoint, _rows("weights")),
    Way("catalog", _with_catalog, catalog.rebuild, _views),
    Way("backup", _some(0, 1), _back_up, _backups),
    Way("report", _empty, _report, _page),
    Way(
        "STORE.json",
        lambda root: root.parent.mkdir(parents=True),
        lambda store: open_store(store.root),
        _identity,
        True,
    ),
)
