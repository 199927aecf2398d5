"""rebalance: the one way in which a rebalance date is decided, whoever asks for it.

`decide_months` is what the scheduled run, a backfill and an ad-hoc run have in common: plan, fan out over the
blocks of dates, fold in date order, record. The flow `rebalance` is the ad-hoc run: other parameters become a
scenario of their own, which decides the same months as `main` has, and leaves what was published as it is.
"""

import logging
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa
from prefect import flow

from flows import lines, planning
from flows.explain import explain_dates
from flows.lines import MAIN, Line
from flows.parameters import FIXED, Parameters
from flows.planning import MonthPlan, Plan
from flows.train import train_blocks, train_elsewhere
from flows.workers import runner
from storage import catalog, clock, ledger, scenarios, tables
from storage.errors import InputError
from storage.keys import Moment, to_json
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import allocate, baselines, calendars, calibrate, decide, experts, features, forecast, gate, learn, panels
from tasks.backtest import backtest
from tasks.caching import StageKey, versions
from tasks.portfolio import judge_portfolios
from tasks.report import write_report

RUNNER = runner()
_STAGES: tuple[StageKey, ...] = (
    features.KEYED,
    forecast.KEYED,
    gate.KEYED,
    calibrate.KEYED,
    allocate.RETURN_DRAWDOWN,
    allocate.FIXED,
    allocate.OWN,
    baselines.KEYED,
    learn.KEYED,
    experts.KEYED,
    decide.KEYED,
)
log = logging.getLogger("prism.flow")


@dataclass
class Diary:
    """What a run did, for the table of runs: computed answers and seconds of each stage."""

    command: str
    scenario: str
    started: datetime = field(default_factory=clock.now)
    stages: dict[str, list[float]] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)  # dates published before: identical, or why they differ

    @contextmanager
    def stage(self, name: str, computed: int = 0) -> Iterator[None]:
        """Time a stage."""
        begin = time.monotonic()
        yield
        count, seconds = self.stages.get(name, [0, 0.0])
        self.stages[name] = [count + computed, round(seconds + time.monotonic() - begin, 3)]


@contextmanager
def recorded(command: str, scenario: str) -> Iterator[Diary]:
    """Write the run to the diary when it ends, however it ends."""
    diary, status, detail = Diary(command, scenario), "completed", ""
    try:
        yield diary
    except BaseException as error:  # a person's Ctrl-C too
        status, detail = "failed", str(error) or type(error).__name__
        raise
    finally:
        row = {"run": uuid.uuid4().hex, "command": command, "scenario": scenario, "status": status, "detail": detail}
        row |= {"started_at": diary.started, "finished_at": clock.now(), "stages": to_json(diary.stages)}
        tables.append(open_store(), "runs", pa.Table.from_pylist([row], TABLES["runs"].schema))


def decide_months(
    line: Line,
    wanted: Sequence[Moment],
    diary: Diary,
    publish: Moment | None = None,
    amend: str | None = None,
    check: Callable[[], None] | None = None,
) -> list[str]:
    """Decide the dates wanted, computing what the store lacks; the names of those that got a new record.

    The date after those wanted is looked at again where it was decided, since its trades start from theirs. With a
    reason to `amend` them, the dates wanted are published anew; raises InputError where one came out as it stands.
    `check` is called before the last date wanted is recorded, and may raise.
    """
    store = open_store()
    new: list[str] = []
    pending, dates = line.pending, [*wanted, *_successors(store, line, wanted)]
    train_elsewhere(line, dates)
    for plan in planning.make(line, dates):
        _compute(store, plan, diary)
        made = made_of(plan)
        for part in _parts(plan, wanted[-1] if check else None):
            if check and part[-1].moment == wanted[-1]:
                with diary.stage("leak check", 1):
                    check()
            if pending is not None and plan.segment.terms == pending:
                scenarios.write(store, line.scenario, pending)
                pending = None
            with diary.stage("decide", len(part)):
                months = tuple(_for_ledger(month, plan, made, publish) for month in part)
                months = tuple(replace(m, amend=amend) if m.moment in wanted else m for m in months)
                decided = decide.decide(plan.segment.panel, line.scenario, months)
                new += decided.new
                diary.published |= dict(decided.published)
    if pending is not None:  # an amendment whose dates are still to come
        scenarios.write(store, line.scenario, pending)
    tables.compact(store)
    return new


