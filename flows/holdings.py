"""`prism holdings`: bring in what one really holds, look at it, and compare it with what was decided."""

from pathlib import Path
from typing import Annotated

import typer

from flows import positions
from flows.options import Csv, Json, MonthOption, ScenarioOption, StoreOption, app, as_date, as_day, existing_store
from storage.errors import InputError
from tasks import own_holdings

holdings_app = typer.Typer(no_args_is_help=False, rich_markup_mode=None)
app.add_typer(holdings_app, name="holdings")


@holdings_app.callback(invoke_without_command=True)
def holdings(
    context: typer.Context,
    against: Annotated[bool, typer.Option("--against", help="Beside the published weights: held and target.")] = False,
    month: MonthOption = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """What you hold: the newest import and the list of all; import FILE --date DATE brings another."""
    if context.invoked_subcommand:
        return
    place, wanted = existing_store(store), as_date(month)
    if against:
        positions.against(place, scenario, wanted, as_json, as_csv)
    else:
        positions.imported(place, scenario, as_json, as_csv)


@holdings_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV of what you hold: ticker, shares; $CASH in currency.")],
    day: Annotated[str, typer.Option("--date", help="The day at whose close you held this, like 2024-04-30.")],
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Keep what you held at the close of a day; the trades of the next rebalance date start from it."""
    place, when = existing_store(store), as_day(day, "--date")
    if when is None:
        raise InputError("give --date, the day at whose close you held this, like 2024-04-30")
    made, new = own_holdings.take(place, scenario, file, when)
    if as_json:
        positions.document({"holdings": made.holdings, "date": made.date, "rows": len(made.shares), "new": new})
        return
    positions.say_line(f"{len(made.shares)} holdings of {made.date} {'kept' if new else 'are known already'}")
    positions.say_line(f"holdings: {made.holdings}")
