"""What a run says of itself: the diary, the words of its final state, the plan, and the grid of dates and stages."""

import json
from datetime import date

import pytest

from flows import artifacts, beside, endings, status
from flows.diary import Diary, recorded
from flows.outlook import Outlook
from storage import tables
from storage.errors import InputError

ROW = {"month": "2016-12", "kind": "backfill", "state": "current", "note": "", "stages": {"weights": "current"}}


def runs(store):
    return tables.read(store, "runs").to_pylist()


def test_the_diary_says_what_was_computed_and_what_came_from_the_cache(store):
    with recorded("run", "main") as diary:
        with diary.stage("features", 2, 10):
            pass
        with diary.stage("train", 0, 3):
            pass
        with diary.stage("decide", 12):
            pass
        diary.asked = date(2016, 12, 1), date(2017, 1, 3)
    assert diary.words() == "computed features 2; from the cache features 10, train 3"
    assert Diary("run", "main").words() == "computed nothing"
    row = runs(store)[0]
    assert (row["status"], row["first_date"], row["last_date"]) == ("completed", date(2016, 12, 1), date(2017, 1, 3))
    assert json.loads(row["stages"])["features"][0] == 2


@pytest.mark.parametrize(
    ("error", "ended", "detail"),
    [(InputError("no"), "failed", "no"), (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt")],
)
def test_a_run_that_does_not_end_well_says_how(store, error, ended, detail):
    with pytest.raises(type(error)), recorded("run", "main"):
        raise error
    assert [(row["status"], row["detail"], row["first_date"]) for row in runs(store)] == [(ended, detail, None)]


def test_an_error_on_purpose_is_a_failed_state_with_its_sentence_and_others_are_raised():
    @endings.in_words
    def refuses():
        raise InputError("alpha is -1; it must be at least 0")

    @endings.in_words
    def breaks():
        raise ZeroDivisionError

    state = refuses()
    assert state.is_failed()
    assert state.message == "alpha is -1; it must be at least 0"
    with pytest.raises(ZeroDivisionError):
        breaks()


def test_a_completed_state_says_what_is_new():
    diary = Diary("backfill", "main", stages={"forecast": [3, 1.0]})
    found = {"scenario": "main", "month": "2016-12", "decided": ["2016-11", "2016-12"]}
    state = endings.completed(found, diary)
    said = "main, 2016-12: 2 rebalance dates newly decided (2016-11 to 2016-12); computed forecast 3"
    assert (state.message, state.data) == (said, found)
    assert ": 0 rebalance dates newly decided;" in endings.completed(found | {"decided": []}, diary).message


def test_the_plan_says_how_long_it_takes_and_why():
    stages = [{"stage": "forecast", "missing": 2, "seconds": 3.4}, {"stage": "train", "missing": 1, "seconds": None}]
    months = [{"month": "2016-11", "why": "not decided yet"}, {"month": "2016-12", "why": "not decided yet"}]
    text = Outlook([*stages, {"stage": "index", "missing": 0, "seconds": None}], months).markdown()
    assert "- in all about 3 s, and what train takes" in text
    assert "2 rebalance dates &#40;2016-11 to 2016-12&#41;: not decided yet" in text
    assert text.splitlines()[-3:] == [
        "| forecast | 2 | about 3 s |",
        "| train | 1 | never timed here |",
        "| index | 0 | - |",
    ]
    assert Outlook([], []).sentences() == ["every rebalance date is decided and up to date"]


def test_a_table_of_markdown_has_numbers_to_the_right_and_nothing_that_markdown_would_read():
    text = artifacts.table(["month", "a|b"], [["2016-12", "+1.00 %"], ["2017-01", None]])
    assert text.splitlines() == [
        "| month | a&#124;b |",
        "| --- | ---: |",
        "| 2016-12 | &#43;1.00&nbsp;% |",
        "| 2017-01 |  |",
    ]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, "current"),
        ({"kind": "published"}, "published"),
        ({"kind": "held"}, "held"),
        ({"kind": "published", "state": "stale"}, "published, stale"),
        ({"kind": None, "state": "missing"}, "missing"),
        ({"state": "degraded"}, "degraded"),
    ],
)
def test_the_grid_says_what_the_ledger_calls_a_date_and_how_it_stands(given, shown):
    heads, rows = status.cells([ROW | given])
    assert heads == ["month", "decision", "weights", "note"]
    assert rows == [["2016-12", shown, "current", ""]]


@pytest.mark.parametrize(
    ("standing", "reason", "ended", "lesser", "state"),
    [
        (None, "not decided yet", ("failed", "the disk is full"), "", ("failed", "the disk is full")),
        (None, "not decided yet", ("cancelled", ""), "", ("missing", "the run was cancelled")),
        (None, "not decided yet", ("", ""), "", ("missing", "")),
        ("decided", "code: tasks.x", ("completed", ""), "", ("stale", "code: tasks.x")),
        ("decided", "", ("failed", "what came after"), "", ("current", "")),
        ("decided", "", ("", ""), "return_drawdown: no forecast", ("degraded", "return_drawdown: no forecast")),
    ],
)
def test_the_state_of_a_date(standing, reason, ended, lesser, state):
    assert status._state(standing, reason, ended, lesser) == state


def test_a_what_if_begins_with_what_differs():
    number = {"a": 0.1, "b": 0.3, "difference": 0.2}
    side = {"month": "2016-12", "strategy": "return_drawdown"}
    found = {
        "a": side | {"scenario": "main"},
        "b": side | {"scenario": "whatif-1"},
        "horizon": 21,
        "parameters": [{"name": "return_drawdown.alpha", "a": 0.2, "b": 0.7}],
        "weights": [{"ticker": "AAA", **number}, {"ticker": "BBB", "a": 0.9, "b": 0.2, "difference": -0.7}],
        "trades": [{"ticker": "BBB", "a": 0.0, "b": -0.7, "difference": -0.7}],
        "expected": [{"name": "expected_return", **number}],
        "backtest": None,
    }
    lines = beside.markdown(found).splitlines()
    assert lines[0] == "# whatif-1 beside main, 2016-12"
    assert "| return&#95;drawdown.alpha | 0.2 | 0.7 |" in lines
    tickers = [line.split(" | ")[0] for line in lines if line.startswith(("| AAA", "| BBB"))]
    assert tickers == ["| BBB", "| AAA"]
