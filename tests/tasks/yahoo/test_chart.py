"""From Yahoo's chart answer to units of the day, against a simulated truth and against numbers worked by hand."""

import json
import math
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from tasks.fetch.chart import COLUMNS, BadPayload, parse

LAST = date(2026, 11, 20)
AFTER = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)  # an hour after New York's close of LAST
PRICES = ["open", "high", "low", "close"]


@pytest.fixture
def market(market):
    market.now = AFTER
    return market


@pytest.fixture
def read(market):
    """The quote that Yahoo's answer of now gives, optionally changed before it is read."""

    def ask(ticker="T", since=None, last=LAST, change=None):
        start = None if since is None else int(datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp())
        _, body = market.chart(ticker, start)
        if change:
            change(body["chart"]["result"][0])
        return parse(ticker, json.dumps(body).encode(), last)

    return ask


def stamp(text, zone="America/New_York"):
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def small(days, closes, adjusted=None, zone="America/New_York", volume=1000, **events):
    """An answer with rows at given times and equal open, high, low and close."""
    times = [stamp(text, zone) if isinstance(text, str) else text for text in days]
    quote = dict.fromkeys(PRICES, closes) | {"volume": [volume] * len(times)}
    indicators = {"quote": [quote], "adjclose": [{"adjclose": closes if adjusted is None else adjusted}]}
    meta = {"currency": "USD", "symbol": "T", "exchangeName": "NYQ", "exchangeTimezoneName": zone}
    result = {"meta": meta, "timestamp": times, "indicators": indicators, "events": events}
    return {"chart": {"result": [result], "error": None}}


def dividends(**amounts):
    """Events on days written as d2026_03_04, stamped at the open."""
    return {key: {"date": at(key), "amount": amount} for key, amount in amounts.items()}


def splits(**ratios):
    return {key: {"date": at(key), "numerator": n, "denominator": d} for key, (n, d) in ratios.items()}


def at(key):
    return stamp(key[1:].replace("_", "-") + "T09:30")


def quoted(answer, last=LAST):
    return parse("T", json.dumps(answer).encode(), last)


def returns(bars):
    """R = s (C + D) / C_prev - 1 of the priced bars."""
    bars = bars[bars["close"].notna()]
    total = bars["split"].fillna(1) * (bars["close"] + bars["dividend"].fillna(0)) / bars["close"].shift() - 1
    return total.iloc[1:].to_numpy()


def events(quote):
    rows = quote.actions.itertuples(index=False)
    return [(f"{row.ex_date:%F}", row.kind, pytest.approx(row.value, rel=1e-5)) for row in rows]


SPLITS = {"2020-08-31": 4, "2022-06-01": 0.1, "2024-03-04": 3.0, "2026-07-01": 1.5}
DIVIDENDS = {"2019-02-07": 0.73, "2020-05-08": 0.82, "2020-08-28": 0.1, "2020-09-01": 0.2, "2021-11-05": 0.5}
DIVIDENDS |= {"2022-02-04": 0.6, "2023-02-10": 4.0, "2024-03-05": 0.4, "2025-08-11": 0.25, "2026-08-07": 0.27}


@pytest.mark.parametrize("since", [None, "2020-06-01", "2021-01-04", "2024-03-04", "2026-10-01"])
def test_prices_and_volumes_are_as_traded_whether_the_window_begins_before_or_after_splits(market, read, since):
    truth = market.add("T", first="2019-01-02", splits=SPLITS, dividends=DIVIDENDS).truth
    bars = read(since=since).bars.set_index("session")
    truth = truth.loc[bars.index[0] : str(LAST)]
    assert bars.index.equals(truth.index)
    np.testing.assert_allclose(bars[PRICES], truth[PRICES], rtol=1e-6)
    np.testing.assert_allclose(bars["volume"], truth["volume"], rtol=1e-5)  # Yahoo rounds to shares of now
    np.testing.assert_allclose(bars["split"].fillna(1), truth["split"], rtol=1e-6)
    np.testing.assert_allclose(bars["dividend"].fillna(0), truth["payout"], rtol=1e-6)
    assert bars["dividend"].notna().sum() == (truth["payout"] != 0).sum()
    assert bars["split"].notna().sum() == (truth["split"] != 1).sum()
    np.testing.assert_allclose(returns(bars), truth["R"].iloc[1:], atol=1e-6)


