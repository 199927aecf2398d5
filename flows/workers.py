"""On what the chunks of a flow run: threads of its own process, or the workers of a Dask cluster.

A task that is sent away reads and writes by key in the same store, so its bytes do not depend on where it ran.
"""

from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from storage.errors import InputError
from storage.settings import Settings
from tasks import server


def runner() -> TaskRunner[Any]:
    """The task runner that the settings ask for.

    Raises InputError where Dask lacks a scheduler's address, its package, or a Prefect server: without one each of its
    workers would start a server of its own.
    """
    settings = Settings()
    if settings.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=settings.workers)
    if not settings.dask_address:
        raise InputError(
            "PRISM_RUNNER=dask needs a scheduler; set PRISM_DASK_ADDRESS, like tcp://127.0.0.1:8786, or "
            "PRISM_RUNNER=threads"
        )
    if not server.lasts():
        raise InputError(
            "PRISM_RUNNER=dask needs a Prefect server for its workers; set PREFECT_API_URL, or PRISM_RUNNER=threads"
        )
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise InputError(
            "PRISM_RUNNER=dask needs prefect-dask; install prism-portfolio[dask], or set PRISM_RUNNER=threads"
        ) from error
    return DaskTaskRunner(address=settings.dask_address)
