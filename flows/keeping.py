"""Commands that keep a store in order: maintain, backup, migrate."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from flows import display
from flows.options import Json, StoreOption, app, existing_store, use_store
from storage import migrations
from storage.errors import NoDataError
from storage.store import check_place

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
def migrate(store: StoreOption = None, as_json: Json = False) -> None:
    """Bring a store that an earlier version wrote to this version's format; the old one is kept beside it."""
    root = use_store(store)
    check_place(root)
    if not root.is_dir():
        raise NoDataError(f"there is no store at {root}; name another with --store")
    made = migrations.migrate(root)
    if as_json:
        display.document({"store": root, "before": made.before, "after": made.after, "kept": made.kept})
    elif made.before == made.after and made.kept is None:
        display.say_line(f"{root} has format {made.after} already; there is nothing to do")
    else:
        display.say_line(f"{root} has format {made.after} now, copied, changed and verified")
        display.say_line(f"as it was, it is in {made.kept}; delete that when you have looked at the new one")
