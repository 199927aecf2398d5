"""What the forecaster reads of the past: feature partitions as arrays of each asset's own sessions."""

from functools import lru_cache

import numpy as np

from storage import partitions
from storage.keys import PanelKey
from storage.store import Store
from tasks import panels
from tasks.numerics.windows import History


@lru_cache(maxsize=1)  # a run forecasts its newest date, and explains it
def load(store: Store, key: PanelKey, keys: tuple[str, ...]) -> History:
    """Everything that the feature partitions under `keys` hold; `windows.cut` takes it back to an earlier date."""
    panel = panels.load(store, key)
    names, rows = partitions.read(store, "features", keys)
    assets = dict(list(rows.groupby("ticker", sort=False)))
    shape = (len(panel.universe.assets), max(len(part) for part in assets.values()))
    known = History(
        features=np.full((*shape, len(names)), np.nan, np.float32),
        log_return=np.full(shape, np.nan),
        ewma_variance=np.full(shape, np.nan),
        session=np.full(shape, -1, np.int64),
        last_session=panel.at(rows["session"].max().date()),
    )
    for place, ticker in enumerate(panel.universe.assets):
        if ticker in assets:
            part, own = assets[ticker], slice(0, len(assets[ticker]))
            known.features[place, own] = part[list(names)].to_numpy(np.float32)
            known.log_return[place, own] = part["log_return"]
            known.ewma_variance[place, own] = part["ewma_variance"]
            days = part["session"].to_numpy().astype("datetime64[D]")
            known.session[place, own] = np.searchsorted(panel.sessions, days)
    return known
