"""backup: a verified copy of the store as it is at this moment, while other flows go on."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.zombies import watched
from storage import backups
from storage.settings import Settings
from storage.store import open_store


@flow(name="backup", timeout_seconds=6 * 3600)
@watched()
def backup(folder: str | None = None) -> dict[str, Any]:
    """Copy the store into a new folder inside `folder` (default: PRISM_BACKUPS, or beside the store).

    The copy is a store: `prism verify --deep --store COPY` checks it, and any command reads it.
    """
    return {"backup": str(backups.take(open_store(), Path(folder) if folder else Settings().backups))}
