"""Verification: whether a store is what was written to it. It only reads, and works while others write.

Always: the scenarios' chains, the rows of what stands decided against their content hash, every blob against its
name, every table's log. `deep`: every record's rows, every snapshot's rows, rows that are there twice, and every file
(storage.damage). What a writer changes looks like damage for a moment, so damage counts once it was seen again.
"""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage import blobs, ledger, snapshots, tables
from storage.damage import RESTORE, Finding, Findings, examine
from storage.errors import PrismError, explained
from storage.files import Place
from storage.schemas import TABLES
from storage.store import FORMAT, Store

_LOOKS = 3  # at what looks damaged
_PAUSE = 0.3  # seconds between two of them
UNFINISHED = "damaged/*/*.ready"  # what a repair says of a table that it has written, until all of it is done
# columns that name a blob
BLOBS = {
    "features": "blob",
    "predictions": "blob",
    "models": "blob",
    "snapshots": "manifest",
    "scenarios": "universe",
    "ingests": "payload",
    "trials": "returns",
}


@dataclass(frozen=True)
class Verified:
    """What a verification found, and how much it looked at."""

    damage: list[Finding]
    notes: list[Finding]
    records: int
    blobs: int
    files: int  # of tables, and manifests; 0 without `deep`

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damage


def verify(root: Place, deep: bool = False) -> Verified:
    """What is damaged in the store at `root`, file by file and record by record."""
    with explained(f"verifying the store {root}"):
        return _verified(Store(root, "", read_only=True), deep)


def _verified(store: Store, deep: bool) -> Verified:
    found = _seen_again(lambda: _begun(store))
    marks, damaged = found.notes, dict(found.damage)
    files, suspect = 0, set()
    for name in sorted(TABLES):
        if (store.tables / name).is_dir() or (deep and (store.root / "manifests" / name).is_dir()):
            table = _seen_again(lambda name=name: examine(store, name, deep))
            damaged |= {place: entry for place, entry in table.damage.items() if place not in damaged}
            marks, files = marks + table.notes, files + table.files
            suspect |= {name} if any(place.startswith("tables/") for place in table.damage) else set()
    marks = marks + _unknown(store)
    kept = _seen_again(lambda: _blobs(store, suspect))
    decided = _seen_again(lambda: _decided(store, suspect, deep))
    parts = [kept, decided]
    if deep:
        parts.append(_seen_again(lambda: _repeated(store, suspect)))
    if deep and not kept.damage and "snapshots" not in suspect:
        parts.append(_seen_again(lambda: _snapshots(store)))
    for part in parts:
        damaged |= {place: entry for place, entry in part.damage.items() if place not in damaged}
        marks = marks + part.notes
    return Verified(list(damaged.values()), marks, decided.files, kept.files, files)


def _seen_again(look: Callable[[], Findings]) -> Findings:
    """What a look finds; damage only if it is still there after a pause."""
    found = look()
    for _ in range(_LOOKS - 1):
        if not found.damage:
            break
        time.sleep(_PAUSE)
        again = look()
        again.damage = {place: entry for place, entry in again.damage.items() if found.damage.get(place) == entry}
        found = again
    return found


def _begun(store: Store) -> Findings:
    """STORE.json by what it says, and repairs that were interrupted."""
    found, place = Findings(), store.root / "STORE.json"
    try:
        content = json.loads(place.read_bytes())
        if content["format"] != FORMAT or len(bytes.fromhex(content["identity"])) != 16:
            found.accuse(place.name, f"does not say format {FORMAT} and an identity")
    except FileNotFoundError:
        found.accuse(place.name, "is missing")
    except (ValueError, KeyError, TypeError):
        found.accuse(place.name, "is not as it was written" if place.stat().st_size else "is empty")
    for note in store.root.glob(UNFINISHED) if isinstance(store.root, Path) else ():  # a bucket is never mended
        place = note.relative_to(store.root).as_posix()
        found.accuse(place, "is of a repair that was interrupted", "go on with `prism repair`")
    return found


def _unknown(store: Store) -> list[Finding]:
    """Tables of other versions of PRISM."""
    said = "is no table of this version, so it was not looked at"
    there = store.tables.iterdir() if store.tables.is_dir() else ()
    found = sorted(folder.name for folder in there if folder.name not in TABLES)
    return [
        Finding(f"tables/{name}", said, "it may be deleted where no other version uses the store") for name in found
    ]


