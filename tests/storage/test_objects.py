"""A store on S3: what a store in a folder does, without locks, and with answers that get lost."""

import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from deltalake import WriterProperties
from deltalake.exceptions import CommitFailedError

from storage import backups, blobs, catalog, ledger, manifests, objects, pruning, tables, unfinished
from storage.errors import InputError, StoreError
from storage.ledger import Decision
from storage.schemas import TABLES
from storage.store import open_store, place_of
from storage.verification import verify

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from dataclasses import replace
from datetime import date
import pyarrow as pa
from storage import blobs, ledger, tables
from storage.clock import now
from storage.ledger import Decision
from storage.schemas import TABLES
from storage.store import open_store

store, me, many = open_store(), sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for place in range(many):
    row = {"key": f"{me}-{place}", "as_of": date(2024, 4, 30), "strategy": "s", "ticker": "A", "weight": 1.0}
    tables.put(store, "weights", pa.Table.from_pylist([row], TABLES["weights"].schema))
    blobs.put(store, f"{me}-{place}".encode())
    if place % 5 == 0:
        said = dict.fromkeys(TABLES["runs"].columns) | {"run": row["key"], "started_at": now(), "finished_at": now()}
        said |= dict.fromkeys(("command", "scenario", "status", "detail", "stages"), "")
        tables.append(store, "runs", pa.Table.from_pylist([said], TABLES["runs"].schema))
        day = date(2000 + place, 1, 1 + int(me))
        made = Decision("main", day, day, "backfill", None, (row["key"],), "t", {})
        ledger.append(store, [replace(made, content_hash=ledger.content_hashes(store, [made])[0])])
    if place % 10 == 9:
        tables.compact(store, 4)