def _parts(plan: Plan, apart: Moment | None) -> list[tuple[MonthPlan, ...]]:
    """What one task decides: the dates of a year, the one that is `apart` by itself."""
    return [tuple(part) for block in plan.blocks() for _, part in groupby(block, lambda month: month.moment == apart)]


def _successors(store: Store, line: Line, wanted: Sequence[Moment]) -> list[Moment]:
    """Decided dates that follow one of the dates wanted."""
    decided, asked = ledger.current(store, line.scenario), set(wanted)
    pairs = pairwise(planning.possible(line))
    return [m for before, m in pairs if before in asked and m not in asked and m.rebalance_date in decided]


def _compute(store: Store, plan: Plan, diary: Diary) -> None:
    """Run every stage of a plan; what is stored comes back from the cache."""
    lacking, panel, parameters = planning.missing(store, plan), plan.segment.panel, plan.segment.parameters
    if plan.forecasts:
        with diary.stage("features", lacking["features"]):
            features.compute_features(panel, plan.history, parameters.features, plan.begun)
        with diary.stage("train", lacking["train"]):
            train_blocks(plan)
        with diary.stage("forecast", lacking["forecast"]):
            forecast_blocks(plan)
    if parameters.forecast.gate and plan.forecasts:
        with diary.stage("gate", lacking["gate"]):
            gates = planning.by_year([month.gate for month in plan.chain if month.gate])
            wait_for([gate.gate_forecasts.submit(panel, block, parameters.features.horizon) for block in gates])
    calibrated = planning.by_year([month.calibrated for month in plan.chain if month.calibrated])
    if calibrated:
        horizon, config = parameters.features.horizon, parameters.calibration
        with diary.stage("calibrate", lacking["calibrate"]):
            task = calibrate.calibrate_forecasts
            wait_for([task.submit(panel, block, horizon, config) for block in calibrated])
    if plan.keys.return_drawdown:
        with diary.stage("return_drawdown", lacking["return_drawdown"]):
            _return_drawdown(plan)
    moments = tuple(month.moment for month in plan.chain)
    for name, recipe in plan.strategies.recipes.items():
        with diary.stage(name, lacking[name]):
            learn.learn(panel, plan.folds, moments, recipe, parameters.rebalance)
    for name, (path, source) in plan.strategies.modules.items():
        with diary.stage(name, lacking[name]):
            forecasts = tuple(month.forecasts for month in plan.chain)
            allocate.allocate_own(panel, moments, forecasts, name, path, source)
    for name, rule in plan.strategies.optimised.items():
        with diary.stage(name, lacking[name]):
            # one after the other: the modelling library counts its variables in a global that threads would share
            for block in planning.by_year(plan.chain):
                baselines.allocate_baseline(panel, tuple(month.moment for month in block), rule)
    for name in FIXED:
        if name in plan.months[0].weights:
            with diary.stage(name, lacking[name]):
                allocate.allocate_fixed(panel, moments, name)
    if plan.keys.experts:
        with diary.stage(experts.NAME, lacking[experts.NAME]):
            experts.follow(panel, plan.keys.experts, parameters.experts, parameters.accounting)


def wait_for(futures: Sequence[Any]) -> None:
    """Wait for all of them; the first that failed raises."""
    for future in futures:
        future.result()


def forecast_blocks(plan: Plan) -> None:
    """Forecast all dates of a plan, the blocks at once."""
    segment = plan.segment
    wait_for(
        [
            forecast.forecast_months.submit(
                segment.panel,
                block,
                plan.features_to(block[-1].moment),
                segment.parameters.forecaster,
                segment.terms.dataset,
            )
            for block in planning.by_year(plan.forecasts)
        ]
    )


def _return_drawdown(plan: Plan) -> None:
    """The optimiser's dates, by year: at once, or one after the other where they form a chain."""
    panel, rule = plan.segment.panel, plan.strategies.rule
    blocks = planning.by_year(plan.keys.return_drawdown)
    if rule.is_chained:
        for block in blocks:
            allocate.allocate_return_drawdown(panel, block, rule)
    else:
        wait_for([allocate.allocate_return_drawdown.submit(panel, block, rule) for block in blocks])


