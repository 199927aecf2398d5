"""Power cuts: what was not synced is gone, and what was reported as written was synced.

    python -m tests.torture.power [PATH ...]

The shim's list of calls tells, at any call, which files' bytes and names no sync covers yet. The process is killed
before each call, and these files are emptied: what a file system may leave that wrote names before bytes. Readers then
see the old or the new state, or a sentence that names the file; a repair and one plain retry leave the new one.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from storage import repair, verification
from storage.errors import StoreError
from storage.store import open_store
from storage.verification import verify
from tests.torture.crashes import MODES, PATHS, Bench, Call, Outcome, calls_in
from tests.torture.paths import Way

# a power cut concerns the paths on which something is reported as written
WAYS = ("a first put", "put", "append", "claim", "partitions", "prices and snapshot", "unfinished again", "compaction")
KEPT = ("tables/", "blobs/", "unfinished/", "STORE.json")  # whose bytes must be on the disk
NAMED = ("tables/", "blobs/")  # whose names must be, too: of the others the old file is as good


def unsynced(calls: Iterable[Call]) -> tuple[set[str], set[str]]:
    """The files whose bytes, and those whose names, no sync has covered."""
    content: set[str] = set()
    names: set[str] = set()
    for call in calls:
        if call.name == "syncfs":
            content, names = set(), set()
        elif call.name == "fsync":
            content.discard(call.path)
        elif call.name in ("write", "truncate"):
            content.add(call.path)
        elif call.name in ("rename", "link"):
            if call.path in content:
                content.add(call.other)
            names.add(call.other)
        if call.name in ("rename", "unlink"):
            content.discard(call.path)
            names.discard(call.path)
    return content, names


def promised(bench: Bench) -> list[str]:
    """What was reported as written and is lost when the power fails at that moment."""
    content, names = unsynced(bench.calls)
    lost = {path for path in content if _inside(bench, path).startswith(KEPT)}
    lost |= {path for path in names if _inside(bench, path).startswith(NAMED)}
    return [f"{bench.way.name}: {_inside(bench, path)} is not synced" for path in sorted(lost)]


def _inside(bench: Bench, path: str) -> str:
    return Path(path).relative_to(bench.root).as_posix()


def cut(bench: Bench, number: int) -> tuple[bool, list[str]]:
    """Kill before a call, empty what is not on the disk, and look, then repair and retry.

    Whether readers were told that a file is damaged, and what is wrong.
    """
    bench.begin()
    bench.listing.unlink(missing_ok=True)
    bench.disturbed(number, MODES["killed before"])
    content, _ = unsynced(calls_in(bench.listing)[: number - 1])
    for path in content:
        if Path(path).exists():
            Path(path).write_bytes(b"")
    return tuple(bench.undisturbed(lambda: _found(bench)))


def _found(bench: Bench) -> tuple[bool, list[str]]:
    verification._LOOKS = 1
    found, told = [], False
    try:
        state = bench.way.state(open_store(bench.root))
    except StoreError as error:
        told = "is empty" in str(error) or "damage" in str(error)
        if not told:
            found.append(f"told without the file: {error}")
        state = None
    if not told and state not in (bench.old, bench.new):
        found.append(f"neither old nor new, and nothing was told: {state}")
    damage = verify(bench.root, deep=True).damage
    if told and not damage:
        found.append("told, and not found by verifying")
    if damage:
        lost = repair.mend(bench.root).lost
        found += [f"lost: {entry.place} {entry.said}" for entry in lost]
        if bench.way.state(open_store(bench.root)) not in (bench.old, bench.new):
            found.append("neither old nor new after a repair")
    bench.way.act(open_store(bench.root))
    if bench.way.state(open_store(bench.root)) != bench.new:
        found.append("a retry does not heal it")
    found += [f"damage after a retry: {e.place} {e.said}" for e in verify(bench.root, deep=True).damage]
    return told, found


def run(folder: Path, way: Way, every: int = 1) -> Outcome:
    """A power cut before every call of a way, or before each so many-th."""
    bench = Bench(folder, way)
    outcome = Outcome(way.name, len(bench.calls), wrong=promised(bench))
    for call in bench.calls[::every]:
        outcome.points += 1
        said = f"{way.name}, before call {call.number} ({call.name} {Path(call.target).name})"
        told, problems = cut(bench, call.number)
        outcome.told += told
        outcome.wrong += [f"{said}: {problem}" for problem in problems]
    return outcome


def main() -> None:
    """Print a line of JSON for each way of writing; exit code 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"Of {', '.join(WAYS)}; default: all.")
    parser.add_argument("--every", type=int, default=1, help="Before one call in so many only.")
    asked, outcomes = parser.parse_args(), []
    for name in asked.paths or WAYS:
        with tempfile.TemporaryDirectory(prefix="prism-power-") as folder:
            outcomes.append(run(Path(folder), PATHS[name], asked.every))
        print(json.dumps(asdict(outcomes[-1])), flush=True)
    wrong = sum(len(outcome.wrong) for outcome in outcomes)
    total = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in ("points", "told")}
    print(json.dumps({"ways": len(outcomes)} | total | {"wrong": wrong}), flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
