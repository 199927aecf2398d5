"""Arrays as safetensors bytes: what is claimed is compared with what is there before memory is taken for it."""

import json
import pickle
import tracemalloc

import numpy as np
import pytest

from storage import arrays, blobs, checkpoints, unfinished
from storage.errors import StoreError


def made(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(kind="F32", shape=(1,), offsets=(0, 4)):
    return {"a": {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}}


HOSTILE = {
    "a million million numbers": made(one(shape=[10**12], offsets=[0, 4 * 10**12])),
    "numbers that are not there": made(one(shape=[10**12]), bytes(4)),
    "a size beyond 64 bits": made(one("F64", [2**40, 2**40], [0, 0])),
    "no number in a huge shape": made(one("F64", [0, 2**62], [0, 0])),
    "a hundred dimensions": made(one(shape=[1] * 100), bytes(4)),
    "a negative size": made(one(shape=[-1]), bytes(4)),
    "half precision": made(one("F16", [2]), bytes(4)),
    "another half precision": made(one("BF16", [2]), bytes(4)),
    "a byte each": made(one("F8_E4M3", [4]), bytes(4)),
    "whole numbers": made(one("I64", [1], [0, 8]), bytes(8)),
    "a hole before the data": made(one(offsets=[4, 8]), bytes(8)),
    "two arrays in one place": made(one() | {"b": one()["a"]}, bytes(4)),
    "bytes that no array names": made(one(), bytes(40)),
    "a header longer than the file": (2**63).to_bytes(8, "little") + b"{}",
    "a header that nests": made(b"[" * 100_000),
    "a header that is no JSON": made(b"\xff\xfe"),
    "a pickle": pickle.dumps({"a": [1.0]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_array_is_refused_without_memory_for_it(store, name):
    content = HOSTILE[name]
    blob = blobs.put(store, content)
    place = store.root / "unfinished" / "key.safetensors"
    place.parent.mkdir()
    place.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w"):
            arrays.unpack(content)
        with pytest.raises(StoreError, match=f"blob {blob} is no checkpoint"):
            checkpoints.get(store, blob)
        assert unfinished.get(store, "key") is None
        assert tracemalloc.get_traced_memory()[1] < 10 * len(content) + 5_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_is_not_even_read(store):
    blob = blobs.put(store, b"small")
    place = store.root / "unfinished" / "key.safetensors"
    place.parent.mkdir()
    for file in (place, blobs.path(store, blob)):
        with file.open("wb") as opened:
            opened.truncate(arrays.LARGEST + 1)  # takes no room on the disk
    tracemalloc.start()
    try:
        assert unfinished.get(store, "key") is None
        with pytest.raises(StoreError, match=rf"blob {blob} is larger than the {arrays.LARGEST} bytes it may have"):
            checkpoints.get(store, blob)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_arrays_come_back_to_the_byte_and_equal_ones_are_equal_bytes():
    content = {"b": np.array([np.nan, -0.0, 5e-324]), "a": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    packed = arrays.pack(content)
    assert packed == arrays.pack(dict(reversed(content.items())))
    for name, value in arrays.unpack(packed).items():
        assert (value.dtype, value.tobytes()) == (content[name].dtype, content[name].tobytes("C"))
