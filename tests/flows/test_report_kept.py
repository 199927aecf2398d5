"""A report that would come out the same is looked up, with its artifacts; what it depends on has it written anew."""

import shutil

import pytest

from flows.diary import recorded
from storage import ledger, tables
from tasks import memos
from tasks.report import artifacts, contents, write_report


@pytest.fixture
def store(decided_quickly, tmp_path, place, monkeypatch):
    """The small store of two decided months, to be changed, with memos of its own."""
    monkeypatch.setenv("PRISM_CACHE", str(tmp_path / "cache"))
    return place(shutil.copytree(decided_quickly, tmp_path / "store"))


@pytest.fixture
def shown(monkeypatch):
    """The artifacts of each report, as if a run of Prefect's were under way."""
    found = []
    monkeypatch.setattr(artifacts, "are_wanted", lambda: True)
    monkeypatch.setattr(artifacts, "publish", found.append)
    return found


@pytest.fixture
def read(monkeypatch):
    """How often a store was read for a report."""
    calls, real = [], contents.read
    monkeypatch.setattr(contents, "read", lambda *asked: calls.append(asked) or real(*asked))
    return calls


@pytest.fixture
def write(store):
    decided = ledger.current(store, "main")
    published = decided[max(decided)].record["parameters"]["publish"]
    return lambda opening="": write_report.fn("main", published, opening)


def test_the_same_tables_have_the_same_report_and_artifacts_without_another_look(store, shown, read, write):
    first = write()
    with recorded("report", "main"):  # every run adds to the diary, of which the report says nothing
        assert write() == first
    assert write() == first
    assert len(read) == 1
    assert shown[0] == shown[1] == shown[2]
    assert [made.kind for made in shown[0]] == ["markdown", "table", "table", "table", "link"]


def test_it_is_written_anew_where_a_table_changed_or_its_file_or_record_is_gone(store, shown, read, write):
    first = write()
    tables.append(store, "bars", tables.read(store, "bars").slice(0, 1))
    write()
    (store.root / "reports" / first.rpartition("/")[2]).unlink()
    assert write() == first
    shutil.rmtree(memos.place("any").parent)
    assert write() == first
    write("something else to begin with")
    assert len(read) == 5
    assert shown[-1][0].content.startswith("something else to begin with")


def test_a_record_that_is_torn_counts_as_none(store, shown, read, write):
    write()
    for file in memos.place("any").parent.iterdir():
        file.write_text(file.read_text()[:-10])
    write()
    assert len(read) == 2


def test_without_a_run_of_prefects_nothing_is_remembered(store, read, write, monkeypatch):
    monkeypatch.setattr(artifacts, "publish", lambda made: None)
    assert write() == write()
    assert len(read) == 2
