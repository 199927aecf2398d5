"""The ways in which a store is mended, brought to another format and restored, to be disturbed like any other.

A store that is being mended is damaged until it is whole: that is its old state. One that is brought to another format
is changed in a copy, so the one that was there is whole all the time, wherever it lies.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa

from storage import backups, blobs, manifests, migrations, repair, snapshots, tables, verification
from storage.schemas import TABLES
from storage.store import MARKER, Store, open_store, replace_marker
from tests.torture import work
from tests.torture.paths import State, Way

DECIDED, UNDECIDED = 0, 1  # jobs
STEP = "reports/migrated.txt"


def _written(root: Path, *names: str) -> Store:
    """A store with what a job wrote into some tables."""
    store = open_store(root)
    for name in names:
        work.WRITERS[name](store, DECIDED)
    return store


def _with_damaged_log(root: Path) -> None:
    store = _written(root, "features", "weights")
    work.WRITERS["weights"](store, UNDECIDED)
    (store.tables / "weights" / "_delta_log" / f"{1:020}.json").write_bytes(b"")


def _with_lost_rows(root: Path) -> None:
    """Without the weights of a decision, and without those of an answer that nobody has decided on."""
    store = _written(root, "forecasts", "weights", "trades")
    work._decide(store, DECIDED)
    work.WRITERS["weights"](store, UNDECIDED)
    row = {"key": work.key_of("weights", UNDECIDED), "as_of": work.day_of(UNDECIDED), "strategy": "one"}
    rows = pa.Table.from_pylist([row | {"diagnostics": "{}"}], TABLES["allocations"].schema)
    tables.put(store, "allocations", rows)
    for file in (store.tables / "weights").glob("*.parquet"):
        file.unlink()


def _without_learned(root: Path) -> None:
    store = open_store(root)
    for number in (0, 1):
        work._learn(store, number)
    next((store.tables / "bars").glob("*.parquet")).write_bytes(b"rotten")


def _without_blobs(root: Path) -> None:
    store = _written(root, "features")
    work._learn(store, DECIDED)
    month = next(iter(snapshots.manifest(store, snapshots.newest(store, f"prices-{DECIDED}")).values()))["blob"]
    blobs.path(store, month).write_bytes(b"rotten")
    blobs.path(store, tables.read(store, "features", ["blob"])["blob"][0].as_py()).unlink()


def _mended(store: Store) -> State:
    """Every row, once nothing is damaged any more."""
    verification._LOOKS = 1
    return "damaged" if verification.verify(store.root, deep=True).damage else work.content(store)


def _mend(store: Store) -> None:
    verification._LOOKS = 1
    repair.mend(store.root)


def _mend_and_run(store: Store) -> None:
    """Mend, and compute again what is decided and was forgotten."""
    _mend(store)
    for name in ("forecasts", "weights", "trades"):
        if not tables.existing(store, name, [work.key_of(name, DECIDED)]):
            work.WRITERS[name](store, DECIDED)


def _earlier_format(root: Path) -> None:
    store = _written(root, "features", "weights")
    replace_marker(root, 0)
    manifests.mark_again(store)


def _step(place: Path) -> None:
    (place / STEP).parent.mkdir(exist_ok=True)
    (place / STEP).write_text("done")


def _migrate(store: Store) -> None:
    verification._LOOKS = 1
    migrations.STEPS[0] = _step
    migrations.migrate(store.root)
    assert store.root.with_name("store.format-0").is_dir(), "the store as it was has its own name in the end"


def _format(root: Path) -> int | None:
    return json.loads((root / MARKER).read_bytes())["format"] if (root / MARKER).exists() else None


def _migrated(store: Store) -> State:
    """What readers see, and the bytes of the store as it was, wherever it lies."""
    names = ("store", "store.format-0", "store.migrating")
    earlier = next(place for place in map(store.root.with_name, names) if _format(place) == 0)
    files = {place: earlier / place for place in migrations._files(earlier)}
    kept = {place.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for place, file in files.items()}
    seen = Store(store.root, "", read_only=True)
    return {"format": _format(store.root), "rows": work.content(seen), "earlier": kept}


def _backed_up(root: Path) -> None:
    backups.take(_written(root, "features", "weights"), root.parent / "backups")
    shutil.rmtree(root)


def _restore(store: Store) -> None:
    verification._LOOKS = 1
    if not (store.root / MARKER).exists():
        backups.restore(next((store.root.parent / "backups").iterdir()), store.root)


def _restored(store: Store) -> State:
    """A store, or none."""
    return work.content(open_store(store.root)) if (store.root / MARKER).exists() else None


WAYS = (
    Way("repair of a log", _with_damaged_log, _mend, _mended),
    Way("repair of lost rows", _with_lost_rows, _mend_and_run, _mended),
    Way("repair of what was learned", _without_learned, _mend, _mended),
    Way("repair of blobs", _without_blobs, _mend, _mended),
    Way("migration", _earlier_format, _migrate, _migrated, opens=True),
    Way("restore", _backed_up, _restore, _restored, opens=True),
)
