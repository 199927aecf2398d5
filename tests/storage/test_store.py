"""Opening a store: what is refused, who wins a race, and how failures of the disk are told."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from storage import blobs, catalog, tables
from storage.errors import InputError, StoreError, explained
from storage.schemas import TABLES
from storage.store import FORMAT, open_store
from storage.verification import verify

ROOT = Path(__file__).parents[2]
OPENING = """
import sys
from pathlib import Path
from storage.store import open_store
print("ready", flush=True)
sys.stdin.readline()
print(open_store(Path(sys.argv[1])).identity)
"""
UNPRIVILEGED = """
import os, sys
from pathlib import Path
from storage import blobs
from storage.errors import StoreError
from storage.store import open_store
if not os.geteuid():  # root passes every check of rights
    os.setegid(65534)
    os.seteuid(65534)
try:
    if sys.argv[2] == "open":
        open_store(Path(sys.argv[1]) / "new")
    blobs.put(open_store(Path(sys.argv[1])), b"data")
except StoreError as error:
    print(error)
"""


def weights(key, rows=2):
    shared = {"key": key, "as_of": date(2024, 4, 30), "strategy": "equal_weight"}
    found = [{**shared, "ticker": f"T{i:04}", "weight": 1 / rows} for i in range(rows)]
    return pa.Table.from_pylist(found, TABLES["weights"].schema)


def test_a_store_keeps_its_identity_when_it_is_opened_again(tmp_path):
    made = open_store(tmp_path / "a" / "store")
    assert open_store(tmp_path / "a" / "store") == made
    assert open_store(tmp_path / "b").identity != made.identity
    assert sorted(entry.name for entry in made.root.iterdir()) == ["STORE.json", "blobs", "tables"]


def test_an_unknown_format_is_refused_with_both_numbers(store):
    marker = store.root / "STORE.json"
    marker.write_text(json.dumps({"format": FORMAT + 6, "identity": store.identity}))
    with pytest.raises(InputError, match=f"format {FORMAT + 6}, this version reads {FORMAT}"):
        open_store(store.root)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"identity": "x"}', "\0\0\0"])
def test_a_damaged_marker_is_never_taken_for_a_new_store(store, text):
    (store.root / "STORE.json").write_text(text)
    with pytest.raises(StoreError, match="is damaged"):
        open_store(store.root)
    assert (store.root / "STORE.json").read_text() == text


def test_a_folder_with_other_things_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and is no store"):
        open_store(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_creation_that_was_interrupted_is_completed(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / ".STORE.0123").write_text("{")
    assert open_store(tmp_path) == open_store(tmp_path)


@pytest.mark.parametrize("root", ["gs://bucket", "https://host/x", "s3:/bucket/prism", "file:///tmp/x"])
def test_an_address_is_no_folder(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in (root, Path(root)):
        with pytest.raises(InputError, match="is neither a local folder nor s3://BUCKET/NAME"):
            open_store(given)
    monkeypatch.setenv("PRISM_STORE", root)
    with pytest.raises(InputError, match="is neither a local folder nor s3://BUCKET/NAME"):
        open_store()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a%20b", "a?b", "a#b", "a*b", "a[b]", "a\nb", "a\\b"])
def test_a_path_that_delta_or_duckdb_would_read_otherwise_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="holds one of"):
        open_store(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["it's a b", "日本", "a{b,c}~$HOME", 'a;&"b'])
def test_every_other_path_serves_tables_and_the_catalog(tmp_path, name):
    made = open_store(tmp_path / name)
    tables.put(made, "weights", weights("k"))
    assert tables.read(made, "weights").num_rows == 2
    assert catalog.query(made, "main", "SELECT count(*) AS n FROM raw.weights").to_pylist() == [{"n": 2}]
    assert catalog.rebuild(made).exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_processes_that_make_a_store_at_once_end_with_one_identity(tmp_path):
    command = [sys.executable, "-c", OPENING, str(tmp_path / "store")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    workers = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    found = {worker.communicate(timeout=240)[0].strip() for worker in workers}
    assert found == {open_store(tmp_path / "store").identity}
    assert not list((tmp_path / "store").glob(".STORE*"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "x"), "acting: the disk is full; free space"),
        (OSError(errno.ENOSPC, "x", "/s/a"), r"acting: the disk is full \(/s/a\); free space"),
        (OSError(errno.ENOSPC, "x", "/from", None, "/to"), r"acting: the disk is full \(/to\); free space"),
        (OSError(errno.EROFS, "x"), "acting: the file system is read-only; mount it writable"),
        (OSError(errno.EACCES, "x"), "acting: the permission is denied; check the owner"),
        (OSError(errno.EPERM, "x"), "acting: the file system refuses it; use a file system with hard links"),
        (OSError(errno.EIO, "x", "/s/a"), r"acting: the disk fails \(input/output error\) \(/s/a\); look at the disk"),
        (OSError(errno.EMFILE, "x"), r"acting: too many files are open; raise the limit \(ulimit -n\)"),
        (OSError(errno.EDQUOT, "x"), "acting: the quota is used up; free space"),
        (OSError(errno.ENOTDIR, "bad place"), "acting: .*bad place.*restore the store from a backup"),
        (
            OSError("Generic error\n  \x1b[31m↳\x1b[0m at rename\n   \x1b[31m↳\x1b[0m odd\n"),
            "acting: .* error: at rename: odd;",
        ),
        (OSError("Generic error\n  ↳ Unable to open\n ↳ nothing (os error 122)"), "acting: the quota is used up"),
        (RuntimeError("Unable to copy: No space left on device (os error 28)"), "acting: the disk is full"),
        (RuntimeError("Could not create local directory: ReadOnlyFilesystem"), "acting: the file system is read-only"),
        (RuntimeError("FATAL Error: fsync failed!"), "acting: the disk fails"),
        (RuntimeError("Kind: PermissionDenied"), "acting: the permission is denied"),
        (KeyError("a broken row\n at 0x00"), "acting: 'a broken row.*restore the store from a backup"),
    ],
)
def test_a_failure_of_the_disk_becomes_one_sentence(error, sentence):
    with pytest.raises(StoreError, match=sentence) as raised, explained("acting", KeyError):
        raise error
    assert raised.value.__cause__ is error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x"), InputError("permission denied"), StoreError("no space left")]
)
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as raised, explained("acting"):
        raise error
    assert raised.value is error


@pytest.fixture
def disk(tmp_path):
    """A tiny file system, and a function that mounts it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", folder]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a file system needs the rights of root")
    yield folder, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_told_and_nothing_is_half_written(disk):
    folder, remount = disk
    made = open_store(folder)
    written = 0

    def fill():
        nonlocal written
        for written in range(200):
            tables.put(made, "weights", weights(f"{written}", 200))

    with pytest.raises(StoreError, match=r"writing table weights: the disk is full.*; free space"):
        fill()
    assert written > 2
    with pytest.raises(StoreError, match="the disk is full"):
        blobs.put(made, os.urandom(400_000))
    assert not list(made.blobs.rglob("*.*"))
    # the rows of the put that failed are all there, if their files could be written and only not be listed any more
    assert tables.read(made, "weights").num_rows in (200 * written, 200 * (written + 1))
    remount("size=8m")
    assert verify(folder, deep=True).is_whole
    tables.put(made, "weights", weights(f"{written}", 200))
    assert tables.read(made, "weights").num_rows == 200 * (written + 1)
    assert verify(folder, deep=True).is_whole


