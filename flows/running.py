"""Commands that compute: run, backfill, ingest, plan, judge, tune, sweep, study, capacity."""

from pathlib import Path
from typing import Annotated

import typer

from flows import display, judgements, positions, prices, tunings
from flows import parameters as forms
from flows.options import (
    Amend,
    Csv,
    End,
    Index,
    Json,
    ParamsFile,
    PathOption,
    ScenarioOption,
    Set,
    Source,
    Start,
    StoreOption,
    UniverseOption,
    app,
    as_date,
    as_day,
    as_month,
    chosen_parameters,
    existing_store,
    given_values,
    use_store,
)
from storage.errors import InputError
from storage.store import open_store
from tasks import server, studies


@app.command()
def run(
    source: Source = None,
    path: PathOption = None,
    universe: UniverseOption = None,
    index: Index = None,
    as_of: Annotated[str | None, typer.Option(help="Decide with what was known up to this date.")] = None,
    months: Annotated[int, typer.Option(min=1, help="Also fill what is missing in the last N months.")] = 36,
    params: ParamsFile = None,
    assignments: Set = None,
    amend: Amend = None,
    approve: Annotated[
        str | None, typer.Option(help="Publish in spite of limits: your comment for the ledger.")
    ] = None,
    reject: Annotated[str | None, typer.Option(help="Hold what is held if asked: your comment for the ledger.")] = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Decide the newest rebalance date: weights, trades, backtest and report."""
    use_store(store)
    if approve is not None and reject is not None:
        raise InputError("--approve and --reject exclude each other; give one of them")
    day = as_day(as_of, "--as-of")
    with server.starting():
        parameters = chosen_parameters(scenario, given_values(source, universe, index, params, assignments))
        from flows.monthly import monthly_rebalance
        from flows.publishing import given

    answer = given(approve, reject)
    result = monthly_rebalance(scenario, parameters, str(path) if path else None, day, months, amend, answer)
    positions.outcome(open_store(), scenario, result, result["asked"], as_json)


@app.command()
def backfill(
    start: Start,
    end: End,
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
    """Decide the dates of past months; stop it, run it again, it goes on."""
    use_store(store)
    as_month(start, "--start"), as_month(end, "--end")
    with server.starting():
        parameters = chosen_parameters(scenario, given_values(source, universe, index, params, assignments))
        from flows.backfill import backfill as flow

    result = flow(start, end, scenario, parameters, str(path) if path else None, amend)
    positions.outcome(open_store(), scenario, result, result["asked"], as_json)


@app.command()
def amend(
    month: Annotated[str, typer.Argument(help="Decided month, like 2024-05; a day where every session is decided.")],
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")],
    path: PathOption = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Publish a decided month anew, as code and prices decide it now; the original stays in the ledger.

    `prism run --amend` is something else: it changes parameters for the months to come.
    """
    existing_store(store)
    as_date(month, "month")
    with server.starting():
        from flows.amend import amend as flow

    result = flow(month, reason, scenario, str(path) if path else None)
    if not as_json:
        display.say_line(f"{result['asked']} amended, revision {result['revision']}: {result['reason']}\n")
    positions.outcome(open_store(), scenario, result, result["asked"], as_json)


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
    forecasts: Annotated[
        Path | None, typer.Option(help="File of your own forecasts: as_of, ticker, mean, variance, known_at.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what is understood and what is refused; store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Bring prices, rates, or your own forecasts into the store, or look at what would be."""
    use_store(store)
    given = given_values(source, universe, index, params, assignments)
    files = [str(name) if name else None for name in (path, rates, forecasts)]
    if dry_run:
        prices.delivery(forms.make(given), files[0], tuple(accept or ()), as_json)
        return
    with server.starting():
        parameters = chosen_parameters(scenario, given)
        from flows.ingest import ingest_prices

    result = ingest_prices(scenario, parameters, files[0], tuple(accept or ()), files[1], unit, files[2])
    if forecasts is None:
        prices.ingested(result, as_json)
    else:
        display.say(result, as_json)


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
    existing_store(store)
    from flows.outlook import outlook

    span = (as_month(start, "--start") if start else None, as_month(end, "--end") if end else None)
    parameters = chosen_parameters(scenario, given_values(source, universe, index, params, assignments))
    display.plan(outlook(scenario, parameters, amend, *span, months), as_json)


@app.command()
def judge(
    start: Start,
    end: End,
    with_garch: Annotated[bool, typer.Option("--garch", help="Compare with GARCH(1,1) too (package arch).")] = False,
    source: Source = None,
    path: PathOption = None,
    universe: UniverseOption = None,
    index: Index = None,
    params: ParamsFile = None,
    assignments: Set = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Judge the forecasts of every session on what followed, beside simpler ones; decides nothing."""
    use_store(store)
    as_month(start, "--start"), as_month(end, "--end")
    with server.starting():
        parameters = chosen_parameters(scenario, given_values(source, universe, index, params, assignments))
        from flows.judge import judge as flow

    result = flow(start, end, scenario, parameters, str(path) if path else None, with_garch)
    judgements.judgement(open_store(), scenario, result["judgement"], as_json)


@app.command()
def tune(
    name: Annotated[str, typer.Option(help="Name of the study; given again, it goes on.")],
    start: Annotated[str, typer.Option(help="First year that is forecast, like 2010.")],
    end: Annotated[str, typer.Option(help="Last year; nothing after it is looked at.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials of the study, those already there included.")] = 50,
    space: Annotated[str, typer.Option(help="What trials choose from: scaled, document_a.")] = "scaled",
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is proposed.")] = 0,
    source: Source = None,
    path: PathOption = None,
    universe: UniverseOption = None,
    index: Index = None,
    params: ParamsFile = None,
    assignments: Set = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Search the forecaster's parameters, year by year; stop it, run it again, it goes on. Decides nothing."""
    use_store(store)
    with server.starting():
        parameters = chosen_parameters(scenario, given_values(source, universe, index, params, assignments))
        from flows.tune import tune as flow

    flow(name, start, end, trials, space, scenario, parameters, str(path) if path else None, seed)
    tunings.study(open_store(), name, as_json)


@app.command()
def sweep(
    name: Annotated[str, typer.Option(help="Name of the sweep.")],
    strategy: Annotated[str, typer.Option(help="Online strategy, like ogd_long_window.")],
    grid: Annotated[
        list[str], typer.Option(help="Values of a field: momentum=0,0.8 or learning_rate=1e-3:0.1:32:log.")
    ],
    start: Start,
    end: End,
    source: Source = None,
    path: PathOption = None,
    universe: UniverseOption = None,
    index: Index = None,
    params: ParamsFile = None,
    assignments: Set = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Account every combination of values of one online strategy in one run, each a trial. Decides nothing."""
    use_store(store)
    as_month(start, "--start"), as_month(end, "--end")
    with server.starting():
        parameters = chosen_parameters(scenario, given_values(source, universe, index, params, assignments))
        from flows.grids import grid_of
        from flows.sweep import sweep as flow

    flow(name, strategy, grid_of(grid), start, end, scenario, parameters, str(path) if path else None)
    tunings.sweep(open_store(), name, as_json)


@app.command()
def study(
    name: Annotated[str | None, typer.Argument(help="Study, like turnover, ablations or claims.")] = None,
    known: Annotated[bool, typer.Option("--list", help="The studies that there are.")] = False,
    start: Annotated[str | None, typer.Option(help="First month (default: ten years before the last).")] = None,
    end: Annotated[str | None, typer.Option(help="Last month (default: the newest).")] = None,
    split: Annotated[str | None, typer.Option(help="First month that tests what was chosen before.")] = None,
    source: Source = None,
    path: PathOption = None,
    universe: UniverseOption = None,
    index: Index = None,
    params: ParamsFile = None,
    assignments: Set = None,
    scenario: ScenarioOption = "main",
    store: StoreOption = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """What a part is worth, or whether the documents' claims hold: variants beside a default, with intervals."""
    if known or name is None:
        display.show(studies.listed(), as_json, as_csv)
        return
    use_store(store)
    months = [as_month(text, option) for text, option in ((start, "--start"), (end, "--end"), (split, "--split"))]
    given = given_values(source, universe, index, params, assignments)
    with server.starting():
        from flows import studied
        from flows.study import study as flow

    result = flow(name, *months, scenario, given or None, str(path) if path else None)
    studied.studies(open_store(), result["studies"], as_json, as_csv)


@app.command()
def capacity(scenario: ScenarioOption = "main", store: StoreOption = None, as_json: Json = False) -> None:
    """What each strategy earns with 1e5 to 1e9, at costs and delays that follow from the volumes. Decides nothing."""
    existing_store(store)
    with server.starting():
        from flows.capacity import capacity as flow
        from flows.capacity import show

    show(open_store(), scenario, flow(scenario)["capacity"], as_json)
