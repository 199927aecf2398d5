"""Tuning: what a study sees, that it goes on where it was stopped, and what becomes of its best trial."""

import json
import logging
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows import cli, options
from flows import parameters as forms
from flows.train import train_forecaster
from flows.tune import tune
from storage import tables
from storage.errors import InputError
from storage.schemas import TABLES
from storage.store import Store
from tasks import tune as stage
from tasks.numerics import fitting, mixtures, training

pytestmark = pytest.mark.flow
END = "2016-12-30"  # the as-of date of January 2017


@pytest.fixture(scope="module", autouse=True)
def _early():
    """Learn and prune early, so that a few trials show both."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stage, "RANDOM_TRIALS", 2)
        patched.setattr(stage, "UNPRUNED_TRIALS", 1)
        yield


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, prices, light):
    """The folder of a store with a study of five trials over two years, and the prices that it took."""
    folder = tmp_path_factory.mktemp("tuned")
    prices.to_csv(folder / "prices.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", str(folder / "store"))
        tune("first", "2016", "2017", 5, parameters=light, path=str(folder / "prices.csv"))
    return folder / "store"


@pytest.fixture
def studied(tuned, place):
    return place(tuned)


def trials_of(store: Store, study: str = "first") -> list[dict]:
    """The rows of a study, exactly, without the time of recording."""
    return [{name: row[name] for name in row if name != "created_at"} for row in stage.read(store, study)]


def test_a_study_prunes_and_keeps_every_trial_in_the_ledger(studied):
    trials = trials_of(studied)
    assert [row["number"] for row in trials] == list(range(5))
    assert {(row["state"], len(row["steps"]), row["value"] is None) for row in trials} == {
        ("complete", 2, False),
        ("pruned", 1, True),
    }
    assert len({row["configuration"] for row in trials}) == 5
    best = json.loads(stage.best(trials)["config"])
    assert set(best) == {"loss", "network", "training"}
    # two years of sessions, of which the outcomes of the last 21 are not known at the end, and those of one year
    assert {row["state"]: row["sessions"] for row in trials} == {"complete": 503 - 20, "pruned": 252}


@pytest.mark.long
def test_a_study_that_was_stopped_in_the_middle_of_a_training_ends_as_one_that_was_not(
    studied, place, tmp_path, light, csv, monkeypatch
):
    undisturbed, epoch, begun = trials_of(studied), fitting.epoch, []
    first = 2 * json.loads(undisturbed[0]["config"])["training"]["epochs"]

    def stopping(fit, *rest):
        begun.append(fit.epoch)
        if len(begun) == first + 2:  # in the second epoch of the second trial
            raise KeyboardInterrupt
        return epoch(fit, *rest)

    monkeypatch.setattr(fitting, "epoch", stopping)
    store = place(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        tune("first", "2016", "2017", 5, parameters=light, path=csv)
    assert trials_of(store) == undisturbed[:1]
    tune("first", "2016", "2017", 5, parameters=light, path=csv)
    assert begun[first : first + 3] == [0, 1, 1]  # the interrupted epoch, and none before it, is done again
    assert trials_of(store) == undisturbed


def test_no_price_after_the_end_changes_a_trial_and_the_last_one_before_it_does(
    place, tmp_path, light, prices, written
):
    after, last = prices.copy(), prices.copy()
    late = prices.index > END
    after[late] *= np.exp(np.random.default_rng(1).normal(0, 0.2, (late.sum(), prices.shape[1])))
    last.loc[END:] *= 1.1
    found = {}
    for name, changed in {"plain": prices, "after": after}.items():
        store = place(tmp_path / name)
        tune("first", "2016", "2016", 2, parameters=light, path=written(changed, tmp_path / f"{name}.csv"))
        found[name] = trials_of(store)
    assert found["plain"] == found["after"]
    changed = written(last, tmp_path / "last.csv")
    with pytest.raises(InputError, match=r"study first has trials of other terms \(prices '\w+' -> '\w+'\), which"):
        tune("first", "2016", "2016", 2, parameters=light, path=changed)
    tune("second", "2016", "2016", 2, parameters=light, path=changed)
    before, now = ([row["value"] for row in rows] for rows in (found["after"], trials_of(store, "second")))
    assert not set(before) & set(now)


@pytest.fixture
def seen(monkeypatch):
    """For each fold: the history and the samples that trained, and the history and the rows that were forecast."""
    samples, trained, judged = [], [], []
    epoch, train, vlstm = fitting.epoch, training.train, mixtures.vlstm

    def spied_epoch(fit, data, *rest):
        samples.append(data.samples)
        return epoch(fit, data, *rest)

    def spied_train(history, *rest):
        made = train(history, *rest)
        trained.append((history, samples[-1]))
        return made

    def spied_vlstm(model, history, rows, *rest, **named):
        judged.append((history, rows))
        return vlstm(model, history, rows, *rest, **named)

    monkeypatch.setattr(fitting, "epoch", spied_epoch)
    monkeypatch.setattr(training, "train", spied_train)
    monkeypatch.setattr(mixtures, "vlstm", spied_vlstm)
    return trained, judged


def test_a_whole_horizon_of_sessions_lies_between_training_and_judging(place, tmp_path, light, prices, written, seen):
    lacking, horizon = prices.copy(), light.features.horizon
    for year in ("2015", "2016"):  # the last sessions of the year, and some of the weeks before
        lacking.loc[lacking.loc[year].index[[-1, -2, -7, -20]], "CCC"] = np.nan
    place(tmp_path / "store")
    tune("first", "2016", "2017", 1, parameters=light, path=written(lacking, tmp_path / "lacking.csv"))
    trained, judged = seen
    assert len(trained) == len(judged) == 2
    for (history, samples), (known, rows) in zip(trained, judged, strict=True):
        last = np.array([own.nonzero()[0].max() for own in samples])  # window's end, of each asset
        first = np.array([rows.column[rows.asset == asset].min() for asset in range(5)])
        assets = np.arange(5)
        assert (history.session[assets, last + horizon] <= history.last_session).all()  # labels end by the as-of date
        assert known.session[0, first[0]] == history.last_session  # and there judging starts
        assert (first - last).tolist() == [horizon] * 5  # of the asset's own sessions
        # of the portfolio's, of which CCC missed two: none is closer
        between = known.session[assets, first] - known.session[assets, last]
        assert between.tolist() == [horizon, horizon, horizon + 2, horizon, horizon]


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"seed": 1}, r"seed 0 -> 1\), which do not compare with these; give another --name"),
        ({"end": "2016"}, r"end 2017 -> 2016, prices '\w{16}' -> '\w{16}'\)"),
        (
            {"space": "document_a", "set": {"training": {"validation_sessions": 21}}},
            r"\(space 'scaled@\w{16}' -> 'document_a@\w{16}'",
        ),
        ({"set": {"training": {"ensemble": 2}}}, r"\(training.ensemble 1 -> 2\)"),
    ],
)
def test_a_study_does_not_go_on_with_other_terms(studied, light, terms, sentence):
    chosen = forms.make(forms.merged(light.values(), terms.pop("set", {})))
    asked = {"name": "first", "start": "2016", "end": "2017", "trials": 9, "parameters": chosen} | terms
    with pytest.raises(InputError, match=sentence):
        tune.fn(**asked)
    assert len(trials_of(studied)) == 5


def test_what_a_trial_chooses_is_no_term_of_its_study(studied, light):
    chosen = forms.make(forms.merged(light.values(), {"network": {"hidden": 8}, "return_drawdown": {"alpha": 0.7}}))
    assert tune("first", "2016", "2017", 5, parameters=chosen)["trials"] == 5


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"name": "../up"}, "study name '../up' must be lower-case letters"),
        ({"space": "wide"}, "there is no search space 'wide'; give one of scaled, document_a"),
        ({"start": "16"}, "start '16' is no year; write it as 2014"),
        ({"start": "2015"}, "years 2015 to 2017 cannot all be tuned on; those that the prices allow, .*: 2016 to 2017"),
        ({"end": "2018"}, "years 2016 to 2018 cannot all be tuned on"),
        ({"end": "2015"}, "years 2016 to 2015 cannot all be tuned on"),
        ({"set": {"forecast": {"forecaster": "ewma"}}}, "forecast.forecaster is 'ewma', which has nothing to tune"),
        ({"set": {"training": {"minimum_sessions": 331}}}, "no forecast made from 2016-11-30 on has its outcome by"),
    ],
)
def test_a_tuning_that_cannot_be_is_refused_in_one_sentence(studied, light, asked, sentence):
    given = asked.pop("set", {})
    end = "2016" if "training" in given else "2017"
    asked = {"name": "other", "start": "2016", "end": end} | asked
    with pytest.raises(InputError, match=sentence):
        tune.fn(**asked, parameters=forms.make(forms.merged(light.values(), given)))
    assert trials_of(studied, "other") == []


def test_trials_that_other_code_judged_are_pointed_out(tuned, place, tmp_path, light, caplog):
    store = place(shutil.copytree(tuned, tmp_path / "copy"))
    rows = stage.read(store, "first")
    older = [row | {"code": "older"} for row in rows[:2]]
    tables.put(store, "trials", pa.Table.from_pylist(older, TABLES["trials"].schema))
    logging.getLogger("prism").addHandler(caplog.handler)
    tune("first", "2016", "2017", 5, parameters=light)
    assert "2 of 5 trials were judged by other code" in caplog.text


def test_a_trial_whose_forecasts_are_no_numbers_fails_and_the_next_is_tried(studied, light, monkeypatch):
    score, asked = stage.score, []

    def diverged(*place):
        asked.append(place)
        return stage.Score(math.nan, 1, 1) if len(asked) == 2 else score(*place)

    monkeypatch.setattr(stage, "score", diverged)
    tune("failing", "2016", "2017", 2, parameters=light)
    failed, fine = trials_of(studied, "failing")
    first = trials_of(studied)[0]
    assert (failed["state"], failed["value"], failed["steps"]) == ("failed", None, first["steps"][:1])
    assert (failed["configuration"], failed["config"]) == (first["configuration"], first["config"])
    assert (fine["state"], stage.best([failed, fine])) == ("complete", fine)


def test_a_run_that_names_a_study_uses_the_very_models_of_its_best_trial(studied, light):
    given = options.given_values(None, None, None, Path("tuned:first"), ["forecast.draws=8"])
    best = stage.best(trials_of(studied))
    assert given == json.loads(best["config"]) | {"forecast": {"draws": 8}}
    models = tables.read(studied, "models")["key"].to_pylist()
    chosen = forms.make(forms.merged(light.values(), given))
    used = train_forecaster("2016-02", "2017-02", parameters=chosen)["models"]
    assert len(used) == 2
    assert set(used) < set(models)
    assert tables.read(studied, "models").num_rows == len(models)


@pytest.fixture
def prism(tuned, monkeypatch, capsys):
    """Run `prism ...` on the studied store: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["prism", *map(str, arguments), "--store", str(tuned)])
        monkeypatch.setenv("PRISM_STORE", str(tuned))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def test_the_terminal_shows_the_best_trials_first_and_how_to_use_them(prism, studied, light, tmp_path):
    (tmp_path / "light.json").write_text(json.dumps(light.values()))
    arguments = ["tune", "--name", "first", "--start", "2016", "--end", "2017", "--params", tmp_path / "light.json"]
    code, out, err = prism(*arguments, "--trials", "6")
    trials = trials_of(studied)
    assert (code, len(trials)) == (0, 6), err
    assert "trial 5: " in err
    lines = out.splitlines()
    assert lines[0] == "Study first: the best of 6 trials"
    assert lines[2].split()[:5] == ["trial", "state", "NLL", "years", "kl_weight"]
    best = stage.best(trials)
    assert lines[3].split()[:4] == [str(best["number"]), "complete", f"{best['value']:.5f}", "2"]
    states = [line.split()[1] for line in lines[3:9]]
    assert states == sorted(states)
    assert lines[-1] == "use the best with --params tuned:first, in run, backfill, judge and plan"
    code, out, _ = prism(*arguments, "--trials", "5", "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["value"] for row in found["trials"]] == [row["value"] for row in trials]
    assert found["best"]["config"] == json.loads(best["config"])
    assert found["terms"]["start"] == 2016


def test_an_unknown_study_is_answered_with_those_there_are(prism):
    code, _, err = prism("backfill", "--start", "2016-02", "--end", "2016-03", "--params", "tuned:nosuch")
    assert code == 2
    assert re.search(r"there is no study 'nosuch' in this store; known: (failing, )?first$", err.strip())
