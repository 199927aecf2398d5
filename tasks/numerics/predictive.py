"""The predictive distribution of each asset's next H-session log return, from its data up to any session.

The network's own is in `tasks.numerics.mixtures`, so that whoever needs none loads no torch. The simple forecasters are
those that the network must beat: with m0 the pooled mean of the labels known when they were
learned, EWMA is (m0, H x EWMA variance), calibrated EWMA is (m0, the log-linear fit of EWMA and long-run variance),
trailing is (m0, H x mean square of the last L returns), and historical is the mean and variance of the asset's own
past labels.
"""
# Shapes: N = rows (an asset at a session), A = assets, T = own sessions.

from typing import NamedTuple

import numpy as np

from tasks.numerics import baselines, scores, tails, windows
from tasks.numerics.configs import Forecaster
from tasks.numerics.features import VARIANCE_FLOOR
from tasks.numerics.tails import Tails
from tasks.numerics.windows import BoolArray, FloatArray, History, IntArray


class Rows(NamedTuple):
    """Which forecasts are made: assets, each at one of its own sessions."""

    asset: IntArray  # (N,)
    column: IntArray  # (N,) own session, the last whose data the forecast uses
    stamp: IntArray  # (N,) ordinal of the day it is made on, for the draws


class Forecast(NamedTuple):
    """Moments of the horizon's log return, and the shape of its distribution about the mean."""

    mean: FloatArray  # (N,)
    variance: FloatArray  # (N,)
    tails: Tails  # Student-t of (y - mean) / sigma


class Learned(NamedTuple):
    """What the simple forecasters take from the labels that are known at a date."""

    label_mean: float  # pooled
    coefficients: FloatArray  # (3,) of the calibrated EWMA


SIMPLE = ("ewma", "calibrated_ewma", "historical")


class Simple(NamedTuple):
    """The simple forecasts of each row; NaN where an asset's past is too short for one."""

    label_mean: FloatArray  # (N,)
    ewma: FloatArray  # (N,) variances, as the next two
    calibrated: FloatArray  # (N,)
    trailing: FloatArray  # (N,)
    historical_mean: FloatArray  # (N,)
    historical_variance: FloatArray  # (N,)

    def moments(self, forecaster: str) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of one of SIMPLE."""
        if forecaster == "historical":
            return self.historical_mean, self.historical_variance
        return self.label_mean, self.ewma if forecaster == "ewma" else self.calibrated


def interval(forecast: Forecast, coverage: float) -> tuple[FloatArray, FloatArray]:
    """Lower and upper ends of the central interval that holds an outcome with that probability: two (N,)."""
    scale = forecast.tails.scale * np.sqrt(forecast.variance)
    return scores.interval(forecast.mean, scale, forecast.tails.degrees, coverage)


def rows_at(history: History, session: int, wanted: BoolArray, stamp: int) -> Rows:
    """Rows of the wanted assets (A,) that have a session by then, each at its last one."""
    column = windows.last_columns(history, session)
    asset = np.flatnonzero(wanted & (column >= 0))
    return Rows(asset, column[asset], np.full(asset.size, stamp))


def joined(parts: list[Rows]) -> Rows:
    """The rows of all parts, in order."""
    return Rows(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def chosen(rows: Rows, which: BoolArray) -> Rows:
    """Some of the rows: which (N,)."""
    return Rows(*(values[which] for values in rows))


def complete(history: History, rows: Rows, lookback: int) -> BoolArray:
    """Rows whose whole input window and EWMA variance are known: (N,)."""
    known = windows.complete_windows(history.features, lookback) & np.isfinite(history.ewma_variance)
    return known[rows.asset, rows.column]


def learn(history: History, config: Forecaster) -> Learned:
    """What the simple forecasters take from the labels that `history` knows, all assets pooled.

    Raises ValueError where no label is known.
    """
    labels = windows.targets(history.log_return, config.features.horizon)
    known = np.isfinite(labels)
    if not known.any():
        raise ValueError(f"no label of {config.features.horizon} sessions is known; start later")
    mean = float(labels[known].mean())
    return Learned(mean, _calibrated(history, labels, mean, config))


def _calibrated(history: History, labels: FloatArray, mean: float, config: Forecaster) -> FloatArray:
    """Coefficients (3,) of the calibrated EWMA on the labels (A, T) that tell; EWMA as it is where too few do."""
    horizon, used = config.features.horizon, _telling(history, config)
    long_run = baselines.expanding_variance(history.log_return)
    used &= np.isfinite(long_run)
    try:
        return baselines.calibrate(labels[used], horizon * history.ewma_variance[used], horizon * long_run[used], mean)
    except ValueError:  # a market that stands still, or hardly began: a yardstick must not stop the forecasts
        return baselines.START


def _telling(history: History, config: Forecaster) -> BoolArray:
    """Past forecasts that tell how wrong variances are: (A, T).

    Those at which the network could train, but for assets that stood still: their first move afterwards is any number
    of times their EWMA, which is at its floor.
    """
    samples = windows.training_samples(history, config.features.lookback, config.features.horizon)
    return samples & (history.ewma_variance > VARIANCE_FLOOR)


def simple(history: History, rows: Rows, learned: Learned, config: Forecaster) -> Simple:
    """The simple forecasts of each row."""
    label_mean, ewma = _moments(history, rows, learned, config, "ewma")
    _, calibrated = _moments(history, rows, learned, config, "calibrated_ewma")
    trailing = config.features.horizon * _trailing(history, rows, config.features.lookback)
    return Simple(label_mean, ewma, calibrated, trailing, *_moments(history, rows, learned, config, "historical"))


def _moments(
    history: History, rows: Rows, learned: Learned, config: Forecaster, forecaster: str
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of each row by one of SIMPLE: two (N,)."""
    horizon, place = config.features.horizon, (rows.asset, rows.column)
    if forecaster == "historical":
        mean, variance = baselines.unconditional(history.log_return, horizon)
        return mean[place], variance[place]
    mean, ewma = np.full(rows.asset.size, learned.label_mean), horizon * history.ewma_variance[place]
    if forecaster == "ewma":
        return mean, ewma
    long_run = horizon * baselines.expanding_variance(history.log_return)[place]
    return mean, baselines.calibrated_variance(learned.coefficients, ewma, long_run)


def _trailing(history: History, rows: Rows, length: int) -> FloatArray:
    """The trailing variance at each row, of its own window alone: (N,)."""
    columns = rows.column[:, None] + np.arange(1 - length, 1)
    own = np.where(columns >= 0, history.log_return[rows.asset[:, None], np.maximum(columns, 0)], np.nan)
    return baselines.trailing_variance(own, length)[:, -1]


def simple_forecast(history: History, rows: Rows, learned: Learned, config: Forecaster) -> Forecast:
    """The configured simple forecaster's forecast of each row."""
    mean, variance = _moments(history, rows, learned, config, config.forecast.forecaster)
    return Forecast(mean, variance, simple_tails(history, learned, config))


def simple_tails(history: History, learned: Learned, config: Forecaster) -> Tails:
    """Tails of the configured simple forecaster, fitted to the labels that tell."""
    labels = windows.targets(history.log_return, config.features.horizon)
    asset, column = np.nonzero(_telling(history, config))
    past = Rows(asset, column, np.zeros(asset.size, np.int64))
    mean, variance = _moments(history, past, learned, config, config.forecast.forecaster)
    residuals = (labels[asset, column] - mean) / np.sqrt(variance)
    return tails.of(residuals[np.isfinite(residuals)])
