"""backfill: the same rebalance over past dates. Stop it, run it again, it goes on."""

from typing import Any

from prefect import flow

from flows import artifacts, leak, lines, outlook, planning, unchanged
from flows.endings import completed, in_words
from flows.form import Amend, End, Given, Path, Scenario, Start
from flows.lines import MAIN
from flows.rebalance import RUNNER, account, decide_months, recorded


@flow(name="backfill", task_runner=RUNNER, flow_run_name="backfill {start} to {end}", timeout_seconds=48 * 3600)
@in_words
def backfill(
    start: Start,
    end: End,
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
    amend: Amend = None,
) -> dict[str, Any]:
    """Decide every rebalance date in the months from `start` to `end` (like 2015-01), after showing the plan."""
    with recorded("backfill", scenario) as diary:
        with diary.stage("ingest"):
            line = lines.open_line(scenario, parameters, path, amend)
        question = unchanged.ask(line, "backfill", start, end)
        if (known := unchanged.find(question)) is not None:
            artifacts.show("plan", scenario, lambda: unchanged.plan(known))
            return completed(unchanged.again(line, known, diary), diary)
        wanted = planning.between(line, start, end)
        with diary.stage("plan"):
            artifacts.show("plan", scenario, lambda: outlook.ahead(line, wanted).markdown())
        new = decide_months(line, wanted, diary, check=leak.guard(line, wanted[-1]))
        result = account(line, diary) | {"decided": new, "asked": wanted[-1].month}
        unchanged.keep(question, wanted, result, diary)
        return completed(result, diary)
