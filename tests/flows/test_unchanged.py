"""A run of which nothing changed gives its answer again; whatever the answer depends on has the stages look again."""

import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace

import pytest

from flows import lines, planning, unchanged
from flows.backfill import backfill
from flows.diary import recorded
from flows.monthly import monthly_rebalance
from flows.rebalance import rebalance
from storage import blobs, snapshots, tables
from storage.errors import StoreError
from tasks import caching, memos
from tests import artifacts

pytestmark = pytest.mark.flow
START, END = "2016-12", "2017-01"


@pytest.fixture
def store(decided_quickly, tmp_path, place, monkeypatch):
    """The small store of two decided months, to be changed, with memos of its own."""
    monkeypatch.setenv("PRISM_CACHE", str(tmp_path / "cache"))
    return place(shutil.copytree(decided_quickly, tmp_path / "store"))


@pytest.fixture
def looked(monkeypatch):
    """How often dates were planned: at least once where the stages look."""
    calls, real = [], planning.make
    monkeypatch.setattr(planning, "make", lambda *asked: calls.append(asked) or real(*asked))
    return calls


@pytest.fixture
def asked(store):
    """What a backfill asks."""
    return unchanged.ask(lines.open_line("main", fetch=False), "backfill", START, END)


@pytest.fixture
def question(asked):
    """The same; its answer is known."""
    backfill(START, END)
    assert unchanged.find(asked) is not None
    return asked


def shown():
    """The newest artifact of each key, but for the prices': every ingest has a number of its own."""
    keyed = [each for each in artifacts.made() if each.key]  # progress has none
    return {each.key: each.data for each in keyed if not each.key.startswith(("ingest", "backfill"))}


def asked_again(flow, *arguments, **named):
    state = flow(*arguments, return_state=True, **named)
    return state.result(), state.message, shown()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["backfill", "run"])
def test_the_answer_is_the_one_that_the_stages_would_give(store, looked, monkeypatch, kind):
    monkeypatch.setenv("PRISM_REPORT", "true")
    flow, arguments = {"backfill": (backfill, (START, END)), "run": (monthly_rebalance, ("main",))}[kind]
    named = {"months": 3} if kind == "run" else {}
    flow(*arguments, **named)  # decides what is missing
    shutil.rmtree(memos.place("any").parent)
    by_stages = asked_again(flow, *arguments, **named)
    asked = len(looked)
    assert asked
    assert asked_again(flow, *arguments, **named) == by_stages
    assert len(looked) == asked
    assert by_stages[0]["decided"] == []
    rows = tables.read(store, "runs", ["status", "first_date", "last_date"], command=kind).to_pylist()
    assert rows[-1] == rows[-2]


@pytest.mark.long
def test_a_what_if_is_answered_again_with_its_comparison(store, looked, monkeypatch):
    monkeypatch.setenv("PRISM_REPORT", "true")
    given = {"return_drawdown": {"alpha": 0.7}}
    rebalance(given)
    first, asked = shown(), len(looked)
    assert rebalance(given)["decided"] == []
    assert len(looked) == asked
    assert shown() == first
    summary = next(text for key, text in first.items() if key.startswith("summary-whatif"))
    assert "beside main" in summary


def test_a_run_that_decided_is_answered_again_at_once(store, looked):
    assert backfill("2016-11", END)["decided"]
    asked = len(looked)
    assert backfill("2016-11", END)["decided"] == []
    assert len(looked) == asked


def test_other_words_are_another_question(question):
    assert unchanged.find(unchanged.ask(question.line, "backfill", START, START)) is None
    assert unchanged.find(unchanged.ask(question.line, "run", START, END)) is None


def test_every_file_of_a_table_that_is_lost_cut_or_replaced_is_noticed(store, question):
    for name in ("weights", "decisions", "metrics", "bars"):
        for place, stat in store.files.entries(store.tables / name):
            content, times = place.read_bytes(), (stat.st_atime_ns, stat.st_mtime_ns)
            for damage in (place.unlink, lambda: place.write_bytes(content[:-1]), lambda: place.write_bytes(content)):  # noqa: B023
                damage()
                assert unchanged.find(question) is None
            os.utime(place, ns=times)
            assert unchanged.find(question) is not None


