"""Stage *calibrate*: correct the volatilities that allocators get, and say where the forecaster is not to be trusted.

Looks at the newest monthly dates before whose outcomes are known at the date's as-of date, however often one trades.
The corrected forecasts are rows of their own, which all strategies use and the decision records; the verdict and its
reason stand beside them in the table of gates.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage import tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import TABLES
from storage.store import open_store
from tasks import panels, track_records
from tasks.caching import cached_task, keyed_by
from tasks.numerics import calibration
from tasks.numerics.calibration import Past, Verdict
from tasks.numerics.configs import CalibrationConfig

KEYED = keyed_by(
    __name__,
    "tasks.numerics.calibration",
    "tasks.panels",
    "tasks.track_records",
    packages=("numpy", "scipy", "exchange-calendars"),
)
_COLUMNS = ("mean", "variance", "scale", "degrees", "label_mean", "baseline_variance")
log = logging.getLogger("prism.calibrate")


@dataclass(frozen=True)
class Calibrated:
    """One date's forecast, and those of the monthly dates before that it is corrected by."""

    moment: Moment
    forecast: str
    past: track_records.Past
    key: str


def calibrated(
    panel: panels.Panel,
    moment: Moment,
    forecast: str,
    before: list[tuple[Moment, str]],
    horizon: int,
    config: CalibrationConfig,
) -> Calibrated:
    """The date's correction by the newest of the monthly dates before whose horizon is over at its as-of date."""
    past = track_records.newest(panel, moment, before, horizon, config.window)
    inputs = {"forecast": forecast, "past": [key for _, key in past], "horizon": horizon, "prefix": moment.prefix}
    return Calibrated(moment, forecast, past, KEYED.key("calibrate", config=config, **inputs))


@cached_task(cache_policy=KEYED, task_run_name="calibrate from {months[0].moment.month}")
def calibrate_forecasts(
    panel: PanelKey, months: tuple[Calibrated, ...], horizon: int, config: CalibrationConfig
) -> Produced:
    """Judge each date's past, and write the forecasts with the corrected volatilities."""
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(month.key for month in months)
    there = tables.existing(store, "gates", keys) & tables.existing(store, "forecasts", keys)
    missing = [month for month in months if month.key not in there]
    if missing:
        used = {key for month in missing for key in (month.forecast, *(past for _, past in month.past))}
        rows = track_records.rows_of(store, used)
        verdicts = [_verdict(everything, month, rows, horizon, config) for month in missing]
        factors = [found.factor if found else 1.0 for found in verdicts]
        gates = [_row(month, found, config) for month, found in zip(missing, verdicts, strict=True)]
        corrected = [
            _rescaled(row, factor, month.key)
            for month, factor in zip(missing, factors, strict=True)
            for row in rows[month.forecast]
        ]
        tables.put(store, "gates", pa.Table.from_pylist(gates, TABLES["gates"].schema))
        tables.put(store, "forecasts", pa.Table.from_pylist(corrected, TABLES["forecasts"].schema))
    return Produced("forecasts", keys)


def _verdict(
    panel: panels.Panel, month: Calibrated, rows: track_records.Rows, horizon: int, config: CalibrationConfig
) -> Verdict | None:
    """What the past says of the forecaster; None where it is too short to say anything."""
    pairs = track_records.known(panel, month.moment, month.past, rows, horizon)
    columns = np.array([[row[name] for name in _COLUMNS] for _, row in pairs], float).reshape(-1, len(_COLUMNS)).T
    mean, variance, scale, degrees, label_mean, baseline = columns
    usable = np.isfinite(label_mean)
    days = {row["as_of"] for (_, row), use in zip(pairs, usable, strict=True) if use}
    if len(days) < config.minimum:
        return None
    outcome = np.array([outcome for outcome, _ in pairs])
    degrees = np.where(np.isnan(degrees), np.inf, degrees)
    past = Past(outcome, mean, variance, scale, degrees, label_mean, baseline)
    return calibration.judge(Past(*(values[usable] for values in past)), len(days), config)


def _row(month: Calibrated, found: Verdict | None, config: CalibrationConfig) -> dict[str, Any]:
    """The row of the date in the table of gates."""
    dates, reason = len(month.past), _reason(month, found, config)
    log.info("calibration of %s: %s", month.moment.month, reason)
    row = {"key": month.key, "as_of": month.moment.as_of, "months": dates, "kept": 1.0, "reason": reason}
    if found is None:
        return row | {"factor": 1.0, "fall_back": False}
    row |= {"factor": found.factor, "covered": found.covered, "fall_back": found.is_worse}
    return row | {"score": found.score, "baseline_score": found.baseline_score}


def _reason(month: Calibrated, found: Verdict | None, config: CalibrationConfig) -> str:
    dates = len(month.past)
    if found is None:
        known = f"{dates} past dates have outcomes, fewer than {config.minimum}"
        return f"sigma stays as it is: {known if dates < config.minimum else 'too few assets had a forecast on them'}"
    held = f"{100 * found.covered:.0f} % of {100 * config.coverage:g} % intervals held over {dates} dates"
    said = f"sigma x {found.factor:.2f}: {held}"
    if not found.is_worse:
        return said
    worse = found.score - found.baseline_score
    return f"risk parity: the forecaster was worse than EWMA by {worse:.2g} nats over {dates} dates; {said}"


def _rescaled(row: dict[str, Any], factor: float, key: str) -> dict[str, Any]:
    """A forecast's row with its volatility rescaled; its mean stays, and its interval keeps its shape about it."""
    ends = {name: row["mean"] + factor * (row[name] - row["mean"]) for name in ("lower_90", "upper_90")}
    return row | ends | {"key": key, "variance": factor**2 * row["variance"], "scale": factor * row["scale"]}
