"""Manifests: one for a commit, many merged into one, the same whoever writes them, and none half-written."""

import hashlib
import json
import shutil
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from storage import commits, manifests, tables
from storage.errors import StoreError
from storage.schemas import TABLES
from storage.verification import verify


def weights(key):
    row = {"key": key, "as_of": date(2024, 4, 30), "strategy": "s", "ticker": "A", "weight": 1.0}
    return pa.Table.from_pylist([row], TABLES["weights"].schema)


def names(store):
    return sorted(file.name for file in manifests.folder_of(store, "weights").iterdir())


def listed(store):
    """Every file that the manifests list."""
    found = {}
    for name in manifests.newest(store, "weights").manifests:
        found |= manifests.read(store, "weights", name).files
    return found


def test_a_commit_adds_one_manifest_with_its_files(store):
    tables.put(store, "weights", weights("a"))
    before = manifests.newest(store, "weights")
    tables.put(store, "weights", weights("b"))
    after = manifests.newest(store, "weights")
    assert after.manifests[:-1] == before.manifests
    assert (after.version, len(after.manifests)) == (2, 3)
    content = (manifests.folder_of(store, "weights") / f"{after.manifests[-1]}.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == after.manifests[-1]
    files = json.loads(content)["files"]
    assert len(files) == 2
    for path, entry in files.items():
        data = (store.tables / "weights" / path).read_bytes()
        assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert commits.commit_path(2) in files


def test_a_first_writer_between_two_looks_is_no_loss(store, monkeypatch):
    look = Path.glob

    def write_first(folder, pattern):
        monkeypatch.undo()
        tables.put(store, "weights", weights("a"))
        return look(folder, pattern)

    monkeypatch.setattr(Path, "glob", write_first)
    assert manifests.newest(store, "weights").version == 1
    (manifests.folder_of(store, "weights") / manifests.NEWEST).unlink()
    with pytest.raises(StoreError, match=r"newest\.json is missing"):
        manifests.newest(store, "weights")


def test_many_are_merged_into_one_that_lists_the_same(store, monkeypatch):
    monkeypatch.setattr(manifests, "_MANY", 4)
    seen = {}
    for number in range(9):
        tables.put(store, "weights", weights(f"{number}"))
        assert seen.items() <= listed(store).items()
        seen = listed(store)
        assert len(manifests.newest(store, "weights").manifests) <= 4
    assert len([name for name in names(store) if name.endswith(".json")]) <= 5
    assert len(seen) == 10 + 9
    assert verify(store.root, deep=True).is_whole


def test_a_damaged_manifest_is_not_merged_away(store, monkeypatch):
    for number in range(3):
        tables.put(store, "weights", weights(f"{number}"))
    first = manifests.folder_of(store, "weights") / f"{manifests.newest(store, 'weights').manifests[0]}.json"
    first.write_bytes(first.read_bytes()[:-1])
    monkeypatch.setattr(manifests, "_MANY", 2)
    tables.put(store, "weights", weights("later"))
    assert [finding.place for finding in verify(store.root, deep=True).damage] == [f"manifests/weights/{first.name}"]


def test_another_writer_that_is_first_is_followed(store, monkeypatch):
    tables.put(store, "weights", weights("a"))
    sync, others = type(store.files).sync, ["b", "c"]

    def interrupted(self):
        sync(self)
        if others:  # after this writer has looked, and before it gives its manifest a name
            tables.put(store, "weights", weights(others.pop()))

    monkeypatch.setattr(type(store.files), "sync", interrupted)
    tables.put(store, "weights", weights("d"))
    assert manifests.newest(store, "weights").version == 4
    assert len(listed(store)) == 5 + 4
    assert not [name for name in names(store) if name.startswith(".") and name != ".lock"]
    found = verify(store.root, deep=True)
    assert (found.damage, found.notes) == ([], [])


def test_commits_of_others_are_listed_by_the_next_writer(store):
    tables.put(store, "weights", weights("a"))
    for key in ("b", "c"):
        write_deltalake(store.tables / "weights", weights(key), mode="append")
    tables.put(store, "weights", weights("d"))
    assert len(listed(store)) == 5 + 4


@pytest.mark.parametrize("damage", ["", "{}", '{"table":"weights"}', None])
def test_a_writer_says_that_the_list_of_manifests_is_damaged_before_it_writes(store, damage):
    tables.put(store, "weights", weights("a"))
    place = manifests.folder_of(store, "weights") / "newest.json"
    if damage is None:
        place.unlink()
    else:
        place.write_text(damage)
    with pytest.raises(StoreError, match=r"newest.json is .*delete the folder manifests/weights"):
        tables.put(store, "weights", weights("b"))
    assert tables.read(store, "weights")["key"].to_pylist() == ["a"]
    shutil.rmtree(place.parent)
    tables.put(store, "weights", weights("b"))
    assert verify(store.root, deep=True).is_whole
    assert len(listed(store)) == 3 + 2


def test_a_checkpoint_is_listed_with_the_file_that_names_it(store):
    tables.put(store, "weights", weights("a"))
    DeltaTable(store.tables / "weights").create_checkpoint()
    assert verify(store.root, deep=True).damage == [], "it was written since"
    tables.put(store, "weights", weights("b"))
    assert {commits.checkpoint_path(1), commits.HINT} <= listed(store).keys()
    assert manifests.newest(store, "weights").checkpoint == 1
    (store.tables / "weights" / commits.HINT).write_text("no JSON")
    tables.put(store, "weights", weights("c"))  # Delta does without it
    assert [finding.place for finding in verify(store.root, deep=True).damage] == [f"tables/weights/{commits.HINT}"]


def test_what_was_left_long_ago_is_deleted_when_manifests_are_merged(store, monkeypatch):
    tables.put(store, "weights", weights("a"))
    folder = manifests.folder_of(store, "weights")
    (folder / f".{'a' * 64}.json.1234").write_text("half")
    (folder / f"{'b' * 64}.json").write_text("never named")
    monkeypatch.setattr(manifests, "_MANY", 1)
    tables.put(store, "weights", weights("b"))
    assert f"{'b' * 64}.json" in names(store), "a writer may be about to name it"
    monkeypatch.setattr(manifests, "_FORGOTTEN", -1)
    tables.put(store, "weights", weights("c"))
    assert names(store) == sorted([".lock", f"{manifests.newest(store, 'weights').manifests[0]}.json", "newest.json"])


def test_two_that_list_a_table_for_the_first_time_agree(store):
    tables.put(store, "weights", weights("a"))
    shutil.rmtree(manifests.folder_of(store, "weights"))
    first = manifests._begun(store, "weights")
    assert manifests._begun(store, "weights") == first
    assert verify(store.root, deep=True).damage == []
