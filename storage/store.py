"""One store: a folder with Delta tables, content-addressed files, and a file that says its format.

STORE.json              format and identity
tables/<name>/          Delta tables (storage.tables)
manifests/<name>/       what files of them were written, and how they were (storage.manifests)
blobs/sha256/ab/abcd    immutable files named by their content (storage.blobs)
catalog.duckdb          views for people, derived (storage.catalog)
reports/                HTML reports, derived
"""

import ctypes
import errno
import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.errors import InputError, PrismError, StoreError
from storage.settings import Settings, current

FORMAT, MARKER = 1, "STORE.json"
_STRANGE = r"[%?#*\[\]\\\n\r]"  # delta-rs and DuckDB take a path for a URL or a pattern, and miss the folder


@dataclass(frozen=True)
class Store:
    """An opened store: where it is, and which one it is."""

    root: Path
    identity: str
    read_only: bool = False  # reading makes and alters no table

    @property
    def tables(self) -> Path:
        """Folder of the Delta tables."""
        return self.root / "tables"

    @property
    def blobs(self) -> Path:
        """Folder of the content-addressed files."""
        return self.root / "blobs" / "sha256"

    def sync(self) -> None:
        """Return when everything written to the store's file system is on the disk (delta-rs itself never syncs)."""
        if not sys.platform.startswith("linux"):
            os.sync()
            return
        folder = os.open(self.root, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(folder):
                raise OSError(ctypes.get_errno(), "syncfs failed", str(self.root))
        finally:
            os.close(folder)


def open_store(root: Path | None = None) -> Store:
    """Open the store at `root` (default: the settings' folder), making it where there is none.

    Raises:
        InputError: the folder is of an unknown format, or not a folder of the local file system.
        StoreError: it cannot be made or read.

    """
    root = current(Settings).store if root is None else root
    if re.match(r"\w+:/", str(root)):
        raise InputError(f"the store {root} is not a local folder, and only those are supported; give --store DIR")
    root = root.expanduser().absolute()
    if re.search(_STRANGE, str(root)):
        raise InputError(f"the store's path {str(root)!r} holds one of %?#*[]\\ or a new line; give another --store")
    check_place(root)
    with explained(f"opening the store {root}"):
        marker = root / MARKER
        if not marker.exists():
            _create(marker)
        return Store(root, _identity(marker))


def check_place(root: Path) -> None:
    """Raise InputError where no folder can be at `root`."""
    try:
        there = next((place for place in (root, *root.parents) if place.exists()), root)
        if there.is_dir() or not there.exists():
            return
    except OSError as error:  # a name too long, for one
        raise InputError(f"the store {str(root)[:80]} cannot be ({error.strerror}); give another --store") from error
    where = "is" if there == root else f"lies below {there}, which is"
    raise InputError(f"the store {root} {where} a file; give --store a folder")


def _create(marker: Path) -> None:
    """Make the folders and, whole or not at all, the marker; of two processes at once the first one's stays."""
    folder = marker.parent
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "tables").exists():
        raise InputError(f"{folder} is not empty and is no store; give --store an empty or a new folder")
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    temporary = _written(folder, FORMAT, uuid.uuid4().hex)
    try:
        os.link(temporary, marker)  # Delta's commits need hard links too: a file system without them fails here
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _written(folder: Path, number: int, identity: str) -> Path:
    """A marker under a temporary name."""
    temporary = folder / f".STORE.{uuid.uuid4().hex}"
    with temporary.open("x") as file:
        file.write(json.dumps({"format": number, "identity": identity}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return temporary


def replace_marker(root: Path, number: int) -> None:
    """Have a store say another format, whole or not at all; for migrations, which do it to a copy."""
    _written(root, number, json.loads((root / MARKER).read_text())["identity"]).replace(root / MARKER)


def _identity(marker: Path) -> str:
    try:
        content = json.loads(marker.read_text())
        known, identity = int(content["format"]), content["identity"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{marker} is damaged ({error}); restore it from a backup of the store") from error
    if known != FORMAT:
        remedy = "`prism migrate` brings it up to date" if known < FORMAT else "use a matching version"
        raise InputError(f"{marker} says format {known}, this version reads {FORMAT}; {remedy}")
    return identity


_CAUSES = {
    errno.ENOSPC: ("the disk is full", "free space and run the same command again: nothing is half-written"),
    errno.EROFS: ("the file system is read-only", "mount it writable, or give another --store"),
    errno.EACCES: ("the permission is denied", "check the owner and rights of the folder, or give another --store"),
    errno.EPERM: ("the file system refuses it", "use a file system with hard links, or give another --store"),
}
_TEXTS = {
    "no space left": errno.ENOSPC,
    "read-only file system": errno.EROFS,
    "readonlyfilesystem": errno.EROFS,
    "permission denied": errno.EACCES,
    "permissiondenied": errno.EACCES,
}


@contextmanager
def explained(action: str, *damage: type[Exception]) -> Iterator[None]:
    """Turn what the operating system or delta-rs raise during `action` into one StoreError sentence.

    `damage` are further errors that only damaged files cause here.
    """
    try:
        yield
    except PrismError:
        raise
    except OSError as error:
        raise _explanation(action, error, error.errno) from error
    except Exception as error:
        code = next((code for text, code in _TEXTS.items() if text in str(error).lower()), None)
        if code is None and not isinstance(error, damage):
            raise
        raise _explanation(action, error, code) from error


def _explanation(action: str, error: Exception, code: int | None) -> StoreError:
    said = str(error).strip().splitlines()[0].rstrip()
    cause, remedy = _CAUSES.get(code or 0, (said, "run it again; if it stays, restore the store from a backup"))
    return StoreError(f"{action}: {cause}; {remedy}")
