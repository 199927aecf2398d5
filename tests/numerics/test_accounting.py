"""The account against a ledger in currency and shares, closed forms, and invariants."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.accounting import drift, simulate
from tasks.numerics.configs import AccountingConfig

FREE = AccountingConfig(cost=0.0, cash_rate=0.0, borrow_spread=0.0, short_rate=0.0)
CONFIG = AccountingConfig()
NEVER = 10_000


def market(sessions=260, assets=5, start=0):
    rng = np.random.default_rng(start)
    returns = rng.normal(0.0004, 0.02, (sessions, assets))
    return returns, np.ones((sessions, assets), bool), rng


def ledger(returns, tradable, when, targets, config, delisted=None, rates=None, capital=250_000.0):
    """An account in currency and shares, one order at a time; gives wealth and turnover."""
    last = dict(enumerate(delisted if delisted is not None else [NEVER] * returns.shape[1]))
    prices = [{i: 40.0 + i for i in range(returns.shape[1])}]
    for row in returns[1:]:
        prices.append({i: p * (1 + row[i]) for i, p in prices[-1].items()})
    shares, cash, wealth, turnover = dict.fromkeys(prices[0], 0.0), capital, {}, {}
    for day in range(when[0], len(returns)):
        if day > when[0]:
            fee = sum(-n * prices[day - 1][i] for i, n in shares.items() if n < 0) * config.short_rate / 252
            rate = config.cash_rate / 252 if rates is None else rates[day]
            cash = cash + cash * (rate if cash > 0 else rate + config.borrow_spread / 252) - fee
            for i in [i for i, end in last.items() if end == day and shares[i]]:
                price = prices[day][i] * (1 - config.delisting_haircut if shares[i] > 0 else 1)
                cash += shares[i] * price - abs(shares[i]) * price * config.cost
                shares[i] = 0.0
        worth = cash + sum(n * prices[day][i] for i, n in shares.items() if n)
        if day in when:
            goal = {i: w if day < last[i] else 0.0 for i, w in enumerate(targets[list(when).index(day)])}
            stuck = [i for i in goal if not tradable[day][i] and day < last[i]]
            have = sum(shares[i] * prices[day][i] for i in stuck) / worth
            meant = sum(goal[i] for i in stuck)
            part = 1.0 if have <= meant else max(0.0, (1 - have) / (1 - meant))
            orders = {
                i: part * w * worth - shares[i] * prices[day][i]
                for i, w in goal.items()
                if i not in stuck and (w or shares[i])
            }
            fees = config.cost * sum(map(abs, orders.values()))
            for i in orders:
                shares[i] = part * goal[i] * (worth - fees) / prices[day][i]
            turnover[day] = sum(map(abs, orders.values())) / worth / 2
            cash = worth - fees - sum(n * prices[day][i] for i, n in shares.items() if n)
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


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("halts", [0.0, 0.3])
@pytest.mark.parametrize("series", [False, True])
def test_with_delistings_and_a_series_of_rates_it_agrees_with_the_ledger_too(kind, halts, series):
    returns, tradable, rng = market(assets=7)
    when = np.arange(20, 260, 21)
    tradable &= rng.random(tradable.shape) >= halts
    # by then gone, on the first trade's close, between two, on a trade's close, on the last session, never
    delisted = np.array([3, 20, 95, 104, 95, 259, NEVER])
    for asset, end in enumerate(delisted[:-1]):
        returns[max(0, end - 8) : end + 1, asset], tradable[max(0, end - 8) :, asset] = 0.0, False
        returns[end + 1 :, asset] = np.nan
    targets = TARGETS[kind](rng, when.size, 7)
    config = AccountingConfig(cost=0.002, delisting_haircut=0.3, borrow_spread=0.05)
    rates = rng.normal(2e-4, 2e-4, 260) if series else None
    account = simulate(returns, tradable, when, targets, config, delisted, rates)
    wealth, turnover = ledger(returns, tradable, when, targets, config, delisted, rates)
    np.testing.assert_allclose(account.wealth, wealth, rtol=1e-10)
    np.testing.assert_allclose(account.turnover, turnover, rtol=1e-10, atol=1e-14)
    gone = when[:, None] >= delisted
    np.testing.assert_array_equal(account.unmet, gone)
    np.testing.assert_array_equal(account.untraded, ~tradable[when] & ~gone)
    assert not account.sold[[0, 1, 6]].any()
    if not halts:  # a halted asset may not have been bought
        assert (account.sold[2:6] != 0).all()


def test_what_a_delisting_sells_is_the_last_price_less_haircut_and_cost():
    returns, tradable = np.zeros((4, 2)), np.ones((4, 2), bool)
    returns[1] = [1.0, 0.0]
    config = replace(FREE, delisting_haircut=0.3, cost=0.01)
    account = simulate(returns, tradable, np.array([0]), np.array([[0.5, 0.5]]), config, np.array([2, NEVER]))
    # 0.99 is left after the purchase; 0.495 doubles, and is sold for 70 % less 1 % of that.
    assert account.wealth == pytest.approx([0.99, 1.485, 0.495 + 0.99 * 0.7 * 0.99, 0.495 + 0.99 * 0.7 * 0.99])
    assert account.sold == pytest.approx([-2 / 3, 0.0])
    assert account.sale_costs == pytest.approx([0.01 * 0.7 * 2 / 3, 0.0])
    assert account.trades.tolist() == [[0.5, 0.5]]


def test_a_short_holding_is_bought_back_in_full():
    returns, tradable = np.zeros((3, 1)), np.ones((3, 1), bool)
    config = replace(FREE, delisting_haircut=0.3)
    account = simulate(returns, tradable, np.array([0]), np.array([[-0.5]]), config, np.array([1]))
    assert account.wealth.tolist() == [1.0, 1.0, 1.0]
    assert account.sold.tolist() == [0.5]
    dear = simulate(returns, tradable, np.array([0]), np.array([[-0.5]]), replace(config, cost=0.1), np.array([1]))
    assert dear.wealth == pytest.approx([0.95, 0.95 - 0.1 * 0.475, 0.95 - 0.1 * 0.475])


def test_a_delisting_is_sold_by_the_terms_in_force_and_before_the_trade_of_its_close():
    returns, tradable = np.zeros((3, 2)), np.ones((3, 2), bool)
    configs = [replace(FREE, delisting_haircut=0.5), replace(FREE, delisting_haircut=0.1)]
    targets = np.array([[0.5, 0.5], [0.2, 0.8]])
    account = simulate(returns, tradable, np.array([0, 1]), targets, configs, np.array([1, NEVER]))
    assert account.wealth == pytest.approx([1.0, 0.75, 0.75])
    assert account.trades[1] == pytest.approx([0.0, 0.8 - 0.5 / 0.75])
    assert account.unmet.tolist() == [[False, False], [True, False]]


def test_a_delisted_asset_is_never_untraded_and_scales_nothing_down():
    returns, tradable = np.zeros((3, 2)), np.array([[True, True], [False, True], [False, True]])
    targets, when = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 2])
    account = simulate(returns, tradable, when, targets, FREE, np.array([1, NEVER]))
    assert not account.untraded.any()
    assert account.trades[1].tolist() == [0.0, 0.0]
    halted = simulate(returns, tradable, when, targets, FREE)
    assert halted.untraded.tolist() == [[False, False], [True, False]]
    assert not halted.unmet.any()


def test_a_haircut_that_takes_all_of_a_leveraged_account_closes_it():
    returns, tradable = np.zeros((3, 2)), np.ones((3, 2), bool)
    config = replace(FREE, delisting_haircut=0.9)
    account = simulate(returns, tradable, np.array([0]), np.array([[1.2, 0.3]]), config, np.array([1, NEVER]))
    assert account.wealth.tolist() == [1.0, 0.0, 0.0]


def test_of_two_delistings_of_one_close_either_is_a_fraction_of_the_wealth_before_both():
    returns, tradable = np.zeros((2, 2)), np.ones((2, 2), bool)
    config = replace(FREE, delisting_haircut=0.5)
    account = simulate(returns, tradable, np.array([0]), np.array([[0.5, 0.25]]), config, np.array([1, 1]))
    assert account.sold.tolist() == [-0.5, -0.25]
    assert account.wealth.tolist() == [1.0, 0.625]


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


def test_a_series_of_rates_takes_the_place_of_the_cash_rate():
    still, rates = np.zeros((3, 1)), np.array([np.nan, 0.001, -0.0005])
    earned = {}
    for weight in (0.0, 1.5):
        config = AccountingConfig(cost=0.0, cash_rate=0.5)
        account = simulate(still, still == 0, np.array([0]), np.array([[weight]]), config, risk_free=rates)
        earned[weight] = account.daily_return[1:]
    assert earned[0.0] == pytest.approx(rates[1:], rel=1e-12)
    assert earned[1.5][0] == pytest.approx(-0.5 * (0.001 + 0.01 / 252), rel=1e-12)


def test_a_series_of_the_constant_changes_no_bit():
    returns, tradable, rng = market()
    when = np.arange(5, 260, 21)
    targets = rng.dirichlet(np.ones(5), when.size) / 2
    constant = simulate(returns, tradable, when, targets, CONFIG)
    series = simulate(returns, tradable, when, targets, CONFIG, risk_free=np.full(260, 0.02 / 252))
    assert series.wealth.tobytes() == constant.wealth.tobytes()


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


def test_assets_without_weight_change_no_bit_of_a_drift():
    returns, _, rng = market(20, 109)
    weights = np.where(np.arange(109) % 20 == 7, 0.0, rng.dirichlet(np.ones(109)))
    held = weights != 0
    for scale in (1.0, 0.7):
        alone = drift(scale * weights[held], returns[:, held], CONFIG)
        np.testing.assert_array_equal(drift(scale * weights, returns, CONFIG)[held], alone)


@pytest.mark.parametrize("end", [0, 4, 10, 29, NEVER])
def test_weights_drift_through_a_delisting_as_the_account_does(end):
    returns, tradable, rng = market(31)
    rates, delisted = rng.normal(1e-4, 1e-4, 31), np.array([NEVER, end, NEVER, end, NEVER])
    config = AccountingConfig(delisting_haircut=0.4)
    weights = np.array([0.7, 0.6, 0.4, -0.2, 0.0])
    later = drift(weights, returns[1:], config, delisted - 1, rates[1:])
    account = simulate(returns, tradable, np.array([0, 30]), np.array([weights, later]), config, delisted, rates)
    assert account.turnover[1] < 1e-14
    assert (later[[1, 3]] == 0).all() == (end < NEVER)
    halves = drift(weights, returns[1:11], config, delisted - 1, rates[1:11])
    halves = drift(halves, returns[11:], config, delisted - 11, rates[11:])
    np.testing.assert_allclose(halves, drift(weights, returns[1:], config, delisted - 1, rates[1:]), rtol=1e-12)


def test_a_weight_of_an_asset_that_is_delisted_already_drifts_as_cash():
    returns, _, _ = market(10, 2)
    returns[:, 0] = np.nan
    drifted = drift(np.array([0.5, 0.25]), returns, CONFIG, np.array([-1, 10]))
    assert drifted.tolist() == drift(np.array([0.0, 0.25]), returns, CONFIG).tolist()


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
    delisted, rates = np.array([NEVER, 90, 120, 99, 3]), rng.normal(1e-4, 1e-4, 260)
    config = replace(CONFIG, delisting_haircut=0.2)
    whole = simulate(returns, tradable, when, targets, config, delisted, rates)
    for end in (6, 27, 100, 259):
        k, known = int((when < end).sum()), np.minimum(delisted, end)
        part = simulate(returns[:end], tradable[:end], when[:k], targets[:k], config, known, rates[:end])
        for name in ("sold", "sale_costs"):
            earlier = np.where(delisted < end, getattr(whole, name), 0.0)
            assert getattr(part, name).tobytes() == earlier.tobytes(), name
        for name, values in part._asdict().items():
            if name not in ("sold", "sale_costs"):
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
    returns[5:, 0] = np.nan
    assert np.isfinite(drift(np.array([0.5, 0.5]), returns[5:], CONFIG, np.array([-1, 10]))).all()
    returns[7:, 1] = np.nan
    with pytest.raises(ValueError, match=r"\(session, asset\) \[2, 1\]"):
        drift(np.array([0.5, 0.5]), returns[5:], CONFIG, np.array([-1, 10]))


def test_inputs_that_do_not_fit_are_refused():
    returns, tradable, _ = market(10, 2)
    with pytest.raises(ValueError, match=r"they must be \(S, n\), \(S, n\), \(K,\) and \(K, n\)"):
        simulate(returns, tradable, np.array([0]), np.zeros((2, 2)), CONFIG)
    with pytest.raises(ValueError, match="increasing sessions from 0 to 9"):
        simulate(returns, tradable, np.array([3, 10]), np.zeros((2, 2)), CONFIG)
    one = np.array([3]), np.zeros((1, 2)), CONFIG
    with pytest.raises(ValueError, match=r"delisted has shape \(1,\); it must be \(2,\)"):
        simulate(returns, tradable, *one, delisted=np.zeros(1, int))
    with pytest.raises(ValueError, match=r"risk_free has shape \(9,\); it must be \(10,\)"):
        simulate(returns, tradable, *one, risk_free=np.zeros(9))
    with pytest.raises(ValueError, match="risk_free is nan on session 4"):
        simulate(returns, tradable, *one, risk_free=np.where(np.arange(10) == 4, np.nan, 0.0))
    with pytest.raises(ValueError, match=r"risk_free has shape \(9,\)"):
        drift(np.zeros(2), returns, CONFIG, risk_free=np.zeros(9))
    with pytest.raises(ValueError, match=r"target \[0, 1\] is nan"):
        simulate(returns, tradable, np.array([3]), np.array([[0.0, np.nan]]), CONFIG)
