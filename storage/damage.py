"""Damage: the files of a table against its log and its manifests.

What is not as it was written is damage and is named with what to do. What a killed writer left, or what no manifest
lists yet, is a note: of such files only the rows can be checked.
"""

import hashlib
import json
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from storage import commits, manifests
from storage.commits import HINT, LOG, File, Manifest
from storage.errors import StoreError
from storage.files import Place
from storage.manifests import NEWEST, Newest
from storage.schemas import TABLES
from storage.store import Store

RESTORE = "restore it from a backup of the store; without one, compute again in another --store DIR"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was written, or (a note) that could not be compared with that."""

    place: str  # a file inside the store, or a record
    said: str
    remedy: str


@dataclass
class Findings:
    """What was found, by place, and how much was looked at."""

    damage: dict[str, Finding] = field(default_factory=dict)
    notes: list[Finding] = field(default_factory=list)
    files: int = 0

    def accuse(self, place: str, said: str, remedy: str = RESTORE) -> None:
        """Add damage; what was said first of a place stands."""
        self.damage.setdefault(place, Finding(place, said, remedy))

    def note(self, place: str, said: str, remedy: str) -> None:
        """Add what is no damage."""
        self.notes.append(Finding(place, said, remedy))


def examine(store: Store, name: str, deep: bool) -> Findings:
    """What is wrong with the files of a table: its log, and with `deep` every byte that a manifest lists."""
    found, place = Findings(), store.tables / name
    _examine_log(place, found)
    if deep:
        _examine_files(store, name, found)
    if not found.damage and commits.versions(place):
        _open(store, place, found)
    return found


def _inside(place: Place, path: str) -> str:
    """A file of a table as it is named to people: by its path inside the store."""
    return f"tables/{place.name}/{path}"


def _examine_log(place: Place, found: Findings) -> None:
    """Versions without a gap, none empty, and a checkpoint where the first are gone."""
    versions = sorted(commits.versions(place))
    for version in versions:
        path = commits.commit_path(version)
        try:
            commits.actions_of(place / path)
        except FileNotFoundError:  # superseded and deleted at this moment
            continue
        except ValueError:
            size = (place / path).stat().st_size
            said = (
                "is no log entry: its bytes are not those that were written" if size else "is empty: its rows are lost"
            )
            found.accuse(_inside(place, path), said)
    for version in sorted(set(range(versions[0], versions[-1])) - set(versions)) if versions else ():
        found.accuse(_inside(place, commits.commit_path(version)), "is missing: the table's log has a gap")
    points = [commits.version_of(f"{LOG}/{file.name}") or 0 for file in (place / LOG).glob("*.checkpoint.parquet")]
    if versions and versions[0] > max(points, default=-1) + 1:
        said = "is missing, and no checkpoint stands for it"
        found.accuse(_inside(place, commits.commit_path(versions[0] - 1)), said)


def _open(store: Store, place: Place, found: Findings) -> None:
    """Whether Delta reads the log, and whether the newest version's files are there in full."""
    try:
        live = commits.live_files(store.files.delta(place))
    except (DeltaError, OSError) as error:
        found.accuse(_inside(place, LOG), f"cannot be read ({str(error).strip().splitlines()[0]})")
        return
    there = dict(store.files.entries(place))
    for path, size in live.items():
        file = there.get(place / path)
        if file is None:
            found.accuse(_inside(place, path), "is missing, and the table uses it")
        elif file.st_size != size:
            found.accuse(_inside(place, path), f"has {file.st_size} bytes where {size} were written")


def _examine_files(store: Store, name: str, found: Findings) -> None:
    """Every file of the table against the manifests, and the others by what they hold."""
    place = store.tables / name
    known, listed = _listed(store, name, found)
    later = _later(place, name, known.version)
    listed.removed |= later.removed
    listed.vacuumed = max(listed.vacuumed, later.vacuumed)
    for path, file in listed.files.items():
        if path != HINT:
            found.files += 1
            _compare(place, path, file, listed.may_be_gone(path, known.checkpoint), found)
    whole = not any(accused.startswith(f"manifests/{name}/") for accused in found.damage)
    if whole:  # what a lost manifest said of the hint, which is written over, may be newer
        _examine_hint(place, listed, known, found)
    _examine_unlisted(store, place, listed, found, whole and known.version < 0)


