"""Measures against closed forms, scipy, and skfolio where it defines them alike."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import skfolio.measures as reference
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.metrics import drawdowns, measures

NAMES = """
    cumulative_return annual_return annual_volatility sharpe sortino max_drawdown
    worst_year_drawdown longest_drawdown average_drawdown ulcer_index calmar var_95
    cvar_95 skewness kurtosis hit_rate positive_months stability
    turnover costs hhi effective_positions top10 active_positions
    sessions sharpe_error sharpe_error_iid psr
"""


def measured(daily, weights=((1.0,),), turnover=(0.5,), cost=(0.0005,), month=None, **options):
    daily = np.asarray(daily, float)
    month = np.arange(daily.size) // 21 if month is None else np.asarray(month)
    return measures(daily, np.asarray(weights, float), np.asarray(turnover), np.asarray(cost), month, **options)


def record(count=1000, start=0):
    return np.random.default_rng(start).standard_t(5, count) * 0.008 + 0.0004


def test_the_names_are_those_of_the_metrics_table():
    assert set(measured(record())) == set(NAMES.split())


@pytest.mark.parametrize("count", [37, 999, 1000, 2520])
def test_risk_measures_agree_with_skfolio(count):
    daily = record(count)
    got, depth = measured(daily), reference.get_drawdowns(daily, compounded=True)
    assert got["var_95"] == pytest.approx(reference.value_at_risk(daily), rel=1e-12)
    assert got["cvar_95"] == pytest.approx(reference.cvar(daily), rel=1e-12)
    assert got["skewness"] == pytest.approx(reference.skew(daily), rel=1e-10)
    assert got["kurtosis"] == pytest.approx(reference.kurtosis(daily), rel=1e-10)
    assert got["max_drawdown"] == pytest.approx(reference.max_drawdown(depth), rel=1e-12)
    assert got["average_drawdown"] == pytest.approx(reference.average_drawdown(depth), rel=1e-12)
    assert got["ulcer_index"] == pytest.approx(reference.ulcer_index(depth), rel=1e-12)
    assert got["annual_volatility"] == pytest.approx(reference.standard_deviation(daily) * 252**0.5, rel=1e-12)
    downside = reference.semi_deviation(daily, min_acceptable_return=0.02 / 252, biased=True)
    assert got["sortino"] == pytest.approx(252**0.5 * (daily.mean() - 0.02 / 252) / downside, rel=1e-10)


def test_the_sharpe_ratio_is_the_t_statistic_of_the_excess_return():
    daily = record()
    t = scipy.stats.ttest_1samp(daily - 0.02 / 252, 0.0).statistic
    assert measured(daily)["sharpe"] == pytest.approx(t * (252 / daily.size) ** 0.5, rel=1e-12)


def test_a_series_of_risk_free_rates_is_taken_session_by_session():
    frame = pd.DataFrame({"daily": record(), "cash": np.linspace(0, 2e-3, 1000)})
    got = measured(frame["daily"], risk_free=frame["cash"].to_numpy())
    excess = frame["daily"] - frame["cash"]
    below = excess.where(excess < 0, 0.0).pow(2).mean() ** 0.5
    assert got["sharpe"] == pytest.approx(excess.mean() / excess.std() * 252**0.5, rel=1e-12)
    assert got["sortino"] == pytest.approx(excess.mean() / below * 252**0.5, rel=1e-12)
    constant = measured(frame["daily"])
    of_excess = {"sharpe", "sortino", "sharpe_error", "sharpe_error_iid", "psr"}
    assert {name for name in got if got[name] != constant[name]} == of_excess
    assert measured(frame["daily"], risk_free=np.full(1000, 0.02 / 252)) == constant


def test_returns_compound_over_years_of_252_sessions():
    daily = np.full(504, 1.21 ** (1 / 504) - 1)
    got = measured(daily)
    assert got["cumulative_return"] == pytest.approx(0.21, rel=1e-10)
    assert got["annual_return"] == pytest.approx(0.10, rel=1e-10)
    assert got["stability"] == pytest.approx(1.0)
    assert got["max_drawdown"] == 0.0
    # A constant has neither volatility nor loss to divide by.
    assert all(np.isnan(got[name]) for name in ("sharpe", "sortino", "calmar", "skewness", "kurtosis"))


def test_drawdowns_count_from_the_starting_wealth():
    np.testing.assert_allclose(drawdowns(np.array([0.9, 1.2, 0.6, 1.2])), [0.1, 0.0, 0.5, 0.0])
    assert measured([-0.1, 0.05])["max_drawdown"] == pytest.approx(0.1)


def test_drawdowns_by_hand():
    # Wealth 1.1, 0.99, 1.045, 1.1495, 0.9196: two sessions under water, then one.
    got = measured([0.1, -0.1, 0.0555555555555556, 0.1, -0.2])
    assert got["longest_drawdown"] == 2
    assert got["max_drawdown"] == pytest.approx(0.2)
    assert got["average_drawdown"] == pytest.approx((0.1 + 0.05 + 0.2) / 5)
    assert got["calmar"] == pytest.approx(got["annual_return"] / 0.2)


def test_the_worst_year_is_the_deepest_fall_within_252_returns():
    slow = measured(np.full(1000, -0.001))
    assert slow["worst_year_drawdown"] == pytest.approx(1 - 0.999**252)
    assert slow["max_drawdown"] == pytest.approx(1 - 0.999**1000)
    assert slow["longest_drawdown"] == 1000
    daily = record()
    wealth = np.append(1.0, np.cumprod(1 + daily))
    falls = [1 - wealth[t] / wealth[max(0, t - 252) : t + 1].max() for t in range(1, wealth.size)]
    assert measured(daily)["worst_year_drawdown"] == pytest.approx(max(falls), rel=1e-12)


@given(st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=400))
def test_measures_are_finite_or_missing_and_keep_their_order(values):
    got = measured(values)
    assert not any(np.isinf(value) for value in got.values())
    assert 0 <= got["average_drawdown"] <= got["ulcer_index"] + 1e-12 <= got["max_drawdown"] + 2e-12
    assert got["worst_year_drawdown"] <= got["max_drawdown"] + 1e-12
    assert got["cvar_95"] >= got["var_95"] - 1e-12


@pytest.mark.parametrize("daily", [[0.0], [20.0], [-0.0005], [-1.0, 0.0, 0.0], [-1.0] + [0.0] * 300, [0.01, 0.01]])
def test_short_constant_and_ruined_records_give_no_infinity(daily):
    with np.errstate(divide="raise", invalid="raise"):
        got = measured(daily)
    assert set(got) == set(NAMES.split())
    assert not any(np.isinf(value) for value in got.values())
    assert np.isnan(got["stability"])


def test_shares_of_days_and_months_with_a_gain():
    got = measured([0.1, -0.05, -0.1, 0.05, 0.0], month=[1, 1, 2, 2, 3])
    assert got["hit_rate"] == pytest.approx(2 / 5)
    # 1.045 and 0.945, and a month at exactly 0, which is no gain.
    assert got["positive_months"] == pytest.approx(1 / 3)


def test_stability_is_the_r_squared_of_a_regression_on_time():
    daily = record()
    fit = scipy.stats.linregress(np.arange(1000), np.log(np.cumprod(1 + daily)))
    assert measured(daily)["stability"] == pytest.approx(fit.rvalue**2, rel=1e-10)


def test_turnover_and_costs_are_annual():
    got = measured(np.zeros(504), weights=np.eye(3), turnover=[0.5, 0.2, 0.3], cost=[0.0005, 0.0002, 0.0003])
    assert got["turnover"] == pytest.approx(0.5)
    assert got["costs"] == pytest.approx(0.0005)


def test_equal_weights_have_as_many_effective_positions_as_assets():
    got = measured(record(), weights=np.full((3, 20), 0.05))
    assert got["hhi"] == pytest.approx(500)
    assert got["effective_positions"] == pytest.approx(reference.effective_number_assets(np.full(20, 0.05)))
    assert got["top10"] == pytest.approx(0.5)
    assert got["active_positions"] == 20


def test_concentration_looks_at_positions_not_at_cash_leverage_or_dates_without_any():
    weights = np.array([[0.6, 0.3, 0.1, 0.0]])
    plain = measured(record(), weights=weights)
    names = ("hhi", "effective_positions", "top10")
    for other in (weights / 2, weights * 1.5, weights * [1, -1, 1, 1], np.vstack([weights, 0 * weights])):
        got = measured(record(), weights=other)
        assert [got[name] for name in names] == pytest.approx([plain[name] for name in names])
    assert plain["hhi"] == pytest.approx(4600)


def test_a_position_of_half_a_percent_is_not_active():
    assert measured(record(), weights=[[0.9, 0.005, 0.0051, -0.05], [1, 0, 0, 0]])["active_positions"] == 2


def test_a_record_in_cash_has_no_concentration():
    got = measured(record(), weights=np.zeros((2, 3)))
    assert np.isnan([got["hhi"], got["effective_positions"], got["top10"]]).all()
    assert got["active_positions"] == 0


def test_an_empty_record_and_a_missing_return_are_refused():
    with pytest.raises(ValueError, match="daily_return is empty"):
        measured([])
    with pytest.raises(ValueError, match="not a number at entry 1"):
        measured([0.0, np.nan])
    with pytest.raises(ValueError, match=r"shape \(1,\) and 1 finite values; it must be one number, or \(2,\)"):
        measured([0.0, 0.1], risk_free=np.zeros(1))
    with pytest.raises(ValueError, match=r"shape \(2,\) and 1 finite values"):
        measured([0.0, 0.1], risk_free=np.array([np.nan, 0.0]))