def test_a_later_split_or_dividend_changes_nothing_that_was_read_before(market, read):
    market.add("T", first="2019-01-02", splits=SPLITS, dividends=DIVIDENDS)
    market.now = datetime(2024, 3, 1, 22, tzinfo=UTC)
    before = read(last=date(2024, 3, 1))
    market.now = AFTER
    after = read()
    overlap = after.bars.iloc[: len(before.bars)]
    columns = [name for name in COLUMNS if name not in ("adj_close", "volume")]
    pd.testing.assert_frame_equal(before.bars[columns], overlap[columns], rtol=1e-6)
    np.testing.assert_allclose(before.bars["volume"], overlap["volume"], rtol=1e-5)
    pd.testing.assert_frame_equal(before.actions, after.actions.iloc[: len(before.actions)], rtol=1e-6)
    assert (before.bars["adj_close"] / overlap["adj_close"]).median() > 2  # Yahoo's own, restated all the time


def test_the_adjusted_close_is_yahoos_own_on_the_scale_of_the_fetch(market, read):
    market.add("T", first="2026-01-02", splits={"2026-07-01": 2})
    bars = read().bars
    scale = np.where(bars["session"] < "2026-07-01", 2, 1)
    np.testing.assert_allclose(bars["adj_close"] * scale, bars["close"], rtol=1e-6)


def test_columns_and_types_are_those_of_bars(market, read):
    market.add("T", first="2026-01-02", splits={"2026-07-01": 2}, dividends={"2026-08-07": 1})
    quote = read()
    assert quote.bars.columns.tolist() == COLUMNS
    assert quote.bars["session"].dtype == quote.actions["ex_date"].dtype == "datetime64[s]"
    assert (quote.bars[COLUMNS[1:]].dtypes == np.float64).all()
    assert quote.actions["value"].dtype == np.float64
    assert quote.bars["session"].is_monotonic_increasing
    assert quote.bars["session"].is_unique


def test_actions_are_listed_by_ex_date_in_units_of_their_day(market, read):
    market.add("T", first="2026-01-02", splits={"2026-07-01": 2, "2026-09-01": 0.25}, dividends={"2026-05-08": 0.6})
    expected = [("2026-05-08", "dividend", 0.6), ("2026-07-01", "split", 2.0), ("2026-09-01", "split", 0.25)]
    assert events(read()) == expected


def test_a_ticker_without_events_has_none(market, read):
    market.add("T", first="2026-10-01")
    quote = read()
    assert quote.actions.empty
    assert quote.actions.dtypes.astype(str).tolist()[0::2] == ["datetime64[s]", "float64"]
    assert quote.bars[["dividend", "split"]].isna().all(axis=None)


def test_the_identity_is_yahoos(market, read):
    market.add("7203.T", exchange="XTKS", first="2026-01-05")
    quote = read("7203.T")
    assert (quote.ticker, quote.symbol, quote.currency, quote.exchange) == ("7203.T", "7203.T", "JPY", "JPX")
    assert (quote.timezone, quote.instrument_type) == ("Asia/Tokyo", "EQUITY")
    assert quote.first_trade_date == date(2026, 1, 5)
    assert json.loads(quote.raw)["chart"]["result"][0]["meta"]["symbol"] == "7203.T"
    assert "regularMarketTime" not in repr(quote)


def test_the_first_trade_is_on_the_exchanges_date(market, read):
    market.add("T", exchange="XASX", first="2026-01-05")  # Sydney opens at 23:00 of the day before in Greenwich
    assert read().first_trade_date == date(2026, 1, 5)


def test_what_yahoo_leaves_out_of_the_identity_is_empty(market):
    answer = small(["2026-11-19T09:30"], [1.0])
    answer["chart"]["result"][0]["meta"] |= {"currency": None, "firstTradeDate": None}
    quote = quoted(answer)
    assert (quote.currency, quote.instrument_type, quote.first_trade_date) == ("", "", None)


# --- dates


@pytest.mark.parametrize("exchange", ["XTKS", "XASX", "XLON", "XNYS"])
def test_dates_are_those_of_the_exchange(market, read, exchange):
    listing = market.add("T", exchange=exchange, first="2026-01-05", dividends={"2026-06-30": 1.0})
    quote = read()
    assert quote.bars["session"].equals(pd.Series(listing.truth.loc[: str(LAST)].index, name="session"))
    assert events(quote) == [("2026-06-30", "dividend", 1.0)]
    assert quote.bars.set_index("session").loc["2026-06-30", "dividend"] == 1.0


