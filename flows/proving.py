"""Commands that prove: what was decided is decided again, and compared with the record."""

from typing import Annotated, Any

import typer

from flows import display
from flows.options import Json, ScenarioOption, StoreOption, app, as_date, as_month, existing_store
from storage.errors import InputError
from tasks import server


@app.command()
def replay(
    month: Annotated[str | None, typer.Argument(help="Month, like 2024-05, or day of the rebalance date.")] = None,
    start: Annotated[str | None, typer.Option(help="First month, like 2015-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Last month, like 2019-12.")] = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Decide past dates again from what was known then, and compare with the record; changes nothing."""
    existing_store(store)
    first, last = _span(month, start, end)
    with server.starting():
        from flows.replay import replay as flow

    result = flow(first, last, scenario)
    if as_json:
        display.document(result)
    else:
        _say(result)
    if result["different"]:
        raise typer.Exit(1)


def _span(month: str | None, start: str | None, end: str | None) -> tuple[str, str]:
    """First and last date asked for; InputError unless it is one month or a span of them."""
    if month is not None and start is None and end is None:
        named = as_date(month) or ""
        return named, named
    if month is not None or start is None or end is None:
        raise InputError("say what to replay: one month, like prism replay 2024-05, or --start and --end")
    first, last = as_month(start, "--start") or "", as_month(end, "--end") or ""
    if first > last:
        raise InputError(f"start {first} is after end {last}; give the earlier month first")
    return first, last


def _say(result: dict[str, Any]) -> None:
    """A line for each date with what explains it, and the total."""
    for entry in result["dates"]:
        display.say_line(f"{entry['month']}  {entry['verdict']}{_moved(entry)}")
        for change in entry["changes"]:
            display.say_line(f"    {change['field']}: {_short(change['before'])} -> {_short(change['after'])}")
        for line in [entry["note"], *entry["rows"]] if entry["verdict"] == "different" else []:
            if line:
                display.say_line(f"    {line}")
    counts = ", ".join(f"{result[name]} {name}" for name in ("identical", "explained", "different"))
    display.say_line(f"{len(result['dates'])} rebalance dates of {result['scenario']}: {counts}")


def _moved(entry: dict[str, Any]) -> str:
    """The largest change of a weight, in words."""
    found = entry["largest_change"]
    if found is None:
        return ""
    return f"; largest change of a weight {found['change']:+.2e}, {found['ticker']} in {found['strategy']}"


def _short(value: Any) -> str:
    return "not there" if value is None else str(value)[:40]
