"""Upgrades of a store's format: steps from one format to the next, done to a copy that then takes the store's place.

    STORE          the store as it is; nothing here ever writes into it
    STORE.migrating  the copy: filled, changed step by step, verified deeply, then exchanged with the store in one act
    STORE.format-N   afterwards the store as it was, to be deleted by the person who has looked at the new one

A migration that was killed at any moment goes on where it was when it is asked for again: files that are copied are
not copied again, a step that was not finished is done again, so that a step must give the same when it is repeated.
A step gets the folder of a store whose marker says the format it starts from; the next format is written after it.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage import manifests
from storage.errors import InputError, StoreError, explained
from storage.files import Folder, Place, exchange
from storage.store import FORMAT, MARKER, Store, replace_marker
from storage.verification import verify

Step = Callable[[Path], None]
STEPS: dict[int, Step] = {}  # by the format that it starts from
_FILLED = ".filled"  # in the copy once everything is there
_COPYING = ".copying"  # the file that is copied at the moment
log = logging.getLogger("prism.store")


@dataclass(frozen=True)
class Migrated:
    """What a migration did."""

    store: Path
    before: int
    after: int
    kept: Path | None  # the store as it was; None where nothing was to be done


def migrate(root: Place) -> Migrated:
    """Bring the store at `root` to this version's format.

    Raises:
        InputError: there is no way from its format to this one, or the store is in a bucket.
        StoreError: it is written to meanwhile, damaged, or the disk is full; the store is as it was.

    """
    if not isinstance(root, Path):
        raise InputError(
            f"the store {root} is in no folder; back it up to one, migrate that, and restore it to a new place"
        )
    copy, before = root.with_name(f"{root.name}.migrating"), _format(root)
    if before == FORMAT:
        return Migrated(root, before, before, _put_aside(root, copy))
    lacking = [number for number in range(before, FORMAT) if number not in STEPS]
    if before > FORMAT or lacking:
        raise InputError(
            f"{root} has format {before}, and nothing leads from there to {FORMAT}; use a matching version"
        )
    _check_copy(root, copy)
    with explained(f"copying the store {root}"):
        _fill(root, copy)
    with explained(f"changing the copy {copy}"):
        for number in range(_format(copy), FORMAT):
            log.info("format %d to %d", number, number + 1)
            STEPS[number](copy)
            replace_marker(copy, number + 1)
        manifests.mark_again(Store(copy, ""))
    _check_whole(copy)
    _check_unchanged(root, copy)
    with explained(f"exchanging {root} and {copy}"):
        Store(copy, "").sync()
        (copy / _FILLED).unlink(missing_ok=True)
        exchange(root, copy)
    return Migrated(root, before, FORMAT, _put_aside(root, copy))


def _format(root: Path) -> int:
    try:
        return int(json.loads((root / MARKER).read_text())["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{root / MARKER} cannot be read ({error}); restore it from a backup of the store") from error


def _identity(root: Path) -> str:
    return str(json.loads((root / MARKER).read_text())["identity"])


def _check_copy(root: Path, copy: Path) -> None:
    """Refuse a folder in the copy's place that is none of this store's."""
    if not copy.exists() or {entry.name for entry in copy.iterdir()} <= {_COPYING}:
        return
    if not (copy / MARKER).exists() or _identity(copy) != _identity(root):
        raise InputError(f"{copy} is in the way of the copy that a migration makes; move it elsewhere")


def _files(root: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of everything in a store that is not derived, by place; locks and temporary files are left out."""
    there = (file for file in root.rglob("*") if file.is_file())
    named = ((file.relative_to(root), file.stat()) for file in there)
    return {
        place: (found.st_size, found.st_mtime_ns)
        for place, found in named
        if place.name != "catalog.duckdb" and not any(part.startswith(".") for part in place.parts)
    }


def _fill(root: Path, copy: Path) -> None:
    """Copy what the copy lacks, the marker first: it says whose copy this is."""
    if (copy / _FILLED).exists():
        return
    copy.mkdir(exist_ok=True)
    (copy / _COPYING).unlink(missing_ok=True)
    there = _files(root)
    for place in sorted(there, key=lambda place: (place != Path(MARKER), place)):
        if not (copy / place).exists() or _stamp(copy / place) != there[place]:
            (copy / place).parent.mkdir(parents=True, exist_ok=True)
            temporary = copy / _COPYING
            shutil.copy2(root / place, temporary)
            temporary.replace(copy / place)
    for place in _files(copy).keys() - there.keys():
        (copy / place).unlink()  # of an earlier attempt, gone since
    Store(copy, "").sync()
    filled = {f"{place}": stamp for place, stamp in there.items()}
    Folder(copy).write(copy / _FILLED, json.dumps(filled).encode())


def _stamp(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns


def _check_unchanged(root: Path, copy: Path) -> None:
    """Refuse a copy of a store that was written to since; the next attempt copies what is new."""
    known = {Path(place): tuple(stamp) for place, stamp in json.loads((copy / _FILLED).read_text()).items()}
    if _files(root) != known:
        _discard(copy)
        raise StoreError(f"{root} was written to while it was copied; stop what runs on it, and migrate it again")


def _check_whole(copy: Path) -> None:
    damage = verify(copy, deep=True).damage
    if damage:
        _discard(copy)
        raise StoreError(
            f"the migrated copy is not whole: {damage[0].place} {damage[0].said}; the store is as it was: look at it "
            "with `prism verify --deep` of the version that wrote it"
        )


def _discard(copy: Path) -> None:
    """Delete a copy, the marker that says whose it is last."""
    for entry in copy.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != MARKER:
            entry.unlink()
    shutil.rmtree(copy)


def _put_aside(root: Path, copy: Path) -> Path | None:
    """Give the store as it was, which an exchange has left in the copy's place, its own name."""
    if not (copy / MARKER).exists() or _identity(copy) != _identity(root):
        return None
    kept = root.with_name(f"{root.name}.format-{_format(copy)}")
    with explained(f"naming the store as it was {kept}"):
        copy.rename(kept)
    return kept
