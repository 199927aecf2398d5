"""Panels: what happens to missing sessions, who may be held when, which months there are, and that none looks ahead."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from storage.errors import InputError
from storage.keys import PanelKey
from storage.universe import Member
from tasks import calendars, panels
from tasks.numerics import dates


def drop(bars, ticker, places):
    """The bars without some of a ticker's, by place."""
    own = bars.index[bars["ticker"] == ticker]
    return bars.drop(own[places])


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
    with pytest.raises(InputError, match="no asset of universe test has prices in the data"):
        market.load(members="XYZ")


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


def disturbed(bars, day, rng):
    """Every bar after `day` with other values."""
    after = bars["session"] > day
    wild = bars.copy()
    for name in ("high", "low", "close", "adj_close", "volume"):
        wild.loc[after, name] *= np.exp(rng.normal(0, 0.3, after.sum()))
    wild.loc[after, "split"] = 3.0
    wild.loc[after, "basis"] = "split"
    return wild.drop(wild.index[after][rng.random(after.sum()) < 0.3])


@pytest.mark.parametrize("basis", ["adjusted", "traded"])
@pytest.mark.parametrize("change", ["cut", "disturbed"])
def test_no_row_up_to_a_day_depends_on_a_later_bar(market, change, basis):
    bars = pd.concat([market.bars("ABCD"), market.bars("L", exchange="XLON"), market.bars("I")]).assign(basis=basis)
    bars = drop(drop(bars.reset_index(drop=True), "B", [100, 150, 151]), "C", range(120))
    bars.loc[60, "split"] = 2.0
    day = pd.Timestamp("2016-02-18")
    other = bars[bars["session"] <= day] if change == "cut" else disturbed(bars, day, np.random.default_rng(3))
    members = [*map(Member, "ABCD"), Member("L", exchange="XLON"), Member("I", role="index")]
    one, two = market.load(bars, members), market.load(other, members)
    rows = one.at(day.date()) + 1
    for name in ("returns", "traded", "eligible", "market", "index_returns"):
        assert getattr(one, name)[:rows].tobytes() == getattr(two, name)[:rows].tobytes(), name
    for ticker in "ABCDLI":
        own = int((one.series[ticker].day <= day).sum())
        for name in ("day", "simple_return", "high_ratio", "low_ratio", "volume"):
            early = [getattr(panel.series[ticker], name)[:own].tobytes() for panel in (one, two)]
            assert early[0] == early[1], (ticker, name)
        early = [panels.market_on(panel, panel.series[ticker])[:own].tobytes() for panel in (one, two)]
        assert early[0] == early[1], ticker


def test_prices_of_several_universes_cover_all_their_sessions(market):
    bars = pd.concat([market.bars("AB"), drop(market.bars("Z"), "Z", range(300))])
    snapshot = market.take(bars)
    old, new = market.universe("AB"), market.universe("Z")
    prices = panels.prices_of(market.store, snapshot, [old, new])
    single = panels.load(market.store, PanelKey(snapshot, old))
    np.testing.assert_array_equal(prices.sessions, single.sessions)
    assert prices.tickers == ("A", "B", "Z")
    np.testing.assert_array_equal(prices.returns[:, :2], single.returns)
    assert np.isnan(prices.returns[:301, 2]).all()
    np.testing.assert_array_equal(prices.traded[:, 2], np.arange(400) >= 300)