def test_stamps_at_midnight_in_tokyo_are_not_the_day_before():
    # 2026-11-19T00:00+09:00 is 2026-11-18T15:00Z
    answer = small(["2026-11-18T00:00", "2026-11-19T00:00"], [100.0, 99.0], zone="Asia/Tokyo")
    answer["chart"]["result"][0]["events"] = {
        "dividends": {"1": {"date": stamp("2026-11-19T00:00", "Asia/Tokyo"), "amount": 2.0}}
    }
    quote = quoted(answer)
    assert quote.bars["session"].dt.date.tolist() == [date(2026, 11, 18), date(2026, 11, 19)]
    assert quote.bars["dividend"].tolist()[1] == 2.0
    assert events(quote) == [("2026-11-19", "dividend", 2.0)]


def test_days_stamped_an_hour_or_two_before_midnight_are_the_next_ones():
    answer = small(["2026-01-05T23:00", "2026-01-06T22:00", "2026-01-08T00:00"], [1.0, 2, 3], zone="America/Sao_Paulo")
    assert quoted(answer).bars["session"].dt.day.tolist() == [6, 7, 8]


def test_a_running_bar_whose_last_trade_was_at_ten_at_night_stays_on_its_day():
    answer = small(["2026-01-05T00:00", "2026-01-06T22:00"], [1.0, 2], zone="Europe/London")
    answer["chart"]["result"][0]["meta"]["regularMarketTime"] = stamp("2026-01-06T22:00", "Europe/London")
    assert quoted(answer).bars["session"].dt.day.tolist() == [5, 6]


# --- sessions that are not complete


def test_the_running_bar_is_left_out_until_its_session_is_complete(market, read):
    truth = market.add("T", first="2026-11-02").truth
    market.now = datetime(2026, 11, 20, 20, 59, 59, tzinfo=UTC)  # a second before the close
    quote = read(last=date(2026, 11, 19))
    assert (quote.bars["session"].iloc[-1], quote.live) == (pd.Timestamp("2026-11-19"), 1)
    market.now = AFTER
    quote = read(last=date(2026, 11, 19))  # the planner waits some time after the close
    assert (quote.bars["session"].iloc[-1], quote.live) == (pd.Timestamp("2026-11-19"), 1)
    quote = read()
    assert (quote.bars["session"].iloc[-1], quote.live) == (pd.Timestamp("2026-11-20"), 0)
    assert quote.bars["close"].iloc[-1] == pytest.approx(truth.loc["2026-11-20", "close"], rel=1e-6)


@pytest.mark.parametrize("running", ["last trade", "open", "both"])
def test_a_running_bar_is_left_out_however_it_is_stamped(market, read, running):
    market.add("T", first="2026-11-02", running=running)
    market.now = datetime(2026, 11, 20, 18, tzinfo=UTC)
    quote = read(last=date(2026, 11, 19))
    assert (len(quote.bars), quote.live) == (14, 1)


@pytest.mark.parametrize("running", ["last trade", "open", "both"])
def test_an_answer_from_before_the_close_is_not_complete_even_if_the_calendar_says_so(market, read, running):
    market.add("T", first="2026-11-02", running=running)
    market.now = datetime(2026, 11, 20, 18, tzinfo=UTC)
    quote = read(last=date(2026, 11, 20))
    assert (quote.bars["session"].iloc[-1], quote.live) == (pd.Timestamp("2026-11-19"), 1)


def test_a_half_day_is_complete_at_its_own_close(market, read):
    market.add("T", first="2025-11-03", last="2025-12-05")
    market.now = datetime(2025, 11, 28, 18, 30, tzinfo=UTC)  # New York closed at 18:00 on the day after Thanksgiving
    assert read(last=date(2025, 11, 28)).bars["session"].iloc[-1] == pd.Timestamp("2025-11-28")
    market.now = datetime(2025, 11, 28, 17, 30, tzinfo=UTC)
    assert read(last=date(2025, 11, 28)).bars["session"].iloc[-1] == pd.Timestamp("2025-11-26")


