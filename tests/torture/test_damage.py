"""Damage in many places: verifying names every one of them and no other, and the rest of the store stays usable."""

import random
import shutil
from pathlib import Path

import pytest

from storage import tables, verification
from storage.schemas import TABLES
from storage.store import open_store
from storage.verification import verify
from tests.torture import work

COUNT = 240
KINDS = ("flipped", "cut", "emptied", "swapped", "removed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = open_store(tmp_path_factory.mktemp("whole") / "store")
    for number in range(4):
        work.do(store, number)
        if number == 2:
            for name in ("weights", "decisions", "bars"):
                tables.open_table(store, name).create_checkpoint()
    return store


def injured(kind, file, other, chance):
    """Damage a file, and perhaps another; those that are other than they were."""
    content = file.read_bytes()
    if kind == "swapped":
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)
        return {file, other}
    if kind == "removed":
        file.unlink()
    else:
        kept = bytearray(content)
        kept[chance.randrange(len(kept))] ^= 1 << chance.randrange(8)
        file.write_bytes({"flipped": kept, "cut": content[: chance.randrange(1, len(content))], "emptied": b""}[kind])
    return {file}


def parts(store):
    """The files of a store by what they belong to."""
    tables_ = [f for f in sorted(store.tables.rglob("*")) if f.is_file()]
    kept = [f for f in sorted(store.blobs.rglob("*")) if f.is_file()]
    ledger = [f for f in tables_ if f.is_relative_to(store.tables / "decisions")]
    return {"tables": [f for f in tables_ if f not in ledger], "blobs": kept, "ledger": ledger}


@pytest.mark.long
def test_every_damage_is_found_where_it_is_and_the_rest_can_be_read(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "_LOOKS", 1)
    chance, found, alarms = random.Random(9), 0, []
    store = open_store(shutil.copytree(whole.root, tmp_path / "store"))
    for number in range(COUNT):
        kind, files = KINDS[number % len(KINDS)], parts(store)
        some = files[chance.choice(sorted(files))]
        file, other = chance.sample(some, 2)
        before = {each: each.read_bytes() for each in (file, other)}
        places = {each.relative_to(store.root).as_posix() for each in injured(kind, file, other, chance)}
        named = {entry.place for entry in verify(store.root, deep=True).damage}
        if places <= named:
            found += 1
        alarms += [(kind, places, place) for place in named - places if not follows(place)]
        check_usable(store, places)
        for each, content in before.items():
            each.write_bytes(content)
    assert found == COUNT
    assert alarms == []
    assert verify(store.root, deep=True).is_whole


def follows(place):
    """Whether damage is one that follows from a damaged file: rows or records that cannot be read."""
    return place.startswith(("ledger of", "decision ", "snapshot ")) or len(Path(place).parts) == 2


def check_usable(store, places):
    """Every table without a damaged file is read as before."""
    hurt = {Path(place).parts[1] for place in places if place.startswith("tables/")}
    for name in TABLES:
        if name not in hurt and (store.tables / name).exists():
            assert tables.read(store, name).num_rows


@pytest.mark.long
def test_a_whole_store_gives_no_alarm_while_it_is_written_read_and_kept(tmp_path):
    store = open_store(tmp_path / "store")
    for number in range(20):
        work.do(store, number)
        if number % 5 == 4:
            work.keep(store)
        found = verify(store.root, deep=True)
        assert (found.damage, found.notes) == ([], [])
