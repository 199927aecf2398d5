"""What explains that two records differ, and where their rows do."""

import pandas as pd
import pytest

from storage import lineage, results

RECORD = {
    "snapshot": "s", "known_at": "2024-05-01", "universe": "u", "prefix": "p", "follows": "2024-04-01",
    "parameters": {"publish": "ogd", "training": {"threads": 1}}, "holdings": ["w"],
    "code": {"tasks.allocate": "a", "tasks.decide": "b"}, "versions": {"numpy": "2"}, "machine": {"processor": "x"},
}  # fmt: skip


def verdict(same=False, **others):
    return lineage.verdict(same, lineage.changes(RECORD, RECORD | others))


def test_equal_records_have_no_changes_and_must_give_equal_bytes():
    assert lineage.changes(RECORD, RECORD) == ()
    assert verdict() == "different"
    assert verdict(same=True) == "identical"


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("code", {"tasks.allocate": "z", "tasks.decide": "b"}, "code.tasks.allocate"),
        ("code", {"tasks.decide": "b"}, "code.tasks.allocate"),
        ("code", {**RECORD["code"], "tasks.experts": "e"}, "code.tasks.experts"),
        ("versions", {"numpy": "3"}, "versions.numpy"),
        ("machine", {"processor": "y"}, "machine.processor"),
    ],
)
def test_other_means_explain_other_results(name, value, field):
    changes = lineage.changes(RECORD, RECORD | {name: value})
    assert [change.field for change in changes] == [field]
    assert verdict(**{name: value}) == "explained"


@pytest.mark.parametrize(
    ("name", "value"), [("prefix", "q"), ("universe", "v"), ("parameters", {"publish": "index"}), ("holdings", [])]
)
def test_other_inputs_explain_nothing(name, value):
    assert verdict(**{name: value}) == "different"
    assert verdict(**{name: value, "code": {}}) == "different"


def test_what_an_earlier_program_did_not_record_is_no_change():
    assert verdict(machine={"processor": "x", "threads": "1"}, parameters={**RECORD["parameters"], "new": 1}) == (
        "different"
    )
    assert lineage.changes(RECORD, RECORD | {"machine": {"processor": "x", "threads": "1"}}) == ()


def test_the_means_of_the_date_before_explain_too():
    before = lineage.of_the_date_before(lineage.changes(RECORD, RECORD | {"versions": {"numpy": "3"}, "prefix": "q"}))
    assert [change.field for change in before] == ["before.versions.numpy"]
    assert lineage.verdict(False, before) == "explained"


def row(ticker, weight, strategy="ogd"):
    return {"as_of": "2024-04-30", "strategy": strategy, "ticker": ticker, "weight": weight}


def test_differences_name_the_row_and_both_values():
    before, after = [row("A", 0.5), row("B", 0.5)], [row("B", 0.25), row("A", 0.5), row("C", 0.25)]
    assert [str(found) for found in results.differences("weights", before, after)] == [
        "weights of ogd, 2024-04-30 B: weight 0.5 -> 0.25",
        "weights of ogd, 2024-04-30 C: weight None -> 0.25",
    ]
    assert results.differences("weights", before, before[::-1]) == []
    assert results.largest_change(before, after) == {"strategy": "ogd", "ticker": "B", "change": -0.25}
    assert results.largest_change(before, before) is None


def test_frames_differ_by_value_by_row_and_not_by_order_or_gaps():
    days = pd.to_datetime(["2024-04-29", "2024-04-30"])
    frame = pd.DataFrame({"ticker": "A", "session": days, "x": [1.0, float("nan")]})
    assert results.first_of_frames("features", frame, frame[::-1]) is None
    assert str(results.first_of_frames("features", frame, frame[:1].assign(x=2.0))) == (
        "features 2024-04-29 A: x 1.0 -> 2.0"
    )
    assert results.first_of_frames("features", frame, frame.assign(y=1.0)).column == "y"
