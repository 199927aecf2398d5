"""Stage *forecast*: train a block's model, refresh it for each month, forecast mean and variance.

Models of a block are refreshed from its trained one, never from each other, so that all dates are independent
given the block. A date between two monthly as-of dates is forecast from all that is known at it, by what was learned
at the earlier one: there is one model a month, however often one trades. The network is imported inside the task
bodies: flows, forms and light workers load this module and must not load torch. A training that was interrupted
goes on after its last epoch, to the same bytes.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from storage import tables, unfinished
from storage.errors import NoDataError
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import TABLES
from storage.settings import Settings, current
from storage.store import Store, open_store
from tasks import fallbacks, forecasts, histories, own_forecasts, panels
from tasks.caching import cached_task, keyed_by, versions
from tasks.numerics import baselines, windows
from tasks.numerics.configs import FeatureConfig, Forecaster
from tasks.numerics.windows import History
from tasks.progress import Progress

if TYPE_CHECKING:
    from tasks.numerics.fitting import Fit
    from tasks.numerics.predictive import Forecast, Learned, Rows, Simple
    from tasks.numerics.tails import Tails
    from tasks.numerics.training import Model

KEYED = keyed_by(
    __name__,
    "tasks.numerics.training",
    "tasks.numerics.mixtures",
    "tasks.numerics.predictive",
    "tasks.fallbacks",
    "tasks.forecasts",
    "tasks.histories",
    "tasks.models",
    "tasks.own_forecasts",
    "tasks.panels",
    packages=("numpy", "scipy", "numba", "pandas", "torch", "exchange-calendars"),
)
log = logging.getLogger("prism.forecast")
_UNREADY = {
    False: "no eligible asset has a past without a gap that is long enough for this forecaster",
    True: "none of your own forecasts of that day is of an eligible asset",
}


@dataclass(frozen=True)
class Trained:
    """A block's trained model: when it is trained, and its key."""

    moment: Moment
    key: str
    elsewhere: str | None = None  # the device it is trained on, where that is another than this process has


@dataclass(frozen=True)
class Month:
    """One date's forecast: its key and, of a network, the model and the block's one that it was refreshed from."""

    moment: Moment
    trained: Trained | None
    model: str | None
    forecast: str
    learned: Moment  # the monthly date of the model: the same, or the newest one before


def possible(
    panel: panels.Panel, moments: tuple[Moment, ...], forecaster: Forecaster, own: own_forecasts.Own
) -> list[Moment]:
    """The moments at which enough is known for a forecast. own: a person's own forecasts, where they are asked for."""
    kind = forecaster.forecast.forecaster
    if kind == "files":
        return [m for m in moments if own.tickers.get(m.as_of, frozenset()) & _eligible(panel, m)]
    if kind == "historical":
        least = baselines.FEWEST + forecaster.features.horizon
        moments = tuple(m for m in moments if any(_own_sessions(panel, m, t) >= least for t in _eligible(panel, m)))
    needed = _sessions_to_train(forecaster) if kind == "vlstm" else 1
    known = _sessions_with_labels(panel, moments, forecaster.features)
    return [
        moment for moment, count in zip(moments, known, strict=True) if count >= needed and _eligible(panel, moment)
    ]


def _sessions_to_train(forecaster: Forecaster) -> int:
    """Sessions with labels that a training needs, those of its validation included."""
    training = forecaster.training
    apart = training.validation_sessions + forecaster.features.horizon if training.patience else 0
    return training.minimum_sessions + apart


def _eligible(panel: panels.Panel, moment: Moment) -> set[str]:
    """Tickers that may be held at the moment."""
    allowed = panel.eligible[panel.at(moment.as_of)]
    return {ticker for ticker, may in zip(panel.universe.assets, allowed, strict=True) if may}


def _own_sessions(panel: panels.Panel, moment: Moment, ticker: str) -> int:
    """Sessions of the asset up to the moment."""
    return int(np.searchsorted(panel.series[ticker].day, np.datetime64(moment.as_of), side="right"))


def _sessions_with_labels(panel: panels.Panel, moments: Sequence[Moment], config: FeatureConfig) -> list[int]:
    """By moment the sessions at which some asset has a whole window, and a label that was known by then."""
    first = 2 * config.lookback - 1
    known = np.full(panel.sessions.size, np.iinfo(np.int64).max)  # the first day on which a session has that
    for asset in (panel.series[ticker] for ticker in panel.universe.assets if ticker in panel.series):
        ends = asset.day[first + config.horizon :].astype(np.int64)
        np.minimum.at(known, asset.session[first : first + ends.size], ends)
    days = np.array([moment.as_of for moment in moments], "datetime64[D]").astype(np.int64)
    return np.searchsorted(np.sort(known), days, side="right").tolist()


def trained_key(features_key: str, forecaster: Forecaster, device: str | None = None) -> str:
    """Key of the model trained on all that `features_key`, the training date's features, names.

    device: what it is trained on; by default what this process has.
    """
    return KEYED.key("train", seen=features_key, **_of_model(forecaster, device or current(Settings).device))


