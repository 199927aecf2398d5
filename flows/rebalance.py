"""rebalance: the one way in which a month is decided, whoever asks for it.

`decide_months` is what the monthly run, a backfill and an ad-hoc run have in common: plan, fan out over the
blocks of dates, fold in date order, record. The flow `rebalance` is the ad-hoc run: other parameters become a
scenario of their own, which decides the same months as `main` has, and leaves what was published as it is.
"""

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows import lines, planning
from flows.lines import MAIN, Line
from flows.parameters import Parameters
from flows.planning import MonthPlan, Plan
from flows.train import train_blocks
from storage import catalog, clock, ledger, scenarios, tables
from storage.errors import InputError
from storage.keys import Moment, to_json
from storage.schemas import TABLES
from storage.settings import Settings
from storage.store import Store, open_store
from tasks import allocate, calendars, decide, features, forecast, gate, panels
from tasks.backtest import backtest
from tasks.caching import StageKey, versions
from tasks.report import write_report

RUNNER = ThreadPoolTaskRunner(max_workers=Settings().workers)
_STAGES: tuple[StageKey, ...] = (
    features.KEYED,
    forecast.KEYED,
    gate.KEYED,
    allocate.RETURN_DRAWDOWN,
    allocate.ONLINE,
    allocate.FIXED,
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


def decide_months(line: Line, wanted: Sequence[Moment], diary: Diary, publish: Moment | None = None) -> list[str]:
    """Decide the months wanted, computing what the store lacks; those that got a new record.

    The month after those wanted is looked at again where it was decided, since its trades start from theirs.
    """
    store = open_store()
    new: list[str] = []
    pending = line.pending
    for plan in planning.make(line, [*wanted, *_successors(store, line, wanted)]):
        _compute(store, plan, diary)
        if pending is not None and plan.segment.terms == pending:
            scenarios.write(store, line.scenario, pending)
            pending = None
        with diary.stage("decide", len(plan.months)):
            for block in plan.blocks():
                months = tuple(_for_ledger(month, plan, publish) for month in block)
                new += decide.decide(plan.segment.panel, line.scenario, months)
    if pending is not None:  # an amendment whose months are still to come
        scenarios.write(store, line.scenario, pending)
    tables.compact(store)
    return new


def _successors(store: Store, line: Line, wanted: Sequence[Moment]) -> list[Moment]:
    """Decided months that follow one of the months wanted."""
    decided, following = ledger.current(store, line.scenario), dict(pairwise(planning.possible(line)))
    after = [following[moment] for moment in wanted if moment in following]
    return [moment for moment in after if moment.rebalance_date in decided and moment not in wanted]


def _compute(store: Store, plan: Plan, diary: Diary) -> None:
    """Run every stage of a plan; what is stored comes back from the cache."""
    lacking, panel, parameters = planning.missing(store, plan), plan.segment.panel, plan.segment.parameters
    if plan.forecasts:
        with diary.stage("features", lacking["features"]):
            features.compute_features(panel, plan.history, parameters.features)
        with diary.stage("train", lacking["train"]):
            train_blocks(plan)
        with diary.stage("forecast", lacking["forecast"]):
            forecast_blocks(plan)
    if parameters.forecast.gate and plan.forecasts:
        with diary.stage("gate", lacking["gate"]):
            gates = planning.by_year([month.gate for month in plan.months if month.gate])
            wait_for([gate.gate_forecasts.submit(panel, block, parameters.features.horizon) for block in gates])
    if "return_drawdown" in parameters.strategies:
        with diary.stage("return_drawdown", lacking["return_drawdown"]):
            wait_for([_return_drawdown(plan, block) for block in plan.blocks()])
    moments = tuple(month.moment for month in plan.months)
    for name, config in parameters.online.items():
        with diary.stage(name, lacking[name]):
            allocate.allocate_online(panel, plan.history, moments, name, config)
    for name in ("equal_weight", "index"):
        if name in plan.months[0].weights:
            with diary.stage(name, lacking[name]):
                allocate.allocate_fixed(panel, moments, name)


def wait_for(futures: Sequence[Any]) -> None:
    """Wait for all of them; the first that failed raises."""
    for future in futures:
        future.result()


def forecast_blocks(plan: Plan) -> None:
    """Forecast all months of a plan, the blocks at once."""
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


def _return_drawdown(plan: Plan, block: tuple[MonthPlan, ...]) -> Any:
    parameters = plan.segment.parameters
    return allocate.allocate_return_drawdown.submit(
        plan.segment.panel,
        tuple(month.moment for month in block),
        tuple(month.forecasts for month in block),
        parameters.forecast.mean_units,
        parameters.covariance,
        parameters.return_drawdown,
    )


def _for_ledger(month: MonthPlan, plan: Plan, publish: Moment | None) -> decide.Month:
    """A month as the ledger takes it, with all that it was made of."""
    return decide.Month(
        moment=month.moment,
        kind="published" if month.moment == publish else "backfill",
        forecasts=month.forecasts,
        model=month.forecast.model if month.forecast else None,
        weights=tuple(month.weights.items()),
        accounting=plan.segment.parameters.accounting,
        made_of=made_of(plan),
    )


def made_of(plan: Plan) -> dict[str, Any]:
    """Parameters, source hashes and library versions behind a plan's months."""
    code = {name: value for stage in _STAGES for name, value in stage.code.items()}
    used = {name: value for stage in _STAGES for name, value in versions(stage.packages).items()}
    terms = {"valid_from": plan.segment.terms.valid_from, "reason": plan.segment.terms.reason}
    return {"parameters": plan.segment.parameters.values(), "terms": terms, "code": code, "versions": used}


def account(line: Line, diary: Diary) -> dict[str, Any]:
    """Backtest and report of the scenario as it now stands; where the report is, and what was decided last."""
    store = open_store()
    with diary.stage("backtest"):
        backtest(line.newest.panel, line.scenario)
    newest = max(ledger.current(store, line.scenario))
    with diary.stage("report"):
        path = write_report(line.scenario, line.at(newest).parameters.publish)
    catalog.rebuild(store)
    return {"scenario": line.scenario, "month": f"{newest:%Y-%m}", "report": path}


def publishable(line: Line, moment: Moment) -> Moment | None:
    """The moment, if deciding it now publishes it: on `main`, before the close of its rebalance date."""
    exchange = panels.load(open_store(), line.newest.panel).universe.exchange
    in_time = clock.now() < calendars.close_of(exchange, moment.rebalance_date)
    newest = moment == panels.moments(open_store(), line.newest.panel)[-1]
    return moment if line.scenario == MAIN and newest and in_time else None


@flow(name="rebalance", task_runner=RUNNER, flow_run_name="rebalance")
def rebalance(
    parameters: Parameters | None = None, scenario: str | None = None, path: str | None = None
) -> dict[str, Any]:
    """What if the parameters were others? Decides the months that `main` has, as a scenario of its own."""
    store = open_store()
    decided = set(lines.months_of(MAIN))
    if not decided:
        raise InputError("main has decided no month yet, so there is nothing to compare with; run `prism run` first")
    wanted = lines.complete(parameters or lines.own_parameters(store, MAIN))
    name = scenario or (MAIN if wanted == lines.own_parameters(store, MAIN) else lines.whatif_name(wanted))
    with recorded("rebalance", name) as diary:
        own = scenarios.read(store, MAIN)[-1]
        shared = own.dataset if own.parameters["source"] == wanted.source else None
        line = lines.open_line(name, wanted, path, dataset=shared, fetch=shared is None or path is not None)
        months = [moment for moment in planning.possible(line) if moment.rebalance_date in decided]
        new = decide_months(line, months, diary)
        return account(line, diary) | {"decided": new}
