"""Universes: what a file may say, what is refused with which sentence, and those that come with PRISM."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from storage import blobs, universe
from storage.errors import InputError
from storage.universe import Member, Universe

FULL = """ticker,name,sector,exchange,currency,from,to,aliases,role,also,delisted,chosen_on
B,Bee,Food,XLON,GBp,2001-02-03,2010-12-31,B.L;BEE,,,,2020-05-01
A, Ay ,Tech,,,,,,asset,Food & Drink; Toys,2015-06-30,2021-02-03
B,Bee,Food,XLON,GBp,2012-01-01,,,asset,,,
C,Cee,Food,XTKS,JPY,,,,,,,
^I,Index,,,,,,,index,,,
RF,Bills,,,,,,,risk_free,,,
SMB,Size,,,,,,SIZE,factor,,,
"""


DOCUMENT = ("TSLA", "HOOD", "NVDA", "AMZN", "BE", "GOOGL", "ORCL", "AAPL", "QQQ")


def test_a_file_becomes_members_sorted_by_ticker_and_first_day():
    found = universe.parse("mine", FULL)
    days = {"first": date(2001, 2, 3), "last": date(2010, 12, 31)}
    labels = {"also": ("Food & Drink", "Toys"), "delisted": date(2015, 6, 30), "chosen_on": date(2021, 2, 3)}
    assert found.members[:2] == (
        Member("A", "Ay", "Tech", **labels),
        Member("B", "Bee", "Food", "XLON", "GBp", **days, aliases=("B.L", "BEE"), chosen_on=date(2020, 5, 1)),
    )
    assert [(m.ticker, m.first.year, m.last.year) for m in found.members if m.role in ("asset", "index")] == [
        ("A", 1800, 9999),
        ("B", 2001, 2010),
        ("B", 2012, 9999),
        ("C", 1800, 9999),
        ("^I", 1800, 9999),
    ]


def test_members_are_found_by_their_roles():
    found = universe.parse("mine", FULL)
    assert (found.assets, found.index, found.risk_free, found.factors) == (("A", "B", "C"), "^I", "RF", ("SMB",))
    assert (found.of_role("index"), found.rates) == (("^I",), ("JPYGBP=X", "USDGBP=X"))
    assert found.tickers == ("A", "B", "B.L", "BEE", "C", "JPYGBP=X", "RF", "SIZE", "SMB", "USDGBP=X", "^I")
    assert found.names["B"] == ("B", "B.L", "BEE"), "the aliases of both rows"
    assert (found.names["SMB"], found.names["A"]) == (("SMB", "SIZE"), ("A",))
    assert found.sectors == {"Food": ("B", "C"), "Food & Drink": ("A",), "Tech": ("A",), "Toys": ("A",)}
    assert found.chosen_on == date(2021, 2, 3)
    assert universe.parse("mine", "ticker\nA\n").chosen_on is None


def test_the_first_asset_of_the_file_sets_exchange_and_currency():
    found = universe.parse("mine", "ticker,exchange,currency,role\nI,XNYS,USD,index\nZ,XTKS,JPY,\nA,XLON,GBp,\n")
    assert (found.exchange, found.currency, found.rates) == ("XTKS", "JPY", ("GBPJPY=X", "USDJPY=X"))
    found = universe.parse("mine", FULL)
    assert (found.exchange, found.currency) == ("XLON", "GBP"), "a pound, not a hundred pence"
    assert (found.exchanges["BEE"], found.currencies["BEE"], found.exchanges["C"]) == ("XLON", "GBp", "XTKS")
    assert found.exchanges["USDGBP=X"] == "24/5"


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
        ("ticker,role\nA,stock\n", "has the role 'stock'; a role is asset, index, rate, risk_free or factor"),
        ("ticker,role\nA,index\n", "has no asset; it needs at least one"),
        ("ticker,role\nA,\nI,index\nJ,index\n", "has the indices I, J; it may have one"),
        ("ticker,role\nA,\nI,risk_free\nJ,risk_free\n", "has the risk-free rates I, J; it may have one"),
        ("ticker,from,delisted\nA,2002-01-02,2002-01-01\n", "A was delisted on 2002-01-01, before its first day 2002"),
        ("ticker,delisted\nA,soon\n", "A: .*soon.*write dates as 2024-05-31"),
        ("ticker,chosen_on\nA,2002\n", "A: .*2002.*write dates as 2024-05-31"),
        ("ticker,currency\nA,dollars\n", "has the currency 'dollars'; write a code of three capitals such as USD"),
        ("ticker,currency\nA,usd\n", "has the currency 'usd'; write a code of three capitals such as USD"),
        ("ticker,currency\nA,\nB,£\n", "has the currency '£'; write a code of three capitals such as USD"),
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


def test_a_ticker_may_be_cast_as_risk_free_rate_or_factor():
    found = universe.of_tickers("mine", ["C", "A", "B"])
    assert universe.with_risk_free(found, None) is universe.with_factors(found, ()) is found
    cast = universe.with_factors(universe.with_risk_free(found, "C"), ["X", "B", "X"])
    assert (cast.assets, cast.risk_free, cast.factors) == (("A",), "C", ("B", "X"))
    assert universe.with_factors(universe.with_risk_free(cast, "C"), ["B", "X"]) is cast
    again = universe.with_factors(universe.with_risk_free(cast, "^IRX"), ["Y"])
    assert (again.assets, again.risk_free, again.factors) == (("A",), "^IRX", ("Y",))
    with pytest.raises(InputError, match="has no asset"):
        universe.with_risk_free(universe.of_tickers("mine", ["A"]), "A")


def test_a_new_member_trades_where_the_portfolio_does_and_a_known_one_where_it_did():
    found = universe.parse("mine", "ticker,exchange,currency\nA,XLON,GBP\nB,XTKS,JPY\n")
    members = {member.ticker: member for member in universe.with_index(found, "^FTSE").members}
    assert (members["^FTSE"].exchange, members["^FTSE"].currency) == ("XLON", "GBP")
    members = {member.ticker: member for member in universe.with_index(found, "B").members}
    assert (members["B"].exchange, members["B"].currency, members["B"].role) == ("XTKS", "JPY", "index")
    assert "JPYGBP=X" in members, "the index too is turned into the portfolio's currency"


def test_a_base_currency_brings_just_the_rates_it_needs():
    found = universe.parse("mine", "ticker,currency\nA,USD\nB,GBp\nC,GBX\nD,ZAc\nE,ILA\nF,EUR\n")
    assert found.rates == ("EURUSD=X", "GBPUSD=X", "ILSUSD=X", "ZARUSD=X")
    assert [found.rate_of(ticker) for ticker in "ABC"] == [None, "GBPUSD=X", "GBPUSD=X"]
    euro = universe.in_currency(found, "EUR")
    assert (euro.currency, euro.rates) == ("EUR", ("GBPEUR=X", "ILSEUR=X", "USDEUR=X", "ZAREUR=X"))
    assert universe.in_currency(euro, "USD") == found
    assert universe.in_currency(found, "GBp") == universe.in_currency(found, "GBP")
    assert all((m.exchange, m.currency) == ("24/5", "EUR") for m in euro.members if m.role == "rate")


def test_results_from_before_the_choice_of_a_universe_are_hindsight():
    found = universe.parse("mine", "ticker,chosen_on\nA,2020-03-01\nB,2020-04-01\n")
    assert universe.hindsight(found, date(2020, 4, 1)) == ""
    assert universe.hindsight(found, date(2020, 3, 31)).startswith(
        "The 2 assets of mine were chosen with hindsight, on 2020-04-01: results before that day flatter"
    )
    unknown = universe.of_tickers("mine", ["A"])
    assert universe.hindsight(unknown, date(2020, 4, 1)).startswith(
        "If the 1 assets of mine were chosen with hindsight"
    )


def test_factors_and_risk_free_rates_need_no_exchange_rate():
    found = universe.parse("mine", "ticker,currency,role\nA,USD,\nRF,EUR,risk_free\nSMB,GBP,factor\n")
    assert found.rates == ()


def test_a_row_may_give_a_rate_its_own_exchange_and_another_name():
    text = "ticker,exchange,currency,aliases,role\nA,,,,\nB,XLON,GBP,,\nGBPUSD=X,XLON,,FIXING,rate\n"
    found = universe.parse("mine", text)
    assert (found.rates, found.exchanges["FIXING"]) == (("GBPUSD=X",), "XLON")
    assert universe.parse("mine", text.replace("X,XLON,,", "X,,,")).exchanges["FIXING"] == "24/5"


def test_a_universe_of_the_first_format_is_still_read(store):
    identity = blobs.put(
        store,
        b'{"members":[{"aliases":[],"currency":"GBP","exchange":"XLON","first":"1800-01-01","last":"9999-12-31",'
        b'"name":"","role":"asset","sector":"","ticker":"A"}],"name":"old"}',
    )
    member = Member("A", exchange="XLON", currency="GBP")
    assert universe.load(store, identity) == Universe("old", (member,), "XLON", "GBP")


def test_a_universe_is_kept_and_loaded_under_an_id_of_its_content(store):
    found = universe.parse('it\'s; "mine" 日本', FULL)
    identity = universe.keep(store, found)
    assert universe.load(store, identity) == found
    assert universe.load(store, universe.keep(store, replace(found, currency="EUR"))).currency == "EUR"
    assert universe.keep(store, universe.parse('it\'s; "mine" 日本', FULL)) == identity
    assert universe.keep(store, universe.parse('it\'s; "mine" 日本', FULL.replace("Tech", "Tec"))) != identity


def test_a_file_is_read_by_its_path_and_an_unknown_name_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(FULL)
    assert universe.read(str(path)) == universe.parse("mine", FULL)
    for name in ("prism10", str(tmp_path), str(tmp_path / "no.csv"), "../universes/sample20.csv"):
        with pytest.raises(InputError, match="is neither a file nor one of magnificent7, multi_asset, prism109"):
            universe.read(name)


@pytest.mark.parametrize("content", [b"ticker\n\xff\xfe\n", b"ticker\n" + b'"' + b"x" * 200_000 + b'"\n'])
def test_a_file_that_is_no_csv_text_is_refused(tmp_path, content):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"mine.csv cannot be read .*it must be CSV text"):
        universe.read(str(path))


@pytest.mark.parametrize(
    ("name", "assets", "index", "chosen_on"),
    [
        ("sample20", 20, "SP500", date(2022, 12, 28)),
        ("prism109", 109, "SPY", date(2025, 3, 21)),
        ("vlstm10", 9, "SPY", date(2026, 1, 30)),
        ("magnificent7", 7, "SPY", date(2023, 5, 31)),
        ("multi_asset", 19, "ACWI", date(2026, 11, 21)),
    ],
)
def test_the_universes_that_come_with_prism_are_whole(name, assets, index, chosen_on):
    found = universe.read(name)
    assert name in universe.names()
    assert len(found.assets) == len(set(found.assets)) == assets
    assert len(found.members) == assets + 1 + len(found.rates)
    assert (found.index, found.chosen_on, found.exchange, found.currency) == (index, chosen_on, "XNYS", "USD")
    assert found.index not in found.assets
    assert all(member.name and member.sector for member in found.members if member.role == "asset")
    assert all(member.chosen_on == chosen_on for member in found.members if member.role != "rate")


def test_the_documents_universe_lists_one_stock_twice():
    sectors = {label: len(tickers) for label, tickers in universe.read("prism109").sectors.items()}
    assert sectors == {
        "Technology & AI": 10,
        "Financials & Banking": 9,
        "Healthcare & Pharma": 10,
        "Consumer Goods & Retail": 10,
        "Energy & Utilities": 10,
        "Industrials & Defense": 10,
        "Real Estate & Infrastructure": 10,
        "Transportation & Automotive": 10,
        "Semiconductors": 10,
        "Agriculture & Food": 10,
        "Entertainment & Media": 9,
        "Meme Stocks": 2,
    }
    found = {member.ticker: member for member in universe.read("prism109").members}
    assert [ticker for ticker, member in found.items() if member.also] == ["UPS"]
    assert (found["UPS"].sector, found["UPS"].also) == ("Industrials & Defense", ("Transportation & Automotive",))
    assert found["PARA"].aliases == ("PSKY",)


def test_the_documents_ten_are_nine_assets_and_the_index():
    assert set(universe.read("vlstm10").tickers) == {*DOCUMENT, "SPY"}


def test_the_international_universe_names_its_exchanges_and_rates():
    found = universe.read("multi_asset")
    assert found.rates == ("GBPUSD=X", "JPYUSD=X")
    places = {(found.exchanges[ticker], found.currencies[ticker]) for ticker in found.assets}
    assert places == {("XNYS", "USD"), ("XLON", "GBp"), ("XTKS", "JPY")}
    assert [found.exchanges[t] for t in ("SHEL.L", "7203.T", "JPYUSD=X")] == ["XLON", "XTKS", "24/5"]


def test_every_file_of_the_folder_has_the_same_columns():
    folder = Path(universe.__file__).parent / "universes"
    columns = "ticker,name,sector,exchange,currency,from,to,aliases,role,also,delisted,chosen_on"
    assert {file.read_text().splitlines()[0] for file in folder.glob("*.csv")} == {columns}


def test_a_column_named_twice_is_refused():
    with pytest.raises(InputError, match=r"universe mine names a column twice \(ticker, ticker\)"):
        universe.parse("mine", "ticker,ticker\nAAA,BBB")
