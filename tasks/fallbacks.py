"""What stands in where a model cannot be had as asked: a declared chain, each link with its reason.

    the GPU's memory does not hold many networks     one after the other
    it does not hold even one chunk                  the same work on the CPU
    a training leaves the finite numbers             the baseline that the network corrects, as a model
    a refresh leaves them                            the block's trained model, as it is
    the block's own model is such a baseline         the same until the block ends

The reason is kept with the model (the column `degraded` of `models`), and on every weight that rests on it. What has no
forecast at all holds cash; what has one but no optimum holds risk parity (`tasks.allocate`).
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from storage.settings import Settings
from tasks.numerics.configs import Forecaster
from tasks.numerics.windows import History

if TYPE_CHECKING:
    from tasks.numerics.fitting import Fit
    from tasks.numerics.training import Asked, Model, Watch, WatchAll

Made = TypeVar("Made")
_ACCELERATOR = Lock()
log = logging.getLogger("prism.forecast")


class Stood(NamedTuple):
    """A model, how it came about, and why it is not what was asked for, if it is not."""

    model: "Model"
    fits: "tuple[Fit, ...]"
    device: str
    degraded: str | None


def on_device(work: Callable[[str], Made]) -> tuple[Made, str, str | None]:
    """What `work` gives on the settings' device, or on the CPU where the memory is too small; that device, and why."""
    from tasks.numerics import fitting

    device = Settings().device
    try:
        with _alone(device):
            return work(device), device, None
    except (RuntimeError, MemoryError) as error:
        if device == "cpu" or not fitting.is_out_of_memory(error):
            raise
    said = f"the memory of {device} was too small, so the CPU did it"
    log.warning(said)
    return work("cpu"), "cpu", said


def _alone(device: str) -> AbstractContextManager[object]:
    """What lets one thread at a time use an accelerator, which while it records a step must do nothing else."""
    return nullcontext() if device == "cpu" else _ACCELERATOR


def ahead(
    asked: "Sequence[Asked]", forecaster: Forecaster, watch: "WatchAll | None" = None
) -> "list[tuple[Fit, ...] | None]":
    """What `trained` and `refreshed` go on from: where the device takes many networks at once, as far as they come.

    Elsewhere, and where the memory is too small for them, it is what had begun.
    """
    from tasks.numerics import abreast, fitting, training

    device, found = Settings().device, [one.begun for one in asked]
    places = [k for k, one in enumerate(asked) if one.parent is None or not training.is_baseline(one.parent)]
    if len(places) > 1 and abreast.lanes(forecaster, device) > 1:
        try:
            told = None if watch is None else lambda place, fits: watch(places[place], fits)
            with _alone(device):
                fits = training.ahead([asked[place] for place in places], forecaster, device, told)
        except (RuntimeError, MemoryError) as error:
            if not fitting.is_out_of_memory(error):
                raise
            log.warning("the memory of %s was too small for many models at once; one follows the other", device)
            return found
        for place, own in zip(places, fits, strict=True):
            found[place] = own
    return found


def trained(
    known: History,
    forecaster: Forecaster,
    stamp: int,
    watch: "Watch | None" = None,
    begun: "tuple[Fit, ...] | None" = None,
) -> Stood:
    """A new model as `training.train` makes it, or what stands in for it."""
    from tasks.numerics import fitting, training

    try:
        made = on_device(lambda device: training.train(known, forecaster, stamp, device, watch, begun))
    except fitting.DivergedError as error:
        said = f"the training diverged ({error}), so the baseline stands in for the network"
        log.warning(said)
        model = training.baseline(known, forecaster, stamp)
        return Stood(model, tuple(map(fitting.started, model.parameters)), "cpu", said)
    (model, fits), device, why = made
    return Stood(model, fits, device, why)


def refreshed(
    parent: "Model",
    why: str | None,
    known: History,
    forecaster: Forecaster,
    stamp: int,
    begun: "tuple[Fit, ...] | None" = None,
) -> Stood:
    """The block's model refreshed, or itself where that is not to be; `why`: what is second best about the block's."""
    from tasks.numerics import fitting, training

    as_it_is = tuple(map(fitting.started, parent.parameters))
    if training.is_baseline(parent):
        return Stood(parent, as_it_is, "cpu", why)
    try:
        made = on_device(lambda device: training.refresh(parent, known, forecaster, stamp, device, begun))
    except fitting.DivergedError as error:
        said = f"the refresh diverged ({error}), so the block's trained model stays as it was"
        log.warning(said)
        return Stood(parent, as_it_is, "cpu", said)
    (model, fits), device, small = made
    return Stood(model, fits, device, small or why)
