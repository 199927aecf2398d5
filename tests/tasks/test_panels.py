"""Panels: missing sessions, exchanges, currencies, cash, delistings, months, and that nothing looks ahead."""

from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from storage import universe
from storage.errors import InputError
from storage.keys import PanelKey
from storage.universe import Member
from tasks import calendars, panels
from tasks.numerics import dates
from tests.tasks.quotes import abroad, drop, quotes

CONSTANT = 0.02 / 252  # of cash, where no risk-free rate is known
TOKYO = Member("T", exchange="XTKS", currency="JPY")
# The first week of July 2024: New York kept the 4th, Tokyo did not.
YEN = {"06-28": 0.0060, "07-01": 0.0061, "07-02": 0.0062, "07-03": 0.0063, "07-04": 0.0064, "07-05": 0.0065}
STOCK = {"07-01": 1000, "07-02": 1010, "07-03": 1020, "07-04": 1000, "07-05": 1050, "07-08": 1100, "07-09": 2000}
DOLLARS = {"07-01": 100, "07-02": 101, "07-03": 102, "07-05": 103, "07-08": 104}


def week(yen=YEN, stock=STOCK, dollars=DOLLARS, pair="JPYUSD=X"):
    return pd.concat([quotes("A", dollars), quotes("T", stock), quotes(pair, yen)])


def test_returns_are_relative_closes_and_start_at_the_second_bar(market):
    bars = market.bars()
    panel = market.load(bars)
    close = bars.pivot(index="session", columns="ticker", values="close").to_numpy()
    assert np.isnan(panel.returns[0]).all()
    np.testing.assert_array_equal(panel.returns[1:], close[1:] / close[:-1] - 1)
    np.testing.assert_array_equal(panel.sessions, market.days())
    assert panel.traded.all()


def test_a_missing_session_returns_zero_and_the_next_bar_carries_the_whole_move(market):
    whole = market.load()
    panel = market.load(drop(market.bars(), "B", [200, 201]))
    assert panel.returns[200:202, 1].tolist() == [0.0, 0.0]
    assert not panel.traded[200:202, 1].any()
    assert panel.traded[202, 1]
    np.testing.assert_allclose(1 + panel.returns[202, 1], np.prod(1 + whole.returns[200:203, 1]), rtol=1e-14)
    others = [0, 2, 3, 4]
    np.testing.assert_array_equal(panel.returns[:, others], whole.returns[:, others])


def test_an_asset_may_be_held_from_its_132nd_session_on(market):
    panel = market.load(pd.concat([market.bars("A"), drop(market.bars("B"), "B", range(40))]))
    assert panel.eligible[:, 0].tolist() == [place >= 131 for place in range(400)]
    assert panel.eligible[:, 1].tolist() == [place >= 171 for place in range(400)]


def test_five_of_the_last_132_sessions_may_be_missing_and_no_sixth(market):
    panel = market.load(drop(market.bars(), "B", [150, 160, 170, 180, 190, 200]))
    assert panel.eligible[199, 1]
    assert not panel.eligible[200:282, 1].any()
    assert panel.eligible[282:, 1].all()  # the first of the six lies 132 sessions back


def test_a_halted_asset_may_be_held_for_five_sessions_of_its_exchange(market):
    panel = market.load(drop(market.bars(), "B", range(300, 400)))
    assert panel.eligible[296:308, 1].tolist() == [True] * 8 + [False] * 4


def test_from_and_to_dates_bound_when_an_asset_may_be_held(market):
    first, last = date(2015, 11, 2), date(2015, 12, 31)
    again = Member("B", first=date(2016, 3, 1))
    panel = market.load(members=["A", Member("B", first=first, last=last), again])
    days = panel.sessions
    inside = (days >= np.datetime64(first)) & (days <= np.datetime64(last)) | (days >= np.datetime64("2016-03-01"))
    np.testing.assert_array_equal(panel.eligible[:, 1], inside)
    assert panels.left_out(panel, date(2016, 1, 29)) == {"B": "not in the universe on that day"}


