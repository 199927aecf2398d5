"""Verification: every changed, cut, emptied, lost or exchanged file is named, and a whole store is clean."""

import shutil
import threading
from dataclasses import replace
from datetime import date, datetime
from itertools import count

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from storage import commits, ledger, manifests, partitions, scenarios, snapshots, tables, universe, verification
from storage.ledger import Decision
from storage.partitions import Partition
from storage.scenarios import Terms
from storage.schemas import TABLES
from storage.store import open_store
from storage.universe import Member, Universe
from storage.verification import verify

DAY = date(2024, 4, 30)


def weights(key, value=0.5, **others):
    shared = {"key": key, "as_of": DAY, "strategy": "s", "weight": value, **others}
    return pa.Table.from_pylist([{**shared, "ticker": ticker} for ticker in "ABC"], TABLES["weights"].schema)


def fill(store):
    """A scenario with two decided months, a snapshot, features, a checkpoint of a log and a merged manifest."""
    days = pd.bdate_range("2024-01-02", "2024-03-28")
    bars = pd.DataFrame({"ticker": "A", "session": days, "close": 100.0, "basis": "traded"})
    bars = bars.assign(
        **dict.fromkeys(["open", "high", "low", "adj_close", "volume", "dividend", "split"], float("nan"))
    )
    snapshots.take(store, "sample", bars, datetime(2024, 4, 1), "d")
    chosen = universe.keep(store, Universe("u", (Member("A"),), "XNYS"))
    scenarios.write(store, "main", Terms("sample", chosen, {"seed": 1}, DAY, None))
    part = Partition("f1", "2024-03", DAY, ("x",), pd.DataFrame({"ticker": ["A"], "session": [DAY], "x": [0.1]}))
    partitions.put(store, "features", [part])
    trade = {"key": "t", "rebalance_date": DAY, "strategy": "s", "ticker": "A", "trade": 0.1, "cost": 0.0}
    tables.put(store, "trades", pa.Table.from_pylist([trade], TABLES["trades"].schema))
    for month in (1, 2, 3):
        tables.put(store, "weights", weights(f"w{month}"))
        dates = {"rebalance_date": date(2024, month, 1), "as_of": date(2023, month, 28)}
        made = Decision("main", **dates, kind="backfill", forecasts=None, weights=(f"w{month}",), trades="t", record={})
        made = replace(made, record={"universe": chosen})
        ledger.append(store, [replace(made, content_hash=ledger.content_hashes(store, [made])[0])])
        if month == 2:
            tables.open_table(store, "weights").create_checkpoint()
    return store


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fill(open_store(tmp_path_factory.mktemp("whole") / "store"))


@pytest.fixture
def copy(whole, tmp_path, monkeypatch):
    """The whole store in a place of its own; what is damaged in it stays so, so one look is enough."""
    monkeypatch.setattr(verification, "_LOOKS", 1)
    shutil.copytree(whole.root, tmp_path / "copy")
    return open_store(tmp_path / "copy")


def named(root, deep=True):
    """Places of the damage found."""
    return [finding.place for finding in verify(root, deep).damage]


def kinds(root):
    """A file of each kind, by name of the kind, with one to exchange it with."""
    log = root / "tables/weights/_delta_log"
    data = sorted((root / "tables/weights").glob("*.parquet"))
    lists = sorted((root / "manifests/weights").glob("[0-9a-f]*.json"))
    blobs = sorted(file for file in (root / "blobs").rglob("*") if file.is_file() and file.name != ".lock")
    return {
        "data": (data[0], data[1]),
        "commit": (log / f"{1:020}.json", log / f"{2:020}.json"),
        "first commit": (log / f"{0:020}.json", log / f"{1:020}.json"),
        "newest commit": (log / f"{3:020}.json", log / f"{2:020}.json"),
        "checkpoint": (log / f"{2:020}.checkpoint.parquet", data[0]),
        "hint": (log / "_last_checkpoint", log / f"{1:020}.json"),
        "manifest": (lists[0], lists[1]),
        "newest manifests": (root / "manifests/weights/newest.json", root / "manifests/trades/newest.json"),
        "blob": (blobs[0], blobs[1]),
        "another blob": (blobs[2], blobs[3]),
        "marker": (root / "STORE.json", root / "manifests/weights/newest.json"),
    }


