"""Backups: whole and verified or absent, taken while others write, and readable as a store."""

import os
import shutil
import threading
import time
from datetime import date

import pyarrow as pa
import pytest

from storage import backups, blobs, tables
from storage.errors import InputError, StoreError
from storage.schemas import TABLES
from storage.store import open_store
from storage.verification import verify

DAY = date(2024, 4, 30)


def write(store, place):
    """A partition's blob, then the row that names it; many versions, a checkpoint now and then."""
    blob = blobs.put(store, f"partition {place}".encode())
    row = {"key": f"f{place}", "month": "2024-04", "as_of": DAY, "names": ["x"], "rows": 1, "blob": blob}
    tables.put(store, "features", pa.Table.from_pylist([row], TABLES["features"].schema))
    weight = {"key": f"w{place}", "as_of": DAY, "strategy": "s", "ticker": "A", "weight": 1.0}
    tables.put(store, "weights", pa.Table.from_pylist([weight], TABLES["weights"].schema))


def keys(store):
    return {name: set(tables.read(store, name, ["key"])["key"].to_pylist()) for name in ("features", "weights")}


def test_a_copy_is_a_store_with_the_same_rows_and_blobs(store, tmp_path):
    for place in range(3):
        write(store, place)
    copy = backups.take(store, tmp_path / "backups")
    assert verify(copy, deep=True).damage == []
    restored = open_store(copy)
    assert restored.identity == store.identity
    assert keys(restored) == keys(store)
    write(restored, 9)  # it can be worked with
    assert verify(copy, deep=True).damage == []
    assert keys(store)["weights"] == {"w0", "w1", "w2"}


def test_a_copy_taken_while_others_write_holds_one_moment(store, tmp_path):
    stop, written = threading.Event(), []

    def work():
        place = 0
        while not stop.is_set():
            write(store, place)
            written.append(place)
            if place % 4 == 3:
                tables.compact(store, 2)
                tables.open_table(store, "weights").create_checkpoint()
            place += 1

    write(store, "first")
    worker = threading.Thread(target=work)
    worker.start()
    try:
        copies = [backups.take(store, tmp_path / name) for name in ("a", "b")]
    finally:
        stop.set()
        worker.join()
    assert len(written) > 2
    for copy in copies:
        found = verify(copy, deep=True)
        assert found.damage == []
        known = keys(open_store(copy))
        # weights are filled after features, and copied before them
        assert {f"f{key[1:]}" for key in known["weights"]} <= known["features"]


def test_a_damaged_store_gives_no_copy(store, tmp_path):
    write(store, 0)
    blobs.path(store, blobs.put(store, b"partition 0")).write_bytes(b"rotten")
    with pytest.raises(StoreError, match=r"the copy of .* is not whole: blobs/"):
        backups.take(store, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing(store, tmp_path, monkeypatch):
    write(store, 0)
    monkeypatch.setattr(shutil, "copy2", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(StoreError, match="the disk is full"):
        backups.take(store, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_backup_inside_the_store_is_refused(store):
    with pytest.raises(InputError, match="would lie inside the store"):
        backups.take(store, store.root / "backups")


def test_a_copy_that_a_kill_left_half_is_deleted_a_day_later_by_the_next(store, tmp_path):
    write(store, 0)
    folder = tmp_path / "backups"
    for name, days in (("old", 2), ("young", 0)):
        left = folder / f".store-{name}"
        left.mkdir(parents=True)
        (left / "half").write_bytes(b"half")
        then = time.time() - 86_400 * days
        os.utime(left, (then, then))
    copy = backups.take(store, folder)
    assert {entry.name for entry in folder.iterdir()} == {copy.name, ".store-young"}


def test_a_restore_that_was_interrupted_is_no_store_and_goes_on(store, tmp_path):
    write(store, 0)
    copy, place = backups.take(store, tmp_path / "backups"), tmp_path / "restored"
    backups.restore(copy, place)
    (place / "STORE.json").unlink()  # as it is a moment before the end
    (place / "tables" / f".half.{'0' * 32}").write_text("half")
    with pytest.raises(InputError, match=r"holds files of a store but no STORE\.json; restore that, or begin"):
        open_store(place)
    assert not (place / "STORE.json").exists()
    backups.restore(copy, place)
    assert keys(open_store(place)) == keys(store)
