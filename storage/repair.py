"""Repair: a damaged store made usable again without a backup, as far as that can be.

What is damaged is kept, moved to `damaged/<moment>/` inside the store. A table is written anew from its data files,
which its log lists, or its manifests where the log is damaged: then nothing of it is lost. Where data files or blobs
are lost, it depends on what they held. What is computed is forgotten, so that the next run computes it again; a month
of a snapshot is made again from the bars; of what a source or a person brought the rest stays, and what is gone must
be brought again. Of the ledger nothing is ever guessed: where rows of it are lost, it is left as it is.

No run may be at work on the store meanwhile.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from storage import bars, blobs, clock, commits, ledger, manifests, snapshots, tables
from storage.commits import LOG, Manifest
from storage.damage import RESTORE, Finding
from storage.errors import InputError, StoreError, explained
from storage.files import Place, exchange
from storage.keys import to_json
from storage.schemas import TABLES
from storage.store import Store, open_store
from storage.verification import BLOBS, UNFINISHED, verify

LEARNED = ("bars", "snapshots", "actions", "instruments", "restatements", "ingests", "quality", "own_forecasts")
RECORDED = ("scenarios", "decisions", "holdings", "live", "trials", "leak_checks", "runs")
_POINTERS = ("backtests", "portfolios")  # of the newest results: without one of their rows the others say nothing
_COMPUTED = ("features", "predictions", "models")  # name blobs that can be computed again
# by table whose rows say that an answer is there: the other tables that hold a part of it
_PARTS = {
    "allocations": ("weights", "carried"),
    "metrics": ("executions", "wealth", "singles", "exposures", "against", "contributions", "periods", "comparisons"),
    "portfolio_forecasts": ("portfolio_judgements",),
}


@dataclass
class Mended:
    """What a repair did, and what it could not do."""

    aside: Path | None = None  # where what was damaged lies now
    done: list[str] = field(default_factory=list)
    lost: list[Finding] = field(default_factory=list)  # what a backup or its source must bring


def mend(root: Place) -> Mended:
    """Make the store at `root` usable again; what it lacks then is computed by the next runs, or is named.

    Raises:
        InputError: the store is in a bucket, which keeps no damage aside.
        StoreError: its marker is damaged, or the disk refuses what is written.

    """
    if not isinstance(root, Path):
        raise InputError(f"the store {root} is in no folder; restore the damaged files from a backup of it")
    store, mended, ready = open_store(root), Mended(), sorted(root.glob(UNFINISHED))
    for note in ready:
        with explained(f"completing the repair of table {note.stem}"):
            _put_in_place(store, note)
    places = [entry.place for entry in verify(root, deep=True).damage]
    if not places:
        return mended
    only_unfinished = len(places) == len(ready)
    mended.aside = ready[0].parent if only_unfinished else root / "damaged" / f"{clock.now():%Y-%m-%dT%H-%M-%S.%f}"
    with explained(f"repairing the store {root}", *tables._DAMAGE):
        for name in TABLES:
            inside = {place for place in places if place.startswith((f"tables/{name}/", f"manifests/{name}/"))}
            if inside:
                _mend_table(store, name, inside, mended)
        ready = sorted(root.glob(UNFINISHED))
        for note in ready:
            _follow(store, note, mended)
        _mend_blobs(store, [place for place in places if place.startswith("blobs/")], mended)
        _forget_results(store, mended)
        store.sync()
        for note in ready:
            note.unlink()
        for left in root.glob("damaged/*/new"):  # of interrupted repairs, too
            shutil.rmtree(left, ignore_errors=True)
    return mended


def _mend_table(store: Store, name: str, damaged: set[str], mended: Mended) -> None:
    """Write a table anew from the data files that are as they were written."""
    live = _live(store, name, damaged)
    if live is None:
        mended.lost.append(Finding(f"tables/{name}", "has a damaged log and damaged manifests", RESTORE))
        return
    place = store.tables / name
    gone = [path for path in live if f"tables/{name}/{path}" in damaged or not (place / path).exists()]
    if gone and name in RECORDED:
        mended.lost.append(
            Finding(f"tables/{name}/{gone[0]}", "is a part of the record that nothing else has", RESTORE)
        )
        return
    whole = [] if gone and name in _POINTERS else [place / path for path in live if path not in gone]
    done = f"table {name}: written anew from {len(whole)} of {len(live)} data files"
    _write_anew(store, name, whole, mended.aside, {"done": done, "gone": len(gone)})


def _follow(store: Store, note: Path, mended: Mended) -> None:
    """What follows from a table that was written anew, by a repair that was interrupted perhaps."""
    name, said = note.stem, json.loads(note.read_bytes())
    mended.done.append(said["done"])
    if said["gone"] and name in LEARNED:
        lost = f"lost {said['gone']} data files of what was learned"
        mended.lost.append(Finding(f"tables/{name}", lost, "bring it again with `prism ingest`, or restore a backup"))
    for marker, parts in _PARTS.items() if said["gone"] else ():
        if name in parts:
            _forget_incomplete(store, marker, name)


def _live(store: Store, name: str, damaged: Collection[str]) -> list[str] | None:
    """The data files of the table's newest version; None where neither its log nor its manifests can be trusted."""
    place = store.tables / name
    if not any(path.startswith(f"tables/{name}/{LOG}") for path in damaged) and commits.versions(place):
        return sorted(commits.live_files(DeltaTable(place)))
    if any(path.startswith(f"manifests/{name}/") for path in damaged):
        return None
    known = manifests.newest(store, name)
    if known is None or known.version < 0:  # never listed: only where it holds no row is that all there is to know
        return None if any(place.glob("*.parquet")) else []
    listed = Manifest(name)
    for entry in known.manifests:
        listed.update(manifests.read(store, name, entry) or Manifest(name))
    version = known.version + 1
    while (place / commits.commit_path(version)).exists():  # one that was never reported as written may be torn
        try:
            listed.update(commits.of_version(place, name, version))
        except (ValueError, KeyError, TypeError):
            break
        version += 1
    return sorted(path for path in listed.files if not path.startswith(LOG) and path not in listed.removed)


