"""Checkpoints: named float32 and float64 arrays with their lineage, as one safetensors blob.

The lineage is one JSON string under one metadata key, since safetensors writes several in random order.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safetensors import SafetensorError, safe_open

from storage import arrays, blobs
from storage.arrays import Arrays
from storage.errors import StoreError
from storage.keys import to_json
from storage.store import Store


def put(store: Store, content: Arrays, lineage: dict[str, Any]) -> str:
    """Keep the arrays and return the blob's id."""
    return blobs.put(store, arrays.pack(content, {"lineage": to_json(lineage)}))


def get(store: Store, blob: str) -> Arrays:
    """The arrays of a checkpoint; raises StoreError when it is not one."""
    with _checkpoint(blob):
        return arrays.unpack(blobs.get(store, blob, arrays.LARGEST))


def lineage(store: Store, blob: str) -> dict[str, Any]:
    """What the checkpoint was made from; raises StoreError when it is none."""
    blobs.get(store, blob)  # checks the bytes before the header is trusted
    with _checkpoint(blob), safe_open(blobs.path(store, blob), framework="numpy") as file:
        return json.loads(file.metadata()["lineage"])


@contextmanager
def _checkpoint(blob: str) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, ValueError) as error:
        raise StoreError(f"blob {blob} is no checkpoint ({error}); restore the store from a backup") from error
