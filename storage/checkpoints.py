"""Checkpoints: named float32 and float64 arrays with their lineage, as one safetensors blob.

The lineage is one JSON string under one metadata key, since safetensors writes several in random order.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    content = blobs.get(store, blob)  # checks the bytes before the header is trusted
    with _checkpoint(blob):
        end = 8 + int.from_bytes(content[:8], "little")  # the format: the header's length, then the header, as JSON
        return json.loads(json.loads(content[8:end])["__metadata__"]["lineage"])


@contextmanager
def _checkpoint(blob: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"blob {blob} is no checkpoint ({error}); restore the store from a backup") from error
