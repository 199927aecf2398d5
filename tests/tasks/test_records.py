"""Records and their differences, against what is known by hand."""

import numpy as np
import pytest

from tasks import records
from tasks.numerics import differences
from tasks.numerics.configs import FitnessConfig
from tasks.records import Record

DAYS = np.arange("2020-01-01", "2020-07-19", dtype="datetime64[D]")  # 200
DATES = DAYS[::20]


def record(seed=0, mean=0.0, turnover=0.1, weights=((0.5, 0.5), (1.0, 0.0))):
    daily = np.random.default_rng(seed).normal(5e-4 + mean, 0.01, DAYS.size)
    held = np.array([weights[place % 2] for place in range(DATES.size)])
    traded = np.full(DATES.size, turnover)
    cash = np.full(DAYS.size, 0.02 / 252)
    return Record(DAYS, daily, cash, DATES, traded, 1e-3 * traded, held, FitnessConfig())


def test_measures_are_those_of_the_whole_record():
    found = records.measures(record())
    daily = record().daily
    excess = daily - 0.02 / 252
    assert found["sharpe"] == pytest.approx(np.sqrt(252) * excess.mean() / excess.std(ddof=1))
    assert found["turnover"] == pytest.approx(0.1 * 10 * 252 / 200)
    assert found["costs"] == pytest.approx(1e-3 * found["turnover"])
    assert found["active_positions"] == 1.5
    assert found["hhi"] == pytest.approx(7500)
    assert set(found) == set(records.MEASURES)


def test_a_part_has_its_own_sessions_and_dates():
    part = record().where(*((DAYS[50] <= days) & (days <= DAYS[99]) for days in (DAYS, DATES)))
    np.testing.assert_array_equal(part.sessions, DAYS[50:100])
    np.testing.assert_array_equal(part.dates, DATES[3:5])
    assert part.weights.shape == (2, 2)
    assert part.turnover.size == part.cost.size == 2
    assert part.daily.size == part.cash.size == 50


def test_labels_sort_sessions_and_dates_into_parts_that_need_not_be_spans():
    named = [np.where(days.astype("datetime64[M]").astype(int) % 2 == 0, "calm", "wild") for days in (DAYS, DATES)]
    parts = records.by_label(record(), *named)
    assert list(parts) == ["calm", "wild"]
    assert sum(part.daily.size for part in parts.values()) == DAYS.size
    assert sum(part.dates.size for part in parts.values()) == DATES.size
    np.testing.assert_array_equal(parts["wild"].daily, record().daily[named[0] == "wild"])
    np.testing.assert_array_equal(parts["wild"].dates, DATES[named[1] == "wild"])


def test_differences_of_returns_are_paired_and_those_of_trades_are_means_over_dates():
    own, other = record(0, turnover=0.2), record(1)
    found = records.compared(own, other)
    paired = {entry.name: entry for entry in differences.paired(own.daily, other.daily, own.cash)}
    assert found["sharpe"] == tuple(paired["sharpe_difference"][1:4])
    assert found["annual_return"] == tuple(paired["annual_return_difference"][1:4])
    # the same at every date, so there is nothing to be unsure of
    assert found["turnover"] == pytest.approx([0.1 * 10 * 252 / 200] * 3)
    assert found["hhi"] == (0.0, 0.0, 0.0)
    assert np.isnan(found["max_drawdown"].lower)
    assert (
        found["max_drawdown"].value == records.measures(own)["max_drawdown"] - records.measures(other)["max_drawdown"]
    )


def test_what_changes_nothing_differs_by_nothing_and_surely():
    found = records.compared(record(), record())
    assert found["sharpe"] == found["annual_return"] == found["active_positions"] == (0.0, 0.0, 0.0)


def test_records_of_other_dates_have_no_interval_of_what_is_a_mean_over_them():
    own = record()
    rarer = Record(**(vars(own) | {name: getattr(own, name)[::2] for name in ("dates", "turnover", "cost", "weights")}))
    found = records.compared(own, rarer)
    assert np.isnan(found["turnover"].lower)
    assert found["turnover"].value == pytest.approx(0.1 * 5 * 252 / 200)
    assert found["sharpe"] == (0.0, 0.0, 0.0)


def test_a_date_without_holdings_has_no_concentration():
    found = records.by_date(record(weights=((0.0, 0.0), (1.0, 0.0))))
    np.testing.assert_array_equal(found["hhi"][:2], [np.nan, 1e4])
    mean = records.mean_of(found["hhi"])
    assert mean == (1e4, 1e4, 1e4)


def test_a_mean_has_the_interval_of_its_terms():
    values = np.random.default_rng(0).normal(0.8, 0.05, 400)
    found = records.mean_of(values)
    assert found.value == values.mean()
    assert found.upper - found.value == pytest.approx(1.96 * 0.05 / 20, rel=0.15)
    assert np.isnan(records.mean_of(np.array([0.5])).lower)
