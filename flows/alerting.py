"""`prism alerts`: who is told what happened."""

from typing import Annotated

import typer

from flows import display
from flows.options import Json, app

alerts_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Notifications of a Prefect server.")
app.add_typer(alerts_app, name="alerts")


@alerts_app.callback()
def alerts() -> None:
    """Tell somebody of success, failure, late runs, stale data and degraded results."""


@alerts_app.command("install")
def install(
    block: Annotated[str, typer.Option(help="Notification block of the Prefect server, TYPE/NAME.")],
    as_json: Json = False,
) -> None:
    """Create the automations, or bring those that are there up to date."""
    from flows import alerts as automations

    display.say({"installed": ", ".join(automations.install(block))}, as_json)
