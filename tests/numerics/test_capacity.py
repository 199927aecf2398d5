"""Capacity: each point is the account of that size, growing accounts pay more, and crossings lie where lines cross."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.numerics import accounting, capacity
from tasks.numerics.configs import AccountingConfig
from tasks.numerics.execution import Liquidity

RNG = np.random.default_rng(0)
S, N = 300, 4
RETURNS = RNG.normal(5e-4, 0.01, (S, N))
TRADED = np.ones((S, N), bool)
WHEN = np.arange(20, S, 21)
TARGETS = RNG.dirichlet(np.ones(N), WHEN.size)
MARKET = Liquidity(np.full((S, N), 2e-4), np.full((S, N), 0.01), np.full((S, N), 5e7))
COSTS = AccountingConfig(cash_rate=0.03)


def curve(**more):
    return capacity.curve(RETURNS, TRADED, WHEN, TARGETS, [COSTS] * WHEN.size, MARKET, **more)


def test_a_point_is_the_account_of_that_capital():
    points = curve(capitals=(1e6, 1e9))
    sized = replace(COSTS, costs="impact", capital=1e9)
    account = accounting.simulate(RETURNS, TRADED, WHEN, TARGETS, sized, liquidity=MARKET)
    excess, years = account.daily_return - 0.03 / 252, account.wealth.size / 252
    assert points[1].capital == 1e9
    assert points[1].sharpe == pytest.approx(excess.mean() / excess.std(ddof=1) * 252**0.5, rel=1e-12)
    assert points[1].annual_return == pytest.approx(account.wealth[-1] ** (1 / years) - 1, rel=1e-12)
    assert points[1].costs == pytest.approx(account.costs.sum() / years, rel=1e-12)
    assert points[1].late == pytest.approx(np.abs(account.carried).sum() / 2 / years, rel=1e-12)
    assert points[1].undone == pytest.approx(np.abs(account.undone).sum() / 2 / years, rel=1e-12)
    assert points[1].late > 0


def test_a_larger_account_pays_more_for_what_it_trades_and_trades_less_of_it():
    points = curve(capitals=(1e4, 1e6, 1e8, 1e10))
    paid = [point.costs / point.turnover for point in points]
    assert paid == sorted(paid)
    assert points[0].late == points[0].undone == 0
    assert points[-1].turnover < points[0].turnover
    assert points[-1].undone > points[1].undone
    assert points[0].sharpe > points[2].sharpe


def test_a_series_of_rates_takes_the_place_of_the_constant():
    rates = np.full(S, 0.03 / 252)
    for one, other in zip(curve(risk_free=rates), curve(), strict=True):
        assert one == pytest.approx(other, rel=1e-9)
    assert curve(risk_free=2 * rates)[0].sharpe < curve()[0].sharpe


def test_the_capital_of_the_fall_is_read_off_the_logarithmic_scale():
    sizes = [1e5, 1e6, 1e7, 1e8]
    assert capacity.falls_below(sizes, [2, 2, 1, 0], [1, 1, 2, 2]) == pytest.approx(10**6.5)
    assert capacity.falls_below(sizes, [2, 2, 2, 0], [1, 1, 1, 1]) == pytest.approx(10**7.5)
    assert capacity.falls_below(sizes, [1, 1, 0, 2], [1, 1, 1, 1]) == pytest.approx(1e6)
    assert capacity.falls_below(sizes, [2, np.nan, 1, 0], [1, 1, 2, 2]) == pytest.approx(10**6)


@pytest.mark.parametrize("own", [[2, 2, 2, 2], [0, 0, 0, 0], [0, 0, 2, 2], [np.nan] * 4])
def test_a_strategy_that_never_falls_has_no_such_capital(own):
    assert capacity.falls_below([1e5, 1e6, 1e7, 1e8], own, [1, 1, 1, 1]) is None
