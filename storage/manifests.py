"""Manifests: name, size and SHA-256 of every file of a table, so that a file that is not as it was written is found.

manifests/<table>/<sha256>.json   the files that a commit added, its log entry among them; many are merged into one
manifests/<table>/newest.json     which manifests count and up to which version of the table; replaced as a whole

Manifests are named by their content and never changed. A writer lists, after its commit, all versions that are not
listed yet: its own, and what a killed writer left. It writes its manifest and then newest.json in place of the one it
has read, unless another writer was first: then it looks again. So a manifest is whole or absent, and one that is named
and not there was lost. A store from before there were manifests is listed table by table with the next writes.
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace

from storage import commits
from storage.commits import File, Manifest
from storage.errors import StoreError, explained
from storage.files import Place
from storage.keys import digest, to_json
from storage.store import MARKER, Store

NEWEST = "newest.json"
_MANY = 64  # manifests of a table above which a writer merges them
_FORGOTTEN = 86_400  # seconds


@dataclass(frozen=True)
class Newest:
    """Which manifests of a table count."""

    table: str
    version: int = -1  # all versions up to it are listed
    checkpoint: int = -1  # of the table's log, newest listed
    manifests: tuple[str, ...] = ()
    marker: tuple[int, str] | None = None  # size and SHA-256 of STORE.json

    def encoded(self) -> bytes:
        """Canonical JSON with its own hash."""
        return to_json(asdict(self) | {"digest": digest(asdict(self))}).encode()


@dataclass(frozen=True)
class _Update:
    """What is to be written in place of what."""

    before: bytes  # of newest.json
    contents: dict[Place, bytes]  # newest.json last
    merged: tuple[str, ...]  # manifests that are not named any more then


def folder_of(store: Store, name: str) -> Place:
    """Where the manifests of a table lie."""
    return store.root / "manifests" / name


def decoded(content: bytes, table: str) -> Manifest:
    """A manifest from its bytes, once these were compared with its name; raises ValueError for another table's."""
    values = json.loads(content)
    if values["table"] != table:
        raise ValueError(f"it is of table {values['table']}")
    return Manifest(**values | {"files": {path: File(**entry) for path, entry in values["files"].items()}})


def newest(store: Store, name: str) -> Newest | None:
    """What newest.json says; None for a table that no writer has listed yet.

    Raises StoreError where it is missing or is not as it was written.
    """
    place = folder_of(store, name) / NEWEST
    try:
        return _newest(place, name)
    except FileNotFoundError:
        if not any(place.parent.glob("*.json")):
            return None
    if not place.exists():  # looked at again: a first writer makes it, then its manifest, at any moment
        raise StoreError(f"{place} is missing; {remedy(name)}")
    return _newest(place, name)


