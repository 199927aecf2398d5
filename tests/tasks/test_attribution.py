"""Rows of single stocks, exposures, comparisons and contributions, from the accounts of a small market."""

import numpy as np
import pandas as pd
import pytest

from storage.schemas import CASH
from storage.universe import Member
from tasks import accounts, attribution, panels
from tasks.numerics import exposures, metrics, singles
from tasks.numerics.configs import AccountingConfig
from tasks.prices import prices_of

COSTS = AccountingConfig(cost=0.002, cash_rate=0.03)
SECTORS = {"A": "one", "B": "one", "C": "two", "D": "two", "E": ""}


def kept_of(prices, name, when, targets):
    configs = [COSTS] * len(when)
    return accounts.Kept(name, when, targets, configs, accounts.simulate(prices, when, targets, configs, None))


class Backtest:
    """Accounts of some plans on a panel, and the rows made of them."""

    def __init__(self, market, bars, members, plans, late=None):
        panel = market.panel(bars, members)
        months = panels.moments(market.store, panel)[-12:]
        self.store, self.panel = market.store, panels.load(market.store, panel)
        self.prices = prices_of(market.store, panel.snapshot, [panel.universe])
        self.when = np.searchsorted(self.prices.sessions, [np.datetime64(m.rebalance_date) for m in months[:-1]])
        self.orders = [self.order(name, plan, late if name == "late" else 0) for name, plan in plans.items()]
        ids = panel.universe, panel.universe
        self.rows = attribution.rows(market.store, panel.snapshot, *ids, months[0].as_of, self.prices, self.orders)

    def order(self, name, plan, begin):
        targets = np.array([[plan.get(ticker, 0.0) for ticker in self.prices.tickers]] * (self.when.size - begin))
        return kept_of(self.prices, name, self.when[begin:], targets)

    def table(self, name):
        return pd.DataFrame(self.rows[name])

    def kept(self, name):
        return next(order for order in self.orders if order.name == name)


@pytest.fixture
def backtest(market):
    """Two strategies, one of which begins three dates later, two baselines, an index, and factors of both kinds."""
    extra = {"IDX": market.bars("I"), "FUND": market.bars("F"), "LS": market.bars("L")}
    extra["LS"]["close"] = np.random.default_rng(1).normal(0, 0.01, len(extra["LS"]))
    extra["LS"]["basis"] = "rate"
    bars = pd.concat([market.bars(), *(rows.assign(ticker=name) for name, rows in extra.items())])
    bars = bars[(bars["ticker"] != "E") | (bars["session"] >= "2016-06-01")]
    members = [Member(ticker, sector=sector) for ticker, sector in SECTORS.items()]
    members += [Member("IDX", role="index"), Member("FUND", role="factor"), Member("LS", role="factor")]
    plans = {"equal_weight": dict.fromkeys("ABCD", 0.25), "index": {"IDX": 1.0}}
    plans |= {"late": {"A": 0.9}, "mine": {"A": 0.5, "B": -0.2, "C": 0.5}}
    return Backtest(market, bars, members, plans, late=3)


def test_single_stocks_are_those_that_could_be_bought_at_the_start(backtest):
    found = backtest.table("singles").set_index("ticker")
    assert list(found.index) == list("ABCD")  # E had too few sessions
    close = backtest.prices.returns[:, : len("ABCDE")]
    start = backtest.when[0]
    for place, ticker in enumerate("ABCD"):
        grown = 0.998 * np.prod(1 + close[start + 1 :, place])
        assert found.loc[ticker, "cumulative_return"] == pytest.approx(grown - 1)
    assert (found["start_date"] == backtest.prices.sessions[start - 1].item()).all()
    assert (found["end_date"] == backtest.prices.sessions[-1].item()).all()


def test_shares_beaten_compare_over_each_strategys_own_span(backtest):
    found = backtest.table("metrics").set_index(["strategy", "name"])
    assert len(found) == 2 * len(backtest.orders)
    for order in backtest.orders:
        account, start = backtest.kept(order.name).account, order.when[0]
        columns = [backtest.prices.tickers.index(ticker) for ticker in "ABCD"]
        daily = np.vstack([np.full(4, -0.002), backtest.prices.returns[start + 1 :, columns]])
        alone, nothing = singles.measured(daily, 0.03 / 252), np.zeros(1)
        mine = metrics.measures(
            account.daily_return, np.ones((1, 1)), nothing, nothing, np.zeros(len(daily), np.int64), 0.03 / 252
        )
        for name, measure in (("wealth", "cumulative_return"), ("sharpe", "sharpe")):
            row = found.loc[order.name, f"single_stocks_beaten_{name}"]
            assert row["value"] == np.mean(getattr(alone, measure) < mine[measure])
            assert row["start_date"] == backtest.prices.sessions[start - 1].item()