@pytest.mark.long
def test_a_row_that_is_written_or_taken_out_is_noticed(store, question):
    key = tables.read(store, "weights")["key"][0].as_py()
    tables.forget(store, "weights", [key])
    assert unchanged.find(question) is None
    backfill(START, END)
    assert unchanged.find(question) is not None
    tables.append(store, "bars", tables.read(store, "bars").slice(0, 1))
    assert unchanged.find(question) is None


def test_edited_code_another_library_and_another_setting_are_noticed(question, monkeypatch):
    for owner, name in ((caching, "project"), (unchanged, "libraries")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, lambda: {"another": "one"})
            assert unchanged.find(question) is None
    for name, value in (("REPORT", "true"), ("REPORT_URL", "http://reports"), ("TRAIN_DEPLOYMENT", "train/gpu")):
        with monkeypatch.context() as patched:
            patched.setenv(f"PRISM_{name}", value)
            assert unchanged.find(question) is None
    assert unchanged.find(question) is not None


def test_edited_source_of_ones_own_is_noticed(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = tmp_path / f"own_{uuid.uuid4().hex}.py"
    module.write_text("def allocate(seen):\n    return seen.mask / seen.mask.sum()\n")
    [segment] = asked.line.segments
    own = replace(segment, parameters=segment.parameters.model_copy(update={"own": {"mine": module.stem}}))
    with_own = replace(asked, line=replace(asked.line, segments=(own,)))
    before = with_own.key()
    assert before != asked.key()
    module.write_text("def allocate(seen):\n    return 1.0 * seen.mask / seen.mask.sum()\n")
    assert with_own.key() != before


@pytest.mark.long
def test_a_corrected_price_is_decided_anew(store, tmp_path, prices, question, written):
    corrected = prices.copy()
    corrected.loc["2016-12-30", "CCC"] *= 1.01
    found = backfill(START, END, path=written(corrected, tmp_path / "corrected.csv"))
    assert found["decided"] == [END]


@pytest.mark.long
def test_damaged_prices_end_the_run(store, question):
    months = snapshots.manifest(store, snapshots.load(store, question.line.newest.panel.snapshot))
    place = blobs.path(store, months["2016-03"]["blob"])
    place.write_bytes(place.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match="is damaged: its bytes have another hash"):
        backfill(START, END)


def test_a_run_that_failed_since_is_looked_at(store, question, monkeypatch):
    with pytest.raises(ValueError, match="broken"), recorded("backfill", "main"):
        raise ValueError("broken")
    assert unchanged.find(question) is None


@pytest.mark.long
def test_nothing_is_kept_where_another_process_wrote_meanwhile(store, looked, monkeypatch):
    program = "import flows; from storage import tables; from storage.store import open_store\n"
    program += "store = open_store(); tables.append(store, 'bars', tables.read(store, 'bars').slice(0, 1))"
    real = tables.compact

    def beside(*asked):
        subprocess.run([sys.executable, "-c", program], check=True)
        real(*asked)

    with monkeypatch.context() as patched:
        patched.setattr(tables, "compact", beside)
        backfill(START, END)
    asked = len(looked)
    backfill(START, END)
    assert len(looked) > asked


def test_a_memo_that_is_no_answer_counts_as_none(asked):
    memos.write(asked.key(), {"asked": ["2016-12-01", "2017-01-03"]})
    assert unchanged.find(asked) is None


@pytest.mark.long
def test_a_torn_memo_and_a_lost_cache_have_the_stages_look(store, question, looked):
    for file in memos.place("any").parent.iterdir():
        file.write_text(file.read_text()[:-1])
    backfill(START, END)
    asked = len(looked)
    assert asked
    shutil.rmtree(memos.place("any").parent)
    backfill(START, END)
    assert len(looked) > asked
