"""Crash points: every call with which a write path changes the store fails once, in each of five ways.

    python -m tests.torture.crashes [PATH ...]

A shim that is preloaded (`shim.c`, built here) counts the calls that change files below the store's folder and lets the
n-th fail: killed before it, killed after it, torn (half of the bytes are written, then killed), disk full (and full it
stays), I/O error. After each the store holds the old or the new state, whole; and one plain retry, undisturbed, leaves
the new state, with no damage.

Kills are of processes forked from this one, which has imported everything and used nothing of Delta.
"""

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from storage import verification
from storage.errors import PrismError
from storage.store import Store, open_store
from storage.verification import verify
from tests.torture import paths, recoveries
from tests.torture.kills import forked
from tests.torture.paths import State, Way

MODES = {"killed before": 1, "killed after": 2, "torn": 3, "disk full": 4, "I/O error": 5}
TORN, FULL = "torn", "disk full"
KILLING = ("killed before", "killed after", "torn")
CAUSES = {FULL: "the disk is full", "I/O error": "the disk fails"}  # that are told
PATHS = {way.name: way for way in (*paths.WAYS, *recoveries.WAYS)}
SOURCE = Path(__file__).with_name("shim.c")


@dataclass(frozen=True)
class Call:
    """A call that changes the store."""

    number: int
    name: str
    path: str
    other: str

    @property
    def target(self) -> str:
        return self.other or self.path


@dataclass
class Outcome:
    """What all crash points of a way came to."""

    way: str
    calls: int = 0
    points: int = 0
    told: int = 0  # times that a sentence said what was wrong
    wrong: list[str] = field(default_factory=list)


def built(folder: Path | str) -> Path:
    """The shim's library; raises RuntimeError where there is no C compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise RuntimeError("no C compiler is here (cc, gcc, clang), so the shim cannot be built")
    library = Path(folder) / "shim.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wno-nonnull-compare", "-Werror"]
    subprocess.run([compiler, *options, "-o", library, SOURCE, "-ldl"], check=True)
    return library


def shim() -> ctypes.CDLL:
    """The shim in this process."""
    return ctypes.CDLL(None)


def calls_in(listing: Path) -> list[Call]:
    """The calls that were listed."""
    rows = [line.split("\t") for line in listing.read_text().splitlines()]
    return [Call(int(number), *rest) for number, *rest in rows]


class Bench:
    """One way of writing, begun again and again from the same store."""

    def __init__(self, folder: Path, way: Way) -> None:
        self.folder, self.way = folder, way
        self.before, self.root = folder / "before" / "store", folder / "now" / "store"
        self.listing = folder / "calls"
        self.undisturbed(lambda: way.prepare(self.before))
        self.old = self._state_of_copy(act=False)
        self.hurt = self.undisturbed(lambda: not verify(self.root, deep=True).is_whole)  # or no store yet
        self.new = self._state_of_copy(act=True)
        self.calls = calls_in(self.listing)

    def store(self) -> Store:
        """The store as it is now."""
        return Store(self.root, "crash") if self.way.opens else open_store(self.root)

    def undisturbed(self, body: Callable[[], object]) -> object:
        """What `body` returns in a process of its own, which is not disturbed."""
        said = self.folder / "said"
        pid = forked(lambda: said.write_text(json.dumps(body())))
        _, status = os.waitpid(pid, 0)
        if status:
            raise AssertionError(f"{self.way.name}: an undisturbed process failed with status {status}")
        return json.loads(said.read_text())

    def begin(self) -> None:
        """The store as it was before."""
        shutil.rmtree(self.root.parent, ignore_errors=True)
        shutil.copytree(self.before.parent, self.root.parent, symlinks=True)

    def _state_of_copy(self, act: bool) -> State:
        self.begin()
        if act:
            self.listing.unlink(missing_ok=True)
            ended = self.disturbed(0, 0)
            if ended != "done":
                raise AssertionError(f"{self.way.name}, undisturbed: {ended}")
        return self.undisturbed(lambda: self.way.state(self.store()))

    def disturbed(self, number: int, mode: int) -> str:
        """Act while the n-th call fails: how the process ended, `done`, `killed`, or the error's sentence."""
        said = self.folder / "said"
        said.unlink(missing_ok=True)

        def body() -> None:
            store = self.store()
            library = shim()
            library.shim_watch(str(self.root.parent).encode(), str(self.listing).encode())
            library.shim_arm(number, mode)
            try:
                self.way.act(store)
            except PrismError as error:
                words = f"told: {error}"
            except BaseException as error:
                words = f"{type(error).__name__}: {error}"
            else:
                words = "done"
            library.shim_arm(0, 0)
            said.write_text(words)
            os._exit(0)  # what Delta's threads and destructors do then is nobody's business

        _, status = os.waitpid(forked(body), 0)
        if os.WIFSIGNALED(status):
            return "killed"
        return said.read_text() if said.exists() else f"ended with status {status}"

    def look(self, ended: str) -> list[str]:
        """What is wrong after a crash, and after one plain retry."""
        return self.undisturbed(lambda: self._found(ended))

    def _found(self, ended: str) -> list[str]:
        verification._LOOKS = 1
        found, state = [], self.way.state(self.store())
        if state not in (self.old, self.new):
            found.append(f"neither old nor new: {state}")
        if ended == "done" and state != self.new:
            found.append("said to be done, and it is not")
        if not (self.hurt and state == self.old):
            found += [f"damage: {entry.place} {entry.said}" for entry in verify(self.root, deep=True).damage]
        self.way.act(self.store())
        if self.way.state(self.store()) != self.new:
            found.append("a retry does not heal it")
        found += [f"damage after a retry: {e.place} {e.said}" for e in verify(self.root, deep=True).damage]
        return found


