"""train-forecaster: the trained model of each block of months, on its own.

The other flows train what they need by the same function. Where PRISM_TRAIN_DEPLOYMENT names a deployment of this flow
they send their trainings there first, to a machine made for it that has the same store. What they get back is in the
store under its key or is not there; then they train it themselves, and say so.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from flows import lines, planning
from flows import parameters as forms
from flows.form import End, Given, Path, Scenario, Start, said
from flows.lines import MAIN, Line, Segment
from flows.parameters import Parameters
from flows.planning import Plan
from flows.workers import runner
from flows.zombies import watched
from storage import clock, snapshots, tables
from storage.errors import InputError
from storage.keys import Moment, PanelKey, digest
from storage.scenarios import FROM_THE_START, Terms
from storage.settings import Settings
from storage.store import open_store
from tasks import features, forecast, server
from tasks.forecast import Trained

log = logging.getLogger("prism.flow")


def make_models(plan: Plan) -> None:
    """The trained models of a plan; on an accelerator the refreshed ones, too, which otherwise the forecasts make."""
    train_blocks(plan)
    months = tuple(month for month in plan.forecasts if month.model and month.trained)
    if months and forecast.is_at_once():
        config = plan.segment.parameters.forecaster
        forecast.refresh_models(plan.segment.panel, months, plan.features_to(months[-1].moment), config)


def train_blocks(plan: Plan) -> list[str]:
    """Train the blocks of a plan that have no model yet, all at once; the keys of their models."""
    blocks = _blocks(plan)
    _train(plan, blocks)
    return [block.key for block in blocks]


def _train(plan: Plan, blocks: Sequence[Trained]) -> None:
    """Train blocks, each in a task of its own, or all in one where the device takes them at once."""
    panel, config = plan.segment.panel, plan.segment.parameters.forecaster
    parts = [tuple(blocks)] if blocks and forecast.is_at_once() else [(block,) for block in blocks]
    futures = [forecast.train_blocks.submit(panel, part, plan.features_to(part[-1].moment), config) for part in parts]
    for future in futures:
        future.result()


def _blocks(plan: Plan) -> list[Trained]:
    return list(dict.fromkeys(month.trained for month in plan.forecasts if month.trained))


@flow(
    name="train-forecaster",
    task_runner=runner(),
    flow_run_name="train {start} to {end}",
    timeout_seconds=86_400,
)
@watched()
def train_forecaster(
    start: Start,
    end: End,
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
    panel: Annotated[
        PanelKey | None, said("Panel", "Stored prices to train on, as another run names them; None: the newest.")
    ] = None,
) -> dict[str, Any]:
    """Train the models that the months from `start` to `end` (like 2024-05) need; nothing is decided.

    `panel` names stored prices to train on, as another run does that sends its trainings here; by default the newest
    ones are brought in.
    """
    line = lines.open_line(scenario, parameters, path) if panel is None else _line_of(panel, parameters)
    line, models = planning.monthly(line), []
    for plan in planning.make(line, planning.between(line, start, end)):
        features.compute_features(plan.segment.panel, plan.history, plan.segment.parameters.features)
        models += train_blocks(plan)
    return {"scenario": scenario, "models": models}


def _line_of(panel: PanelKey, given: Given) -> Line:
    """A line of these prices and parameters that belongs to no scenario."""
    parameters = forms.over(Parameters(), given)
    dataset = snapshots.load(open_store(), panel.snapshot).dataset
    terms = Terms(dataset, panel.universe, parameters.values(), FROM_THE_START, None)
    return Line("", (Segment(terms, parameters, panel),), None)


def train_elsewhere(line: Line, dates: Sequence[Moment]) -> None:
    """Send the trainings that the dates of a line lack to the deployment of the settings; nothing where it names none.

    Afterwards a plan of the dates lacks no model: what did not come back is trained here, on this process's device.
    Raises InputError where there is no server to send anything to.
    """
    settings = Settings()
    if not settings.train_deployment:
        return
    if not server.lasts():
        raise InputError(
            f"PRISM_TRAIN_DEPLOYMENT={settings.train_deployment} needs a Prefect server; set PREFECT_API_URL, or leave "
            "the deployment out"
        )
    for plan in planning.make(line, dates):
        lacking = _lacking(plan)
        if lacking:
            said = _send(settings, plan, lacking)
            left = _lacking(plan)
            if left:
                log.warning("training: %s; %d blocks are trained on this machine", said, len(left))
                _train_here(plan, left)


def _lacking(plan: Plan) -> list[Trained]:
    """Blocks without a model."""
    blocks = _blocks(plan)
    there = tables.existing(open_store(), "models", [block.key for block in blocks])
    return [block for block in blocks if block.key not in there]


def _train_here(plan: Plan, blocks: Sequence[Trained]) -> None:
    """Train blocks under the keys of this process's own device."""
    config, segment = plan.segment.parameters.forecaster, plan.segment
    features.compute_features(segment.panel, plan.history, config.features)
    _train(plan, [Trained(b.moment, forecast.trained_key(plan.features_to(b.moment)[-1], config)) for b in blocks])


def _send(settings: Settings, plan: Plan, lacking: Sequence[Trained]) -> str:
    """Have the blocks trained by the deployment; where that did not come off, why, as the beginning of a sentence.

    Equal requests are one run of the deployment. Where that one had failed before, the next attempt is another.
    """
    name, panel, began = settings.train_deployment, plan.segment.panel, clock.now()
    months = sorted(f"{block.moment.rebalance_date:%Y-%m}" for block in lacking)
    asked = {
        "start": months[0],
        "end": months[-1],
        "parameters": plan.segment.parameters.model_dump(mode="json"),
        "panel": {"snapshot": panel.snapshot, "universe": panel.universe},
    }
    request = digest(sorted(block.key for block in lacking))
    log.info("training: %s to %s are sent to %s", months[0], months[-1], name)
    attempt, run = 0, None
    while run is None or _is_of_before(run, began):
        try:
            run = _asked(settings, asked, f"train:{request}:{attempt}")
        except ObjectNotFound:
            return f"the deployment {name} is not on the server"
        attempt += 1
    if run.state is not None and run.state.is_final():
        return f"the run {run.name} of {name} is {run.state.name} and left no models"
    _cancel(run)
    return f"{name} did not do it in time"


def _asked(settings: Settings, parameters: dict[str, Any], key: str) -> FlowRun:
    """The deployment's run when it has ended or its time is over; one that has not begun gets less of it."""
    name = settings.train_deployment
    run = run_deployment(name, parameters=parameters, timeout=settings.train_wait, idempotency_key=key)
    if run.state is None or not run.state.is_running():
        return run
    return run_deployment(name, timeout=settings.train_timeout, idempotency_key=key, as_subflow=False)


def _is_of_before(run: FlowRun, began: datetime) -> bool:
    """Whether the run had ended, without what is asked for now, before it was asked for."""
    return run.end_time is not None and run.end_time.astimezone(UTC).replace(tzinfo=None) < began


def _cancel(run: FlowRun) -> None:
    """Have nobody begin it, or go on with it, any more."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Cancelling(), force=True)