def _listed(store: Store, name: str, found: Findings) -> tuple[Newest, Manifest]:
    """What the manifests say; those that are damaged are named and say nothing."""
    folder, said = manifests.folder_of(store, name), Manifest(name)
    there = sorted(file.stem for file in folder.glob("*.json") if file.name != NEWEST)
    try:
        known = manifests.newest(store, name) or Newest(name)
        named = known.manifests
    except StoreError as error:
        found.accuse(f"manifests/{name}/{NEWEST}", _what(str(error)), manifests.remedy(name))
        known, named = None, tuple(there)
    for entry in named:
        content = manifests.read(store, name, entry)
        if content is None:
            lost = not (folder / f"{entry}.json").exists()
            what = "is missing" if lost else "is not as it was written: its bytes have another hash"
            found.accuse(f"manifests/{name}/{entry}.json", what, manifests.remedy(name))
        else:
            said.update(content)
            found.files += 1
    if known is None:
        versions = [commits.version_of(path) or 0 for path in said.files if path.startswith(LOG) and path != HINT]
        points = [commits.version_of(path) or 0 for path in said.files if path.endswith(".checkpoint.parquet")]
        known = Newest(name, max(versions, default=-1), max(points, default=-1))
    elif known.marker is not None:
        _compare(store.root, "STORE.json", File(*known.marker, 0), False, found, "STORE.json")
    left = [entry for entry in there if entry not in named]
    if left:
        first = f"manifests/{name}/{left[0]}.json"
        found.note(
            first, f"{len(left)} manifests are named by no {NEWEST}: left by a kill", "the table's writers delete them"
        )
    return known, said


def _what(sentence: str) -> str:
    return "is missing" if " is missing; " in sentence else "is not as it was written"


def _later(place: Place, name: str, listed: int) -> Manifest:
    """What the versions after the listed ones say, as far as they can be read."""
    said = Manifest(name)
    for version in sorted(commits.versions(place)):
        if version > listed:
            try:
                said.update(commits.of_version(place, name, version))
            except (ValueError, KeyError, TypeError, FileNotFoundError):
                continue  # named by the examination of the log
    return said


def _compare(place: Place, path: str, file: File, may_be_gone: bool, found: Findings, name: str = "") -> None:
    """A file with what was written."""
    label = name or _inside(place, path)
    try:
        content = (place / path).read_bytes()
    except FileNotFoundError:
        if not may_be_gone:
            found.accuse(label, "is missing")
        return
    if len(content) != file.size:
        size = f"has {len(content)} bytes where {file.size} were written" if content else "is empty"
        found.accuse(label, size)
    elif hashlib.sha256(content).hexdigest() != file.sha256:
        found.accuse(label, "has other bytes than were written")


def _examine_hint(place: Place, listed: Manifest, known: Newest, found: Findings) -> None:
    """The file that names the newest checkpoint: as it was written, or written since for a checkpoint that is there."""
    file, label = place / HINT, _inside(place, HINT)
    if HINT not in listed.files and not file.exists():
        return
    found.files += 1
    content = file.read_bytes() if file.exists() else None
    if content is None:
        found.accuse(label, "is missing")
    elif HINT not in listed.files or hashlib.sha256(content).hexdigest() != listed.files[HINT].sha256:
        try:
            said = json.loads(content)
            size = (place / commits.checkpoint_path(said["version"])).stat().st_size
            later = said["version"] > known.checkpoint and size == said["sizeInBytes"]
        except (ValueError, KeyError, TypeError, OSError):
            later = False
        if not later:
            found.accuse(label, "has other bytes than were written" if content else "is empty")


def _examine_unlisted(store: Store, place: Place, listed: Manifest, found: Findings, never: bool) -> None:
    """Files in no manifest: rows that can be read are a note, and so is what no version of the table uses."""
    try:
        live = commits.live_files(store.files.delta(place)) if commits.versions(place) and not found.damage else {}
    except (DeltaError, OSError):
        live = {}
    unlisted, unused = [], []
    for file, _ in sorted(store.files.entries(place)):
        path = file.relative_to(place).as_posix()
        if path in listed.files or path == HINT:
            continue
        parquet = path in live or path.endswith(".checkpoint.parquet")
        if parquet and not _is_readable(file, live.get(path), TABLES[place.name].columns if path in live else None):
            found.accuse(_inside(place, path), "is in no manifest and cannot be read")
        (unlisted if parquet or commits.version_of(path) is not None else unused).append(path)
    if unlisted:
        said = f"{_files(unlisted)} of table {place.name} in no manifest yet, so that only their rows could be checked"
        left = "made before there were manifests, or left by a kill"
        found.note(
            _inside(place, unlisted[0] if not never else ""), f"{said} ({left})", "the table's next write lists them"
        )
    if unused:
        said = f"{_files(unused)} that no version of table {place.name} uses: being written, or left by a kill"
        found.note(_inside(place, unused[0]), said, "they may be deleted when no run is working")


def _files(paths: list[str]) -> str:
    return f"{len(paths)} file{'' if len(paths) == 1 else 's'}"


def _is_readable(file: Place, size: int | None, columns: dict[str, pa.DataType] | None) -> bool:
    """Whether a Parquet file is whole as far as its own format tells, and of the table's columns."""
    try:
        content = file.read_bytes()
        rows = pq.read_table(pa.BufferReader(content))
        if columns is not None:
            rows.cast(pa.schema([(name, columns[name]) for name in rows.column_names]))
        return size in (None, len(content))
    except FileNotFoundError:
        return True  # deleted at this moment
    except (OSError, KeyError, pa.ArrowException):
        return False
