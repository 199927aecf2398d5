"""judge: what the forecasts of every session were worth. Nothing is decided.

The months are planned as for a backfill, however often the scenario trades, so their models are those that decide;
between two as-of dates every session is forecast by the first one's model.
"""

from itertools import pairwise
from typing import Annotated, Any

from prefect import flow

from flows import lines, planning
from flows.form import End, Given, Path, Scenario, Start, said
from flows.lines import MAIN
from flows.parameters import Parameters
from flows.planning import Plan
from flows.rebalance import RUNNER, forecast_blocks, recorded, wait_for
from flows.train import make_models
from storage import catalog
from storage.errors import InputError
from storage.store import open_store
from tasks import features, garch, panels
from tasks import judge as stage
from tasks.judge import Span


@flow(name="judge", task_runner=RUNNER, flow_run_name="judge {start} to {end}")
def judge(
    start: Start,
    end: End,
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
    with_garch: Annotated[bool, said("GARCH", "Also compare with GARCH(1,1), refitted each year.")] = False,
) -> dict[str, Any]:
    """Judge the forecasts of every session in the months from `start` to `end` (like 2015-01) on what followed.

    `with_garch` adds GARCH(1,1), refitted each year, to what they are compared with; it needs the package arch.
    """
    if with_garch:
        garch.check_installed()
    with recorded("judge", scenario) as diary:
        with diary.stage("ingest"):
            line = planning.monthly(lines.open_line(scenario, parameters, path))
        _check(line.newest.parameters)
        spans, by_garch = [], []
        with diary.stage("judge"):
            for plan in planning.make(line, planning.with_next(line, planning.between(line, start, end))):
                found = _predicted(plan)
                spans += found
                by_garch += _garch(plan, found) if with_garch else []
            if not spans:
                raise InputError(f"months {start} to {end} hold no forecast followed by another month; give later ones")
            config, panel = line.newest.parameters.features, line.newest.panel
            known = panels.moments(open_store(), panel)[-1].prefix
            produced = stage.judge_forecasts(panel, scenario, tuple(spans), tuple(by_garch), config.horizon, known)
        catalog.rebuild(open_store())
        return {"scenario": scenario, "judgement": produced.keys[0], "months": len(spans)}


def _check(parameters: Parameters) -> None:
    """Refuse what has no forecast between as-of dates."""
    if parameters.forecast.forecaster == "files":
        raise InputError(
            "forecast.forecaster is 'files', whose forecasts are of their own days only; the report judges those, and "
            "prism judge needs a forecaster that PRISM computes"
        )


def _predicted(plan: Plan) -> list[Span]:
    """Spans between the plan's months, all of their sessions forecast."""
    config, panel = plan.segment.parameters.forecaster, plan.segment.panel
    features.compute_features(panel, plan.history, config.features)
    make_models(plan)
    forecast_blocks(plan)
    key_of = dict(zip(plan.history, plan.features, strict=True))
    spans = [
        stage.span(one.moment, other.moment, (key_of[one.moment], key_of[other.moment]), one.model, config)
        for one, other in pairwise(plan.forecasts)
    ]
    wait_for(
        [
            stage.predict_sessions.submit(panel, block, plan.features_to(block[-1].until), config)
            for block in planning.by_year(spans)
        ]
    )
    return spans


def _garch(plan: Plan, spans: list[Span]) -> list[str]:
    """Keys of the GARCH forecasts of the spans, computed block by block."""
    config, blocks = plan.segment.parameters.features, planning.by_year(spans)
    wait_for([stage.garch_sessions.submit(plan.segment.panel, block, config) for block in blocks])
    return [stage.garch_key(block, config) for block in blocks]