KINDS = (
    "data",
    "commit",
    "first commit",
    "newest commit",
    "checkpoint",
    "hint",
    "manifest",
    "newest manifests",
    "blob",
)
KINDS += ("another blob", "marker")


def flipped(place):
    def damage(file, _):
        content = bytearray(file.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        file.write_bytes(content)

    return damage


FEW = ("a bit at 0.3", "emptied", "removed", "replaced")
DAMAGES = {f"a bit at {place}": flipped(place) for place in (0, 0.3, 0.7, 1)}
DAMAGES |= {
    "cut": lambda file, _: file.write_bytes(file.read_bytes()[:-1]),
    "longer": lambda file, _: file.write_bytes(file.read_bytes() + b"\n"),
    "emptied": lambda file, _: file.write_bytes(b""),
    "removed": lambda file, _: file.unlink(),
    "replaced": lambda file, other: shutil.copy(other, file),
}


@pytest.mark.parametrize(
    "damage", [name if name in FEW else pytest.param(name, marks=pytest.mark.long) for name in DAMAGES]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_and_no_other(copy, kind, damage):
    file, other = kinds(copy.root)[kind]
    DAMAGES[damage](file, other)
    (finding,) = verify(copy.root, deep=True).damage
    assert finding.place == file.relative_to(copy.root).as_posix()
    assert finding.said
    assert "restore" in finding.remedy


def test_any_manifest_that_is_lost_is_the_only_one_named(copy):
    for lost in sorted((copy.root / "manifests/weights").glob("[0-9a-f]*.json")):
        content = lost.read_bytes()
        lost.unlink()
        (finding,) = verify(copy.root, deep=True).damage
        assert finding.place == lost.relative_to(copy.root).as_posix()
        lost.write_bytes(content)


@pytest.mark.long
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_found(copy, damage):
    for file in sorted(file for file in copy.root.rglob("*") if file.is_file() and file.name != ".lock"):
        content = file.read_bytes()
        if damage != "replaced":
            DAMAGES[damage](file, None)
            assert named(copy.root) == [file.relative_to(copy.root).as_posix()]
            file.write_bytes(content)
    assert named(copy.root) == []


def test_files_exchanged_are_both_named(copy):
    first, second = kinds(copy.root)["data"]
    first.rename(copy.root / "kept")
    second.rename(first)
    (copy.root / "kept").rename(second)
    assert sorted(named(copy.root)) == sorted(file.relative_to(copy.root).as_posix() for file in (first, second))


def test_a_whole_store_is_clean_and_nothing_of_it_is_changed(copy):
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in copy.root.rglob("*") if file.is_file()}
    found = verify(copy.root, deep=True)
    assert (found.damage, found.notes, found.is_whole) == ([], [], True)
    assert (found.records, found.blobs) == (3, 6)
    not_counted = {"newest.json", ".lock", "STORE.json"}
    assert found.files == sum(file.name not in not_counted for file in before) - found.blobs
    assert {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in copy.root.rglob("*") if f.is_file()} == before


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("commit", "emptied"),
        ("commit", "removed"),
        ("first commit", "removed"),
        ("data", "removed"),
        ("data", "cut"),
        ("blob", "a bit at 0.3"),
        ("blob", "removed"),
        ("marker", "emptied"),
    ],
)
def test_without_deep_the_log_the_blobs_and_the_marker_are_looked_at(copy, kind, damage):
    file, other = kinds(copy.root)[kind]
    (copy.tables / "weights/_delta_log/_last_checkpoint").unlink()
    (copy.tables / f"weights/_delta_log/{2:020}.checkpoint.parquet").unlink()
    DAMAGES[damage](file, other)
    assert named(copy.root, deep=False) == [file.relative_to(copy.root).as_posix()]


@pytest.mark.parametrize("deep", [False, True])
def test_rows_that_are_not_those_decided_are_named_by_their_month(copy, deep):
    tables.put(copy, "weights", weights("w2", 0.25))
    (finding,) = verify(copy.root, deep).damage
    assert finding.place.startswith("decision 2024-02 of main (revision 0, ")
    assert finding.said == "the rows of its results are not those that were decided"


