"""Work that was interrupted: arrays under the key of the answer they will become, deleted once it is there.

A file is there whole or not at all, and whoever starts the same work goes on from it. It is no answer and no table
names it; one that nobody came back for (its key has changed since) is deleted after a week.
"""

import logging
import time

from storage import arrays
from storage.arrays import Arrays
from storage.errors import explained
from storage.files import Place
from storage.store import Store

_FORGOTTEN = 7 * 86_400  # seconds
log = logging.getLogger("prism.store")


def put(store: Store, key: str, content: Arrays) -> None:
    """Keep the arrays in place of what the key held; a power cut after this leaves one of the two, whole."""
    with explained(f"writing unfinished work {key[:12]}"):
        store.files.write(_path(store, key), arrays.pack(content))


def get(store: Store, key: str) -> Arrays | None:
    """The arrays, or None where there is nothing to go on from; a damaged file counts as nothing."""
    source = _path(store, key)
    with explained(f"reading unfinished work {key[:12]}"):
        try:
            return arrays.unpack(arrays.read(source))
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("unfinished work %s is damaged (%s); it is done again from the start", key[:12], error)
            return None


def drop(store: Store, key: str) -> None:
    """Delete what is now an answer, and what nobody came back for."""
    with explained(f"deleting unfinished work {key[:12]}"):
        _path(store, key).unlink(missing_ok=True)
    forget(store)


def forget(store: Store) -> None:
    """Delete what nobody came back for within a week."""
    with explained("deleting unfinished work"):
        for file, found in store.files.entries(store.root / "unfinished"):
            if time.time() - found.st_mtime > _FORGOTTEN:
                file.unlink(missing_ok=True)


def _path(store: Store, key: str) -> Place:
    return store.root / "unfinished" / f"{key}.safetensors"
