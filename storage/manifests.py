"""Manifests: name, size and SHA-256 of every file of a table, so that a file that is not as it was written is found.

manifests/<table>/<sha256>.json   the files that a commit added, its log entry among them; many are merged into one
manifests/<table>/newest.json     which manifests count and up to which version of the table; replaced by rename

Manifests are named by their content and never changed. A writer lists, after its commit, all versions that are not
listed yet: its own, and what a killed writer left. It writes under temporary names, syncs, and renames while it holds
a lock, unless another writer was first: then it looks again. So a manifest is whole or absent, and one that is named
and not there was lost. A store from before there were manifests is listed table by table with the next writes.
"""

import fcntl
import hashlib
import json
import os
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from storage.errors import StoreError
from storage.keys import digest, to_json
from storage.store import Store

NEWEST = "newest.json"
LOG = "_delta_log"
HINT = f"{LOG}/_last_checkpoint"
RETENTION = 30 * 86_400_000  # milliseconds after which Delta deletes commits that a checkpoint covers, its default
_MANY = 64  # manifests of a table above which a writer merges them
_FORGOTTEN = 86_400  # seconds


@dataclass(frozen=True)
class File:
    """A file as it was written."""

    size: int
    sha256: str
    time: int  # of its commit, or of a checkpoint itself, in milliseconds since 1970


@dataclass
class Manifest:
    """What some versions of a table wrote."""

    table: str
    files: dict[str, File] = field(default_factory=dict)  # by path inside the table's folder
    removed: dict[str, int] = field(default_factory=dict)  # data files taken out of the table, and by which version
    vacuumed: int = -1  # newest version in which Delta deleted data files that were taken out before

    def encoded(self) -> bytes:
        """Canonical JSON."""
        return to_json(asdict(self)).encode()

    def update(self, later: "Manifest") -> None:
        """Add what a later manifest says."""
        self.files |= later.files
        self.removed |= later.removed
        self.vacuumed = max(self.vacuumed, later.vacuumed)

    def may_be_gone(self, path: str, checkpoint: int) -> bool:
        """Whether Delta itself may have deleted a file: by a vacuum, or as a log entry that is old and superseded."""
        if not path.startswith(LOG):
            return path in self.removed and self.removed[path] < self.vacuumed
        newest = self.files.get(checkpoint_path(checkpoint))
        version = version_of(path)
        if newest is None or version is None or version >= checkpoint:
            return False
        return self.files[path].time <= newest.time - RETENTION


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
    """New contents under temporary names, and what they replace."""

    folder: Path
    before: bytes  # of newest.json
    renames: tuple[tuple[Path, Path], ...]  # newest.json last
    merged: tuple[str, ...]

    def publish(self) -> bool:
        """Give the contents their names; False, with nothing changed, where another writer was first."""
        with _locked(self.folder):
            if (self.folder / NEWEST).read_bytes() != self.before:
                self.discard()
                return False
            for temporary, target in self.renames:
                temporary.replace(target)
        for name in self.merged:
            (self.folder / f"{name}.json").unlink(missing_ok=True)
        if self.merged:
            self._sweep()
        return True

    def _sweep(self) -> None:
        """Delete what killed writers left long ago: temporary files, and manifests that were never named."""
        table = self.folder.name
        kept = {self.folder / f"{name}.json" for name in _newest(self.folder / NEWEST, table).manifests}
        for file in {*self.folder.glob(".*.json.*"), *self.folder.glob("*.json")} - kept - {self.folder / NEWEST}:
            if file.exists() and time.time() - file.stat().st_mtime > _FORGOTTEN:
                file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete what has no name yet."""
        for temporary, _ in self.renames:
            temporary.unlink(missing_ok=True)


def folder_of(store: Store, name: str) -> Path:
    """Where the manifests of a table lie."""
    return store.root / "manifests" / name


def commit_path(version: int) -> str:
    """Path of a version's log entry inside the table's folder."""
    return f"{LOG}/{version:020}.json"


def checkpoint_path(version: int) -> str:
    """Path of a checkpoint of the log inside the table's folder."""
    return f"{LOG}/{version:020}.checkpoint.parquet"


def version_of(path: str) -> int | None:
    """The version of a file of the log; None for any other file."""
    number, _, _ = Path(path).name.partition(".")
    return int(number) if path.startswith(LOG) and number.isdecimal() else None


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
    if not place.exists():
        if any(place.parent.glob("*.json")):
            raise StoreError(f"{place} is missing; {remedy(name)}")
        return None
    return _newest(place, name)