def trained(store: Store, moment: Moment, features_key: str, forecaster: Forecaster) -> Trained:
    """The model of the block that begins at `moment`.

    Where other machines train on another device it is theirs, unless only this device's own has been trained: what
    was once trained is used to the end of the block.
    """
    own, device = trained_key(features_key, forecaster), current(Settings).training_device
    theirs = trained_key(features_key, forecaster, device)
    if theirs == own or tables.existing(store, "models", [own, theirs]) == {own}:
        return Trained(moment, own)
    return Trained(moment, theirs, device)


def month_keys(
    moment: Moment, features_key: str, trained: Trained | None, forecaster: Forecaster, own: own_forecasts.Own
) -> Month:
    """The month's keys, given its features' and its block's trained model."""
    model = trained.key if trained else None
    if trained and moment != trained.moment and forecaster.training.refresh_epochs:
        made = _of_model(forecaster, current(Settings).device)
        model = KEYED.key("refresh", parent=trained.key, seen=features_key, **made)
    return Month(moment, trained, model, _key(moment, features_key, model, forecaster, own), moment)


def day_keys(
    moment: Moment,
    features_key: str,
    learned: Moment,
    month: Month | None,
    forecaster: Forecaster,
    own: own_forecasts.Own,
) -> Month:
    """The keys of a date after the monthly date `learned`, whose own are `month` where it has a forecast."""
    trained, model = (month.trained, month.model) if month else (None, None)
    return Month(moment, trained, model, _key(moment, features_key, model, forecaster, own), learned)


def _key(moment: Moment, features_key: str, model: str | None, forecaster: Forecaster, own: own_forecasts.Own) -> str:
    """Key of one date's forecast."""
    how = {"seen": features_key, **_drawn(forecaster)}
    if forecaster.forecast.forecaster == "files":
        return KEYED.key("files", rows=own.digests[moment.as_of], config=forecaster.features, **how)
    if model is None:
        return KEYED.key("simple", config=forecaster.features, **how)
    return KEYED.key("forecast", model=model, **how)


def _drawn(forecaster: Forecaster) -> dict[str, Any]:
    """What of the forecast's config its numbers depend on; gate and units are applied to them later."""
    return {name: getattr(forecaster.forecast, name) for name in ("forecaster", "draws", "mean_shrink", "volatility")}


def _of_model(forecaster: Forecaster, device: str) -> dict[str, Any]:
    configs = {name: getattr(forecaster, name) for name in ("features", "network", "loss", "training")}
    return configs | {"device": device}


@cached_task(cache_policy=KEYED, task_run_name="train {moment.as_of}")
def train_block(
    panel: PanelKey, moment: Moment, key: str, history: tuple[str, ...], forecaster: Forecaster
) -> Produced:
    """Train the model of the block that starts at `moment`, from the feature partitions `history`."""
    from tasks import models

    store = open_store()
    if tables.existing(store, "models", [key]):
        return Produced("models", (key,))
    known = histories.load(store, panel, history)
    begun = models.get_fits(store, key, forecaster)
    watch = _Watch(store, key, moment, forecaster, begun)
    started = time.monotonic()
    made = fallbacks.trained(known, forecaster, moment.as_of.toordinal(), watch, begun)
    seconds = time.monotonic() - started
    models.put(
        store, key, moment, None, made.model, made.fits, seconds, forecaster, _made_by(made.device), made.degraded
    )
    unfinished.drop(store, key)
    watch.end()
    log.info("model of %s trained in %.1f s", moment.month, seconds)
    return Produced("models", (key,))


class _Watch:
    """After every epoch of a training: keep the fits, and say how far it is."""

    def __init__(
        self, store: Store, key: str, moment: Moment, forecaster: Forecaster, begun: "tuple[Fit, ...] | None"
    ) -> None:
        self._store, self._key, self._config = store, key, forecaster.training
        self._progress = Progress(f"training {moment.month}", self._share(begun or ()))
        if begun:
            log.info("training of %s goes on where it was interrupted", moment.month)

    def end(self) -> None:
        """The training is over, perhaps before its last epoch."""
        self._progress.end()

    def _share(self, fits: "tuple[Fit, ...]") -> float:
        return sum(fit.epoch for fit in fits) / (self._config.epochs * self._config.ensemble)

    def __call__(self, fits: "tuple[Fit, ...]") -> None:
        from tasks import models

        models.put_fits(self._store, self._key, fits)
        member = max(place for place, fit in enumerate(fits) if fit.epoch)
        place = f"network {member + 1} of {len(fits)}, epoch {fits[member].epoch} of {self._config.epochs}"
        self._progress.tell(self._share(fits), f"{place}, loss {fits[member].loss:.3f}")


