"""What an allocator expects at a date: mean and covariance of the returns ahead, of the assets that have a forecast."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage import tables
from storage.store import Store
from tasks import covariances, panels
from tasks.numerics.configs import CovarianceConfig

FloatArray = NDArray[np.float64]
Given = dict[str, dict[str, tuple[float, float]]]  # mean and variance by key of a forecast and ticker


class Expectation(NamedTuple):
    """Of n assets over the forecast's horizon."""

    tickers: list[str]
    mean: FloatArray  # (n,)
    covariance: FloatArray  # (n, n)


def forecasts(store: Store, keys: Sequence[str | None]) -> Given:
    """Mean and variance by ticker, sorted, of each of the forecasts that there are."""
    found: Given = {}
    rows = tables.read(store, "forecasts", ["key", "ticker", "mean", "variance"], key=[key for key in keys if key])
    for row in rows.sort_by("ticker").to_pylist():
        found.setdefault(row["key"], {})[row["ticker"]] = row["mean"], row["variance"]
    return found


def degraded(store: Store, keys: Sequence[str | None]) -> dict[str, str]:
    """By key of a forecast why a model behind it is not what was asked for; those of sound models are not named."""
    models = tables.read(store, "forecasts", ["key", "model"], key=[key for key in keys if key]).to_pylist()
    pairs = {(row["key"], row["model"]) for row in models if row["model"]}
    rows = tables.read(store, "models", ["key", "degraded"], key={model for _, model in pairs}).to_pylist()
    said = {row["key"]: row["degraded"] for row in rows if row["degraded"]}
    return {key: said[model] for key, model in sorted(pairs) if model in said}


def of(
    panel: panels.Panel,
    as_of: date,
    forecast: Mapping[str, tuple[float, float]],
    units: str,
    matrix: CovarianceConfig,
) -> Expectation:
    """The forecast's means in the units that allocators get, and its volatilities with the recent correlation."""
    tickers = list(forecast)
    mean, variance = np.array(list(forecast.values())).T
    expected = mean + variance / 2 if units == "simple" else mean
    return Expectation(tickers, expected, covariances.of(panel, as_of, tickers, variance, matrix))
