"""The online strategies on real prices, 2006 to 2020: limits, guard, financing to the cent, what each term moves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.numerics import accounting
from tasks.numerics.configs import (
    OGD_LEVERAGED,
    OGD_LONG_SHORT,
    OGD_LONG_WINDOW,
    AccountingConfig,
)
from tasks.numerics.online import init, run, with_reset

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ohlcv_us_2005_2020.parquet"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared market data are not beside the repository")
BEFORE = 252
RF = 0.02 / 252


@pytest.fixture(scope="module")
def market():
    """Simple returns of the stocks that have prices from 2005 on, their days, and SPY's."""
    bars = pd.read_parquet(DATA, columns=["date", "ticker", "adj_close"])
    closes = bars.pivot(index="date", columns="ticker", values="adj_close")
    returns = closes.loc[:, closes.iloc[0].notna()].pct_change().fillna(0.0)
    stocks = returns.drop(columns=["SPY", "QQQ", "DIA", "IWM", "VTI", "XLK"])
    return stocks.to_numpy(), pd.DatetimeIndex(returns.index), returns["SPY"].to_numpy()


def path_of(config, market, first="2006", last="2020"):
    """Weights after every session of the years, each a block; with what the run says, and the sessions' places."""
    returns, days, spy = market
    places = np.flatnonzero((days >= f"{first}-01-03") & (days <= f"{last}-12-31"))
    mask = np.ones((1, returns.shape[1]), bool)
    state, parts = init(mask[0], config), []
    for year in sorted(set(days.year[places])):
        own = places[days.year[places] == year]
        seen = slice(max(0, own[0] - BEFORE + 1), own[-1] + 1)
        state = with_reset(state, config)
        state, path = run(state, returns[seen], mask.repeat(own.size, 0), config, factors={"market": spy[seen]})
        parts.append(path)
    weights, exposure, _, infeasible = (np.concatenate(p) for p in zip(*parts, strict=True))
    return weights, exposure, infeasible, places


def account_of(weights, places, market, config):
    """The account that trades to each session's weights at the next close."""
    returns = market[0][: places[-1] + 1]
    when = places[:-1] + 1
    return accounting.simulate(returns, np.ones(returns.shape, bool), when, weights[:-1], config)


def worst_year(wealth):
    """Deepest fall below the maximum of the last 252 values."""
    wealth = np.append(1.0, wealth)
    return max(1 - wealth[k] / wealth[max(0, k - 251) : k + 1].max() for k in range(wealth.size))


@pytest.mark.parametrize(("first", "last"), [("2007", "2009"), ("2019", "2020")])
def test_the_guard_holds_its_limit_through_2008_and_2020_when_it_trades_daily(market, first, last):
    free = path_of(OGD_LONG_WINDOW, market, first, last)
    guarded = path_of(replace(OGD_LONG_WINDOW, guard_limit=0.2), market, first, last)
    costless = AccountingConfig(cost=0, borrow_spread=0, cash_rate=0.02)
    falls = [worst_year(account_of(w, places, market, costless).wealth) for w, _, _, places in (free, guarded)]
    assert falls[0] > 0.25
    assert falls[1] <= 0.2
    assert guarded[1].min() < 0.5
    dear = worst_year(account_of(guarded[0], guarded[3], market, AccountingConfig(cost=0.001)).wealth)
    assert dear <= 0.2 + 0.02  # costs are beside what it promises


def test_the_volatility_of_the_window_never_exceeds_its_limit(market):
    config = replace(OGD_LONG_WINDOW, fully_invested=False, volatility_limit=0.15)
    weights, _, infeasible, places = path_of(config, market)
    found = []
    for w, place in zip(weights, places, strict=True):
        r = market[0][max(0, place - BEFORE + 1) : place + 1] @ w + (1 - w.sum()) * RF
        found.append(np.sqrt(252) * r.std(ddof=1))
    assert max(found) <= 0.15 + 1e-9
    assert np.mean(np.array(found) > 0.1499) > 0.03
    assert not infeasible.any()


