"""A store of an earlier format: refused with the way on, migrated as a copy, whatever kills that, and verified."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from storage import blobs, migrations, store, tables, verification
from storage.errors import InputError, StoreError
from storage.schemas import TABLES
from storage.store import open_store

ROOT = Path(__file__).parents[2]
STEP = "reports/migrated.txt"


def filled(root):
    """A store with rows and a blob."""
    made = open_store(root)
    row = {"key": "a", "as_of": None, "strategy": "s", "ticker": "T", "weight": 1.0}
    table = pa.Table.from_pylist([row], TABLES["weights"].schema)
    tables.put(made, "weights", table.set_column(1, "as_of", pa.array([18000], pa.int32()).cast(pa.date32())))
    blobs.put(made, b"content")
    return made


def upgraded(place):
    """What the step of these tests does: it may be done twice."""
    (place / "reports").mkdir(exist_ok=True)
    (place / STEP).write_text("done")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A store of this format, which is an old one from now on."""
    root = filled(tmp_path / "store").root
    for module in (store, migrations, verification):
        monkeypatch.setattr(module, "FORMAT", 2)
    monkeypatch.setitem(migrations.STEPS, 1, upgraded)
    return root


def bytes_of(root):
    return {
        file.relative_to(root): file.read_bytes()
        for file in root.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def test_every_command_refuses_it_and_names_the_way_on(old):
    with pytest.raises(InputError, match=r"says format 1, this version reads 2; `prism migrate` brings it up to date"):
        open_store(old)


def test_it_is_copied_changed_verified_and_kept_as_it_was(old):
    before = bytes_of(old)
    made = migrations.migrate(old)
    assert (made.before, made.after, made.kept) == (1, 2, old.with_name("store.format-1"))
    assert bytes_of(made.kept) == before
    assert json.loads((old / "STORE.json").read_text())["format"] == 2
    assert (old / STEP).read_text() == "done"
    assert tables.read(open_store(old), "weights").num_rows == 1
    assert verification.verify(old, deep=True).is_whole
    assert sorted(entry.name for entry in old.parent.iterdir()) == ["store", "store.format-1"]
    assert migrations.migrate(old).kept is None  # a second time there is nothing to do


def test_several_steps_are_done_in_order(old, monkeypatch):
    order = []
    for module in (store, migrations, verification):
        monkeypatch.setattr(module, "FORMAT", 4)
    for number in (1, 2, 3):
        monkeypatch.setitem(migrations.STEPS, number, lambda place, number=number: order.append((number, _says(place))))
    assert migrations.migrate(old).after == 4
    assert order == [(1, 1), (2, 2), (3, 3)]


def _says(place):
    return json.loads((place / "STORE.json").read_text())["format"]


@pytest.mark.parametrize("number", [0, 99])
def test_where_no_step_leads_it_is_said_and_nothing_is_made(old, number):
    marker = json.loads((old / "STORE.json").read_text())
    (old / "STORE.json").write_text(json.dumps(marker | {"format": number}))
    with pytest.raises(InputError, match=f"has format {number}, and nothing leads from there to 2"):
        migrations.migrate(old)
    assert [entry.name for entry in old.parent.iterdir()] == ["store"]


def test_a_step_that_fails_leaves_the_store_as_it_was_and_is_done_again(old, monkeypatch):
    before = bytes_of(old)

    def failing(place):
        upgraded(place)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setitem(migrations.STEPS, 1, failing)
        with pytest.raises(StoreError, match="the disk is full"):
            migrations.migrate(old)
    assert bytes_of(old) == before
    assert migrations.migrate(old).after == 2


def test_a_copy_that_is_not_whole_is_thrown_away(old, monkeypatch):
    before = bytes_of(old)
    monkeypatch.setitem(migrations.STEPS, 1, lambda place: next((place / "blobs").rglob("?" * 64)).write_bytes(b"x"))
    with pytest.raises(StoreError, match=r"the migrated copy is not whole: blobs/.*; the store is as it was"):
        migrations.migrate(old)
    assert bytes_of(old) == before
    assert [entry.name for entry in old.parent.iterdir()] == ["store"]


def test_a_store_that_is_written_to_meanwhile_is_not_exchanged(old, monkeypatch):
    def written(place):
        upgraded(place)
        (old / "reports").mkdir(exist_ok=True)
        (old / "reports" / "new.html").write_text("a run's")

    with monkeypatch.context() as patched:
        patched.setitem(migrations.STEPS, 1, written)
        with pytest.raises(StoreError, match="was written to while it was copied; stop what runs on it"):
            migrations.migrate(old)
    migrations.migrate(old)
    assert (old / "reports" / "new.html").read_text() == "a run's"


def test_a_folder_in_the_way_is_left_alone(old):
    other = old.with_name("store.migrating")
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is in the way of the copy that a migration makes"):
        migrations.migrate(old)
    assert (other / "mine.txt").read_text() == "mine"
