"""Stage *fetch*: bring a source's bars into a dataset, and take a snapshot of what is then known.

The sample and a person's files come whole (`own`); a live source is asked for what is not stored yet (`live`). All
go the same way into the store (`intake`): compared with what is known, judged by the quality gate, appended.
"""

import logging
import re
import uuid
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.tasks import exponential_backoff

from storage import snapshots, universe
from storage.errors import InputError, NoDataError, SourceError
from storage.snapshots import Snapshot
from storage.store import Store, open_store
from storage.universe import Universe
from tasks.fetch import own, rates, summary
from tasks.fetch.delivery import DEFAULT_EXCHANGE, Run

log = logging.getLogger("prism.fetch")


def _is_worth_another_try(task: Any, run: TaskRun, state: State) -> bool:
    """Whether a source failed, in a run that nobody watches: bad input stays bad, and a person is told at once."""
    context = FlowRunContext.get()
    watched = context is None or context.flow_run is None or context.flow_run.deployment_id is None
    return not watched and isinstance(state.result(raise_on_failure=False), SourceError)


@task(
    cache_policy=NO_CACHE,
    task_run_name="ingest {dataset}",
    retries=3,
    retry_delay_seconds=exponential_backoff(60),
    retry_jitter_factor=0.5,
    retry_condition_fn=_is_worth_another_try,
)
def ingest(
    source: str, dataset: str, path: str | None = None, universe_id: str | None = None, accepted: tuple[str, ...] = ()
) -> str:
    """Bring a source's bars into `dataset`; the id of the snapshot that holds what is known now.

    The universe says where tickers trade, and whom to ask for where the source is live; `accepted` names tickers whose
    odd prices a person has looked at. Without a `path`, files that were ingested before are taken as they are.
    """
    store = open_store()
    chosen = universe.load(store, universe_id) if universe_id else None
    run = _run(store, source, dataset, chosen, accepted)
    try:
        with store.files.locked(store.root / ".ingesting"):  # one writer of prices at once
            return _taken(run, chosen, path).snapshot
    finally:  # also where too few answered
        _show(store, dataset)


def _taken(run: Run, chosen: Universe | None, path: str | None) -> Snapshot:
    """The snapshot after the source's newest prices were taken in."""
    unknown = sorted(run.accepted - set(chosen.tickers)) if chosen else []
    if unknown:
        some = ", ".join(chosen.tickers[:20])
        some = ", ".join(chosen.tickers[:20])
        raise InputError(f"--accept {unknown[0]}: the universe has no such ticker; it has {some}")
    if run.source == "yahoo" and chosen is not None:
        from tasks.fetch import live  # with yfinance, which nobody else needs

        return live.update(run, chosen)
    if run.source == "files" and path is None:
        return _known(run.store, run.dataset)
    return own.deliver(run, path)


@task(cache_policy=NO_CACHE, task_run_name="rates of {dataset}")
def ingest_rates(dataset: str, path: str, unit: str) -> str:
    """Bring risk-free rates or factor returns from a file into `dataset`; the id of the new snapshot."""
    return rates.deliver(_run(open_store(), "rates", dataset, None), path, unit).snapshot


def _run(
    store: Store | None, source: str, dataset: str, chosen: Universe | None, accepted: tuple[str, ...] = ()
) -> Run:
    exchanges = {} if chosen is None else {t: name for t, name in chosen.exchanges.items() if name != DEFAULT_EXCHANGE}
    aliases = {ticker: names[1:] for ticker, names in chosen.names.items()} if chosen else {}
    return Run(store, dataset, source, uuid.uuid4().hex, exchanges, aliases, frozenset(accepted))


def _known(store: Store, dataset: str) -> Snapshot:
    try:
        return snapshots.newest(store, dataset)
    except NoDataError as error:
        raise InputError(f"dataset {dataset} has no prices yet; name the file or folder with --path") from error


def _show(store: Store, dataset: str) -> None:
    """The artifact in Prefect, where the task runs there."""
    found = summary.newest(store, dataset)
    if found is not None and TaskRunContext.get() is not None:
        key = re.sub("[^a-z0-9]", "-", f"ingest-{dataset}")
        create_markdown_artifact(summary.markdown(found), key=key, description=f"Prices of {dataset}")


def counted(store: Store, dataset: str) -> dict[str, Any]:
    """Tickers by outcome, requests, and what waits and why, of the dataset's newest ingest."""
    found = summary.newest(store, dataset)
    return found.counts() if found else {}


def preview(
    source: str, path: str | None, chosen: Universe | None = None, accepted: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What a source would bring, for a person to look at before anything is stored."""
    if source == "yahoo":
        raise InputError("--dry-run reads files and the sample; what Yahoo would bring is known when it was asked")
    if source == "files" and path is None:
        raise InputError("--source files needs --path, a Parquet or CSV file or a folder of them")
    return own.preview(_run(None, source, "", chosen, accepted), path)