@pytest.mark.parametrize("config", [OGD_LEVERAGED, OGD_LONG_SHORT])
def test_leverage_and_shorts_keep_their_limits_and_pay_to_the_cent(market, config):
    weights, _, _, places = path_of(config, market)
    gross, short = np.abs(weights).sum(axis=1), np.maximum(-weights, 0).sum(axis=1)
    assert gross.max() <= config.gross_limit + 1e-9
    assert short.max() <= config.short_total + 1e-9
    assert weights.min() >= -config.short_each - 1e-9
    if config.fully_invested:
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-9)
        assert short.mean() > 0.1
    else:
        assert weights.sum(axis=1).max() > 1.2
    terms = AccountingConfig()
    account = account_of(weights, places, market, terms)
    expected, paid = plain_account(weights, places, market[0], terms)
    np.testing.assert_allclose(account.wealth, expected, rtol=1e-10)
    assert paid > 0.001  # of the opening wealth, for debt and for what was borrowed to be sold short


def plain_account(weights, places, returns, terms):
    """The same account in plain arithmetic, with what debt and shorts cost in all."""
    cash, held, path, paid = 1.0, np.zeros(returns.shape[1]), [], 0.0
    for k, place in enumerate(places[:-1] + 1):
        if k:
            rate = terms.cash_rate if cash > 0 else terms.cash_rate + terms.borrow_spread
            fee = terms.short_rate / 252 * np.maximum(-held, 0).sum()
            paid += fee + (-cash * rate / 252 if cash < 0 else 0)
            cash = cash * (1 + rate / 252) - fee
            held = held * (1 + returns[place])
        wealth = held.sum() + cash
        cost = terms.cost * np.abs(weights[k] * wealth - held).sum()
        held = weights[k] * (wealth - cost)
        cash = wealth - cost - held.sum()
        path.append(wealth - cost)
    return np.array(path), paid


def measured(weights, places, market):
    """Means over the sessions: conditional value at risk, |beta - 1|, effective positions, volatility."""
    returns, _, spy = market
    found = []
    for w, place in list(zip(weights, places, strict=True))[::21]:
        seen = slice(place - 89, place + 1)
        r = returns[seen] @ w + (1 - w.sum()) * RF
        worst = np.sort(r)[:5]
        cvar = -(worst[:4].sum() + 0.5 * worst[4]) / 4.5
        beta = np.cov(r, spy[seen])[0, 1] / spy[seen].var(ddof=1)
        found.append((cvar, abs(beta - 1), np.abs(w).sum() ** 2 / (w**2).sum(), r.std(ddof=1)))
    return np.mean(found, axis=0)


@pytest.mark.parametrize(
    ("weight", "base", "more", "place", "sign"),
    [
        ("cvar_weight", 2.0, {}, 0, -1),
        ("factor_weight", 0.3, {}, 1, -1),
        ("concentration_weight", 0.01, {"effective_minimum": 40.0, "effective_maximum": 50.0}, 2, 1),
        ("volatility_weight", 0.3, {}, 3, -1),
    ],
)
def test_a_term_with_ten_times_the_weight_moves_what_it_measures(market, weight, base, more, place, sign):
    found = []
    for scale in (0, 1, 10):
        config = replace(OGD_LONG_WINDOW, **{weight: base * scale}, **more)
        weights, _, _, places = path_of(config, market, "2007", "2012")
        found.append(measured(weights, places, market)[place])
    assert sign * found[0] < sign * found[1] < sign * found[2]


def test_sparsity_is_sparse_and_a_dearer_trade_is_rarer(market):
    held = [
        (np.abs(path_of(replace(OGD_LONG_WINDOW, max_positions=k), market, "2008", "2009")[0]) > 0).sum(axis=1).max()
        for k in (5, 10)
    ]
    assert held == [5, 10]
    traded = [
        np.abs(np.diff(path_of(replace(OGD_LONG_WINDOW, turnover_weight=a3), market, "2008", "2009")[0], axis=0)).sum()
        for a3 in (0.0, 0.1, 1.0)
    ]
    assert traded[0] > traded[1] > traded[2]
