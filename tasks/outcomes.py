"""What followed a forecast: the log return of each asset over the horizon after a date, in its own sessions."""

from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks import panels
from tasks.numerics import windows

FloatArray = NDArray[np.float64]


def after(panel: panels.Panel, day: date, horizon: int, known_at: date) -> dict[str, float]:
    """By ticker the sum of the next `horizon` own log returns after `day`, where it was known at a later date."""
    found, days = {}, np.array([day, known_at], "datetime64[D]")
    for ticker in panel.universe.assets:
        asset = panel.series.get(ticker)
        if asset is not None:
            first, last = asset.day.searchsorted(days, side="right").tolist()
            if first > 0 and first + horizon <= last:
                found[ticker] = float(np.log1p(asset.simple_return[first : first + horizon]).sum())
    return found


def of_rows(panel: panels.Panel, rows: pd.DataFrame, horizon: int, known_at: date) -> FloatArray:
    """What followed each row of `ticker, session`, NaN where it was not all known at a date: (N,)."""
    found = np.full(len(rows), np.nan)
    for ticker, part in rows.reset_index(drop=True).groupby("ticker"):
        asset = panel.series[str(ticker)]
        labels = windows.targets(np.log1p(asset.simple_return)[None], horizon)[0]
        seen = int(np.searchsorted(asset.day, np.datetime64(known_at), side="right"))
        known = np.where(np.arange(asset.day.size) + horizon < seen, labels, np.nan)
        # a row on a session without the asset's own bar stands on its last bar, as the forecast does
        found[part.index] = known[np.searchsorted(asset.day, part["session"].to_numpy(), side="right") - 1]
    return found
