"""Locks between the processes of a store, by `flock`: the kernel frees them when their holder ends, however it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import explained


@contextmanager
def locked(file: Path, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of that file; False, without it, where somebody has it and one does not `wait`.

    Several may hold it at once where all of them hold it `shared`.
    """
    with explained(f"locking {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = file.open("a")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with opened:
        try:
            fcntl.flock(opened, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
