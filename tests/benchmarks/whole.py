"""Section *whole*: what a person waits for, from process start to the report, beside a script without a store.

    cold        `prism backfill` of 120 months of 109 assets into an empty store
    unchanged   the same command again; and again, with a server of Prefect's that runs already
    what-if     the flow `rebalance`, as its form runs it, with another alpha over the same months
    next month  `prism run` once the prices have a month more; and the same with a tenth of the months decided before
    240 months  the backfill of twice as many months into a store of its own, for its memory

The baseline is a script of the founding documents' methods on the same file: it reads the prices, forecasts by EWMA,
solves SLSQP from equal weights each month, takes an autograd step each session, and accounts for both. It keeps
nothing, so that it takes the same each time. That of 240 months is twice the memory of 120. Prices are generated;
every process starts Prefect's server for itself. What a task run of Prefect's takes is measured as in *orchestration*.
"""

import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tests.benchmarks import frame, orchestration
from tests.benchmarks.allocators import DocumentStep, Instance, document_weights
from tests.benchmarks.frame import ROOT, Row, Section

NAME = "whole"
ASSETS, WINDOW, MONTH = 109, 252, 21
FIRST, LAST, NEXT = "2011-01", "2020-12", "2021-01"
LONG, YOUNG = "2001-01", "2020-01"  # first of twice as many months, and of a tenth
PRISM = (sys.executable, "-c", "from flows.cli import main; main()")
GIVEN = ("--source", "files", "--index", "IDX", "--set", "forecast.forecaster=ewma")
WHAT_IF = """
import flows
from tasks import server

with server.starting():
    from flows.rebalance import rebalance
rebalance({"return_drawdown": {"alpha": 0.7}})
"""
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
UNCHANGED, SHARE = "unchanged, wall", "task runs of Prefect's in the cold run"
BESIDE = "unchanged, server running"
PEAK = "peak memory, 240 months"
AGE = "next month after 120 months against after 12, CPU"
LEAST, MOST = {SHARE: 20, AGE: 0.8}, {UNCHANGED: 20, f"{BESIDE}, wall": 10, PEAK: 2048}


class Spent(NamedTuple):
    """Of a process and those that it waited for."""

    wall: float  # seconds
    cpu: float
    memory: float  # peak MiB of the largest one


def section() -> Section:
    """All rows, with what is asked of them."""
    with tempfile.TemporaryDirectory() as folder:
        rows, runs = _measured(Path(folder))
    notes = (
        f"{ASSETS} assets, {FIRST} to {LAST}, EWMA forecasts, all strategies, report included; one run of each",
        f"240 months: from {LONG} on; memory is that of the largest process; 12 months: from {YOUNG} on, the same file",
        f"task runs: {', '.join(f'{name} {count}' for name, count in runs.items())}",
        "baseline: a script of the documents' methods that keeps nothing; for task runs, the CPU time of the whole run",
        "a task run: what an empty one takes of the run's process and of Prefect's server",
    )
    return Section(NAME, notes, rows, LEAST, MOST)


def _measured(folder: Path) -> tuple[tuple[Row, ...], dict[str, int]]:
    prices = orchestration.closes(ASSETS, "2008-01-02", f"{NEXT}-31")  # from three years before the first month on
    before, after = folder / "prices.csv", folder / "longer.csv"
    prices.loc[:LAST].to_csv(before)
    prices.to_csv(after)
    environment = orchestration.environment(folder) | {"PRISM_CACHE": str(folder / "cache"), "PRISM_REPORT": "true"}
    backfill, following = _backfill(FIRST, before), (*PRISM, "run", *GIVEN, "--months", "2", "--path", str(after))
    commands = {
        "cold": backfill,
        "unchanged": backfill,
        BESIDE: backfill,
        "what-if": (sys.executable, "-c", WHAT_IF),
        "next month": following,
    }
    first, young = (environment | {"PRISM_STORE": str(folder / name)} for name in ("first", "young"))
    _spent(_backfill(LAST, before), first)  # so that the kernels are compiled
    plain = _spent((sys.executable, "-m", __name__, str(before)), environment)
    spent, runs, task = {}, {}, {}
    for name, command in commands.items():
        known = _task_runs(folder)
        with orchestration.server(environment) if name == BESIDE else nullcontext(None) as there:
            spent[name] = _spent(command, environment | ({"PREFECT_API_URL": there[0]} if there else {}))
            runs[name] = _task_runs(folder) - known
            task |= orchestration.measured(environment, *there) if there else {}
    _spent(_backfill(YOUNG, before), young)
    lately = _spent(following, young)
    rows = [row for name, found in spent.items() for row in _rows(name, found, plain)]
    rows.append(frame.cost(NAME, AGE, spent["next month"].cpu, lately.cpu, "CPU-s"))
    rows.append(frame.cost(NAME, "peak memory, cold", spent["cold"].memory, plain.memory, "MiB"))
    rows.append(frame.cost(NAME, PEAK, _long(folder, environment).memory, 2 * spent["cold"].memory, "MiB"))
    each = task["run"] + task["server"]
    rows.append(frame.cost(NAME, SHARE, runs["cold"] * each, spent["cold"].cpu, "CPU-s"))
    return tuple(rows), runs


