"""monthly_rebalance: the scheduled run. Newest prices in; weights, trades, backtest and report out.

Decides the newest rebalance date, after filling those missing in the last `months`. On `main`, before the close of
that date, this publishes it. It is for whoever trades each quarter or every session too.
"""

from typing import Any

from prefect import flow

from flows import leak, lines, planning
from flows.endings import completed, in_words
from flows.form import Amend, AsOf, Given, Months, Path, Scenario
from flows.lines import MAIN
from flows.rebalance import RUNNER, account, decide_months, publishable, recorded
from storage import clock

MONTHS = 36


@flow(name="monthly_rebalance", task_runner=RUNNER, flow_run_name="monthly {scenario}")
@in_words
def monthly_rebalance(
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
    as_of: AsOf = None,
    months: Months = MONTHS,
    amend: Amend = None,
) -> dict[str, Any]:
    """Decide the newest rebalance date, or the one of the latest as-of date up to `as_of`."""
    with recorded("run", scenario) as diary:
        with diary.stage("ingest"):
            line = lines.open_line(scenario, parameters, path, amend)
        wanted = planning.last_months(planning.up_to(line, as_of, clock.now().date()), months)
        new = decide_months(line, wanted, diary, publishable(line, wanted[-1]), check=leak.guard(line, wanted[-1]))
        return completed(account(line, diary) | {"decided": new, "asked": wanted[-1].month}, diary)
