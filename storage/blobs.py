"""Content-addressed files: written once, named by the SHA-256 of their bytes, checked whenever they are read.

A file appears under its name whole or not at all. In a folder one sync of the file system serves all the files of
a call (an fsync each costs up to 200 ms on a busy disk). The table row that names a blob is written after it, and
that write's own sync makes the new names durable. One that is asked for again gets today's date, so that nothing
prunes it before its row is there (storage.pruning).
"""

import hashlib
from collections.abc import Sequence

from storage.errors import StoreError, explained
from storage.files import Place
from storage.store import Store


def path(store: Store, blob: str) -> Place:
    """Where the blob of that id lies."""
    return store.blobs / blob[:2] / blob


def put(store: Store, data: bytes) -> str:
    """Keep `data` and return its id; what is there already, undamaged, is left as it is."""
    return put_all(store, [data])[0]


def put_all(store: Store, contents: Sequence[bytes]) -> list[str]:
    """Keep several blobs and return their ids, in order."""
    ids = [hashlib.sha256(data).hexdigest() for data in contents]
    with explained(f"writing {len(set(ids))} blobs"):
        store.files.keep({path(store, blob): data for blob, data in zip(ids, contents, strict=True)}, lock(store))
    return ids


def lock(store: Store) -> Place:
    """The file whose lock writers share, and that nobody else holds while blobs are deleted."""
    return store.blobs.parent / ".lock"


def find(store: Store, beginning: str) -> str:
    """The id of the blob whose id begins so; raises StoreError unless there is exactly one."""
    if len(beginning) < 8 or not set(beginning) <= set("0123456789abcdef"):
        raise StoreError(f"{beginning!r} is no beginning of a blob's id; give 8 or more hexadecimal digits")
    found = [file.name for file in (store.blobs / beginning[:2]).glob(f"{beginning}*")]
    if len(found) != 1:
        raise StoreError(f"{len(found)} blobs of {store.root} begin with {beginning}; it must be exactly one")
    return found[0]


def get(store: Store, blob: str, most: int | None = None) -> bytes:
    """The bytes of a blob; raises StoreError when it is missing or its bytes are not those it was named for.

    One of more than `most` bytes is refused unread.
    """
    source = path(store, blob)
    with explained(f"reading blob {blob[:12]}"):
        try:
            if most is not None and source.stat().st_size > most:
                raise StoreError(
                    f"blob {blob} is larger than the {most} bytes it may have; restore {source} from a backup"
                )
            data = source.read_bytes()
        except FileNotFoundError as error:
            said = f"blob {blob} is missing from {store.root}; restore {source} from a backup"
            raise StoreError(said) from error
    if hashlib.sha256(data).hexdigest() != blob:
        raise StoreError(f"blob {blob} is damaged: its bytes have another hash; restore {source} from a backup")
    return data
