"""Kills: processes that write to one store are killed at random moments, again and again, and nothing may be lost.

    python -m tests.torture.kills --seeds 5 --kills 400

For each seed four writers do the same line of jobs, one in ten of them handed to two at once, beside a process that
keeps the store in order and one that reads and checks whatever it sees. Each is killed, but for the reader, after a
moment drawn by chance, and begun again. In the end the jobs are done once more undisturbed, and the tables, the ledger
and the blobs are compared, byte for byte, with those of a store whose writer nobody ever killed.

Processes are forked from this one, which imports everything and uses nothing of Delta itself: a life costs milliseconds
instead of seconds.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from storage import blobs, catalog, ledger, tables
from storage.store import Store, open_store
from storage.verification import verify
from tests.torture import work

WRITERS = 4
LONGEST = 2.0  # seconds of a writer's life, at most
DOUBLED = 10  # one job in so many is handed to two writers


@dataclass
class Tally:
    """What a seed came to."""

    seed: int
    kills: int = 0
    jobs: int = 0
    doubled: int = 0
    reads: int = 0
    temporaries: int = 0  # files that kills had left before the store was kept
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def forked(body: Callable[[], object]) -> int:
    """The pid of a process that does `body` and says how it failed."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def undisturbed(what: str, body: Callable[[], object]) -> None:
    """Do `body` in a process that nobody kills."""
    _, status = os.waitpid(forked(body), 0)
    if status:
        raise AssertionError(f"{what} failed with status {status}")


@dataclass(frozen=True)
class Jobs:
    """The numbers of a writer's jobs: every fourth, and those of its neighbour that are doubled."""

    writer: int
    seed: int

    def __iter__(self):
        number = 0
        while True:
            if number % WRITERS == self.writer or (self.is_doubled(number) and (number + 1) % WRITERS == self.writer):
                yield number
            number += 1

    def is_doubled(self, number: int) -> bool:
        return random.Random(f"{self.seed} {number}").randrange(DOUBLED) == 0


