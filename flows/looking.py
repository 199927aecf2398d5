"""Commands that look at what is stored: nothing is decided or changed."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from flows import display, judgements, positions, prices, verifying
from flows.options import Csv, Json, MonthOption, ScenarioOption, StoreOption, app, as_date, existing_store, use_store
from storage import catalog
from storage.settings import Settings
from storage.store import Store


@app.command()
def doctor(store: StoreOption = None, as_json: Json = False) -> None:
    """What is stored, since when, what is missing, waiting or stale; and the settings, with their origin."""
    prices.health(existing_store(store), as_json)


@app.command()
def status(
    months: Annotated[int, typer.Option(min=1, help="The last N months.")] = 36,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """How far each rebalance date has come: what is current, stale, missing, failed, degraded or published."""
    existing_store(store)
    from flows import status as flow

    grid = flow.status(scenario, months)
    display.status(*flow.cells(grid), grid, as_json)


@app.command()
def weights(
    month: MonthOption = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Weights of every strategy at a rebalance date."""
    place = existing_store(store)
    display.weights(place, scenario, as_date(month), as_json, as_csv)


@app.command()
def trades(
    month: MonthOption = None,
    holdings: Annotated[
        Path | None, typer.Option(help="CSV of what you hold: ticker, shares; $CASH in currency.")
    ] = None,
    capital: Annotated[float | None, typer.Option(help="Value of the whole account (default: the holdings').")] = None,
    shares: Annotated[bool, typer.Option("--shares", help="Orders in shares from the holdings last imported.")] = False,
    fractional: Annotated[bool, typer.Option("--fractional", help="Orders in parts of shares too.")] = False,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Planned trades of a rebalance date; with --holdings, --capital, --shares or --fractional the orders in shares.

    Orders start from the file of --holdings, else from the holdings imported last.
    """
    place = existing_store(store)
    wanted = as_date(month)
    if holdings is None and capital is None and not shares and not fractional:
        positions.trades(place, scenario, wanted, as_json, as_csv)
    else:
        positions.orders(place, scenario, wanted, holdings, capital, fractional, as_json, as_csv)


@app.command()
def metrics(
    scenario: ScenarioOption = "main", store: StoreOption = None, as_json: Json = False, as_csv: Csv = False
) -> None:
    """Measures of the backtest, strategy by strategy, and what forecasts of the portfolios were worth."""
    place = existing_store(store)
    display.metrics(place, scenario, as_json, as_csv)
    if not (as_json or as_csv):
        judgements.portfolios(place, scenario)


@app.command()
def forecasts(
    month: MonthOption = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Mean and volatility forecast for each asset."""
    place = existing_store(store)
    judgements.forecasts(place, scenario, as_date(month), as_json, as_csv)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A scenario, or a month or day of --scenario.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    month: MonthOption = None,
    strategy: Annotated[str | None, typer.Option(help="Strategy of both (default: the published ones).")] = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Two scenarios, or two months of one, side by side: parameters, weights, trades, expectations, backtests."""
    place = existing_store(store)
    from flows import compare as flow
    from flows import comparisons

    comparisons.comparison(flow.compare(place, a, b, as_date(month), scenario, strategy), as_json, as_csv)


@app.command()
def explain(
    month: Annotated[str, typer.Argument(help="Month, or day, of the rebalance date, like 2024-05.")],
    ticker: Annotated[str | None, typer.Argument(help="One asset (default: the month's largest changes).")] = None,
    strategy: Annotated[str | None, typer.Option(help="Strategy (default: the published one).")] = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Why a weight is what it is, down to the raw data; or why a month's weights changed."""
    place, day = existing_store(store), as_date(month, "month") or month
    from flows import explanations

    if ticker is None:
        explanations.month(place, scenario, day, strategy, as_json)
    else:
        explanations.weight(place, scenario, day, ticker, strategy, as_json)


@app.command()
def report(
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Write the report of what is decided, one self-contained HTML file."""
    place = existing_store(store)
    decision = display.newest(place, scenario, None)
    from tasks.report import write_report

    path = write_report.fn(scenario, display.published(place, scenario, decision["rebalance_date"]))
    display.say({"report": path}, as_json)
    if open_it:
        webbrowser.open(_on_this_machine(place, Path(path).name).as_uri())


def _on_this_machine(store: Store, name: str) -> Path:
    """A report as a file: itself, or a copy of what lies in a bucket."""
    written = store.root / "reports" / name
    if isinstance(written, Path):
        return written
    copy = Settings().cache.expanduser().absolute() / "reports" / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    store.files.fetch(written, copy)
    return copy


@app.command()
def verify(
    deep: Annotated[bool, typer.Option("--deep", help="Every file and every row too, not only what decides.")] = False,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Whether the store is what was written: chains, decided rows, blobs, logs; exit code 1 where it is damaged."""
    if not verifying.verified(use_store(store), deep, as_json):
        raise typer.Exit(1)


@app.command()
def query(
    sql: str, scenario: ScenarioOption = "main", store: StoreOption = None, as_json: Json = False, as_csv: Csv = False
) -> None:
    """SQL over the store, read-only."""
    place = existing_store(store)
    display.show(catalog.query(place, scenario, sql).to_pylist(), as_json, as_csv)


@app.command()
def params(as_json: Json = False) -> None:
    """Every parameter: default, range, help."""
    display.params(as_json)


@app.command()
def live(
    mark: Annotated[
        bool, typer.Option("--mark", help="First bring in prices and mark what is not marked yet.")
    ] = False,
    path: Annotated[Path | None, typer.Option(help="With --mark: newer prices of --source files.")] = None,
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """The live track record: what was published, marked to market, beside the cone of its forecasts."""
    place = existing_store(store)
    if mark:
        from flows.live import mark_live

        mark_live(str(path) if path else None)
    display.live(place, as_json, as_csv)