def run(folder: Path, way: Way, points: Callable[[list[tuple[int, str]]], list[tuple[int, str]]] = list) -> Outcome:
    """Every crash point of a way of writing, or those that `points` chooses of them."""
    bench = Bench(folder, way)
    outcome = Outcome(way.name, len(bench.calls))
    everywhere = [(call.number, mode) for call in bench.calls for mode in MODES if mode != TORN or call.name == "write"]
    for number, mode in points(everywhere):
        bench.begin()
        ended = bench.disturbed(number, MODES[mode])
        call = bench.calls[number - 1]
        said = f"{way.name}, call {number} ({call.name} {Path(call.target).name}), {mode}"
        outcome.points += 1
        if mode in KILLING and ended not in ("killed", "done"):
            outcome.wrong.append(f"{said}: {ended}")
        told = ended.startswith("told: ") and CAUSES.get(mode, "") in ended
        outcome.told += told
        if mode not in KILLING and ended != "done" and not told:
            outcome.wrong.append(f"{said}: {ended}")
        outcome.wrong += [f"{said}: {problem}" for problem in bench.look(ended)]
    return outcome


def main() -> None:
    """Print a line of JSON for each way of writing, and the sum; exit code 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"Of {', '.join(PATHS)}; default: all.")
    parser.add_argument("--every", type=int, default=1, help="Only one point in so many.")
    parser.add_argument("--from", dest="first", type=int, default=0, help="Beginning with this one.")
    asked = parser.parse_args()
    begin, outcomes = time.monotonic(), []
    for name in asked.paths or PATHS:
        with tempfile.TemporaryDirectory(prefix="prism-crash-") as folder:
            outcomes.append(run(Path(folder), PATHS[name], lambda points: points[asked.first :: asked.every]))
        print(json.dumps(asdict(outcomes[-1])), flush=True)
    wrong = sum(len(outcome.wrong) for outcome in outcomes)
    total = {name: sum(getattr(o, name) for o in outcomes) for name in ("calls", "points", "told")}
    print(
        json.dumps({"ways": len(outcomes)} | total | {"seconds": round(time.monotonic() - begin, 1), "wrong": wrong}),
        flush=True,
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