@cached_task(cache_policy=KEYED, task_run_name="forecast from {months[0].moment.month}")
def forecast_months(
    panel: PanelKey, months: tuple[Month, ...], history: tuple[str, ...], forecaster: Forecaster, dataset: str
) -> Produced:
    """Forecast each date that the store lacks, refreshing its model first. `history` reaches to the last date."""
    store = open_store()
    keys = tuple(month.forecast for month in months)
    there = tables.existing(store, "forecasts", keys)
    missing = [month for month in months if month.forecast not in there]
    if missing:
        everything = panels.load(store, panel)
        known = histories.load(store, panel, history)
        for _, group in groupby(missing, key=lambda month: month.learned):
            dates = list(group)
            tables.put(store, "forecasts", _forecasts(store, everything, dates, known, forecaster, dataset))
            log.info("forecast of %s", " to ".join(dict.fromkeys((dates[0].moment.month, dates[-1].moment.month))))
    return Produced("forecasts", keys)


def _made_by(device: str) -> dict[str, Any]:
    return {"code": KEYED.code, "versions": versions(KEYED.packages), "device": device}


def _refreshed(store: Store, month: Month, known: History, forecaster: Forecaster) -> "Model":
    """The date's model: the block's own, or that one refreshed with what is known at the monthly date."""
    from tasks import models

    assert month.model is not None
    assert month.trained is not None
    if tables.existing(store, "models", [month.model]):
        return models.get(store, month.model, forecaster)
    started, moment, parent = time.monotonic(), month.learned, month.trained.key
    why, stamp = models.degraded(store, [parent]).get(parent), moment.as_of.toordinal()
    made = fallbacks.refreshed(models.get(store, parent, forecaster), why, known, forecaster, stamp)
    seconds = time.monotonic() - started
    by = _made_by(made.device)
    models.put(store, month.model, moment, parent, made.model, made.fits, seconds, forecaster, by, made.degraded)
    return made.model


@dataclass(frozen=True)
class _Learned:
    """What the forecasts from one monthly date up to the next have in common."""

    simple: "Learned"
    tails: "Tails | None"  # of a simple forecaster
    model: "Model | None"


def _learned(store: Store, month: Month, past: History, forecaster: Forecaster) -> _Learned:
    """What is learned from the past that is known at the monthly date."""
    from tasks.numerics import predictive

    simple, kind = predictive.learn(past, forecaster), forecaster.forecast.forecaster
    tails = predictive.simple_tails(past, simple, forecaster) if kind in predictive.SIMPLE else None
    return _Learned(simple, tails, _refreshed(store, month, past, forecaster) if month.model else None)


def _forecasts(
    store: Store, panel: panels.Panel, dates: list[Month], known: History, forecaster: Forecaster, dataset: str
) -> pa.Table:
    """The rows of dates that share a monthly one: every eligible asset of which enough is known.

    The simple forecasts stand beside its own. Each date passes through the network by itself, so that its bytes do not
    depend on the others.
    """
    from tasks.numerics import predictive

    first, last = (panel.at(moment.as_of) for moment in (dates[0].learned, dates[-1].moment))
    past = windows.cut(known, first)
    seen = past if first == last else windows.cut(known, last)
    learned, found = _learned(store, dates[0], past, forecaster), []
    rows = predictive.joined([_rows_at(panel, month.moment, seen) for month in dates])
    if learned.model is not None:
        rows = predictive.chosen(rows, predictive.complete(seen, rows, forecaster.features.lookback))
    simple = predictive.simple(seen, rows, learned.simple, forecaster)
    shrink = forecaster.forecast.mean_shrink
    for month in dates:
        which = rows.stamp == month.moment.as_of.toordinal()
        own, beside = predictive.chosen(rows, which), predictive.Simple(*(values[which] for values in simple))
        if forecaster.forecast.forecaster == "files":
            made = forecasts.own(own_forecasts.at(store, dataset, month.moment.as_of), panel, own)
        elif learned.tails is not None:
            made = predictive.Forecast(*beside.moments(forecaster.forecast.forecaster), learned.tails)
        else:
            from tasks.numerics import mixtures

            draw = partial(mixtures.vlstm, learned.model, seen, own, forecaster, mean_shrink=shrink)
            made, _, _ = fallbacks.on_device(draw)
        found += _entries(panel, month, own, made, beside, forecaster)
    return pa.Table.from_pylist(found, TABLES["forecasts"].schema)


def _rows_at(panel: panels.Panel, moment: Moment, seen: History) -> "Rows":
    """The eligible assets at a date."""
    from tasks.numerics import predictive

    at = panel.at(moment.as_of)
    return predictive.rows_at(seen, at, panel.eligible[at], moment.as_of.toordinal())


def _entries(
    panel: panels.Panel, month: Month, rows: "Rows", found: "Forecast", simple: "Simple", forecaster: Forecaster
) -> list[dict[str, Any]]:
    """A date's rows as they are stored; NoDataError where none is a forecast."""
    said = {"key": month.forecast, "as_of": month.moment.as_of, "model": month.model}
    made = forecasts.entries(panel, rows, found, simple, said)
    if not made:
        raise NoDataError(f"{month.moment.month}: {_UNREADY[forecaster.forecast.forecaster == 'files']}")
    return made
