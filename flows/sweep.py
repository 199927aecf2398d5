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

MOST_LEVELS = 10_000  # of a range


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
        accounting, rebalance = segment.parameters.accounting, segment.parameters.rebalance
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


def levels(text: str) -> list[Any]:
    """The values of `a,b,c` or of a range `low:high:count`, on a logarithmic scale with `:log` behind it.

    InputError for anything else.
    """
    low, *rest = text.split(":")
    if not rest:
        return [_value(part.strip()) for part in text.split(",") if part.strip()]
    try:
        first, last, count = float(low), float(rest[0]), int(rest[1])
        log = rest[2:] == ["log"]
        if (rest[2:] and not log) or not 2 <= count <= MOST_LEVELS or (log and not 0 < first < last):
            raise ValueError
    except (ValueError, IndexError) as error:
        raise InputError(
            f"grid has the values {text!r}; write a,b,c or low:high:count, with :log behind it for equal ratios"
        ) from error
    if log:
        return [first * (last / first) ** (k / (count - 1)) for k in range(count)]
    return [first + (last - first) * k / (count - 1) for k in range(count)]


def _value(text: str) -> Any:
    """A number, true, false or a text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def grid_of(assignments: list[str]) -> dict[str, list[Any]]:
    """The grid of `name=values` texts. InputError for a text without `=` and for a name given twice."""
    found: dict[str, list[Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name.strip() in found:
            raise InputError(f"--grid {assignment!r} must be name=values, each name once, like momentum=0,0.5,0.8")
        found[name.strip()] = levels(text.strip())
    return found
