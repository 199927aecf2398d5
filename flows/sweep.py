"""sweep: many configs of one online strategy in one batched run, each a trial of the ledger. Nothing is decided."""

from typing import Annotated, Any

from prefect import flow

from flows import lines, planning
from flows import strategies as of_scenario
from flows.form import End, Given, Name, Path, Scenario, Start, said
from flows.lines import MAIN
from flows.parameters import ONLINE
from flows.rebalance import RUNNER, recorded
from storage import catalog
from storage.errors import InputError
from storage.store import open_store
from tasks import panels
from tasks import sweep as stage
from tasks.tune import checked_name


@flow(name="sweep", task_runner=RUNNER, flow_run_name="sweep {name}")
def sweep(
    name: Name,
    strategy: Annotated[str, said("Strategy", "The online strategy whose config is varied.", enum=list(ONLINE))],
    grid: Annotated[
        dict[str, list[Any]],
        said("Grid", 'Values by name, like {"momentum": [0, 0.9], "window": [63, 126]}.'),
    ],
    start: Start,
    end: End,
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
) -> dict[str, Any]:
    """Account every combination of the grid's values over the months from `start` to `end` (like 2014-05).

    What the grid does not name is the scenario's config of the strategy. A name belongs to one grid, months, prices and
    config; asked again, what was found is shown.
    """
    checked_name(name)
    if strategy not in ONLINE:
        raise InputError(f"strategy is {strategy!r}; a sweep needs one of {', '.join(ONLINE)}")
    with recorded("sweep", scenario) as diary:
        with diary.stage("ingest"):
            line = lines.open_line(scenario, parameters, path)
        segment = line.newest
        base = segment.parameters.online[strategy]
        known = panels.load(open_store(), segment.panel)
        of_scenario.of(known, segment.parameters)  # whatever of one's own is named can be used
        moments = planning.traded(segment, planning.between(line, start, end))
        accounting, rebalance = segment.parameters.accounting, segment.parameters.schedule
        asked = stage.Sweep(
            name, strategy, base, stage.checked_grid(base, grid), accounting, segment.panel.universe, rebalance
        )
        history = tuple(
            moment
            for moment in panels.moments(open_store(), segment.panel, rebalance)
            if moment.as_of <= moments[-1].as_of
        )
        with diary.stage("sweep", len(asked.configs)):
            count = stage.run_sweep(segment.panel, history, moments, asked)
        catalog.rebuild(open_store())
        return {"scenario": scenario, "sweep": name, "trials": count}