def test_an_alias_stands_in_where_the_ticker_has_no_bar(market):
    bars = market.bars("AB")
    old = bars[(bars["ticker"] == "B") & (bars["session"] < "2016-01-04")]
    renamed = pd.concat([bars.drop(old.index), old.assign(ticker="OLD")])
    # where both have a bar the ticker's own counts
    both = pd.concat([renamed, bars[bars["ticker"] == "B"].iloc[[-1]].assign(ticker="OLD", close=1e6, adj_close=1e6)])
    panel = market.load(both, [Member("A"), Member("B", aliases=("OLD",))])
    np.testing.assert_array_equal(panel.returns, market.load(bars, "AB").returns)
    assert panel.universe.tickers == ("A", "B", "OLD")


def test_another_exchanges_bars_count_at_the_next_session_of_the_portfolio(market):
    bars = pd.concat([market.bars("A"), market.bars("L", exchange="XLON")])
    panel = market.load(bars, [Member("A"), Member("L", exchange="XLON")])
    close = bars[bars["ticker"] == "L"].set_index("session")["close"]
    at = panel.at(date(2015, 7, 6))  # New York kept 3 July, London 4 May
    assert panel.sessions[at - 1] == np.datetime64("2015-07-02")
    assert panel.returns[at, 1] == pytest.approx(close["2015-07-06"] / close["2015-07-02"] - 1, rel=1e-13)
    at = panel.at(date(2015, 5, 5))
    assert panel.returns[at - 1, 1] == 0.0
    assert not panel.traded[at - 1, 1]
    assert panel.returns[at, 1] == pytest.approx(close["2015-05-05"] / close["2015-05-01"] - 1, rel=1e-13)


def test_eligibility_counts_the_sessions_of_the_assets_own_exchange(market):
    bars = pd.concat([market.bars("A"), market.bars("L", exchange="XLON")])
    panel = market.load(bars, [Member("A"), Member("L", exchange="XLON")])
    own = calendars.sessions("XLON", date(2015, 3, 2), date(2020, 1, 1))
    last = market.bars("L", exchange="XLON")["session"].max()
    for place, day in enumerate(panel.sessions):
        if day <= last:
            assert panel.eligible[place, 1] == ((own <= day).sum() >= dates.REQUIRED)


def test_a_bar_counts_towards_eligibility_when_it_is_known(market):
    bars = pd.concat([market.bars("A"), market.bars("T", exchange="XTKS")])
    panel = market.load(bars, [Member("T", exchange="XTKS"), Member("A")])
    required = panel.series["A"].own_day[dates.REQUIRED - 1]
    assert panel.sessions[panel.eligible[:, 0]][0] == calendars.next_session("XTKS", required)


def test_the_market_is_the_index_or_the_mean_of_the_assets_that_have_prices(market):
    bars = pd.concat([market.bars("A"), drop(market.bars("B"), "B", range(40)), market.bars("I")])
    panel = market.load(bars, [Member("A"), Member("B"), Member("I", role="index")])
    assert panel.market[0] == 0.0
    np.testing.assert_array_equal(panel.market[1:], panel.index_returns[1:])
    assert panel.universe.assets == ("A", "B")
    panel = market.load(bars, "AB")
    assert panel.index_returns is None
    np.testing.assert_array_equal(panel.market[1:41], panel.returns[1:41, 0])
    np.testing.assert_allclose(panel.market[41:], panel.returns[41:].mean(axis=1), rtol=1e-12, atol=1e-17)


def test_the_market_over_an_assets_own_intervals_adds_up(market):
    bars = pd.concat([market.bars("A"), drop(market.bars("B"), "B", [200, 201])])
    panel = market.load(bars, "AB")
    own = panels.market_on(panel, panel.series["B"])
    assert np.isnan(own[0])
    assert own[200] == pytest.approx(np.log1p(panel.market[200:203]).sum(), abs=1e-13)
    assert own[1:].sum() == pytest.approx(np.log1p(panel.market[1:]).sum(), abs=1e-12)


@pytest.mark.parametrize(("basis", "ratio"), [("traded", 2 * 1.01), ("split", 1.01), ("adjusted", 1.0)])
def test_dividends_and_splits_count_as_the_basis_says(market, basis, ratio):
    bars = market.bars("AB").assign(basis=basis)
    day = bars.index[bars["ticker"] == "B"][250]
    bars.loc[day, ["dividend", "split"]] = bars.loc[day, "close"] * 0.01, 2.0
    panel, plain = market.load(bars, "AB"), market.load(market.bars("AB"), "AB")
    assert (1 + panel.returns[250, 1]) / (1 + plain.returns[250, 1]) == pytest.approx(ratio, rel=1e-12)
    unchanged = np.arange(400) != 250
    np.testing.assert_array_equal(panel.returns[unchanged], plain.returns[unchanged])
    after = panel.series["B"].volume[250:] / plain.series["B"].volume[250:]
    np.testing.assert_allclose(after, 0.5 if basis == "traded" else 1.0, rtol=1e-14)


