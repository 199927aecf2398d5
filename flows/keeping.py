"""Commands that keep a store in order: maintain, backup, restore."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from flows import display
from flows.options import Json, StoreOption, app, existing_store, use_store
from storage import backups

log = logging.getLogger("prism.cli")


@app.command()
def maintain(store: StoreOption = None, as_json: Json = False) -> None:
    """Compact the tables and delete what nothing refers to any more; safe beside running flows."""
    existing_store(store)
    log.info("starting Prefect")
    from flows.maintain import maintain as flow

    display.say(flow(), as_json)


@app.command()
def backup(
    folder: Annotated[
        Path | None, typer.Argument(help="Where the copy's new folder is made (default: PRISM_BACKUPS, or beside it).")
    ] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Copy the store, as it is at this moment, into a new folder, and verify the copy."""
    existing_store(store)
    log.info("starting Prefect")
    from flows.backup import backup as flow

    display.say(flow(str(folder) if folder else None), as_json)


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="Folder of the backup, or of any store that nothing writes to.")],
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Make a store of a backup where there is nothing yet, in a folder or on S3, and verify it."""
    root = use_store(store)
    backups.restore(backup.expanduser().absolute(), root)
    display.say({"store": str(root)}, as_json)