def _backfill(start: str, path: Path) -> tuple[str, ...]:
    """The command that decides the months from `start` to `LAST` on a file of prices."""
    return (*PRISM, "backfill", "--start", start, "--end", LAST, *GIVEN, "--path", str(path))


def _long(folder: Path, environment: dict[str, str]) -> Spent:
    """What a backfill of twice as many months takes."""
    path = folder / "long.csv"
    orchestration.closes(ASSETS, "1998-01-02", f"{LAST}-31").to_csv(path)
    return _spent(_backfill(LONG, path), environment | {"PRISM_STORE": str(folder / "long")})


def _rows(name: str, ours: Spent, plain: Spent) -> list[Row]:
    return [
        frame.cost(NAME, f"{name}, wall", ours.wall, plain.wall, "s"),
        frame.cost(NAME, f"{name}, CPU", ours.cpu, plain.cpu, "CPU-s"),
    ]


def _output(command: tuple[str, ...], environment: dict[str, str]) -> list[str]:
    """The words that a command prints; raises CalledProcessError where it fails."""
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


def _spent(command: tuple[str, ...], environment: dict[str, str]) -> Spent:
    """What a command takes."""
    begin = time.monotonic()
    cpu, memory = _output((sys.executable, "-c", MEASURED, *command), environment)
    return Spent(time.monotonic() - begin, float(cpu), int(memory) / 1024)


def _task_runs(folder: Path) -> int:
    database = folder / "prefect" / "prefect.db"
    if not database.exists():
        return 0
    with sqlite3.connect(database) as connection:
        return connection.execute("SELECT count(*) FROM task_run").fetchone()[0]


def plain(path: str) -> dict[str, float]:
    """The documents' methods as a script would run them: final wealth by strategy."""
    closes = pd.read_csv(path, index_col="date", parse_dates=True).drop(columns="IDX")
    returns = closes.pct_change().fillna(0).to_numpy()
    logs, months = np.log1p(returns), closes.index.to_period("M")
    begin = int(np.searchsorted(months, pd.Period(FIRST, "M")))
    step = DocumentStep(ASSETS, returns[begin - WINDOW : begin])
    wealth, held = {"return drawdown": 1.0, "online": 1.0}, {}
    for session in range(begin, len(closes)):
        if months[session] != months[session - 1]:
            targets = {"return drawdown": _optimum(logs[:session]), "online": step.weights.numpy()}
            for name, target in targets.items():
                wealth[name] *= 1 - 0.0005 * np.abs(target - held.get(name, 0)).sum()
                held[name] = target.copy()
        for name, weights in held.items():
            grown = weights * (1 + returns[session])
            wealth[name] *= grown.sum()
            held[name] = grown / grown.sum()
        step.see(returns[session - WINDOW + 1 : session + 1])
        step()
    return wealth


def _optimum(logs: np.ndarray) -> np.ndarray:
    variance = pd.DataFrame(logs[-WINDOW:]).ewm(alpha=0.06).var().to_numpy()[-1] * MONTH
    covariance = np.corrcoef(logs[-60:], rowvar=False) * np.sqrt(np.outer(variance, variance))
    return document_weights(Instance(np.full(ASSETS, logs[-WINDOW:].mean() * MONTH), covariance))


if __name__ == "__main__":
    plain(sys.argv[1])
