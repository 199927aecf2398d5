"""monthly_rebalance: the scheduled run. Newest prices in; weights, trades, backtest and report out.

Decides the newest rebalance date, after filling those missing in the last `months`. On `main`, before the close of
that date, this publishes it, or holds it where a person had to approve and did not (`flows.publishing`). A run that
comes late fills what was missed and publishes the newest date only. It is for whoever trades each quarter or every
session too.
"""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import freshness, heartbeat, leak, lines, notices, planning, publishing, unchanged
from flows.endings import in_words, worded
from flows.form import Amend, AsOf, Due, Given, Months, Path, Scenario, said
from flows.lines import MAIN
from flows.publishing import Answer
from flows.rebalance import RUNNER, account, decide_months, publishable, recorded
from storage import clock
from storage.store import open_store

MONTHS = 36


@flow(name="monthly_rebalance", task_runner=RUNNER, flow_run_name="monthly {scenario}", timeout_seconds=12 * 3600)
@in_words
def monthly_rebalance(
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
    as_of: AsOf = None,
    months: Months = MONTHS,
    amend: Amend = None,
    answer: Annotated[
        Answer | None, said("Answer", "In advance, where what is to be published needs a person's approval.")
    ] = None,
    due: Due = False,
) -> State[dict[str, Any]]:
    """Decide the newest rebalance date, or the one of the latest as-of date up to `as_of`.

    `answer`: a person's, where what is to be published needs one. `due`, as a schedule asks, fails where the prices do
    not reach the session that a decision is due on; those of a live source always must, without `as_of`. The state
    says what came of it: Completed, Held, or Degraded where something is second best, newly left out, or too late.
    """
    with recorded("run", scenario) as diary:
        with diary.stage("ingest"):
            line = lines.open_line(scenario, parameters, path, amend)
        question = unchanged.ask(line, "run", as_of, months)
        known = unchanged.find(question)
        wanted = () if known else planning.last_months(planning.up_to(line, as_of, clock.now().date()), months)
        newest, source = known.newest if known else wanted[-1], line.newest.parameters.source
        freshness.check(line, newest, as_of is None and (source == "yahoo" or (due and source != "sample")))
        if known:
            result = unchanged.again(line, known, diary)
        else:
            publish = None if publishing.is_past(line, newest, due) else publishable(line, newest)
            settle = publishing.gate(line, newest, answer, due) if publish else None
            new = decide_months(line, wanted, diary, publish, check=leak.guard(line, newest), settle=settle)
            result = account(line, diary) | {"decided": new, "asked": newest.month}
            if settle is None:
                unchanged.keep(question, wanted, result, diary)
    heartbeat.beat()
    words = notices.state(open_store(), scenario, newest.rebalance_date)
    return Completed(data=result, name=words["name"], message=f"{words['message']}\n{worded(result, diary)}")