def test_rows_that_are_gone_are_named_by_their_key(copy):
    DeltaTable(copy.tables / "weights").delete("key = 'w1'")
    manifests.add(copy, "weights")
    (finding,) = verify(copy.root).damage
    assert finding.said.endswith("; there are none of weights w1")


def test_superseded_records_are_looked_at_with_deep(copy):
    old = ledger.read(copy, "main")[0]
    tables.put(copy, "weights", weights("w9"))
    new = replace(old, weights=("w9",), revision=1)
    ledger.append(copy, [replace(new, content_hash=ledger.content_hashes(copy, [new])[0])])
    tables.put(copy, "weights", weights("w1", 0.1))
    assert named(copy.root, deep=False) == []
    (place,) = named(copy.root)
    assert place.startswith("decision 2024-01 of main (revision 0")


def test_a_record_changed_in_order_breaks_the_chain(copy):
    rows = tables.read(copy, "decisions").to_pylist()
    rows[1]["reason"] = "forged"
    write_deltalake(copy.tables / "decisions", pa.Table.from_pylist(rows, TABLES["decisions"].schema), mode="overwrite")
    manifests.add(copy, "decisions")
    (finding,) = verify(copy.root).damage
    assert (finding.place, "record 1 of scenario main" in finding.said) == ("ledger of main", True)


def test_records_from_before_a_column_came_are_as_they_were(copy, monkeypatch):
    old = TABLES["weights"]
    more = replace(old, columns=old.columns | {"later": pa.float64()}, nullable=("later",))
    monkeypatch.setitem(TABLES, "weights", more)
    assert named(copy.root) == [], "a table without the column is read, and not altered"
    assert "later" not in {field.name for field in DeltaTable(copy.tables / "weights").schema().fields}
    tables.put(copy, "weights", weights("w9", later=1.0))
    assert named(copy.root) == []
    tables.put(copy, "weights", weights("w1", later=1.0))
    assert len(named(copy.root)) == 1


def test_after_compaction_and_a_vacuum_all_is_clean_and_deleted_files_are_forgotten(copy, monkeypatch):
    monkeypatch.setattr(tables, "_CROWDED", 2)
    gone = sorted(copy.tables.glob("weights/*.parquet"))[0]
    tables.compact(copy)
    assert named(copy.root) == []
    options = {"retention_hours": 0, "enforce_retention_duration": False, "dry_run": False}
    DeltaTable(copy.tables / "weights").vacuum(**options)
    assert verify(copy.root, deep=True).damage == [], "the vacuum is in the log, though in no manifest yet"
    monkeypatch.setattr(manifests, "_MANY", 1)
    tables.put(copy, "weights", weights("w4"))
    found = verify(copy.root, deep=True)
    assert (found.damage, found.notes) == ([], [])
    (only,) = manifests.newest(copy, "weights").manifests
    listed = manifests.read(copy, "weights", only).files
    assert (gone.exists(), gone.name in listed) == (False, False)
    left = next(copy.tables.glob("weights/*.parquet"))
    left.unlink()
    assert named(copy.root) == [left.relative_to(copy.root).as_posix()]


def test_a_data_file_taken_out_of_the_table_is_missed_until_a_vacuum(copy):
    first = sorted(copy.tables.glob("weights/*.parquet"))[0]
    for key in ("w1", "w2", "w3"):
        tables.put(copy, "weights", weights(key))
    first.unlink()
    assert named(copy.root) == [first.relative_to(copy.root).as_posix()]


@pytest.mark.parametrize(("days", "clean"), [(29, False), (31, True)])
def test_log_entries_that_delta_deletes_with_age_are_not_missed(copy, monkeypatch, days, clean):
    made = commits.of_version

    def earlier(*arguments):
        content = made(*arguments)
        aged = {path: replace(file, time=file.time - 86_400_000 * days) for path, file in content.files.items()}
        return replace(content, files=aged)

    shutil.rmtree(copy.root / "manifests/weights")
    monkeypatch.setattr(commits, "of_version", earlier)
    tables.put(copy, "weights", weights("w4"))
    for version in (0, 1):
        (copy.tables / "weights" / commits.commit_path(version)).unlink()
    assert (named(copy.root) == []) == clean


