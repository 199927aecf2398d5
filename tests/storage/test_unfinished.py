"""Unfinished work: the arrays of a key, whole or not at all, until the answer is there or nobody comes back for it."""

import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from storage import errors, unfinished
from storage.errors import StoreError

ROOT = Path(__file__).parents[2]
GRID = np.arange(24.0).reshape(4, 6)
ARRAYS = {
    "single": np.linspace(0, 1, 7, dtype=np.float32),
    "transposed": GRID.T,
    "strided": GRID[::2, ::3],
    "empty": np.empty((0, 3), np.float32),
    "odd": np.array([np.nan, -0.0, np.inf, 5e-324]),
    "0/parameters/output.weight": np.float64([[2.5]]),
}
DAY = 86_400
WRITER = """
import sys
from pathlib import Path
import numpy as np
from storage import unfinished
from storage.store import open_store
store, number = open_store(Path(sys.argv[1])), 0
while True:
    unfinished.put(store, "key", {"all": np.full(200_000, float(number))})
    print(number, flush=True)
    number += 1
"""


def files(store):
    return sorted(path.name for path in (store.root / "unfinished").glob("*"))


def age(path, days):
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
        assert found[name].tobytes() == np.asarray(array, order="C").tobytes()


def test_arrays_come_back_to_the_byte_and_are_gone_once_dropped(store):
    assert unfinished.get(store, "key") is None
    unfinished.put(store, "key", ARRAYS)
    unfinished.put(store, "other", {"single": ARRAYS["single"]})
    assert_same(unfinished.get(store, "key"), ARRAYS)
    unfinished.drop(store, "key")
    assert unfinished.get(store, "key") is None
    assert unfinished.get(store, "other").keys() == {"single"}
    unfinished.drop(store, "other")
    assert files(store) == []


def test_a_key_holds_what_was_put_last(store):
    unfinished.put(store, "key", ARRAYS)
    later = {"single": ARRAYS["single"] + 1}
    unfinished.put(store, "key", later)
    assert_same(unfinished.get(store, "key"), later)
    assert files(store) == ["key.safetensors"]


def test_what_is_not_there_may_be_dropped(store):
    unfinished.drop(store, "key")
    assert not (store.root / "unfinished").exists()


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_write_that_does_not_end_leaves_what_was_there_and_nothing_beside_it(store, monkeypatch, broken):
    def fails(*_):
        raise OSError(5, "the power went")

    unfinished.put(store, "key", ARRAYS)
    with monkeypatch.context() as patched:
        patched.setattr(*{"replace": (Path, "replace"), "fsync": (os, "fsync")}[broken], fails)
        with pytest.raises(StoreError, match="writing unfinished work key: the disk fails"):
            unfinished.put(store, "key", {"single": np.zeros(3)})
        with pytest.raises(StoreError, match="the disk fails"):
            unfinished.put(store, "first", {"single": np.zeros(3)})
    assert_same(unfinished.get(store, "key"), ARRAYS)
    assert unfinished.get(store, "first") is None
    assert files(store) == ["key.safetensors"]


def test_the_new_bytes_are_on_the_disk_before_they_take_the_place_of_the_old(store, monkeypatch):
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: order.append("synced") or fsync(number))
    monkeypatch.setattr(Path, "replace", lambda path, target: order.append(target.name) or replace(path, target))
    unfinished.put(store, "key", ARRAYS)
    assert order == ["synced", "key.safetensors"]


def test_a_killed_writer_leaves_one_of_its_writes_whole(store):
    for delay in (0.0, 0.007, 0.013):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        writer.stdout.readline()
        time.sleep(delay)
        writer.kill()
        said = writer.communicate()[0].split()
        found = unfinished.get(store, "key")["all"]
        assert np.unique(found).size == 1
        assert found[0] >= int(said[-1] if said else 0)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "header"])
def test_a_damaged_file_counts_as_nothing_and_is_said(store, caplog, damage):
    unfinished.put(store, "0123456789abcdef", ARRAYS)
    path = store.root / "unfinished" / "0123456789abcdef.safetensors"
    content = path.read_bytes()
    damaged = {
        "cut": content[:-9],
        "empty": b"",
        "text": b"hello, these are no arrays",
        "header": b"\xff" + content[1:],
    }
    path.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING, "prism.store"):
        assert unfinished.get(store, "0123456789abcdef") is None
    [said] = [record.getMessage() for record in caplog.records if record.name == "prism.store"]
    assert re.fullmatch(r"unfinished work 0123456789ab is damaged \(.+\); it is done again from the start", said)
    unfinished.put(store, "0123456789abcdef", ARRAYS)
    assert_same(unfinished.get(store, "0123456789abcdef"), ARRAYS)


def test_what_nobody_came_back_for_is_deleted_after_a_week(store):
    for name, days in (("old", 7.01), ("young", 6.99), ("new", 0)):
        unfinished.put(store, name, ARRAYS)
        age(store.root / "unfinished" / f"{name}.safetensors", days)
    torn = store.root / "unfinished" / ".old.0123"  # what a kill in the middle of a write leaves
    torn.write_bytes(b"torn")
    age(torn, 8)
    unfinished.drop(store, "another")
    assert files(store) == ["new.safetensors", "young.safetensors"]


@pytest.mark.parametrize("action", ["writing", "reading", "deleting"])
def test_a_refused_permission_is_a_sentence(store, monkeypatch, action):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    unfinished.put(store, "key", ARRAYS)
    act, method = {
        "writing": (lambda: unfinished.put(store, "key", ARRAYS), "open"),
        "reading": (lambda: unfinished.get(store, "key"), "read_bytes"),
        "deleting": (lambda: unfinished.drop(store, "key"), "unlink"),
    }[action]
    with monkeypatch.context() as patched:
        patched.setattr(Path, method, refuse)
        with pytest.raises(StoreError) as caught:
            act()
    _, remedy = errors._CAUSES[13]
    assert str(caught.value) == f"{action} unfinished work key: the permission is denied; {remedy}"
    assert_same(unfinished.get(store, "key"), ARRAYS)
