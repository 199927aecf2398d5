"""The account against a ledger of shares and money, kept one order at a time from the bars alone.

The ledger shares no code with the account: it reads prices, keeps numbers of shares, and estimates spread, volatility
and volume by the papers' formulas in plain loops.
"""

import math
from dataclasses import asdict, replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from storage import tables
from storage.universe import Member
from tasks import decide, panels
from tasks.backtest import backtest
from tasks.numerics import impact
from tasks.numerics.accounting import simulate
from tasks.numerics.configs import AccountingConfig
from tasks.numerics.execution import Liquidity

REAL = Path(__file__).parents[3] / "shared/data/ohlcv_us_2005_2020.parquet"
FLAT = AccountingConfig(cost=0.002, cash_rate=0.03, borrow_spread=0.04, short_rate=0.02, delisting_haircut=0.3)
IMPACT = replace(FLAT, costs="impact", capital=5e7)
PLANS = [
    {"A": 0.6, "B": 0.2},
    {"B": 0.5, "C": 0.5},
    {"D": 0.9, "E": 0.1, "B": 0.3},
    {"A": 1.2, "E": -0.4},
    {"A": 0.5, "B": 0.5},
]


def spreads(own):
    """Corwin and Schultz's spread of each bar and the one before it, by their equations 14 and 18."""
    found, rows = [math.nan], own[["high", "low", "close"]].to_numpy().tolist()
    for (high0, low0, close0), (above, below, _) in pairwise(rows):
        shift = close0 - below if below > close0 else close0 - above if above < close0 else 0.0
        high1, low1 = above + shift, below + shift
        beta = math.log(high0 / low0) ** 2 + math.log(high1 / low1) ** 2
        gamma = math.log(max(high0, high1) / min(low0, low1)) ** 2
        root = 3 - 2 * math.sqrt(2)
        alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / root - math.sqrt(gamma / root)
        found.append(2 * (math.exp(alpha) - 1) / (1 + math.exp(alpha)))
    return found


def market_of(own, days):
    """Half-spread, volatility and volume of one asset on each day, from its bars up to that day."""
    spread, change = np.array(spreads(own)), own["close"].pct_change().to_numpy()
    value, rows = (own["close"] * own["volume"]).to_numpy(), []
    for end in range(1, len(own) + 1):
        last = [part[max(0, end - 21) : end] for part in (spread, change, value)]
        last = [part[~np.isnan(part)] for part in last]
        rows.append(
            [
                max(np.mean(last[0]) / 2, 0.0001) if len(last[0]) > 10 else math.nan,
                np.std(last[1], ddof=1) if len(last[1]) > 10 else math.nan,
                np.mean(last[2]) if len(last[2]) > 10 else math.nan,
            ]
        )
    table = pd.DataFrame(rows, index=own["session"], columns=["spread", "sigma", "volume"]).reindex(days).ffill()
    return table.to_dict("index")