def _blobs(store: Store, suspect: set[str]) -> Findings:
    """Every blob against its name, and that those are there which a table names."""
    found, there = Findings(), set()
    named = _named(store, suspect, found)  # before the files are listed: a blob is written before the row that names it
    for file, _ in sorted(store.files.entries(store.blobs)):
        place = file.relative_to(store.root).as_posix()
        if file.name.startswith("."):
            found.note(place, "is a blob being written, or left by a kill", "it may be deleted when no run is working")
            continue
        content = file.read_bytes()
        there.add(file)
        if hashlib.sha256(content).hexdigest() != file.name or blobs.path(store, file.name) != file:
            said = "has other bytes than its name says" if content else "is empty"
            found.accuse(place, said, RESTORE if file.name in named else "nothing names it: delete it")
    for blob, user in named.items():
        if blobs.path(store, blob) not in there:
            found.accuse(blobs.path(store, blob).relative_to(store.root).as_posix(), f"is missing, and {user} names it")
    found.files = len(there)
    return found


def _named(store: Store, suspect: set[str], found: Findings) -> dict[str, str]:
    """By blob what names it: rows of tables, and the manifests of snapshots."""
    named: dict[str, str] = {}
    for name, column in BLOBS.items():
        if name not in suspect:
            named |= dict.fromkeys(_column(store, name, column, found), f"table {name}")
    for manifest in [blob for blob, user in named.items() if user == "table snapshots"]:
        with suppress(PrismError):  # damaged or missing itself
            months = json.loads(blobs.get(store, manifest))["months"]
            named |= {entry["blob"]: f"a snapshot's month {month}" for month, entry in months.items()}
    if "decisions" not in suspect:
        records = map(json.loads, _column(store, "decisions", "record", found))
        named |= {record["universe"]: "the ledger" for record in records if "universe" in record}
    return named


def _column(store: Store, name: str, column: str, found: Findings) -> set[str]:
    """What a column of a table holds."""
    try:
        return set(tables.read(store, name, [column])[column].to_pylist()) - {None}
    except PrismError as error:
        found.accuse(f"tables/{name}", f"cannot be read ({error})")
        return set()


def _decided(store: Store, suspect: set[str], deep: bool) -> Findings:
    """The chains, and the rows of what stands decided, or with `deep` of every record, against their hash."""
    found = Findings()
    if "decisions" in suspect:
        found.note("tables/decisions", "has damaged files, so the ledger was not looked at", "restore them first")
        return found
    broken = suspect & {"forecasts", "weights", "trades"}
    if broken:
        said = f"the decisions' rows were not compared: files of {', '.join(sorted(broken))} are damaged"
        found.note("tables/decisions", said, "restore them first")
    for scenario in sorted(_column(store, "decisions", "scenario", found)):
        _examine_scenario(store, scenario, deep, not broken, found)
    return found


def _examine_scenario(store: Store, scenario: str, deep: bool, rows: bool, found: Findings) -> None:
    """A scenario's chain and, where they can be read, the rows of its records."""
    try:
        said = ledger.broken(store, scenario)
        if said:
            found.accuse(
                f"ledger of {scenario}", said, "restore the folder tables/decisions from a backup of the store"
            )
            return
        records = ledger.read(store, scenario)
        found.files += len(records)
        standing = records if deep else list(ledger.current(store, scenario).values())
        for decision, what in ledger.unlike(store, standing) if rows else ():
            kind = "advisory" if decision.advisory else f"revision {decision.revision}"
            found.accuse(f"decision {decision.month} of {scenario} ({kind}, {decision.content_hash[:12]})", what)
    except PrismError as error:
        found.accuse(f"ledger of {scenario}", f"cannot be read ({error})")


def _repeated(store: Store, suspect: set[str]) -> Findings:
    """Rows that a table holds more than once."""
    found = Findings()
    for name, table in TABLES.items():
        unique = list(table.unique)
        if unique and name not in suspect:
            try:
                rows = tables.read(store, name, unique)
            except PrismError as error:
                found.accuse(f"tables/{name}", f"cannot be read ({error})")
                continue
            more = rows.num_rows - rows.group_by(unique).aggregate([]).num_rows
            if more:
                found.accuse(f"tables/{name}", f"holds {more} rows that repeat a {' + '.join(unique)}")
    return found


def _snapshots(store: Store) -> Findings:
    """Every snapshot's rows against the hashes that its manifest lists."""
    found = Findings()
    for identity in sorted(_column(store, "snapshots", "snapshot", found)):
        try:
            said = snapshots.broken(store, snapshots.load(store, identity))
        except PrismError as error:
            said = f"cannot be read ({error})"
        if said:
            found.accuse(f"snapshot {identity[:12]}", said)
    return found