def _write_anew(store: Store, name: str, files: Iterable[Path], aside: Path, said: dict[str, Any]) -> None:
    """Put a table with the rows of these files in place of the one that is there, which is kept aside.

    What is said of it lies there until the repair is done, so that one that goes on knows it.
    """
    new, schema = Store(aside / "new", store.identity), TABLES[name].schema
    new.tables.mkdir(parents=True, exist_ok=True)
    shutil.copy2(store.root / "STORE.json", new.root)
    rows = [pq.read_table(file, partitioning=None) for file in files]
    DeltaTable.create(new.tables / name, schema=schema, description=aside.name)
    if rows:
        write_deltalake(
            new.tables / name, pa.concat_tables([_in_columns(part, schema) for part in rows]), mode="append"
        )
    manifests.add(new, name)
    store.sync()
    note = aside / f"{name}.ready"
    store.files.write(note, to_json(said).encode())
    _put_in_place(store, note)


def _put_in_place(store: Store, note: Path) -> None:
    """Let a table that is written and its manifests take their places; goes on where it was interrupted."""
    aside, name = note.parent, note.stem
    target, written = store.tables / name, aside / "new" / "tables" / name
    if written.exists() and not _is_of(target, aside.name):
        exchange(written, target) if target.exists() else written.rename(target)
    if not (aside / "manifests" / name).exists():
        _move(manifests.folder_of(store, name), aside / "manifests" / name)
    _move(aside / "new" / "manifests" / name, manifests.folder_of(store, name))
    _move(written, aside / "tables" / name)


def _is_of(table: Path, moment: str) -> bool:
    """Whether a table was written by the repair of that moment."""
    first = table / commits.commit_path(0)
    return first.exists() and moment.encode() in first.read_bytes()


def _in_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows in the table's columns; those that came after the rows are empty."""
    there = [
        rows[field.name] if field.name in rows.column_names else pa.nulls(len(rows), field.type) for field in schema
    ]
    return pa.table(there, names=schema.names).cast(schema)


def _move(place: Path, target: Path) -> None:
    if place.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        place.rename(target)


def _mend_blobs(store: Store, places: list[str], mended: Mended) -> None:
    """Move damaged blobs aside, make again what can be, and forget the rows that name what can be computed."""
    lost = set()
    for place in places:
        _move(store.root / place, mended.aside / place)
        lost.add(Path(place).name)
    if not lost:
        return
    again = lost & set(blobs.put_all(store, list(_snapshots_anew(store, lost))))
    if again:
        mended.done.append(f"{len(again)} months of snapshots: made again from the bars")
    for name, column in BLOBS.items():
        named = [row for row in _rows(store, name) if row[column] in lost - again]
        if named and name in _COMPUTED:
            tables.forget(store, name, [row["key"] for row in named])
            mended.done.append(
                f"table {name}: {len(named)} answers whose files are lost are computed again when needed"
            )
        elif named:
            blob = blobs.path(store, named[0][column]).relative_to(store.root).as_posix()
            mended.lost.append(Finding(blob, f"is lost, and table {name} names it", RESTORE))


def _snapshots_anew(store: Store, lost: Collection[str]) -> Iterable[bytes]:
    """The months and manifests of snapshots as the bars make them again, where they are those that are lost."""
    for row in _rows(store, "snapshots"):
        snapshot = snapshots.Snapshot(**{name: row[name] for name in snapshots.Snapshot.__dataclass_fields__})
        known = bars.latest(store, snapshot.dataset, snapshot.known_at)
        months, manifest, _ = snapshots.contents(snapshot.dataset, known)
        yield from (data for data in (*months, manifest) if hashlib.sha256(data).hexdigest() in lost)


def _rows(store: Store, name: str) -> list[dict[str, Any]]:
    """The rows of a table; none where it is not there, or could not be mended."""
    if not (store.tables / name).is_dir():
        return []
    try:
        return tables.read(store, name).to_pylist()
    except StoreError:
        return []


def _forget_incomplete(store: Store, marker: str, part: str) -> None:
    """Forget the answers of which a part is lost: those without a row of it, or all where that cannot be told."""
    keys = {row["key"] for row in _rows(store, marker)}
    complete = {row["key"] for row in _rows(store, part)} if part == "weights" else set()
    tables.forget(store, marker, sorted(keys - complete))


def _forget_results(store: Store, mended: Mended) -> None:
    """Forget the results that are not those that were decided, so that they are computed again."""
    if {entry.place.split("/")[1] for entry in mended.lost} & {"decisions", *ledger.RESULTS}:
        return  # rows cannot be compared while their table is damaged
    names = {row["scenario"] for row in _rows(store, "decisions")}
    unlike = [found for name in sorted(names) for found, _ in ledger.unlike(store, ledger.read(store, name))]
    keys: dict[str, set[str]] = {}
    for decision in unlike:
        for name, wanted in ledger.result_keys(decision).items():
            keys.setdefault(name, set()).update(wanted)
    if keys:
        keys["allocations"] = keys["weights"]
        for name, wanted in keys.items():
            tables.forget(store, name, sorted(wanted))
        mended.done.append(f"the results of {len(unlike)} decisions: forgotten, to be computed again")
