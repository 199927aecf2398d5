"""Work that was interrupted: arrays under the key of the answer they will become, deleted once it is there.

A file is there whole or not at all, and whoever starts the same work goes on from it. It is no answer and no table
names it; one that nobody came back for (its key has changed since) is deleted after a week.
"""

import logging
import os
import time
import uuid
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from storage.store import Store, explained

_FORGOTTEN = 7 * 86_400  # seconds
log = logging.getLogger("prism.store")


def put(store: Store, key: str, arrays: dict[str, np.ndarray]) -> None:
    """Keep the arrays in place of what the key held; a power cut after this leaves one of the two, whole."""
    target = _path(store, key)
    temporary = target.with_name(f".{key}.{uuid.uuid4().hex}")
    with explained(f"writing unfinished work {key[:12]}"):
        target.parent.mkdir(exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(save({name: np.asarray(value, order="C") for name, value in sorted(arrays.items())}))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def get(store: Store, key: str) -> dict[str, np.ndarray] | None:
    """The arrays, or None where there is nothing to go on from; a damaged file counts as nothing."""
    source = _path(store, key)
    with explained(f"reading unfinished work {key[:12]}"):
        if not source.exists():
            return None
        try:
            return load(source.read_bytes())
        except SafetensorError as error:
            log.warning("unfinished work %s is damaged (%s); it is done again from the start", key[:12], error)
            return None


def drop(store: Store, key: str) -> None:
    """Delete what is now an answer, and what nobody came back for."""
    with explained(f"deleting unfinished work {key[:12]}"):
        _path(store, key).unlink(missing_ok=True)
    forget(store)


def forget(store: Store) -> None:
    """Delete what nobody came back for within a week."""
    folder = store.root / "unfinished"
    with explained(f"deleting unfinished work in {folder}"):
        for file in folder.iterdir() if folder.exists() else ():
            if file.exists() and time.time() - file.stat().st_mtime > _FORGOTTEN:
                file.unlink(missing_ok=True)


def _path(store: Store, key: str) -> Path:
    return store.root / "unfinished" / f"{key}.safetensors"
