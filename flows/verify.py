"""verify: whether the store is what was written to it, on a schedule. A run that finds damage fails and names it."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.zombies import watched
from storage import verification
from storage.errors import StoreError
from storage.store import open_store


@flow(name="verify", flow_run_name="verify, deep: {deep}", timeout_seconds=12 * 3600)
@watched()
def verify(deep: bool = True) -> dict[str, Any]:
    """Compare chains, decided rows, blobs and logs, with `deep` every file, with what was written.

    Raises StoreError where something is damaged; all of it is in the artifact `damage`.
    """
    store = open_store()
    found = verification.verify(store.root, deep)
    if not found.is_whole:
        rows = [{"place": entry.place, "damage": entry.said, "remedy": entry.remedy} for entry in found.damage]
        create_table_artifact(rows, "damage", f"Damage in {store.root}")
        first = found.damage[0]
        raise StoreError(
            f"store {store.root} is damaged in {len(found.damage)} places: {first.place} {first.said}; {first.remedy}"
        )
    return {"records": found.records, "blobs": found.blobs, "files": found.files, "notes": len(found.notes)}
