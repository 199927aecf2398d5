"""The ledger of trials: who is in it, who counts once, and what it takes off a Sharpe ratio."""

import io
import json
from datetime import date

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from storage import blobs, tables
from storage.keys import canonical
from storage.ledger import Decision
from tasks import sweep, trials
from tasks.numerics import inference, overfitting
from tasks.numerics.configs import OGD_LONG_WINDOW

FULL = {
    "rebalance": "M",
    "strategies": ["return_drawdown", "ogd_long_window", "experts", "index"],
    "features": {"horizon": 21},
    "forecast": {"forecaster": "ewma"},
    "training": {"epochs": 4},
    "covariance": {"sessions": 60},
    "return_drawdown": {"alpha": 0.2, "turnover_limit": 1.0},
    "ogd_long_window": canonical(OGD_LONG_WINDOW),
    "sector_ogd": {"outer": "ogd_long_window", "inner": "mine"},
    "experts": {"fixed_share": 0.0},
    "accounting": {"cost": 0.0005},
    "begin": "",
    "own": {"mine": "mine.module"},
}
CODE = {"own.mine": "source"}


def months(parameters=FULL, count=3, start=2015, universe="u", scenario="main"):
    record = {"parameters": parameters, "code": CODE, "universe": universe}
    days = [date(start + k // 12, k % 12 + 1, 5) for k in range(count)]
    return [Decision(scenario, day, day, "backfill", None, (), "", record) for day in days]


def look(store, strategy="return_drawdown", decided=None, seed=0, drift=0.0005):
    daily = np.random.default_rng(seed).normal(drift, 0.01, 300)
    ratio = 252**0.5 * inference.sharpe(daily)
    trials.of_backtest(store, strategy, decided or months(), daily, {"sharpe": ratio, "hhi": 1.0}, "code")
    return daily


def rows(store):
    return tables.read(store, "trials").to_pylist()


def count(store, family="return_drawdown"):
    return trials.families(store, [family])[family].trials


def changed(section, **values):
    return FULL | {section: {**FULL[section], **values}}


def test_a_backtest_is_a_trial_with_its_returns(store):
    daily = look(store)
    (row,) = rows(store)
    assert (row["family"], row["study"], row["sessions"], row["state"]) == (
        "return_drawdown",
        "scenario:main",
        300,
        "complete",
    )
    assert row["daily_sharpe"] == pytest.approx(daily.mean() / daily.std(ddof=1))
    kept = pd.read_parquet(io.BytesIO(blobs.get(store, row["returns"])))
    np.testing.assert_array_equal(kept["0"], daily)
    assert json.loads(row["config"])["return_drawdown"]["return_drawdown"]["alpha"] == 0.2


def test_a_record_that_grows_is_one_trial_with_a_row_a_year(store):
    for length in (3, 4, 12, 13, 24):
        look(store, decided=months(count=length), seed=length)
    found = sorted(rows(store), key=lambda row: row["end_date"])
    assert [row["end_date"].year for row in found] == [2015, 2016]
    assert count(store) == 1
    first = found[0]["daily_sharpe"]
    look(store, decided=months(count=6), seed=99)
    assert sorted(row["daily_sharpe"] for row in rows(store))[0] in (first, found[1]["daily_sharpe"])
    assert len(rows(store)) == 2


@pytest.mark.parametrize(
    ("other", "new"),
    [
        (months(changed("return_drawdown", alpha=0.7)), True),
        (months(FULL | {"rebalance": "Q"}), True),
        (months(universe="v"), True),
        (months(start=2014), True),
        (months()[:1] + months(changed("covariance", sessions=90))[1:], True),  # an amendment
        (months(scenario="whatif"), False),
        (months(changed("accounting", cost=0.0)), False),
        (months(changed("training", epochs=9)), False),  # of a network that is not used
        (months(changed("ogd_long_window", momentum=0.1)), False),
    ],
)
def test_what_is_another_trial(store, other, new):
    look(store)
    look(store, decided=other)
    assert count(store) == 1 + new


def test_the_network_counts_where_it_forecasts(store):
    for epochs in (4, 9):
        look(store, decided=months(changed("training", epochs=epochs) | {"forecast": {"forecaster": "vlstm"}}))
    assert count(store) == 2


def test_baselines_choose_nothing(store):
    for name in ("equal_weight", "index", "risk_parity"):
        look(store, name)
    assert not rows(store)
    assert not trials.families(store, ["equal_weight"])
    assert not trials.deflated(store, {"equal_weight": {"sharpe": 1.0, "sharpe_error_iid": 0.5}})


@pytest.mark.parametrize(
    ("strategy", "parameters", "new"),
    [
        ("experts", changed("ogd_long_window", momentum=0.1), True),
        ("experts", changed("sector_ogd", inner="ogd_long_window"), False),
        ("sector_ogd", changed("ogd_long_window", momentum=0.1), True),
        ("sector_ogd", changed("covariance", sessions=90), False),
        ("mine", FULL | {"own": {"mine": "other.module"}}, True),
        ("ogd_long_window", changed("ogd_long_window", momentum=0.1), True),
    ],
)
def test_the_config_is_all_that_the_weights_come_from(strategy, parameters, new):
    before = trials.config_of(strategy, FULL, CODE)
    assert (trials.config_of(strategy, parameters, CODE) != before) == new
    assert (trials.config_of(strategy, FULL, {"own.mine": "edited"}) != before) == (strategy != "ogd_long_window")


def test_a_sweeps_config_and_the_scenario_that_runs_it_are_one_trial(store):
    decided = months()
    look(store, "ogd_long_window", decided)
    swept = sweep.Sweep("s", "ogd_long_window", OGD_LONG_WINDOW, (), None, "u", "M")
    assert rows(store)[0]["configuration"] == sweep._configuration(swept, OGD_LONG_WINDOW, decided[0].as_of)


def test_the_deflated_ratio_counts_the_familys_trials(store):
    measured = {"return_drawdown": {"sharpe": 1.1, "sharpe_error_iid": 0.6}, "unseen": {"sharpe": None}}
    look(store)
    alone = trials.deflated(store, measured)["return_drawdown"]
    assert alone == {"trials": 1, "sharpe_hurdle": 0.0, "dsr": pytest.approx(scipy.stats.norm.cdf(1.1 / 0.6))}
    ratios = [rows(store)[0]["daily_sharpe"]]
    for seed in range(1, 6):
        daily = look(store, decided=months(changed("return_drawdown", alpha=seed)), seed=seed)
        ratios.append(daily.mean() / daily.std(ddof=1))
    hurdle = 252**0.5 * inference.expected_maximum(6, np.var(ratios, ddof=1))
    found = trials.deflated(store, measured)
    assert found["return_drawdown"]["trials"] == 6
    assert found["return_drawdown"]["sharpe_hurdle"] == pytest.approx(hurdle)
    assert found["return_drawdown"]["dsr"] == pytest.approx(scipy.stats.norm.cdf((1.1 - hurdle) / 0.6))
    assert found["unseen"] == {"trials": 1, "sharpe_hurdle": 0.0, "dsr": None}


def test_a_record_that_does_not_move_has_no_ratio_and_is_no_rival(store):
    trials.of_backtest(store, "return_drawdown", months(), np.zeros(300), {"sharpe": np.nan}, "code")
    assert rows(store)[0]["state"] == "failed"
    assert not trials.families(store, ["return_drawdown"])


def test_overfitting_is_that_of_the_returns_kept(store):
    returns = np.random.default_rng(0).normal(0, 0.01, (300, 4))
    blob = trials.keep_returns(store, returns.T)
    look(store)
    (row,) = rows(store)
    for number in range(4):
        made = row | {"key": f"k{number}", "study": "mine", "number": number, "returns": blob}
        tables.put(store, "trials", tables.pa.Table.from_pylist([made]))
    expected = overfitting.backtest_overfitting(returns - 0.02 / 252)
    assert trials.overfitting_of(store, "mine") == expected
    assert trials.overfitting_of(store, "scenario:main") is None
