"""Studies in words, from rows made by hand."""

from datetime import date, datetime

import pyarrow as pa
import pytest

from storage import tables
from storage.schemas import TABLES
from tasks.records import MEASURES
from tasks.report import pictures, studied
from tasks.report.formats import DASH, MINUS
from tasks.studies import ALL, NONE, STUDIES

NAME = "ablations"
WITHOUT = STUDIES[NAME].worth[1]
LABELS = [variant.label for variant in STUDIES[NAME].variants]


def rows(**gaps):
    """A row for each measure of each variant: the Sharpe ratio is 1, its differences are as given by number."""
    shared = {"key": "k", "study": NAME, "start_date": date(2011, 1, 1), "end_date": date(2020, 12, 31)}
    shared |= {"part": ALL, "created_at": datetime(2024, 1, 1), "scenario": None}
    found = []
    for number, label in enumerate(LABELS):
        gap = gaps.get(f"n{number}", (None, None, None))
        for name in MEASURES:
            ends = gap if name == "sharpe" else (None, None, None)
            row = shared | {"number": number, "variant": label, "strategy": "return_drawdown", "name": name}
            found.append(row | {"value": 1.0} | dict(zip(("difference", "lower", "upper"), ends, strict=True)))
    of_all = {"number": NONE, "variant": "", "strategy": None}
    of_all |= dict.fromkeys(("difference", "lower", "upper"))
    return [*found, *(shared | of_all | {"name": n, "value": v} for n, v in (("trials", 7.0), ("overfitting", 0.5)))]


def put(store, made, **more):
    tables.put(store, "studies", pa.Table.from_pylist([row | more for row in made], TABLES["studies"].schema))
    return studied.one(store, NAME, more.get("key", "k"))


GAPS = {"n1": (0.3, 0.1, 0.5), "n2": (-0.4, -0.7, -0.1), "n3": (-0.05, -0.2, 0.1), "n4": (0.0, -0.2, 0.2)}


def test_sentences_name_what_is_told_apart_and_what_the_network_adds(store):
    shown = put(store, rows(**GAPS))
    assert shown.sentences == [
        f"2 of 6 variants are told from everything by the Sharpe ratio at 95%: above {LABELS[1]}; below {LABELS[2]}.",
        f"The network adds +0.05 [{MINUS}0.10, +0.20] to the Sharpe ratio, which cannot be told from nothing.",
        "7 trials of the ledger; the best variant of one half of the sessions is no better than the middle of all in "
        "the other half in 50% of the ways to halve them.",
    ]


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        ((-0.3, -0.5, -0.1), "adds +0.30 [+0.10, +0.50] to the Sharpe ratio, which is told from nothing at 95%."),
        (
            (0.3, 0.1, 0.5),
            f"adds {MINUS}0.30 [{MINUS}0.50, {MINUS}0.10] to the Sharpe ratio, which is told from nothing at 95%.",
        ),
        ((0.3, None, None), f"adds {MINUS}0.30 to the Sharpe ratio, which cannot be told from nothing."),
    ],
)  # fmt: skip
def test_what_a_part_adds_is_what_the_variant_without_it_lacks(store, gap, said):
    assert put(store, rows(n3=gap)).sentences[1] == f"The network {said}"


def test_a_study_that_tells_nothing_says_so(store):
    assert put(store, rows()).sentences[0] == "None of 6 variants is told from everything by the Sharpe ratio at 95%."


def test_the_table_has_a_row_for_each_variant_and_marks_the_default(store):
    shown = put(store, rows(**GAPS))
    assert [row.name for row in shown.rows] == [f"{LABELS[0]} (default)", *LABELS[1:]]
    assert all(len(row.cells) == len(shown.heads) for row in shown.rows)
    expected = [DASH, "+0.30 [+0.10, +0.50]", f"{MINUS}0.40 [{MINUS}0.70, {MINUS}0.10]"]
    assert [row.cells[1].text for row in shown.rows[:3]] == expected
    assert shown.span == "2011-01 to 2020-12"


def test_pictures_draw_the_intervals_that_there_are(store):
    shown = put(store, rows(**GAPS))
    assert shown.bars.labels == [LABELS[number] for number in (4, 3, 2, 1)]
    assert shown.bars.values == [0.0, -0.05, -0.4, 0.3]
    (points,) = shown.figure["data"]
    assert points["error_x"]["array"] == pytest.approx([0.2, 0.15, 0.3, 0.2])
    assert points["error_x"]["arrayminus"] == pytest.approx([0.2, 0.15, 0.3, 0.2])
    assert pictures.differences(shown.bars).startswith("data:image/png;base64,")


def test_the_newest_of_a_study_is_shown_and_nothing_where_none_was_run(store):
    assert studied.newest(store) == []
    put(store, rows(**GAPS))
    put(store, rows(), key="l", created_at=datetime(2024, 1, 2))
    (shown,) = studied.newest(store)
    assert shown.sentences[0].startswith("None of 6")
