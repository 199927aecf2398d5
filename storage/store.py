"""One store: Delta tables, content-addressed files and a file that says its format, in a folder or in a bucket.

STORE.json              format and identity
tables/<name>/          Delta tables (storage.tables)
manifests/<name>/       what files of them were written, and how they were (storage.manifests)
blobs/sha256/ab/abcd    immutable files named by their content (storage.blobs)
catalog.duckdb          views for people, derived, in a folder only (storage.catalog)
reports/                HTML reports, derived
"""

import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from storage.errors import InputError, StoreError, explained
from storage.files import Files, Folder, Place
from storage.settings import Settings, current

FORMAT, MARKER = 1, "STORE.json"
_STRANGE = r"[%?#*\[\]\\\n\r]"  # delta-rs and DuckDB take a path for a URL or a pattern, and miss the folder


@dataclass(frozen=True)
class Store:
    """An opened store: where it is, and which one it is."""

    root: Place
    identity: str
    read_only: bool = False  # reading makes and alters no table

    @property
    def files(self) -> Files:
        """How its files are read and changed."""
        return files_of(self.root)

    @property
    def tables(self) -> Place:
        """Folder of the Delta tables."""
        return self.root / "tables"

    @property
    def blobs(self) -> Place:
        """Folder of the content-addressed files."""
        return self.root / "blobs" / "sha256"

    def sync(self) -> None:
        """Return when everything written to the store is durable."""
        self.files.sync()


def files_of(root: Place) -> Files:
    """The files of the store that lies there."""
    return Folder(root) if isinstance(root, Path) else root.files


def place_of(store: "str | Place") -> Place:
    """Where a store is that was named so; raises InputError for what can be none."""
    if str(store).startswith("s3://"):
        from storage.objects import ObjectPath  # loads what a store in a folder never needs

        return ObjectPath.parse(str(store))
    if re.match(r"\w+:/", str(store)):
        raise InputError(f"the store {store} is neither a local folder nor s3://BUCKET/NAME; give another --store")
    root = Path(store).expanduser().absolute()
    if re.search(_STRANGE, str(root)):
        raise InputError(f"the store's path {str(root)!r} holds one of %?#*[]\\ or a new line; give another --store")
    check_place(root)
    return root


def open_store(root: "str | Place | None" = None) -> Store:
    """Open the store at `root` (default: the settings' own), making it where there is none.

    Raises:
        InputError: the store is of an unknown format, or its place can be none.
        StoreError: it cannot be made or read.

    """
    place = place_of(current(Settings).store if root is None else root)
    with explained(f"opening the store {place}"):
        marker = place / MARKER
        try:
            return Store(place, _identity(marker))
        except FileNotFoundError:
            _create(marker)
        return Store(place, _identity(marker))


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


def _create(marker: Place) -> None:
    """Make the folders and, whole or not at all, the marker; of two processes at once the first one's stays."""
    folder = marker.parent
    said = _foreign(folder)
    if said and not marker.exists():  # another process makes it at this moment
        raise InputError(said)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    files_of(folder).create(marker, _content(FORMAT, uuid.uuid4().hex))
    _check_writers(marker)


def _foreign(folder: Place) -> str | None:
    """Why no store can be made in a folder; None where one can."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    if any(files_of(folder).entries(folder / part) for part in ("tables", "blobs", "manifests")):
        return f"{folder} holds files of a store but no {MARKER}; restore that, or begin the store's restore again"
    foreign = not (folder / "tables").is_dir()
    return f"{folder} is not empty and is no store; give --store an empty or a new folder" if foreign else None


def _content(number: int, identity: str) -> bytes:
    return (json.dumps({"format": number, "identity": identity}) + "\n").encode()


def _check_writers(marker: Place) -> None:
    """Take the new store away again where writers could not rely on it."""
    try:
        files_of(marker.parent).probe(marker.parent)
    except InputError:
        marker.unlink()
        raise


def replace_marker(root: Path, number: int) -> None:
    """Have a store say another format, whole or not at all; for migrations, which do it to a copy."""
    Folder(root).write(root / MARKER, _content(number, json.loads((root / MARKER).read_bytes())["identity"]))


def _identity(marker: Place) -> str:
    try:
        content = json.loads(marker.read_bytes())
        known, identity = int(content["format"]), content["identity"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{marker} is damaged ({error}); restore it from a backup of the store") from error
    if known != FORMAT:
        remedy = "`prism migrate` brings it up to date" if known < FORMAT else "use a matching version"
        raise InputError(f"{marker} says format {known}, this version reads {FORMAT}; {remedy}")
    return identity
