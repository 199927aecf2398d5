"""The same training on an accelerator and on the processor beside it: `python -m tests.benchmarks.accelerator`.

Apart from `make bench`, whose machine has none. Everything runs through the functions of `tasks.numerics`, with no
other argument than the device, on the synthetic panel of the section *training*; time is the clock's. Needs torch with
an accelerator, numpy, scipy and numba, and prints a line of JSON for each part.

    agreement   what another device changes in a forecast, and whether a training repeats itself to the byte, alone and
                beside others
    floor       fp32 matrix products, of the network's own shape and of a large one, and copies of memory
    speed       windows a second of one network, by size of the network and of the batch
    lanes       the same of as many networks at once as the device takes
    whole       120 months of 109 assets: a training a year, a refresh and a forecast each month; on the accelerator all
                trainings at once and all refreshes at once, on the processor ten years in a process each
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from tasks.numerics import abreast, fitting, mixtures, predictive, training, windows
from tasks.numerics.configs import Forecaster, TrainingConfig
from tests.benchmarks import frame
from tests.benchmarks.training import STAMP, by_chunks, configured, history, operations, started

SHAPE, YEAR, MONTH = (109, 4000), 252, 21  # assets and sessions; sessions of a year and of a month
SIZES = ((32, 8), (128, 64), (256, 128), (512, 128))  # units and latent dimensions
BATCHES = (64, 1024)  # chunks
YEARS, MONTHS = 10, 12


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
    alone, beside = _ahead(device, 1), _ahead(device, YEARS)[:1]
    sigma = np.abs(np.sqrt(other.variance / plain.variance) - 1)
    mean = np.abs(other.mean - plain.mean) / np.sqrt(plain.variance)
    return {
        "sigma, relative": {"median": float(np.median(sigma)), "largest": float(sigma.max())},
        "mean, in sigmas": {"median": float(np.median(mean)), "largest": float(mean.max())},
        "repeats to the byte": bool((other.variance == again.variance).all() and (other.mean == again.mean).all()),
        "the same bytes beside others": all(
            (one == two).all()
            for k in (0, 1, 2)
            for one, two in zip(_values(alone, k), _values(beside, k), strict=True)
        ),
        "seconds": seconds,
    }


def _ahead(device: str, years: int) -> list[tuple[fitting.Fit, ...]]:
    """The trainings of the last years, the newest first, of which the processor takes one after the other."""
    config = replace(Forecaster(), training=TrainingConfig(epochs=1))
    asked = [training.Asked(known(), first, STAMP + first) for first in _begins()[::-1][:years]]
    return training.ahead(asked, config, device)


def _values(fits: list[tuple[fitting.Fit, ...]], member: int) -> list[np.ndarray]:
    return list(fits[0][member].parameters.values())


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


def lanes(device: str) -> list[dict[str, Any]]:
    """Windows a second of one epoch of as many networks as the device takes, after one that is not counted."""
    rows = []
    for hidden, latent in SIZES:
        config = configured(hidden, latent)
        count, (fit, data) = abreast.lanes(config, device), started(known(), config, device)
        training.set_threads(config.training)

        def work(
            epochs: int, config: Forecaster = config, count: int = count, fit: Any = fit, data: Any = data
        ) -> None:
            draws = partial(training.generators, 0, stamp=STAMP, purpose=training.TRAIN)
            asked = [abreast.Lane(fit, data, lambda epoch, k=k: draws(k, epoch=epoch)) for k in range(count)]
            abreast.fit(asked, config, epochs, count, lambda _: None)

        begun = clocked(partial(work, 1))
        seconds, number = clocked(partial(work, 3)) - begun, 2 * count * int(data.samples.sum())
        flops = 2 * count * operations(config, data.samples, data.inputs.shape[1], 1) / seconds
        rows.append({"hidden": hidden, "lanes": count, "windows/s": number / seconds, "FLOP/s": flops, "start": begun})
    return rows


def _begins() -> list[int]:
    """The first month's session of each year."""
    return [SHAPE[1] - (YEARS - year) * YEAR for year in range(YEARS)]


def year(number: int) -> None:
    """One year of the walk-forward on a processor: train at its start, refresh and forecast each month."""
    config, first = Forecaster(), _begins()[number]
    model, _ = training.train(windows.cut(known(), first), config, STAMP + first)
    for end in range(first, first + MONTHS * MONTH, MONTH):
        past, current = windows.cut(known(), end), model
        if end > first:
            current, _ = training.refresh(model, past, config, STAMP + end)
        mixtures.vlstm(current, past, predictive.rows_at(past, end, np.ones(SHAPE[0], bool), STAMP + end), config)


def whole(device: str) -> dict[str, float]:
    """Ten years: the seconds of all, and on an accelerator of each part."""
    if device == "cpu":
        with ProcessPoolExecutor(YEARS, mp_context=get_context("spawn")) as pool:
            list(pool.map(_warm, [device] * 2 * YEARS))
            return {"all": clocked(lambda: list(pool.map(year, range(YEARS))))}
    _warm(device)
    config, spent, models = Forecaster(), {}, []
    trained = [training.Asked(known(), first, STAMP + first) for first in _begins()]

    def train() -> None:
        ahead = training.ahead(trained, config, device)
        for asked, fits in zip(trained, ahead, strict=True):
            past = windows.cut(known(), asked.last_session)
            models.append(training.train(past, config, asked.stamp, device, resume=fits)[0])

    def refresh() -> None:
        asked = [
            training.Asked(known(), first + month * MONTH, STAMP + first + month * MONTH, model)
            for first, model in zip(_begins(), list(models), strict=True)
            for month in range(1, MONTHS)
        ]
        fits = training.ahead(asked, config, device)
        refreshed.extend(zip(asked, fits, strict=True))

    def forecast() -> None:
        for asked, fits in refreshed:
            past, end = windows.cut(known(), asked.last_session), asked.last_session
            model, _ = training.refresh(asked.parent, past, config, asked.stamp, device, fits)
            rows = predictive.rows_at(past, end, np.ones(SHAPE[0], bool), asked.stamp)
            mixtures.vlstm(model, past, rows, config, device)

    refreshed: list[Any] = []
    for work in (train, refresh, forecast):
        spent[work.__name__] = clocked(work)
    return {"all": sum(spent.values())} | spent


def _warm(device: str) -> None:
    """What a process does once: the panel, the kernels, the device."""
    torch.set_num_threads(1)
    past = windows.cut(known(), 700)
    config = replace(Forecaster(), training=TrainingConfig(epochs=1, ensemble=1))
    training.train(past, config, STAMP, device)


def main() -> int:
    """Measure one part, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("parts", nargs="*", default=["agreement", "floor", "speed", "lanes", "whole"])
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
        "lanes": lambda: lanes(given.device),
        "whole": lambda: whole(given.device),
    }
    for part in given.parts:
        seconds = time.perf_counter()
        found = parts[part]()
        seconds = time.perf_counter() - seconds
        print(json.dumps({"part": part, "device": given.device, "took": round(seconds, 1), "found": found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
