"""Section *orchestration*: what Prefect, the cache and the plan cost beside a plain call of the same function.

    task run        an empty task, in the CPU of the run's own process and in that of the server beside it
                    baseline: the call of the empty function
    cached task     `features.compute_features` of ten years, answered by Prefect's record of it
                    baseline: the task's own function, which finds the same rows in the store by key
    plan            `planning.make` of 120 months: every key of every stage, and what it follows from
                    baseline: joblib's hash of the returns up to each month, as joblib.Memory would ask for one stage

All of it happens in one process of its own, with a store, a server and a database of its own; prices are generated.
"""

import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.request import urlopen

import joblib
import numpy as np
import pandas as pd
import psutil
from prefect import flow, task

import flows  # noqa: F401 - prepares the environment as every entry point does
from flows import lines, planning
from storage.store import open_store
from tasks import caching, calendars, features, panels
from tests.benchmarks import frame
from tests.benchmarks.allocators import daily_returns
from tests.benchmarks.frame import ROOT, Section

NAME, MILLISECONDS = "orchestration", "ms"
ASSETS, FIRST, LAST = 109, "2011-01", "2020-12"
RUNS, WARM, LOOKUPS, TURNS = 200, 20, 20, 3
PATIENCE = 300  # seconds until a server must answer, and have written what it was told
SERVER = "import flows, runpy; runpy.run_module('prefect', run_name='__main__')"  # with the settings of `prism ui`
Answer = TypeVar("Answer")
GIVEN = {"source": "files", "index": "IDX", "forecast": {"forecaster": "ewma"}}


def environment(folder: Path) -> dict[str, str]:
    """Of processes that know nothing of this one's Prefect or store; compiled kernels are shared.

    Modules are compiled once, as an installation's are.
    """
    others = ("PREFECT_", "PRISM_", "PYTHONDONTWRITEBYTECODE")
    known = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    cache = {"PRISM_CACHE": os.environ["PRISM_CACHE"]} if "PRISM_CACHE" in os.environ else {}
    return (
        known
        | cache
        | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PRISM_STORE": str(folder / "store"),
            "PRISM_LEAK_GATE": "false",
            "PRISM_REPORT": "false",
            "PYTHONPATH": str(ROOT),
        }
    )


def prices(path: Path, assets: int, first: str, last: str) -> str:
    """Write generated closes as a person's wide CSV file; its path."""
    closes(assets, first, last).to_csv(path)
    return str(path)


def closes(assets: int, first: str, last: str) -> pd.DataFrame:
    """Generated closes by session, with the index's."""
    days = calendars.sessions("XNYS", np.datetime64(first), np.datetime64(last))
    returns = daily_returns(assets, days.size, 0).clip(-0.15, 0.15)  # none that the gate could take for a split
    columns = {f"A{number:03}": returns[:, number] for number in range(assets)} | {"IDX": returns.mean(1)}
    values = 100 * pd.DataFrame(columns).add(1).cumprod()
    return values.set_axis(pd.DatetimeIndex(days, name="date"))


# --- processes beside the measured one


