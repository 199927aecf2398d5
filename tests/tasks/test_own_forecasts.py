"""A person's own forecasts: taken once, refused where they break a rule, and keyed by the day they are of."""

from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from storage import tables
from storage.errors import InputError
from tasks import own_forecasts
from tasks.numerics.configs import ForecastConfig

HEADER = "as_of,ticker,mean,variance,known_at\n"
GOOD = {
    "as_of": ["2015-11-30", "2015-11-30", "2015-12-31"],
    "ticker": ["A", "B", "A"],
    "mean": [0.01, -0.02, 1 / 3],
    "variance": [0.004, 0.005, 1 / 700],
    "known_at": ["2015-11-30T20:15:00", "2015-11-29", "2015-12-31T23:30:00+09:00"],
}


@pytest.fixture
def rows():
    return pd.DataFrame(GOOD)


@pytest.fixture
def write(tmp_path):
    """Writes rows, or a text, as a file."""

    def make(rows, name="own.csv"):
        path = tmp_path / name
        if isinstance(rows, str):
            path.write_text(rows)
        elif path.suffix == ".parquet":
            rows.to_parquet(path)
        else:
            rows.to_csv(path, index=False)
        return str(path)

    return make


def stored(store, dataset="mine"):
    table = tables.read(store, "own_forecasts", dataset=dataset)
    return table.sort_by([("as_of", "ascending"), ("ticker", "ascending")]).to_pylist()


def typed(rows):
    """The same in Parquet's own types: dates, times with a zone."""
    known = pd.to_datetime(rows["known_at"], utc=True, format="ISO8601")
    return rows.assign(as_of=pd.to_datetime(rows["as_of"]).dt.date, known_at=known)


@pytest.mark.parametrize("name", ["own.csv", "own.parquet", "texts.parquet"])
def test_a_good_file_is_taken_to_the_bit_and_a_second_time_changes_nothing(store, rows, write, name):
    path = write(typed(rows) if name == "own.parquet" else rows, name)
    assert own_forecasts.take(store, "mine", path) == 3
    found = stored(store)
    assert [(row["as_of"], row["ticker"], row["mean"], row["variance"]) for row in found] == [
        (date(2015, 11, 30), "A", 0.01, 0.004),
        (date(2015, 11, 30), "B", -0.02, 0.005),
        (date(2015, 12, 31), "A", 1 / 3, 1 / 700),
    ]
    known = [datetime(2015, 11, 30, 20, 15), datetime(2015, 11, 29), datetime(2015, 12, 31, 14, 30)]
    assert [row["known_at"] for row in found] == known
    version = tables.open_table(store, "own_forecasts").version()
    assert own_forecasts.take(store, "mine", path) == 0
    assert (tables.open_table(store, "own_forecasts").version(), stored(store)) == (version, found)


def test_only_what_is_new_is_added_and_other_columns_and_their_order_do_not_matter(store, rows, write):
    assert own_forecasts.take(store, "mine", write(rows.head(1))) == 1
    more = rows.assign(note="mine")[["note", "variance", "known_at", "ticker", "mean", "as_of"]]
    assert own_forecasts.take(store, "mine", write(more.iloc[::-1])) == 2
    assert len(stored(store)) == 3


def test_datasets_are_apart(store, rows, write):
    own_forecasts.take(store, "mine", write(rows))
    assert own_forecasts.take(store, "theirs", write(rows.assign(mean=0.5))) == 3
    assert {row["mean"] for row in stored(store, "theirs")} == {0.5}
    assert own_forecasts.at(store, "mine", date(2015, 11, 30)) == {"A": (0.01, 0.004), "B": (-0.02, 0.005)}


def test_a_ticker_is_a_text_whatever_it_looks_like(store, write):
    names = ["0700", "NA", "TRUE", "1E5"]
    for name in names:
        own_forecasts.take(store, f"of {name}", write(f"{HEADER}2015-12-31,{name},0.01,0.01,2015-12-31\n"))
    assert [row["ticker"] for name in names for row in stored(store, f"of {name}")] == names


BROKEN = {  # what is put into the second row, and what is said of it
    "known later": ({"known_at": "2015-12-01"}, "it was known only after its as-of date"),
    "no variance": ({"variance": 0.0}, "its variance must be a positive number"),
    "a negative variance": ({"variance": -0.1}, "its variance must be a positive number"),
    "an unknown variance": ({"variance": np.nan}, "its variance must be a positive number"),
    "an infinite variance": ({"variance": np.inf}, "its variance must be a positive number"),
    "an unknown mean": ({"mean": np.nan}, "its mean must be a finite number"),
    "an infinite mean": ({"mean": -np.inf}, "its mean must be a finite number"),
    "a duplicate": ({"ticker": "A"}, "it stands there twice"),
}


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_row_that_breaks_a_rule_is_named_and_nothing_is_stored(store, rows, write, case, name):
    change, sentence = BROKEN[case]
    for column, value in change.items():
        rows.loc[1, column] = value
    with pytest.raises(InputError) as caught:
        own_forecasts.take(store, "mine", write(rows, name))
    said = str(caught.value)
    assert f"{name}: {sentence}" in said
    assert f"as_of 2015-11-30, ticker {rows.loc[1, 'ticker']}" in said
    assert "correct or remove" in said
    assert stored(store) == []


@pytest.mark.parametrize("column", own_forecasts.COLUMNS)
def test_a_missing_column_is_named_with_those_there_must_be(store, rows, write, column):
    with pytest.raises(
        InputError, match=rf"lacks {column}; a forecast has the columns as_of, ticker, mean, variance, "
    ):
        own_forecasts.take(store, "mine", write(rows.drop(columns=column)))
    assert stored(store) == []


