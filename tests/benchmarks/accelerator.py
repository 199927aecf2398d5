"""The same training on an accelerator and on the processor beside it: `python -m tests.benchmarks.accelerator`.

Apart from `make bench`, whose machine has none. Everything runs through the functions of `tasks.numerics`, with no
other argument than the device, on the synthetic panel of the section *training*; time is the clock's. Needs torch with
an accelerator, numpy, scipy and numba, and prints a line of JSON for each part.

    agreement   what another device changes in a forecast, and whether it repeats itself to the byte
    speed       windows a second of one training by size of the network and of the batch, and of several at once
    floor       fp32 matrix products, of the network's own shape and of a large one, and copies of memory
    whole       120 months of 109 assets: a training a year, a refresh and a forecast each month, years side by side
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from tasks.numerics import mixtures, predictive, training, windows
from tasks.numerics.configs import Forecaster, TrainingConfig
from tests.benchmarks import frame
from tests.benchmarks.training import STAMP, by_chunks, configured, history, operations

SHAPE, YEAR, MONTH = (109, 4000), 252, 21  # assets and sessions; sessions of a year and of a month
SIZES = ((32, 8), (128, 64), (256, 128), (512, 128))  # units and latent dimensions
BATCHES = (64, 256, 1024)  # chunks
AT_ONCE = (1, 4, 8, 16)


@cache
def known() -> windows.History:
    """The panel, once in each process."""
    return history(SHAPE)


def clocked(work: Callable[[], object]) -> float:
    """Seconds until the work is done on whatever device."""
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def agreement(device: str) -> dict[str, Any]:
    """Forecasts of the default configs trained on the processor and on the device, twice on the latter."""
    config, found, seconds = Forecaster(), {}, {}
    rows = predictive.rows_at(known(), SHAPE[1] - 1, np.ones(SHAPE[0], bool), STAMP)
    for name, place in (("cpu", "cpu"), ("device", device), ("again", device)):

        def work(name: str = name, place: str = place) -> None:
            model, _ = training.train(known(), config, STAMP, place)
            found[name] = mixtures.vlstm(model, known(), rows, config, place)

        seconds[name] = clocked(work)
    plain, other, again = (found[name] for name in ("cpu", "device", "again"))
    sigma = np.abs(np.sqrt(other.variance / plain.variance) - 1)
    mean = np.abs(other.mean - plain.mean) / np.sqrt(plain.variance)
    return {
        "sigma, relative": {"median": float(np.median(sigma)), "largest": float(sigma.max())},
        "mean, in sigmas": {"median": float(np.median(mean)), "largest": float(mean.max())},
        "repeats to the byte": bool((other.variance == again.variance).all() and (other.mean == again.mean).all()),
        "seconds": seconds,
    }


def speed(device: str) -> list[dict[str, Any]]:
    """Windows a second of one network after one epoch that is not counted, by size and batch; the default head."""
    rows = []
    for hidden, latent in SIZES[:3] if device == "cpu" else SIZES:  # the largest takes a processor minutes
        for batch in BATCHES[:1] if device == "cpu" else BATCHES:
            config = configured(hidden, latent, batch)
            work, data = by_chunks(config, known(), 1, device)
            work()
            seconds, count = clocked(work), int(data.samples.sum())
            flops = operations(config, data.samples, data.inputs.shape[1], 1) / seconds
            rows.append({"hidden": hidden, "batch": batch, "windows/s": count / seconds, "FLOP/s": flops})
    return rows


def floor(device: str) -> dict[str, float]:
    """FLOP/s of fp32 products, the network's own and a large one, and bytes read and written a second by a copy."""
    found = {}
    large = 2048 if device == "cpu" else 8192
    for name, (rows, inner, columns) in {"own": (64, 32, 128), "large": (large, large, large)}.items():
        left, right = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
        turns = 1000 if name == "own" else 5
        multiply = _repeated(lambda left=left, right=right: torch.mm(left, right), turns)
        multiply()
        found[f"{name} GEMM, FLOP/s"] = 2 * turns * rows * inner * columns / clocked(multiply)
    block = torch.empty(2**28 if device != "cpu" else 2**26, device=device)
    target = torch.empty_like(block)
    move = _repeated(lambda: target.copy_(block), 10)
    move()
    found["copy, B/s"] = 2 * 10 * block.nbytes / clocked(move)
    return found


