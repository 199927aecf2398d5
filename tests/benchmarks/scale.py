"""Section *scale*: the same backfill on a Dask cluster of one and of two worker processes on this machine.

    ours       two workers           baseline   one worker
    floor      efficiency: wall of one / (2 x wall of two), 1 where the second worker halves the time

The network is trained from scratch each January and refreshed each month, which is what is sent away; prices, plan,
decisions and backtest stay in the run's own process. A server of Prefect's, the scheduler and the workers are processes
of their own; what both runs stored is compared to the byte.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer
from typing import NamedTuple

import psutil
from distributed import Client

from storage import catalog
from storage.store import open_store
from tasks import caching
from tests.benchmarks import frame
from tests.benchmarks.frame import ROOT, Section
from tests.benchmarks.orchestration import PATIENCE, environment, free_port, prices, server, spent, started

NAME = "scale"
ASSETS, FIRST, LAST = 109, "2019-07", "2020-06"
PRISM = (sys.executable, "-c", "from flows.cli import main; main()")
GIVEN = ("--source", "files", "--index", "IDX", "--set", 'strategies=["return_drawdown","equal_weight"]')
LIGHT = ("--set", "training.epochs=1", "--set", "training.ensemble=1", "--set", "forecast.draws=4")
LONGEST = 900.0  # seconds of one backfill
STORED = (
    "SELECT as_of, strategy, ticker, weight FROM weights ORDER BY ALL",
    "SELECT as_of, ticker, mean, variance FROM forecasts ORDER BY ALL",
)


class Spent(NamedTuple):
    """What a backfill took on a cluster."""

    wall: float  # seconds
    own: float  # CPU-seconds of the run's own process
    workers: tuple[float, ...]  # of each worker, its start left out


def section() -> Section:
    """All rows; raises RuntimeError where the two runs stored different bytes."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        path = prices(folder / "prices.csv", ASSETS, "2014-01-02", "2021-01-29")
        known = environment(folder)
        known["PREFECT_API_URL"], _ = stack.enter_context(server(known))
        _backfilled(folder / "first", known, 1, path)  # so that the kernels are compiled
        one, two = (_backfilled(folder / str(count), known, count, path) for count in (1, 2))
        _check_same(folder)
        for part in ("first", "1", "2"):
            caching.forget(open_store(folder / part))
    away, all_of = sum(one.workers), sum(one.workers) + one.own
    notes = (
        f"{ASSETS} assets, {FIRST} to {LAST}, a network of one epoch a training and a refresh; one run of each; "
        "floor is the efficiency, wall of one worker / (2 x wall of two)",
        f"weights and forecasts of both runs are the same to the byte; {away / all_of:.0%} of the CPU time is the "
        f"worker's, so that two can give {all_of / (all_of - away / 2):.2f} times the speed of one at most",
        f"CPU-seconds: one worker {one.workers[0]:.1f}, run {one.own:.1f}; two workers {two.workers[0]:.1f} and "
        f"{two.workers[1]:.1f}, run {two.own:.1f}",
    )
    rows = (
        frame.cost(NAME, "12 months, wall", two.wall, one.wall, "s", min(1.0, one.wall / two.wall / 2)),
        frame.cost(NAME, "12 months, CPU of workers and run", sum(two.workers) + two.own, all_of, "CPU-s"),
        frame.cost(NAME, "12 months, CPU of the busiest worker", max(two.workers), away, "CPU-s"),
    )
    return Section(NAME, notes, rows)


def _backfilled(folder: Path, known: Mapping[str, str], workers: int, path: str) -> Spent:
    """What the backfill takes with so many workers, in a store of its own."""
    address = f"tcp://127.0.0.1:{free_port()}"
    own = {"PRISM_STORE": str(folder), "PRISM_RUNNER": "dask", "PRISM_DASK_ADDRESS": address}
    command = (*PRISM, "backfill", "--start", FIRST, "--end", LAST, *GIVEN, *LIGHT, "--path", path)
    with _cluster(dict(known) | own, address, workers) as processes:
        before, begin = [spent(process) for process in processes], time.monotonic()
        run = subprocess.Popen(command, env=dict(known) | own, cwd=ROOT, stdout=subprocess.DEVNULL)
        ending = Timer(LONGEST, run.kill)  # a run whose workers are gone waits for others
        ending.start()
        _, status, used = os.wait4(run.pid, 0)
        ending.cancel()
        wall, run.returncode = time.monotonic() - begin, os.waitstatus_to_exitcode(status)
        if run.returncode:
            raise RuntimeError(f"the backfill with {workers} workers failed, or took {LONGEST:.0f} s; see above")
        now = [spent(process) for process in processes]
        work = tuple(after - past for after, past in zip(now, before, strict=True))
        return Spent(wall, used.ru_utime + used.ru_stime, work)


@contextmanager
def _cluster(known: Mapping[str, str], address: str, workers: int) -> Iterator[list[psutil.Process]]:
    """A scheduler and workers of one thread; the processes of the workers, once all are there."""
    scheduler = ("scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard")
    worker = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    with ExitStack() as stack:
        made = [
            stack.enter_context(started((sys.executable, "-m", "dask", *command), known))
            for command in (scheduler, *[worker] * workers)
        ]
        with Client(address, timeout=PATIENCE) as client:
            client.wait_for_workers(workers, timeout=PATIENCE)
        yield [psutil.Process(process.pid) for process in made[1:]]


def _check_same(folder: Path) -> None:
    for sql in STORED:
        one, two = (catalog.query(open_store(folder / str(count)), "main", sql) for count in (1, 2))
        if not one.num_rows or not one.equals(two):
            raise RuntimeError(f"one and two workers stored different rows ({sql}); find out which task is not pure")
