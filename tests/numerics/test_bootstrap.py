"""The stationary bootstrap: its moments in closed form, its block length, and intervals that hold the truth."""

import numpy as np
import pytest

from tasks.numerics import bootstrap, differences, inference


def autoregressive(count, rho, start):
    noise = np.random.default_rng(start).normal(size=count)
    for t in range(1, count):
        noise[t] += rho * noise[t - 1]
    return noise


@pytest.mark.parametrize("rho", [0.3, 0.6])
def test_the_block_length_is_that_of_an_autoregression(rho):
    """For an autoregression G and D are known: b = (2 rho / (1 - rho^2))^(2/3) S^(1/3)."""
    found = [bootstrap.block_length(autoregressive(2000, rho, start)) for start in range(20)]
    assert np.mean(found) == pytest.approx((2 * rho / (1 - rho**2)) ** (2 / 3) * 2000 ** (1 / 3), rel=0.2)


def test_the_block_length_is_close_to_that_of_arch():
    reference = pytest.importorskip("arch.bootstrap")
    for start in range(5):
        values = autoregressive(1500, 0.5, start)
        expected = reference.optimal_block_length(values).stationary.iloc[0]
        assert bootstrap.block_length(values) == pytest.approx(expected, rel=0.25)


def test_independent_and_constant_values_need_no_blocks():
    found = [bootstrap.block_length(np.random.default_rng(start).normal(size=1000)) for start in range(20)]
    assert np.median(found) <= 2
    assert bootstrap.block_length(np.zeros(100)) == 1


@pytest.mark.parametrize("block", [1, 4, 15])
def test_the_variance_of_the_mean_is_that_of_politis_and_romano(block):
    """sum_k (1 - |k|/S) (1 - 1/b)^|k| R(k) over circular autocovariances, R by wrapping around."""
    values = autoregressive(200, 0.6, 0)
    centred = values - values.mean()
    lag = np.arange(1, 200)
    covariance = np.array([centred @ np.roll(centred, -k) for k in range(200)]) / 200
    weights = (1 - lag / 200) * (1 - 1 / block) ** lag
    expected = (covariance[0] + 2 * weights @ covariance[1:]) / 200
    drawn = bootstrap.means(values[:, None], block, np.random.default_rng(1), 40_000)[:, 0]
    assert drawn.var() == pytest.approx(expected, rel=0.04)
    assert drawn.mean() == pytest.approx(values.mean(), abs=4 * (expected / 40_000) ** 0.5)


def test_columns_are_drawn_together_and_the_seed_decides():
    columns = np.random.default_rng(2).normal(size=(300, 2))
    columns = np.column_stack([columns, columns.sum(axis=1)])
    drawn = bootstrap.means(columns, 5, np.random.default_rng(3), 100)
    np.testing.assert_allclose(drawn[:, 0] + drawn[:, 1], drawn[:, 2], atol=1e-12)
    np.testing.assert_array_equal(drawn, bootstrap.means(columns, 5, np.random.default_rng(3), 100))
    np.testing.assert_allclose(bootstrap.means(np.full((300, 1), 2.5), 5, np.random.default_rng(3), 10), 2.5)


def test_what_cannot_be_drawn_from_is_refused():
    with pytest.raises(ValueError, match="20 finite numbers"):
        bootstrap.block_length(np.zeros(19))
    with pytest.raises(ValueError, match="pass finite numbers"):
        bootstrap.means(np.array([[np.nan]]), 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="block is 0 and draws 5"):
        bootstrap.means(np.ones((3, 1)), 0, np.random.default_rng(0), 5)


def pair(start, sessions=750):
    rng = np.random.default_rng(start)
    common = rng.normal(0.0004, 0.008, sessions)
    return common + rng.normal(0.0003, 0.004, sessions), common + rng.normal(0.0, 0.004, sessions)


def test_intervals_of_the_sharpe_difference_hold_the_truth_about_as_often_as_they_say():
    truth = 252**0.5 * (0.0007 - 0.0004) / (0.008**2 + 0.004**2) ** 0.5
    found = [differences.paired(*pair(start), 0.0)[0] for start in range(100)]
    assert 0.9 <= np.mean([one.lower <= truth <= one.upper for one in found]) <= 0.99


def test_differences_of_a_pair():
    own, other = pair(7)
    found = {entry.name: entry for entry in differences.paired(own, other, 0.02 / 252)}
    x, y = own - 0.02 / 252, other - 0.02 / 252
    gap = found["sharpe_difference"]
    assert gap.value == pytest.approx(252**0.5 * (x.mean() / x.std(ddof=1) - y.mean() / y.std(ddof=1)))
    error = 252**0.5 * inference.difference_error(x, y)
    assert gap.upper - gap.lower == pytest.approx(2 * 1.96 * error, rel=0.1)
    growth = found["annual_return_difference"]
    expected = np.prod(1 + own) ** (252 / 750) - np.prod(1 + other) ** (252 / 750)
    assert growth.value == pytest.approx(expected, rel=1e-10)
    assert growth.lower < expected < growth.upper
    assert found["years"].value == pytest.approx(750 / 252)
    assert found["years_needed"].value == pytest.approx(750 / 252 * (1.959964 * error / gap.value) ** 2, rel=1e-6)
    assert "2000 draws" in gap.method


def test_a_series_of_rates_is_taken_from_both():
    own, other = pair(8)
    rates = np.linspace(0, 4e-4, 750)
    found = differences.paired(own, other, rates)
    shifted = differences.paired(own - rates, other - rates, 0.0)
    assert found[0] == shifted[0]


def test_equal_ruined_and_short_records_have_no_interval_or_years():
    own, other = pair(9)
    same = {entry.name: entry for entry in differences.paired(own, own, 0.0)}
    assert same["sharpe_difference"][1:4] == (0.0, 0.0, 0.0)
    assert np.isnan(same["years_needed"].value)
    ruined = {entry.name: entry for entry in differences.paired(np.append(own[:-1], -1.0), other, 0.0)}
    assert np.isnan(ruined["annual_return_difference"][1:4]).all()
    short = differences.paired(own[:10], other[:10], 0.0)
    assert np.isfinite(short[0].value)
    assert np.isnan(short[0][2:4]).all()
    with pytest.raises(ValueError, match="finite returns of the same sessions"):
        differences.paired(own, other[1:], 0.0)