@contextmanager
def server(known: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """A server of Prefect's that answers: its address and its process."""
    port = free_port()
    command = (sys.executable, "-c", SERVER, "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with started(command, known) as process:
        address = f"http://127.0.0.1:{port}/api"
        _wait(lambda: urlopen(f"{address}/health", timeout=5).status == 200)
        yield address, process.pid


@contextmanager
def started(command: tuple[str, ...], known: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A quiet process that ends with the block, and what it started with it."""
    folder = Path(known["PREFECT_HOME"]).parent
    process = subprocess.Popen(command, env=known, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait(answers: Callable[[], bool]) -> None:
    """Return once it answers; raises RuntimeError where it does not within `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(OSError):
            if answers():
                return
        time.sleep(0.5)
    raise RuntimeError(f"Prefect's server did not answer within {PATIENCE} s; run the benchmark on a quieter machine")


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spent(process: psutil.Process) -> float:
    """CPU-seconds so far of a process and of those it started."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


# --- what is measured, in the process of its own


def nothing(number: int) -> None:
    """The work of a task that does none."""


def task_runs(server_id: int) -> dict[str, float]:
    """CPU-seconds of a task run in this process and in the server's, by that one's id, and of a plain call."""
    behind = psutil.Process(server_id)
    empty = task(nothing)

    @flow
    def many(count: int) -> None:
        for number in range(count):
            empty(number)

    before = _written()
    many(WARM)
    _wait_for(before + WARM)
    own, others = time.process_time(), spent(behind)
    many(RUNS)
    own = time.process_time() - own
    _wait_for(before + WARM + RUNS)
    others, begin, calls = spent(behind) - others, time.process_time(), 1000 * RUNS
    for number in range(calls):
        nothing(number)
    return {"run": own / RUNS, "server": others / RUNS, "call": (time.process_time() - begin) / calls}


def _wait_for(count: int) -> None:
    """Wait until the server has written so many task runs, which it does after the runs are over."""
    end = time.monotonic() + PATIENCE
    while _written() < count:
        if time.monotonic() > end:
            raise RuntimeError(f"{count} task runs were not written within {PATIENCE} s; run it on a quieter machine")
        time.sleep(0.5)


def _written() -> int:
    """Completed task runs in the server's database."""
    with closing(sqlite3.connect(Path(os.environ["PREFECT_HOME"]) / "prefect.db")) as connection:
        return connection.execute("SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'").fetchone()[0]


def plans(path: str) -> dict[str, float]:
    """CPU-seconds of the plan of 120 months, the first and later ones, of a cached task, and of their baselines."""
    line = lines.open_line("main", GIVEN, path)
    wanted = planning.between(line, FIRST, LAST)
    first, plan = _timed(lambda: planning.make(line, wanted)[0])
    again = statistics.median(_timed(lambda: planning.make(line, wanted))[0] for _ in range(TURNS))
    given = plan.segment.panel, plan.history, plan.segment.parameters.features, plan.begun

    @flow
    def looked_up() -> tuple[float, float]:
        made = features.compute_features(*given)
        ours, answers = _timed(lambda: [features.compute_features(*given) for _ in range(LOOKUPS)])
        plain, found = _timed(lambda: [features.compute_features.fn(*given) for _ in range(LOOKUPS)])
        if {*answers, *found} != {made}:
            raise RuntimeError("a cached task and its own function gave different answers; correct one of them")
        return ours / LOOKUPS, plain / LOOKUPS

    cached, function = looked_up()
    panel = panels.load(open_store(), plan.segment.panel)
    ends = [panel.at(month.moment.as_of) + 1 for month in plan.months]
    hashed, _ = _timed(lambda: [joblib.hash(panel.returns[:end]) for end in ends])
    return {"first": first, "again": again, "cached": cached, "function": function, "joblib": hashed}


def _timed(work: Callable[[], Answer]) -> tuple[float, Answer]:
    begin = time.process_time()
    answer = work()
    return time.process_time() - begin, answer


def main(server_id: str, path: str = "") -> None:
    """Print what was measured, plans where there are prices, as JSON in the last line."""
    print(json.dumps(task_runs(int(server_id)) | (plans(path) if path else {})))


def measured(known: Mapping[str, str], address: str, server_id: int, *path: str) -> dict[str, float]:
    """What `main` prints in a process of its own beside a server."""
    command = [sys.executable, "-m", __name__, str(server_id), *path]
    known = {**known, "PREFECT_API_URL": address}
    done = subprocess.run(command, env=known, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# --- the section


def section() -> Section:
    """All rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = environment(folder)
        with server(known) as (address, number):
            path = prices(folder / "prices.csv", ASSETS, "2008-01-02", "2021-01-29")
            seconds = measured(known, address, number, path)
        caching.forget(open_store(folder / "store"))
    found = {case: 1e3 * took for case, took in seconds.items()}
    rows = {
        "task run, own process": ("run", "call"),
        "task run, Prefect's server": ("server", "call"),
        "cached task, looked up": ("cached", "function"),
        "plan of 120 months, the first of a process": ("first", "joblib"),
        "plan of 120 months, again": ("again", "joblib"),
    }
    notes = (
        f"CPU time; a task run is the mean of {RUNS}; its baseline is the call of an empty function, so the ratio says "
        "what a record of each run costs",
        f"cached: features of {ASSETS} assets and 13 years; baseline: the task's function, which finds its rows by key",
        "plan: all stages of all months; baseline: joblib's hash of the returns up to each month, for one stage",
    )
    return Section(
        NAME,
        notes,
        tuple(frame.cost(NAME, case, found[ours], found[plain], MILLISECONDS) for case, (ours, plain) in rows.items()),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
