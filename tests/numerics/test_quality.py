"""Measurements of odd prices against hand-worked numbers and prices built to be sound."""

import numpy as np
import pytest

from tasks.numerics import quality
from tasks.numerics.returns import total_returns

NAN = np.nan


def vendor(count=300, start=5):
    """A sound source: as-traded closes, dividends per new share, splits, and its adjusted close."""
    rng = np.random.default_rng(start)
    level = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, count)))  # on today's scale
    split = np.where(rng.random(count) < 0.02, rng.choice([2.0, 4.0, 0.1], count), 1.0)
    later = np.append(np.cumprod(split[::-1])[::-1][1:], 1.0)
    paid = np.where(rng.random(count) < 0.05, 0.5, 0.0)
    factor = 1 - paid[1:] / level[:-1]
    adjusted = level * np.append(np.cumprod(factor[::-1])[::-1], 1.0)
    return level * later, adjusted, paid * later, split


def test_a_sound_source_meets_the_identity_of_its_adjusted_close():
    close, adjusted, dividend, split = vendor()
    paid, implied = quality.paid_share(close, dividend, split), quality.implied_share(close, adjusted, split)
    np.testing.assert_allclose(implied[1:], paid[1:], rtol=0, atol=1e-14)
    own = total_returns(close, adjusted, dividend, split, "traded")
    gap = quality.unexplained(quality.vendor_return(adjusted), own, paid)
    np.testing.assert_allclose(gap[1:], 0, rtol=0, atol=1e-14)
    assert np.isnan(gap[0])


def test_a_spin_off_in_the_adjusted_close_alone_is_its_worth():
    # 100 -> 70 with 30 given away: the source shows 0 %, we would show -30 %
    close, adjusted, nothing, one = np.array([100.0, 70.0]), np.array([70.0, 70.0]), np.zeros(2), np.ones(2)
    own = total_returns(close, adjusted, nothing, one, "traded")
    paid = quality.paid_share(close, nothing, one)
    assert quality.unexplained(quality.vendor_return(adjusted), own, paid)[1] == pytest.approx(0.3)
    assert quality.implied_share(close, adjusted, one)[1] == pytest.approx(0.3)


def test_a_dividend_on_the_day_of_a_split_is_a_share_of_the_close_in_new_shares():
    assert quality.paid_share(np.array([100.0, 50.0]), np.array([0, 1.0]), np.array([1, 2.0]))[1] == 0.02


def test_rounding_of_four_prices_bounds_the_identity():
    close, adjusted, dividend, split = vendor()
    close, adjusted = close / 100, adjusted / 100
    unit = 1e-4
    rounded = (np.round(values / unit) * unit for values in (close, adjusted))
    implied = quality.implied_share(*rounded, split)
    paid = quality.paid_share(close, dividend / 100, split)
    error, bound = np.abs(implied - paid)[1:], quality.rounding_noise(close, adjusted, unit)[1:]
    assert (error <= bound).all()
    assert (error > bound / 20).any()


def test_the_robust_deviation_is_that_of_a_normal_and_blind_to_crashes():
    returns = np.random.default_rng(0).normal(0, 0.02, 20_000)
    assert quality.robust_deviation(returns) == pytest.approx(0.02, rel=0.02)
    returns[:100] = -5
    assert quality.robust_deviation(returns) == pytest.approx(0.02, rel=0.03)
    assert quality.robust_deviation(np.array([NAN])) == 0


def test_factors_of_a_hundred_are_flips_and_the_newest_scale_is_the_right_one():
    price = np.array([1, 1.02, 99, 101, 1.0, 0.98, 100])
    returns = np.log(price / quality.before(price))
    flips = quality.hundredfold(returns, 0.2)
    assert flips.tolist() == [0, 0, 1, 0, -1, 0, 1]
    assert quality.off_scale(flips).tolist() == [True, True, False, False, True, True, False]
    assert not quality.hundredfold(np.log([60.0, 1 / 60, 0.5]), 0.2).any()


def stepped(ratio, count=60, at=30, volume=1.0):
    """Sound prices that step down by `ratio` at the open of session `at`, with `volume` times the usual."""
    rng = np.random.default_rng(9)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    close[at:] /= ratio
    open_ = close * np.exp(rng.normal(0, 0.005, count))
    traded = np.full(count, 1e6)
    traded[at] *= volume
    return close, open_, close, traded


HOW = (0.05, 2.0)


@pytest.mark.parametrize("ratio", [1.5, 2, 3, 4, 10, 20, 0.1, 0.5])
def test_an_overnight_step_that_stays_and_that_nobody_traded_on_looks_like_a_split(ratio):
    assert quality.looks_like_split(30, *stepped(ratio, volume=ratio), *HOW)


@pytest.mark.parametrize("ratio", [1.75, 2.25, 3.5])
def test_a_step_by_an_unusual_ratio_is_no_split(ratio):
    assert not quality.looks_like_split(30, *stepped(ratio), *HOW)


def test_a_step_that_people_traded_on_is_no_split():
    assert not quality.looks_like_split(30, *stepped(2, volume=4.5), *HOW)