def test_of_a_settled_and_a_running_row_of_one_day_the_settled_one_counts():
    answer = small(["2026-11-19T09:30", "2026-11-20T09:30", "2026-11-20T16:00:02"], [1.0, 2.0, 3.0])
    quote = quoted(answer)
    assert quote.bars["close"].tolist() == [1.0, 2.0]
    assert quote.live == 0


@pytest.mark.parametrize(
    "days",
    [
        ["2026-11-18T09:30", "2026-11-18T10:30", "2026-11-20T09:30"],  # not the newest day
        ["2026-11-19T09:30", "2026-11-20T09:30", "2026-11-20T09:30"],  # twice the same
        ["2026-11-20T09:30", "2026-11-20T10:30", "2026-11-20T11:30"],  # three
    ],
)
def test_other_days_with_two_rows_are_refused(days):
    with pytest.raises(BadPayload, match=r"rows share their day with another one, the first on 2026-11-\d\d"):
        quoted(small(days, [1.0, 2.0, 3.0]))


def test_a_split_of_today_is_undone_although_its_session_is_not_complete(market, read):
    truth = market.add("T", first="2026-10-01", splits={"2026-11-20": 5}, dividends={"2026-11-20": 0.1}).truth
    market.now = datetime(2026, 11, 20, 15, tzinfo=UTC)
    quote = read(last=date(2026, 11, 19))
    np.testing.assert_allclose(quote.bars["close"], truth.loc[:"2026-11-19", "close"], rtol=1e-6)
    assert quote.actions.empty
    assert quote.bars[["dividend", "split"]].isna().all(axis=None)


# --- rows that Yahoo lacks


def test_the_dividend_of_a_missing_row_goes_to_the_next_bar_whose_return_carries_the_whole_move(market, read):
    listing = market.add("T", first="2026-06-01", dividends={"2026-08-07": 3.0})
    listing.missing = {date(2026, 8, 7)}
    quote = read()
    bars = quote.bars.set_index("session")
    assert bars["dividend"].dropna().to_dict() == {pd.Timestamp("2026-08-10"): 3.0}
    close = listing.truth["close"]
    move = bars.loc["2026-08-10", "close"] + 3.0
    assert move / bars.loc["2026-08-06", "close"] == pytest.approx((close["2026-08-10"] + 3) / close["2026-08-06"])
    assert events(quote) == [("2026-08-07", "dividend", 3.0)]


def test_a_row_without_prices_stays_and_its_events_go_to_the_next_bar_that_has_one(market, read):
    listing = market.add("T", first="2026-06-01", dividends={"2026-08-07": 3.0}, splits={"2026-08-07": 2})
    listing.unpriced = {date(2026, 7, 15), date(2026, 8, 7)}
    bars = read().bars.set_index("session")
    assert bars.loc["2026-08-07", COLUMNS[1:]].isna().all()
    assert bars["dividend"].dropna().round(6).to_dict() == {pd.Timestamp("2026-08-10"): 3.0}
    assert bars["split"].dropna().to_dict() == {pd.Timestamp("2026-08-10"): 2.0}


def test_an_event_after_the_last_bar_waits_in_the_actions(market, read):
    listing = market.add("T", first="2026-06-01", dividends={"2026-11-20": 3.0})
    listing.missing = {date(2026, 11, 20)}
    quote = read()
    assert quote.bars["dividend"].isna().all()
    assert events(quote) == [("2026-11-20", "dividend", 3.0)]


def test_an_event_before_the_first_bar_of_the_window_goes_to_it(market, read):
    listing = market.add("T", first="2026-06-01", dividends={"2026-08-07": 3.0})
    listing.missing = {date(2026, 8, 7)}
    assert read(since="2026-08-07").bars["dividend"].tolist()[:2] == [3.0, pytest.approx(np.nan, nan_ok=True)]


def test_several_dividends_between_two_bars_add_up():
    days = ["2026-03-02T09:30", "2026-03-06T09:30"]
    paid = dividends(d2026_03_03=0.5, d2026_03_05=0.25, d2026_03_06=1.0)
    assert quoted(small(days, [50.0, 48.0], dividends=paid)).bars["dividend"].tolist()[1] == 1.75


def test_several_splits_between_two_bars_multiply():
    days = ["2026-03-02T09:30", "2026-03-06T09:30"]
    quote = quoted(small(days, [10.0, 12.0], splits=splits(d2026_03_03=(2, 1), d2026_03_05=(3, 1))))
    assert quote.bars["split"].tolist()[1] == 6
    assert quote.bars["close"].tolist() == [60.0, 12.0]
    assert quote.bars["volume"].tolist() == [pytest.approx(1000 / 6), 1000]


