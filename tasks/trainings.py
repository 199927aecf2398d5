"""Models made where the store lacks them: trained, or refreshed from a block's own; many at once where that pays.

A training that was interrupted goes on after its last epoch, to the same bytes.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from storage import unfinished
from storage.keys import Moment
from storage.store import Store
from tasks import fallbacks, models
from tasks.numerics import windows
from tasks.numerics.configs import Forecaster
from tasks.numerics.fitting import Fit
from tasks.numerics.training import Asked, Model
from tasks.numerics.windows import History
from tasks.progress import Progress

MadeBy = Callable[[str], dict[str, Any]]  # of a device: code and versions, as `models.put` takes them
log = logging.getLogger("prism.forecast")


class Wanted(NamedTuple):
    """A model that the store lacks."""

    key: str
    moment: Moment  # at which it is made
    session: int  # of the panel, up to which it knows the past
    parent: str | None = None  # key of the model that it is refreshed from

    @property
    def stamp(self) -> int:
        """What its random numbers depend on."""
        return self.moment.as_of.toordinal()


def make(store: Store, wanted: Sequence[Wanted], known: History, forecaster: Forecaster, made_by: MadeBy) -> None:
    """Make models, all trained or all refreshed, from what `known` holds up to the session of each."""
    work = _refresh if wanted[0].parent else _train
    work(store, wanted, known, forecaster, made_by)


def _train(store: Store, wanted: Sequence[Wanted], known: History, forecaster: Forecaster, made_by: MadeBy) -> None:
    begun = [models.get_fits(store, one.key, forecaster) for one in wanted]
    watches = [_Watch(store, one, forecaster, fits) for one, fits in zip(wanted, begun, strict=True)]
    asked = [Asked(known, one.session, one.stamp, begun=fits) for one, fits in zip(wanted, begun, strict=True)]
    started = time.monotonic()
    ahead = fallbacks.ahead(asked, forecaster, lambda place, fits: watches[place](fits))
    share = (time.monotonic() - started) / len(wanted)
    for one, fits, watch in zip(wanted, ahead, watches, strict=True):
        started = time.monotonic()
        made = fallbacks.trained(windows.cut(known, one.session), forecaster, one.stamp, watch, fits)
        seconds = share + time.monotonic() - started
        _put(store, one, made, seconds, forecaster, made_by)
        unfinished.drop(store, one.key)
        watch.end()
        log.info("model of %s trained in %.1f s", one.moment.month, seconds)


def _refresh(store: Store, wanted: Sequence[Wanted], known: History, forecaster: Forecaster, made_by: MadeBy) -> None:
    keys = {one.parent for one in wanted if one.parent}
    parents: dict[str | None, Model] = {key: models.get(store, key, forecaster) for key in keys}
    why: dict[str | None, str] = {**models.degraded(store, keys)}
    asked = [Asked(known, one.session, one.stamp, parent=parents[one.parent]) for one in wanted]
    started = time.monotonic()
    ahead = fallbacks.ahead(asked, forecaster)
    share = (time.monotonic() - started) / len(wanted)
    for one, fits in zip(wanted, ahead, strict=True):
        started = time.monotonic()
        past, parent = windows.cut(known, one.session), one.parent
        made = fallbacks.refreshed(parents[parent], why.get(parent), past, forecaster, one.stamp, fits)
        _put(store, one, made, share + time.monotonic() - started, forecaster, made_by)


def _put(
    store: Store, one: Wanted, made: fallbacks.Stood, seconds: float, forecaster: Forecaster, made_by: MadeBy
) -> None:
    by = made_by(made.device)
    models.put(store, one.key, one.moment, one.parent, made.model, made.fits, seconds, forecaster, by, made.degraded)


class _Watch:
    """After every epoch of a training: keep the fits, and say how far it is."""

    def __init__(self, store: Store, wanted: Wanted, forecaster: Forecaster, begun: tuple[Fit, ...] | None) -> None:
        self._store, self._key, self._config = store, wanted.key, forecaster.training
        self._progress = Progress(f"training {wanted.moment.month}", self._share(begun or ()))
        if begun:
            log.info("training of %s goes on where it was interrupted", wanted.moment.month)

    def end(self) -> None:
        """The training is over, perhaps before its last epoch."""
        self._progress.end()

    def _share(self, fits: tuple[Fit, ...]) -> float:
        return sum(fit.epoch for fit in fits) / (self._config.epochs * self._config.ensemble)

    def __call__(self, fits: tuple[Fit, ...]) -> None:
        models.put_fits(self._store, self._key, fits)
        member = max(place for place, fit in enumerate(fits) if fit.epoch)
        place = f"network {member + 1} of {len(fits)}, epoch {fits[member].epoch} of {self._config.epochs}"
        self._progress.tell(self._share(fits), f"{place}, loss {fits[member].loss:.3f}")
