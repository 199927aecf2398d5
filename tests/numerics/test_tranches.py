"""Portfolios in tranches: the mean of what the parts hold at each close, by which the luck of the day falls."""

from itertools import pairwise

import numpy as np
import pytest

from tasks.numerics import accounting, tranches
from tasks.numerics.configs import AccountingConfig

FREE = AccountingConfig(cost=0.0, cash_rate=0.0)
CONFIG = AccountingConfig()
SESSIONS, ASSETS = 253, 6
NEVER = np.full(ASSETS, SESSIONS)


def market(seed=0):
    return np.random.default_rng(seed).normal(4e-4, 0.02, (SESSIONS, ASSETS))


def part(first, seed=0, period=21):
    """A part that trades every month, to weights of its day alone."""
    days = np.arange(first, SESSIONS, period)
    every = np.random.default_rng(seed).dirichlet(np.full(ASSETS, 0.3), SESSIONS)
    return days, every[days]


def split(parts, returns, config=CONFIG, **given):
    return tranches.whole([p[0] for p in parts], [p[1] for p in parts], returns, config, NEVER, **given)


def account(when, held, returns, config=CONFIG):
    return accounting.simulate(returns, np.ones(returns.shape, bool), when, held, config)


def test_one_tranche_is_the_portfolio_itself_to_the_bit():
    when, held = split([part(3)], market())
    np.testing.assert_array_equal(when, part(3)[0])
    np.testing.assert_array_equal(held, part(3)[1])


def test_weights_are_the_mean_of_what_the_parts_hold_at_each_close():
    returns, parts = market(), [part(0), part(7), part(14)]
    when, held = split(parts, returns, FREE)
    np.testing.assert_array_equal(when, np.arange(14, SESSIONS, 7))  # from the first day by which all have traded
    for place, session in enumerate(when):
        mean = np.zeros(ASSETS)
        for days, targets in parts:
            last = np.flatnonzero(days <= session)[-1]
            worth = targets[last] * np.prod(1 + returns[days[last] + 1 : session + 1], axis=0)
            mean += worth / worth.sum() / 3
        np.testing.assert_allclose(held[place], mean, rtol=1e-12)


def test_a_day_on_which_all_parts_trade_nets_what_they_trade():
    returns, one, two = market(), part(0, seed=1), part(0, seed=2)
    _, held = split([one, two], returns)
    np.testing.assert_allclose(held, (one[1] + two[1]) / 2, rtol=1e-15)
    opposite = [(one[0], weights) for weights in (one[1], 2 / ASSETS - one[1])]
    assert account(*split(opposite, returns), returns).turnover[1:].max() < 0.1  # of drift alone
    assert account(*one, returns).turnover[1:].mean() > 0.5


def test_money_parted_without_costs_earns_what_the_parts_earn():
    """Where the parts are made equal again at each trade, the whole's return until the next is the mean of theirs."""
    returns, parts = market(), [part(0), part(10)]
    when, held = split(parts, returns, FREE)
    wealth = account(when, held, returns, FREE).wealth
    own = [account(*one, returns, FREE) for one in parts]
    starts = [days[0] for days, _ in parts]
    for begin, end in pairwise(when):
        grown = [one.wealth[end - start] / one.wealth[begin - start] for one, start in zip(own, starts, strict=True)]
        assert wealth[end - when[0]] / wealth[begin - when[0]] == pytest.approx(np.mean(grown), rel=1e-12)


def test_nothing_of_the_whole_depends_on_what_comes_after():
    returns, day = market(), 120
    when, held = split([part(0), part(7), part(14)], returns)
    later = returns.copy()
    later[day + 1 :] = market(9)[day + 1 :]
    _, other = split([part(0), part(7), part(14)], later)
    np.testing.assert_array_equal(held[when <= day], other[when <= day])
    assert not np.array_equal(held, other)


def test_cash_and_what_was_delisted_drift_as_they_do_in_an_account():
    returns, rate = market(), np.full(SESSIONS, 1e-4)
    days, half = np.array([0]), np.full((1, ASSETS), 0.5 / ASSETS)
    gone = NEVER.copy()
    gone[2] = 5
    parts = [(days, half), (np.array([8]), half)]
    when, held = tranches.whole([p[0] for p in parts], [p[1] for p in parts], returns, CONFIG, gone, rate)
    drifted = accounting.drift(half[0], returns[1:9], CONFIG, gone - 1, rate[1:9])
    np.testing.assert_array_equal(when, [8])
    np.testing.assert_allclose(held[0], (drifted + half[0]) / 2, rtol=1e-15)
    assert drifted[2] == 0


def test_the_luck_of_the_day_falls_with_the_number_of_tranches():
    """The same signal on other days: of portfolios in three tranches the wealth lies closer together than of single."""
    wins = []
    for seed in range(10):
        returns = market(seed)
        single = [account(*part(first, seed), returns).wealth[-1] for first in range(21)]
        three = [
            account(*split([part(first + later, seed) for later in (0, 7, 14)], returns), returns).wealth[-1]
            for first in range(7)
        ]
        wins.append(np.std(np.log(three)) < np.std(np.log(single)))
    assert sum(wins) >= 9


def test_tranches_that_never_trade_are_refused():
    with pytest.raises(ValueError, match="0 tranches trade"):
        tranches.whole([], [], market(), CONFIG, NEVER)
    with pytest.raises(
        ValueError, match=r"2 tranches trade \[12, 0\] times; give at least one, and each of them a day"
    ):
        split([part(7), (np.array([], int), np.zeros((0, ASSETS)))], market())
