"""amend: a decided month, published anew as code and prices decide it now. Nothing is edited: a record is appended."""

from typing import Any

from prefect import flow

from flows import lines, planning
from flows.lines import MAIN, Line
from flows.rebalance import RUNNER, account, decide_months, recorded
from storage import ledger
from storage.errors import InputError
from storage.keys import Moment
from storage.store import open_store


@flow(name="amend", task_runner=RUNNER, flow_run_name="amend {month}")
def amend(month: str, reason: str, scenario: str = MAIN, path: str | None = None) -> dict[str, Any]:
    """Append a correcting record for a decided month (like 2024-05), or refuse where nothing would change.

    The month after it is looked at again: its trades start from the amended weights.
    """
    if scenario != MAIN:
        raise InputError(
            f"scenario {scenario} publishes nothing, so there is nothing to amend; `prism backfill` decides its months "
            "anew where they changed"
        )
    if not reason.strip():
        raise InputError("an amendment needs a reason for the ledger; give --reason with a few words")
    with recorded("amend", scenario) as diary:
        with diary.stage("ingest"):
            line = lines.open_line(scenario, path=path)
        wanted = _decided(line, month)
        new = decide_months(line, [wanted], diary, amend=reason.strip())
        made = ledger.current(open_store(), scenario)[wanted.rebalance_date]
        said = {"asked": wanted.month, "revision": made.revision, "reason": made.reason}
        return account(line, diary) | {"decided": new, **said}


def _decided(line: Line, month: str) -> Moment:
    """The one decided moment that a month or a day names."""
    decided = set(lines.decided_dates(line.scenario))
    named = [moment for moment in planning.possible(line) if f"{moment.rebalance_date}".startswith(month)]
    found = [moment for moment in named if moment.rebalance_date in decided]
    if len(found) > 1:
        raise InputError(f"{month} has {len(found)} decided dates; name one of them by its day, like {found[0].month}")
    if not found:
        raise InputError(
            f"scenario {line.scenario} has not decided {month}, so there is nothing to amend; "
            f"`prism backfill --start {month[:7]} --end {month[:7]}` decides it"
        )
    return found[0]