def test_a_dividend_before_a_split_within_one_gap_is_per_new_share():
    # One share of 100 pays 4 on the 3rd and becomes four on the 5th, which close at 25 on the 6th:
    # R = (4 * 25 + 4)/100 - 1. On Yahoo's scale the close before was 25 and the dividend 1.
    days = ["2026-03-02T09:30", "2026-03-06T09:30"]
    quote = quoted(small(days, [25.0, 25.0], dividends=dividends(d2026_03_03=1.0), splits=splits(d2026_03_05=(4, 1))))
    assert quote.bars["close"].tolist() == [100.0, 25.0]
    assert quote.bars["dividend"].tolist()[1] == 1.0
    assert returns(quote.bars) == pytest.approx([0.04])
    assert events(quote) == [("2026-03-03", "dividend", 4.0), ("2026-03-05", "split", 4.0)]


def test_a_dividend_after_a_split_within_one_gap_is_per_new_share_too():
    days = ["2026-03-02T09:30", "2026-03-06T09:30"]
    paid, split = dividends(d2026_03_05=1.0), splits(d2026_03_03=(4, 1))
    quote = quoted(small(days, [25.0, 25.0], dividends=paid, splits=split))
    assert quote.bars["dividend"].tolist()[1] == 1.0
    assert events(quote) == [("2026-03-03", "split", 4.0), ("2026-03-05", "dividend", 1.0)]


# --- amounts whose unit the list leaves open


@pytest.mark.parametrize("listed", ["per new share", "per old share"])
@pytest.mark.parametrize("ratio", [5.0, 0.2])
def test_a_dividend_on_the_day_of_a_split_is_the_one_of_the_adjusted_close(market, read, listed, ratio):
    splits_ = {"2026-08-07": ratio, "2026-10-01": 2.0}
    listing = market.add("T", first="2026-06-01", dividends={"2026-08-07": 1.2, "2026-07-10": 0.5}, splits=splits_)
    listing.per_old_share = {date(2026, 8, 7)} if listed == "per old share" else set()
    quote = read()
    truth = listing.truth.loc[: str(LAST)]
    np.testing.assert_allclose(quote.bars["dividend"].fillna(0), truth["payout"], rtol=1e-6)
    np.testing.assert_allclose(returns(quote.bars), truth["R"].iloc[1:], atol=1e-6)
    assert events(quote)[:2] == [("2026-07-10", "dividend", 0.5), ("2026-08-07", "dividend", 1.2)]


def test_the_split_of_shin_etsu_paid_55_a_share_where_yahoo_lists_275():
    # 4063.T, March 2023, five for one: closes and adjusted closes as Yahoo served them
    days = ["2023-03-29T09:00", "2023-03-30T09:00"]
    answer = small(days, [4206.0, 4161.0], [4074.48193359375, 4084.297607421875], zone="Asia/Tokyo")
    moment = stamp("2023-03-30T09:00", "Asia/Tokyo")
    answer["chart"]["result"][0]["events"] = {
        "dividends": {"1": {"date": moment, "amount": 275.0}},
        "splits": {"1": {"date": moment, "numerator": 5.0, "denominator": 1.0}},
    }
    quote = quoted(answer)
    assert quote.bars["dividend"].tolist()[1] == 55
    assert quote.bars["close"].tolist() == [21030.0, 4161.0]
    assert quote.actions["value"].tolist() == [55, 5]


def test_other_dividends_of_the_gap_are_not_part_of_the_doubtful_one():
    # y 20 -> 19 on Yahoo's scale; .4 on the 3rd, and on the 5th 1 per new share, listed as 2 per old one
    days = ["2026-03-02T09:30", "2026-03-06T09:30"]
    paid, split = dividends(d2026_03_03=0.4, d2026_03_05=2.0), splits(d2026_03_05=(2, 1))
    quote = quoted(small(days, [20.0, 19.0], [20 - 1.4, 19.0], dividends=paid, splits=split))
    assert quote.bars["dividend"].tolist()[1] == pytest.approx(1.4)
    assert quote.actions["value"].tolist() == pytest.approx([0.8, 1.0, 2.0])


