"""What every section of the benchmark shares: interleaved timing, peak memory, rows, and the run before.

Ours and the baseline take turns in one process, so that whatever else the machine does meets both. Time is the CPU's,
not the clock's, and a case is the median of its turns. Memory is the peak of a process of its own.

    ratio = cost of the baseline / cost of ours         above 1, ours is better

A section is a function without arguments that returns a `Section`; `run.py` lists them.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
LATEST = Path(__file__).with_name("latest.json")
FALL = 0.2  # part of its last ratio that a case may lose before it is marked
DIGITS = 4  # that are kept of every number


class Row(NamedTuple):
    """One line of the table."""

    section: str
    case: str
    ours: float
    baseline: float
    ratio: float  # of costs, baseline / ours
    floor: float | None  # share of the fastest that this machine can do, in 0..1
    unit: str  # of ours and baseline


class Section(NamedTuple):
    """The rows of one subject, with what is asked of them."""

    name: str
    notes: tuple[str, ...]  # what is compared, how, and what the floor is
    rows: tuple[Row, ...]
    least: Mapping[str, float] = {}  # smallest ratio wanted, by case
    most: Mapping[str, float] = {}  # largest value of ours wanted, by case


def rounded(value: float) -> float:
    """The value to `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


def speed(section: str, case: str, ours: float, baseline: float, unit: str, floor: float | None = None) -> Row:
    """A row of two speeds: the ratio of costs is ours / baseline."""
    share = None if floor is None else rounded(floor)
    return Row(section, case, rounded(ours), rounded(baseline), rounded(ours / baseline), share, unit)


def cost(section: str, case: str, ours: float, baseline: float, unit: str, floor: float | None = None) -> Row:
    """A row of two costs, such as seconds or bytes: the ratio is baseline / ours."""
    return speed(section, case, ours, baseline, unit, floor)._replace(ratio=rounded(baseline / ours))


def interleaved(cases: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median CPU-seconds of each case: all take turns, `turns` times after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(turns + 1):
        for name, work in cases.items():
            begin = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


class Apart(NamedTuple):
    """What a function took in a process of its own, imports apart but for their memory."""

    seconds: float  # of CPU
    memory: float  # peak resident MiB


def apart(module: str, function: str, *arguments: str) -> Apart:
    """What the module's function takes in a new process, called with the arguments.

    Memory is as the kernel counts it for the process's own; `ru_maxrss` would begin at what this process holds.
    """
    code = (
        f"import sys, time, {module} as m; begin = time.process_time(); m.{function}(*sys.argv[1:]); "
        "print('seconds', time.process_time() - begin, open('/proc/self/status').read())"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    words = done.stdout.split()
    seconds, peak = (words[words.index(name) + 1] for name in ("seconds", "VmHWM:"))
    return Apart(float(seconds), int(peak) / 1024)


def peak_memory(module: str, function: str) -> float:
    """Peak resident MiB of a new process that imports the module and calls its function."""
    return apart(module, function).memory


def machine() -> dict[str, Any]:
    """The machine and the libraries that the numbers belong to."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].split(":")[1].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def report(sections: Sequence[Section], date: str) -> dict[str, Any]:
    """What `latest.json` holds."""
    rows = [row._asdict() for section in sections for row in section.rows]
    notes = {section.name: list(section.notes) for section in sections}
    return {"date": date, "machine": machine(), "notes": notes, "rows": rows}


def read(path: Path = LATEST) -> dict[str, Any]:
    """The report of the last run, one without rows where there was none."""
    return json.loads(path.read_text()) if path.exists() else {"date": None, "rows": []}


def write(found: dict[str, Any], path: Path = LATEST) -> None:
    """Keep a report for the next run to compare with."""
    path.write_text(json.dumps(found, indent=2) + "\n")


def last_ratio(row: Row, before: dict[str, Any]) -> float | None:
    """The ratio of the same case in an earlier report, None where it has none."""
    same = (old["ratio"] for old in before["rows"] if (old["section"], old["case"]) == (row.section, row.case))
    return next(same, None)


def has_fallen(ratio: float, last: float | None) -> bool:
    """Whether a ratio lost more than `FALL` of what it was."""
    return last is not None and ratio < (1 - FALL) * last


def wanted(section: Section, row: Row) -> tuple[str, bool]:
    """What is asked of a row, in words, and whether it is met."""
    if row.case in section.least:
        return f">= {section.least[row.case]:g} x", row.ratio >= section.least[row.case]
    if row.case in section.most:
        return f"<= {section.most[row.case]:g} {row.unit}", row.ours <= section.most[row.case]
    return "", True
