"""The files that a table's commits write: as Delta's log tells them, and what Delta itself may delete of them."""

import hashlib
import json
import re
import urllib.parse
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from storage.files import Place
from storage.keys import to_json

LOG = "_delta_log"
HINT = f"{LOG}/_last_checkpoint"  # the file that names the newest checkpoint
_RETENTION = 30 * 86_400_000  # milliseconds after which Delta deletes commits that a checkpoint covers, its default


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
        return self.files[path].time <= newest.time - _RETENTION


def commit_path(version: int) -> str:
    """Path of a version's log entry inside the table's folder."""
    return f"{LOG}/{version:020}.json"


def checkpoint_path(version: int) -> str:
    """Path of a checkpoint of the log inside the table's folder."""
    return f"{LOG}/{version:020}.checkpoint.parquet"


def version_of(path: str) -> int | None:
    """The version of a file of the log; None for any other file."""
    found = re.fullmatch(rf"{LOG}/(\d{{20}})\.(json|checkpoint\.parquet)", path)
    return int(found[1]) if found else None


def of_version(place: Place, name: str, version: int) -> Manifest:
    """What one version of the table in the folder `place` wrote."""
    actions = actions_of(place / commit_path(version))
    said = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    written = int(said.get("timestamp", 0))
    made = Manifest(name, {commit_path(version): file_at(place / commit_path(version), written)})
    for action in actions:
        if "add" in action:
            path = urllib.parse.unquote(action["add"]["path"])
            made.files[path] = file_at(place / path, written, action["add"]["size"])
        if "remove" in action:
            made.removed[urllib.parse.unquote(action["remove"]["path"])] = version
    if str(said.get("operation", "")).startswith("VACUUM"):
        made.vacuumed = version
    return made


def actions_of(commit: Place) -> list[dict[str, Any]]:
    """The actions of a log entry; raises ValueError where it holds something else."""
    actions = [json.loads(line) for line in commit.read_bytes().splitlines()]
    if not actions or not all(isinstance(action, dict) for action in actions):
        raise ValueError(f"{commit} holds no actions")
    return actions


def versions(place: Place) -> set[int]:
    """The versions whose log entries are in the table's folder."""
    found = (version_of(f"{LOG}/{file.name}") for file in (place / LOG).glob("*.json"))
    return {version for version in found if version is not None}


def live_files(table: DeltaTable) -> dict[str, int]:
    """Path and size of the data files of the table's newest version."""
    actions = pa.table(table.get_add_actions(flatten=True))
    return dict(
        zip(map(urllib.parse.unquote, actions["path"].to_pylist()), actions["size_bytes"].to_pylist(), strict=True)
    )


def checkpoints(place: Place, listed: int) -> tuple[int, dict[str, File]]:
    """The newest checkpoint that Delta names, and the files of those after `listed`, with the one that names it."""
    try:
        content = (place / HINT).read_bytes()
    except FileNotFoundError:
        return listed, {}
    try:
        named = int(json.loads(content)["version"])
    except (ValueError, KeyError, TypeError):  # damaged: Delta does without it, and verifying names it
        return listed, {}
    if named <= listed:
        return listed, {}
    found = {f"{LOG}/{file.name}" for file in (place / LOG).glob("*.checkpoint.parquet")}
    new = sorted(path for path in found if listed < (version_of(path) or 0) <= named)
    files = {path: file_at(place / path, int(1000 * (place / path).stat().st_mtime)) for path in new}
    return named, files | {HINT: File(len(content), hashlib.sha256(content).hexdigest(), 0)}


def file_at(path: Place, written: int, size: int | None = None) -> File:
    """A file as it is; one that is gone, or whose size is not what the log says, gets no hash that anything has."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    if size is not None and size != len(content):
        return File(size, "", written)
    return File(len(content), hashlib.sha256(content).hexdigest(), written)
