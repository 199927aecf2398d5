"""ingest_prices: bring a source's newest prices into the store, and nothing else."""

from typing import Any

from prefect import flow

from flows import lines
from flows.lines import MAIN
from flows.parameters import Parameters
from storage import catalog
from storage.store import open_store


@flow(name="ingest_prices", flow_run_name="ingest {scenario}")
def ingest_prices(
    scenario: str = MAIN, parameters: Parameters | None = None, path: str | None = None
) -> dict[str, Any]:
    """Fetch, compare with what is known, and take a snapshot; its id."""
    line = lines.open_line(scenario, parameters, path)
    catalog.rebuild(open_store())
    return {"scenario": scenario, "snapshot": line.newest.panel.snapshot}
