"""ingest_prices: bring a source's newest prices into the store, and nothing else."""

from typing import Annotated, Any

from prefect import flow

from flows import lines
from flows import parameters as forms
from flows.form import File, Given, Path, Scenario, Unit, said
from flows.lines import MAIN
from flows.zombies import watched
from storage import catalog, scenarios
from storage.store import Store, open_store
from tasks import fetch, own_forecasts


@flow(name="ingest_prices", flow_run_name="ingest {scenario}", timeout_seconds=2 * 3600)
@watched()
def ingest_prices(
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
    accept: Annotated[tuple[str, ...], said("Accept", "Tickers whose odd prices a person has looked at.")] = (),
    rates: Annotated[
        File,
        said("Rates", "File of risk-free rates or factor returns, where the run takes place; taken before prices."),
    ] = None,
    unit: Annotated[Unit, said("Unit of the rates", "What a 1 in that file is.")] = None,
    forecasts: Annotated[File, said("Own forecasts", "File of your own forecasts, for the forecaster `files`.")] = None,
) -> dict[str, Any]:
    """Fetch, compare with what is known, and take a snapshot; its id.

    `accept` names tickers whose odd prices a person has looked at; `rates` is a file of returns in `unit` (percent or
    fraction): risk-free rates or factors, taken before the prices; `forecasts` is a file of a person's own forecasts,
    for the forecaster `files`.
    """
    store = open_store()
    if forecasts is not None:
        dataset = _dataset(store, scenario, parameters)
        return {"scenario": scenario, "dataset": dataset, "new": own_forecasts.take(store, dataset, forecasts)}
    if rates is not None:
        dataset = _dataset(store, scenario, parameters)
        snapshot = fetch.ingest_rates(dataset, rates, unit or "")
    else:
        line = lines.open_line(scenario, parameters, path, accept=accept)
        dataset, snapshot = line.newest.terms.dataset, line.newest.panel.snapshot
    catalog.rebuild(store)
    return {"scenario": scenario, "dataset": dataset, "snapshot": snapshot, **fetch.counted(store, dataset)}


def _dataset(store: Store, scenario: str, parameters: Given) -> str:
    """The scenario's dataset, or the one it will have."""
    decided = scenarios.read(store, scenario)
    source = forms.over(lines.own_parameters(store, scenario), parameters).source
    return decided[0].dataset if decided else lines.dataset_of(source, scenario)
