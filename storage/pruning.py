"""Pruning: deletes the blobs that nothing refers to any more, and the temporary files of killed writers.

A blob counts as used where its id, or the beginning of it that names a universe, stands anywhere in a table or in a
snapshot's manifest: a blob too many is kept rather than one too few. Nothing goes that is younger than the grace time,
since the row that names a blob is written after it; a writer that finds the blob it wants there makes it young again,
and nothing is deleted at that moment (storage.files). So it is safe beside running flows.
"""

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from storage import blobs, tables
from storage.errors import explained
from storage.schemas import TABLES
from storage.store import Store

_DAY = 86_400  # seconds
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}(\.wal)?|.+#\d+")  # ours and DuckDB's beside it, delta-rs's
_NAMED = re.compile(r"[0-9a-f]{64}")
_BEGUN = re.compile(r"@([0-9a-f]{16})")  # a universe's label
log = logging.getLogger("prism.store")


@dataclass(frozen=True)
class Pruned:
    """What was deleted."""

    blobs: int
    size: int  # bytes


def prune(store: Store, days: int) -> Pruned:
    """Delete the blobs that have been unused for `days` at least, and temporary files among them.

    Raises StoreError, with nothing deleted, where a table or a manifest cannot be read.
    """
    before = time.time() - _DAY * days
    with explained("looking for blobs that nothing refers to"):
        old = [file for file, found in sorted(store.files.entries(store.blobs)) if found.st_mtime < before]
    if not old:
        return Pruned(0, 0)
    used = _used(store)
    unused = [file for file in old if not used & {file.name, file.name[:16]}]
    with explained("deleting blobs that nothing refers to"):
        gone = store.files.clear(unused, before, blobs.lock(store))
    if gone:
        log.info("deleted %d blobs that nothing refers to, %.1f MB", len(gone), sum(gone) / 1e6)
    return Pruned(len(gone), sum(gone))


def sweep(store: Store, days: int) -> int:
    """Delete the temporary files of that age, which a killed writer left anywhere in the store; how many."""
    before = time.time() - _DAY * days
    with explained(f"deleting what killed writers left in {store.root}"):
        left = [place for place, _ in store.files.entries(store.root) if TEMPORARY.fullmatch(place.name)]
        return len(store.files.clear(left, before, blobs.lock(store))) if left else 0


def _used(store: Store) -> set[str]:
    """Ids of blobs, and beginnings of them, that stand in the tables and in the snapshots' manifests."""
    texts = [text for name in TABLES if (store.tables / name).is_dir() for text in _texts(tables.read(store, name))]
    manifests = tables.read(store, "snapshots", ["manifest"])["manifest"].to_pylist()
    texts += [blobs.get(store, blob).decode() for blob in dict.fromkeys(manifests)]
    return {found for text in texts for pattern in (_NAMED, _BEGUN) for found in pattern.findall(text)}


def _texts(rows: pa.Table) -> Iterable[str]:
    """Every text of a table, once a column."""
    for column in rows.columns:
        values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
        if pa.types.is_string(values.type):
            yield from pc.unique(values).drop_null().to_pylist()
