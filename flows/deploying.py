"""Deployments: what `deployments/prefect.yaml` declares, applied to a Prefect server or served by one process.

Applying is Prefect's own `prefect deploy`; pools and the limit of the price source are made first. All of it may be
done again and again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import yaml
from prefect import serve as serve_deployments
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.schedules import Cron, RRule, Schedule

from storage.errors import InputError, StoreError

FOLDER = Path(__file__).parents[1] / "deployments"
POOLS = ("cpu", "gpu")
PoolType = Literal["process", "docker"]


def declared() -> list[dict[str, Any]]:
    """The deployments of prefect.yaml; InputError where the project was installed without them."""
    file = FOLDER / "prefect.yaml"
    if not file.exists():
        raise InputError(f"{file} is not there; run this from a checkout of the project, installed with --editable")
    return yaml.safe_load(file.read_text())["deployments"]


def deploy(kind: PoolType) -> list[str]:
    """Make the pools and apply every deployment to the server of PREFECT_API_URL; their names."""
    names = [entry["name"] for entry in declared()]
    with get_client(sync_client=True) as client:
        for pool in POOLS:
            _make_pool(client, pool, kind)
        client.upsert_global_concurrency_limit_by_name("yahoo", 1)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    told = subprocess.run(  # noqa: S603 - our own interpreter and file
        [*command, "--prefect-file", str(FOLDER / "prefect.yaml")],
        cwd=FOLDER.parent,
        env=os.environ | {"PREFECT_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        raise StoreError(f"prefect deploy failed: {' '.join((told.stdout + told.stderr).split())[-600:]}")
    return names


def template(kind: PoolType) -> dict[str, Any]:
    """The base job template of our work pools."""
    return json.loads((FOLDER / "work-pools" / f"{kind}.json").read_text())


def _make_pool(client: SyncPrefectClient, name: str, kind: PoolType) -> None:
    """The pool, with our template; one that is there and of another kind is left alone and named."""
    try:
        there = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template(kind)))
        return
    if there.type != kind:
        raise InputError(
            f"the work pool {name} is of type {there.type}; give --pool-type {there.type}, or delete it first"
        )
    client.update_work_pool(name, WorkPoolUpdate(base_job_template=template(kind)))


def serve() -> None:
    """Serve every deployment from this process until it is stopped; its runs are processes of their own."""
    serve_deployments(*(of_entry(entry) for entry in declared()), pause_on_shutdown=False)


def of_entry(entry: dict[str, Any]) -> RunnerDeployment:
    """A deployment as one process serves it."""
    flow = load_flow_from_entrypoint(entry["entrypoint"])
    made = flow.to_deployment(
        name=entry["name"],
        description=entry["description"],
        tags=entry["tags"],
        parameters=entry.get("parameters"),
        schedules=[schedule(given) for given in entry.get("schedules", [])],
        concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    made.entrypoint = entry["entrypoint"]  # Prefect names the module alone
    return made


def schedule(given: dict[str, Any]) -> Schedule:
    """A schedule of prefect.yaml as Prefect's own object."""
    if "cron" in given:
        return Cron(given["cron"], timezone=given["timezone"], slug=given["slug"])
    return RRule(given["rrule"], timezone=given["timezone"], slug=given["slug"])


if __name__ == "__main__":
    serve()
