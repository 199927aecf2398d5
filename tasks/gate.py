"""Stage *gate*: shrink a date's forecasts towards EWMA where they were worse than it on the months before.

Looks at exactly the 24 monthly dates before whose outcomes are known at the date's as-of date, however often one
trades; with fewer, the forecasts stay as they are. The gated forecasts are rows of their own, and the reason is kept
beside them.
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
from tasks.numerics import gate
from tasks.numerics.gate import EXACTLY, Gate

KEYED = keyed_by(
    __name__,
    "tasks.numerics.gate",
    "tasks.panels",
    "tasks.track_records",
    packages=("numpy", "scipy", "exchange-calendars"),
)
log = logging.getLogger("prism.forecast")


@dataclass(frozen=True)
class Gated:
    """One date's forecast, and those of the monthly dates before that judge it."""

    moment: Moment
    forecast: str
    past: track_records.Past
    key: str


def gated(panel: panels.Panel, moment: Moment, forecast: str, before: list[tuple[Moment, str]], horizon: int) -> Gated:
    """The date's gate over the newest of the monthly dates before whose horizon is over at its as-of date."""
    past = track_records.newest(panel, moment, before, horizon, EXACTLY)
    inputs = {"forecast": forecast, "past": [key for _, key in past], "horizon": horizon, "prefix": moment.prefix}
    return Gated(moment, forecast, past, KEYED.key("gate", **inputs))


@cached_task(cache_policy=KEYED, task_run_name="gate from {months[0].moment.month}")
def gate_forecasts(panel: PanelKey, months: tuple[Gated, ...], horizon: int) -> Produced:
    """Decide how much of each date's correction is kept, and write the forecasts that follow."""
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(month.key for month in months)
    there = tables.existing(store, "gates", keys) & tables.existing(store, "forecasts", keys)
    missing = [month for month in months if month.key not in there]
    if missing:
        used = {key for month in missing for key in (month.forecast, *(past for _, past in month.past))}
        rows = track_records.rows_of(store, used)
        gates = [_gate(everything, month, rows, horizon) for month in missing]
        kept = {row["key"]: row["kept"] for row in gates}
        shrunk = [_shrunk(row, kept[month.key], month.key) for month in missing for row in rows[month.forecast]]
        tables.put(store, "gates", pa.Table.from_pylist(gates, TABLES["gates"].schema))
        tables.put(store, "forecasts", pa.Table.from_pylist(shrunk, TABLES["forecasts"].schema))
    return Produced("forecasts", keys)


def _gate(panel: panels.Panel, month: Gated, rows: track_records.Rows, horizon: int) -> dict[str, Any]:
    """The row of a date's gate."""
    found = _judged(panel, month, rows, horizon) if len(month.past) == EXACTLY else None
    kept, reason = found.kept if found else 1.0, _reason(found, month)
    log.info("gate of %s: %s", month.moment.month, reason)
    row = {"key": month.key, "as_of": month.moment.as_of, "months": len(month.past), "kept": kept, "reason": reason}
    return row | {"score": found.score if found else None, "baseline_score": found.baseline_score if found else None}


def _reason(found: Gate | None, month: Gated) -> str:
    if found is None:
        known = f"only {len(month.past)} of {EXACTLY}" if len(month.past) < EXACTLY else "no forecast of the"
        return f"{known} past dates have outcomes; the forecasts stay as they are"
    said = f"over {EXACTLY} dates the forecasts scored {found.score:.4f}, EWMA {found.baseline_score:.4f}"
    return f"{said}: {100 * found.kept:.0f} % of the correction is kept"


def _judged(panel: panels.Panel, month: Gated, rows: track_records.Rows, horizon: int) -> Gate | None:
    """The gate that the past forecasts with a known outcome give; None where none has one."""
    known = track_records.known(panel, month.moment, month.past, rows, horizon)
    if not known:
        return None
    outcome = np.array([outcome for outcome, _ in known])
    names = ("mean", "variance", "label_mean", "baseline_variance")
    return gate.judge(outcome, *(np.array([row[name] for _, row in known], float) for name in names))


def _shrunk(row: dict[str, Any], kept: float, key: str) -> dict[str, Any]:
    """A forecast's row with a part of its correction kept; its interval keeps its shape."""
    values = (np.array([row[name]]) for name in ("mean", "variance", "label_mean", "baseline_variance"))
    mean, variance = (float(value[0]) for value in gate.shrunk(kept, *values))
    wider = np.sqrt(variance / row["variance"])
    ends = {name: float(mean + wider * (row[name] - row["mean"])) for name in ("lower_90", "upper_90")}
    return row | ends | {"key": key, "mean": mean, "variance": variance, "scale": float(wider * row["scale"])}
