"""The account against a ledger in currency and shares, closed forms, and invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.accounting import drift, simulate
from tasks.numerics.configs import AccountingConfig

FREE = AccountingConfig(cost=0.0, cash_rate=0.0, borrow_spread=0.0, short_rate=0.0)
CONFIG = AccountingConfig()


def market(sessions=260, assets=5, start=0):
    rng = np.random.default_rng(start)
    returns = rng.normal(0.0004, 0.02, (sessions, assets))
    return returns, np.ones((sessions, assets), bool), rng


def ledger(returns, tradable, when, targets, config, capital=250_000.0):
    """An account in currency and shares, one order at a time; gives wealth and turnover as dictionaries."""
    prices = [{i: 40.0 + i for i in range(returns.shape[1])}]
    for row in returns[1:]:
        prices.append({i: p * (1 + row[i]) for i, p in prices[-1].items()})
    shares, cash, wealth, turnover = dict.fromkeys(prices[0], 0.0), capital, {}, {}
    for day in range(when[0], len(returns)):
        if day > when[0]:
            fee = sum(-n * prices[day - 1][i] for i, n in shares.items() if n < 0) * config.short_rate / 252
            rate = config.cash_rate if cash > 0 else config.cash_rate + config.borrow_spread
            cash = cash + cash * rate / 252 - fee
        worth = cash + sum(n * prices[day][i] for i, n in shares.items())
        if day in when:
            goal = dict(enumerate(targets[list(when).index(day)]))
            stuck = [i for i in goal if not tradable[day][i]]
            have = sum(shares[i] * prices[day][i] for i in stuck) / worth
            meant = sum(goal[i] for i in stuck)
            part = 1.0 if have <= meant else max(0.0, (1 - have) / (1 - meant))
            orders = {i: part * w * worth - shares[i] * prices[day][i] for i, w in goal.items() if i not in stuck}
            fees = config.cost * sum(map(abs, orders.values()))
            for i in orders:
                shares[i] = part * goal[i] * (worth - fees) / prices[day][i]
            turnover[day] = sum(map(abs, orders.values())) / worth / 2
            cash = worth - fees - sum(n * prices[day][i] for i, n in shares.items())
            worth -= fees
        wealth[day] = worth / capital
    return np.array(list(wealth.values())), np.array(list(turnover.values()))


TARGETS = {
    "long only": lambda rng, k, n: rng.dirichlet(np.ones(n), k),
    "half cash": lambda rng, k, n: rng.dirichlet(np.ones(n), k) / 2,
    "leveraged": lambda rng, k, n: rng.dirichlet(np.ones(n), k) * 1.5,
    "long and short": lambda rng, k, n: np.append(
        np.tile([0.5, 0.5, 0.3], (k, 1)), -0.15 * np.ones((k, n - 3)), axis=1
    ),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("halts", [0.0, 0.3])
def test_the_account_agrees_with_a_ledger_in_shares(kind, halts):
    returns, tradable, rng = market()
    when = np.arange(20, 260, 21)
    tradable &= rng.random(tradable.shape) >= halts
    targets = TARGETS[kind](rng, when.size, 5)
    account = simulate(returns, tradable, when, targets, CONFIG)
    wealth, turnover = ledger(returns, tradable, when, targets, CONFIG)
    np.testing.assert_allclose(account.wealth, wealth, rtol=1e-10)
    np.testing.assert_allclose(account.turnover, turnover, rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(account.untraded, ~tradable[when])
    np.testing.assert_allclose(account.costs, CONFIG.cost * np.abs(account.trades), rtol=1e-12)


def test_one_asset_bought_and_held_earns_its_return_less_the_first_purchase():
    returns, tradable, _ = market(assets=1)
    account = simulate(returns, tradable, np.array([0]), np.array([[1.0]]), CONFIG)
    np.testing.assert_allclose(account.wealth, (1 - 0.0005) * np.cumprod(np.append(1, 1 + returns[1:, 0])), rtol=1e-13)
    assert account.daily_return[0] == pytest.approx(-0.0005, rel=1e-12)
    assert account.turnover.tolist() == [0.5]


def test_daily_trades_without_costs_earn_the_weighted_sum_of_simple_returns():
    returns, tradable, rng = market()
    targets = rng.dirichlet(np.ones(5), 260)
    account = simulate(returns, tradable, np.arange(260), targets, FREE)
    np.testing.assert_allclose(account.daily_return[1:], (targets[:-1] * returns[1:]).sum(axis=1), atol=1e-14)


def test_cash_earns_its_rate_debt_pays_more_and_shorts_pay_a_fee():
    still = np.zeros((3, 1))
    daily = {}
    for weight in (0.0, 1.5, -0.5):
        account = simulate(still, still == 0, np.array([0]), np.array([[weight]]), AccountingConfig(cost=0.0))
        daily[weight] = account.daily_return[1] * 252
    assert daily[0.0] == pytest.approx(0.02)
    assert daily[1.5] == pytest.approx(-0.5 * 0.03)
    assert daily[-0.5] == pytest.approx(1.5 * 0.02 - 0.5 * 0.005)


def test_repeating_the_drifted_weights_trades_nothing():
    returns, tradable, rng = market()
    weights = rng.dirichlet(np.ones(5)) * 0.9
    later = drift(weights, returns[1:22], CONFIG)
    account = simulate(returns, tradable, np.array([0, 21]), np.array([weights, later]), CONFIG)
    assert account.turnover[1] < 1e-14


def test_drift_in_two_parts_equals_drift_at_once():
    returns, _, _ = market()
    weights = np.array([0.7, 0.6, 0.4, -0.2, 0.0])
    halves = drift(drift(weights, returns[:10], CONFIG), returns[10:30], CONFIG)
    np.testing.assert_allclose(halves, drift(weights, returns[:30], CONFIG), rtol=1e-12)
    np.testing.assert_allclose(drift(weights, returns[:0], CONFIG), weights, rtol=1e-15)


def test_an_asset_that_cannot_be_bought_leaves_its_part_in_cash():
    still = np.zeros((2, 2))
    tradable = np.array([[True, False], [True, True]])
    account = simulate(still, tradable, np.array([0]), np.array([[0.4, 0.6]]), FREE)
    np.testing.assert_array_equal(account.trades, [[0.4, 0.0]])


def test_an_asset_that_cannot_be_sold_scales_the_rest_down():
    still = np.zeros((2, 3))
    tradable = np.array([[True, True, True], [False, True, True]])
    targets = np.array([[0.6, 0.4, 0.0], [0.2, 0.4, 0.4]])
    account = simulate(still, tradable, np.array([0, 1]), targets, FREE)
    # 0.4 is left of wealth for what the target gives 0.8 to: each of the others gets half its weight.
    np.testing.assert_allclose(account.trades[1], [0.0, 0.2 - 0.4, 0.2], atol=1e-15)


def test_a_frozen_position_larger_than_wealth_stops_all_purchases():
    returns, tradable = np.zeros((2, 2)), np.array([[True, True], [False, True]])
    account = simulate(returns, tradable, np.array([0, 1]), np.array([[1.4, 0.0], [0.5, 0.5]]), FREE)
    np.testing.assert_array_equal(account.trades[1], [0.0, 0.0])


@given(st.integers(0, 10_000), st.floats(0, 0.1))
def test_a_fully_invested_account_never_borrows(start, cost):
    returns, tradable, rng = market(30, 4, start)
    when = np.arange(0, 30, 5)
    targets = rng.dirichlet(np.ones(4), when.size)
    cheap, dear = (AccountingConfig(cost=cost, cash_rate=0.0, borrow_spread=spread) for spread in (0.0, 0.5))
    accounts = [simulate(returns, tradable, when, targets, config) for config in (cheap, dear)]
    np.testing.assert_allclose(accounts[0].wealth, accounts[1].wealth, rtol=1e-13)
    assert (accounts[0].wealth > 0).all()


def test_a_ruined_account_is_closed_and_stays_at_zero():
    returns = np.array([[0.0], [-0.9], [0.5], [0.5]])
    account = simulate(returns, np.isfinite(returns), np.array([0, 2]), np.array([[1.5], [1.0]]), FREE)
    assert account.wealth.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert account.daily_return.tolist() == [0.0, -1.0, 0.0, 0.0]
    assert account.turnover.tolist() == [0.75, 0.0]
    assert drift(np.array([1.5]), returns[1:], FREE).tolist() == [0.0]


def test_a_longer_record_and_more_trades_change_no_earlier_bit():
    returns, tradable, rng = market()
    tradable &= rng.random(tradable.shape) >= 0.1
    when = np.arange(5, 260, 21)
    targets = TARGETS["long and short"](rng, when.size, 5)
    whole = simulate(returns, tradable, when, targets, CONFIG)
    for end in (6, 27, 100, 259):
        k = int((when < end).sum())
        part = simulate(returns[:end], tradable[:end], when[:k], targets[:k], CONFIG)
        for name, values in part._asdict().items():
            assert values.tobytes() == getattr(whole, name)[: len(values)].tobytes(), name


def test_returns_may_be_missing_only_where_nothing_is_held():
    returns, tradable, _ = market(10, 2)
    returns[:5, 1] = np.nan
    when = np.array([1, 6])
    account = simulate(returns, tradable, when, np.array([[1.0, 0.0], [0.5, 0.5]]), CONFIG)
    assert np.isfinite(account.wealth).all()
    with pytest.raises(ValueError, match=r"no return on session 2, one of \[1\]"):
        simulate(returns, tradable, when, np.array([[0.5, 0.5], [0.5, 0.5]]), CONFIG)
    with pytest.raises(ValueError, match=r"\(session, asset\) \[0, 1\]"):
        drift(np.array([0.5, 0.5]), returns, CONFIG)


def test_inputs_that_do_not_fit_are_refused():
    returns, tradable, _ = market(10, 2)
    with pytest.raises(ValueError, match=r"they must be \(S, n\), \(S, n\), \(K,\) and \(K, n\)"):
        simulate(returns, tradable, np.array([0]), np.zeros((2, 2)), CONFIG)
    with pytest.raises(ValueError, match="increasing sessions from 0 to 9"):
        simulate(returns, tradable, np.array([3, 10]), np.zeros((2, 2)), CONFIG)
    with pytest.raises(ValueError, match=r"target \[0, 1\] is nan"):
        simulate(returns, tradable, np.array([3]), np.array([[0.0, np.nan]]), CONFIG)
