"""Whole shares: what is bought is paid for, and what is held comes close to what is wanted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.numerics.orders import flat, in_shares, tracking_error


@st.composite
def accounts(draw):
    n = draw(st.integers(1, 8))
    numbers = lambda low, high: np.array(draw(st.lists(st.floats(low, high), min_size=n, max_size=n)))  # noqa: E731
    weights, price = numbers(0, 1), numbers(0.01, 1e4)
    weights = weights / max(weights.sum(), 1.0)
    held = np.floor(numbers(0, 1000))
    return weights, price, held, draw(st.floats(0, 1e6)), draw(st.sampled_from([0.0, 5e-4, 0.01, 0.1]))


@settings(max_examples=300, deadline=None)
@given(accounts())
def test_orders_of_long_weights_never_cost_more_than_there_is(account):
    weights, price, held, cash, cost = account
    wealth = held @ price + cash
    if wealth <= 0:
        return
    orders = in_shares(weights, price, held, cash, flat(cost))
    assert orders.cash >= -1e-9 * wealth
    np.testing.assert_array_equal(orders.target, np.trunc(orders.target))
    np.testing.assert_array_equal(orders.target, held + orders.order)
    assert (orders.target >= 0).all()
    assert orders.target @ price + orders.cash + orders.cost.sum() == pytest.approx(wealth, rel=1e-12)


def test_a_switch_from_one_asset_to_another_pays_both_sides():
    orders = in_shares(np.array([0.0, 1.0]), np.array([100.0, 1.0]), np.array([100.0, 0.0]), 0.0, flat(0.0005))
    assert orders.order.tolist() == [-100.0, 9990.0]
    assert orders.cost.tolist() == pytest.approx([5.0, 4.995])
    assert orders.cash == pytest.approx(10_000 - 9990 - 9.995)


def test_a_first_purchase_by_hand():
    orders = in_shares(np.array([0.5, 0.3]), np.array([30.0, 7.0]), np.zeros(2), 1000.0, flat(0.0))
    assert orders.target.tolist() == [16.0, 42.0]
    assert orders.cash == pytest.approx(1000 - 480 - 294)


def test_what_is_held_misses_its_weight_by_less_than_a_share_and_the_costs():
    weights, price = np.array([0.25, 0.35, 0.4]), np.array([20.0, 33.0, 700.0])
    orders = in_shares(weights, price, np.array([10.0, 0.0, 100.0]), 500.0, flat(0.001))
    wealth = 10 * 20 + 100 * 700 + 500
    short = weights * wealth - orders.target * price
    assert (short >= 0).all()
    assert (short <= price + 0.001 * 2.1 * wealth).all()


def test_nothing_is_traded_where_everything_is_as_wanted():
    orders = in_shares(np.array([0.5, 0.5]), np.array([10.0, 20.0]), np.array([20.0, 10.0]), 0.0, flat(0.01))
    assert orders.order.tolist() == [0.0, 0.0]
    assert orders.cash == 0.0


def test_short_weights_are_cut_towards_zero():
    orders = in_shares(np.array([1.3, -0.3]), np.array([10.0, 7.0]), np.zeros(2), 100.0, flat(0.0))
    assert orders.target.tolist() == [13.0, -4.0]


def test_orders_that_would_cost_all_the_account_is_worth_are_refused():
    with pytest.raises(ValueError, match=r"the orders would cost 99\.90 of the 1\.00 that the account is worth"):
        in_shares(np.array([1.0]), np.array([1.0]), np.array([1000.0]), -999.0, flat(0.1))


@settings(max_examples=100, deadline=None)
@given(accounts())
def test_fractional_shares_are_exactly_the_weights_of_what_the_costs_leave(account):
    weights, price, held, cash, cost = account
    if held @ price + cash < 0.01:
        return
    orders = in_shares(weights, price, held, cash, flat(cost), whole=False)
    np.testing.assert_allclose(orders.weights, weights, atol=1e-11)
    left = held @ price + cash - orders.cost.sum()
    assert orders.cash == pytest.approx((1 - weights.sum()) * left, abs=1e-9 * left)


def test_costs_of_any_size_are_paid_out_of_the_account():
    square_root = lambda values: 0.01 * np.abs(values) * np.sqrt(np.abs(values) / 500)  # noqa: E731
    orders = in_shares(np.array([0.6, 0.4]), np.array([7.0, 3.0]), np.array([0.0, 100.0]), 1000.0, square_root)
    spent = orders.order @ np.array([7.0, 3.0]) + orders.cost.sum()
    np.testing.assert_allclose(orders.cost, square_root(orders.order * np.array([7.0, 3.0])))
    assert orders.cash == pytest.approx(1000 - spent)
    assert 0 <= orders.cash < 10
    exact = in_shares(np.array([0.6, 0.4]), np.array([7.0, 3.0]), np.array([0.0, 100.0]), 1000.0, square_root, False)
    assert exact.cash == 0.0
    np.testing.assert_allclose(exact.weights, [0.6, 0.4], rtol=1e-12)


def test_the_tracking_error_is_the_volatility_of_what_is_missed():
    rng = np.random.default_rng(0)
    returns, wanted, rounded = rng.normal(0, 0.01, (252, 3)), np.array([0.5, 0.3, 0.2]), np.array([0.49, 0.31, 0.18])
    apart = rounded - wanted
    expected = np.sqrt(252 * apart @ np.cov(returns, rowvar=False) @ apart)
    assert tracking_error(wanted, rounded, returns) == pytest.approx(expected, rel=1e-12)
    assert tracking_error(wanted, wanted, returns) == 0.0


@pytest.mark.parametrize("price", [0.0, -1.0, np.nan, np.inf])
def test_an_asset_without_a_price_is_named_by_its_place(price):
    with pytest.raises(ValueError, match=f"price is {price} at place 1; every asset held or wanted needs one"):
        in_shares(np.array([0.5, 0.5]), np.array([1.0, price]), np.zeros(2), 10.0, flat(0.0))


@pytest.mark.parametrize("cash", [0.0, -5.0, np.nan])
def test_an_account_worth_nothing_is_refused(cash):
    with pytest.raises(ValueError, match=f"the account is worth {cash}; it must be worth more than 0"):
        in_shares(np.array([1.0]), np.array([1.0]), np.zeros(1), cash, flat(0.0))
