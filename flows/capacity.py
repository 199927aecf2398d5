"""capacity: what the strategies of a scenario earn with small and large accounts. Nothing is decided."""

from typing import Any

from prefect import flow

from flows import display, lines
from flows.form import Scenario
from flows.lines import MAIN
from flows.rebalance import RUNNER, recorded
from storage import catalog
from storage.errors import NoDataError
from storage.store import Store, open_store
from tasks.capacity import BASELINE, measure_capacity


@flow(name="capacity", task_runner=RUNNER, flow_run_name="capacity {scenario}")
def capacity(scenario: Scenario = MAIN) -> dict[str, Any]:
    """Account every strategy at capitals from 1e5 to 1e9, with costs and delays that follow from the volumes."""
    if not lines.decided_dates(scenario):
        raise NoDataError(f"scenario {scenario} has decided no month yet; run `prism run` or `prism backfill` first")
    with recorded("capacity", scenario) as diary:
        line = lines.open_line(scenario, fetch=False)
        with diary.stage("capacity"):
            key = measure_capacity(line.newest.panel, scenario)
        catalog.rebuild(open_store())
    return {"scenario": scenario, "capacity": key}


def show(store: Store, scenario: str, key: str, as_json: bool) -> None:
    """Sharpe ratios by strategy and capital, and the capital at which each falls below equal weights."""
    sql = "SELECT * EXCLUDE (key, created_at) FROM raw.capacity WHERE key = ? ORDER BY strategy, capital"
    rows = display.select(store, scenario, sql, key)
    if as_json:
        display.document({"scenario": scenario, "rows": rows})
        return
    ratios = {(row["strategy"], row["capital"]): row["sharpe"] for row in rows}
    reached = {row["strategy"]: row["capacity"] for row in rows}
    capitals = sorted({capital for _, capital in ratios})
    body = [
        [name, *(_ratio(ratios[name, capital]) for capital in capitals), "" if limit is None else f"{limit:.1e}"]
        for name, limit in reached.items()
    ]
    span = f"{rows[0]['start_date']} to {rows[0]['end_date']}"
    heads = ["strategy", *(f"{capital:.0e}" for capital in capitals), "capacity"]
    display.table(body, heads, f"Sharpe ratio after costs of its size, by capital, {span}")
    display.say_line(f"\ncapacity: the capital at which it falls below {BASELINE} of the same size; empty: it does not")


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
