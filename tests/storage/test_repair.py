"""Repair: no row is lost that need not be, what is lost is computed again or named, and no ledger is guessed."""

import shutil

import pytest

from storage import blobs, manifests, repair, snapshots, tables, verification
from storage.errors import StoreError
from storage.store import open_store
from storage.verification import verify
from tests.torture import work

COUNT = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = open_store(tmp_path_factory.mktemp("whole") / "store")
    for number in range(COUNT):
        work.do(store, number)
    tables.open_table(store, "weights").create_checkpoint()
    work.do(store, COUNT)
    return store


@pytest.fixture
def copy(whole, tmp_path, monkeypatch):
    """The whole store in a place of its own; what is damaged in it stays so, so one look is enough."""
    monkeypatch.setattr(verification, "_LOOKS", 1)
    shutil.copytree(whole.root, tmp_path / "store")
    return open_store(tmp_path / "store")


def data(store, name):
    return sorted((store.tables / name).glob("*.parquet"))[1]


def commit(store, name, version=2):
    return store.tables / name / "_delta_log" / f"{version:020}.json"


def damaged_places(store):
    return [entry.place for entry in verify(store.root, deep=True).damage]


def test_a_whole_store_is_left_as_it_is(copy):
    before = sorted(copy.root.rglob("*"))
    found = repair.mend(copy.root)
    assert (found.aside, found.done, found.lost) == (None, [], [])
    assert sorted(copy.root.rglob("*")) == before


DAMAGES = ("commit emptied", "commit removed", "log removed", "manifest", "newest")
CASES = [(name, damage) for name in ("weights", "decisions", "bars") for damage in DAMAGES] + [
    ("weights", "checkpoint")
]
FEW = [("weights", "commit emptied"), ("decisions", "log removed"), ("bars", "newest")]


@pytest.mark.parametrize(
    ("name", "damage"), [case if case in FEW else pytest.param(*case, marks=pytest.mark.long) for case in CASES]
)
def test_a_damaged_log_or_manifest_costs_no_row(copy, name, damage):
    before = work.content(copy)
    if damage == "log removed":
        shutil.rmtree(copy.tables / name / "_delta_log")
    elif damage == "checkpoint":
        next((copy.tables / name / "_delta_log").glob("*.checkpoint.parquet")).write_bytes(b"torn")
    elif damage in ("manifest", "newest"):
        pattern = "[0-9a-f]*.json" if damage == "manifest" else "newest.json"
        next(manifests.folder_of(copy, name).glob(pattern)).write_bytes(b"{}")
    elif damage == "commit emptied":
        commit(copy, name).write_bytes(b"")
    else:
        commit(copy, name).unlink()
    assert damaged_places(copy)
    found = repair.mend(copy.root)
    assert (found.lost, len(found.done)) == ([], 1)
    assert damaged_places(copy) == []
    assert work.content(copy) == before
    assert list((found.aside / "tables" / name).glob("*.parquet")), "what was there is kept"
    work.do(copy, COUNT + 1)
    assert damaged_places(copy) == []


LATER = [pytest.param(name, marks=pytest.mark.long) for name in ("forecasts", "trades", "features", "models")]


@pytest.mark.parametrize("name", ["weights", *LATER])
def test_computed_rows_that_are_lost_are_computed_again(copy, name):
    before = work.content(copy)
    data(copy, name).write_bytes(b"lost")
    found = repair.mend(copy.root)
    assert found.lost == []
    assert len(compute_what_is_lacking(copy, name)) == 1
    assert damaged_places(copy) == []
    assert work.content(copy) == before


def compute_what_is_lacking(store, name):
    """The jobs that lacked something of that name, once everything that any lacked is computed."""
    lacking = {}
    for each in work.RESULTS:
        lacking[each] = [n for n in range(COUNT + 1) if not tables.existing(store, each, [work.key_of(each, n)])]
        for number in lacking[each]:
            work.WRITERS[each](store, number)
    return lacking[name]


@pytest.mark.parametrize(
    ("name", "damage"),
    [("features", b"other bytes"), *(pytest.param("models", d, marks=pytest.mark.long) for d in (b"", None))],
)
def test_a_lost_file_that_is_computed_is_forgotten(copy, name, damage):
    row = tables.read(copy, name, key=[work.key_of(name, 1)]).to_pylist()[0]
    place = blobs.path(copy, row["blob"])
    place.write_bytes(damage) if damage is not None else place.unlink()
    found = repair.mend(copy.root)
    assert (found.lost, tables.existing(copy, name, [row["key"]])) == ([], set())
    work.WRITERS[name](copy, 1)
    assert damaged_places(copy) == []


