"""People's price files: every layout, every refusal with its reason, and the real files where they are present."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from storage import universe
from storage.errors import InputError
from tasks.fetch.checks import BY_NAME, READING
from tasks.fetch.files import NUMBERS, read_prices

SHARED = Path(__file__).parents[2].parent / "shared/data"
shared = pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is not on this machine")

LONG = """date,ticker,open,high,low,close,volume
2024-01-02,B,10,11,9,10.5,100
2024-01-02,A,1,2,1,1.5,
2024-01-03,A,1.5,2,1,2,300
"""


@pytest.fixture
def read(tmp_path):
    """Write text to a CSV file and read it back as prices."""

    def write(text, name="prices.csv"):
        (tmp_path / name).write_text(text)
        return read_prices(tmp_path / name)

    return write


def reasons(parsed):
    return parsed.refused[["ticker", "check_name", "reason"]].to_numpy().tolist()


def test_a_long_file_becomes_sorted_bars_with_missing_numbers_missing(read):
    parsed = read(LONG)
    assert parsed.bars.columns.tolist() == ["ticker", "session", *NUMBERS]
    assert parsed.bars["ticker"].tolist() == ["A", "A", "B"]
    assert parsed.bars["session"].dtype == "datetime64[s]"
    assert parsed.bars["close"].tolist() == [1.5, 2.0, 10.5]
    assert parsed.bars["volume"].isna().tolist() == [True, False, False]
    assert parsed.bars[["adj_close", "dividend", "split"]].isna().all(axis=None)
    assert (parsed.bars[NUMBERS].dtypes == np.float64).all()
    assert (parsed.layout, parsed.basis, len(parsed.refused)) == ("long", "split", 0)


def test_synonyms_are_known_and_the_notes_name_them_and_what_is_ignored(read):
    parsed = read(
        "Timestamp,SYMBOL,Close,Adj Close,Stock Splits,Dividends,RSI\n"
        "2022-01-04 00:00:00+09:00,7203,100,99,0.0,0.5,70\n"
    )
    bar = parsed.bars.iloc[0]
    assert (bar["ticker"], bar["session"], bar["adj_close"], bar["dividend"]) == (
        "7203",
        pd.Timestamp("2022-01-04"),
        99,
        0.5,
    )
    # Yahoo writes 0 on days without a split.
    assert bar["split"] == 1.0
    assert "SYMBOL as ticker" in parsed.notes[0]
    assert "Ignored columns: RSI." in parsed.notes


def test_tickers_that_look_like_missing_values_or_numbers_stay_text(read):
    parsed = read("date,ticker,close\n2024-01-02,NA,1\n2024-01-02,0005,1\n2024-01-02,NaN,1\n2024-01-02,TRUE,1\n")
    assert parsed.bars["ticker"].tolist() == ["0005", "NA", "NaN", "TRUE"]


def test_a_wide_table_may_hold_tickers_named_like_columns(read):
    parsed = read("Date,LOW,OPEN,MSFT\n2024-01-02,1,2,3\n2024-01-03,1.1,,nan\n")
    assert parsed.bars["ticker"].tolist() == ["LOW", "LOW", "MSFT", "OPEN"]
    assert (parsed.layout, parsed.basis, len(parsed.refused)) == ("wide", "adjusted", 0)


def test_a_saved_index_without_a_name_holds_the_dates(tmp_path, read):
    frame = pd.DataFrame({"AAPL": [1.0, 2.0]}, index=pd.to_datetime(["2024-01-02", "2024-01-03"]))
    frame.to_parquet(tmp_path / "wide.parquet")
    from_parquet, from_csv = read_prices(tmp_path / "wide.parquet"), read(frame.to_csv())
    pd.testing.assert_frame_equal(from_parquet.bars, from_csv.bars)
    assert from_csv.bars["session"].dt.day.tolist() == [2, 3]


def test_rows_of_a_filtered_frame_keep_no_index(tmp_path, read):
    expected = read(LONG)
    frame = pd.read_csv(tmp_path / "prices.csv")
    frame.index = [7, 3, 5]
    frame.to_parquet(tmp_path / "filtered.parquet")
    frame.set_index(["date", "ticker"]).to_parquet(tmp_path / "indexed.parquet")
    for name in ("filtered", "indexed"):
        parsed = read_prices(tmp_path / f"{name}.parquet")
        pd.testing.assert_frame_equal(parsed.bars, expected.bars)
        assert not any(note.startswith("Ignored") for note in parsed.notes)


def test_a_folder_holds_one_ticker_a_file_and_equals_the_same_rows_in_one(tmp_path, read):
    expected = read(LONG)
    folder = tmp_path / "folder"
    folder.mkdir()
    frame = pd.read_csv(tmp_path / "prices.csv")
    frame[frame["ticker"] == "A"].drop(columns="ticker").to_csv(folder / "A.csv", index=False)
    frame[frame["ticker"] == "B"].to_parquet(folder / "B.parquet", index=False)
    (folder / "notes.txt").write_text("mine")
    parsed = read_prices(folder)
    pd.testing.assert_frame_equal(parsed.bars, expected.bars)
    assert parsed.layout == "folder"
    assert "Ignored in the folder: notes.txt." in parsed.notes


def test_a_file_without_a_ticker_column_is_named_by_its_file(read):
    parsed = read("Date,Close\n2024-01-02,5\n", "BRK-B.csv")
    assert parsed.bars["ticker"].tolist() == ["BRK-B"]
    assert "There is no ticker column; the file's name is taken as the ticker." in parsed.notes


BASES = {
    "date,ticker,close\n2024-01-02,A,1": "split",
    "date,ticker,close,dividend\n2024-01-02,A,1,0.1": "split",
    "date,ticker,close,split\n2024-01-02,A,1,": "split",
    "date,ticker,close,split\n2024-01-02,A,1,0": "traded",
    "date,ticker,close,adj_close\n2024-01-02,A,1,0.9": "adjusted",
    "date,ticker,close,adj_close,dividend,split\n2024-01-02,A,1,0.9,0,1": "adjusted",
    "date,ticker,close,adj_close,dividend,split\n2024-01-02,A,1,0.9,0.1,1": "traded",
    "date,ticker,close,adj_close,dividend\n2024-01-02,A,1,,0.1": "split",
    "date,ticker,adj_close\n2024-01-02,A,1": "adjusted",
    "date,A\n2024-01-02,1": "adjusted",
}


@pytest.mark.parametrize("text", BASES)
def test_the_basis_follows_from_the_columns(read, text):
    assert read(text).basis == BASES[text]


@pytest.mark.parametrize(("after", "basis"), [(25.2, "traded"), (100.8, "split")])
def test_splits_count_only_where_closes_step_on_their_day(read, after, basis):
    parsed = read(f"date,ticker,close,split\n2024-01-02,A,100,0\n2024-01-03,A,{after},4\n2024-01-04,A,{after},0\n")
    assert parsed.basis == basis
    assert parsed.bars["split"].tolist() == [1.0, 4.0, 1.0]


def test_splits_that_disagree_with_the_others_are_named(read):
    rows = "".join(f"2024-01-02,{t},100,0\n2024-01-03,{t},{c},2\n" for t, c in [("A", 50), ("B", 49), ("C", 101)])
    assert "1 of 3 splits look otherwise, the first of C." in read("date,ticker,close,split\n" + rows).notes[-1]


REFUSED = {
    "2024-01-03,,1,1,1,1,1": ("no_ticker", "the ticker is empty"),
    "2024-01-03,A\u0410,1,1,1,1,1": (
        "bad_ticker",
        "the ticker 'A\u0410' mixes letters of two alphabets, which look alike; write it with those of one",
    ),
    "03/01/2024,X,1,1,1,1,1": ("no_date", "the date is empty or not written as YYYY-MM-DD"),
    "2024-02-30,X,1,1,1,1,1": ("no_date", "the date is empty or not written as YYYY-MM-DD"),
    "2024-01-03,X,1,1,1,abc,1": ("not_a_number", "close is abc; it must be a number"),
    "2024-01-03,X,1,inf,1,1,1": ("not_a_number", "high is inf; it must be a number"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_a_row_that_breaks_a_rule_is_refused_with_its_reason(read, row):
    parsed = read(LONG + row + "\n")
    assert len(parsed.bars) == 3
    assert reasons(parsed) == [[row.split(",")[1], *REFUSED[row]]]


def test_every_reason_to_refuse_a_row_is_a_declared_rule():
    named = {name for name, _ in REFUSED.values()} | {"no_close", "conflicting_duplicate"}
    assert named - {"conflicting_duplicate"} == {check.name for check in READING}
    assert named <= set(BY_NAME)


PASSED = [
    "1,1,1,,1,,",
    "0,1,1,1,1,,",
    "1,1,1,-2,1,,",
    "1,0.9,1,1,1,,",
    "1,2,1,3,1,,",
    "1,1,1,1,-5,,",
    "1,1,1,1,1,-1,-2",
]


@pytest.mark.parametrize("numbers", PASSED)
def test_what_the_gate_judges_is_read_as_it_is_written(read, numbers):
    head = "date,ticker,open,high,low,close,volume,dividend,split\n2024-01-02,A,1,1,1,1,1,,\n"
    parsed = read(head + f"2024-01-03,A,{numbers}\n")
    assert parsed.refused.empty
    written = [float(number or "nan") for number in numbers.split(",")]
    got = parsed.bars[["open", "high", "low", "close", "volume", "dividend", "split"]].iloc[1]
    np.testing.assert_array_equal(got.to_numpy(np.float64), written)


def test_a_gap_in_the_adjusted_closes_stays_a_gap(read):
    parsed = read("date,ticker,close,adj_close\n2024-01-02,A,1,1\n2024-01-03,A,1,\n2024-01-02,B,1,\n")
    assert (parsed.basis, len(parsed.refused)) == ("adjusted", 0)
    assert parsed.bars["adj_close"].isna().tolist() == [False, True, True]


def test_rows_that_repeat_count_once_and_rows_that_disagree_are_all_refused(read):
    head = "date,ticker,close\n"
    same = "2024-01-02,A,5\n2024-01-02 13:30:00,A,5.0000000001\n2024-01-02,A,5\n"
    other = "2024-01-03,A,6\n2024-01-03,A,6.1\n2024-01-03,A,\n"
    parsed = read(head + same + other)
    assert parsed.bars["close"].tolist() == [5.0]
    assert parsed.refused["check_name"].tolist() == ["conflicting_duplicate", "conflicting_duplicate", "no_close"]
    assert parsed.refused["reason"].tolist() == [
        "close is 6, and another row of the day disagrees",
        "close is 6.1, and another row of the day disagrees",
        "the close is empty, and another row of the day has one",
    ]
    assert parsed.conflicts.to_numpy().tolist() == [["A", pd.Timestamp("2024-01-03")]]
    assert "2 rows repeat another one and count once." in parsed.notes


def test_a_row_that_came_before_its_close_gives_way_to_the_one_with_it(read):
    parsed = read("date,ticker,close,volume\n2024-01-02,A,,9\n2024-01-02,A,5,7\n2024-01-02,B,,3\n2024-01-02,B,,3\n")
    assert parsed.bars[["ticker", "volume"]].to_numpy().tolist() == [["A", 7.0], ["B", 3.0]]
    assert reasons(parsed) == [["A", "no_close", "the close is empty, and another row of the day has one"]]
    assert (len(parsed.conflicts), parsed.bars["close"].isna().tolist()) == (0, [False, True])


def test_a_number_that_only_one_of_two_rows_has_is_a_disagreement(read):
    parsed = read("date,ticker,close,volume\n2024-01-02,A,5,\n2024-01-02,A,5,7\n2024-01-03,A,5,7\n")
    assert len(parsed.refused) == 2


ENDINGS = {
    "date,ticker,open\n2024-01-02,A,1\n": "no close column; it has date, ticker, open",
    "date,open,high\n2024-01-02,1,1\n": "no close column",
    "day,ticker,close\n2024-01-02,A,1\n": "no date column; it has day, ticker, close",
    "date;ticker;close\n2024-01-02;A;1\n": "no date column; it has date;ticker;close",
    "date,timestamp,close\n2024-01-02,2024-01-02,1\n": r"columns date \(session\), timestamp \(session\) for",
    "date,ticker,close\n": "no usable row among 0; the table is empty",
    "date,ticker,close\n3.1.24,A,1\n": "no usable row among 1; the first reason: the date is empty or not",
    "date,ticker,close\n2024-01-02,A,1,2\n": "cannot be read",
    "": "cannot be read",
}


@pytest.mark.parametrize("text", ENDINGS)
def test_a_file_that_cannot_be_used_is_answered_with_a_sentence(read, text):
    with pytest.raises(InputError, match=ENDINGS[text]):
        read(text)


def test_paths_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "p.parquet").write_text("no parquet")
    (tmp_path / "empty").mkdir()
    for name, words in [
        ("none.csv", "does not exist"),
        ("p.xlsx", "does not exist"),
        ("p.parquet", "cannot be read"),
        ("empty", "holds no .csv or .parquet file"),
    ]:
        with pytest.raises(InputError, match=words):
            read_prices(tmp_path / name)
    (tmp_path / "p.xlsx").write_text("")
    with pytest.raises(InputError, match=r"ends in '\.xlsx'"):
        read_prices(tmp_path / "p.xlsx")


@pytest.mark.parametrize("text", [LONG, "date,A,B\n2024-01-02,1,2\n"])
def test_a_folder_with_several_tickers_in_a_file_mixes_layouts(tmp_path, text):
    (tmp_path / "A.csv").write_text("date,close\n2024-01-02,1\n")
    (tmp_path / "all.csv").write_text(text)
    with pytest.raises(InputError, match=r"mixes two layouts: all\.csv holds several tickers"):
        read_prices(tmp_path)


def test_two_header_rows_are_refused(tmp_path):
    columns = pd.MultiIndex.from_tuples([("Close", "A"), ("Open", "A")])
    pd.DataFrame([[1.0, 2.0]], columns=columns).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="has 2 header rows"):
        read_prices(tmp_path / "p.parquet")


@shared
def test_the_main_file_is_read_whole():
    parsed = read_prices(SHARED / "ohlcv_us_2005_2020.parquet")
    assert (len(parsed.bars), len(parsed.refused), parsed.basis) == (455_044, 0, "adjusted")
    assert parsed.bars["ticker"].nunique() == 121


@shared
def test_adjusted_closes_alone_are_enough():
    parsed = read_prices(SHARED / "close_only/pypfopt_20_1989_2018.parquet")
    assert (len(parsed.bars), len(parsed.refused), parsed.basis) == (106_931, 0, "adjusted")
    pd.testing.assert_series_equal(parsed.bars["close"], parsed.bars["adj_close"], check_names=False)


@shared
def test_stacked_scrapes_leave_one_bar_a_day_and_refuse_the_day_of_thirteen():
    parsed = read_prices(SHARED / "messy/stacked_scrapes_2024_2025.parquet")
    assert len(parsed.bars) == 750 - 3
    assert parsed.refused["session"].unique() == [np.datetime64("2025-03-10")]
    assert parsed.refused["ticker"].value_counts().to_dict() == {"ABNB": 13, "DDOG": 13, "ZM": 13}
    assert parsed.conflicts["ticker"].tolist() == ["ABNB", "DDOG", "ZM"]
    assert parsed.conflicts["session"].unique() == [np.datetime64("2025-03-10")]


@shared
def test_defective_prices_are_read_whole_for_the_gate_to_judge():
    parsed = read_prices(SHARED / "messy/yahoo_defects_to_2020.parquet")
    assert (len(parsed.bars), len(parsed.refused), len(parsed.conflicts)) == (44_767, 0, 0)
    absent = parsed.bars["close"].isna().groupby(parsed.bars["ticker"]).sum()
    assert absent[["EAI", "EMP", "RCAT"]].tolist() == [2364, 517, 2]


@shared
def test_a_second_vendor_without_adjusted_closes_is_split_adjusted():
    parsed = read_prices(SHARED / "messy/second_vendor_djia_2006_2017.parquet")
    assert (len(parsed.bars), parsed.basis) == (18_118, "split")


@shared
def test_yahoos_own_export_keeps_the_local_day_and_ignores_its_split():
    parsed = read_prices(SHARED / "messy/yfinance_fixtures/4063-T-1d-bad-div.csv")
    assert parsed.basis == "split"
    assert parsed.bars["session"].iloc[0] == pd.Timestamp("2022-01-04")
    assert parsed.bars.set_index("session").loc["2023-03-30", "split"] == 5.0


@pytest.mark.parametrize(("name", "assets", "index"), [("sample20", 20, "SP500"), ("prism109", 109, "SPY")])
def test_the_bundled_universes_have_unique_tickers_with_sectors_and_one_index(name, assets, index):
    path = Path(__file__).parents[2] / f"storage/universes/{name}.csv"
    table = pd.read_csv(path, keep_default_na=False)
    assert ",".join(table.columns).startswith("ticker,name,sector,exchange,currency,from,to,aliases,role")
    assert table["ticker"].is_unique
    assert table.loc[table["role"] == "index", "ticker"].tolist() == [index]
    held = table[table["role"] == "asset"]
    assert len(universe.read(name).assets) == assets
    assert held["sector"].ne("").all()
