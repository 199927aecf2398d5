"""Content-addressed files: whole or absent, whatever happens while they are written."""

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage import blobs
from storage.errors import StoreError
from storage.files import Folder

ROOT = Path(__file__).parents[2]
WRITER = """
import os, sys
from pathlib import Path
from storage import blobs
from storage.store import open_store
store = open_store(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    blobs.put_all(store, [os.urandom(2_000_000), os.urandom(300)])
"""
# the power fails at the sync, when all bytes are written and none is certain
DYING = """
import os, signal, sys
from pathlib import Path
from storage import blobs
from storage.files import Folder
from storage.store import open_store
Folder.sync = lambda files: os.kill(os.getpid(), signal.SIGKILL)
blobs.put_all(open_store(Path(sys.argv[1])), [b"one", b"two"])
"""


def files(store):
    return [file for file in store.blobs.rglob("*") if file.is_file()]


def test_a_blob_is_read_back_by_the_hash_of_its_bytes(store):
    contents = [b"", b"abc", bytes(range(256)) * 100]
    ids = blobs.put_all(store, contents)
    assert ids == [hashlib.sha256(data).hexdigest() for data in contents]
    assert [blobs.get(store, blob) for blob in ids] == contents
    assert blobs.path(store, ids[1]) == store.root / "blobs" / "sha256" / ids[1][:2] / ids[1]


def test_the_same_bytes_are_one_file_however_often_they_are_kept(store):
    blob = blobs.put(store, b"same")
    written = blobs.path(store, blob).stat().st_ino
    assert blobs.put_all(store, [b"same", b"same"]) == [blob, blob]
    assert blobs.path(store, blob).stat().st_ino == written
    assert len(files(store)) == 1


@pytest.mark.parametrize("damage", [b"", b"the byteS", b"the bytes and more"])
def test_damage_is_found_on_reading_and_healed_by_writing_again(store, damage):
    blob = blobs.put(store, b"the bytes")
    blobs.path(store, blob).write_bytes(damage)
    with pytest.raises(StoreError, match=f"{blob} is damaged"):
        blobs.get(store, blob)
    assert blobs.put(store, b"the bytes") == blob
    assert blobs.get(store, blob) == b"the bytes"


def test_a_missing_blob_is_told_with_the_place_to_restore(store):
    blob = blobs.put(store, b"data")
    blobs.path(store, blob).unlink()
    with pytest.raises(StoreError, match=f"{blob} is missing .* restore .*{blob} from a backup"):
        blobs.get(store, blob)


@pytest.mark.parametrize("step", ["sync", "replace"])
def test_an_error_leaves_nothing_behind_and_the_next_try_succeeds(store, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Folder if step == "sync" else Path, step, full)
        with pytest.raises(StoreError, match="writing 2 blobs: the disk is full"):
            blobs.put_all(store, [b"one", b"two"])
    assert files(store) == []
    assert [blobs.get(store, blob) for blob in blobs.put_all(store, [b"one", b"two"])] == [b"one", b"two"]


def test_a_blob_is_found_by_its_beginning_only_if_it_is_the_only_one(store):
    blob = blobs.put(store, b"data")
    assert blobs.find(store, blob[:8]) == blobs.find(store, blob) == blob
    blobs.path(store, blob).with_name(blob[:-1] + ("0" if blob[-1] != "0" else "1")).write_bytes(b"")
    with pytest.raises(StoreError, match="2 blobs"):
        blobs.find(store, blob[:8])
    with pytest.raises(StoreError, match="0 blobs"):
        blobs.find(store, "0" * 64)


@pytest.mark.parametrize("beginning", ["", "abcdef1", "../../../", "ABCDEF12", "*" * 8, "[0-9a-f]", "abcdef1g"])
def test_what_is_no_beginning_of_an_id_is_refused(store, beginning):
    with pytest.raises(StoreError, match="is no beginning of a blob's id"):
        blobs.find(store, beginning)


def test_a_writer_killed_at_any_moment_leaves_whole_blobs_only(store):
    chance, torn, kills = random.Random(7), 0, 0
    while kills < 6 or (not torn and kills < 60):  # until a kill met a write
        kills += 1
        command = [sys.executable, "-c", WRITER, str(store.root)]
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.01, 0.2))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        torn += sum(file.name.startswith(".") for file in files(store))
    whole = [file for file in files(store) if not file.name.startswith(".")]
    assert whole
    for file in whole:
        assert len(blobs.get(store, file.name)) in (300, 2_000_000)
    assert torn, "no kill met a write; nothing was tested"


def test_no_blob_has_its_name_before_its_bytes_are_on_the_disk(store):
    command = [sys.executable, "-c", DYING, str(store.root)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert len(files(store)) == 2
    assert all(file.name.startswith(".") for file in files(store))
    assert [blobs.get(store, blob) for blob in blobs.put_all(store, [b"one", b"two"])] == [b"one", b"two"]
