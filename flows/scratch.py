"""Stores that live for one recomputation: only what a decision may start from, so that nothing can be looked up.

Every store has an identity of its own, which is part of the keys of Prefect's records and of what this process
remembers, so that neither can hand back another store's answer.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.store import Store, open_store
from tasks.caching import forget

_ELSEWHERE = ("PRISM_TRAIN_DEPLOYMENT", "PRISM_TRAIN_DEVICE")


@contextmanager
def store_at(root: Path) -> Iterator[Store]:
    """Make a folder the store of everything that follows in this process, its tasks included.

    Nothing is sent to other machines meanwhile: they have another store.
    """
    before = {name: os.environ.get(name) for name in ("PRISM_STORE", *_ELSEWHERE)}
    os.environ |= {"PRISM_STORE": str(root)} | dict.fromkeys(_ELSEWHERE, "")
    try:
        yield open_store()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def scratch_store() -> Iterator[Store]:
    """An empty store, in use until the block ends and deleted then, however it ends."""
    with tempfile.TemporaryDirectory(prefix="prism-scratch-") as folder, store_at(Path(folder) / "store") as store:
        try:
            yield store
        finally:
            forget(store)
