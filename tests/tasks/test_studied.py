"""Studies in words, from rows made by hand."""

from datetime import date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from storage import tables
from storage.schemas import TABLES
from tasks.numerics import bands
from tasks.records import MEASURES
from tasks.report import luck, pictures, studied
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


DAYS = pd.bdate_range("2019-01-01", periods=600)


def band_rows(*names):
    """Bands of three accounts that grow steadily; each band is half as wide as the one before."""
    shared, found = {"key": "k", "study": "tranches", "accounts": 3, "created_at": datetime(2024, 1, 1)}, []
    for number, name in enumerate(names):
        daily = [np.full(DAYS.size, 1e-3 + gain / 2**number) for gain in (-1e-3, 0.0, 1e-3)]
        wealth, sharpe = bands.band(daily), [None if place < 251 else place / 100 for place in range(DAYS.size)]
        for place, day in enumerate(DAYS):
            row = shared | {"number": number, "band": name, "session": day.date()}
            row |= {f"wealth_{edge}": values[place] for edge, values in wealth._asdict().items()}
            found.append(row | {f"sharpe_{edge}": sharpe[place] for edge in wealth._fields})
    return pa.Table.from_pylist(found, TABLES["bands"].schema)


def test_a_band_is_filled_between_its_edges_with_the_median_on_top(store):
    tables.put(store, "bands", band_rows("one day"))
    (rows,) = luck.read(store, "k").values()
    lower, upper, median, divided = luck.figure({"one day": rows})["data"][:4]
    assert upper["fill"] == "tonexty"
    assert "fill" not in lower
    assert [line["y"][-1] for line in (lower, median, upper)] == pytest.approx([1, 1.001**600, 1.002**600], rel=1e-3)
    assert lower["y"][-1] < divided["y"][-1] < upper["y"][-1]
    assert (median["name"], divided["name"]) == ("one day", "divided")
    assert len(upper["x"]) < DAYS.size / 4  # one session a week
    assert upper["x"][-1] == f"{DAYS[-1]:%Y-%m-%d}"
    ratios = [trace for trace in luck.figure({"one day": rows})["data"] if trace["yaxis"] == "y2"]
    assert [trace["y"][0] for trace in ratios] == [None] * 4
    assert [trace["y"][-1] for trace in ratios] == [5.99] * 4


def test_several_bands_are_told_apart_by_their_colours(store):
    names = ("one day", "3 tranches", "7 tranches", "21 tranches")
    tables.put(store, "bands", band_rows(*names))
    found = luck.read(store, "k")
    assert tuple(found) == names
    filled = [trace["fillcolor"] for trace in luck.figure(found)["data"] if "fill" in trace]
    assert len(set(filled)) == 4
    assert filled[-1] == "var(--accent-soft)"
    assert pictures.bands(found).startswith("data:image/png;base64,")
    assert luck.figure({}) is None


def test_a_band_is_said_in_numbers_and_one_account_is_none():
    study = STUDIES["tranches"]
    labels = [variant.label for variant in study.variants]
    measured = {
        label: {"sharpe": {"value": 1 + place / 100}, "cumulative_return": {"value": place / 10}}
        for place, label in enumerate(labels)
    }
    one, three, seven = luck.sentences(study, measured)
    assert one == (
        "One day: 21 portfolios that differ by luck alone have Sharpe ratios from 1.00 to 1.20, with a standard "
        "deviation of 0.06, and turned 1 into 1.00 to 3.00."
    )
    assert three.startswith("3 tranches: 7 portfolios that differ by luck alone have Sharpe ratios from 1.21 to 1.27")
    assert seven.startswith("7 tranches: 3 portfolios")


def test_the_newest_of_a_study_is_shown_and_nothing_where_none_was_run(store):
    assert studied.newest(store) == []
    put(store, rows(**GAPS))
    put(store, rows(), key="l", created_at=datetime(2024, 1, 2))
    (shown,) = studied.newest(store)
    assert shown.sentences[0].startswith("None of 6")
