"""Estimates of liquidity against known spreads and plain loops, and trades that a session does not take whole."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.numerics import impact
from tasks.numerics.accounting import simulate
from tasks.numerics.configs import AccountingConfig
from tasks.numerics.execution import IlliquidError, Liquidity

FREE = AccountingConfig(cost=0.0, cash_rate=0.0, borrow_spread=0.0, short_rate=0.0, costs="impact", impact=0.0)


def quoted(spread, volatility=0.03, sessions=3000, ticks=390):
    """High and low over the close, and returns, of a random walk that trades at bid or ask."""
    rng = np.random.default_rng(0)
    steps = rng.normal(0, volatility / np.sqrt(ticks), (sessions, ticks))
    price = np.exp(np.cumsum(steps).reshape(sessions, ticks))
    traded = price * (1 + spread / 2 * rng.choice([-1, 1], price.shape))
    close = traded[:, -1]
    return traded.max(axis=1) / close, traded.min(axis=1) / close, np.append(np.nan, close[1:] / close[:-1] - 1)


@pytest.mark.parametrize(("spread", "volatility"), [(0.002, 0.01), (0.01, 0.01), (0.01, 0.03), (0.03, 0.03)])
def test_the_spread_of_a_market_that_trades_at_bid_and_ask_is_found(spread, volatility):
    found = np.nanmean(impact.corwin_schultz(*quoted(spread, volatility)))
    assert found == pytest.approx(spread, rel=0.05)


def test_a_gap_between_two_sessions_is_no_part_of_their_range():
    high, low, change = np.full(3, 1.01), np.full(3, 0.99), np.array([np.nan, 0.0, 0.0])
    still = impact.corwin_schultz(high, low, change)
    # the range of the second session stays as wide, and begins at the close before it
    jumped = impact.corwin_schultz(high, low, np.array([np.nan, 0.5, 0.0]))
    moved = impact.corwin_schultz(
        np.array([1.01, 1.03 / 1.015]), np.array([0.99, 1.0 / 1.015]), np.array([np.nan, 0.015])
    )
    assert still[1] > jumped[1]
    assert jumped[1] == pytest.approx(moved[1], rel=0.2)


def test_a_range_without_a_spread_is_none_and_half_a_basis_point_is_raised_to_one():
    flat = np.ones(30)
    spread = impact.corwin_schultz(flat, flat, np.append(np.nan, np.full(29, 0.01)))
    assert np.isnan(spread[0])
    assert (spread[1:] == 0).all()
    assert impact.half_spread(spread, 21)[-1] == impact.FLOOR


def test_trailing_estimates_use_the_last_sessions_only_and_need_half_of_them():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, 60)
    values[[30, 31, 40]] = np.nan
    mean, deviation = impact.trailing_mean(values, 21), impact.trailing_volatility(values, 21)
    for t in range(60):
        last = values[max(0, t - 20) : t + 1]
        last = last[~np.isnan(last)]
        if last.size < 11:
            assert np.isnan(mean[t])
            assert np.isnan(deviation[t])
        else:
            assert mean[t] == pytest.approx(last.mean(), rel=1e-12)
            assert deviation[t] == pytest.approx(last.std(ddof=1), rel=1e-12)


def test_later_sessions_change_no_earlier_estimate():
    high, low, change = quoted(0.01, sessions=60)
    whole, part = (impact.half_spread(impact.corwin_schultz(high[:n], low[:n], change[:n]), 21) for n in (60, 40))
    assert whole[:40].tobytes() == part.tobytes()


def test_a_cost_by_hand():
    # 1 % of a session's volume: 10 bp of spread, and a tenth of the volatility of 2 %
    assert impact.cost(-1e4, 0.001, 0.02, 1e6, 1.0) == pytest.approx(1e4 * (0.001 + 0.002))
    assert impact.cost(0.0, 0.001, 0.02, 0.0, 1.0) == 0.0


def market(sessions, spread, volatility, volume):
    shape = (sessions, len(np.atleast_1d(volume)))
    return Liquidity(*(np.broadcast_to(part, shape).astype(float) for part in (spread, volatility, volume)))


def test_where_no_limit_binds_a_spread_alone_costs_what_a_flat_rate_does():
    rng = np.random.default_rng(0)
    returns, tradable = rng.normal(0, 0.02, (120, 4)), rng.random((120, 4)) > 0.1
    when, targets = np.arange(0, 120, 10), rng.dirichlet(np.ones(4), 12) * 1.2
    flat = simulate(returns, tradable, when, targets, replace(FREE, costs="flat", cost=0.002))
    sized = simulate(returns, tradable, when, targets, FREE, liquidity=market(120, 0.002, 0.02, [1e15] * 4))
    for name in ("wealth", "trades", "costs", "turnover"):
        np.testing.assert_allclose(getattr(sized, name), getattr(flat, name), rtol=1e-12, atol=1e-15)
    assert not sized.carried.any()


def test_what_a_session_does_not_take_is_carried_over_to_the_next_ones():
    still, when = np.zeros((6, 1)), np.array([0])
    config = replace(FREE, capital=1e6)
    # a session takes 10 % of 2.5 million: 0.25 of the account
    account = simulate(still, still == 0, when, np.array([[0.6]]), config, liquidity=market(6, 0.0, 0.02, [2.5e6]))
    assert account.trades[0] == pytest.approx([0.6])
    assert account.carried[0] == pytest.approx([0.35])
    assert account.undone[0].tolist() == [0.0]
    costly = replace(config, impact=1.0)
    account = simulate(still, still == 0, when, np.array([[0.6]]), costly, liquidity=market(6, 0.001, 0.02, [2.5e6]))
    first = 0.25 * (0.001 + 0.02 * np.sqrt(0.1))
    third = 1 - account.wealth[2] - (1 - account.wealth[1])
    assert account.wealth[0] == pytest.approx(1 - first, rel=1e-12)
    assert account.wealth[1] == pytest.approx(1 - 2 * first, rel=1e-3)
    assert 0 < third < first
    assert account.wealth[3:].tolist() == [account.wealth[2]] * 3


def test_purchases_wait_for_the_money_of_sales_that_are_carried_over():
    still, tradable = np.zeros((6, 2)), np.ones((6, 2), bool)
    volume = np.array([[1e9, 1e9]] + [[2e6, 1e9]] * 5)
    liquidity = Liquidity(np.zeros((6, 2)), np.zeros((6, 2)), volume)
    config = replace(FREE, capital=1e6, borrow_spread=0.5)
    targets = np.array([[1.0, 0.0], [0.0, 1.0]])
    account = simulate(still, tradable, np.array([0, 1]), targets, config, liquidity=liquidity)
    assert account.wealth.tolist() == [1.0] * 6  # nothing is borrowed
    assert account.trades[1] == pytest.approx([-1.0, 1.0])
    assert account.carried[1] == pytest.approx([-0.8, 0.8])


def test_the_next_trade_takes_the_place_of_what_was_carried_over():
    still, when = np.zeros((4, 1)), np.array([0, 2])
    account = simulate(
        still, still == 0, when, np.array([[0.6], [0.1]]), replace(FREE, capital=1e6), liquidity=market(4, 0, 0, [1e6])
    )
    assert account.trades == pytest.approx(np.array([[0.2], [-0.1]]))
    assert account.undone == pytest.approx(np.array([[0.4], [0.0]]))


def test_an_asset_that_nobody_trades_is_not_bought():
    still = np.zeros((3, 1))
    account = simulate(still, still == 0, np.array([0]), np.array([[1.0]]), FREE, liquidity=market(3, 0.01, 0.1, [0.0]))
    assert account.wealth.tolist() == [1.0] * 3
    assert account.undone.tolist() == [[1.0]]


def test_costs_larger_than_the_account_close_it():
    still = np.zeros((3, 1))
    config = replace(FREE, impact=100.0, max_participation=1.0)
    account = simulate(still, still == 0, np.array([0]), np.array([[1.0]]), config, liquidity=market(3, 0, 0.5, [1e6]))
    assert account.wealth.tolist() == [0.0] * 3


def test_liquidity_that_is_not_known_is_an_error_only_where_it_is_needed():
    still, tradable = np.zeros((4, 2)), np.ones((4, 2), bool)
    liquidity = market(4, 0.001, 0.02, [1e9, 1e9])
    liquidity.volume[:2, 1] = np.nan
    when, targets = np.array([0, 2]), np.array([[1.0, 0.0], [0.5, 0.5]])
    assert simulate(still, tradable, when, targets, FREE, liquidity=liquidity).wealth[-1] > 0.9
    liquidity.volume[2, 1] = np.nan
    with pytest.raises(IlliquidError, match="asset 1 has no spread, volatility or volume at session 2"):
        simulate(still, tradable, when, targets, FREE, liquidity=liquidity)
    with pytest.raises(ValueError, match="costs are 'impact'; liquidity must be given"):
        simulate(still, tradable, when, targets, FREE)
