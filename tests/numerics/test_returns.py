"""Total returns against cash ledgers, vendors' identities and loops written apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.returns import BASES, in_currency, last_known, on_sessions, total_returns


def prices(count=300, start=7):
    rng = np.random.default_rng(start)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, count)))
    dividend = np.where(rng.random(count) < 0.05, 0.4, np.nan)
    split = np.where(rng.random(count) < 0.03, rng.choice([2.0, 4.0, 0.1], count), np.nan)
    return close, dividend, split


def missing(count=300):
    return np.full(count, np.nan)


def test_traded_returns_are_those_of_a_shareholder_who_reinvests():
    close, dividend, split = prices()
    shares, wealth = 1.0, []
    for c, d, s in zip(close, np.nan_to_num(dividend), np.nan_to_num(split, nan=1.0), strict=True):
        shares *= s
        shares += shares * d / c
        wealth.append(shares * c)
    wealth = np.array(wealth)
    got = total_returns(close, missing(), dividend, split, "traded")
    np.testing.assert_allclose(got[1:], wealth[1:] / wealth[:-1] - 1, rtol=0, atol=1e-13)
    assert np.isnan(got[0])


def test_a_four_for_one_split_alone_is_no_return():
    got = total_returns(np.array([400.0, 100.0]), missing(2), missing(2), np.array([np.nan, 4.0]), "traded")
    assert got[1] == 0.0


def test_a_dividend_on_the_day_of_a_split_is_per_new_share():
    got = total_returns(np.array([100.0, 49.0]), missing(2), np.array([0, 1.0]), np.array([1.0, 2.0]), "traded")
    assert got[1] == 0.0


def test_traded_and_split_bases_agree_once_prices_are_adjusted():
    close, dividend, split = prices()
    later = np.append(np.cumprod(np.nan_to_num(split, nan=1.0)[::-1])[::-1][1:], 1.0)
    traded = total_returns(close, missing(), dividend, split, "traded")
    adjusted = total_returns(close / later, missing(), dividend / later, split, "split")
    np.testing.assert_allclose(adjusted, traded, rtol=0, atol=1e-13)


def test_a_vendors_adjusted_close_differs_by_the_dividend_times_the_return():
    close, dividend, _ = prices()
    paid = np.nan_to_num(dividend)
    factor = 1 - paid[1:] / close[:-1]
    adj = close * np.append(np.cumprod(factor[::-1])[::-1], 1.0)
    vendor = total_returns(close, adj, dividend, missing(), "adjusted")
    exact = total_returns(close, adj, dividend, missing(), "split")
    # (C / P) / (1 - D / P) - 1 against (C + D) / P - 1, with P the close before.
    np.testing.assert_allclose(exact[1:] - vendor[1:], -vendor[1:] * paid[1:] / close[:-1], rtol=0, atol=1e-13)


def test_closes_stand_in_where_there_is_no_adjusted_close():
    close, dividend, split = prices()
    got = total_returns(close, missing(), dividend, split, "adjusted")
    np.testing.assert_array_equal(got[1:], close[1:] / close[:-1] - 1)


def test_adjusted_closes_are_read_for_the_adjusted_basis_only():
    close, dividend, split = prices()
    for basis in ("traded", "split"):
        plain = total_returns(close, missing(), dividend, split, basis)
        np.testing.assert_array_equal(total_returns(close, -close, dividend, split, basis), plain)


def test_a_missing_close_leaves_two_returns_unknown_and_no_other():
    close, dividend, split = prices()
    close[10] = np.nan
    got = total_returns(close, missing(), dividend, split, "traded")
    assert np.flatnonzero(np.isnan(got)).tolist() == [0, 10, 11]


@pytest.mark.parametrize("basis", BASES)
def test_later_bars_change_no_earlier_bit(basis):
    close, dividend, split = prices()
    whole = total_returns(close, close, dividend, split, basis)
    for count in (1, 2, 100, 299):
        part = total_returns(close[:count], close[:count], dividend[:count], split[:count], basis)
        assert part.tobytes() == whole[:count].tobytes()


def test_prices_and_splits_that_are_not_positive_are_refused():
    with pytest.raises(ValueError, match=r"price is 0.0 at own session 1"):
        total_returns(np.array([1.0, 0.0]), missing(2), missing(2), missing(2), "split")
    with pytest.raises(ValueError, match=r"split ratio is -2.0 at own session 0"):
        total_returns(np.array([1.0, 1.0]), missing(2), missing(2), np.array([-2.0, 1.0]), "traded")
    with pytest.raises(ValueError, match="basis is 'raw'; it must be one of traded, split, adjusted"):
        total_returns(np.array([1.0]), missing(1), missing(1), missing(1), "raw")


def test_a_session_without_a_bar_returns_zero_and_the_next_bar_carries_the_move():
    close = np.array([100.0, 110.0, 121.0])
    own_returns = total_returns(close, missing(3), missing(3), missing(3), "split")
    got = on_sessions(own_returns, np.array([1, 2, 4]), 6)
    np.testing.assert_array_equal(got, [np.nan, np.nan, own_returns[1], 0.0, own_returns[2], 0.0])


def test_bars_on_days_that_are_no_sessions_count_at_the_next_session():
    got = on_sessions(np.array([np.nan, 0.1, 0.2, -0.5]), np.array([0, 1, 1, 2]), 2)
    np.testing.assert_allclose(got, [np.nan, 1.1 * 1.2 - 1], rtol=1e-15)


@given(
    st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=30),
    st.lists(st.integers(0, 3), min_size=30, max_size=30),
    st.integers(1, 40),
)
def test_wealth_on_the_portfolios_sessions_is_the_assets_own(values, gaps, count):
    returns = np.array(values)
    returns[0] = np.nan
    own = np.cumsum(gaps[: len(values)])
    got = on_sessions(returns, own, count)
    for t in range(count):
        known = returns[own <= t]
        if own[0] > t or (own[0] == t):
            assert np.isnan(got[t])
            continue
        # After the session of the first bar: growth from that session's close on.
        since = np.prod(1 + known[own[own <= t] > own[0]])
        np.testing.assert_allclose(np.prod(1 + got[own[0] + 1 : t + 1]), since, rtol=1e-12)


def test_later_sessions_change_no_earlier_bit_of_the_placed_returns():
    rng = np.random.default_rng(3)
    own = np.cumsum(rng.integers(0, 3, 200))
    returns = np.append(np.nan, rng.normal(0, 0.02, 199))
    whole = on_sessions(returns, own, int(own[-1]) + 1)
    for count in (1, 50, 111):
        kept = own < count
        assert on_sessions(returns[kept], own[kept], count).tobytes() == whole[:count].tobytes()


def test_session_indices_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="each return needs one session"):
        on_sessions(np.zeros(3), np.array([0, 1]), 5)
    with pytest.raises(ValueError, match="in order of time"):
        on_sessions(np.zeros(2), np.array([1, 0]), 5)


def test_a_series_of_rates_is_returned_as_it_is():
    rates = np.array([0.001, -0.02, 0.0, np.nan])
    got = total_returns(rates, missing(4), np.ones(4), np.full(4, 2.0), "rate")
    np.testing.assert_array_equal(got, rates)


def test_returns_in_another_currency_are_those_of_the_money_brought_home():
    close = np.array([200.0, 210.0, 189.0, 189.0])
    pound = np.array([1.25, 1.30, 1.30, 1.04])
    got = in_currency(total_returns(close, missing(4), missing(4), missing(4), "split"), pound)
    assert np.isnan(got[0])
    # 200 pounds are 250 dollars, 210 are 273, 189 are 245.70 and then 196.56
    np.testing.assert_allclose(got[1:], [273 / 250 - 1, 245.7 / 273 - 1, 196.56 / 245.7 - 1], rtol=0, atol=1e-15)


def test_a_currency_that_does_not_move_leaves_the_returns_as_they_are_and_its_unit_does_not_matter():
    close, dividend, split = prices()
    local = total_returns(close, missing(), dividend, split, "traded")
    np.testing.assert_allclose(in_currency(local, np.full(300, 0.0067))[1:], local[1:], rtol=0, atol=1e-15)
    rate = np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.01, 300)))
    np.testing.assert_allclose(in_currency(local, rate / 100), in_currency(local, rate), rtol=0, atol=1e-15)


def test_an_unknown_rate_leaves_its_return_and_the_next_unknown_and_no_other():
    local, rate = np.full(8, 0.01), np.ones(8)
    rate[[0, 4]] = np.nan
    assert np.flatnonzero(np.isnan(in_currency(local, rate))).tolist() == [0, 1, 4, 5]


def test_rates_that_are_not_positive_or_too_few_are_refused():
    with pytest.raises(ValueError, match=r"rate is -1.0 at own session 1"):
        in_currency(np.zeros(2), np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="each return needs one rate"):
        in_currency(np.zeros(2), np.ones(3))


def test_the_newest_known_value_stays_until_the_next_and_none_comes_before_the_first():
    got = last_known(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 3, 3, 6]), 6)
    np.testing.assert_array_equal(got, [np.nan, 1.0, 1.0, 3.0, 3.0, 3.0])
    assert np.isnan(last_known(np.array([]), np.array([], np.int64), 2)).all()
