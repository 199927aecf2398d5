"""Delta tables: checked before they are written, written by key, whole under several writers at once."""

import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler

from storage import listing, manifests, tables
from storage.errors import StoreError
from storage.locks import locked
from storage.schemas import TABLES
from storage.verification import verify

ROOT = Path(__file__).parents[2]
DAY = date(2024, 4, 30)
HOSTILE = [
    "it's",
    "' OR '1'='1",
    "x'); DROP TABLE weights; --",
    'a"b',
    "a\\b",
    "a\\'b",
    "",
    " ",
    "a\nb\tc",
    "a\0b",
    "*",
    "%",
    "null",
    "../../x",
    "日経",
    "é",
    "e\u0301",
    "A" * 3000,
    "2024-01-01",
    "x = y",
    "${HOME}",
    "{}",
]
WRITER = """
import sys
from datetime import date, datetime
from pathlib import Path
import pyarrow as pa
from storage import tables
from storage.schemas import TABLES
from storage.store import open_store
act, root, me = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
store = open_store(root)

def weights(key, weight, rows):
    shared = {"key": key, "as_of": date(2024, 4, 30), "strategy": "s", "weight": weight}
    return pa.Table.from_pylist([{**shared, "ticker": f"T{i}"} for i in range(rows)], TABLES["weights"].schema)

def points(position):
    shared = {"scenario": "main", "first_month": me, "last_month": "x", "created_at": datetime(2024, 5, 1)}
    rows = [{**shared, "position": position + i, "key": f"{me}-{position}"} for i in range(5)]
    return pa.Table.from_pylist(rows, TABLES["backtests"].schema)

print("ready", flush=True)
sys.stdin.readline()
if act == "put":
    for number in range(5):
        tables.put(store, "weights", weights(f"{me}-{number}", 0.5, 3))
if act == "claim":
    for _ in range(5):
        while not tables.claim(store, "backtests", points(tables.read(store, "backtests", ["position"]).num_rows)):
            pass
if act == "rewrite":
    for number in range(20):
        tables.put(store, "weights", weights("k", number / 20, 40))
"""


@pytest.fixture
def writers(store):
    """Start processes of WRITER, all at the same moment."""
    started = []

    def start(act, number):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
        for me in range(number):
            command = [sys.executable, "-c", WRITER, act, str(store.root), str(me)]
            started.append(subprocess.Popen(command, **pipes))
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        return started

    yield start
    for process in started:
        process.communicate(timeout=60)


BESIDE = """
import sys
import pyarrow as pa
from storage import tables
from storage.store import open_store
store = open_store(sys.argv[1])
[row] = tables.read(store, "weights").to_pylist()
tables.put(store, "weights", pa.Table.from_pylist([{**row, "key": "two"}]))
"""


def weights(rows, **others):
    found = [
        {"key": key, "as_of": DAY, "strategy": "s", "ticker": ticker, "weight": weight} for key, ticker, weight in rows
    ]
    return pa.Table.from_pylist([row | others for row in found])


def points(position, key="k", rows=1):
    shared = {"scenario": "main", "key": key, "first_month": "a", "last_month": "b", "created_at": datetime(2024, 5, 1)}
    found = [{**shared, "position": position + i} for i in range(rows)]
    return pa.Table.from_pylist(found, TABLES["backtests"].schema)


def held(store, **where):
    found = tables.read(store, "weights", **where).to_pylist()
    return sorted((row["key"], row["ticker"], row["weight"]) for row in found)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (weights([("k", "A", 1.0)]).drop_columns(["as_of", "strategy"]), "lack the columns as_of, strategy"),
        (weights([("k", "A", None), ("k", "B", 1.0)]), "column weight of table weights has 1 empty value"),
        (weights([("k", "A", 1.0)], strategy=None), "column strategy of table weights has 1 empty value"),
        (weights([("k", "A", float("nan"))]), "column weight of table weights holds nan"),
        (weights([("k", "A", float("inf"))]), "column weight of table weights holds inf"),
        (weights([("k", "A", 0.5), ("k", "B", 0.2), ("k", "A", 0.3)]), "repeat a key . ticker"),
        (weights([("k", "A", 1.0)], as_of="soon"), "are of another type"),
        (weights([("k", "A", 1.0)], weight="much"), "are of another type"),
        (weights([("k", "A", 1.0)], weight={"of": 1}), "are of another type"),
    ],
)
@pytest.mark.parametrize("write", [tables.put, tables.append, tables.claim])
def test_rows_that_break_a_rule_are_refused_before_anything_is_written(store, write, rows, sentence):
    with pytest.raises(StoreError, match=f"{sentence}.*nothing was written"):
        write(store, "weights", rows)
    assert not (store.tables / "weights").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), None])
