"""Checkpoints: arrays come back exactly, with their lineage, and nothing is ever executed."""

import json
import pickle

import numpy as np
import pytest

from storage import blobs, checkpoints
from storage.errors import StoreError

GRID = np.arange(24.0).reshape(4, 6)
ARRAYS = {
    "transposed": GRID.T,
    "strided": GRID[::2, ::3],
    "reversed": GRID[::-1, ::-1],
    "fortran": np.asfortranarray(GRID),
    "broadcast": np.broadcast_to(np.float32(1.5), (3, 2)),
    "single": np.linspace(0, 1, 7, dtype=np.float32),
    "scalar": np.float64(2.5),
    "empty": np.empty((0, 3)),
    "odd": np.array([np.nan, -0.0, np.inf, 5e-324]),
    "big endian": np.arange(3, dtype=">f8"),
}


def test_arrays_come_back_exactly_whatever_their_layout(store):
    found = checkpoints.get(store, checkpoints.put(store, ARRAYS, {}))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=name != "big endian")
        assert np.array_equal(np.signbit(found[name]), np.signbit(array))


def test_the_same_content_is_the_same_blob(store):
    lineage = {"config": {"hidden": 32, "beta": 0.02}, "seed": 1, "data": ["é"]}
    first = checkpoints.put(store, ARRAYS, lineage)
    again = checkpoints.put(store, dict(reversed(ARRAYS.items())), dict(reversed(lineage.items())))
    assert first == again
    assert checkpoints.lineage(store, first) == lineage
    assert checkpoints.put(store, ARRAYS, {**lineage, "seed": 2}) != first
    assert checkpoints.put(store, {**ARRAYS, "single": np.zeros(7, np.float32)}, lineage) != first


class Hostile:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is no checkpoint", json.dumps({"a": 1}).encode(), b"\xff" * 64, pickle.dumps(Hostile())],
)
def test_another_blob_is_refused(store, content):
    blob = blobs.put(store, content)
    for read in (checkpoints.get, checkpoints.lineage):
        with pytest.raises(StoreError, match=f"blob {blob} is no checkpoint"):
            read(store, blob)


def test_a_damaged_or_missing_checkpoint_is_told_before_it_is_trusted(store):
    blob = checkpoints.put(store, {"a": GRID}, {"seed": 1})
    file = blobs.path(store, blob)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for read in (checkpoints.get, checkpoints.lineage):
        with pytest.raises(StoreError, match="is damaged"):
            read(store, blob)
    file.unlink()
    for read in (checkpoints.get, checkpoints.lineage):
        with pytest.raises(StoreError, match="is missing"):
            read(store, blob)