def test_a_step_within_the_day_is_no_split():
    price, open_, close, volume = stepped(2)
    open_[30] = close[29]
    assert not quality.looks_like_split(30, price, open_, close, volume, *HOW)


def test_a_step_that_is_undone_is_no_split():
    price, open_, close, volume = stepped(2)
    for prices in (price, open_):
        prices[34:] *= 2
    assert not quality.looks_like_split(30, price, open_, close, volume, *HOW)


def test_without_volume_a_halving_may_be_a_split_and_three_for_two_may_not():
    for ratio, looks in ((2, True), (1.5, False), (2.08, False)):
        price, open_, close, volume = stepped(ratio)
        # AAPL fell by 52 % on 2000-09-29, by itself
        assert quality.looks_like_split(30, price, open_, close, volume * NAN, *HOW) is looks
    price, open_, close, volume = stepped(2.08)
    assert quality.looks_like_split(30, price, open_, close, volume, *HOW)


def test_volume_is_compared_with_the_sessions_before():
    volume = np.array([9, 2, 2, NAN, 4, 4, 30.0])
    assert quality.surge(volume, 6) == 7.5
    assert np.isnan(quality.surge(volume, 4))
    assert np.isnan(quality.surge(np.zeros(9), 8))


def test_a_listed_split_speaks_for_itself_only_where_the_return_holds_its_ratio():
    ratio = np.array([1, 4, 4, 4, 4, 1.0])
    returns = np.array([NAN, 0.02, np.log(4), -np.log(4) + 0.1, -3.0, np.log(4)])
    assert quality.against_split(returns, ratio, 0.1).tolist() == [False, False, True, True, False, False]
    assert not quality.against_split(returns, ratio, 2.0).any()


def test_a_split_listed_on_a_wrong_day_is_found_nearby():
    returns, ratio = np.zeros(30), np.ones(30)
    returns[8], ratio[14] = np.log(1 / 0.44), 0.44
    found = quality.step_nearby(returns, ratio, 6, 0.05, 0.1)
    assert np.flatnonzero(found).tolist() == [8]
    assert not quality.step_nearby(returns, ratio, 5, 0.05, 0.1).any()
    assert not quality.step_nearby(returns, ratio, 6, 0.05, 1.0).any()
    returns[8], ratio[14] = np.log(1.05), 1.05
    assert not quality.step_nearby(returns, ratio, 6, 0.05, 0.01).any()


def test_runs_count_every_session_that_is_alike():
    repeats = np.array([False, True, True, False, False, True])
    assert quality.run_lengths(repeats).tolist() == [3, 3, 3, 1, 2, 2]


def factor(paid, implied, fewest=4):
    paid, implied = np.asarray(paid), np.asarray(implied)
    return quality.systematic_factor(paid, implied, np.full(paid.shape, 1e-6), 0.01, 0.75, fewest)


def test_a_factor_that_most_ex_dates_share_is_systematic():
    paid = np.array([0.005, 0.006, 0.007, 0.005, 0.008])
    assert factor(paid, 10 * paid) == pytest.approx(10)
    assert factor(paid, 1.06 * paid) == pytest.approx(1.06)
    special = 10 * paid
    special[4] = paid[4]
    assert factor(paid, special) == pytest.approx(10)
    assert np.isnan(factor(paid, paid * 1.005))
    assert np.isnan(factor(paid, paid * [1, 2, 3, 4, 5]))
    assert np.isnan(factor(paid[:3], 10 * paid[:3]))
    # 0.01 x 0.005 is known to 1e-6 / 5e-5 = 2 % only
    assert factor(paid, 0.01 * paid + [8e-7, -8e-7, 0, 8e-7, 0]) == pytest.approx(0.01, rel=0.02)


def test_a_yield_is_out_of_scale_with_the_median_of_its_neighbours():
    yields = np.array([1.1, 1.6, 1.5, 2.7, 0.014])  # LSC.L: pence listed as pounds, and the newest one right
    assert quality.out_of_scale(yields, 50).tolist() == [False, False, False, False, True]
    assert not quality.out_of_scale(np.array([0.005, 0.25, 0.005]) * 1.0, 51).any()
    assert quality.out_of_scale(np.array([0.005, 0.25, 0.005]) * 1.0, 49).tolist() == [False, True, False]
    assert not quality.out_of_scale(np.array([0.005, 0.9]), 50).any()


def test_a_regular_payer_is_late_after_more_than_its_usual_interval():
    days = np.array([0, 91, 182, 273, 455, 546])
    assert np.flatnonzero(quality.late(days, 600, 1.75, 0.75, 4)).tolist() == [3]
    assert np.flatnonzero(quality.late(days, 720, 1.75, 0.75, 4)).tolist() == [3, 5]
    assert not quality.late(days[:4], 2000, 1.75, 0.75, 4).any()
    irregular = np.array([0, 30, 200, 210, 500, 520])
    assert not quality.late(irregular, 2000, 1.75, 0.75, 4).any()