def test_a_number_that_is_none_is_found_inside_a_list_too(store, bad):
    texts = ("key", "study", "family", "config", "configuration", "terms", "code", "universe", "state", "objective")
    row = dict.fromkeys(texts, "k") | {"number": 1, "sessions": 1, "start_date": DAY, "end_date": DAY}
    row |= {"steps": [0.5, bad], "created_at": datetime(2024, 5, 1), "value": None, "daily_sharpe": None}
    with pytest.raises(StoreError, match=r"column steps of table trials h.*nothing was written"):
        tables.put(store, "trials", pa.Table.from_pylist([row], TABLES["trials"].schema))


def test_what_may_be_empty_is_kept_empty(store):
    row = {"key": "k", "strategy": "s", "name": "sharpe", "value": None, "start_date": DAY, "end_date": DAY}
    tables.put(store, "metrics", pa.Table.from_pylist([row]))
    assert tables.read(store, "metrics").to_pylist() == [row]


def test_more_columns_and_their_order_do_not_matter(store):
    rows = weights([("k", "A", 1.0)], note="not of this table")
    tables.put(store, "weights", rows.select(rows.column_names[::-1]))
    assert tables.read(store, "weights").schema.equals(TABLES["weights"].schema)
    assert held(store) == [("k", "A", 1.0)]


def test_a_put_replaces_the_rows_of_its_keys_and_no_others(store):
    tables.put(store, "weights", weights([("a", "A", 0.1), ("a", "B", 0.9), ("b", "A", 1.0), ("c", "A", 1.0)]))
    tables.put(store, "weights", weights([("a", "C", 0.5), ("c", "A", 0.2)]))
    assert held(store) == [("a", "C", 0.5), ("b", "A", 1.0), ("c", "A", 0.2)]


def test_a_put_said_twice_leaves_the_same_rows(store):
    rows = weights([("a", "A", 0.1), ("a", "B", 0.9), ("b", "A", 1.0)])
    tables.put(store, "weights", rows)
    once = held(store)
    tables.put(store, "weights", rows)
    assert held(store) == once


def test_nothing_to_write_writes_nothing(store):
    tables.put(store, "weights", TABLES["weights"].schema.empty_table())
    tables.append(store, "bars", TABLES["bars"].schema.empty_table())
    assert tables.claim(store, "backtests", TABLES["backtests"].schema.empty_table())
    assert [tables.read(store, name).num_rows for name in ("weights", "bars", "backtests")] == [0, 0, 0]


def test_hostile_strings_are_values_and_nothing_else(store):
    everything = sorted((key, ticker, 0.5) for key in HOSTILE for ticker in HOSTILE[:3])
    tables.put(store, "weights", weights(everything))
    for key in HOSTILE:
        tables.put(store, "weights", weights([(key, ticker, 0.5) for ticker in HOSTILE[:3]]))
        assert held(store, key=key) == sorted((key, ticker, 0.5) for ticker in HOSTILE[:3])
    assert held(store) == everything
    assert tables.existing(store, "weights", [*HOSTILE, "other"]) == set(HOSTILE)
    assert {entry.name for entry in store.root.parent.iterdir()} == {"store"}


def test_rows_are_found_by_a_value_and_by_any_of_several(store):
    tables.put(store, "weights", weights([("a", "A", 0.1), ("a", "B", 0.9), ("b", "A", 1.0)]))
    assert held(store, key="a", ticker="B") == [("a", "B", 0.9)]
    assert held(store, key=("a", "b"), ticker={"A"}) == [("a", "A", 0.1), ("b", "A", 1.0)]
    assert held(store, as_of=date(2024, 5, 1)) == held(store, key=[]) == []
    assert tables.read(store, "weights", ["weight"], key="b").to_pydict() == {"weight": [1.0]}
    assert tables.existing(store, "weights", []) == set()


