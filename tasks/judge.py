"""Stage *judge*: what forecasts of every session were worth, beside the simple forecasters and GARCH.

Between two as-of dates every session is forecast by the model of the first one, from data up to that session: what a
person would have had on that day. The outcomes are joined when all predictions are there, so a prediction never
depends on one.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from storage import clock, partitions, tables
from storage.errors import NoDataError
from storage.keys import Moment, PanelKey, Produced
from storage.partitions import Partition
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import fallbacks, garch, histories, judging, outcomes, panels
from tasks.caching import cached_task, keyed_by
from tasks.numerics import windows
from tasks.numerics.configs import FeatureConfig, Forecaster
from tasks.numerics.windows import History

KEYED = keyed_by(
    __name__,
    "tasks.numerics.mixtures",
    "tasks.numerics.predictive",
    "tasks.fallbacks",
    "tasks.histories",
    "tasks.models",
    "tasks.panels",
    packages=("numpy", "scipy", "numba", "pandas", "torch", "exchange-calendars"),
)
JUDGED = keyed_by(
    __name__,
    "tasks.judging",
    "tasks.outcomes",
    "tasks.panels",
    packages=("numpy", "scipy", "pandas", "exchange-calendars"),
)
GARCH = keyed_by(
    __name__, "tasks.garch", "tasks.panels", packages=("numpy", "scipy", "numba", "arch", "exchange-calendars")
)
_OVERLAPS = 3  # horizons over which the errors of means allow for overlapping labels
log = logging.getLogger("prism.judge")


@dataclass(frozen=True)
class Span:
    """The sessions from a month's as-of date up to the session before the next one's."""

    moment: Moment
    until: Moment
    model: str | None
    key: str


def span(moment: Moment, until: Moment, features: tuple[str, str], model: str | None, forecaster: Forecaster) -> Span:
    """The span and its key; `features` are the keys of both dates' partitions."""
    seen = {"learned": features[0], "seen": features[1], "model": model}
    used = {name: getattr(forecaster.forecast, name) for name in ("forecaster", "draws", "mean_shrink", "volatility")}
    key = KEYED.key("predictions", **seen, **used, features=forecaster.features, seed=forecaster.training.seed)
    return Span(moment, until, model, key)


def garch_key(spans: Sequence[Span], config: FeatureConfig) -> str:
    """Key of one block's GARCH forecasts: fitted at its first as-of date."""
    return GARCH.key("garch", fitted=spans[0].moment.prefix, seen=spans[-1].until.prefix, horizon=config.horizon)


@cached_task(cache_policy=KEYED, task_run_name="predict from {spans[0].moment.month}")
def predict_sessions(
    panel: PanelKey, spans: tuple[Span, ...], history: tuple[str, ...], forecaster: Forecaster
) -> Produced:
    """Forecast every session of the spans that the store lacks. `history` reaches to the end of the last one."""
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(part.key for part in spans)
    there = tables.existing(store, "predictions", keys)
    missing = [part for part in spans if part.key not in there]
    if missing:
        known = histories.load(store, panel, history)
        made = [_predicted(store, everything, part, known, forecaster) for part in missing]
        partitions.put(store, "predictions", made)
        log.info("every session from %s to %s forecast", missing[0].moment.as_of, missing[-1].until.as_of)
    return Produced("predictions", keys)


def _predicted(store: Store, panel: panels.Panel, part: Span, known: History, forecaster: Forecaster) -> Partition:
    from tasks.numerics import predictive

    first, last = panel.at(part.moment.as_of), panel.at(part.until.as_of)
    rows = predictive.joined(
        [
            predictive.rows_at(known, at, panel.eligible[at], panel.sessions[at].item().toordinal())
            for at in range(first, last)
        ]
    )
    rows = predictive.chosen(rows, predictive.complete(known, rows, forecaster.features.lookback))
    past = windows.cut(known, first)
    learned = predictive.learn(past, forecaster)
    simple = predictive.simple(known, rows, learned, forecaster)
    if part.model is None:
        tails = predictive.simple_tails(past, learned, forecaster)
        found = predictive.Forecast(*simple.moments(forecaster.forecast.forecaster), tails)
    else:
        from tasks import models
        from tasks.numerics import mixtures

        model, shrink = models.get(store, part.model, forecaster), forecaster.forecast.mean_shrink
        draw = partial(mixtures.vlstm, model, known, rows, forecaster, mean_shrink=shrink)
        found, _, _ = fallbacks.on_device(draw)
    columns = {
        "mean": found.mean,
        "variance": found.variance,
        "degrees": np.full(rows.asset.size, found.tails.degrees),
        "tail": np.full(rows.asset.size, found.tails.scale),
        **simple._asdict(),
    }
    days = np.array([date.toordinal() for date in panel.sessions[first:last].tolist()])
    place = {"ticker": np.array(panel.universe.assets)[rows.asset]}
    place["session"] = panel.sessions[first + np.searchsorted(days, rows.stamp)].astype("datetime64[s]")
    return Partition(part.key, part.moment.month, part.until.as_of, tuple(columns), pd.DataFrame(place | columns))


@cached_task(cache_policy=GARCH, task_run_name="garch from {spans[0].moment.month}")
def garch_sessions(panel: PanelKey, spans: tuple[Span, ...], config: FeatureConfig) -> Produced:
    """Forecast every session of a block by each asset's own GARCH(1,1), fitted at the block's first as-of date."""
    store, everything, key = open_store(), panels.load(open_store(), panel), garch_key(spans, config)
    if not tables.existing(store, "predictions", [key]):
        first, last = spans[0].moment.as_of, spans[-1].until.as_of
        rows = garch.variances(everything, first, last, config.horizon)
        partitions.put(store, "predictions", [Partition(key, spans[0].moment.month, last, ("garch",), rows)])
        log.info("GARCH of every session from %s to %s", first, last)
    return Produced("predictions", (key,))


@cached_task(cache_policy=JUDGED, task_run_name="judge {scenario}")
def judge_forecasts(
    panel: PanelKey, scenario: str, spans: tuple[Span, ...], garch_keys: tuple[str, ...], horizon: int, known: str
) -> Produced:
    """Judge the predictions of the spans on all outcomes that the panel knows; `known` is the panel's newest prefix.

    Raises NoDataError where no outcome is known.
    """
    store, everything = open_store(), panels.load(open_store(), panel)
    key = JUDGED.key("judgement", scenario=scenario, spans=spans, garch=garch_keys, known=known)
    if not tables.existing(store, "judgements", [key]):
        rows = _read(store, spans, garch_keys)
        y = outcomes.of_rows(everything, rows, horizon, everything.sessions[-1].item())
        found = judging.judge(rows.assign(y=y), _OVERLAPS * horizon)
        if not found:
            raise NoDataError("no forecast of these months has an outcome on which all forecasters can be judged")
        said = {"key": key, "scenario": scenario, "created_at": clock.now()}
        said |= {"start_date": spans[0].moment.as_of, "end_date": spans[-1].until.as_of}
        put = pa.Table.from_pylist([said | measure for measure in found], TABLES["judgements"].schema)
        tables.put(store, "judgements", put)
    return Produced("judgements", (key,))


def _read(store: Store, spans: tuple[Span, ...], garch_keys: tuple[str, ...]) -> pd.DataFrame:
    """All predictions, those of GARCH beside the others where they were asked for."""
    _, rows = partitions.read(store, "predictions", [part.key for part in spans])
    if garch_keys:
        _, beside = partitions.read(store, "predictions", garch_keys)
        rows = rows.merge(beside, on=["ticker", "session"], how="left")
    return rows
