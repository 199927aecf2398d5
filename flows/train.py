"""train-forecaster: the trained model of each block of months, on its own.

The other flows train what they need by the same function; this flow does it ahead of them, on a machine made
for it.
"""

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows import lines, planning
from flows.lines import MAIN
from flows.parameters import Parameters
from flows.planning import Plan
from storage.settings import Settings
from tasks import features, forecast


def train_blocks(plan: Plan) -> list[str]:
    """Train the blocks of a plan that have no model yet, all at once; the keys of their models."""
    config, blocks = plan.segment.parameters.forecaster, dict.fromkeys(m.trained for m in plan.forecasts if m.trained)
    futures = [
        forecast.train_block.submit(plan.segment.panel, block.moment, block.key, plan.features_to(block.moment), config)
        for block in blocks
    ]
    for future in futures:
        future.result()
    return [block.key for block in blocks]


@flow(
    name="train-forecaster",
    task_runner=ThreadPoolTaskRunner(max_workers=Settings().workers),
    flow_run_name="train {start} to {end}",
)
def train_forecaster(
    start: str, end: str, scenario: str = MAIN, parameters: Parameters | None = None, path: str | None = None
) -> dict[str, Any]:
    """Train the models that the months from `start` to `end` (like 2024-05) need; nothing is decided."""
    line = planning.monthly(lines.open_line(scenario, parameters, path))
    models = []
    for plan in planning.make(line, planning.between(line, start, end)):
        features.compute_features(plan.segment.panel, plan.history, plan.segment.parameters.features)
        models += train_blocks(plan)
    return {"scenario": scenario, "models": models}
