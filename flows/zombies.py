"""Runs whose process was killed: found by the next run on the machine, and shown as crashed.

Prefect learns of a process's end only from the process itself, or from the worker that started it. While a run is at
work here, its process therefore holds the lock of a file that bears the run's id, in PRISM_CACHE; the kernel frees the
lock however the process ends. A run whose lock is free, and which is not over, is a zombie. So is one, wherever its
process was, that has begun some minutes ago and has not come so far as to take the label that says it has a lock.
"""

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from storage.locks import locked
from storage.settings import Settings

_MESSAGE = "its process was killed; what it had stored is whole, and the same run started again goes on"
_LABEL = "prism.watched"
_PATIENCE = 600.0  # seconds until a run that runs has its label
# our flows: a server may have others', whose runs are nobody's business here
OURS = ("monthly_rebalance", "backfill", "rebalance", "ingest_prices", "train-forecaster", "mark_live", "maintain")
OURS += ("verify", "backup", "report", "repair", "judge", "tune", "sweep", "study", "capacity", "replay", "amend")
OURS += ("leak_check",)
_WATCHED = frozenset(OURS) - {"leak_check"}  # which is a part of another one
_FORGOTTEN = 30 * 86_400  # seconds after which a run of another server's is no longer waited for
log = logging.getLogger("prism.flow")


@contextmanager
def watched() -> Iterator[None]:
    """Show the run of Prefect's that is under way as crashed should its process be killed, and bury those before it."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    place = _folder() / str(context.flow_run.id)
    begun = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    with locked(begun):
        begun.write_text(context.flow_run.name)
        begun.rename(place)  # nobody sees it without its lock
        try:
            with get_client(sync_client=True) as client:
                client.update_flow_run_labels(context.flow_run.id, {_LABEL: True})
            bury()
            yield
        finally:
            place.unlink(missing_ok=True)


def bury() -> list[str]:
    """Show runs as crashed whose process is gone; their names."""
    found = _without_label()
    for place in sorted(_folder().glob("[0-9a-f]*")):
        with locked(place, wait=False) as is_over:
            # a run that has ended at this very moment took its file along
            if is_over and place.exists() and place.stat().st_size:
                found += _buried(place)
            elif is_over:
                place.unlink(missing_ok=True)
    if found:
        log.warning("runs whose process was killed, now shown as crashed: %s", ", ".join(found))
    return found


def _folder() -> Path:
    folder = Settings().cache.expanduser() / "running"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _without_label() -> list[str]:
    """End the runs whose process was killed before it had a lock; their names."""
    begun = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    asked = FlowRunFilter(state=FlowRunFilterState(type=begun))
    ours = FlowFilter(name=FlowFilterName(any_=sorted(_WATCHED)))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=ours, flow_run_filter=asked)
        return [name for run in runs if _is_lost(run) for name in _end(client, run.id)]


def _is_lost(run: FlowRun) -> bool:
    """Whether a run has had its time to take the label; one that a worker is to start may wait for longer."""
    waits = run.state_type == StateType.PENDING and run.deployment_id is not None
    begun = run.start_time or run.expected_start_time
    return _LABEL not in run.labels and not waits and begun < datetime.now(UTC) - timedelta(seconds=_PATIENCE)


def _buried(place: Path) -> list[str]:
    """End a run, if it is one of this server's that is not over, and forget its lock."""
    with get_client(sync_client=True) as client:
        try:
            names = _end(client, UUID(place.name))
        except ObjectNotFound:  # another server's
            if time.time() - place.stat().st_mtime > _FORGOTTEN:
                place.unlink(missing_ok=True)
            return []
    place.unlink(missing_ok=True)
    return names


def _end(client: SyncPrefectClient, identity: UUID) -> list[str]:
    """The names of a run and of those that it had begun, as far as they were not over."""
    run, state = client.read_flow_run(identity), Crashed(message=_MESSAGE)
    of_it = FlowRunFilter(id=FlowRunFilterId(any_=[identity]))
    for task in client.read_task_runs(flow_run_filter=of_it):
        if task.state is None or not task.state.is_final():
            client.set_task_run_state(task.id, state, force=True)
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[identity]))
    names = [name for child in client.read_flow_runs(flow_run_filter=children) for name in _end(client, child.id)]
    if run.state is not None and run.state.is_final():
        return names
    client.set_flow_run_state(identity, state, force=True)
    return [run.name, *names]
