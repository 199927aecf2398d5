"""Bands: edges are the accounts' own, a band of one is that account, and divided money is the mean of wealth."""

import numpy as np
import pytest

from tasks.numerics.bands import band, common

RETURNS = np.random.default_rng(0).normal(5e-4, 0.01, (5, 200))


def test_the_edges_are_those_of_the_accounts_over_the_sessions_that_all_have():
    accounts = [own[place * 7 :] for place, own in enumerate(RETURNS)]
    found, wealth = band(accounts), np.cumprod(1 + RETURNS[:, 28:], axis=1)
    np.testing.assert_array_equal(found.lowest, wealth.min(axis=0))
    np.testing.assert_array_equal(found.highest, wealth.max(axis=0))
    np.testing.assert_array_equal(found.median, np.sort(wealth, axis=0)[2])
    assert found.lowest.shape == (172,)


def test_divided_money_earns_what_the_accounts_earn_together():
    found, amounts = band(list(RETURNS)), np.full(5, 0.2)
    for session in range(200):
        amounts = amounts * (1 + RETURNS[:, session])
        assert found.divided[session] == pytest.approx(amounts.sum(), rel=1e-12)


def test_a_band_of_one_account_is_that_account():
    for part in band([RETURNS[0]]):
        np.testing.assert_array_equal(part, np.cumprod(1 + RETURNS[0]))


@pytest.mark.parametrize("accounts", [[], [RETURNS[0], RETURNS[0][:0]]])
def test_a_band_of_nothing_is_refused(accounts):
    with pytest.raises(ValueError, match="the shortest of 0 sessions"):
        band(accounts)


def test_a_return_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="account 1 has the return nan"):
        common([RETURNS[0], np.append(RETURNS[1][:-1], np.nan)])
