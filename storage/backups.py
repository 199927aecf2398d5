"""Backups: a copy of the store as it was at one moment, taken while others write, and verified before it has a name.

A table is filled before those below it in `schemas.TABLES` that name its rows, and blobs before all of them. So tables
are copied from the last to the first, each at the version that its manifests list, and blobs at the end: whatever a
copied row names is in the copy. Files of a store are never changed, and what Delta or a merge of manifests deleted
meanwhile makes that table's copy begin again. Derived files (catalog.duckdb) and unfinished work are left out.
"""

import hashlib
import logging
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from storage import clock, commits, manifests, tables
from storage.errors import InputError, StoreError, explained
from storage.files import Folder, Place
from storage.manifests import NEWEST, Newest
from storage.pruning import TEMPORARY
from storage.schemas import TABLES
from storage.store import MARKER, Store, files_of
from storage.verification import verify

_ATTEMPTS = 5  # at a table that changes while it is copied
_FORGOTTEN = 86_400  # seconds
_PARTS = ("blobs", "manifests", "reports", "tables")
_AT_ONCE = 8  # files that are restored
log = logging.getLogger("prism.store")


class _ChangedError(Exception):
    """A table's files changed while they were copied."""


def take(store: Store, folder: Path | None = None) -> Path:
    """Copy the store into a new folder inside `folder` (default: beside the store), named by the moment; where it is.

    Raises:
        InputError: `folder` lies inside the store, or is not given and the store is in no folder.
        StoreError: the copy is not whole, since the store is damaged or the disk is full; nothing is left of it.

    """
    folder = (folder or _beside(store.root)).expanduser().absolute()
    if isinstance(store.root, Path) and folder.is_relative_to(store.root):
        raise InputError(f"the backup {folder} would lie inside the store {store.root}; name a folder outside it")
    target = folder / f"{store.root.name}-{clock.now():%Y-%m-%dT%H-%M-%S}"
    if target.exists():
        raise InputError(f"{target} is there already; take the next backup a second later")
    _sweep(folder, store.root.name)
    copy = Store(folder / f".{target.name}.{uuid.uuid4().hex}", store.identity)
    try:
        with explained(f"copying the store to {folder}"):
            _copy(store, copy)
        damage = verify(copy.root, deep=True).damage
        if damage:
            raise StoreError(
                f"the copy of {store.root} is not whole: {damage[0].place} {damage[0].said}; "
                f"look at the store with `prism verify --deep`, and back it up again"
            )
        with explained(f"naming the backup {target}"):
            copy.sync()
            copy.root.rename(target)
            replace(copy, root=target).sync()
    finally:
        shutil.rmtree(copy.root, ignore_errors=True)
    log.info("backup of %s in %s", store.root, target)
    return target


def _sweep(folder: Path, name: str) -> None:
    """Delete the copies that were never named, since whoever took them was killed long ago."""
    for left in folder.glob(f".{name}-*"):
        if time.time() - left.stat().st_mtime > _FORGOTTEN:
            shutil.rmtree(left, ignore_errors=True)


def _beside(root: Place) -> Path:
    if not isinstance(root, Path):
        raise InputError(f"the store {root} is in no folder that a backup could be beside; name a folder for backups")
    return root.with_name(f"{root.name}-backups")


def _copy(store: Store, copy: Store) -> None:
    """Everything that is not derived."""
    copy.tables.mkdir(parents=True)
    store.files.fetch(store.root / MARKER, copy.root / MARKER)
    for name in reversed(TABLES):
        if (store.tables / name).is_dir():
            _copy_table(store, copy, name)
    for part in ("blobs", "reports"):
        for file, _ in store.files.entries(store.root / part):
            path = file.relative_to(store.root)
            if not any(name.startswith(".") for name in path.parts):  # locks, and what is being written
                (copy.root / path).parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # deleted since; verifying tells if something names it
                    store.files.fetch(file, copy.root / path)


def _copy_table(store: Store, copy: Store, name: str) -> None:
    """A table at the version that its manifests list."""
    for _ in range(_ATTEMPTS):
        try:
            known = _copy_manifests(store, copy, name)
            _copy_files(store, copy, known)
            return
        except (_ChangedError, FileNotFoundError):
            shutil.rmtree(manifests.folder_of(copy, name), ignore_errors=True)
            shutil.rmtree(copy.tables / name, ignore_errors=True)
    raise StoreError(f"table {name} changed {_ATTEMPTS} times while it was copied; take the backup again")


def _copy_manifests(store: Store, copy: Store, name: str) -> Newest:
    """The manifests that count at this moment, and what they say."""
    tables.open_table(store, name)
    manifests.add(store, name)  # what a killed writer left is listed first
    place, target = manifests.folder_of(store, name), manifests.folder_of(copy, name)
    target.mkdir(parents=True)
    with store.files.locked(place / ".lock"):
        known = manifests.newest(store, name)
        if known is None:
            raise _ChangedError
        (target / NEWEST).write_bytes(known.encoded())
        for manifest in known.manifests:
            store.files.fetch(place / f"{manifest}.json", target / f"{manifest}.json")
    return known


def _copy_files(store: Store, copy: Store, known: Newest) -> None:
    """The files that the copied manifests list."""
    source, target = store.tables / known.table, copy.tables / known.table
    whole = commits.Manifest(known.table)
    for name in known.manifests:
        content = manifests.read(copy, known.table, name)
        if content is None:
            raise StoreError(f"manifest {name} of table {known.table} is damaged; {manifests.remedy(known.table)}")
        whole.update(content)
    for path, file in whole.files.items():
        if not (source / path).exists() and whole.may_be_gone(path, known.checkpoint):
            continue
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        store.files.fetch(source / path, target / path)
        if path == commits.HINT and hashlib.sha256((target / path).read_bytes()).hexdigest() != file.sha256:
            raise _ChangedError  # Delta has written a newer checkpoint


def restore(backup: Path, root: Place) -> None:
    """Make the store at `root`, where there is nothing yet, a copy of a backup, and verify it.

    Its STORE.json is written last, so that what was interrupted is no store, and goes on when it is begun again.

    Raises:
        InputError: there is something else at `root`, or `backup` holds no store.
        StoreError: the backup is damaged, or its copy is.

    """
    if not (backup / MARKER).exists():
        raise InputError(f"{backup} holds no store; name the folder of a backup")
    _check_whole(backup)
    files = files_of(root)
    with explained(f"restoring {backup} to {root}"), ThreadPoolExecutor(_AT_ONCE) as pool:
        kept = [file for part in _PARTS for file, _ in Folder(backup).entries(backup / part)]
        paths = [file.relative_to(backup).as_posix() for file in kept]
        files.probe(root)
        there = [file for file, _ in files.entries(root) if not TEMPORARY.fullmatch(file.name)]
        if {file.relative_to(root).as_posix() for file in there} - set(paths):
            raise InputError(f"{root} is not empty; give --store a place where there is nothing yet")
        list(pool.map(lambda path: files.write(root / path, (backup / path).read_bytes()), paths))
        files.write(root / MARKER, (backup / MARKER).read_bytes())
    _check_whole(root)


def _check_whole(root: Place) -> None:
    damage = verify(root, deep=True).damage
    if damage:
        raise StoreError(f"{root} is not whole: {damage[0].place} {damage[0].said}; {damage[0].remedy}")
