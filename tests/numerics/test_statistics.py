"""Errors of means by hand, against textbook formulas, and by how often their intervals hold the truth."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.statistics import mean_with_error, paired, quarter_bootstrap

H = 21


def overlapping(rng, sessions=4000, assets=3):
    """Rows of assets that share a moving sum over H sessions, some missing: difference and session, mean 0."""
    shocks = rng.standard_normal(sessions + H - 1)
    common = np.convolve(shocks, np.ones(H), "valid")[:, None]
    rows = common + 2 * rng.standard_normal((sessions, assets))
    present = rng.random((sessions, assets)) < np.linspace(0.4, 1, assets)
    return rows[present], np.nonzero(present)[0]


def test_the_error_by_hand():
    # sessions 1, 4, 9 have the totals 2, -3, 1 about the mean of 2: gammas 14, -9, 2
    difference = np.array([3.0, 3.0, 2.0, -1.0, 3.0])
    session = np.array([1, 1, 9, 4, 9])
    for lags, variance in ((0, 14.0), (1, 14 - 9.0), (2, 14 + 2 * (-9 * 2 / 3 + 2 / 3))):
        found = paired(difference, session, lags)
        error = (1.5 * variance) ** 0.5 / 5
        assert found.mean == pytest.approx(2)
        assert found.error == pytest.approx(error)
        assert found.t == pytest.approx(2 / error)
        assert (found.lower, found.upper) == pytest.approx((2 - 1.959964 * error, 2 + 1.959964 * error))


def test_the_mean_is_that_of_the_rows():
    rng = np.random.default_rng(0)
    difference, session = overlapping(rng)
    assert paired(difference, session, 20).mean == pytest.approx(difference.mean(), rel=1e-12)


def test_the_order_of_rows_and_the_gaps_between_sessions_do_not_matter():
    rng = np.random.default_rng(0)
    difference, session = overlapping(rng, 200)
    mixed = rng.permutation(session.size)
    reference = paired(difference, session, 10)
    assert paired(difference[mixed], 7 * session[mixed] - 3, 10) == pytest.approx(reference, rel=1e-10)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60), st.integers(0, 59))
def test_the_variance_is_never_negative(values, lags):
    found = mean_with_error(np.array(values), min(lags, len(values) - 1))
    assert found.error >= 0
    assert found.lower <= found.mean <= found.upper


def test_without_lags_the_error_is_the_textbook_one():
    values = np.random.default_rng(0).standard_normal(40) + 0.3
    with_holes = np.insert(values, [0, 7, 40], np.nan)
    found = mean_with_error(with_holes, confidence=0.9)
    error = scipy.stats.sem(values)
    assert found.error == pytest.approx(error, rel=1e-12)
    assert found.t == pytest.approx(scipy.stats.ttest_1samp(values, 0).statistic, rel=1e-12)
    assert (found.lower, found.upper) == pytest.approx(scipy.stats.norm.interval(0.9, values.mean(), error))


def test_rows_of_one_session_count_as_one_observation():
    values = np.random.default_rng(0).standard_normal(50)
    once = mean_with_error(values)
    assert paired(np.repeat(values, 100), np.repeat(np.arange(50), 100), 0) == pytest.approx(once, rel=1e-10)


def test_hac_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    found = [paired(*overlapping(rng), lags=3 * H) for _ in range(400)]
    assert 0.90 <= np.mean([one.lower <= 0 <= one.upper for one in found]) <= 0.98
    naive = [mean_with_error(overlapping(rng)[0]) for _ in range(100)]
    assert np.mean([one.lower <= 0 <= one.upper for one in naive]) < 0.6


def test_lags_of_the_overlap_alone_find_two_thirds_of_the_variance():
    rng = np.random.default_rng(2)
    for lags, share in ((H - 1, 0.667), (3 * H, 0.891)):
        series = [np.convolve(rng.standard_normal(20_000), np.ones(H), "valid") for _ in range(10)]
        variance = np.mean([mean_with_error(one, lags).error ** 2 * one.size for one in series])
        assert variance / H**2 == pytest.approx(share, rel=0.05)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    held = []
    for _ in range(200):
        difference, session = overlapping(rng, 8000)
        lower, upper = quarter_bootstrap(difference, session // 63, rng, draws=500)
        held.append(lower <= 0 <= upper)
    assert 0.90 <= np.mean(held) <= 0.98


def test_the_bootstrap_draws_whole_quarters_and_weighs_them_by_rows():
    # draws of two quarters: the first twice, one of each, the second twice
    difference, quarter = np.array([1.0, 1.0, 1.0, 5.0]), np.array([8, 8, 8, 2])
    bounds = [quarter_bootstrap(difference, quarter, np.random.default_rng(0), 1000, level) for level in (0.2, 0.8)]
    assert bounds == [(2.0, 2.0), (1.0, 5.0)]


def test_the_bootstrap_repeats_with_its_generator_and_ignores_labels():
    difference, session = overlapping(np.random.default_rng(0), 600)
    quarter = session // 63
    first, second = (quarter_bootstrap(difference, q, np.random.default_rng(5)) for q in (quarter, 4 * quarter + 1))
    assert first == second
    assert first != quarter_bootstrap(difference, quarter, np.random.default_rng(6))


def test_the_bootstrap_agrees_with_the_error_of_independent_quarters():
    rng = np.random.default_rng(0)
    difference = rng.standard_normal(400)
    lower, upper = quarter_bootstrap(difference, np.arange(400), rng, 5000)
    found = mean_with_error(difference)
    assert (lower, upper) == pytest.approx((found.lower, found.upper), abs=0.01)


def test_what_is_undefined_is_not_a_number():
    alone = paired(np.array([1.0, 3.0]), np.array([4, 4]), 0)
    assert alone.mean == 2
    assert np.isnan(alone[1:]).all()
    assert np.isnan(mean_with_error(np.full(3, np.nan))).all()
    equal = mean_with_error(np.zeros(10))
    assert equal[:4] == (0, 0, 0, 0)
    assert np.isnan(equal.t)
    assert np.isnan(quarter_bootstrap(np.ones(5), np.zeros(5, int), np.random.default_rng(0))).all()


def test_bad_input_is_refused_with_its_value():
    difference, session = np.arange(6.0), np.arange(6)
    for lags in (-1, 6):
        with pytest.raises(ValueError, match=rf"lags is {lags}; 6 sessions allow 0 to 5"):
            paired(difference, session, lags)
    with pytest.raises(ValueError, match=r"shape \(6,\) and session \(5,\)"):
        paired(difference, session[1:], 0)
    with pytest.raises(ValueError, match="difference is empty"):
        paired(difference[:0], session[:0], 0)
    with pytest.raises(ValueError, match="difference is nan at row 2"):
        paired(np.where(session == 2, np.nan, difference), session, 0)
    with pytest.raises(ValueError, match="difference is inf at row 1"):
        mean_with_error(np.array([0.0, np.inf]))
    for confidence in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match=f"confidence is {confidence}"):
            mean_with_error(difference, confidence=confidence)
    with pytest.raises(ValueError, match=r"shape \(6,\) and quarter \(2,\)"):
        quarter_bootstrap(difference, session[:2], np.random.default_rng(0))
    with pytest.raises(ValueError, match="draws is 0"):
        quarter_bootstrap(difference, session, np.random.default_rng(0), draws=0)