def _newest(place: Path, name: str) -> Newest:
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
        update = _update(store, name)
        try:
            store.sync()
        except BaseException:
            if update:
                update.discard()
            raise
        if update is None or update.publish():
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
    renames = tuple((_temporary(target), target) for target in contents)
    update = _Update(folder, known.encoded(), renames, merged)
    try:
        for temporary, target in renames:
            temporary.write_bytes(contents[target])
    except BaseException:
        update.discard()
        raise
    return update


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}")


def _begun(store: Store, name: str) -> Newest:
    """The table's newest.json, made before its first manifest, so that later its absence says that it was lost."""
    place, marker = folder_of(store, name) / NEWEST, (store.root / "STORE.json").read_bytes()
    known = Newest(name, marker=(len(marker), hashlib.sha256(marker).hexdigest()))
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(place)
    try:
        with temporary.open("xb") as file:
            file.write(known.encoded())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another writer's is as good
            os.link(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
    return _newest(place, name)


def _first(store: Store, known: Newest) -> tuple[Newest, Manifest]:
    """All files of a table that no writer has listed yet."""
    place, made = store.tables / known.table, Manifest(known.table)
    table = DeltaTable(place)
    for version in sorted(versions(place)):
        if version <= table.version():
            made.update(of_version(place, known.table, version))
    newest_time = max(file.time for file in made.files.values())
    live = {path: _file(place / path, newest_time, size) for path, size in live_files(table).items()}
    checkpoint, files = _checkpoints(place, -1)
    made.files = live | made.files | files
    return replace(known, version=table.version(), checkpoint=checkpoint), made


def _following(store: Store, known: Newest) -> tuple[Newest, Manifest]:
    """The files of the versions after those listed, and of a newer checkpoint."""
    place, made, version = store.tables / known.table, Manifest(known.table), known.version
    while (place / commit_path(version + 1)).exists():
        version += 1
        made.update(of_version(place, known.table, version))
    checkpoint, files = _checkpoints(place, known.checkpoint)
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


def of_version(place: Path, name: str, version: int) -> Manifest:
    """What one version of the table in the folder `place` wrote."""
    actions = actions_of(place / commit_path(version))
    said = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    written = int(said.get("timestamp", 0))
    made = Manifest(name, {commit_path(version): _file(place / commit_path(version), written)})
    for action in actions:
        if "add" in action:
            path = urllib.parse.unquote(action["add"]["path"])
            made.files[path] = _file(place / path, written, action["add"]["size"])
        if "remove" in action:
            made.removed[urllib.parse.unquote(action["remove"]["path"])] = version
    if str(said.get("operation", "")).startswith("VACUUM"):
        made.vacuumed = version
    return made


def actions_of(commit: Path) -> list[dict[str, Any]]:
    """The actions of a log entry; raises ValueError where it holds something else."""
    actions = [json.loads(line) for line in commit.read_bytes().splitlines()]
    if not actions or not all(isinstance(action, dict) for action in actions):
        raise ValueError(f"{commit} holds no actions")
    return actions


def versions(place: Path) -> set[int]:
    """The versions whose log entries are in the table's folder."""
    return {int(file.stem) for file in (place / LOG).glob("*.json") if file.stem.isdecimal()}


def live_files(table: DeltaTable) -> dict[str, int]:
    """Path and size of the data files of the table's newest version."""
    actions = pa.table(table.get_add_actions(flatten=True))
    return dict(
        zip(map(urllib.parse.unquote, actions["path"].to_pylist()), actions["size_bytes"].to_pylist(), strict=True)
    )


def _checkpoints(place: Path, listed: int) -> tuple[int, dict[str, File]]:
    """The newest checkpoint that Delta names, and the files of those after `listed`, with the one that names it."""
    hint = place / HINT
    if not hint.exists():
        return listed, {}
    content = hint.read_bytes()
    named = int(json.loads(content)["version"])
    if named <= listed:
        return listed, {}
    found = {f"{LOG}/{file.name}" for file in (place / LOG).glob("*.checkpoint.parquet")}
    new = sorted(path for path in found if listed < (version_of(path) or 0) <= named)
    files = {path: _file(place / path, int(1000 * (place / path).stat().st_mtime)) for path in new}
    return named, files | {HINT: File(len(content), hashlib.sha256(content).hexdigest(), 0)}


def _file(path: Path, written: int, size: int | None = None) -> File:
    """A file as it is; one that is gone, or whose size is not what the log says, gets no hash that anything has."""
    content = path.read_bytes() if path.exists() else b""
    if size is not None and size != len(content):
        return File(size, "", written)
    return File(len(content), hashlib.sha256(content).hexdigest(), written)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel frees when its holder dies."""
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
