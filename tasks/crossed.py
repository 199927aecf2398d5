"""Forecasts of one date by what was learned at another: what the model of last month says of this month's features.

They are made as the stage *forecast* makes them, of the same rows and from the same draws, so that the forecasts of a
date by what was learned at it are those that are stored.
"""

from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from storage.store import Store
from tasks import fallbacks, panels
from tasks.numerics import windows
from tasks.numerics.configs import Forecaster
from tasks.numerics.windows import History
from tasks.problems import Moments

if TYPE_CHECKING:
    from tasks.numerics.predictive import Forecast, Learned, Rows
    from tasks.numerics.training import Model


@dataclass(frozen=True)
class Teacher:
    """What was learned at a date: a network, or what the simple forecasters take from past labels."""

    forecaster: Forecaster
    model: "Model | None"
    simple: "Learned | None"


def network(store: Store, key: str, forecaster: Forecaster) -> Teacher:
    """The network under a key."""
    from tasks import models

    return Teacher(forecaster, models.get(store, key, forecaster), None)


def simple(panel: panels.Panel, known: History, learned: date, forecaster: Forecaster) -> Teacher:
    """What the simple forecasters take from what is known at the day `learned`."""
    from tasks.numerics import predictive

    return Teacher(forecaster, None, predictive.learn(windows.cut(known, panel.at(learned)), forecaster))


def forecasts(panel: panels.Panel, known: History, day: date, by: Teacher) -> Moments:
    """Mean and variance by ticker, sorted, of the assets that may be held at a day."""
    seen = windows.cut(known, panel.at(day))
    rows = _rows(panel, seen, day, by)
    return _by_ticker(panel, rows, _made(seen, rows, by))


def of_members(panel: panels.Panel, known: History, day: date, by: Teacher) -> list[Moments]:
    """The same by each network of an ensemble alone; empty where there is no network."""
    if by.model is None:
        return []
    from tasks.numerics import mixtures

    seen, shrink = windows.cut(known, panel.at(day)), by.forecaster.forecast.mean_shrink
    rows = _rows(panel, seen, day, by)
    draw = partial(mixtures.members, by.model, seen, rows, by.forecaster, mean_shrink=shrink)
    found, _, _ = fallbacks.on_device(draw)
    return [_by_ticker(panel, rows, forecast) for forecast in found]


def _rows(panel: panels.Panel, seen: History, day: date, by: Teacher) -> "Rows":
    """The eligible assets; those with a whole window where a network looks at it."""
    from tasks.numerics import predictive

    at = panel.at(day)
    rows = predictive.rows_at(seen, at, panel.eligible[at], day.toordinal())
    if by.model is None:
        return rows
    return predictive.chosen(rows, predictive.complete(seen, rows, by.forecaster.features.lookback))


def _made(seen: History, rows: "Rows", by: Teacher) -> "Forecast":
    from tasks.numerics import predictive, tails

    config = by.forecaster
    if by.model is not None:
        from tasks.numerics import mixtures

        shrink = config.forecast.mean_shrink
        found, _, _ = fallbacks.on_device(partial(mixtures.vlstm, by.model, seen, rows, config, mean_shrink=shrink))
        return found
    assert by.simple is not None
    moments = predictive.simple(seen, rows, by.simple, config).moments(config.forecast.forecaster)
    return predictive.Forecast(*moments, tails.GAUSSIAN)


def _by_ticker(panel: panels.Panel, rows: "Rows", found: "Forecast") -> Moments:
    ready = np.isfinite(found.mean) & np.isfinite(found.variance)
    pairs = {
        panel.universe.assets[rows.asset[n]]: (float(found.mean[n]), float(found.variance[n]))
        for n in np.flatnonzero(ready)
    }
    return dict(sorted(pairs.items()))
