"""Locks for Prefect's cache that die with their holder.

Two runs that need the same answer at once compute it once: the second waits, then finds it. `flock` is freed
by the kernel when its process ends, however it ends; the lock files that Prefect brings stay behind after a
kill, and a rerun would wait for ever.
"""

import asyncio
import fcntl
import hashlib
import os
import threading
from pathlib import Path

from prefect.locking.protocol import LockManager

from storage.settings import Settings, current


class FlockManager(LockManager):
    """Locks by `flock`, which the kernel frees when their process dies; Prefect's file locks outlive it."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, str]] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[type["FlockManager"], tuple[()]]:
        """Another process gets a manager that holds nothing: locks do not travel."""
        return FlockManager, ()

    def _path(self, key: str) -> Path:
        folder = current(Settings).cache.expanduser() / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / hashlib.sha256(key.encode()).hexdigest()

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Wait for the lock; a holder that has it already gets it again."""
        if self.is_lock_holder(key, holder):
            return True
        descriptor = os.open(self._path(key), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with self._guard:
            self._held[key] = (descriptor, holder)
        return True

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """The same, without blocking the event loop."""
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock back."""
        with self._guard:
            descriptor, _ = self._held.pop(key)
        os.close(descriptor)

    def is_free(self, key: str) -> bool:
        """Whether nobody holds the lock at this moment."""
        with self._path(key).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def is_locked(self, key: str) -> bool:
        """Whether this process holds the lock."""
        return key in self._held

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder` has the lock."""
        return key in self._held and self._held[key][1] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Return when nobody holds the lock."""
        with self._path(key).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """The same, without blocking the event loop."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)
