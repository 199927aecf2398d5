"""A date's forecasts as they are stored: a row for each asset. Loading this module loads no torch."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.numerics.windows import FloatArray
from tasks.panels import Panel

if TYPE_CHECKING:
    from tasks.numerics.predictive import Forecast, Rows, Simple


def entries(
    panel: Panel, rows: "Rows", found: "Forecast", simple: "Simple", said: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows that have a forecast, with the simple ones beside it and what is said of all of them."""
    columns, said = _columns(found, simple), said | {"degrees": _finite(found.tails.degrees)}
    return [
        {**said, "ticker": panel.universe.assets[rows.asset[n]]} | {name: _finite(v[n]) for name, v in columns.items()}
        for n in np.flatnonzero(np.isfinite(found.mean) & np.isfinite(found.variance))
    ]


def _columns(found: "Forecast", simple: "Simple") -> dict[str, FloatArray]:
    """The numbers of each row, by their names in the store."""
    from tasks.numerics import predictive

    lower, upper = predictive.interval(found, 0.9)
    columns = {"mean": found.mean, "variance": found.variance, "lower_90": lower, "upper_90": upper}
    columns |= {"scale": found.tails.scale * np.sqrt(found.variance), "baseline_variance": simple.ewma}
    columns |= {"calibrated_variance": simple.calibrated, "trailing_variance": simple.trailing}
    return columns | {name: getattr(simple, name) for name in ("label_mean", "historical_mean", "historical_variance")}


def own(given: dict[str, tuple[float, float]], panel: Panel, rows: "Rows") -> "Forecast":
    """A person's own forecasts of the rows, NaN where there is none, taken as Gaussian about their means."""
    from tasks.numerics import predictive, tails

    pairs = [given.get(panel.universe.assets[asset], (np.nan, np.nan)) for asset in rows.asset]
    mean, variance = np.array(pairs, float).reshape(-1, 2).T
    return predictive.Forecast(mean, variance, tails.GAUSSIAN)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