"""


def weights(key):
    row = {"key": key, "as_of": date(2024, 4, 30), "strategy": "s", "ticker": "A", "weight": 1.0}
    return pa.Table.from_pylist([row], TABLES["weights"].schema)


def keys(store):
    return sorted(tables.read(store, "weights", ["key"])["key"].to_pylist())


def test_an_address_names_a_bucket_and_a_place_in_it():
    place = place_of("s3://prism-data/stores/main/")
    assert (str(place), place.name, place.parent.name) == ("s3://prism-data/stores/main", "main", "stores")
    assert str((place / "tables/weights").relative_to(place)) == "tables/weights"


@pytest.mark.parametrize("place", ["", "bucket", "bucket/", "Bucket/a", "bucket/../a", "bucket/a//b", "bucket/a b"])
def test_what_is_no_such_address_is_refused(place):
    with pytest.raises(InputError, match=r"write s3://BUCKET/NAME"):
        place_of(f"s3://{place}")


def test_keys_are_never_part_of_an_address():
    with pytest.raises(InputError, match=r"write s3://BUCKET/NAME"):
        place_of("s3://key:secret@bucket/a")


def test_a_store_without_keys_is_refused(s3, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_store(s3)


def test_a_storage_without_conditions_is_refused(s3):
    for _ in range(2):
        with pytest.raises(InputError, match="ignores conditions of writes"):
            open_store(s3.replace("prism", "careless"))
    place = place_of(s3.replace("prism", "careless"))
    assert place.files.entries(place) == []


@pytest.mark.parametrize(
    ("bucket", "sentence"),
    [("nowhere", "there is no such bucket; make it"), ("denied", "refuses it; check AWS_")],
)
def test_a_storage_that_refuses_is_told_without_keys(s3, bucket, sentence):
    with pytest.raises(StoreError, match=f"opening the store s3://{bucket}/a: .*{sentence}") as raised:
        open_store(f"s3://{bucket}/a")
    assert "prism-tests" not in f"{raised.value!r} {raised.value.__cause__!r}"


@pytest.mark.parametrize("silent", [False, True])
def test_a_storage_that_is_away_is_told_within_seconds(s3, monkeypatch, silent):
    monkeypatch.setattr(objects, "_ATTEMPTS", 2)
    monkeypatch.setattr(objects, "_ANSWERED_WITHIN", 1)
    monkeypatch.setattr(objects, "_PATIENCE", 2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if silent:  # it takes the connection and says nothing
            server.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(StoreError, match="the object storage does not answer; check AWS_ENDPOINT_URL"):
            open_store(s3)
    assert time.monotonic() - begun < 10


def test_a_store_is_made_once(s3):
    found = {open_store(s3).identity for _ in range(2)}
    assert len(found) == 1
    place_of(s3).files.write(place_of(f"{s3}-other/thesis.txt"), b"mine")
    with pytest.raises(InputError, match="is not empty and is no store"):
        open_store(f"{s3}-other")
    place_of(s3).files.write(place_of(s3) / "STORE.json", b'{"format": 9, "identity": ""}')
    with pytest.raises(InputError, match="says format 9"):
        open_store(s3)


def test_rows_blobs_and_unfinished_work_are_kept(s3):
    store = open_store(s3)
    for key in ("a", "b", "a"):
        tables.put(store, "weights", weights(key))
    assert keys(store) == ["a", "b"]
    ids = blobs.put_all(store, [b"one", b"two", b"one"])
    assert [blobs.get(store, blob) for blob in ids] == [b"one", b"two", b"one"]
    assert blobs.find(store, ids[0][:8]) == ids[0]
    unfinished.put(store, "k" * 20, {"x": np.arange(3.0)})
    assert unfinished.get(store, "k" * 20)["x"].tolist() == [0, 1, 2]
    unfinished.drop(store, "k" * 20)
    assert unfinished.get(store, "k" * 20) is None


def decide(store, place):
    tables.put(store, "weights", weights(f"w{place}"))
    day = date(2024, place, 1)
    made = Decision("main", day, day, "backfill", None, (f"w{place}",), "t", {})
    ledger.append(store, [replace(made, content_hash=ledger.content_hashes(store, [made])[0])])


def test_a_query_sees_what_is_decided_and_reaches_nothing_else(s3, tmp_path):
    store = open_store(s3)
    for place in (1, 2):
        decide(store, place)
    asked = "SELECT rebalance_date, ticker, weight FROM weights ORDER BY ALL"
    rows = catalog.query(store, "main", asked).to_pylist()
    assert [(row["rebalance_date"].month, row["weight"]) for row in rows] == [(1, 1.0), (2, 1.0)]
    assert catalog.rebuild(store) is None
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with catalog.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM bars").fetchone() == (0,)
        for hostile in (f"{tmp_path}/secret.csv", f"{s3}/tables/weights/*.parquet"):
            with pytest.raises(duckdb.Error, match=r"disabled|Permission"):
                connection.execute(f"SELECT * FROM '{hostile}'").fetchall()


@pytest.mark.long
def test_a_backup_is_a_folder_and_is_restored_to_either(s3, tmp_path):
    store = open_store(s3)
    decide(store, 1)
    lost = blobs.put(store, b"partition")
    with pytest.raises(InputError, match="name a folder for backups"):
        backups.take(store)
    with pytest.raises(InputError, match="holds no store; name the folder of a backup"):
        backups.restore(tmp_path, place_of(tmp_path / "again"))
    copy = backups.take(store, tmp_path)
    assert open_store(copy).identity == store.identity
    for place in (place_of(tmp_path / "again"), place_of(f"{s3}-again")):
        backups.restore(copy, place)
        restored = open_store(place)
        assert (keys(restored), blobs.get(restored, lost)) == (["w1"], b"partition")
        tables.put(restored, "weights", weights("later"))
        with pytest.raises(InputError, match="is not empty"):
            backups.restore(copy, place)
    blobs.path(store, lost).unlink()
    assert verify(store.root, deep=True).is_whole, "nothing names it"


@pytest.mark.long
@pytest.mark.parametrize(
    "part", ["tables/weights/part-*", "manifests/weights/[0-9a-f]*", "tables/decisions/_delta_log/*1.json"]
)
@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_damage_is_found(s3, part, damage):
    store = open_store(s3)
    decide(store, 1)
    folder, _, pattern = part.rpartition("/")
    file = next((store.root / folder).glob(pattern))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "flip":
        store.files.write(file, bytes(content))
    else:
        file.unlink()
    assert file.relative_to(store.root).as_posix() in {entry.place for entry in verify(store.root, deep=True).damage}


def test_a_damaged_blob_is_found(s3):
    store = open_store(s3)
    blob = blobs.put(store, b"content")
    store.files.write(blobs.path(store, blob), b"c0ntent")
    (found,) = verify(store.root).damage
    assert found.place == f"blobs/sha256/{blob[:2]}/{blob}"
    with pytest.raises(StoreError, match="is damaged"):
        blobs.get(store, blob)


def test_of_two_writers_of_manifests_one_looks_again(s3, monkeypatch):
    store = open_store(s3)
    tables.put(store, "weights", weights("a"))
    look, others = manifests._update, ["b", "c"]

    def interrupted(*place):
        update = look(*place)
        if others:
            tables.put(store, "weights", weights(others.pop()))
        return update

    monkeypatch.setattr(manifests, "_update", interrupted)
    tables.put(store, "weights", weights("d"))
    assert manifests.newest(store, "weights").version == 4
    found = verify(store.root, deep=True)
    assert (found.damage, found.notes) == ([], [])


@pytest.mark.long
def test_manifests_are_merged(s3, monkeypatch):
    monkeypatch.setattr(manifests, "_MANY", 3)
    store = open_store(s3)
    for key in "abcdef":
        tables.put(store, "weights", weights(key))
    assert len(list(manifests.folder_of(store, "weights").iterdir())) <= 4
    assert verify(store.root, deep=True).is_whole


def test_pruning_leaves_what_is_used_and_what_is_young(s3, monkeypatch):
    store = open_store(s3)
    used, lost = blobs.put_all(store, [b"used", b"lost"])
    row = {"key": "f", "month": "2024-04", "as_of": date(2024, 4, 30), "names": ["x"], "rows": 1, "blob": used}
    tables.put(store, "features", pa.Table.from_pylist([row], TABLES["features"].schema))
    assert pruning.prune(store, 1).blobs == 0
    monkeypatch.setattr(pruning.time, "time", lambda: datetime.now().timestamp() + 3 * 86_400)
    assert pruning.prune(store, 1).blobs == 1
    assert blobs.get(store, used) == b"used"
    assert not blobs.path(store, lost).exists()
    assert store.files.entries(blobs.lock(store)) == []


def test_a_blob_that_is_wanted_while_others_delete_is_written_again(s3):
    store = open_store(s3)
    blob = blobs.put(store, b"wanted")
    guard = blobs.lock(store) / "of-another-process"
    store.files.write(guard, b"")
    work = threading.Thread(target=blobs.put, args=(store, b"wanted"))
    work.start()
    time.sleep(0.3)
    blobs.path(store, blob).unlink()  # as it was old when the other one looked
    assert work.is_alive()
    guard.unlink()
    work.join(10)
    assert blobs.get(store, blob) == b"wanted"


def test_a_guard_that_was_left_by_a_kill_holds_nobody_up(s3, monkeypatch):
    store = open_store(s3)
    store.files.write(blobs.lock(store) / "of-a-killed-process", b"")
    monkeypatch.setattr(objects, "_GUARDED", 0.1)
    blobs.put(store, b"data")
    assert store.files.entries(blobs.lock(store)) == []


def test_of_two_that_compact_the_same_files_one_is_refused(s3):
    store = open_store(s3)
    for key in "abcd":
        tables.put(store, "weights", weights(key))
    both = [tables.open_table(store, "weights") for _ in range(2)]
    tables.compact(store, 2)
    assert len(tables.open_table(store, "weights").file_uris()) == 1
    for table in both:
        with pytest.raises(CommitFailedError):
            store.files.compact(table, store.tables / "weights", WriterProperties())
    assert keys(store) == list("abcd")


def test_what_is_written_while_a_table_is_compacted_stays(s3):
    store = open_store(s3)
    for key in "abcd":
        tables.put(store, "weights", weights(key))
    before = tables.open_table(store, "weights")
    tables.put(store, "weights", weights("e"))
    store.files.compact(before, store.tables / "weights", WriterProperties())
    assert keys(store) == list("abcde")


def test_a_claim_whose_answer_was_lost_counts_once(s3, monkeypatch):
    store = open_store(s3)
    decide(store, 1)
    commit = tables.DeltaTable.merge
    failed = []

    def lost(table, *values, **named):
        merge = commit(table, *values, **named)
        if not failed:
            failed.append(merge.when_not_matched_insert_all().execute())
            raise CommitFailedError("the answer was lost, and the second request refused")
        return merge

    monkeypatch.setattr(tables.DeltaTable, "merge", lost)
    decide(store, 2)
    assert [entry.rebalance_date.month for entry in ledger.read(store, "main")] == [1, 2]
    assert ledger.broken(store, "main") is None


@pytest.mark.long
def test_processes_that_commit_at_once_lose_nothing_though_answers_fail(object_storage, monkeypatch):
    """50 commits each; 5 % of all answers are errors, half of them after the work was done."""
    with object_storage(0.05, 7) as environment:
        monkeypatch.setenv("PRISM_STORE", "s3://prism/busy")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-c", WRITER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
        writers = [subprocess.Popen([*command, str(me), "50"], **pipes) for me in range(4)]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
        for writer in writers:
            writer.communicate(timeout=1500)
            assert writer.returncode == 0
        store = open_store()
        assert keys(store) == sorted(f"{me}-{place}" for me in range(4) for place in range(50))
        appended = sorted(tables.read(store, "runs")["run"].to_pylist())
        assert appended == sorted(f"{me}-{place}" for me in range(4) for place in range(0, 50, 5))
        chain = ledger.read(store, "main")
        assert len(chain) == len({entry.rebalance_date for entry in chain}) == 40
        assert ledger.broken(store, "main") is None
        assert len(store.files.entries(store.blobs)) == 200
        assert verify(store.root, deep=True).damage == []
