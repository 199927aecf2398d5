"""monthly_rebalance: the scheduled run. Newest prices in; weights, trades, backtest and report out.

Decides the newest rebalance date, after filling those missing in the last `months`. On `main`, before the close of
that date, this publishes it. It is for whoever trades each quarter or every session too.
A run that comes late fills what was missed and publishes the newest date only.
"""

from datetime import date
from typing import Any

from prefect import flow

from flows import freshness, leak, lines, planning
from flows.lines import MAIN
from flows.parameters import Parameters
from flows.rebalance import RUNNER, account, decide_months, publishable, recorded
from storage import clock

MONTHS = 36


@flow(name="monthly_rebalance", task_runner=RUNNER, flow_run_name="monthly {scenario}", timeout_seconds=12 * 3600)
def monthly_rebalance(
    scenario: str = MAIN,
    parameters: Parameters | None = None,
    path: str | None = None,
    as_of: date | None = None,
    months: int = MONTHS,
    amend: str | None = None,
    due: bool = False,
) -> dict[str, Any]:
    """Decide the newest rebalance date, or the one of the latest as-of date up to `as_of`.

    `due`, as a schedule asks, fails where the prices do not reach the session that a decision is due on; those of a
    live source always must, without `as_of`.
    """
    with recorded("run", scenario) as diary:
        with diary.stage("ingest"):
            line = lines.open_line(scenario, parameters, path, amend)
        wanted = planning.last_months(planning.up_to(line, as_of, clock.now().date()), months)
        source = line.newest.parameters.source
        freshness.check(line, wanted[-1], as_of is None and (source == "yahoo" or (due and source != "sample")))
        new = decide_months(line, wanted, diary, publishable(line, wanted[-1]), check=leak.guard(line, wanted[-1]))
        return account(line, diary) | {"decided": new, "asked": wanted[-1].month}
