"""Studies: what is proposed, pruned, scored and recorded, without any training."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from storage import catalog, partitions, tables
from storage.errors import InputError
from storage.partitions import Partition
from storage.universe import Member
from tasks import panels, tune
from tasks.numerics.configs import Forecaster
from tasks.tune import Score, Study, Verdict

HORIZON = 5


@pytest.fixture
def study():
    terms = {"space": tune.label("scaled"), "seed": 0}
    return Study("first", "scaled", 0, date(2015, 12, 31), date(2016, 12, 30), "u", terms, "c")


def run(store, study, objective, count):
    """Trials that complete at once with the objective's value of what they chose."""
    while len(done := tune.read(store, study.name)) < count:
        trial = tune.proposed(study, done)
        tune.record(store, study, trial.number, trial.params, Forecaster(), Verdict("complete", (objective(trial),), 1))
    return done


def known(study, objective, count):
    """The same, as much of their rows as proposals depend on, without a store."""
    rows = []
    while len(rows) < count:
        trial = tune.proposed(study, rows)
        chosen = json.dumps(tune.config(study.space, trial.params))
        rows.append({"state": "complete", "value": objective(trial), "steps": [], "config": chosen})
    return rows


def distance(trial):
    """How far the learning rate is from 0.001, in units of the range."""
    return abs(math.log10(trial.params["training.learning_rate"] / 1e-3))


@pytest.mark.parametrize("name", tune.SPACES)
def test_every_value_of_a_space_is_one_that_the_parameters_allow(name):
    space = tune.space_of(name)
    for dimension in space.dimensions:
        ends = dimension.values if dimension.kind == "choice" else dimension.values[:2]
        for value in ends:
            for section, entries in tune.config(name, {dimension.name: value}).items():
                replace(getattr(Forecaster(), section), **entries)  # refuses an unknown name or value


def test_the_document_s_batches_are_its_windows_in_chunks():
    batches = next(d for d in tune.space_of("document_a").dimensions if d.name == "training.batch")
    assert [batch * Forecaster().training.chunk for batch in batches.values] == pytest.approx(
        [64, 128, 512, 1024], rel=0.02
    )


def test_a_study_that_is_read_from_the_store_again_proposes_the_same(store, study):
    whole = run(store, study, distance, 14)
    assert [row["number"] for row in whole] == list(range(14))
    for count in (0, 5, 13):  # 13: the sampler has learnt from what is stored
        assert tune.config("scaled", tune.proposed(study, whole[:count]).params) == json.loads(whole[count]["config"])
    assert len({row["config"] for row in whole}) == 14
    other = replace(study, seed=1)
    assert tune.config("scaled", tune.proposed(other, []).params) != json.loads(whole[0]["config"])


def test_the_sampler_learns_from_the_trials(study):
    values = [row["value"] for row in known(study, distance, 40)]
    assert np.median(values[25:]) < 0.5 * np.median(values[: tune.RANDOM_TRIALS])


@pytest.mark.parametrize(("state", "teaches"), [("failed", False), ("pruned", True)])
def test_the_sampler_learns_from_pruned_trials_and_not_from_failed_ones(study, state, teaches):
    rows = known(study, distance, 20)
    ended = {"state": state, "value": None, "steps": [] if state == "failed" else [0.0]}
    one, other = ([*rows[:12], *(row | ended for row in some)] for some in (rows[12:16], rows[16:]))
    assert (tune.proposed(study, one).params != tune.proposed(study, other).params) is teaches


@pytest.mark.parametrize(("mean", "done", "prunes"), [(-1.1, 4, True), (-1.4, 4, False), (-1.1, 3, False)])
def test_a_trial_below_the_median_of_completed_ones_at_the_same_step_is_pruned(store, study, mean, done, prunes):
    assert tune.UNPRUNED_TRIALS == 4
    for number, steps in enumerate([(-1.0, -9.0), (-1.2, -9.0), (-1.3, 0.0), (-1.5, 0.0)][:done]):
        chosen = tune.proposed(study, tune.read(store, study.name)).params
        tune.record(store, study, number, chosen, Forecaster(), Verdict("complete", steps, 1))
    trial = tune.proposed(study, tune.read(store, study.name))
    trial.report(mean, 1)
    assert bool(trial.should_prune()) is prunes


def test_the_best_trial_is_the_first_of_the_lowest_completed_ones(store, study):
    for number, (state, value) in enumerate([("complete", 1.0), ("complete", 0.5), ("complete", 0.5), ("pruned", 0.1)]):
        chosen = {"loss.recency": float(number)}
        tune.record(store, study, number, chosen, Forecaster(), Verdict(state, (value,), 1))
    assert tune.best(tune.read(store, "first"))["number"] == 1
    assert tune.tuned(store, "first") == {"loss": {"recency": 1.0}}
    assert tune.best([]) is None


def test_a_tuning_that_cannot_be_used_says_what_there_is(store, study):
    with pytest.raises(InputError, match=r"no study 'second' in this store; known: none, run `prism tune` first"):
        tune.tuned(store, "second")
    tune.record(store, study, 0, {}, Forecaster(), Verdict("pruned", (1.0,), 1))
    with pytest.raises(InputError, match=r"no study 'second' in this store; known: first"):
        tune.tuned(store, "second")
    with pytest.raises(InputError, match="study first has no completed trial yet"):
        tune.tuned(store, "first")