def test_an_index_and_assets_without_prices_are_none_and_never_eligible(market):
    panel = market.load(members=["A", "Z", Member("I", role="index")])
    assert panel.index_returns is None
    assert np.isnan(panel.returns[:, 1]).all()
    assert not panel.eligible[:, 1].any()
    assert panels.left_out(panel, date(2016, 1, 29)) == {"Z": "no prices yet"}


def test_a_universe_without_any_price_is_refused(market):
    refused = "no asset of universe test has prices in the data"
    with pytest.raises(InputError, match=refused):
        market.load(members="XYZ")
    with pytest.raises(InputError, match=refused):
        market.load(members=["X", Member("A", role="index")])
    with pytest.raises(InputError, match=refused):  # no rate is known yet at any of Tokyo's closes
        market.load(week({"07-09": 0.0060}), [TOKYO], "USD")
    with pytest.raises(InputError, match=refused):  # no session of New York is over
        market.load(quotes("A", {"07-01": 1.0}), [Member("Z"), Member("A", exchange="XTKS")])


def test_the_aliases_of_every_row_of_a_ticker_count(market):
    bars = market.bars("AB")
    rows = [Member("B", last=date(2015, 6, 30), aliases=("OLD",)), Member("B", first=date(2015, 7, 1))]
    panel = market.load(bars.replace({"ticker": {"B": "OLD"}}), [Member("A"), *rows])
    np.testing.assert_array_equal(panel.returns, market.load(bars, "AB").returns)


@pytest.mark.parametrize("name", ["PARA", "PSKY"])
def test_a_renamed_stock_of_a_shipped_universe_is_found_by_either_name(market, name):
    key = PanelKey(market.take(market.bars([name])), universe.keep(market.store, universe.read("prism109")))
    panel = panels.load(market.store, key)
    assert list(panel.series) == ["PARA"]
    np.testing.assert_array_equal(
        panel.returns[:, panel.universe.assets.index("PARA")][:3], panel.market[:3] * [np.nan, 1, 1]
    )


def test_a_stock_of_tokyo_in_dollars_by_hand(market):
    panel = market.load(week(), [Member("A"), TOKYO])
    assert panel.sessions.astype(str).tolist() == [f"2024-{day}" for day in DOLLARS]
    # Tokyo closes at 6:00 UTC, when the last rate known is that of the day before: yen of 1 July at 0.0060, and so on;
    # 4 and 5 July are both known on the 5th, and 9 July at no session yet
    dollars = [1000 * 0.0060, 1010 * 0.0061, 1020 * 0.0062, 1050 * 0.0064, 1100 * 0.0065]
    expected = [np.nan, *(b / a - 1 for a, b in pairwise(dollars))]
    np.testing.assert_allclose(panel.returns[:, 1], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        panel.returns[1:, 0], [0.01, 102 / 101 - 1, 103 / 102 - 1, 104 / 103 - 1], rtol=0, atol=1e-12
    )
    assert panel.series["T"].own_day.astype(str).tolist() == [f"2024-{day}" for day in list(STOCK)[:-1]]
    assert panel.traded.all()


def test_a_stock_of_new_york_in_yen_by_hand(market):
    rates = {day: 1 / rate for day, rate in YEN.items()}
    stock = {day: close for day, close in STOCK.items() if day != "07-09"}
    panel = market.load(week(rates, stock, pair="USDJPY=X"), [TOKYO, Member("A")])
    assert (panel.universe.exchange, panel.universe.currency) == ("XTKS", "JPY")
    assert panel.sessions.astype(str).tolist() == [f"2024-{day}" for day in stock]
    # New York's closes are known at Tokyo's next one, and turned by the last rate known when New York closed
    yen = [100 / 0.0060, 101 / 0.0061, 102 / 0.0062, 103 / 0.0064]
    moves = [b / a - 1 for a, b in pairwise(yen)]
    np.testing.assert_allclose(
        panel.returns[:, 0], [np.nan, np.nan, moves[0], moves[1], 0, moves[2]], rtol=0, atol=1e-12
    )
    assert panel.traded[:, 0].tolist() == [False, True, True, True, False, True]
    np.testing.assert_allclose(
        panel.returns[1:, 1], [1.01 - 1, 1020 / 1010 - 1, 1000 / 1020 - 1, 0.05, 1100 / 1050 - 1], rtol=0, atol=1e-12
    )