def _repeated(work: Callable[[], object], turns: int) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(turns):
            work()

    return repeat


def year(number: int, device: str) -> int:
    """One year of the walk-forward: train at its start, refresh and forecast each month; the windows that trained."""
    config, first, count = Forecaster(), SHAPE[1] - (10 - number) * YEAR, 0
    model: training.Model | None = None
    for month in range(12):
        end = first + month * MONTH
        past = windows.cut(known(), end)
        stamp = STAMP + end
        if model is None:
            model, _ = training.train(past, config, stamp, device)
            current, passes = model, config.training.epochs
        else:
            current, passes = training.refresh(model, past, config, stamp, device)[0], config.training.refresh_epochs
        samples = windows.training_samples(past, config.features.lookback, config.features.horizon)
        count += passes * config.training.ensemble * int(samples.sum())
        rows = predictive.rows_at(past, end, np.ones(SHAPE[0], bool), stamp)
        mixtures.vlstm(current, past, rows, config, device)
    return count


def whole(device: str, pool: Executor) -> dict[str, float]:
    """Ten years side by side: seconds, windows, and windows a second."""
    list(pool.map(_warm, [device] * 16))
    begin = time.perf_counter()
    count = sum(pool.map(year, range(10), [device] * 10))
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "windows": float(count), "windows/s": count / seconds}


def _warm(device: str) -> None:
    """What a process does once: the panel, the kernels, the device."""
    torch.set_num_threads(1)
    past = windows.cut(known(), 700)
    config = replace(Forecaster(), training=TrainingConfig(epochs=1, ensemble=1))
    training.train(past, config, STAMP, device)


def at_once(device: str, kind: type, counts: Iterable[int]) -> list[dict[str, Any]]:
    """Windows a second of several trainings at once, in threads of one process or in processes of their own."""
    rows = []
    for count in counts:
        with _pool(kind, count) as pool:
            list(pool.map(_warm, [device] * 2 * count))
            begin = time.perf_counter()
            done = sum(pool.map(_one, range(count), [device] * count))
            rows.append({"at once": count, "windows/s": done / (time.perf_counter() - begin)})
    return rows


def _pool(kind: type, count: int) -> Executor:
    return kind(count, mp_context=get_context("spawn")) if kind is ProcessPoolExecutor else kind(count)


def _one(number: int, device: str) -> int:
    """One training of one network; the windows that trained."""
    config = replace(Forecaster(), training=TrainingConfig(epochs=2, ensemble=1, seed=number))
    training.train(known(), config, STAMP, device)
    return 2 * int(windows.training_samples(known(), 66, 21).sum())


def main() -> int:
    """Measure one part, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("parts", nargs="*", default=["agreement", "floor", "speed", "threads", "processes", "whole"])
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print(
            "there is no accelerator that torch can use; give --device cpu to look at this processor", file=sys.stderr
        )
        return 2
    name = torch.cuda.get_device_name() if given.device == "cuda" else "none"
    print(json.dumps({"machine": frame.machine() | {"accelerator": name}}), flush=True)
    parts: dict[str, Callable[[], Any]] = {
        "agreement": lambda: agreement(given.device),
        "floor": lambda: floor(given.device),
        "speed": lambda: speed(given.device),
        "threads": lambda: at_once(given.device, ThreadPoolExecutor, AT_ONCE),
        "processes": lambda: at_once(given.device, ProcessPoolExecutor, AT_ONCE),
        "whole": lambda: whole(given.device, _pool(ProcessPoolExecutor, 10)),
    }
    for part in given.parts:
        seconds = time.perf_counter()
        found = parts[part]()
        seconds = time.perf_counter() - seconds
        print(json.dumps({"part": part, "device": given.device, "took": round(seconds, 1), "found": found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
