"""The forecasts of past monthly dates beside what followed them, as far as it was known at a later date."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from storage import tables
from storage.keys import Moment
from storage.store import Store
from tasks import outcomes, panels

Rows = dict[str, list[dict[str, Any]]]  # by key of a forecast, in order of their tickers
Past = tuple[tuple[Moment, str], ...]  # dates in order of time, each with the key of its forecast


def newest(panel: panels.Panel, moment: Moment, before: Sequence[tuple[Moment, str]], horizon: int, count: int) -> Past:
    """The last `count` of the dates before whose horizon is over at the moment's as-of date."""
    at = panel.at(moment.as_of)
    over = [(other, key) for other, key in before if panel.at(other.as_of) + horizon <= at]
    return tuple(over[-count:])


def rows_of(store: Store, keys: Iterable[str]) -> Rows:
    """The rows of the forecasts named."""
    wanted = set(keys)
    found: Rows = {key: [] for key in wanted}
    for row in tables.read(store, "forecasts", key=wanted).sort_by("ticker").to_pylist():
        found[row["key"]].append(row)
    return found


def known(
    panel: panels.Panel, moment: Moment, past: Past, rows: Rows, horizon: int
) -> list[tuple[float, dict[str, Any]]]:
    """Each past row whose outcome was known at the moment's as-of date, with that outcome, in order of time."""
    pairs = []
    for other, key in past:
        followed = outcomes.after(panel, other.as_of, horizon, moment.as_of)
        pairs += [(followed.get(row["ticker"], np.nan), row) for row in rows[key]]
    return [(outcome, row) for outcome, row in pairs if np.isfinite(outcome)]
