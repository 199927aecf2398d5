"""report: the report of what is decided, written again, with its artifacts."""

from typing import Any

from prefect import flow

from flows.lines import MAIN
from flows.zombies import watched
from storage import ledger
from storage.errors import NoDataError
from storage.store import open_store
from tasks.report import write_report


@flow(name="report", flow_run_name="report {scenario}", timeout_seconds=3600)
@watched()
def report(scenario: str = MAIN) -> dict[str, Any]:
    """Write the report of a scenario as it now stands; where it is."""
    decided = ledger.current(open_store(), scenario)
    if not decided:
        raise NoDataError(f"scenario {scenario} has decided nothing to report; run `prism run` first")
    published = decided[max(decided)].record["parameters"]["publish"]
    return {"scenario": scenario, "report": write_report(scenario, published)}
