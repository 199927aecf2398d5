"""A server, a worker and reports on this machine, as `prism ui` starts them, with a store and a home of their own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks import calendars

ROOT = Path(__file__).parents[2]
PRISM = [sys.executable, "-c", "from flows.cli import main; main()"]
LIGHT = {
    "source": "files",
    "index": "IDX",
    "network": {"hidden": 4, "latent": 2},
    "training": {"epochs": 1, "ensemble": 1, "minimum_sessions": 100},
    "forecast": {"draws": 4},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, seconds=240, pause=1.0):
    """What the condition returns once that is true; fails when it does not come true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(pause)
    return found


def alive(mark) -> list[str]:
    """Command lines of the processes with a mark in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in file.read_bytes() and file.parent.joinpath("stat").read_text().split()[2] != "Z":
                found.append(file.parent.joinpath("cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@dataclass
class Served:
    """What runs, and where."""

    process: subprocess.Popen
    environment: dict[str, str]
    folder: Path
    store: Path
    address: str
    reports: str

    def client(self) -> SyncPrefectClient:
        with temporary_settings({PREFECT_API_URL: f"{self.address}/api"}):
            return get_client(sync_client=True)

    def finished(self, run, seconds=240):
        """The run when it has ended."""

        def ended():
            with self.client() as client:
                found = client.read_flow_run(run.id)
            return found if found.state and found.state.is_final() else None

        return until(ended, seconds)

    def run(self, deployment, **parameters):
        """A run of a deployment, when it has ended."""
        with self.client() as client:
            made = client.create_flow_run_from_deployment(
                client.read_deployment_by_name(deployment).id, parameters=parameters
            )
        return self.finished(made)

    def prism(self, *arguments, **environment):
        """Run the program against the same server."""
        known = self.environment | {"PREFECT_API_URL": f"{self.address}/api"} | environment
        command = [*PRISM, *map(str, arguments)]
        return subprocess.run(
            command, env=known, cwd=self.folder, capture_output=True, text=True, timeout=400, check=False
        )

    def stop(self):
        """Press Ctrl-C: the exit code, and whether nothing that was started is left."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(90)
        return code, until(lambda: not alive(self.environment["PREFECT_HOME"]), 20)


@pytest.fixture
def port():
    """A function that gives a free port."""
    return free_port


@pytest.fixture
def answering():
    """A function that waits until there is an answer at an address."""

    def wait(address):
        def answered():
            with suppress(OSError), urlopen(address, timeout=5) as answer:
                return answer.status == 200

        until(answered)

    return wait


@pytest.fixture(scope="session")
def market(tmp_path_factory):
    """The prices of the flows' tests in a file, and the parameters of the smallest network in another."""
    folder = tmp_path_factory.mktemp("market")
    days = calendars.sessions("XNYS", np.datetime64("2015-01-02"), np.datetime64("2017-12-29"))
    generator = np.random.default_rng(0)
    market = generator.normal(0.0004, 0.008, days.size)
    columns = {"IDX": market}
    for place, ticker in enumerate(("AAA", "BBB", "CCC", "DDD", "EEE")):
        columns[ticker] = market + generator.normal(0.0002 * place, 0.006 + 0.003 * place, days.size)
    closes = 100 * np.exp(np.cumsum(pd.DataFrame(columns), axis=0))
    closes.set_axis(pd.DatetimeIndex(days, name="date")).to_csv(folder / "prices.csv")
    (folder / "light.json").write_text(json.dumps(LIGHT))
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Of processes that know nothing of this one's Prefect, store or cache."""
    folder = tmp_path_factory.mktemp("home")
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PRISM_"))}
    return known | {
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "prefect"),
        "PRISM_CACHE": str(folder / "cache"),
        "PRISM_STORE": str(folder / "store"),
        "PRISM_LEAK_GATE": "false",
    }


def start(environment, folder, kind):
    """Start `prism ui` or `prism serve`, and wait until it says that all is there."""
    port, reports = free_port(), free_port()
    out = (folder / f"{kind}.out").open("w")
    process = subprocess.Popen(
        [*PRISM, kind, "--port", str(port), "--report-port", str(reports)],
        env=environment,
        stdout=out,
        stderr=subprocess.STDOUT,
        cwd=folder,
    )
    said = until(lambda: re.search(r"Prefect +(\S+)\nreports +(\S+)", (folder / f"{kind}.out").read_text()))
    return Served(process, environment, folder, Path(environment["PRISM_STORE"]), said[1], said[2])


@pytest.fixture(scope="session")
def served(tmp_path_factory, environment):
    found = start(environment, tmp_path_factory.mktemp("served"), "ui")
    yield found
    if found.process.poll() is None:
        found.stop()