def test_an_adjusted_close_that_fits_neither_unit_is_believed():
    paid, split = dividends(d2026_03_06=2.0), splits(d2026_03_06=(2, 1))
    days = ["2026-03-02T09:30", "2026-03-06T09:30"]
    quote = quoted(small(days, [20.0, 19.0], [20 - 1.5, 19.0], dividends=paid, splits=split))
    assert quote.bars["dividend"].tolist()[1] == pytest.approx(1.5)


@pytest.mark.parametrize("adjusted", [[20.0, 19.0], [None, None], [25.0, 19.0], [-30.0, 19.0], [20.0, 0.0]])
def test_where_the_adjusted_close_says_nothing_the_list_counts(adjusted):
    days = ["2026-03-02T09:30", "2026-03-06T09:30"]
    paid, split = dividends(d2026_03_06=2.0), splits(d2026_03_06=(2, 1))
    quote = quoted(small(days, [20.0, 19.0], adjusted, dividends=paid, splits=split))
    assert quote.bars["dividend"].tolist()[1] == 2.0


def test_without_a_column_of_adjusted_closes_there_are_none_and_the_list_counts():
    paid, split = dividends(d2026_03_06=2.0), splits(d2026_03_06=(2, 1))
    answer = small(["2026-03-02T09:30", "2026-03-06T09:30"], [20.0, 19.0], dividends=paid, splits=split)
    del answer["chart"]["result"][0]["indicators"]["adjclose"]
    quote = quoted(answer)
    assert quote.bars["adj_close"].isna().all()
    assert quote.bars["dividend"].tolist()[1] == 2.0


def test_a_doubtful_dividend_on_the_first_bar_is_taken_as_listed():
    paid, split = dividends(d2026_03_02=2.0), splits(d2026_03_02=(2, 1))
    answer = small(["2026-03-02T09:30", "2026-03-06T09:30"], [20.0, 19.0], dividends=paid, splits=split)
    assert quoted(answer).bars["dividend"].tolist()[0] == 2.0


def test_a_dividend_in_another_currency_is_the_one_of_the_adjusted_close(market, read):
    # prices in pence, the dividend listed in dollars: 40 pence are .5 dollars
    market.add(
        "T", exchange="XLON", first="2026-06-01", start=2600, dividends={"2026-08-07": 40.0}, dividend_currency="USD"
    )

    def in_dollars(result):
        for event in result["events"]["dividends"].values():
            event["amount"] = 0.5

    quote = read(change=in_dollars)
    assert quote.bars["dividend"].dropna().tolist() == pytest.approx([40], rel=1e-4)
    assert quote.actions["value"].tolist() == pytest.approx([40], rel=1e-4)


def test_a_dividend_in_the_currency_of_the_prices_is_taken_as_listed():
    paid = dividends(d2026_03_06=2.0)
    paid["d2026_03_06"]["currency"] = "USD"
    answer = small(["2026-03-02T09:30", "2026-03-06T09:30"], [20.0, 19.0], [18.5, 19.0], dividends=paid)
    assert quoted(answer).bars["dividend"].tolist()[1] == 2.0


# --- capital gains of funds


def test_a_capital_gain_adds_to_the_dividend_of_its_day(market, read):
    listing = market.add(
        "T", first="2026-06-01", dividends={"2026-08-07": 0.3}, gains={"2026-08-07": 1.1}, instrument="MUTUALFUND"
    )
    quote = read()
    assert quote.bars["dividend"].dropna().tolist() == pytest.approx([1.4])
    np.testing.assert_allclose(returns(quote.bars), listing.truth.loc[: str(LAST), "R"].iloc[1:], atol=1e-6)
    assert events(quote) == [("2026-08-07", "capital_gain", 1.1), ("2026-08-07", "dividend", 0.3)]


def test_a_capital_gain_that_repeats_the_dividend_of_its_day_is_listed_and_counts_once(market, read):
    listing = market.add("T", first="2026-06-01", dividends={"2026-08-07": 0.42}, gains={"2026-08-07": 0.42})
    quote = read()
    assert quote.bars["dividend"].dropna().tolist() == pytest.approx([0.42])
    np.testing.assert_allclose(returns(quote.bars), listing.truth.loc[: str(LAST), "R"].iloc[1:], atol=1e-6)
    assert events(quote) == [("2026-08-07", "capital_gain", 0.42), ("2026-08-07", "dividend", 0.42)]


