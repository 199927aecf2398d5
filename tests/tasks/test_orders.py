"""Orders in shares, and holdings files as people and their spreadsheets write them."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from storage import universe
from storage.errors import InputError
from storage.ledger import Decision
from tasks import orders, own_holdings
from tasks.numerics.configs import AccountingConfig


@pytest.fixture
def decision(market):
    snapshot = market.take(market.bars())
    record = {"snapshot": snapshot, "universe": market.universe("ABCDE")}
    return Decision("main", date(2016, 1, 4), date(2015, 12, 31), "backfill", None, (), "", record)


@pytest.fixture
def read(tmp_path):
    def write(text):
        path = tmp_path / "holdings.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return own_holdings.read_file(path)

    return write


@pytest.fixture
def close(market):
    bars = market.bars()
    return bars[bars["session"] == "2015-12-31"].set_index("ticker")["close"]


def test_orders_are_priced_at_the_closes_of_the_as_of_date(market, decision, close):
    sheet = orders.sheet(
        market.store, decision, {"B": 0.5, "A": 0.5}, {"C": 10.0, "$CASH": 5000.0}, None, AccountingConfig(cost=0.001)
    )
    assert sheet.tickers == ["A", "B", "C"]
    np.testing.assert_array_equal(sheet.price, close[["A", "B", "C"]])
    assert sheet.held.tolist() == [0.0, 0.0, 10.0]
    assert sheet.orders.order[2] == -10.0
    wealth = 5000 + 10 * close["C"]
    assert 0 <= sheet.orders.cash < close[["A", "B"]].sum() + 0.002 * wealth
    np.testing.assert_array_equal(sheet.orders.target, np.trunc(sheet.orders.target))


def test_capital_is_the_whole_account_and_the_rest_of_it_is_cash(market, decision, close):
    one = orders.sheet(
        market.store, decision, {"A": 1.0}, {"C": 10.0}, 10 * close["C"] + 5000, AccountingConfig(cost=0.0)
    )
    two = orders.sheet(
        market.store, decision, {"A": 1.0}, {"C": 10.0, "$CASH": 5000.0}, None, AccountingConfig(cost=0.0)
    )
    np.testing.assert_array_equal(one.orders.target, two.orders.target)
    assert one.orders.cash == pytest.approx(two.orders.cash)


def test_cash_in_the_weights_stays_cash(market, decision, close):
    sheet = orders.sheet(market.store, decision, {"A": 0.25, "$CASH": 0.75}, {}, 100_000.0, AccountingConfig(cost=0.0))
    assert sheet.tickers == ["A"]
    assert sheet.orders.target[0] == 25_000 // close["A"]


def test_a_ticker_without_a_price_up_to_the_date_is_named(market, decision):
    with pytest.raises(InputError, match="ZZZ has no price up to 2015-12-31; take it out of the holdings file"):
        orders.sheet(market.store, decision, {"A": 1.0}, {"ZZZ": 1.0}, 1000.0, AccountingConfig(cost=0.0))


@pytest.mark.parametrize("capital", [None, 0.0, -5.0])
def test_an_account_worth_nothing_is_told_what_to_give(market, decision, capital):
    with pytest.raises(InputError, match=r"it must be worth more than 0; give --capital, or a \$CASH line"):
        orders.sheet(market.store, decision, {"A": 1.0}, {}, capital, AccountingConfig(cost=0.0))


@pytest.mark.parametrize("text", [
    "ticker,shares\nA,10\n$CASH,5.5\n",
    "\ufeffticker,shares\r\nA,10\r\n$CASH,5.5\r\n",
    "shares,note,ticker\n10,bought 2015, A \n5.5,,$CASH\n",
    '"ticker","shares"\n"A","1e1"\n"$CASH"," 5.5"',
])  # fmt: skip
def test_holdings_are_read_as_spreadsheets_write_them(read, text):
    assert read(text) == {"A": 10.0, "$CASH": 5.5}


def test_a_header_alone_means_that_nothing_is_held(read):
    assert read("ticker,shares\n") == {}


REFUSED = {
    "": "first line must be ticker,shares",
    "A,10\n": r"begins with 'a,10'; its first line must be ticker,shares",
    "A,10\nB,5\n": r"\('ticker'\); it needs the columns ticker,shares",
    "ticker;shares\nA;10\n": r"\('ticker'\)",
    "ticker,shares\nA\n": "it needs the columns ticker,shares",
    "ticker,shares\nA,ten\n": "could not convert string to float: 'ten'",
    "ticker,shares\nA,1\nA,2\n": "names a ticker twice",
    "ticker,shares\nA,1\n A ,2\n": "names a ticker twice",
    "ticker,shares\nA,nan\n": "gives nan shares of A; give a number",
    "ticker,shares\n$CASH,inf\n": r"gives inf shares of \$CASH; give a number",
    "ticker,shares\nA,-1e999\n": "gives -inf shares of A",
    f'ticker,shares\n"{"x" * 200_000}",1\n': "field larger than field limit",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_a_holdings_file_that_cannot_be_trusted_is_refused(read, text):
    with pytest.raises(InputError, match=REFUSED[text]):
        read(text)


def test_a_file_that_is_no_text_or_not_there_is_refused(read, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read(b"\x80\x04\x95\xff\x00")
    with pytest.raises(InputError, match="cannot be read"):
        own_holdings.read_file(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read"):
        own_holdings.read_file(tmp_path)


def test_prices_in_pence_and_yen_are_turned_into_the_account_s_currency(market):
    """London's close of the date is known in New York, and so is Tokyo's; the rates are those of the day before."""
    bars = market.bars(["AAA", "LON", "TOK", "GBPUSD=X", "JPYUSD=X"])
    rows = "ticker,exchange,currency\nAAA,XNYS,USD\nLON,XLON,GBp\nTOK,XTKS,JPY"
    chosen = universe.parse("test", rows)
    record = {"snapshot": market.take(bars), "universe": universe.keep(market.store, chosen)}
    made = Decision("main", date(2016, 1, 4), date(2015, 12, 30), "backfill", None, (), "", record)
    sheet = orders.sheet(market.store, made, {"AAA": 0.4, "LON": 0.3, "TOK": 0.3}, {}, 1e6, AccountingConfig(cost=0.0))
    close = bars.set_index(["ticker", "session"])["close"]
    day, before = pd.Timestamp("2015-12-30"), pd.Timestamp("2015-12-29")
    assert sheet.price.tolist() == pytest.approx(
        [
            close["AAA", day],
            close["LON", day] / 100 * close["GBPUSD=X", before],
            close["TOK", day] * close["JPYUSD=X", before],
        ],
        rel=1e-15,
    )