def test_a_store_without_manifests_is_noted_and_listed_by_the_next_write(copy):
    shutil.rmtree(copy.root / "manifests")
    found = verify(copy.root, deep=True)
    assert found.damage == []
    assert "tables/weights/" in {note.place for note in found.notes}
    assert "8 files of table weights in no manifest yet" in next(n.said for n in found.notes if "weights" in n.place)
    file, other = kinds_of_old(copy.root)
    DAMAGES["cut"](file, other)
    assert named(copy.root) == [file.relative_to(copy.root).as_posix()], "what cannot be read is damage all the same"
    shutil.copy(other, file)
    tables.put(copy, "weights", weights("w4"))
    found = verify(copy.root, deep=True)
    assert not [note for note in found.notes if "weights" in note.place]


def kinds_of_old(root):
    """A data file, and a copy of it outside the table."""
    file = sorted((root / "tables/weights").glob("*.parquet"))[0]
    return file, shutil.copy(file, root.parent / "kept")


def test_what_a_killed_writer_left_is_noted_and_listed_by_the_next(copy, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(manifests, "add", lambda *_: None)
        tables.put(copy, "weights", weights("w4"))
    folder = copy.tables / "weights"
    shutil.copy(next(folder.glob("*.parquet")), folder / "part-of-a-killed-writer.parquet")
    (folder / "_delta_log" / f"{9:020}.json#1").write_bytes(b"{")
    (copy.blobs / "ab").mkdir(exist_ok=True)
    (copy.blobs / "ab" / ".abcd").write_bytes(b"half")
    found = verify(copy.root, deep=True)
    assert found.damage == []
    said = " ".join(note.said for note in found.notes)
    assert "2 files of table weights in no manifest yet" in said
    assert "2 files that no version of table weights uses" in said
    assert "a blob being written" in said
    tables.put(copy, "weights", weights("w5"))
    found = verify(copy.root, deep=True)
    assert found.damage == []
    assert "in no manifest yet" not in " ".join(note.said for note in found.notes)


@pytest.mark.parametrize("step", ["the manifest", "newest.json"])
def test_a_kill_between_commit_and_manifest_is_no_damage(copy, monkeypatch, step):
    rename = type(copy.root).replace

    def killed(self, target):
        if target.suffix == ".json" and (target.name == "newest.json") == (step == "newest.json"):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(type(copy.root), "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            tables.put(copy, "weights", weights("w4"))
    assert named(copy.root) == []
    tables.put(copy, "weights", weights("w5"))
    assert named(copy.root) == []


def test_a_writer_at_work_is_no_damage(copy, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(verification, "_PAUSE", 0.01)
    monkeypatch.setattr(tables, "_CROWDED", 6)
    monkeypatch.setattr(manifests, "_MANY", 4)
    stop, written = threading.Event(), count()

    def write():
        while not stop.is_set():
            tables.put(copy, "weights", weights(f"x{next(written)}"))
            tables.compact(copy)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        found = [verify(copy.root, deep=True) for _ in range(4)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [each.damage for each in found] == [[]] * 4
    assert next(written) > 8, "no writing met a reading; nothing was tested"
    after = verify(copy.root, deep=True)
    assert after.damage == []
    # a compaction that gave way leaves what it had merged
    assert all("that no version of table weights uses" in note.said for note in after.notes)


def test_damage_is_told_once_it_was_seen_again(copy, monkeypatch):
    monkeypatch.setattr(verification, "_LOOKS", 3)
    file, _ = kinds(copy.root)["data"]
    content = file.read_bytes()
    file.write_bytes(b"")
    monkeypatch.setattr(verification.time, "sleep", lambda _: file.write_bytes(content))
    assert named(copy.root) == []


def test_a_table_of_another_version_is_noted(copy):
    shutil.copytree(copy.tables / "weights", copy.tables / "states")
    found = verify(copy.root, deep=True)
    assert (found.damage, [note.place for note in found.notes]) == ([], ["tables/states"])


def test_an_empty_store_is_whole(store):
    found = verify(store.root, deep=True)
    assert (found.damage, found.notes, found.records, found.blobs, found.files) == ([], [], 0, 0, 0)