class Ledger:
    """Shares and money of one account."""

    def __init__(self, bars, days, config, gone=None, rates=None):
        by = {ticker: own.reset_index(drop=True) for ticker, own in bars.groupby("ticker")}
        self.days, self.config, self.gone, self.rates = list(days), config, gone or {}, rates
        self.price = {t: own.set_index("session")["close"].reindex(days).ffill().to_dict() for t, own in by.items()}
        self.bar = {t: set(own["session"]) for t, own in by.items()}
        self.market = {t: market_of(own, days) for t, own in by.items()} if config.costs == "impact" else {}
        self.money, self.shares, self.orders, self.debt = config.capital, {}, {}, 0.0
        self.traded, self.late, self.paid = {}, {}, {}

    def worth(self, day):
        return self.money + sum(n * self.price[t][day] for t, n in self.shares.items())

    def follow(self, plans):
        """The account's value at each close, with the plans by day of trade."""
        wealth, now = {}, None
        for before, day in zip([None, *self.days], self.days, strict=False):
            if day < min(plans):
                continue
            if day > min(plans):
                self.overnight(before, day)
            if self.worth(day) <= 0:
                self.money, self.shares, self.orders = 0.0, {}, {}
            elif day in plans:
                now = day
                self.rebalance(day, plans[day])
            elif self.orders:
                self.continue_orders(now, day)
            wealth[day] = self.worth(day) / self.config.capital
        return pd.Series(wealth)

    def overnight(self, before, day):
        short = sum(-n * self.price[t][before] for t, n in self.shares.items() if n < 0)
        rate = self.config.cash_rate / 252 if self.rates is None else self.rates[day]
        rate += 0 if self.money > 0 else self.config.borrow_spread / 252
        self.money += self.money * rate - short * self.config.short_rate / 252
        for ticker in [t for t in self.shares if self.gone.get(t) == day]:
            count = self.shares.pop(ticker)
            value = count * self.price[ticker][day] * (1 - self.config.delisting_haircut if count > 0 else 1)
            self.money += value - self.config.cost * abs(value)
        self.orders = {t: n for t, n in self.orders.items() if self.gone.get(t) != day}

    def rebalance(self, day, plan):
        worth = self.worth(day)
        alive = [t for t in {*plan, *self.shares} if t not in self.gone or day < self.gone[t]]
        stuck = [t for t in alive if day not in self.bar[t]]
        free = [t for t in alive if t not in stuck]
        have = sum(self.shares.get(t, 0) * self.price[t][day] for t in stuck)
        meant = sum(plan.get(t, 0) for t in stuck)
        part = 1.0 if have / worth <= meant else max(0.0, (1 - have / worth) / (1 - meant))
        goal = {t: part * plan.get(t, 0) for t in free}
        orders = {t: goal[t] * worth - self.shares.get(t, 0) * self.price[t][day] for t in free}
        self.debt = min(0.0, 1 - sum(goal.values()) - have / worth)
        done = self.possible(orders, day, rescue=False)
        fees = {t: self.fee(t, done[t] * orders[t], day) for t in orders}
        left = worth - sum(fees.values())
        self.orders = {}
        for t in free:
            wanted = goal[t] * left / self.price[t][day] - self.shares.get(t, 0)
            self.shares[t] = self.shares.get(t, 0) + done[t] * wanted
            if done[t] < 1:
                self.orders[t] = (1 - done[t]) * wanted
        self.money = left - sum(n * self.price[t][day] for t, n in self.shares.items())
        self.shares = {t: n for t, n in self.shares.items() if n}
        self.traded[day] = {t: done[t] * orders[t] / worth for t in orders}
        self.paid[day] = {t: fee / worth for t, fee in fees.items()}
        self.late[day] = {}

    def continue_orders(self, decided, day):
        worth = self.worth(day)
        values = {t: n * self.price[t][day] for t, n in self.orders.items() if day in self.bar[t]}
        done = self.possible(values, day, rescue=True)
        short_of_money = any(self.short.values())
        for t, value in values.items():
            amount, fee = done[t] * value, self.fee(t, done[t] * value, day)
            self.shares[t] = self.shares.get(t, 0) + amount / self.price[t][day]
            self.money -= amount + fee
            self.orders[t] -= done[t] * self.orders[t]
            for book, number in ((self.traded, amount), (self.late, amount), (self.paid, fee)):
                book[decided][t] = book[decided].get(t, 0.0) + number / worth
        self.orders = {t: n for t, n in self.orders.items() if abs(n * self.price[t][day]) > 1e-9}
        if short_of_money and not any(n < 0 for n in self.orders.values()):
            self.orders = {}

    def possible(self, values, day, rescue):
        """The part of each order that is done today: by its volume, and by the money while sales are late."""
        if self.config.costs == "flat":
            return dict.fromkeys(values, 1.0)
        most = {t: self.config.max_participation * self.market[t][day]["volume"] for t in values}
        done = {t: 1.0 if abs(v) <= most[t] else most[t] / abs(v) for t, v in values.items()}
        late = any(done[t] < 1 and values[t] < 0 for t in values)
        spend = sum(done[t] * v for t, v in values.items() if v > 0)
        get = self.money - self.debt * self.worth(day) - sum(done[t] * v for t, v in values.items() if v < 0)
        tight = spend > get and (late or rescue)
        self.short = {t: tight and v > 0 for t, v in values.items()}
        return {t: done[t] * (max(get, 0.0) / spend if self.short[t] else 1.0) for t in values}

    def fee(self, ticker, value, day):
        if self.config.costs == "flat" or value == 0:
            return self.config.cost * abs(value)
        row = self.market[ticker][day]
        return abs(value) * (row["spread"] + self.config.impact * row["sigma"] * math.sqrt(abs(value) / row["volume"]))