WRITING = {
    "put": lambda made: tables.put(made, "weights", weights("d")),
    "append": lambda made: tables.append(made, "weights", weights("d")),
    "forget": lambda made: tables.forget(made, "weights", ["a"]),
    "compact": lambda made: tables.compact(made, 2),
    "vacuum": lambda made: tables.vacuum(made, 0),
}


@pytest.mark.parametrize("act", WRITING)
def test_whatever_delta_writes_to_a_full_disk_names_table_and_cause(disk, act, capfd):
    folder, _ = disk
    made = open_store(folder)
    for key in "abce":
        tables.put(made, "weights", weights(key))
    tables.forget(made, "weights", ["b"])
    with (folder / "full").open("wb", buffering=0) as full, suppress(OSError):
        while True:
            full.write(bytes(4096))
    with pytest.raises(StoreError, match=r"ing table weights: the disk is full; free space and run the same command"):
        WRITING[act](made)
    (folder / "full").unlink()
    WRITING[act](made)
    assert verify(folder, deep=True).is_whole
    capfd.readouterr()  # delta-rs prints its own trace


LIMITED = """
import resource, sys
from storage import blobs
from storage.store import open_store
from tests.storage.test_store import tables, weights
made, act = open_store(sys.argv[1]), sys.argv[2]
tables.put(made, "weights", weights("a"))
kind, most = (resource.RLIMIT_FSIZE, 100) if act == "size" else (resource.RLIMIT_NOFILE, 12)
resource.setrlimit(kind, (most, most))
try:
    tables.put(made, "weights", weights("b"))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize(
    ("act", "said"), [("size", "the file is larger than is allowed"), ("files", "too many files are open")]
)
def test_a_limit_of_the_process_is_told(tmp_path, act, said):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "store"), act]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.startswith("StoreError: ")
    assert f"table weights: {said}" in told
    assert "run the same command again" in told
    assert tables.read(open_store(tmp_path / "store"), "weights").num_rows == 2


def test_a_read_only_disk_is_told_and_still_read(disk, capfd):
    folder, remount = disk
    made = open_store(folder)
    tables.put(made, "weights", weights("k"))
    remount("ro")
    for act in (
        lambda: tables.put(made, "weights", weights("l")),
        lambda: tables.put(made, "trades", TABLES["trades"].schema.empty_table()) or tables.read(made, "trades"),
        lambda: blobs.put(made, b"data"),
        lambda: catalog.rebuild(made),
        lambda: open_store(folder / "tables" / "new"),
    ):
        with pytest.raises(StoreError, match="the file system is read-only"):
            act()
    assert tables.read(open_store(folder), "weights").num_rows == 2
    capfd.readouterr()  # delta-rs prints its own trace


@pytest.mark.parametrize("act", ["open", "put"])
def test_a_missing_right_is_told(act):
    folder = Path(tempfile.mkdtemp())
    try:
        open_store(folder)
        for entry in (*folder.rglob("*"), folder):
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        command = [sys.executable, "-c", UNPRIVILEGED, str(folder), act]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert f"the permission is denied ({folder}/" in said
        assert "; check the owner and rights of the folder" in said
    finally:
        for entry in (folder, *folder.rglob("*")):
            entry.chmod(0o755)
        shutil.rmtree(folder)