def test_exposures_are_to_the_index_and_to_the_factors(backtest):
    found = backtest.table("exposures")
    assert set(zip(found["model"], found["factor"], strict=True)) == {
        ("capm", "IDX"),
        ("factors", "FUND"),
        ("factors", "LS"),
    }
    whole = found[found["kind"] == "whole"].set_index(["strategy", "model", "factor"])
    kept, start = backtest.kept("mine"), backtest.when[0]
    daily, cash = kept.account.daily_return, 0.03 / 252
    later = np.append((1 + daily[0]) * (1 + daily[1]) - 1, daily[2:])
    index = backtest.panel.index_returns[start + 1 :]
    capm = exposures.regress(later - cash, index[:, None] - cash)
    row = whole.loc[("mine", "capm", "IDX")]
    assert (row["beta"], row["alpha"], row["alpha_t"]) == (capm.beta[0], capm.alpha, capm.alpha_t)
    assert (row["rows"], row["lags"]) == (later.size, exposures.default_lags(later.size))
    assert row["session"] == backtest.prices.sessions[-1].item()
    factors = backtest.panel.factors  # a fund is paid for, a series of long-short returns is not
    series = np.column_stack([factors["FUND"][start + 1 :] - cash, factors["LS"][start + 1 :]])
    both = exposures.regress(later - cash, series)
    assert list(whole.loc[("mine", "factors")]["t"]) == list(both.t)
    assert whole.loc[("index", "capm", "IDX"), "beta"] == pytest.approx(1, abs=1e-3)


def test_rolling_exposures_stand_at_the_ends_of_months(market):
    bars = pd.concat([market.bars(count=700), market.bars("I", count=700).assign(ticker="IDX")])
    members = [*(Member(ticker) for ticker in "ABCDE"), Member("IDX", role="index")]
    panel = market.panel(bars, members)
    prices = prices_of(market.store, panel.snapshot, [panel.universe])
    targets = np.array([[ticker == "A" for ticker in prices.tickers]], float)
    order = kept_of(prices, "mine", np.array([300]), targets)
    as_of = prices.sessions[299].item()
    identity = panel.universe
    rows = attribution.rows(market.store, panel.snapshot, identity, identity, as_of, prices, [order])
    found = pd.DataFrame(rows["exposures"])
    days = pd.Series(pd.to_datetime(prices.sessions[301:]))
    ends = days[days.dt.month != days.shift(-1).dt.month].iloc[:-1]
    expected = [day.date() for place, day in ends.items() if place >= 251]
    assert list(found.loc[found["kind"] == "rolling", "session"]) == expected
    assert len(expected) > 3


def test_comparisons_are_over_the_sessions_that_both_held(backtest):
    found = backtest.table("against").set_index(["strategy", "baseline"])
    names = {"equal_weight", "index", "late", "mine"}
    assert set(found.index) == {(one, other) for one in names for other in ("equal_weight", "index") if one != other}
    late, base = backtest.kept("late"), backtest.kept("index")
    gap = late.start - base.start
    daily, cost = late.account.daily_return[1:].copy(), late.account.daily_return[0]
    daily[0] = (1 + cost) * (1 + daily[0]) - 1
    expected = exposures.compare(daily, base.account.daily_return[gap + 1 :], 0.03 / 252)
    row = found.loc[("late", "index")]
    assert [row[name] for name in expected._fields] == list(expected)
    assert row["start_date"] == backtest.prices.sessions[late.start - 1].item()


def test_contributions_sum_to_the_cumulative_return_and_to_one(backtest):
    found = backtest.table("contributions")
    for order in backtest.orders:
        own = found[found["strategy"] == order.name].set_index("ticker")
        total = own["return_contribution"].sum() + own["cost_contribution"].sum()
        assert abs(total - (backtest.kept(order.name).account.wealth[-1] - 1)) < 1e-12
        assert abs(own["risk_contribution"].sum() - 1) < 1e-12
        assert abs(own["average_weight"].sum() - 1) < 1e-12
    mine = found[found["strategy"] == "mine"].set_index("ticker")
    assert list(mine.index) == ["A", "B", "C", CASH]
    assert list(mine["sector"]) == ["one", "one", "two", ""]
    assert mine.loc["B", "average_weight"] < 0 < mine.loc["A", "average_weight"]
    assert mine.loc[CASH, "cost_contribution"] == 0


def test_without_an_index_the_market_is_the_equal_weighted_universe(market):
    found = Backtest(market, market.bars(), "ABCDE", {"mine": {"A": 1.0}})
    rows = found.table("exposures")
    assert set(rows["factor"]) == {"market"}
    kept, later = found.kept("mine"), slice(found.when[0] + 1, None)
    daily = kept.account.daily_return
    excess = np.append((1 + daily[0]) * (1 + daily[1]) - 1, daily[2:]) - 0.03 / 252
    expected = exposures.regress(excess, (found.panel.market[later] - 0.03 / 252)[:, None])
    assert rows["beta"].iloc[0] == expected.beta[0]
    assert found.rows["against"] == []


def test_an_account_of_one_session_has_contributions_and_nothing_to_regress(market):
    panel = market.panel()
    prices = prices_of(market.store, panel.snapshot, [panel.universe])
    last = prices.sessions.size - 1
    orders = [kept_of(prices, name, np.array([last]), np.full((1, 5), 0.2)) for name in ("mine", "equal_weight")]
    as_of, identity = prices.sessions[last - 1].item(), panel.universe
    rows = attribution.rows(market.store, panel.snapshot, identity, identity, as_of, prices, orders)
    assert rows["exposures"] == rows["against"] == []
    assert len(rows["singles"]) == 5
    assert sum(row["cost_contribution"] for row in rows["contributions"]) == pytest.approx(-2 * 0.002)
