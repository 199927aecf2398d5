"""Measures of forecasters against scipy and by hand; differences of scores by session and by quarter."""

import numpy as np
import pytest
from scipy import stats

from tasks.numerics import judgement
from tasks.numerics.judgement import Candidate

N, SESSIONS = 600, 60


@pytest.fixture
def rows():
    """Outcomes with heavy tails, their sessions, and a forecaster that knows their scale."""
    rng = np.random.default_rng(0)
    session = np.repeat(np.arange(SESSIONS), N // SESSIONS)
    sigma = rng.uniform(0.02, 0.1, N)
    y = 0.01 + 0.8 * sigma * rng.standard_t(6, N)
    return y, session, Candidate(0.01 * rng.standard_normal(N), sigma**2, 6.0, 0.8)


def test_measures_are_those_of_scipy(rows):
    y, session, own = rows
    found = judgement.measures(y, session, own, lags=3)
    sigma = np.sqrt(own.variance)
    assert found["nll"] == pytest.approx(-stats.norm.logpdf(y, own.mean, sigma).mean())
    assert found["nll_with_tails"] == pytest.approx(-stats.t.logpdf(y, 6, own.mean, 0.8 * sigma).mean())
    pit = stats.t.cdf((y - own.mean) / (0.8 * sigma), 6)
    for share in (50, 90, 95):
        assert found[f"covers_{share}"] == pytest.approx(np.mean(np.abs(pit - 0.5) <= share / 200))
    assert found["pit_distance"] == pytest.approx(stats.kstest(pit, "uniform").statistic)
    assert found["sign_accuracy"] == pytest.approx(np.mean(np.sign(y) == np.sign(own.mean)))
    assert found["positive"] == pytest.approx(np.mean(y > 0))
    ranks = [stats.spearmanr(y[session == s], own.mean[session == s]).statistic for s in range(SESSIONS)]
    assert found["rank_ic"] == pytest.approx(np.mean(ranks))
    assert 0 < found["rank_ic_error"] < 0.2


def test_a_gaussian_that_knows_no_tails_is_scored_the_same_with_and_without(rows):
    y, session, own = rows
    found = judgement.measures(y, session, Candidate(own.mean, own.variance), lags=0)
    assert found["nll"] == found["nll_with_tails"]
    assert found["crps"] == found["crps_with_tails"]


def test_equal_means_rank_nothing(rows):
    y, session, own = rows
    found = judgement.measures(y, session, Candidate(np.full(N, 0.01), own.variance), lags=5)
    assert np.isnan(found["rank_ic"])
    assert np.isnan(found["rank_ic_error"])


def test_the_right_distribution_lies_on_the_diagonal_and_a_narrow_one_below(rows):
    y, _, own = rows
    right = Candidate(np.full(N, 0.01), own.variance, 6.0, 0.8)
    narrow = Candidate(np.full(N, 0.01), own.variance / 4, 6.0, 0.8)
    for level, share in judgement.reliability(y, right).items():
        assert share == pytest.approx(level, abs=0.06)
        assert judgement.reliability(y, narrow)[level] < share
    assert judgement.histogram(y, right).sum() == pytest.approx(1)
    assert judgement.histogram(y, narrow)[[0, -1]].sum() > 2 * judgement.histogram(y, right)[[0, -1]].sum()


def test_a_difference_has_one_mean_and_two_intervals(rows):
    y, session, own = rows
    worse = Candidate(own.mean, 4 * own.variance)
    difference = judgement.gaussian_nll(y, own) - judgement.gaussian_nll(y, worse)
    by_session, by_quarter = judgement.paired(difference, session, session // 10, lags=500)  # more than there are
    assert by_session.mean == by_quarter.mean == pytest.approx(difference.mean())
    for estimate in (by_session, by_quarter):
        assert estimate.lower < estimate.mean < estimate.upper < 0
    again = judgement.paired(difference, session, session // 10, lags=500)[1]
    assert (again.lower, again.upper) == (by_quarter.lower, by_quarter.upper)


def test_some_rows_of_a_candidate_are_those_rows(rows):
    y, _, own = rows
    which = y > 0
    part = own.some(which)
    np.testing.assert_array_equal(part.mean, own.mean[which])
    assert (part.degrees, part.tail) == (6.0, 0.8)
    assert judgement.gaussian_crps(y[which], part).tolist() == judgement.gaussian_crps(y, own)[which].tolist()