@pytest.mark.parametrize("column", ["as_of", "ticker", "known_at"])
def test_an_empty_cell_is_refused_and_nothing_is_stored(store, rows, write, column):
    rows.loc[1, column] = None
    with pytest.raises(InputError, match=rf"own\.csv.*{column}"):
        own_forecasts.take(store, "mine", write(rows))
    assert stored(store) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("as_of", "31.12.2015"),
        ("known_at", "yesterday"),
        ("mean", "1%"),
        ("variance", "small"),
        ("as_of", "2015-13-01"),
    ],
)
def test_a_value_of_another_type_is_named_with_the_way_to_write_it(store, rows, write, column, value):
    rows[column] = rows[column].astype(object)
    rows.loc[1, column] = value
    with pytest.raises(
        InputError, match=rf"(?s)own\.csv holds a value of another type .*{value}.*write dates as 2019-"
    ):
        own_forecasts.take(store, "mine", write(rows))
    assert stored(store) == []


@pytest.mark.parametrize("content", ["", "\x00\x01", None])
@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_a_file_that_cannot_be_read_is_named_with_what_to_give(store, write, tmp_path, content, name):
    path = str(tmp_path / "nothing" / name) if content is None else write(content, name) if name == "own.csv" else None
    if path is None:
        path = str(tmp_path / name)
        (tmp_path / name).write_bytes(content.encode())
    with pytest.raises(InputError, match=rf"(?s){name} (cannot be read .*give a CSV or Parquet file|lacks as_of)"):
        own_forecasts.take(store, "mine", path)
    assert stored(store) == []


@pytest.mark.parametrize(("column", "value"), [("mean", 0.011), ("variance", 0.0041)])
def test_what_contradicts_the_stored_is_refused_with_both_values(store, rows, write, column, value):
    own_forecasts.take(store, "mine", write(rows.head(1)))
    before = stored(store)
    rows.loc[0, column] = value
    with pytest.raises(InputError) as caught:
        own_forecasts.take(store, "mine", write(rows))
    said = str(caught.value)
    assert "A on 2015-11-30 has mean" in said
    assert f"{column} {value:g}" in said
    assert "stored are 0.01 and 0.004, and a forecast once stored stays" in said
    assert "take the row out, or give another --scenario" in said
    assert stored(store) == before  # not even the rows that are new


def test_only_the_day_whose_row_was_added_has_another_digest(store, rows, write):
    own_forecasts.take(store, "mine", write(rows))
    before = own_forecasts.of(store, "mine", ("A", "B"))
    assert sorted(before.digests) == [date(2015, 11, 30), date(2015, 12, 31)]
    more = pd.DataFrame([("2015-12-31", "B", 0.1, 0.2, "2015-12-01"), ("2016-01-29", "A", 0.1, 0.2, "2016-01-29")])
    own_forecasts.take(store, "mine", write(more.set_axis(rows.columns, axis=1)))
    after = own_forecasts.of(store, "mine", ("A", "B"))
    assert sorted(after.digests) == [date(2015, 11, 30), date(2015, 12, 31), date(2016, 1, 29)]
    assert after.digests[date(2015, 11, 30)] == before.digests[date(2015, 11, 30)]
    assert after.digests[date(2015, 12, 31)] != before.digests[date(2015, 12, 31)]


def test_forecasts_of_other_tickers_leave_the_digests_as_they_were(store, rows, write):
    own_forecasts.take(store, "mine", write(rows))
    before = own_forecasts.of(store, "mine", ("A",))
    own_forecasts.take(store, "mine", write(rows.assign(ticker="Z" + rows["ticker"])))
    assert own_forecasts.of(store, "mine", ("A",)) == before
    assert own_forecasts.of(store, "mine", ("C",)).digests == {}
    assert own_forecasts.of(store, "another", ("A",)).digests == {}


@pytest.fixture
def own(market, small, forecasting):
    """Forecasts from a person's own files, in the panel's dataset."""
    return forecasting(market, market.panel(), replace(small, forecast=ForecastConfig("files")), "mine")


def given(days, tickers="AB", mean=0.01):
    rows = [(f"{day}", ticker, mean, 0.004, f"{day}") for day in days for ticker in tickers]
    return pd.DataFrame(rows, columns=own_forecasts.COLUMNS)


def test_only_months_with_own_forecasts_have_one_and_later_rows_leave_their_keys(own, write):
    assert own.months(2016) == []
    own_forecasts.take(own.store, "mine", write(given(["2015-12-31", "2016-02-29"])))
    before = own.months(2016)
    assert [month.moment.month for month in before] == ["2016-01", "2016-03"]
    assert {(month.trained, month.model) for month in before} == {(None, None)}
    own_forecasts.take(own.store, "mine", write(given(["2016-01-29", "2016-03-31"])))
    own_forecasts.take(own.store, "mine", write(given(["2016-02-29"], "C")))
    after = own.months(2016)
    assert [month.moment.month for month in after] == ["2016-01", "2016-02", "2016-03", "2016-04"]
    assert after[0] == before[0]
    assert after[2].forecast != before[1].forecast  # a row of that day was added


def test_own_forecasts_of_ineligible_assets_only_are_no_forecast(own, market, write):
    own_forecasts.take(own.store, "mine", write(given(["2015-12-31"], "Q")))
    assert own.months(2016) == []  # of no asset of the universe
    bars = market.bars()
    young = bars[(bars["ticker"] != "C") | (bars["session"] >= "2015-11-02")]
    own = own.__class__(market, market.panel(young), own.config, "mine")
    own_forecasts.take(own.store, "mine", write(given(["2015-12-31"], "C")))
    assert own.months(2016) == []
