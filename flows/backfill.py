"""backfill: the same rebalance over past dates. Stop it, run it again, it goes on."""

from typing import Any

from prefect import flow

from flows import leak, lines, planning
from flows.lines import MAIN
from flows.parameters import Parameters
from flows.rebalance import RUNNER, account, decide_months, recorded


@flow(name="backfill", task_runner=RUNNER, flow_run_name="backfill {start} to {end}", timeout_seconds=48 * 3600)
def backfill(
    start: str,
    end: str,
    scenario: str = MAIN,
    parameters: Parameters | None = None,
    path: str | None = None,
    amend: str | None = None,
) -> dict[str, Any]:
    """Decide every rebalance date in the months from `start` to `end` (like 2015-01)."""
    with recorded("backfill", scenario) as diary:
        with diary.stage("ingest"):
            line = lines.open_line(scenario, parameters, path, amend)
        wanted = planning.between(line, start, end)
        new = decide_months(line, wanted, diary, check=leak.guard(line, wanted[-1]))
        return account(line, diary) | {"decided": new, "asked": wanted[-1].month}