def test_a_table_whose_making_was_interrupted_is_made(store):
    (store.tables / "weights" / "_delta_log").mkdir(parents=True)
    assert tables.read(store, "weights").num_rows == 0
    tables.put(store, "weights", weights([("a", "A", 1.0)]))
    assert held(store) == [("a", "A", 1.0)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_empty_commit_is_never_read_as_one_without_rows(store, place):
    for key in ("a", "b"):
        tables.put(store, "weights", weights([(key, "A", 1.0)]))
    (store.tables / "weights" / "_delta_log" / f"{place:020}.json").write_text("")
    for act in (lambda: held(store), lambda: tables.put(store, "weights", weights([("c", "A", 1.0)]))):
        with pytest.raises(StoreError, match=f"commit .*{place:020}.json is empty.*restore it from a backup"):
            act()


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "a log of zeros", "a gap in the log"])
def test_damage_is_told_in_a_sentence_with_the_remedy(store, damage):
    for key in ("a", "b"):
        tables.put(store, "weights", weights([(key, "A", 1.0)]))
    data = next((store.tables / "weights").glob("*.parquet"))
    commit = store.tables / "weights" / "_delta_log" / f"{1:020}.json"
    {
        "gone": data.unlink,
        "empty": lambda: data.write_bytes(b""),
        "cut": lambda: data.write_bytes(data.read_bytes()[:-9]),
        "a log of zeros": lambda: commit.write_bytes(b"\0" * 90),
        "a gap in the log": commit.unlink,
    }[damage]()
    with pytest.raises(StoreError, match=r"table weights: .*restore the store from a backup$"):
        held(store)


def test_a_position_is_taken_once_and_several_are_taken_together_or_not_at_all(store):
    assert tables.claim(store, "backtests", points(0, "first", 2))
    assert not tables.claim(store, "backtests", points(1, "second", 2))
    assert tables.claim(store, "backtests", points(2, "third"))
    found = tables.read(store, "backtests").sort_by("position")
    assert found["key"].to_pylist() == ["first", "first", "third"]


@pytest.mark.parametrize("begin", [0, 3])
def test_a_writer_between_the_look_and_the_claim_leaves_no_part_of_it(store, monkeypatch, begin):
    for position in range(begin):
        tables.claim(store, "backtests", points(position))
    look = tables._taken

    def interrupted(*arguments):
        taken = look(*arguments)
        monkeypatch.setattr(tables, "_taken", look)
        tables.claim(store, "backtests", points(begin, "other"))
        return taken

    monkeypatch.setattr(tables, "_taken", interrupted)
    assert not tables.claim(store, "backtests", points(begin, "late", 2))
    found = tables.read(store, "backtests").sort_by("position")
    assert found["key"].to_pylist() == [*["k"] * begin, "other"]


def test_compaction_keeps_every_row_and_leaves_fewer_files(store, monkeypatch):
    monkeypatch.setattr(tables, "_CROWDED", 4)
    for number in range(6):
        tables.put(store, "weights", weights([(f"{number}", "A", number / 7), (f"{number}", "B", 0.1)]))
    before, files = held(store), len(tables.open_table(store, "weights").file_uris())
    pinned = tables.open_table(store, "weights")
    tables.compact(store)
    assert held(store) == before
    assert len(tables.open_table(store, "weights").file_uris()) < files
    assert tables._rows(store, "weights", pinned, None, {}).num_rows == len(before)
    tables.put(store, "weights", weights([("3", "A", 1.0)]))
    assert held(store) == sorted([row for row in before if row[0] != "3"] + [("3", "A", 1.0)])


def test_writers_at_once_lose_nothing(store, writers):
    for process in writers("put", 4):
        process.wait(240)
    expected = {f"{me}-{number}" for me in range(4) for number in range(5)}
    assert held(store) == sorted((key, f"T{i}", 0.5) for key in expected for i in range(3))
    found = verify(store.root, deep=True)
    assert found.damage == []
    # what a writer had written when another one was first
    assert all("that no version of table weights uses" in note.said for note in found.notes)
    assert manifests.newest(store, "weights").version == 20


