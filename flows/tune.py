"""tune: search of the forecaster's hyper-parameters, every trial in the ledger. Nothing is decided.

A fold is a calendar year: the model that a run would train at its first as-of date forecasts every session up to the
next January's, without refreshes. Training knows no label that ends after that first date, so a whole horizon of
sessions lies between the last window that trains and the first that is judged; and no outcome counts that was not
known at the end of the last fold, so that a study sees nothing of what follows it. Stop it, run it again, it goes on:
its finished trials are in the store, and so are the finished folds of the one that was running.
"""

import logging
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow
from pydantic import Field

from flows import lines
from flows import parameters as forms
from flows.form import Given, Name, Path, Scenario, said
from flows.lines import MAIN, Segment
from flows.parameters import Parameters
from flows.rebalance import RUNNER, recorded
from storage import catalog, tables
from storage.errors import InputError
from storage.keys import Moment, canonical, digest
from storage.store import open_store
from tasks import features, forecast, judge, own_forecasts, panels
from tasks import tune as stage
from tasks.caching import fingerprint
from tasks.numerics.configs import Forecaster
from tasks.progress import Progress
from tasks.tune import Row, Score, Study, Verdict

if TYPE_CHECKING:
    from optuna import Trial

YEAR = r"^\d{4}$"
log = logging.getLogger("prism.tune")


@dataclass(frozen=True)
class Fold:
    """One year: what is learned at `moment` forecasts every session before `until`."""

    moment: Moment
    until: Moment
    learned: tuple[str, ...]  # keys of the features known at `moment`
    seen: tuple[str, ...]  # and at `until`


@dataclass(frozen=True)
class Tuning:
    """A study with the prices and the years that it is judged on."""

    study: Study
    segment: Segment
    folds: list[Fold]


@flow(name="tune", task_runner=RUNNER, flow_run_name="tune {name}", timeout_seconds=168 * 3600)
def tune(
    name: Name,
    start: Annotated[str, said("First year", "Like 2014.", pattern=YEAR)],
    end: Annotated[str, said("Last year", "Like 2019.", pattern=YEAR)],
    trials: Annotated[int, said("Trials", "How many settings are tried."), Field(ge=1)] = 50,
    space: Annotated[str, said("Search space", "What a trial may choose.", enum=list(stage.SPACES))] = "scaled",
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
    seed: Annotated[int, said("Seed", "Of the sampler that chooses the trials."), Field(ge=0)] = 0,
) -> dict[str, Any]:
    """Search the forecaster's parameters on the years from `start` to `end` (like 2014), in `trials` trials.

    What a trial does not choose from `space` are the scenario's parameters. A name belongs to one space, years, prices,
    parameters and seed; asked again with more trials, its study goes on.
    """
    stage.checked_name(name), stage.space_of(space)
    years = range(_year(start, "start"), _year(end, "end") + 1)
    with recorded("tune", scenario) as diary:
        with diary.stage("ingest"):
            segment = lines.open_line(scenario, parameters, path).newest
        base = forms.make(forms.merged(segment.parameters.values(), stage.config(space, {})))
        _check(base)
        folds = _folds(segment, base.forecaster, years)
        study = _study(name, space, seed, segment, folds)
        _check_terms(study)
        with diary.stage("features"):
            history = panels.moments(open_store(), segment.panel)
            known = tuple(moment for moment in history if moment.as_of <= folds[-1].until.as_of)
            features.compute_features(segment.panel, known, base.features)
        with diary.stage("tune"):
            done = _search(Tuning(study, segment, folds), trials)
        catalog.rebuild(open_store())
        best = stage.best(done)
        return {"scenario": scenario, "study": name, "trials": len(done), "best": best and best["number"]}


def _year(text: str, name: str) -> int:
    if not re.fullmatch(YEAR, text):
        raise InputError(f"{name} {text!r} is no year; write it as 2014")
    return int(text)


def _check(parameters: Parameters) -> None:
    """Refuse a forecaster without hyper-parameters."""
    used = parameters.forecast.forecaster
    if used != "vlstm":
        raise InputError(
            f"forecast.forecaster is {used!r}, which has nothing to tune; add --set forecast.forecaster=vlstm"
        )


def _folds(segment: Segment, config: Forecaster, years: range) -> list[Fold]:
    """The years' folds; raises InputError where the prices do not allow all of them."""
    store = open_store()
    panel, moments = panels.load(store, segment.panel), panels.moments(store, segment.panel)
    ready = forecast.possible(panel, moments, config, own_forecasts.Own())
    # of each year, the first that can train; and of the year after it, the first
    first = {moment.rebalance_date.year: moment for moment in reversed(ready)}
    after = {moment.rebalance_date.year - 1: moment for moment in reversed(moments)}
    possible = sorted(first.keys() & after.keys())
    if not years or not {*years} <= {*possible}:
        span = f"{possible[0]} to {possible[-1]}" if possible else "none"
        raise InputError(
            f"years {years.start} to {years.stop - 1} cannot all be tuned on; those that the prices allow, each to its "
            f"end: {span}"
        )
    begin, over = first[years[0]].as_of, after[years[-1]].as_of
    if panel.at(over) - panel.at(begin) <= config.features.horizon:
        raise InputError(f"no forecast made from {begin} on has its outcome by {over}; give more years")
    keys = tuple(features.feature_key(moment, config.features) for moment in moments)
    upto = {moment: keys[: place + 1] for place, moment in enumerate(moments)}
    return [Fold(first[year], after[year], upto[first[year]], upto[after[year]]) for year in years]