def test_a_listing_begins_with_the_first_known_rate(market):
    late = {day: rate for day, rate in YEN.items() if day >= "07-02"}
    panel = market.load(week(late), [Member("A"), TOKYO])
    assert panel.series["T"].own_day[0] == np.datetime64("2024-07-03")
    np.testing.assert_allclose(panel.returns[3:, 1], [6.72 / 6.324 - 1, 7.15 / 6.72 - 1], rtol=0, atol=1e-12)
    assert np.isnan(panel.returns[:3, 1]).all()
    assert not panel.traded[:2, 1].any()


def test_the_last_known_rate_stays_until_the_next(market):
    panel = market.load(week({"06-28": 0.0060, "07-03": np.nan, "07-04": 0.0064}), [Member("A"), TOKYO])
    np.testing.assert_allclose(panel.returns[1:3, 1], [0.01, 1020 / 1010 - 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(panel.returns[3, 1], 1050 * 0.0064 / (1020 * 0.0060) - 1, rtol=0, atol=1e-12)


def test_a_rate_with_an_exchange_of_its_own_is_known_at_its_close(market):
    pounds, fixing = quotes("L", {"07-01": 50, "07-02": 51, "07-03": 50}), {"07-01": 1.25, "07-02": 1.30, "07-03": 1.20}
    bars = pd.concat([quotes("A", DOLLARS), pounds, quotes("GBPUSD=X", fixing)])
    london = Member("L", exchange="XLON", currency="GBp")
    panel = market.load(bars, [Member("A"), london, Member("GBPUSD=X", exchange="XLON", role="rate")])
    np.testing.assert_allclose(panel.returns[1:3, 1], [51 * 1.30 / 62.5 - 1, 60 / 66.3 - 1], rtol=0, atol=1e-12)
    panel = market.load(bars, [Member("A"), london])  # at London's close the day's rate of the currency market is not
    np.testing.assert_allclose(panel.returns[2, 1], 50 * 1.30 / (51 * 1.25) - 1, rtol=0, atol=1e-12)


def test_the_index_is_turned_into_the_same_currency(market):
    panel = market.load(week(), [Member("A"), Member("T", exchange="XTKS", currency="JPY", role="index")])
    np.testing.assert_allclose(panel.index_returns[1], 6.161 / 6 - 1, rtol=0, atol=1e-12)


def test_prices_in_another_currency_need_bars_of_its_rate(market):
    bars = pd.concat([week(), quotes("U", STOCK), quotes("L", STOCK)])
    other, london = Member("U", exchange="XTKS", currency="JPY"), Member("L", exchange="XLON", currency="GBp")
    with pytest.raises(
        InputError, match=r"holds T, U, but the data have no bars of JPYUSD=X, .* bring bars of JPYUSD=X"
    ):
        market.load(bars[bars["ticker"] != "JPYUSD=X"], [Member("A"), TOKYO, other])
    with pytest.raises(InputError, match=r"holds L, but the data have no bars of GBPUSD=X"):
        market.load(bars, [Member("A"), TOKYO, london])
    absent = bars[bars["ticker"].isin(["A", "JPYUSD=X"])]
    assert list(market.load(absent, [Member("A"), london]).series) == ["A"], "who has no prices needs no rate"


def test_a_bar_of_a_market_that_closes_after_a_half_day_counts_at_the_next_session(market):
    bars = pd.concat([quotes("A", DOLLARS), quotes("T", {"07-02": 10, "07-03": 11, "07-04": 12, "07-05": 15})])
    panel = market.load(bars, [Member("A"), Member("T", exchange="XTSE")])
    np.testing.assert_allclose(panel.returns[:, 1], [np.nan, np.nan, 0, 0.5, 0], rtol=0, atol=1e-15)
    assert panel.traded[:, 1].tolist() == [False, True, False, True, False]


def test_bars_of_another_exchange_show_no_session_of_the_portfolio_to_be_over(market):
    ahead = {**STOCK, "07-10": 2000}
    assert market.load(week(stock=ahead), [Member("A"), TOKYO]).sessions[-1] == np.datetime64("2024-07-09")
    assert market.load(week(stock=STOCK), [Member("A"), TOKYO]).sessions[-1] == np.datetime64("2024-07-08")
    far = pd.concat([week(), quotes("JPYUSD=X", {"07-30": 0.007})])
    assert market.load(far, [Member("A"), TOKYO]).sessions[-1] == np.datetime64("2024-07-08")


@pytest.mark.parametrize("basis", ["traded", "adjusted", "yield"])
def test_a_yield_is_earned_over_the_session_after_it_is_known(market, basis):
    yields = {"07-02": 5.04, "07-03": np.nan, "07-05": 2.52, "07-08": 9}
    bars = pd.concat([quotes("A", DOLLARS), quotes("^IRX", yields, basis)])
    panel = market.load(bars, [Member("A"), Member("^IRX", role="risk_free")])
    np.testing.assert_allclose(panel.risk_free, [CONSTANT, CONSTANT, 0.0002, 0.0002, 0.0001], rtol=1e-14)
    assert panel.universe.assets == ("A",)
    assert market.load(bars, "A").risk_free is None
    assert market.load(bars, [Member("A"), Member("Z", role="risk_free")]).risk_free is None


def test_a_file_of_rates_holds_the_return_of_cash_itself(market):
    bars = pd.concat([quotes("A", DOLLARS), quotes("RF", {"07-02": 0.0001, "07-05": -0.0003}, "rate")])
    panel = market.load(bars, [Member("A"), Member("RF", role="risk_free")])
    np.testing.assert_array_equal(panel.risk_free, [CONSTANT, 0.0001, 0.0001, -0.0003, -0.0003])


def test_factors_are_returns_on_the_portfolios_sessions(market):
    size = {"07-02": 0.01, "07-03": np.nan, "07-05": -0.02}
    bars = pd.concat([quotes("A", DOLLARS), quotes("SMB", size, "rate"), quotes("ETF", DOLLARS)])
    members = [Member("A"), *(Member(name, role="factor") for name in ("SMB", "ETF", "HML"))]
    panel = market.load(bars, members)
    assert set(panel.factors) == {"SMB", "ETF"}
    np.testing.assert_array_equal(panel.factors["SMB"], [np.nan, 0.01, 0.0, -0.02, 0.0])
    np.testing.assert_array_equal(panel.factors["ETF"], panel.returns[:, 0])


def test_a_delisted_asset_counts_as_such_from_its_day_on_and_may_not_be_held(market):
    bars, days = drop(market.bars("ABC"), "B", range(300, 400)), market.days()
    gone = Member("B", delisted=days[300].item())
    panel = market.load(bars, [Member("A"), gone, Member("C")])
    assert panel.delisted.tolist() == [400, 300, 400]
    assert panel.eligible[296:, 1].tolist() == [True] * 4 + [False] * 100
    assert panels.left_out(panel, days[299].item()) == {}
    assert panels.left_out(panel, days[350].item()) == {"B": f"delisted on {days[300]}"}
    said = market.load(bars, "ABC", delisted={"B": days[300].item(), "Z": days[0].item()})
    assert said.delisted.tolist() == [400, 300, 400]
    np.testing.assert_array_equal(said.eligible, panel.eligible)


def test_of_two_delistings_the_first_counts(market):
    bars, days = drop(market.bars("AB"), "B", range(300, 400)), market.days()
    for by_row, by_snapshot in ((320, 310), (310, 320)):
        members = [Member("A"), Member("B", delisted=days[by_row].item())]
        assert market.load(bars, members, delisted={"B": days[by_snapshot].item()}).delisted[1] == 310


def test_an_asset_whose_bars_go_on_is_not_sold_before_they_end(market):
    bars, days = drop(market.bars("AB"), "B", range(300, 400)), market.days()
    panel = market.load(bars, "AB", delisted={"B": days[290].item()})
    assert (panel.delisted[1], panel.eligible[289:291, 1].tolist()) == (300, [True, False])
    back = market.load(drop(market.bars("AB"), "B", range(300, 330)), "AB", delisted={"B": days[290].item()})
    assert back.delisted[1] == 300, "no later bar undoes it"


def test_a_day_that_is_no_session_delists_at_the_next(market):
    bars = drop(market.bars("AB"), "B", range(86, 400))
    panel = market.load(bars, "AB", delisted={"B": date(2015, 7, 3)})  # New York kept Independence Day
    assert panel.sessions[panel.delisted[1]] == np.datetime64("2015-07-06")
    assert panels.left_out(panel, date(2015, 7, 6))["B"] == "delisted on 2015-07-03"
    assert panels.left_out(panel, date(2015, 7, 2))["B"] != "delisted on 2015-07-03"


def test_a_renamed_asset_is_delisted_under_all_its_names_or_not_at_all(market):
    bars, days = market.bars("AB"), market.days()
    mine = bars["ticker"] == "B"
    renamed = pd.concat(
        [bars[~mine], bars[mine].iloc[:200].assign(ticker="OLD"), bars[mine].iloc[200:300].assign(ticker="NEW")]
    )
    members = [Member("A"), Member("OLD", aliases=("NEW", "NEVER"))]
    old, new = {"OLD": days[200].item()}, {"NEW": days[310].item()}
    assert market.load(renamed, members, delisted=old).delisted.tolist() == [400, 400]
    assert market.load(renamed, members, delisted=old | new).delisted.tolist() == [400, 310]
    assert market.load(renamed, members, delisted=new).delisted.tolist() == [400, 400]
    late = renamed[(renamed["ticker"] != "NEW") | (renamed["session"] >= pd.Timestamp(days[205]))]
    assert market.load(late, members, delisted=old).delisted.tolist() == [400, 200], (
        "a name that comes later is unknown"
    )


def test_left_out_says_why(market):
    bars = pd.concat([market.bars("A"), drop(market.bars("B"), "B", range(300)), drop(market.bars("C"), "C", [390])])
    bars = pd.concat([bars, market.bars("D", 380)])
    said = panels.left_out(market.load(bars, "ABCD"), market.days()[-1].item())
    assert said["B"] == "100 of the 132 sessions needed"
    assert said["D"] == f"too many bars missing; the last one is of {market.days()[379]}"
    assert set(said) == {"B", "D"}


def test_a_month_is_decided_on_the_session_before_its_first(market):
    found = panels.moments(market.store, market.panel())
    assert (found[0].rebalance_date, found[0].as_of) == (date(2015, 4, 1), date(2015, 3, 31))
    assert [moment.month for moment in found[8:11]] == ["2015-12", "2016-01", "2016-02"]
    assert (found[9].rebalance_date, found[9].as_of) == (date(2016, 1, 4), date(2015, 12, 31))


def test_quarters_are_months_and_every_session_is_a_date_of_its_own(market):
    panel = market.panel()
    months, quarters, days = (panels.moments(market.store, panel, rebalance) for rebalance in "MQD")
    assert [moment.month for moment in quarters[:4]] == ["2015-04", "2015-07", "2015-10", "2016-01"]
    assert set(quarters) < set(months)
    assert [moment.as_of for moment in days] == market.days().tolist()
    assert [moment.rebalance_date for moment in days[:-1]] == market.days()[1:].tolist()
    assert [moment.month for moment in days[:2]] == ["2015-03-03", "2015-03-04"]
    seen = {moment.as_of: (moment.rebalance_date, moment.prefix) for moment in days}
    assert [seen[moment.as_of] for moment in months] == [(m.rebalance_date, m.prefix) for m in months]
    assert len({moment.prefix for moment in days}) == 400


@pytest.mark.parametrize("later", [1, 7, 20])
def test_an_offset_moves_what_may_be_seen_with_the_trade(market, later):
    panel = market.panel()
    months, moved, days = (panels.moments(market.store, panel, name) for name in ("M", f"M+{later}", "D"))
    sessions = market.days().tolist()
    assert [one.month for one in moved] == [one.month for one in months[: len(moved)]]
    for one, other in zip(months, moved, strict=False):
        place = sessions.index(one.rebalance_date) + later
        if sessions[place].month == one.rebalance_date.month:
            assert (other.rebalance_date, other.as_of) == (sessions[place], sessions[place - 1])
        else:
            assert other.rebalance_date.month != sessions[sessions.index(other.rebalance_date) + 1].month
    seen = {moment.as_of: (moment.rebalance_date, moment.prefix) for moment in days}
    assert [seen[moment.as_of] for moment in moved] == [(m.rebalance_date, m.prefix) for m in moved]
    longer = market.panel(market.bars(count=460))
    assert panels.moments(market.store, longer, f"M+{later}")[: len(moved)] == moved


def test_a_session_without_any_bar_is_a_date_of_its_own_too(market):
    bars, holes = market.bars(), market.days()[[200, 201, 230]]
    panel = market.panel(bars[~bars["session"].isin(pd.to_datetime(holes))])
    days = panels.moments(market.store, panel, "D")
    assert len({moment.prefix for moment in days}) == 400
    alone = panels.prefix(market.store, panel, holes[0].item())
    assert alone == panels.prefix(market.store, panel, holes[1].item()) == days[199].prefix
    longer = bars[~bars["session"].isin(pd.to_datetime([holes[0]]))]
    again = panels.moments(market.store, market.panel(longer), "D")
    assert [one.prefix == two.prefix for one, two in zip(days, again, strict=True)] == [True] * 201 + [False] * 199


@pytest.mark.parametrize(
    ("end", "month", "rebalance"), [("2016-04-29", "2016-05", "2016-05-02"), ("2016-04-28", "2016-04", "2016-04-01")]
)
def test_the_last_month_is_decidable_when_the_data_end_on_the_session_before_it(market, end, month, rebalance):
    bars = market.bars()
    panel = market.panel(bars[bars["session"] <= end])
    last = panels.moments(market.store, panel)[-1]
    assert (last.month, str(last.rebalance_date)) == (month, rebalance)
    assert last.as_of <= panels.load(market.store, panel).sessions[-1].item()


def test_a_prefix_changes_with_its_own_past_and_with_nothing_else(market):
    bars = market.bars()
    at = bars.index[bars["session"] == "2015-12-31"][2]
    changed = bars.copy()
    changed.loc[at, ["close", "adj_close"]] *= 1.001
    plain, later = (panels.moments(market.store, market.panel(rows)) for rows in (bars, changed))
    before = [one.prefix == other.prefix for one, other in zip(plain, later, strict=True)]
    assert before == [moment.as_of < date(2015, 12, 31) for moment in plain]
    wider = pd.concat([bars, market.bars("Z")])
    assert panels.moments(market.store, market.panel(wider)) == plain
    longer = panels.moments(market.store, market.panel(market.bars(count=450)))
    assert longer[: len(plain)] == plain
    assert {m.prefix for m in panels.moments(market.store, market.panel(members="ABCDZ"))}.isdisjoint(
        m.prefix for m in plain
    )


def test_a_prefix_at_any_day_is_the_same_whatever_follows(market):
    long, short = market.panel(market.bars(count=450)), market.panel(market.bars(count=390))
    day = market.days()[380].item()
    assert panels.prefix(market.store, long, day) == panels.prefix(market.store, short, day)
    assert panels.prefix(market.store, long, day) != panels.prefix(market.store, long, market.days()[381].item())


@pytest.mark.parametrize("first", ["A", "T"])
def test_a_prefix_holds_what_is_known_of_other_exchanges_and_no_more(market, first):
    bars, members = abroad(market, first)
    own = {"A": "XNYS", "T": "XTKS"}[first]
    plain = market.panel(bars, members)
    day = date(2016, 2, 17)  # a Wednesday
    tomorrow = date(2016, 2, 18)
    for ticker, exchange in universe.load(market.store, plain.universe).exchanges.items():
        last = calendars.last_closed(exchange, own, np.array([day], "datetime64[D]"))[0]
        following = calendars.next_session(exchange, last)
        for bar, seen in ((last, True), (following, False)):
            changed = bars.copy()
            changed.loc[(bars["ticker"] == ticker) & (bars["session"] == pd.Timestamp(bar)), "close"] *= 1.01
            other = PanelKey(market.take(changed), plain.universe)
            names = [panels.prefix(market.store, key, day) for key in (plain, other)]
            assert (names[0] != names[1]) == seen, (ticker, bar)
            assert panels.prefix(market.store, plain, tomorrow) != panels.prefix(market.store, other, tomorrow)


def test_a_prefix_knows_exchange_currency_and_delistings(market):
    bars, days = market.bars("AB"), market.days()
    rows = [Member("A"), Member("B")]
    keys = [
        market.panel(bars, rows),
        PanelKey(market.take(bars), universe.keep(market.store, universe.Universe("test", tuple(rows), "XTSE"))),
        PanelKey(market.take(bars), universe.keep(market.store, universe.Universe("test", tuple(rows), "XNYS", "EUR"))),
    ]
    assert len({panels.prefix(market.store, key, days[200].item()) for key in keys}) == 3
    gone = market.panel(bars, rows, delisted={"B": days[200].item()})
    same = [
        panels.prefix(market.store, gone, days[at].item()) == panels.prefix(market.store, keys[0], days[at].item())
        for at in (199, 200)
    ]
    assert same == [True, False]


def disturbed(bars, after, rng):
    """The bars `after` a day with other values, and without some of them."""
    wild = bars.copy()
    for name in ("high", "low", "close", "adj_close", "volume"):
        wild.loc[after, name] *= np.exp(rng.normal(0, 0.3, after.sum()))
    wild.loc[after, "split"] = 3.0
    wild.loc[after, "basis"] = "split"
    return wild.drop(wild.index[after][rng.random(after.sum()) < 0.3])


def unknown_at(bars, exchanges, own, day):
    """Bars whose exchange had not closed on them when the portfolio's closed on `day`."""
    last = {
        name: calendars.last_closed(exchange, own, np.array([day], "datetime64[D]"))[0]
        for name, exchange in exchanges.items()
    }
    return bars["session"] > bars["ticker"].map(last)


def assert_equal_up_to(day, one, other):
    rows = one.at(day) + 1
    for name in ("returns", "traded", "eligible", "market", "index_returns", "risk_free"):
        early = [getattr(panel, name) for panel in (one, other)]
        assert early[0] is early[1] is None or early[0][:rows].tobytes() == early[1][:rows].tobytes(), name
    assert np.minimum(one.delisted, rows).tolist() == np.minimum(other.delisted, rows).tolist()
    for ticker, factor in one.factors.items():
        assert factor[:rows].tobytes() == other.factors[ticker][:rows].tobytes()
    for ticker, asset in one.series.items():
        own = int((asset.day <= np.datetime64(day)).sum())
        for name in ("own_day", "day", "session", "simple_return", "high_ratio", "low_ratio", "volume"):
            early = [getattr(panel.series[ticker], name)[:own].tobytes() for panel in (one, other)]
            assert early[0] == early[1], (ticker, name)
        early = [panels.market_on(panel, panel.series[ticker])[:own].tobytes() for panel in (one, other)]
        assert early[0] == early[1], ticker


@pytest.mark.parametrize("basis", ["adjusted", "traded"])
@pytest.mark.parametrize("change", ["cut", "disturbed"])
def test_no_row_up_to_a_day_depends_on_a_later_bar(market, change, basis):
    bars = pd.concat([market.bars("ABCD"), market.bars("L", exchange="XLON"), market.bars("I")]).assign(basis=basis)
    bars = drop(drop(bars.reset_index(drop=True), "B", [100, 150, 151]), "C", range(120))
    bars.loc[60, "split"] = 2.0
    day = date(2016, 2, 18)
    after = bars["session"] > pd.Timestamp(day)
    other = bars[~after] if change == "cut" else disturbed(bars, after, np.random.default_rng(3))
    members = [*map(Member, "ABCD"), Member("L", exchange="XLON"), Member("I", role="index")]
    assert_equal_up_to(day, market.load(bars, members), market.load(other, members))


@pytest.mark.parametrize("day", [date(2015, 7, 2), date(2015, 11, 27), date(2016, 2, 12), date(2016, 2, 29)])
@pytest.mark.parametrize("change", ["cut", "disturbed"])
@pytest.mark.parametrize("first", ["A", "T"])
def test_no_row_up_to_a_day_depends_on_a_bar_that_another_exchange_brings_later(market, first, change, day):
    bars, members = abroad(market, first)
    bars = drop(drop(bars, "B", range(238, 400)), "T", [200, 201])
    delisted = {"L": date(2016, 2, 11), "T": date(2016, 3, 1)}
    one = market.load(bars, members, delisted=delisted)
    after = unknown_at(bars, one.universe.exchanges, one.universe.exchange, day)
    assert bars[after].groupby("ticker").size().gt(5).sum() >= 9
    other = bars[~after] if change == "cut" else disturbed(bars, after, np.random.default_rng(4))
    assert_equal_up_to(day, one, market.load(other, members, delisted=delisted))