class Ring:
    """One seed's store, the processes at work on it, and what they say of themselves."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.root, self.said, self.seed = folder / "store", folder / "said", seed
        self.errors = folder / "errors"
        self.chance = random.Random(seed)
        self.tally = Tally(seed)
        open_store(self.root)
        self.said.touch()

    def say(self, *words: object) -> None:
        """One line, whole or not at all."""
        with self.said.open("ab", buffering=0) as file:
            file.write(f"{' '.join(map(str, words))}\n".encode())

    def lines(self, word: str) -> list[int]:
        found = [line.split() for line in self.said.read_text().splitlines()]
        return [int(words[1]) for words in found if words[0] == word]

    def write(self, writer: int) -> None:
        """A writer's life: it goes on from the first job that it has not done, until it is killed."""
        store, done = open_store(self.root), set(self.lines(f"done{writer}"))
        for number in Jobs(writer, self.seed):
            if number not in done:
                self.say("begun", number)
                work.do(store, number)
                self.say(f"done{writer}", number)
                self.say("acknowledged", number)

    def keep(self) -> None:
        """The keeper's life."""
        store = open_store(self.root)
        while True:
            work.keep(store)

    def read(self) -> None:
        """The reader's life, which nobody ends before the last kill: whatever it sees is whole, and what was said to
        be done is there."""
        store = open_store(self.root)
        stop = self.root.parent / "stop"
        while not stop.exists():
            acknowledged = set(self.lines("acknowledged"))
            problems = look(store, acknowledged)
            self.say("read", len(problems))
            if problems:
                with self.errors.open("a") as file:
                    file.write("\n".join(problems) + "\n")
            time.sleep(0.02)

    def torture(self, kills: int) -> None:
        """Kill until there were so many kills, each of a process that was at work."""
        bodies = {name: (lambda writer=name: self.write(writer)) for name in range(WRITERS)} | {"keeper": self.keep}
        reader = forked(self.read)
        alive: dict[int, tuple[object, float]] = {}
        names: list[object] = list(bodies)
        while self.tally.kills < kills:
            for name in names:
                alive[forked(bodies[name])] = name, time.monotonic() + self.chance.uniform(0.01, LONGEST)
            names = []
            pid = min(alive, key=lambda one: alive[one][1])
            name, end = alive.pop(pid)
            time.sleep(max(0.0, end - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status):
                self.tally.kills += 1
            else:
                self.tally.wrong.append(f"{name} ended by itself with status {status}")
            names.append(name)
        for pid in alive:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.tally.kills += 1
        (self.root.parent / "stop").touch()
        os.waitpid(reader, 0)

    def compare(self) -> None:
        """Do all jobs that were begun once more, undisturbed, and compare with a store that was never disturbed."""
        tally, count = self.tally, max(self.lines("begun"), default=-1) + 1
        tally.jobs, tally.doubled = count, sum(Jobs(0, self.seed).is_doubled(number) for number in range(count))
        tally.reads = len(self.lines("read"))
        if any(self.lines("read")):
            tally.wrong += self.errors.read_text().splitlines()
        tally.temporaries = sum(map(is_temporary, self.root.rglob("*")))
        calm = self.root.parent / "calm" / "store"
        for root in (self.root, calm):
            undisturbed("the rerun", lambda root=root: [work.do(open_store(root), number) for number in range(count)])
        result = self.root.parent / "compared"
        undisturbed("the comparison", lambda: result.write_text(json.dumps(compared(self.root, calm))))
        tally.wrong += json.loads(result.read_text())


def is_temporary(file: Path) -> bool:
    """Whether a file is one that is being written, or that a kill left."""
    return file.is_file() and ("#" in file.name or (file.name.startswith(".") and file.name not in STAYING))


STAYING = {".lock", ".compacting", ".ingesting"}


def look(store: Store, acknowledged: set[int]) -> list[str]:
    """What is wrong in what a reader sees."""
    found = []
    try:
        decided = {record.record["number"]: record for record in ledger.read(store, "main")}
        found += [f"job {number} was acknowledged and is not decided" for number in acknowledged - decided.keys()]
        said = ledger.broken(store, "main")
        found += [said] if said else []
        rows: dict[str, list[dict]] = {}
        for row in tables.read(store, "weights").to_pylist():
            rows.setdefault(row["key"], []).append(row)
        for number in decided:
            weights = sorted(rows.get(work.key_of("weights", number), []), key=lambda row: row["ticker"])
            if weights != work.weights_of(number):
                found.append(f"the weights of job {number} are {weights}")
        for row in tables.read(store, "models", key=[work.key_of("models", n) for n in decided]).to_pylist()[-3:]:
            blobs.get(store, row["blob"])
        seen = catalog.query(store, "main", "SELECT count(*) AS rows, count(DISTINCT key) AS keys FROM raw.weights")
        [counted] = seen.to_pylist()
        if counted["rows"] != len(work.TICKERS) * counted["keys"]:
            found.append(f"DuckDB sees {counted}")
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


def compared(root: Path, calm: Path) -> list[str]:
    """Where two stores differ, what is damaged in the first, and what kills have left in it for good."""
    store, other = open_store(root), open_store(calm)
    found = []
    ours, theirs = work.content(store), work.content(other)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            lost = set(theirs.get(name, [])) - set(ours.get(name, []))
            found.append(
                f"table {name}: {len(ours.get(name, []))} rows, not {len(theirs.get(name, []))}; lost {len(lost)}"
            )
    for scenario in ("main",):
        said = ledger.broken(store, scenario)
        found += [said] if said else []
    found += [f"{entry.place} {entry.said}" for entry in verify(root, deep=True).damage]
    for place in (root, calm):  # as if the last kill was long ago
        age(place)
        work.keep(open_store(place), days=1)
    found += [f"left for good: {file}" for file in root.rglob("*") if is_temporary(file)]
    found += [f"{entry.place} {entry.said}" for entry in verify(root, deep=True).damage]
    found += [f"note: {entry.place} {entry.said}" for entry in verify(root, deep=True).notes]
    there, expected = names(root), names(calm)
    if there != expected:
        found.append(f"blobs and unfinished work: {len(there - expected)} too many, {len(expected - there)} too few")
    return found + (["the content changed while the store was kept"] if work.content(store) != ours else [])


def age(root: Path) -> None:
    """Make every file ten days old."""
    then = time.time() - 10 * 86_400
    for file in root.rglob("*"):
        if file.is_file():
            os.utime(file, (then, then))


def names(root: Path) -> set[str]:
    """Names of the blobs and of unfinished work."""
    files = [*(root / "blobs" / "sha256").rglob("*"), *(root / "unfinished").rglob("*")]
    return {file.relative_to(root).as_posix() for file in files if file.is_file()}


def run(folder: Path, seed: int, kills: int) -> Tally:
    """One seed from an empty store to the comparison."""
    begin, ring = time.monotonic(), Ring(folder, seed)
    ring.torture(kills)
    ring.compare()
    ring.tally.seconds = round(time.monotonic() - begin, 1)
    return ring.tally


def main() -> None:
    """Print a line of JSON for each seed, and the sum; exit code 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--kills", type=int, default=400)
    asked = parser.parse_args()
    tallies = []
    for seed in range(asked.first, asked.first + asked.seeds):
        with tempfile.TemporaryDirectory(prefix="prism-torture-") as folder:
            tallies.append(run(Path(folder), seed, asked.kills))
        print(json.dumps(asdict(tallies[-1])), flush=True)
    counted = {
        name: sum(getattr(t, name) for t in tallies) for name in ("kills", "jobs", "doubled", "reads", "seconds")
    }
    wrong = sum(len(tally.wrong) for tally in tallies)
    print(json.dumps({"seeds": len(tallies)} | counted | {"wrong": wrong}), flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
