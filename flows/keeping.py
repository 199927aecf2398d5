"""Commands that keep a store in order: maintain, backup."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from flows import display
from flows.options import Json, StoreOption, app, existing_store

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