def _for_ledger(month: MonthPlan, plan: Plan, made: dict[str, Any], publish: Moment | None) -> decide.Month:
    """A date as the ledger takes it, with all that it was made of."""
    return decide.Month(
        moment=month.moment,
        follows=month.follows,
        kind="published" if month.moment == publish else "backfill",
        forecasts=month.forecasts,
        model=month.forecast.model if month.forecast else None,
        weights=tuple(month.weights.items()),
        accounting=plan.segment.parameters.accounting,
        made_of=made | _trained_on(month),
        publish=plan.segment.parameters.publish,
    )


def _trained_on(month: MonthPlan) -> dict[str, Any]:
    """The device of the block's training, where another machine's was used."""
    trained = month.forecast.trained if month.forecast else None
    return {"trained_on": trained.elsewhere} if trained and trained.elsewhere else {}


def made_of(plan: Plan) -> dict[str, Any]:
    """Parameters, source hashes and library versions behind a plan's dates."""
    code = {name: value for stage in _STAGES for name, value in stage.code.items()}
    used = {name: value for stage in _STAGES for name, value in versions(stage.packages).items()}
    code |= plan.strategies.code
    terms = {"valid_from": plan.segment.terms.valid_from, "reason": plan.segment.terms.reason}
    return {"parameters": plan.segment.parameters.values(), "terms": terms, "code": code, "versions": used}


def account(line: Line, diary: Diary) -> dict[str, Any]:
    """Backtest, portfolios' judgement and report of the scenario as it now stands.

    Where the report is, and what was decided last.
    """
    store = open_store()
    with diary.stage("backtest"):
        backtest(line.newest.panel, line.scenario)
    with diary.stage("portfolio"):
        judge_portfolios(line.newest.panel, line.scenario)
    decided = ledger.current(store, line.scenario)
    newest = decided[max(decided)]
    with diary.stage("explain"):
        explain_dates(line.scenario, [newest.rebalance_date])
    with diary.stage("report"):
        path = write_report(line.scenario, line.at(newest.rebalance_date).parameters.publish)
    catalog.rebuild(store)
    return {"scenario": line.scenario, "month": newest.month, "report": path, "published": diary.published}


def publishable(line: Line, moment: Moment) -> Moment | None:
    """The moment, if deciding it now publishes it: on `main`, before the close of its rebalance date."""
    exchange = panels.load(open_store(), line.newest.panel).universe.exchange
    in_time = clock.now() < calendars.close_of(exchange, moment.rebalance_date)
    newest = moment == planning.schedule(line)[-1]
    return moment if line.scenario == MAIN and newest and in_time else None


@flow(name="rebalance", task_runner=RUNNER, flow_run_name="rebalance", timeout_seconds=12 * 3600)
def rebalance(
    parameters: Parameters | None = None, scenario: str | None = None, path: str | None = None
) -> dict[str, Any]:
    """What if the parameters were others? Decides the months that `main` has, as a scenario of its own."""
    store = open_store()
    if not lines.decided_dates(MAIN):
        raise InputError("main has decided no month yet, so there is nothing to compare with; run `prism run` first")
    wanted = lines.complete(parameters or lines.own_parameters(store, MAIN))
    name = scenario or (MAIN if wanted == lines.own_parameters(store, MAIN) else lines.whatif_name(wanted))
    with recorded("rebalance", name) as diary:
        own = scenarios.read(store, MAIN)[-1]
        shared = own.dataset if own.parameters["source"] == wanted.source else None
        line = lines.open_line(name, wanted, path, dataset=shared, fetch=shared is None or path is not None)
        new = decide_months(line, _as_main(line), diary)
        return account(line, diary) | {"decided": new}


def _as_main(line: Line) -> list[Moment]:
    """The line's dates on which, or since which and before its next one, `main` has decided."""
    decided = set(lines.decided_dates(MAIN))
    days = [moment.rebalance_date for moment in planning.schedule(lines.open_line(MAIN, fetch=False))]
    newest = [(moment, bisect_right(days, moment.rebalance_date) - 1) for moment in planning.possible(line)]
    return [moment for moment, place in newest if place >= 0 and days[place] in decided]
