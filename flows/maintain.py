"""maintain: tables compacted, and what nothing refers to any more deleted. Safe beside running flows."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterEndTime

from flows.zombies import OURS, watched
from storage import catalog, pruning, tables, unfinished
from storage.settings import Settings
from storage.store import open_store
from tasks import caching

_CROWDED = 8  # files of a table above which it is compacted
_MANY = 200  # runs that the server names at once


@flow(name="maintain", timeout_seconds=4 * 3600)
@watched()
def maintain() -> dict[str, Any]:
    """Compact the tables, delete unused files that are older than the settings say, and make the catalog anew."""
    store, settings = open_store(), Settings()
    tables.compact(store, _CROWDED)
    files = tables.vacuum(store, settings.keep_unused)
    pruned = pruning.prune(store, settings.keep_unused)
    left = pruning.sweep(store, settings.keep_unused)
    unfinished.forget(store)
    records = caching.forget_older(settings.keep_records)
    runs = _forget_runs(settings.keep_records)
    catalog.rebuild(store)
    found = {"data_files": files, "blobs": pruned.blobs, "bytes_of_blobs": pruned.size, "temporaries": left}
    return found | {"records": records, "runs": runs}


def _forget_runs(days: int) -> int:
    """Delete our flow runs that ended so many days ago from Prefect's database; how many."""
    over = FlowRunFilter(end_time=FlowRunFilterEndTime(before_=datetime.now(UTC) - timedelta(days=days)))
    ours, deleted = FlowFilter(name=FlowFilterName(any_=list(OURS))), 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_filter=ours, flow_run_filter=over, limit=_MANY):
            for run in runs:
                client.delete_flow_run(run.id)
            deleted += len(runs)
    return deleted
