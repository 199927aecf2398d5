"""Contributions to return and risk: by hand, and sums that hold through costs, shorts, debt and delistings."""

import numpy as np
import pytest

from tasks.numerics import accounting, contributions
from tasks.numerics.configs import AccountingConfig


def opened(returns, when, targets, config, tradable=None, delisted=None):
    tradable = np.ones(returns.shape, bool) if tradable is None else tradable
    delisted = np.full(returns.shape[1], len(returns)) if delisted is None else delisted
    account = accounting.simulate(returns, tradable, when, targets, config, delisted)
    return account, contributions.ledger(account, returns, when, config, delisted)


def test_two_assets_and_cash_by_hand():
    returns = np.array([[0.0, 0.0], [0.5, 0.5], [0.1, -0.2], [0.2, 0.1]])
    config = AccountingConfig(cost=0.01, cash_rate=0.252)
    account, book = opened(returns, np.array([1, 3]), np.array([[0.5, 0.25], [1.0, 0.0]]), config)
    after = 1 - 0.01 * 0.75
    first, second, cash = 0.5 * after, 0.25 * after, 0.25 * after
    np.testing.assert_allclose(book.held[:2], [[first, second], [1.1 * first, 0.8 * second]], rtol=1e-14)
    np.testing.assert_allclose(book.gains, [[0, 0], [0.1 * first, -0.2 * second], [0.22 * first, 0.08 * second]])
    np.testing.assert_allclose(book.interest, [0, 0.001 * cash, 0.001 * 1.001 * cash], atol=1e-15)
    wealth = 1.32 * first + 0.88 * second + 1.001**2 * cash
    np.testing.assert_allclose(book.costs[0], [0.005, 0.0025])
    np.testing.assert_allclose(book.costs[2], [0.01 * (wealth - 1.32 * first), 0.01 * 0.88 * second])
    found = contributions.contributions(book)
    np.testing.assert_allclose(found.returns, [0.32 * first, -0.12 * second, (1.001**2 - 1) * cash])
    np.testing.assert_allclose(found.costs, [*-book.costs.sum(axis=0), 0])
    assert found.returns.sum() + found.costs.sum() == pytest.approx(account.wealth[-1] - 1, abs=1e-15)


def eventful(seed):
    """An account with every event: shorts, debt, frozen assets, two delistings, and terms that change."""
    rng = np.random.default_rng(seed)
    returns, tradable = rng.normal(3e-4, 0.02, (300, 6)), rng.random((300, 6)) > 0.1
    when, delisted = np.arange(10, 290, 21), np.full(6, 300)
    delisted[[1, 4]] = 115, int(when[8])  # between two trades, and on the day of one
    returns[116:, 1] = np.nan
    targets = rng.dirichlet(np.ones(6), when.size) * rng.choice([0.6, 1.0, 1.4], (when.size, 1))
    targets[::3, 5] *= -1
    configs = [
        AccountingConfig(cost=0.002 + 1e-4 * k, delisting_haircut=0.3, short_rate=0.05) for k in range(when.size)
    ]
    return returns, when, targets, configs, tradable, delisted


@pytest.mark.parametrize("seed", range(4))
def test_parts_sum_to_the_whole_whatever_happened(seed):
    account, book = opened(*eventful(seed))
    assert account.sold.any()
    assert account.untraded.any()
    found = contributions.contributions(book)
    assert abs(found.returns.sum() + found.costs.sum() - (account.wealth[-1] - 1)) < 1e-12
    assert abs(found.risk.sum() - 1) < 1e-12
    assert abs(found.weight.sum() - 1) < 1e-12
    parts = np.column_stack([book.gains - book.costs, book.interest]) / book.before[:, None]
    np.testing.assert_allclose(parts.sum(axis=1), account.daily_return, atol=1e-14)
    expected = [np.cov(part, account.daily_return)[0, 1] / np.var(account.daily_return, ddof=1) for part in parts.T]
    np.testing.assert_allclose(found.risk, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_to_cash_is_its_interest_and_nothing_else(seed):
    returns, when, *rest = eventful(seed)
    account, book = opened(returns, when, *rest)
    before = np.append(1.0, book.cash[:-1])
    rate = np.where(before > 0, 0.02, 0.03) / 252
    rate[0] = 0.0
    np.testing.assert_allclose(book.interest, rate * before, atol=1e-15)
    np.testing.assert_allclose(book.held.sum(axis=1) + book.cash, account.wealth, rtol=1e-14)
    gone = 115 - when[0]
    assert book.held[gone - 1, 1] != 0
    assert not book.held[gone:, 1].any()


def test_holdings_after_a_trade_are_its_targets():
    returns, when, targets, configs, _, _ = eventful(0)
    returns = np.nan_to_num(returns)
    account, book = opened(returns, when, targets, configs)
    np.testing.assert_allclose(book.held[when - when[0]] / account.wealth[when - when[0], None], targets, atol=1e-14)


def test_the_fee_of_a_short_is_its_cost_and_its_fall_a_gain():
    returns = np.array([[0.0], [0.0], [-0.1]])
    config = AccountingConfig(cost=0.0, cash_rate=0.0, short_rate=0.252)
    account, book = opened(returns, np.array([1]), np.array([[-0.5]]), config)
    found = contributions.contributions(book)
    np.testing.assert_allclose([found.returns[0], found.costs[0]], [0.05, -0.0005], rtol=1e-12)
    assert account.wealth[-1] == pytest.approx(1.0495)


def test_a_ruined_account_loses_all_and_its_creditors_the_rest():
    returns = np.array([[0.0], [0.0], [-0.6], [0.5]])
    config = AccountingConfig(cost=0.0, cash_rate=0.0, borrow_spread=0.0)
    account, book = opened(returns, np.array([1]), np.array([[2.0]]), config)
    found = contributions.contributions(book)
    assert account.wealth[-1] == 0
    np.testing.assert_allclose(found.returns, [-1.2, 0.2], rtol=1e-12)
    assert not book.held[-2:].any()


def test_an_account_of_cash_has_no_risk_to_share():
    config = AccountingConfig(cash_rate=0.0)
    _, book = opened(np.zeros((5, 2)), np.array([1]), np.zeros((1, 2)), config)
    found = contributions.contributions(book)
    assert np.isnan(found.risk).all()
    assert list(found.weight) == [0, 0, 1]