def _study(name: str, space: str, seed: int, segment: Segment, folds: list[Fold]) -> Study:
    """The study, its terms being all that every trial has in common."""
    chosen = {dimension.name for dimension in stage.space_of(space).dimensions} | {*stage.space_of(space).fixed}
    values = forms.flat(canonical(segment.parameters.forecaster))
    terms = {
        "space": stage.label(space),
        "start": folds[0].moment.rebalance_date.year,
        "end": folds[-1].moment.rebalance_date.year,
        "prices": folds[-1].until.prefix[:16],
        "parameters": {parameter: value for parameter, value in values.items() if parameter not in chosen},
        "seed": seed,
    }
    stages = (features.KEYED.code, forecast.KEYED.code, judge.KEYED.code)
    code = digest([*stages, fingerprint(stage.__name__, (stage.__name__,))])[:16]
    start, end = folds[0].moment.as_of, folds[-1].until.as_of
    return Study(name, space, seed, start, end, segment.panel.universe, terms, code)


def _check_terms(study: Study) -> None:
    """Refuse to go on with a study whose trials had other terms; warn where other code judged them."""
    done = stage.read(open_store(), study.name)
    before, terms = stage.terms(done), study.terms
    if before is not None and before != terms:
        parameters = forms.difference(before["parameters"], terms["parameters"])
        said = forms.difference(before | {"parameters": {}}, terms | {"parameters": {}}) or parameters
        raise InputError(
            f"study {study.name} has trials of other terms ({said}), which do not compare with these; give another "
            "--name, or the same terms to go on"
        )
    others = sum(row["code"] != study.code for row in done)
    if others:
        log.warning(
            "%d of %d trials were judged by other code; they may not compare: prefer another --name", others, len(done)
        )


def _search(tuning: Tuning, trials: int) -> list[Row]:
    """Run trials until there are as many as wanted; all of them."""
    store, study = open_store(), tuning.study
    done = stage.read(store, study.name)
    progress = Progress(f"tuning {study.name}", min(len(done) / trials, 1.0))
    while len(done) < trials:
        trial = stage.proposed(study, done)
        parameters = forms.merged(tuning.segment.parameters.values(), stage.config(study.space, trial.params))
        forecaster = forms.make(parameters).forecaster
        verdict = _judged(tuning, forecaster, trial)
        stage.record(store, study, trial.number, trial.params, forecaster, verdict)
        tables.compact(store)
        done = stage.read(store, study.name)
        log.info("%s", _said(done, trial.number, len(tuning.folds)))
        progress.tell(len(done) / trials, f"{len(done)} of {trials} trials")
    return done


def _judged(tuning: Tuning, forecaster: Forecaster, trial: "Trial") -> Verdict:
    """Judge one trial, year after year, as long as it may become the best."""
    steps: list[float] = []
    score, last = Score(), len(tuning.folds)
    for count, fold in enumerate(tuning.folds, 1):
        score = score.plus(_score(tuning, forecaster, fold))
        if not math.isfinite(score.mean):
            return Verdict("failed", tuple(steps), score.sessions)
        steps.append(score.mean)
        trial.report(score.mean, count)
        if count < last and trial.should_prune():
            return Verdict("pruned", tuple(steps), score.sessions)
    return Verdict("complete", tuple(steps), score.sessions)


def _score(tuning: Tuning, forecaster: Forecaster, fold: Fold) -> Score:
    """Train the fold's model, forecast its sessions, and score what followed; what is stored is not done again."""
    panel, model = tuning.segment.panel, forecast.trained_key(fold.learned[-1], forecaster)
    forecast.train_blocks(panel, (forecast.Trained(fold.moment, model),), fold.learned, forecaster)
    span = judge.span(fold.moment, fold.until, (fold.learned[-1], fold.seen[-1]), model, forecaster)
    judge.predict_sessions(panel, (span,), fold.seen, forecaster)
    return stage.score(panel, span.key, forecaster.features.horizon, tuning.study.end)


def _said(done: list[Row], number: int, years: int) -> str:
    """One line on the trial that has just ended."""
    row, best = done[number], stage.best(done)
    found = f"failed in year {len(row['steps']) + 1}: forecasts that are no numbers"
    if row["state"] == "complete":
        found = f"NLL {row['value']:.5f}"
    elif row["state"] == "pruned":
        found = f"pruned after {len(row['steps'])} of {years} years, NLL {row['steps'][-1]:.5f}"
    return f"trial {number}: {found}" + (f"; best {best['value']:.5f}, of trial {best['number']}" if best else "")
