"""Stage *gate*: shrink a month's forecasts towards EWMA where they were worse than it on the dates before.

Looks at exactly the 24 rebalance dates before whose outcomes are known at the month's as-of date; with fewer, the
forecasts stay as they are. The gated forecasts are rows of their own, and the reason is kept beside them.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage import tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import outcomes, panels
from tasks.caching import cached_task, keyed_by
from tasks.numerics import gate
from tasks.numerics.gate import EXACTLY, Gate

KEYED = keyed_by(
    __name__,
    "tasks.numerics.gate",
    "tasks.outcomes",
    "tasks.panels",
    packages=("numpy", "scipy", "exchange-calendars"),
)
log = logging.getLogger("prism.forecast")


@dataclass(frozen=True)
class Gated:
    """One month's forecast, and those of the dates before that judge it."""

    moment: Moment
    forecast: str
    past: tuple[tuple[Moment, str], ...]
    key: str


def gated(panel: panels.Panel, moment: Moment, forecast: str, before: list[tuple[Moment, str]], horizon: int) -> Gated:
    """The month's gate over the newest of the dates before whose horizon is over at its as-of date."""
    at = panel.at(moment.as_of)
    over = [(other, key) for other, key in before if panel.at(other.as_of) + horizon <= at]
    past = tuple(over[-EXACTLY:])
    inputs = {"forecast": forecast, "past": [key for _, key in past], "horizon": horizon, "prefix": moment.prefix}
    return Gated(moment, forecast, past, KEYED.key("gate", **inputs))


@cached_task(cache_policy=KEYED, task_run_name="gate from {months[0].moment.month}")
def gate_forecasts(panel: PanelKey, months: tuple[Gated, ...], horizon: int) -> Produced:
    """Decide how much of each month's correction is kept, and write the forecasts that follow."""
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(month.key for month in months)
    there = tables.existing(store, "gates", keys) & tables.existing(store, "forecasts", keys)
    for month in months:
        if month.key not in there:
            _pass(store, everything, month, horizon)
    return Produced("forecasts", keys)


def _pass(store: Store, panel: panels.Panel, month: Gated, horizon: int) -> None:
    """Write a month's gate and its forecasts."""
    found = _judged(store, panel, month, horizon) if len(month.past) == EXACTLY else None
    kept, reason = found.kept if found else 1.0, _reason(found, month)
    row = {"key": month.key, "as_of": month.moment.as_of, "months": len(month.past), "kept": kept, "reason": reason}
    row |= {"score": found.score if found else None, "baseline_score": found.baseline_score if found else None}
    rows = tables.read(store, "forecasts", key=month.forecast).to_pylist()
    tables.put(store, "gates", pa.Table.from_pylist([row], TABLES["gates"].schema))
    tables.put(
        store,
        "forecasts",
        pa.Table.from_pylist([_shrunk(entry, kept, month.key) for entry in rows], TABLES["forecasts"].schema),
    )
    log.info("gate of %s: %s", month.moment.month, reason)


def _reason(found: Gate | None, month: Gated) -> str:
    if found is None:
        known = f"only {len(month.past)} of {EXACTLY}" if len(month.past) < EXACTLY else "no forecast of the"
        return f"{known} past dates have outcomes; the forecasts stay as they are"
    said = f"over {EXACTLY} dates the forecasts scored {found.score:.4f}, EWMA {found.baseline_score:.4f}"
    return f"{said}: {100 * found.kept:.0f} % of the correction is kept"


def _judged(store: Store, panel: panels.Panel, month: Gated, horizon: int) -> Gate | None:
    """The gate that the past forecasts with a known outcome give; None where none has one."""
    followed = {key: outcomes.after(panel, m.as_of, horizon, month.moment.as_of) for m, key in month.past}
    rows = tables.read(store, "forecasts", key=list(followed)).sort_by(
        [("as_of", "ascending"), ("ticker", "ascending")]
    )
    pairs = [(followed[row["key"]].get(row["ticker"], np.nan), row) for row in rows.to_pylist()]
    known = [(outcome, row) for outcome, row in pairs if np.isfinite(outcome)]
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
