"""`prism ...`: the flows for a terminal, and the views of the store.

Results go to standard output, progress and errors to standard error. Exit code 0: done; 1: failed; 2: what was
asked for cannot be done as asked, with a sentence that names the value, the rule and the next step.
"""

import json
import logging
import os
import re
import sys
import tomllib
import webbrowser
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import display, prices
from flows import parameters as forms
from flows.parameters import Parameters
from storage import catalog, scenarios
from storage.errors import InputError, NoDataError, PrismError
from storage.settings import Settings
from storage.store import Store, open_store

log = logging.getLogger("prism.cli")
app = typer.Typer(
    help="Which weights do I hold next month, and what do I trade?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[Path | None, typer.Option("--store", help="Folder of the store (default ./store).")]
ScenarioOption = Annotated[str, typer.Option("--scenario", help="Named line of results.")]
Source = Annotated[str | None, typer.Option(help="sample, yahoo, or files with --path.")]
PathOption = Annotated[Path | None, typer.Option("--path", help="Parquet or CSV file of prices, or a folder of them.")]
UniverseOption = Annotated[
    str | None, typer.Option("--universe", help="prism109, sample20, vlstm10, multi_asset ..., or a CSV file.")
]
Index = Annotated[str | None, typer.Option(help="Ticker of the index.")]
ParamsFile = Annotated[Path | None, typer.Option("--params", help="TOML or JSON file of parameters.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="One parameter: return_drawdown.alpha=0.7 (repeatable).")]
Amend = Annotated[str | None, typer.Option(help="Change the months after the newest decided one, for this reason.")]
MonthOption = Annotated[str | None, typer.Option("--month", help="Month of the rebalance date (default: the newest).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Csv = Annotated[bool, typer.Option("--csv", help="Comma-separated values.")]


def main() -> None:
    """Run a command; every error that PRISM raises on purpose is one sentence."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # Prefect's tracebacks; PRISM's own lines stay
    _show_progress()
    try:
        app(standalone_mode=True)
    except PrismError as error:
        sys.stderr.write(f"prism: {error}\n")
        sys.exit(2 if isinstance(error, (InputError, NoDataError)) else 1)
    except KeyboardInterrupt:
        sys.stderr.write("prism: stopped; run the same command again and it goes on\n")
        sys.exit(1)
    finally:
        logging.getLogger("prism").handlers.clear()


def _show_progress() -> None:
    """PRISM's own log, a line each, on standard error."""
    handler, log = logging.StreamHandler(), logging.getLogger("prism")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    log.handlers, log.propagate = [handler], False  # Prefect's handler of the root would print each line again
    log.setLevel(logging.INFO)


def _place(store: Path | None) -> None:
    """Settings come from the environment, here and in every worker."""
    if store is not None:
        os.environ["PRISM_STORE"] = str(store)


def _existing(store: Path | None) -> Store:
    """The store to read from; nothing is made."""
    _place(store)
    root = Settings().store.expanduser()
    if not (root / "STORE.json").exists():
        raise NoDataError(
            f"there is no store at {root.absolute()}; run `prism run` first, or name another with --store"
        )
    return open_store()


def _given(
    source: str | None, universe: str | None, index: str | None, params: Path | None, assignments: list[str] | None
) -> dict[str, Any]:
    """The parameters given on the command line, nested."""
    values = _read_params(params) if params else {}
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
    except ValueError:
        return text


def _read_params(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"parameter file {path} cannot be read ({error}); write it in TOML or JSON") from error
    if not isinstance(values, dict):
        raise InputError(f"parameter file {path} holds a {type(values).__name__}; it must name parameters and values")
    return values


def _parameters(scenario: str, given: dict[str, Any]) -> Parameters | None:
    """The scenario's own parameters with those given; None where none are given."""
    from flows import lines

    store = open_store()
    _check_source(store, scenario, given)
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


def _day(text: str | None, option: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r} is no date; write it as 2019-12-31") from error


def _month(text: str | None, option: str) -> str | None:
    if text is not None and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text):
        raise InputError(f"{option} {text!r} is no month; write it as 2019-12")
    return text


@app.command()
def run(
    source: Source = None,
    path: PathOption = None,
    universe: UniverseOption = None,
    index: Index = None,
    as_of: Annotated[str | None, typer.Option(help="Decide with what was known up to this date.")] = None,
    months: Annotated[int, typer.Option(min=1, help="Also fill the months missing among the last N.")] = 36,
    params: ParamsFile = None,
    assignments: Set = None,
    amend: Amend = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Decide the newest month: weights, trades, backtest and report."""
    _place(store)
    day = _day(as_of, "--as-of")
    parameters = _parameters(scenario, _given(source, universe, index, params, assignments))
    log.info("starting Prefect")
    from flows.monthly import monthly_rebalance

    result = monthly_rebalance(scenario, parameters, str(path) if path else None, day, months, amend)
    display.outcome(open_store(), scenario, result, result["asked"], as_json)


@app.command()
def backfill(
    start: Annotated[str, typer.Option(help="First month, like 2015-01.")],
    end: Annotated[str, typer.Option(help="Last month, like 2024-12.")],
    source: Source = None,
    path: PathOption = None,
    universe: UniverseOption = None,
    index: Index = None,
    params: ParamsFile = None,
    assignments: Set = None,
    amend: Amend = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Decide past months; stop it, run it again, it goes on."""
    _place(store)
    _month(start, "--start"), _month(end, "--end")
    parameters = _parameters(scenario, _given(source, universe, index, params, assignments))
    log.info("starting Prefect")
    from flows.backfill import backfill as flow

    result = flow(start, end, scenario, parameters, str(path) if path else None, amend)
    display.outcome(open_store(), scenario, result, end, as_json)


@app.command()
def ingest(
    source: Source = None,
    path: PathOption = None,
    universe: UniverseOption = None,
    index: Index = None,
    params: ParamsFile = None,
    assignments: Set = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="Take this ticker in spite of what the gate found (repeatable).")
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(help="File of returns: a date column, one for each rate or factor.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Of --rates: percent or fraction, a session.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what is understood and what is refused; store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Bring prices, or rates, into the store, or look at what would be."""
    _place(store)
    given = _given(source, universe, index, params, assignments)
    files = [str(name) if name else None for name in (path, rates)]
    if dry_run:
        prices.delivery(forms.make(given), files[0], tuple(accept or ()), as_json)
        return
    log.info("starting Prefect")
    from flows.ingest import ingest_prices

    result = ingest_prices(scenario, _parameters(scenario, given), files[0], tuple(accept or ()), files[1], unit)
    prices.ingested(result, as_json)


@app.command()
def doctor(store: StoreOption = None, as_json: Json = False) -> None:
    """What is stored, since when, what is missing, waiting or stale; and the settings, with their origin."""
    prices.health(_existing(store), as_json)


@app.command()
def plan(
    start: Annotated[str | None, typer.Option(help="First month (default: the last 36).")] = None,
    end: Annotated[str | None, typer.Option(help="Last month.")] = None,
    months: Annotated[int, typer.Option(min=1, help="Months to look at, without --start.")] = 36,
    source: Source = None,
    universe: UniverseOption = None,
    index: Index = None,
    params: ParamsFile = None,
    assignments: Set = None,
    amend: Amend = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """What would be computed, why, and how long it takes; runs nothing."""
    _existing(store)
    from flows.outlook import outlook

    span = (_month(start, "--start") if start else None, _month(end, "--end") if end else None)
    parameters = _parameters(scenario, _given(source, universe, index, params, assignments))
    display.plan(outlook(scenario, parameters, amend, *span, months), as_json)


@app.command()
def weights(
    month: MonthOption = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Weights of every strategy for a month."""
    place = _existing(store)
    display.weights(place, scenario, _month(month, "--month"), as_json, as_csv)


@app.command()
def trades(
    month: MonthOption = None,
    holdings: Annotated[
        Path | None, typer.Option(help="CSV of what you hold: ticker, shares; $CASH in currency.")
    ] = None,
    capital: Annotated[float | None, typer.Option(help="Value of the whole account (default: the holdings').")] = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Planned trades of a month; with --holdings or --capital the orders in shares."""
    place = _existing(store)
    wanted = _month(month, "--month")
    if holdings is None and capital is None:
        display.trades(place, scenario, wanted, as_json, as_csv)
    else:
        display.orders(place, scenario, wanted, holdings, capital, as_json, as_csv)


@app.command()
def metrics(
    scenario: ScenarioOption = "main", store: StoreOption = None, as_json: Json = False, as_csv: Csv = False
) -> None:
    """Measures of the backtest, strategy by strategy."""
    place = _existing(store)
    display.metrics(place, scenario, as_json, as_csv)


@app.command()
def forecasts(
    month: MonthOption = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Mean and volatility forecast for each asset."""
    place = _existing(store)
    display.forecasts(place, scenario, _month(month, "--month"), as_json, as_csv)


@app.command()
def report(
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Write the report of what is decided, one self-contained HTML file."""
    place = _existing(store)
    decision = display.newest(place, scenario, None)
    from tasks.report import write_report

    path = write_report.fn(scenario, display.published(place, scenario, decision["rebalance_date"]))
    display.say({"report": path}, as_json)
    if open_it:
        webbrowser.open(Path(path).as_uri())


@app.command()
def query(
    sql: str, scenario: ScenarioOption = "main", store: StoreOption = None, as_json: Json = False, as_csv: Csv = False
) -> None:
    """SQL over the store, read-only."""
    place = _existing(store)
    display.show(catalog.query(place, scenario, sql).to_pylist(), as_json, as_csv)


@app.command()
def params(as_json: Json = False) -> None:
    """Every parameter: default, range, help."""
    display.params(as_json)
