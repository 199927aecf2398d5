"""The terminal's application, the options that commands share, and what becomes of them."""

import json
import os
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import parameters as forms
from flows.parameters import Parameters
from storage import scenarios
from storage.errors import InputError, NoDataError, explained
from storage.files import Place
from storage.settings import Settings
from storage.store import Store, open_store, place_of

app = typer.Typer(
    help="Which weights do I hold next, and what do I trade?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder of the store (default ./store), or s3://BUCKET/NAME.")
]
ScenarioOption = Annotated[str, typer.Option("--scenario", help="Named line of results.")]
Source = Annotated[str | None, typer.Option(help="sample, yahoo, or files with --path.")]
PathOption = Annotated[Path | None, typer.Option("--path", help="Parquet or CSV file of prices, or a folder of them.")]
UniverseOption = Annotated[
    str | None, typer.Option("--universe", help="prism109, sample20, vlstm10, multi_asset ..., or a CSV file.")
]
Index = Annotated[str | None, typer.Option(help="Ticker of the index.")]
Start = Annotated[str, typer.Option(help="First month, like 2015-01.")]
End = Annotated[str, typer.Option(help="Last month, like 2024-12.")]
ParamsFile = Annotated[Path | None, typer.Option("--params", help="TOML or JSON file of parameters, or tuned:NAME.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="One parameter: return_drawdown.alpha=0.7 (repeatable).")]
Amend = Annotated[
    str | None,
    typer.Option(help="Why parameters change after the newest decided date; to correct that date: `prism amend`."),
]
MonthOption = Annotated[
    str | None, typer.Option("--month", help="Month, or day, of the rebalance date (default: the newest).")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Csv = Annotated[bool, typer.Option("--csv", help="Comma-separated values.")]

_TUNED = "tuned:"  # in place of a file: the best trial of a study


def use_store(store: str | None) -> Place:
    """Where the store is. Settings come from the environment, here and in every worker."""
    if store is not None:
        os.environ["PRISM_STORE"] = store
    return place_of(Settings().store)


def existing_store(store: str | None) -> Store:
    """The store to read from; nothing is made."""
    root = use_store(store)
    with explained(f"looking for the store {root}"):
        there = (root / "STORE.json").exists()
    if not there:
        raise NoDataError(f"there is no store at {root}; run `prism run` first, or name another with --store")
    return open_store()


def given_values(
    source: str | None, universe: str | None, index: str | None, params: Path | None, assignments: list[str] | None
) -> dict[str, Any]:
    """The parameters given on the command line, nested."""
    values = read_params(params) if params else {}
    named = {"source": source, "universe": universe, "index": index}
    values = forms.merged(values, {name: value for name, value in named.items() if value is not None})
    for assignment in assignments or []:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {assignment!r} has no '='; write --set return_drawdown.alpha=0.7")
        values = forms.merged(values, forms.nested(name.strip(), _value(text.strip())))
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_params(path: Path) -> dict[str, Any]:
    """Parameters from a file of TOML or JSON, or `tuned:NAME`; raises InputError for one that is none."""
    if str(path).startswith(_TUNED):
        from tasks import tune

        return tune.tuned(open_store(), str(path).removeprefix(_TUNED))
    try:
        text = path.read_text()
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"parameter file {path} cannot be read ({error}); write it in TOML or JSON") from error
    if not isinstance(values, dict):
        raise InputError(f"parameter file {path} holds a {type(values).__name__}; it must name parameters and values")
    return values


def chosen_parameters(scenario: str, given: dict[str, Any]) -> Parameters | None:
    """The scenario's own parameters with those given; None where none are given."""
    from flows import lines

    store = open_store()
    _check_source(store, scenarios.checked_name(scenario), given)
    return forms.make(forms.merged(lines.own_parameters(store, scenario).values(), given)) if given else None


def _check_source(store: Store, scenario: str, given: dict[str, Any]) -> None:
    """Refuse a new scenario that would silently take other prices than `main` does."""
    main = scenarios.read(store, "main")
    if main and "source" not in given and not scenarios.read(store, scenario):
        used = main[0].parameters["source"]
        if used != Parameters().source:
            raise InputError(
                f"scenario {scenario} is new and main's prices are of source {used}; say which it takes: "
                f"--source sample, or --source {used} --path PATH"
            )


def as_day(text: str | None, option: str) -> date | None:
    """A date given as text; raises InputError for anything else."""
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r} is no date; write it as 2019-12-31") from error


def as_month(text: str | None, option: str) -> str | None:
    """A month given as text like 2019-12; raises InputError for anything else."""
    if text is not None and not re.fullmatch(forms.MONTH, text):
        raise InputError(f"{option} {text!r} is no month; write it as 2019-12")
    return text


def as_date(text: str | None, option: str = "--month") -> str | None:
    """What a decision may be named by: a month, or a day like 2019-12-31; raises InputError for anything else."""
    if text is not None and not re.fullmatch(rf"{forms.MONTH}(-\d\d)?", text):
        raise InputError(f"{option} {text!r} is neither a month nor a day; write it as 2019-12 or 2019-12-31")
    return text
