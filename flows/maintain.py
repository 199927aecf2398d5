"""maintain: tables compacted, and what nothing refers to any more deleted. Safe beside running flows."""

from typing import Any

from prefect import flow

from flows.zombies import watched
from storage import catalog, pruning, tables
from storage.settings import Settings
from storage.store import open_store
from tasks import caching

_CROWDED = 8  # files of a table above which it is compacted


@flow(name="maintain", timeout_seconds=4 * 3600)
@watched()
def maintain() -> dict[str, Any]:
    """Compact the tables, delete unused files that are older than the settings say, and make the catalog anew."""
    store, settings = open_store(), Settings()
    tables.compact(store, _CROWDED)
    files = tables.vacuum(store, settings.keep_unused)
    pruned = pruning.prune(store, settings.keep_unused)
    left = pruning.sweep(store, settings.keep_unused)
    records = caching.forget_older(settings.keep_records)
    catalog.rebuild(store)
    found = {"data_files": files, "blobs": pruned.blobs, "bytes_of_blobs": pruned.size, "temporaries": left}
    return found | {"records": records}
