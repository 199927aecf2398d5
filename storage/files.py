"""The few ways in which a store changes its files, and their form for a local folder.

A file is there whole or not at all, whatever happens to its writer. A folder does it by a temporary name, a sync and a
rename, and by locks between processes (storage.locks). What a bucket does instead is in storage.objects; both take the
places of a store's files as `pathlib` writes them.
"""

import ctypes
import os
import shutil
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from deltalake import DeltaTable, WriterProperties
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from storage.locks import locked

if TYPE_CHECKING:
    from storage.objects import ObjectPath

Place: TypeAlias = "Path | ObjectPath"
_EXCHANGE, _HERE = 2, -100  # of renameat2: both names change places; names are of this process's folder


class Stat(Protocol):
    """Size in bytes, and seconds since 1970 of the last change."""

    st_size: int
    st_mtime: float


class Files(Protocol):
    """What a store does with its files, wherever they are."""

    options: dict[str, str] | None  # what delta-rs needs to reach them

    def uri(self, place: Place) -> str | Path:
        """A table's folder as delta-rs takes it."""

    def delta(self, place: Place) -> DeltaTable:
        """The table in a folder."""

    def compact(self, table: DeltaTable, place: Place, properties: WriterProperties) -> None:
        """Write the table's rows into few files; raises CommitFailedError where another process does."""

    def arrow(self, folder: Place) -> FileSystem:
        """A folder as Arrow's file system."""

    def entries(self, folder: Place) -> list[tuple[Place, Stat]]:
        """All files below a folder."""

    def probe(self, folder: Place) -> None:
        """Raise InputError where writers of a new store there could undo each other's work unseen."""

    def write(self, place: Place, content: bytes) -> None:
        """Give a file this content; it is durable when this returns."""

    def create(self, place: Place, content: bytes) -> bool:
        """Make a file; False, with nothing changed, where there is one."""

    def swap(self, place: Place, before: bytes, contents: Mapping[Place, bytes]) -> bool:
        """Write files, `place` as the last of them; False where it does not hold `before` any more."""

    def keep(self, contents: Mapping[Place, bytes], guard: Place) -> None:
        """Write files named by their content; the age of those that are there begins anew."""

    def clear(self, places: Collection[Place], before: float, guard: Place) -> list[int]:
        """Delete files below the guard's parent whose age began before that time, and none kept now; their sizes."""

    def fetch(self, place: Place, target: Path) -> None:
        """Copy a file to a local one, with its time."""

    def locked(self, place: Place, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold a lock, where there are any; False where another process has it and one does not `wait`."""

    def sync(self) -> None:
        """Return when everything written is durable."""


@dataclass(frozen=True)
class Folder:
    """The files of a store in a local folder, or in one that machines share by POSIX's rules."""

    root: Path
    options = None

    def uri(self, place: Path) -> Path:
        """The folder itself."""
        return place

    def delta(self, place: Path) -> DeltaTable:
        """The table in a folder."""
        return DeltaTable(place)

    def compact(self, table: DeltaTable, place: Path, properties: WriterProperties) -> None:
        """Merge small files, under a lock: delta-rs lets two merge the same ones, and each row would be there twice."""
        table.optimize.compact(writer_properties=properties)

    def arrow(self, folder: Path) -> FileSystem:
        """A folder as Arrow's own file system."""
        return SubTreeFileSystem(str(folder), LocalFileSystem())

    def entries(self, folder: Path) -> list[tuple[Path, os.stat_result]]:
        """All files below a folder; what is deleted meanwhile is left out."""
        found, waiting = [], [folder]
        while waiting:
            place = waiting.pop()
            with suppress(FileNotFoundError), os.scandir(place) as there:
                for entry in there:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(place / entry.name)
                    else:
                        with suppress(FileNotFoundError):
                            found.append((place / entry.name, entry.stat()))
        return found

    def probe(self, folder: Path) -> None:
        """Do nothing: what a file system lacks for it fails by itself."""

    def write(self, place: Path, content: bytes) -> None:
        """Write under a temporary name, sync, rename."""
        with self._temporary(place, content) as temporary:
            temporary.replace(place)

    def create(self, place: Path, content: bytes) -> bool:
        """Write under a temporary name, sync, link: Delta's commits need hard links too, and fail without them."""
        with self._temporary(place, content) as temporary:
            try:
                os.link(temporary, place)
            except FileExistsError:
                return False
        return True

    def swap(self, place: Path, before: bytes, contents: Mapping[Path, bytes]) -> bool:
        """Write under temporary names, sync once, and rename while nobody else does."""
        with self._temporaries(contents) as temporaries:
            self.sync()
            with locked(place.parent / ".lock"):
                if place.read_bytes() != before:
                    return False
                for target, temporary in temporaries.items():
                    temporary.replace(target)
        return True

    def keep(self, contents: Mapping[Path, bytes], guard: Path) -> None:
        """Write what is not there undamaged, and date the rest today, while nothing is cleared."""
        with locked(guard, shared=True):
            missing = {place: data for place, data in contents.items() if not _renewed(place, data)}
            if missing:
                with self._temporaries(missing) as temporaries:
                    self.sync()
                    for target, temporary in temporaries.items():
                        temporary.replace(target)

    def clear(self, places: Collection[Path], before: float, guard: Path) -> list[int]:
        """Delete what is still old, while nothing is kept."""
        with locked(guard):
            return [_deleted(place) for place in places if place.exists() and place.stat().st_mtime < before]

    def fetch(self, place: Path, target: Path) -> None:
        """Copy a file, with its time."""
        shutil.copy2(place, target)

    def locked(self, place: Path, wait: bool = True) -> AbstractContextManager[bool]:
        """The lock of that file."""
        return locked(place, wait)

    def sync(self) -> None:
        """Return when all of the file system is on the disk (delta-rs itself never syncs)."""
        if not sys.platform.startswith("linux"):
            os.sync()
            return
        folder = os.open(self.root, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(folder):
                raise OSError(ctypes.get_errno(), "syncfs failed", str(self.root))
        finally:
            os.close(folder)

    @contextmanager
    def _temporary(self, place: Path, content: bytes) -> Iterator[Path]:
        """A synced file with a temporary name, which is gone at the end."""
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(place)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _temporaries(self, contents: Mapping[Path, bytes]) -> Iterator[dict[Path, Path]]:
        """Files with temporary names, which are gone at the end; one sync serves them all."""
        temporaries = {place: _temporary_name(place) for place in contents}
        try:
            for place, temporary in temporaries.items():
                temporary.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(contents[place])
            yield temporaries
        finally:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)


def _temporary_name(place: Path) -> Path:
    return place.with_name(f".{place.name}.{uuid.uuid4().hex}")


def _renewed(place: Path, data: bytes) -> bool:
    """Whether a file is there with that content, dated today then."""
    if not (place.exists() and place.read_bytes() == data):
        return False
    os.utime(place)
    return True


def _deleted(place: Path) -> int:
    """Delete a file; its size."""
    size = place.stat().st_size
    place.unlink()
    return size


def exchange(one: Path, other: Path) -> None:
    """Let two folders change their names in one act: at no moment is one of the names missing."""
    names = os.fsencode(one), os.fsencode(other)
    if ctypes.CDLL(None, use_errno=True).renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: this file system cannot exchange folders", str(other))
