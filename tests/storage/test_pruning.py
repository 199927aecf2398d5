"""Pruning: what is used stays, what is young stays, what a writer wants at that moment stays."""

import os
import threading
import time
from datetime import date

import pyarrow as pa
import pytest

from storage import blobs, pruning, tables
from storage.errors import StoreError
from storage.locks import locked
from storage.schemas import TABLES
from storage.verification import verify

OLD = time.time() - 30 * 86_400


def aged(store, data):
    blob = blobs.put(store, data)
    os.utime(blobs.path(store, blob), (OLD, OLD))
    return blob


def named_by_a_row(store, blob):
    row = {"key": "f", "month": "2024-04", "as_of": date(2024, 4, 30), "names": ["x"], "rows": 1, "blob": blob}
    tables.put(store, "features", pa.Table.from_pylist([row], TABLES["features"].schema))


def there(store, blob):
    return blobs.path(store, blob).exists()


def test_what_nothing_names_goes_and_what_is_used_or_young_stays(store):
    used, lost, young = aged(store, b"used"), aged(store, b"lost"), blobs.put(store, b"young")
    named_by_a_row(store, used)
    left = blobs.path(store, lost).with_name(".abcd.left-by-a-kill")
    left.write_bytes(b"half")
    os.utime(left, (OLD, OLD))
    found = pruning.prune(store, 7)
    assert (found.blobs, found.size) == (2, 8)
    assert [there(store, blob) for blob in (used, lost, young)] == [True, False, True]
    assert not left.exists()
    assert pruning.prune(store, 7).blobs == 0


def test_a_universe_named_by_the_beginning_of_its_id_is_used(store):
    blob = aged(store, b"{}")
    row = {"scenario": "s", "position": 0, "valid_from": date(2024, 1, 1), "dataset": "d", "universe": "0" * 64}
    row |= {"parameters": f'{{"universe":"mine@{blob[:16]}"}}', "reason": None, "created_at": pa.scalar(0).as_py()}
    tables.append(store, "scenarios", pa.Table.from_pylist([row], TABLES["scenarios"].schema))
    assert pruning.prune(store, 7).blobs == 0
    assert there(store, blob)


def test_a_blob_that_is_wanted_again_before_its_row_is_there_stays(store):
    blob = aged(store, b"again")
    assert blobs.put(store, b"again") == blob
    assert pruning.prune(store, 7).blobs == 0
    assert blobs.get(store, blob) == b"again"


def test_deleting_waits_for_a_writer_and_then_sees_what_it_wanted(store, monkeypatch):
    blob, started = aged(store, b"meanwhile"), threading.Event()
    looked = pruning._used
    monkeypatch.setattr(pruning, "_used", lambda place: looked(place) if not started.set() else None)
    with locked(blobs.lock(store), shared=True):
        work = threading.Thread(target=pruning.prune, args=(store, 7))
        work.start()
        assert started.wait(10)
        blobs.put(store, b"meanwhile")  # writers share the lock
        assert there(store, blob)
    work.join(10)
    assert there(store, blob)


def test_nothing_goes_where_a_table_cannot_be_read(store):
    lost = aged(store, b"lost")
    named_by_a_row(store, aged(store, b"used"))
    next((store.tables / "features").glob("*.parquet")).write_bytes(b"damaged")
    with pytest.raises(StoreError):
        pruning.prune(store, 7)
    assert there(store, lost)


def test_what_killed_writers_left_anywhere_goes_when_it_is_old(store):
    named_by_a_row(store, blobs.put(store, b"used"))
    left = [f".catalog.{'0' * 32}", f".catalog.{'0' * 32}.wal", f"manifests/features/.newest.json.{'1' * 32}"]
    left += ["tables/features/part-0.parquet#1", f"tables/features/_delta_log/{9:020}.json#12"]
    there = {file for file in store.root.rglob("*") if file.is_file()}
    for name in left:
        (store.root / name).write_bytes(b"half")
    assert pruning.sweep(store, 7) == 0, "their writers may be at work"
    for file in store.root.rglob("*"):
        os.utime(file, (OLD, OLD))
    assert pruning.sweep(store, 7) == len(left)
    assert {file for file in store.root.rglob("*") if file.is_file()} == there


def test_a_data_file_that_no_commit_ever_named_goes_when_it_is_old(store):
    named_by_a_row(store, blobs.put(store, b"used"))
    whole = next((store.tables / "features").glob("*.parquet"))
    orphan = whole.with_name("part-00000-of-a-killed-writer.parquet")
    orphan.write_bytes(whole.read_bytes())
    assert tables.vacuum(store, 7) == 0
    for file in (orphan, whole):
        os.utime(file, (OLD, OLD))
    assert tables.vacuum(store, 7) == 1
    assert (orphan.exists(), whole.exists()) == (False, True)
    assert verify(store.root, deep=True).is_whole