def put(market, panel, plans, config, rebalance):
    """Decide every date from the plans, one after the other."""
    found = panels.moments(market.store, panel, rebalance)
    months = []
    for before, moment in zip([None, *found], found, strict=False):
        if moment.rebalance_date in plans:
            key = f"{moment.prefix} hand"
            market.put_weights(key, moment, "hand", plans[moment.rebalance_date].items())
            made = {"parameters": {"accounting": asdict(config), "rebalance": rebalance}, "code": {}, "versions": {}}
            follows = before and before.rebalance_date
            months.append(decide.Month(moment, follows, "backfill", None, None, (("hand", key),), config, made))
    decide.decide.fn(panel, "main", tuple(months))
    return {moment.rebalance_date: moment for moment in found}


@pytest.mark.parametrize("config", [FLAT, IMPACT], ids=["flat", "impact"])
@pytest.mark.parametrize(("rebalance", "lag"), [("D", 1), ("M", 0), ("M", 1), ("Q", 1)])
def test_the_backtest_is_that_of_the_ledger(market, config, rebalance, lag):
    """With a halt, a delisting, a short, leverage, and a series of rates."""
    config, bars = replace(config, lag=lag), market.bars(count=290)
    gone, halted = {"B": pd.Timestamp("2016-03-09")}, pd.date_range("2016-01-27", "2016-02-09")
    bars = bars[(bars["ticker"] != "B") | (bars["session"] < "2016-03-01")]
    bars = bars[(bars["ticker"] != "A") | ~bars["session"].isin(halted)]
    rates = np.random.default_rng(0).normal(2e-4, 1e-4, market.days(290).size)
    cash = market.bars("A", count=290).assign(ticker="RF", close=rates, basis="rate")
    members = [*(Member(ticker) for ticker in "ABCDE"), Member("RF", role="risk_free")]
    panel = market.panel(pd.concat([bars, cash]), members, delisted={"B": date(2016, 3, 9)})
    dates = [m for m in panels.moments(market.store, panel, rebalance) if m.as_of >= date(2015, 12, 31)]
    step = 7 if rebalance == "D" else 1
    plans = {m.rebalance_date: PLANS[(n // step) % len(PLANS)] for n, m in enumerate(dates)}
    by_day = put(market, panel, plans, config, rebalance)
    key = backtest.fn(panel, "main")
    found = tables.read(market.store, "wealth", key=key).to_pandas().sort_values("session")
    traded = {pd.Timestamp(day if lag else by_day[day].as_of): plan for day, plan in plans.items()}
    last = panels.load(market.store, panel).sessions[-1]
    days = [day for day in pd.to_datetime(market.days(290)) if day <= pd.Timestamp(last)]
    traded = {day: plan for day, plan in traded.items() if day <= days[-1]}
    book = Ledger(bars, days, config, gone, pd.Series(rates, pd.to_datetime(market.days(290))))
    expected = book.follow(traded)
    np.testing.assert_allclose(found["wealth"].iloc[1:], expected, rtol=1e-10)
    rows = tables.read(market.store, "executions", key=key).to_pandas()
    for _, row in rows.iterrows():
        day = pd.Timestamp(row["rebalance_date"] if lag else by_day[row["rebalance_date"]].as_of)
        assert row["trade"] == pytest.approx(book.traded[day].get(row["ticker"], 0.0), rel=1e-9, abs=1e-12)
        assert row["cost"] == pytest.approx(book.paid[day].get(row["ticker"], 0.0), rel=1e-9, abs=1e-13)
        assert row["carried"] == pytest.approx(book.late[day].get(row["ticker"], 0.0), rel=1e-9, abs=1e-12)
    # each session's orders take the place of the last one's where every session is traded
    assert any(row != 0 for row in rows["carried"]) == (config.costs == "impact" and rebalance != "D")


def estimates(bars, days):
    """What the account reads, by the functions it is estimated with."""
    columns = []
    for _, own in bars.groupby("ticker", sort=True):
        change = own["close"].pct_change().to_numpy()
        high, low = (own[name].to_numpy() / own["close"].to_numpy() for name in ("high", "low"))
        half = impact.half_spread(impact.corwin_schultz(high, low, change), 21)
        value = impact.trailing_mean((own["close"] * own["volume"]).to_numpy(), 21)
        frame = pd.DataFrame({"half": half, "sigma": impact.trailing_volatility(change, 21), "value": value})
        columns.append(frame.set_index(own["session"].to_numpy()).reindex(days).ffill().to_numpy())
    return Liquidity(*np.stack(columns, axis=2).transpose(1, 0, 2))


def compared(bars, plans, config):
    """Wealth by the account and by the ledger, of bars without gaps."""
    days = pd.DatetimeIndex(sorted(bars["session"].unique()))
    close = bars.pivot(index="session", columns="ticker", values="close")
    when = np.array([days.get_loc(day) for day in plans])
    targets = np.array([[plan.get(ticker, 0.0) for ticker in close] for plan in plans.values()])
    liquidity = estimates(bars, days) if config.costs == "impact" else None
    account = simulate(
        close.pct_change().to_numpy(), np.ones(close.shape, bool), when, targets, config, liquidity=liquidity
    )
    return account, Ledger(bars, days, config).follow(plans)


@pytest.mark.parametrize("config", [FLAT, IMPACT, replace(IMPACT, capital=2e9, impact=0.3)], ids=["flat", "5e7", "2e9"])
@pytest.mark.parametrize("seed", range(3))
def test_random_accounts_are_those_of_the_ledger(market, config, seed):
    bars, rng = market.bars("FGHIJ", count=180), np.random.default_rng(seed)
    days = pd.to_datetime(market.days(180))[30::7]
    plans = {day: dict(zip("FGHIJ", rng.normal(0.2, 0.3, 5), strict=True)) for day in days}
    account, expected = compared(bars, plans, config)
    np.testing.assert_allclose(account.wealth, expected, rtol=1e-10)


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not there")
@pytest.mark.parametrize("config", [FLAT, replace(IMPACT, capital=3e9)], ids=["flat", "impact"])
@pytest.mark.parametrize("step", [1, 21, 63])
def test_accounts_over_real_bars_are_those_of_the_ledger(config, step):
    tickers = ["AAPL", "ADI", "BE", "GE", "JPM", "KO", "TSLA", "XOM"]
    bars = pd.read_parquet(REAL, filters=[("ticker", "in", tickers)]).rename(columns={"date": "session"})
    bars = bars.assign(session=pd.to_datetime(bars["session"]))
    scale = bars["adj_close"] / bars["close"]
    bars = bars.assign(high=bars["high"] * scale, low=bars["low"] * scale, close=bars["adj_close"])
    bars = bars[bars["session"] >= "2018-10-01"]
    days, rng = pd.DatetimeIndex(sorted(bars["session"].unique())), np.random.default_rng(step)
    plans = {day: dict(zip(tickers, rng.dirichlet(np.ones(8)), strict=True)) for day in days[30::step]}
    account, expected = compared(bars, plans, config)
    np.testing.assert_allclose(account.wealth, expected, rtol=1e-10)
    assert (account.carried != 0).any() == (config.costs == "impact" and step > 1)