def _newest(place: Place, name: str) -> Newest:
    content = place.read_bytes()
    try:
        values = {key: value for key, value in json.loads(content).items() if key != "digest"}
        known = Newest(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
        whole = known.encoded() == content and known.table == name
    except (ValueError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise StoreError(f"{place} is not as it was written; {remedy(name)}")
    return known


def remedy(name: str) -> str:
    """What to do about a damaged manifest."""
    return (
        f"restore it from a backup, or delete the folder manifests/{name}: the next write to table {name} lists its "
        "files anew, as they are then"
    )


def add(store: Store, name: str) -> None:
    """List what the table's log holds and no manifest does yet; the disk is synced when this returns."""
    while True:
        with explained(f"writing table {name}", ValueError, KeyError, TypeError):
            update = _update(store, name)
        if update is None:
            store.sync()
            return
        if store.files.swap(folder_of(store, name) / NEWEST, update.before, update.contents):
            for merged in update.merged:
                (folder_of(store, name) / f"{merged}.json").unlink(missing_ok=True)
            if update.merged:
                sweep(store, name)
            return


def _update(store: Store, name: str) -> _Update | None:
    """What is to be written to list the table's newest version; None where it is listed."""
    known, folder = newest(store, name) or _begun(store, name), folder_of(store, name)
    now, added = _first(store, known) if known.version < 0 else _following(store, known)
    if now == known:
        return None
    merged: tuple[str, ...] = ()
    if len(now.manifests) >= _MANY:
        merged, added = _merged(store, now, added)
    content = added.encoded()
    made = hashlib.sha256(content).hexdigest()
    now = replace(now, manifests=(*(entry for entry in now.manifests if entry not in merged), made))
    contents = {folder / f"{made}.json": content, folder / NEWEST: now.encoded()}
    return _Update(known.encoded(), contents, merged)


def sweep(store: Store, name: str) -> None:
    """Delete what killed writers of a table left long ago: temporary files, and manifests that were never named."""
    folder = folder_of(store, name)
    kept = {folder / NEWEST, *(folder / f"{entry}.json" for entry in _newest(folder / NEWEST, name).manifests)}
    for file, found in store.files.entries(folder):
        if ".json" in file.name and file not in kept and time.time() - found.st_mtime > _FORGOTTEN:
            file.unlink(missing_ok=True)


def _begun(store: Store, name: str) -> Newest:
    """The table's newest.json, made before its first manifest, so that later its absence says that it was lost."""
    place = folder_of(store, name) / NEWEST
    store.files.create(place, Newest(name, marker=_marker(store)).encoded())  # another writer's is as good
    return _newest(place, name)


def _marker(store: Store) -> tuple[int, str]:
    content = (store.root / MARKER).read_bytes()
    return len(content), hashlib.sha256(content).hexdigest()


def mark_again(store: Store) -> None:
    """List STORE.json as it is now, after a migration has changed it."""
    for place in sorted((store.root / "manifests").glob(f"*/{NEWEST}")):
        store.files.write(place, replace(_newest(place, place.parent.name), marker=_marker(store)).encoded())


def _first(store: Store, known: Newest) -> tuple[Newest, Manifest]:
    """All files of a table that no writer has listed yet."""
    place, made = store.tables / known.table, Manifest(known.table)
    table = store.files.delta(place)
    for version in sorted(commits.versions(place)):
        if version <= table.version():
            made.update(commits.of_version(place, known.table, version))
    newest_time = max(file.time for file in made.files.values())
    live = {path: commits.file_at(place / path, newest_time, size) for path, size in commits.live_files(table).items()}
    checkpoint, files = commits.checkpoints(place, -1)
    there = {path: file for path, file in made.files.items() if (place / path).exists()}  # the others were vacuumed
    made.files = there | live | files
    return replace(known, version=table.version(), checkpoint=checkpoint), made


def _following(store: Store, known: Newest) -> tuple[Newest, Manifest]:
    """The files of the versions after those listed, and of a newer checkpoint."""
    place, made, version = store.tables / known.table, Manifest(known.table), known.version
    while (place / commits.commit_path(version + 1)).exists():
        version += 1
        made.update(commits.of_version(place, known.table, version))
    checkpoint, files = commits.checkpoints(place, known.checkpoint)
    made.files |= files
    return replace(known, version=version, checkpoint=checkpoint), made


def _merged(store: Store, known: Newest, added: Manifest) -> tuple[tuple[str, ...], Manifest]:
    """The names of the manifests merged, and the one that holds all they do, but for files that Delta has deleted.

    None is merged where one is not as it was written: it stays, to be named by whoever looks.
    """
    whole, place = Manifest(known.table), store.tables / known.table
    for name in known.manifests:
        content = read(store, known.table, name)
        if content is None:
            return (), added
        whole.update(content)
    whole.update(added)
    gone = [p for p in whole.files if whole.may_be_gone(p, known.checkpoint) and not (place / p).exists()]
    for path in gone:
        del whole.files[path]
        whole.removed.pop(path, None)
    return known.manifests, whole


def read(store: Store, table: str, name: str) -> Manifest | None:
    """A manifest; None where it is missing or its bytes are not those it was named for."""
    try:
        content = (folder_of(store, table) / f"{name}.json").read_bytes()
        return decoded(content, table) if hashlib.sha256(content).hexdigest() == name else None
    except (FileNotFoundError, ValueError):
        return None