def test_months_of_snapshots_are_made_again_from_the_bars(copy):
    before, taken = work.content(copy), snapshots.newest(copy, "prices-1")
    month = next(iter(snapshots.manifest(copy, taken).values()))["blob"]
    blobs.path(copy, month).write_bytes(b"rotten")
    blobs.path(copy, taken.manifest).unlink()
    found = repair.mend(copy.root)
    assert (found.lost, damaged_places(copy)) == ([], [])
    assert found.done == ["2 months of snapshots: made again from the bars"]
    assert work.content(copy) == before


@pytest.mark.long
def test_learned_rows_that_are_lost_are_to_be_brought_again_and_the_others_stay(copy):
    data(copy, "bars").unlink()
    found = repair.mend(copy.root)
    assert [entry.place for entry in found.lost] == ["tables/bars"]
    assert "prism ingest" in found.lost[0].remedy
    assert damaged_places(copy) == []
    assert tables.read(copy, "bars").num_rows == COUNT * len(work.TICKERS) * 5


def test_a_ledger_that_lost_rows_is_left_as_it_is(copy):
    lost = data(copy, "decisions")
    lost.write_bytes(b"lost")
    found = repair.mend(copy.root)
    assert [entry.place for entry in found.lost] == [f"tables/decisions/{lost.name}"]
    assert "from a backup" in found.lost[0].remedy
    assert lost.read_bytes() == b"lost"
    assert damaged_places(copy) == [f"tables/decisions/{lost.name}"]


def test_a_damaged_log_without_manifests_is_left_to_a_backup(copy):
    shutil.rmtree(manifests.folder_of(copy, "decisions"))
    before = commit(copy, "decisions", 3).read_bytes()
    commit(copy, "decisions").write_bytes(b"")
    assert [entry.place for entry in repair.mend(copy.root).lost] == ["tables/decisions"]
    assert commit(copy, "decisions", 3).read_bytes() == before


@pytest.mark.long
def test_a_log_and_manifests_that_are_both_damaged_are_left_to_a_backup(copy):
    commit(copy, "weights").write_bytes(b"")
    (manifests.folder_of(copy, "weights") / "newest.json").write_bytes(b"")
    found = repair.mend(copy.root)
    assert [entry.place for entry in found.lost] == ["tables/weights"]


@pytest.mark.long
def test_results_that_are_not_those_decided_are_forgotten(copy):
    before = work.content(copy)
    rows = tables.read(copy, "weights", key=[work.key_of("weights", 1)])
    tables.put(copy, "weights", rows.set_column(4, "weight", rows["weight"].combine_chunks().take([3, 2, 1, 0])))
    assert damaged_places(copy)
    repair.mend(copy.root)
    for name in ("forecasts", "weights", "trades"):
        assert not tables.existing(copy, name, [work.key_of(name, 1)])
        work.WRITERS[name](copy, 1)
    assert damaged_places(copy) == []
    assert work.content(copy) == before


def test_a_commit_that_a_power_cut_emptied_was_never_reported_and_is_left_out(copy, monkeypatch):
    before = work.content(copy)
    with monkeypatch.context() as patched:
        patched.setattr(manifests, "add", lambda *_: None)
        work.WRITERS["weights"](copy, 9)
    newest = max((copy.tables / "weights" / "_delta_log").glob("*.json"))
    newest.write_bytes(b"")
    with pytest.raises(StoreError, match="is empty, so rows would be lost"):
        tables.read(copy, "weights")
    assert repair.mend(copy.root).lost == []
    assert (damaged_places(copy), work.content(copy)) == ([], before)


@pytest.mark.long
def test_a_repair_that_was_interrupted_is_completed_by_the_next(copy, monkeypatch):
    before = work.content(copy)
    commit(copy, "weights").write_bytes(b"")
    for step in ("exchange", "_move", "_forget_results", "Path.unlink"):
        with monkeypatch.context() as patched:
            patched.setattr(f"storage.repair.{step}", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                repair.mend(copy.root)
    repair.mend(copy.root)
    assert (damaged_places(copy), work.content(copy)) == ([], before)


def test_what_a_repair_that_was_interrupted_found_lost_is_said_by_the_next(copy, monkeypatch):
    data(copy, "bars").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(repair, "_forget_results", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            repair.mend(copy.root)
    assert [entry.said for entry in verify(copy.root).damage] == ["is of a repair that was interrupted"]
    found = repair.mend(copy.root)
    assert [entry.place for entry in found.lost] == ["tables/bars"]
    assert list((found.aside / "tables" / "bars").glob("*.parquet")), "what was there is kept"
    assert damaged_places(copy) == []