def test_of_two_compactions_at_once_one_is_left_out(store, monkeypatch):
    # delta-rs lets two merge the same files: every row would be there twice
    monkeypatch.setattr(tables, "_CROWDED", 1)
    for number in range(3):
        tables.put(store, "weights", weights([(f"{number}", "A", 0.5)]))
    with locked(manifests.folder_of(store, "weights") / ".compacting"):
        tables.compact(store)
    assert len(tables.open_table(store, "weights").file_uris()) == 3
    tables.compact(store)
    assert len(tables.open_table(store, "weights").file_uris()) == 1


def test_claims_at_once_make_a_sequence_without_gap_or_repetition(store, writers):
    for process in writers("claim", 4):
        assert process.wait(240) == 0
    rows = tables.read(store, "backtests").sort_by("position").to_pylist()
    assert [row["position"] for row in rows] == list(range(100))
    for begin in range(0, 100, 5):  # each claim's five rows stand together
        assert {row["key"] for row in rows[begin : begin + 5]} == {f"{rows[begin]['first_month']}-{begin}"}


def test_a_reader_sees_a_key_whole_while_it_is_rewritten(store, writers):
    (writer,) = writers("rewrite", 1)
    seen = set()
    while writer.poll() is None:
        found = tables.read(store, "weights", ["weight"], key="k")["weight"].to_pylist()
        assert len(found) in (0, 40)
        assert len(set(found)) <= 1
        seen |= set(found)
    assert len(seen) > 2, "no reading met a writing; nothing was tested"


def test_reading_never_calls_back_into_python(store, monkeypatch):
    # threads that do so abort a process that ends meanwhile: one in seven on a busy machine
    tables.put(store, "weights", weights([("a", "A", 1.0)]))
    monkeypatch.setattr(DeltaStorageHandler, "open_input_file", lambda *_: pytest.fail("Python read a file"))
    assert held(store) == [("a", "A", 1.0)]


def test_a_table_that_another_process_makes_and_fills_at_the_same_moment_is_opened_as_it_is(store, monkeypatch):
    make = DeltaTable.create

    def second(folder, **options):
        monkeypatch.setattr(tables.DeltaTable, "create", make)
        tables.put(store, "weights", weights([("a", "A", 1.0)]))
        return make(folder, **options)

    monkeypatch.setattr(tables.DeltaTable, "create", second)
    assert tables.open_table(store, "weights").version() == 1
    assert held(store) == [("a", "A", 1.0)]


def test_a_log_is_read_once_for_each_version_whoever_wrote_it(store, monkeypatch):
    opened, kind = [], type(store.files)
    real = kind.delta
    monkeypatch.setattr(kind, "delta", lambda files, place: opened.append(place.name) or real(files, place))
    tables.put(store, "weights", weights([("one", "A", 1.0)]))
    opened.clear()
    assert [tables.read(store, "weights").num_rows for _ in range(3)] == [1, 1, 1]
    assert opened == ["weights"]
    before = tables.versions(store)
    subprocess.run([sys.executable, "-c", BESIDE, str(store.root)], cwd=ROOT, check=True)
    assert tables.existing(store, "weights", ["one", "two"]) == {"one", "two"}
    assert len(opened) == 2
    assert not tables.are_ours(store, before)


def test_versions_that_this_process_wrote_are_ours(store):
    before = tables.versions(store)
    for key in ("one", "another"):
        tables.put(store, "weights", weights([(key, "A", 1.0)]))
    tables.compact(store, 1)
    tables.forget(store, "weights", ["another"])
    assert tables.versions(store)["weights"] > before["weights"] + 2
    assert tables.are_ours(store, before)


def test_a_listing_differs_by_every_file_but_those_of_diaries(store):
    tables.put(store, "weights", weights([("one", "A", 1.0)]))
    seen = [listing.of_tables(store)]
    row = {"run": "r", "command": "run", "scenario": "main", "status": "completed", "detail": "", "stages": "{}"}
    row |= {"started_at": datetime(2024, 5, 1), "finished_at": datetime(2024, 5, 1)}
    tables.append(store, "runs", pa.Table.from_pylist([row], TABLES["runs"].schema))
    assert listing.of_tables(store) == seen[0]
    tables.put(store, "weights", weights([("two", "A", 1.0)]))
    seen.append(listing.of_tables(store))
    next((store.tables / "weights").glob("*.parquet")).touch()
    seen.append(listing.of_tables(store))
    next((store.root / "manifests" / "weights").glob("*.json")).touch()
    assert len({*seen, listing.of_tables(store)}) == 4
