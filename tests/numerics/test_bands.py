"""Bands: edges are the accounts' own, a band of one is that account, and divided money is the mean of wealth."""

import numpy as np
import pandas as pd
import pytest

from tasks.numerics.bands import band, common, sharpe_band

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


def test_the_sharpe_ratio_is_that_of_the_last_sessions_of_each_account():
    cash = np.full(250, 1e-4)
    found = sharpe_band([own[place * 7 :] for place, own in enumerate(RETURNS)], cash, window=60)
    excess = pd.DataFrame(RETURNS[:, 28:] - 1e-4).T
    ratios = np.sqrt(252) * excess.rolling(60).mean() / excess.rolling(60).std()
    np.testing.assert_allclose(found.lowest, ratios.min(axis=1, skipna=False), rtol=1e-9)
    np.testing.assert_allclose(found.median, ratios.median(axis=1, skipna=False), rtol=1e-9)
    np.testing.assert_allclose(found.highest, ratios.max(axis=1, skipna=False), rtol=1e-9)
    assert np.isnan(found.divided[:59]).all()
    assert np.isfinite(found.divided[59:]).all()


def test_divided_money_has_the_ratio_of_its_own_returns():
    one = sharpe_band([RETURNS[0]] * 3, np.zeros(200), window=60)
    np.testing.assert_allclose(one.divided[59:], one.median[59:], rtol=1e-9)


def test_there_is_no_ratio_without_spread_or_without_sessions_enough():
    flat = [np.full(100, 1e-3)] * 2
    assert np.isnan(sharpe_band(flat, np.full(100, 1e-3), window=60).lowest).all()
    assert np.isnan(sharpe_band(flat, np.zeros(100), window=101).highest).all()


@pytest.mark.parametrize("accounts", [[], [RETURNS[0], RETURNS[0][:0]]])
def test_a_band_of_nothing_is_refused(accounts):
    with pytest.raises(ValueError, match="the shortest of 0 sessions"):
        band(accounts)


def test_a_return_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="account 1 has the return nan"):
        common([RETURNS[0], np.append(RETURNS[1][:-1], np.nan)])
