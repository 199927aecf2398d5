"""Universes: what a file may say, what is refused with which sentence, and the two that come with PRISM."""

from datetime import date

import pytest

from storage import universe
from storage.errors import InputError
from storage.universe import Member, Universe

FULL = """ticker,name,sector,exchange,currency,from,to,aliases,role
B,Bee,Food,XLON,GBP,2001-02-03,2010-12-31,B.L;BEE,
A, Ay ,Tech,,,,,,asset
B,Bee,Food,XLON,GBP,2012-01-01,,,asset
^I,Index,,,,,,,index
"""


def test_a_file_becomes_members_sorted_by_ticker_and_first_day():
    found = universe.parse("mine", FULL)
    days = {"first": date(2001, 2, 3), "last": date(2010, 12, 31)}
    assert found.members[:2] == (
        Member("A", "Ay", "Tech"),
        Member("B", "Bee", "Food", "XLON", "GBP", **days, aliases=("B.L", "BEE")),
    )
    assert [(member.ticker, member.first.year, member.last.year) for member in found.members] == [
        ("A", 1800, 9999),
        ("B", 2001, 2010),
        ("B", 2012, 9999),
        ("^I", 1800, 9999),
    ]
    assert (found.assets, found.index, found.exchange) == (("A", "B"), "^I", "XNYS")
    assert found.tickers == ("A", "B", "B.L", "BEE", "^I")


@pytest.mark.parametrize(
    "text", ["ticker\nA\n", "\ufeffticker,unknown\nA,1\n", "ticker\nA\n\n", "name,ticker\n,A,1,2\n"]
)
def test_only_the_ticker_is_needed(text):
    assert universe.parse("mine", text).members == (Member("A"),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no column `ticker`"),
        ("symbol,name\nA,Ay\n", "has no column `ticker`"),
        ("ticker\n", "has no asset"),
        ("ticker,name\nA,\n,Bee\n", "has a row without a ticker"),
        ("ticker,name\n  ,Bee\n", "has a row without a ticker"),
        ("ticker,from\nA,31.12.2001\n", "A: .*31.12.2001.*write dates as 2024-05-31"),
        ("ticker,to\nA,2001-02-30\n", "A: .*write dates as 2024-05-31"),
        ("ticker,from,to\nA,2002-01-01,2001-01-01\n", "the dates of A overlap or end before they begin"),
        ("ticker\nA\nA\n", "the dates of A overlap"),
        ("ticker,from,to\nA,2001-01-01,2002-01-01\nA,2002-01-01,\n", "the dates of A overlap"),
        ("ticker,role\nA,asset\nA,index\n", "the dates of A overlap"),
        ("ticker,role\nA,stock\n", "has the role 'stock'; a role is asset or index"),
        ("ticker,role\nA,index\n", "has no asset; it needs at least one"),
        ("ticker,role\nA,\nI,index\nJ,index\n", "has the indices I, J; it may have one"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_the_rule(text, sentence):
    with pytest.raises(InputError, match=f"universe mine.*{sentence}"):
        universe.parse("mine", text)


def test_rows_of_one_ticker_may_follow_each_other_by_a_day():
    rows = "ticker,from,to\nA,2002-01-02,\nA,2001-01-01,2002-01-01\n"
    assert [member.first.year for member in universe.parse("mine", rows).members] == [2001, 2002]


def test_the_index_may_be_chosen_and_is_no_asset_then():
    found = universe.of_tickers("mine", ["B", "A", "I"])
    assert (found.assets, found.index) == (("A", "B", "I"), None)
    chosen = universe.with_index(found, "I")
    assert (chosen.assets, chosen.index) == (("A", "B"), "I")
    assert chosen == universe.of_tickers("mine", ["B", "A", "I"], "I")
    assert universe.with_index(chosen, None) is universe.with_index(chosen, "I") is chosen
    other = universe.with_index(chosen, "X")
    assert (other.assets, other.index, other.tickers) == (("A", "B"), "X", ("A", "B", "X"))
    with pytest.raises(InputError, match="has no asset"):
        universe.with_index(universe.of_tickers("mine", ["A"]), "A")
    with pytest.raises(InputError, match="index 'X' has no prices; give one of A, B"):
        universe.of_tickers("mine", ["A", "B"], "X")


def test_a_universe_is_kept_and_loaded_under_an_id_of_its_content(store):
    found = universe.parse('it\'s; "mine" 日本', FULL)
    identity = universe.keep(store, found)
    assert universe.load(store, identity) == found
    assert universe.keep(store, universe.parse('it\'s; "mine" 日本', FULL)) == identity
    assert universe.keep(store, universe.parse('it\'s; "mine" 日本', FULL.replace("Tech", "Tec"))) != identity


def test_a_file_is_read_by_its_path_and_an_unknown_name_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(FULL)
    assert universe.read(str(path)) == universe.parse("mine", FULL)
    for name in ("prism10", str(tmp_path), str(tmp_path / "no.csv"), "../universes/sample20.csv"):
        with pytest.raises(InputError, match="is neither a file nor one of prism109, sample20"):
            universe.read(name)


@pytest.mark.parametrize("content", [b"ticker\n\xff\xfe\n", b"ticker\n" + b'"' + b"x" * 200_000 + b'"\n'])
def test_a_file_that_is_no_csv_text_is_refused(tmp_path, content):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"mine.csv cannot be read .*it must be CSV text"):
        universe.read(str(path))


@pytest.mark.parametrize(("name", "assets", "index"), [("sample20", 20, None), ("prism109", 109, "SPY")])
def test_the_universes_that_come_with_prism_are_whole(name, assets, index):
    found = universe.read(name)
    assert isinstance(found, Universe)
    assert name in universe.names()
    assert len(found.assets) == len(set(found.assets)) == assets
    assert len(found.members) == assets + 1
    assert found.index is not None
    assert index in (None, found.index)
    assert found.index not in found.assets
    assert all(member.name and member.sector for member in found.members if member.role == "asset")
