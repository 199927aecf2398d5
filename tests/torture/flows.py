"""Whole flows killed: ingests, trainings and backfills die at random moments, and nothing of it is seen afterwards.

    python -m tests.torture.flows --kills 50

Each is begun as its command is, killed with its process after a moment drawn by chance, and begun again, under one
Prefect server; at the end each runs once undisturbed. Then the views, the ledger and the blobs are those of a store
whose flows nobody killed, no run is shown as running, and upkeep leaves no file that a kill left.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from storage import catalog, ledger
from storage.store import open_store
from storage.verification import verify
from tests.torture import kills, work
from tests.torture.kills import forked

SEED = 3
SHARES = {"ingest": 1, "train": 2, "backfill": 2}  # of the kills
LONGEST = {"ingest": 2.0, "train": 5.0, "backfill": 5.0}  # seconds of a life; whoever is begun again goes on
START, END = "2016-11", "2017-03"
LIGHT = {
    "index": "IDX",
    "network": {"hidden": 8, "latent": 2},
    "training": {"epochs": 12, "ensemble": 2, "minimum_sessions": 100},
    "forecast": {"draws": 4},
}


@contextmanager
def server(home: Path):
    """A Prefect server of its own, in use until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"PREFECT_HOME": str(home), "PRISM_CACHE": str(home / "cache"), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    os.environ |= {"PRISM_LEAK_GATE": "false", "PRISM_REPORT": "false"}
    import flows  # noqa: F401 - prepares the environment of the server too

    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        for _ in range(600):
            time.sleep(0.2)
            try:
                with urlopen(f"{os.environ['PREFECT_API_URL']}/health", timeout=5):
                    break
            except OSError:
                continue
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def bodies(prices: Path, store: Path) -> dict[str, Callable[[], object]]:
    """What is killed, by name; each in a process that has imported everything."""
    given = ["--source", "files", "--path", str(prices), "--params", str(prices.with_name("light.json"))]
    place = ["--store", str(store)]

    def command(*words: str) -> None:
        from flows import cli

        sys.argv = ["prism", *words]
        try:
            cli.main()
        except SystemExit as ended:
            if ended.code:
                raise AssertionError(f"{words} ended with {ended.code}") from ended

    def train() -> None:
        from flows import parameters as forms
        from flows.train import train_forecaster

        os.environ["PRISM_STORE"] = str(store)
        train_forecaster(START, END, parameters=forms.make(LIGHT | {"source": "files"}), path=str(prices))

    return {
        "ingest": lambda: command("ingest", *given, *place),
        "train": train,
        "backfill": lambda: command("backfill", "--start", START, "--end", END, *given, *place),
    }


def undisturbed(name: str, body: Callable[[], object]) -> float:
    """Seconds that a process of its own takes for `body`; AssertionError where it fails."""
    begin = time.monotonic()
    _, status = os.waitpid(forked(quietly(body)), 0)
    if status:
        raise AssertionError(f"{name}, undisturbed, ended with status {status}")
    return round(time.monotonic() - begin, 1)


def kill_at_random(name: str, body: Callable[[], object], chance: random.Random) -> bool:
    """Begin `body` and kill its process; False where it had ended by itself."""
    pid, end = forked(quietly(body)), time.monotonic() + chance.uniform(0.05, LONGEST[name])
    while time.monotonic() < end:
        time.sleep(0.01)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended and status:
            raise AssertionError(f"{name} failed with status {status}")
        if ended:
            return False
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def quietly(body: Callable[[], object]) -> Callable[[], object]:
    """`body` with what it prints left out."""

    def run() -> None:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        body()

    return run


def views(root: Path) -> dict[str, list[str]]:
    """The rows that people see, to the last bit, without times of recording."""
    from tests.flows.conftest import CONTENT, _exact

    rows = {name: catalog.query(open_store(root), "main", sql).to_pylist() for name, sql in CONTENT.items()}
    return {name: sorted(repr([_exact(v) for v in row.values()]) for row in found) for name, found in rows.items()}


def wrong(root: Path, calm: Path) -> list[str]:
    """What tells a store whose flows were killed from one whose flows were not."""
    store, found = open_store(root), []
    ours, theirs = views(root), views(calm)
    for name in (name for name in ours if ours[name] != theirs[name]):
        differing = sorted({*ours[name]} ^ {*theirs[name]})
        found.append(f"view {name}: {len(ours[name])} rows, not {len(theirs[name])}, like {differing[:2]}")
    said = ledger.broken(store, "main")
    found += [said] if said else []
    if len(ledger.read(store, "main")) != len(ledger.read(open_store(calm), "main")):
        found.append("the ledger has another number of records")
    for place in (root, calm):
        kills.age(place)
        work.keep(open_store(place), days=1)
    found += [f"left for good: {file}" for file in root.rglob("*") if kills.is_temporary(file)]
    there, expected = kills.names(root), kills.names(calm)
    if len(there) != len(expected):
        found.append(f"{len(there)} blobs and unfinished works, not {len(expected)}")
    return found + [f"{entry.place} {entry.said}" for entry in verify(root, deep=True).damage]


def running() -> list[str]:
    """Runs that the server shows as not over, once the dead are buried."""
    from prefect.client.orchestration import get_client

    from flows import zombies

    zombies._PATIENCE = 0  # whoever was killed in its first moments is found later
    zombies.bury()
    with get_client(sync_client=True) as client:
        counted = [run for run in client.read_flow_runs(limit=200) if run.state and not run.state.is_final()]
    return [f"{run.name} is shown as {run.state.name}" for run in counted if run.state]


def torture(folder: Path, count: int) -> dict:
    """Kill so many flows, and compare; the tally."""
    import torch  # noqa: F401 - what a flow would load late is there before the first fork

    import flows.backfill
    import flows.cli
    import flows.ingest
    import flows.train  # noqa: F401
    from tests.flows.conftest import make_prices

    make_prices().to_csv(folder / "prices.csv")
    (folder / "light.json").write_text(json.dumps(LIGHT))
    chance, calm, root = random.Random(SEED), folder / "calm", folder / "store"
    seconds = {name: undisturbed(name, body) for name, body in bodies(folder / "prices.csv", calm).items()}
    tally = {"kills": 0, "ended": 0} | dict.fromkeys(SHARES, 0)
    for name, body in bodies(folder / "prices.csv", root).items():
        while tally[name] < count * SHARES[name] / sum(SHARES.values()):
            met = kill_at_random(name, body, chance)
            tally["kills" if met else "ended"] += 1
            tally[name] += met
        undisturbed(name, body)
    result = folder / "wrong"
    undisturbed("the comparison", lambda: result.write_text(json.dumps([*wrong(root, calm), *running()])))
    return tally | {"seconds": seconds, "wrong": json.loads(result.read_text())}


def main() -> None:
    """Print the tally as one line of JSON; exit code 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server ends with this process
    with tempfile.TemporaryDirectory(prefix="prism-flows-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        with server(home):
            tally = torture(Path(folder), asked.kills)
    print(json.dumps(tally), flush=True)
    sys.exit(bool(tally["wrong"]))


if __name__ == "__main__":
    main()
