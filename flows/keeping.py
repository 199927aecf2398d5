"""Commands that keep a store in order: maintain, repair, backup, restore, migrate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows import display
from flows.options import Json, StoreOption, app, existing_store, use_store
from storage import backups, migrations
from storage.errors import NoDataError
from tasks import server


@app.command()
def maintain(store: StoreOption = None, as_json: Json = False) -> None:
    """Compact the tables and delete what nothing refers to any more; safe beside running flows."""
    existing_store(store)
    with server.starting():
        from flows.maintain import maintain as flow

    display.say(flow(), as_json)


@app.command()
def repair(store: StoreOption = None, as_json: Json = False) -> None:
    """Mend a damaged store, compute again what can be; no run may be at work. Exit code 1 where something is lost."""
    existing_store(store)
    with server.starting():
        from flows.repair import repair as flow

    found = flow()
    if as_json:
        display.document(found)
    else:
        _say(found)
    if found["lost"] or found["failed"]:
        raise typer.Exit(1)


def _say(found: dict[str, Any]) -> None:
    """What was mended, what was computed again, and what is lost."""
    for line in found["mended"]:
        display.say_line(f"mended: {line}")
    for scenario, months in found["computed"].items():
        display.say_line(f"computed again: {', '.join(months) or 'no date'} of {scenario}, and its backtest")
    for scenario, said in found["failed"].items():
        display.say_line(f"not computed: {scenario}: {said}")
    for entry in found["lost"]:
        display.say_line(f"lost: {entry['place']} {entry['said']}; {entry['remedy']}")
    kept = f"; what was damaged is kept in {found['aside']}" if found["aside"] else ", nothing is damaged"
    display.say_line(f"{len(found['mended'])} mended, {len(found['lost'])} lost{kept}")


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
    with server.starting():
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


@app.command()
def migrate(store: StoreOption = None, as_json: Json = False) -> None:
    """Bring a store that an earlier version wrote to this version's format; the old one is kept beside it."""
    root = use_store(store)
    if isinstance(root, Path) and not root.is_dir():
        raise NoDataError(f"there is no store at {root}; name another with --store")
    made = migrations.migrate(root)
    if as_json:
        display.document({"store": str(root), "before": made.before, "after": made.after, "kept": made.kept})
    elif made.before == made.after and made.kept is None:
        display.say_line(f"{root} has format {made.after} already; there is nothing to do")
    else:
        display.say_line(f"{root} has format {made.after} now, copied, changed and verified")
        display.say_line(f"as it was, it is in {made.kept}; delete that when you have looked at the new one")