def test_a_pruned_trial_is_in_the_ledger_with_its_steps_and_no_value(store, study):
    tune.record(store, study, 0, {"loss.recency": 1.0}, Forecaster(), Verdict("pruned", (1.5, 1.25), 300))
    [row] = catalog.query(store, "main", "SELECT * FROM trials").to_pylist()
    assert (row["state"], row["value"], row["steps"], row["sessions"]) == ("pruned", None, [1.5, 1.25], 300)
    assert (row["study"], row["number"], row["family"], row["objective"]) == ("first", 0, "forecaster", "nll")


def test_equal_configurations_of_two_studies_are_two_rows_and_one_configuration(store, study):
    for name in ("first", "second"):
        tune.record(store, replace(study, name=name), 0, {}, Forecaster(), Verdict("complete", (1.0,), 1))
    later = replace(study, name="third", end=date(2017, 12, 29))
    tune.record(store, later, 0, {}, Forecaster(), Verdict("complete", (1.0,), 1))
    found = {row["study"]: row["configuration"] for row in tables.read(store, "trials").to_pylist()}
    assert found["first"] == found["second"] != found["third"]


def test_the_sampler_s_library_is_loaded_by_a_search_only():
    code = (
        "import flows.cli, flows.tune, flows.tunings, tasks.tune, sys; assert not {'optuna', 'torch'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# --- the score


def predicted(store, panel, key="p", forecast=(0.01, 0.04)):
    """The same forecast of every asset on every session from the 150th on."""
    sessions = panel.sessions[150:]
    rows = pd.MultiIndex.from_product([panel.universe.assets, sessions.astype("datetime64[s]")]).to_frame(index=False)
    rows.columns = ["ticker", "session"]
    rows["mean"], rows["variance"] = forecast
    partitions.put(store, "predictions", [Partition(key, "2016-01", sessions[-1].item(), ("mean", "variance"), rows)])
    return sessions


def nll(y, mean=0.01, variance=0.04):
    return 0.5 * math.log(2 * math.pi * variance) + (y - mean) ** 2 / (2 * variance)


def closes_of(bars):
    return {ticker: rows.set_index("session")["close"] for ticker, rows in bars.groupby("ticker")}


def test_the_score_is_the_density_of_the_outcomes_known_at_the_end_and_of_no_other(market):
    bars = market.bars("AB", 200)
    key = market.panel(bars, "AB")
    panel = panels.load(market.store, key)
    sessions = predicted(market.store, panel)
    end = sessions[30].item()
    expected = [
        nll(math.log(close.iloc[at + HORIZON] / close.iloc[at]))
        for close in closes_of(bars).values()
        for at in range(150, 180 - HORIZON + 1)
    ]
    score = tune.score(key, "p", HORIZON, end)
    assert (score.rows, score.sessions) == (len(expected), len(expected) // 2)
    assert score.total == pytest.approx(sum(expected), rel=1e-12)
    for day, changes in ((181, False), (180, True)):
        other = bars.copy()
        late = other["session"] >= pd.Timestamp(panel.sessions[day])
        other.loc[late, ["open", "high", "low", "close", "adj_close"]] *= 1.5
        assert (tune.score(market.panel(other, "AB"), "p", HORIZON, end) != score) is changes


def test_a_session_without_a_bar_is_judged_from_the_last_bar_on_in_the_asset_s_own_sessions(market):
    bars = market.bars("A", 200)
    lacking = bars.drop(index=[160, 161])
    key = market.panel(lacking, "A")
    sessions = panels.load(market.store, key).sessions[150:]
    predicted(market.store, panels.load(market.store, key))
    close = lacking["close"].to_numpy()
    own = [*range(150, 160), 159, 159, *range(160, 198)]  # the bar that each session stands on
    known = [at for at in own if at + HORIZON < close.size]
    score = tune.score(key, "p", HORIZON, sessions[-1].item())
    assert score.rows == len(known)
    assert score.total == pytest.approx(sum(nll(math.log(close[at + HORIZON] / close[at])) for at in known), rel=1e-12)


def test_an_asset_of_another_exchange_with_two_sessions_in_one_is_judged_from_the_later(market):
    tokyo = Member("T", exchange="XTKS")
    bars = pd.concat([market.bars("A", 200), market.bars("T", 200, "XTKS")], ignore_index=True)
    key = market.panel(bars, [Member("A"), tokyo])
    panel = panels.load(market.store, key)
    days = panel.series["T"].day
    assert (days[1:] == days[:-1]).any()
    sessions = predicted(market.store, panel)
    close, own = closes_of(bars)["T"].to_numpy(), closes_of(bars)["A"].to_numpy()
    last = [int((days <= session).sum()) - 1 for session in sessions]
    expected = [
        nll(math.log(close[at + HORIZON] / close[at])) for at in last if at + HORIZON < (days <= sessions[-1]).sum()
    ]
    expected += [nll(math.log(own[at + HORIZON] / own[at])) for at in range(150, 200 - HORIZON)]
    score = tune.score(key, "p", HORIZON, sessions[-1].item())
    assert score.total == pytest.approx(sum(expected), rel=1e-12)


def test_a_forecast_that_is_no_number_makes_a_mean_that_is_none(market):
    key = market.panel(market.bars("A", 200), "A")
    sessions = predicted(market.store, panels.load(market.store, key), forecast=(math.nan, 0.04))
    assert not math.isfinite(tune.score(key, "p", HORIZON, sessions[-1].item()).mean)


def test_scores_of_years_add_up_by_rows():
    both = Score().plus(Score(10.0, 4, 2)).plus(Score(2.0, 2, 1))
    assert both == Score(12.0, 6, 3)
    assert both.mean == 2.0
    assert math.isnan(Score().mean)