def test_equal_payments_of_different_days_both_count():
    gain = dividends(d2026_03_05=0.42)
    answer = small(
        ["2026-03-02T09:30", "2026-03-06T09:30"], [20.0, 19.0], dividends=dividends(d2026_03_06=0.42), capitalGains=gain
    )
    assert quoted(answer).bars["dividend"].tolist()[1] == pytest.approx(0.84)


def test_dividends_of_zero_are_none():
    answer = small(["2026-03-02T09:30", "2026-03-06T09:30"], [20.0, 19.0], dividends=dividends(d2026_03_06=0.0))
    quote = quoted(answer)
    assert quote.actions.empty
    assert quote.bars["dividend"].isna().all()


# --- what is no chart


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is no JSON"),
        (b'{"chart": {"result": [{"meta"', "is no JSON"),
        (b"<html>Will be right back</html>", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[]", "is no chart"),
        (b"null", "is no chart"),
        (b'{"chart": {"result": null, "error": {"code": "x"}}}', "is no chart"),
        (b'{"chart": {"result": []}}', "is no chart"),
        (b'{"chart": {"result": [{"meta": {}}]}}', "is no chart"),
    ],
)
def test_an_answer_that_is_no_chart_is_refused_with_its_reason(raw, reason):
    with pytest.raises(BadPayload, match=f"the answer for T {reason}"):
        parse("T", raw, LAST)


def spoiled(change):
    answer = small(["2026-03-02T09:30", "2026-03-06T09:30"], [20.0, 19.0], splits=splits(d2026_03_06=(2, 1)))
    change(answer["chart"]["result"][0])
    return answer


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r["meta"].update(symbol="OTHER"), "the answer for T is that of OTHER"),
        (lambda r: r["meta"].update(exchangeTimezoneName="Mars/Base"), "is no chart"),
        (lambda r: r["meta"].update(firstTradeDate="long ago"), "is no chart"),
        (lambda r: r["meta"].update(currentTradingPeriod={"regular": {}}, regularMarketTime=1), "is no chart"),
        (lambda r: r.update(timestamp=[]), "columns of other lengths"),
        (lambda r: r.update(timestamp=r["timestamp"][:1]), "columns of other lengths"),
        (lambda r: r.pop("timestamp"), "is no chart"),
        (lambda r: r["indicators"]["quote"][0].pop("open"), "is no chart"),
        (lambda r: r["indicators"]["quote"][0].update(close=[1.0]), "columns of other lengths"),
        (lambda r: r["indicators"]["quote"][0].update(close=["a", "b"]), "is no chart"),
        (lambda r: r["indicators"].update(quote=[{}]), "is no chart"),
        (lambda r: r["events"]["splits"]["d2026_03_06"].update(numerator=0), "a split of T has no usable value"),
        (lambda r: r["events"]["splits"]["d2026_03_06"].update(denominator=0), "is no chart"),
        (lambda r: r["events"]["splits"]["d2026_03_06"].pop("date"), "is no chart"),
        (lambda r: r["events"].update(dividends={"1": {"date": 1, "amount": None}}), "is no chart"),
        (
            lambda r: r["events"].update(dividends={"1": {"date": 1, "amount": math.inf}}),
            "a dividend of T has no usable",
        ),
    ],
)
def test_an_answer_that_contradicts_itself_is_refused_with_its_reason(change, reason):
    with pytest.raises(BadPayload, match=reason):
        quoted(spoiled(change))


def test_infinite_prices_are_missing_ones():
    answer = small(["2026-03-02T09:30", "2026-03-06T09:30"], [20.0, 19.0], [math.inf, 19.0])
    assert quoted(answer).bars["adj_close"].isna().tolist() == [True, False]


def test_rows_out_of_order_are_sorted():
    quote = quoted(small(["2026-03-06T09:30", "2026-03-02T09:30"], [19.0, 20.0]))
    assert quote.bars["close"].tolist() == [20.0, 19.0]


def test_a_price_of_zero_is_left_to_the_gate():
    paid, split = dividends(d2026_03_06=2.0), splits(d2026_03_06=(2, 1))
    quote = quoted(small(["2026-03-02T09:30", "2026-03-06T09:30"], [0.0, 19.0], dividends=paid, splits=split))
    assert quote.bars["close"].tolist() == [0.0, 19.0]
    assert quote.bars["dividend"].tolist()[1] == 2.0
