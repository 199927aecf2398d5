"""Rows of measures: every forecaster on the same rows, as a whole, by year and by asset."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tasks import judging

DAYS = pd.bdate_range("2018-06-01", periods=300)


@pytest.fixture
def rows():
    """Three assets on 300 sessions, a forecaster that knows the variance and others that do not."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame([(t, day) for t in "ABC" for day in DAYS], columns=["ticker", "session"])
    true = rng.uniform(0.001, 0.01, len(frame))
    frame = frame.assign(y=np.sqrt(true) * rng.standard_normal(len(frame)), mean=0.0, variance=true)
    frame = frame.assign(degrees=np.nan, tail=1.0, label_mean=0.002, ewma=0.004, calibrated=0.005, trailing=0.003)
    return frame.assign(historical_mean=0.001, historical_variance=0.006)


def values(measures, **where):
    return {
        (row["forecaster"], row["label"], row["name"]): row
        for row in measures
        if all(row[column] == value for column, value in where.items())
    }


def test_every_forecaster_is_scored_on_the_rows_on_which_all_have_a_forecast(rows):
    rows.loc[[3, 400], "y"] = np.nan
    rows.loc[5, "trailing"] = np.nan
    rows.loc[7, "historical_mean"] = np.nan
    used = rows.drop(index=[3, 400, 5, 7])
    found = values(judging.judge(rows, lags=10), kind="all", name="nll")
    assert {row["rows"] for row in found.values()} == {len(used)}
    for name, (mean, variance) in judging.SIMPLE.items():
        if name != "garch":
            centre = used[mean] if mean else 0.0
            expected = -stats.norm.logpdf(used["y"], centre, np.sqrt(used[variance])).mean()
            assert found[name, "", "nll"]["value"] == pytest.approx(expected), name
    assert ("garch", "", "nll") not in found


def test_garch_is_judged_where_it_was_asked_for_and_limits_the_rows(rows):
    rows = rows.assign(garch=np.where(rows["ticker"] == "C", np.nan, 0.004))
    found = values(judging.judge(rows, lags=10), kind="all", name="nll")
    assert found["garch", "", "nll"]["rows"] == found["own", "", "nll"]["rows"] == 600


def test_differences_are_the_judged_forecaster_s_scores_less_the_others(rows):
    found = values(judging.judge(rows, lags=10), kind="all")
    for score in ("nll", "crps"):
        for name in ("ewma", "calibrated_ewma"):
            row = found[name, "", f"{score}_difference"]
            assert row["value"] == pytest.approx(
                found["own", "", score]["value"] - found[name, "", score]["value"], abs=1e-12
            )
            assert row["lower"] < row["value"] < row["upper"]
            other = found[name, "", f"{score}_difference_by_quarter"]
            assert other["value"] == row["value"]
            assert other["lower"] < row["value"] < other["upper"]
    assert found["ewma", "", "nll_difference"]["upper"] < 0  # who knows the variance is better
    assert ("own", "", "nll_difference") not in found


def test_years_and_assets_weigh_up_to_the_whole(rows):
    measures = judging.judge(rows, lags=10)
    whole = values(measures, kind="all", name="nll")["own", "", "nll"]
    for kind, labels in (("year", ["2018", "2019"]), ("asset", ["A", "B", "C"])):
        parts = [r for r in measures if (r["kind"], r["name"], r["forecaster"]) == (kind, "nll", "own")]
        assert [part["label"] for part in parts] == labels
        assert sum(part["rows"] for part in parts) == whole["rows"]
        assert sum(part["rows"] * part["value"] for part in parts) / whole["rows"] == pytest.approx(whole["value"])
        assert all(0.8 < r["value"] < 1 for r in measures if r["kind"] == kind and r["name"] == "covers_90")


def test_a_part_of_few_rows_is_not_judged_by_itself(rows):
    few = rows[(rows["ticker"] != "C") | (rows["session"] <= DAYS[20])]
    assert {r["label"] for r in judging.judge(few, lags=5) if r["kind"] == "asset"} == {"A", "B"}


def test_the_order_of_the_rows_does_not_matter(rows):
    shuffled = rows.sample(frac=1, random_state=3)
    assert judging.judge(shuffled, lags=10) == judging.judge(rows, lags=10)


def test_nothing_is_said_of_rows_without_outcomes(rows):
    assert judging.judge(rows.assign(y=np.nan), lags=10) == []


def test_what_is_undefined_is_empty(rows):
    one_day = rows[rows["session"] == DAYS[0]]
    found = values(judging.judge(one_day, lags=0), kind="all")
    assert found["own", "", "rank_ic"]["value"] is None  # equal means
    assert found["ewma", "", "nll_difference"]["lower"] is None  # one session has no error


def test_rolling_rows_are_the_measures_of_their_24_calendar_months(rows):
    assert not [row for row in judging.judge(rows, lags=10) if row["kind"] == "rolling"]
    years = pd.bdate_range("2016-01-04", periods=300, freq="3B")
    rows = rows.assign(session=np.tile(years, 3))
    found = values(judging.judge(rows, lags=10), kind="rolling")
    labels = sorted({label for _, label, _ in found})
    assert labels == [str(month) for month in pd.period_range("2017-12", years[-1], freq="M")]
    month = rows["session"].dt.to_period("M")
    part = rows[(month > pd.Period("2016-03")) & (month <= pd.Period("2018-03"))]
    whole = values(judging.judge(part, lags=10), kind="all")
    for name in judging.ROLLING_AGAINST:
        row, same = found[name, "2018-03", "nll_difference"], whole[name, "", "nll_difference"]
        assert row["rows"] == len(part)
        for column in ("value", "lower", "upper"):
            assert row[column] == pytest.approx(same[column], rel=1e-9)
    assert found["own", "2018-03", "covers_90"]["value"] == whole["own", "", "covers_90"]["value"]
