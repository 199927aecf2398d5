"""Checkpoints: named float32 and float64 arrays with their lineage, as one safetensors blob.

The lineage is one JSON string under one metadata key, since safetensors writes several in random order.
Arrays are made contiguous first: the format stores a strided array's bytes in the wrong order, silently.
Nothing here is ever unpickled.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from storage import blobs
from storage.errors import StoreError
from storage.keys import to_json
from storage.store import Store


def put(store: Store, arrays: dict[str, np.ndarray], lineage: dict[str, Any]) -> str:
    """Keep the arrays and return the blob's id."""
    contiguous = {name: np.asarray(array, order="C") for name, array in sorted(arrays.items())}
    return blobs.put(store, save(contiguous, metadata={"lineage": to_json(lineage)}))


def get(store: Store, blob: str) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint; raises StoreError when it is not one."""
    with _checkpoint(blob):
        return load(blobs.get(store, blob))


def lineage(store: Store, blob: str) -> dict[str, Any]:
    """What the checkpoint was made from; raises StoreError when it is none."""
    content = blobs.get(store, blob)  # checks the bytes before the header is trusted
    with _checkpoint(blob):
        end = 8 + int.from_bytes(content[:8], "little")  # the format: the header's length, then the header, as JSON
        return json.loads(json.loads(content[8:end])["__metadata__"]["lineage"])


@contextmanager
def _checkpoint(blob: str) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"blob {blob} is no checkpoint ({error}); restore the store from a backup") from error
