"""Stage *features*: what the forecaster sees of each asset and session, kept by month.

A month's partition holds the sessions after the as-of date before it, up to its own. Its key is the prefix of
its own as-of date, so it never changes when later months arrive.
"""

import logging
from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd

from storage import partitions, tables
from storage.keys import Moment, PanelKey, Produced
from storage.store import open_store
from tasks import panels
from tasks.caching import cached_task, keyed_by
from tasks.numerics import features
from tasks.numerics.configs import FeatureConfig

log = logging.getLogger("prism.features")
KEYED = keyed_by(
    __name__,
    "tasks.numerics.features",
    "tasks.panels",
    "storage.partitions",
    packages=("numpy", "numba", "pandas", "exchange-calendars"),
)


def feature_key(moment: Moment, config: FeatureConfig) -> str:
    """Key of one month's partition."""
    return KEYED.key("features", prefix=moment.prefix, config=config)


@cached_task(cache_policy=KEYED, task_run_name="features {config.features}")
def compute_features(panel: PanelKey, moments: tuple[Moment, ...], config: FeatureConfig) -> Produced:
    """Compute the partitions of `moments`, all from the first month on, that the store lacks."""
    store = open_store()
    keys = tuple(feature_key(moment, config) for moment in moments)
    there = tables.existing(store, "features", keys)
    missing = {key for key in keys if key not in there}
    if missing:
        log.info("features of %d months", len(missing))
        names, rows = _rows(panels.load(store, panel), moments[-1].as_of, config)
        cuts = _cuts(rows["session"], [moment.as_of for moment in moments])
        partitions.put(
            store,
            "features",
            [
                partitions.Partition(key, moment.month, moment.as_of, names, rows[cuts == place])
                for place, (key, moment) in enumerate(zip(keys, moments, strict=True))
                if key in missing
            ],
        )
    return Produced("features", keys)


def _cuts(sessions: pd.Series, as_of: Sequence[date]) -> np.ndarray:
    """For each row the place of its partition: the first as-of date at or after it."""
    return np.searchsorted(np.array(as_of, "datetime64[D]"), sessions.to_numpy("datetime64[D]"))


def _rows(panel: panels.Panel, as_of: date, config: FeatureConfig) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Names, and features with log return and EWMA variance of every asset's own sessions up to `as_of`."""
    names = features.names(config, has_volume=_has_volume(panel))
    median = _median_log_volume(panel)
    parts = [
        _of_asset(ticker, panel, median, names, config) for ticker in panel.universe.assets if ticker in panel.series
    ]
    rows = pd.concat(parts, ignore_index=True)
    return names, rows[rows["session"] <= pd.Timestamp(as_of)]


def _has_volume(panel: panels.Panel) -> bool:
    """Whether the source has volumes: judged by the very first bars, so that no later one can change it."""
    assets = [panel.series[ticker] for ticker in panel.universe.assets if ticker in panel.series]
    first = min(asset.day[0] for asset in assets)
    return all(asset.volume[0] >= 0 for asset in assets if asset.day[0] == first)


def _median_log_volume(panel: panels.Panel) -> np.ndarray:
    """Median over the assets of ln(1 + volume) on each portfolio session, NaN where there is none."""
    volumes = np.full(panel.returns.shape, np.nan)
    for place, ticker in enumerate(panel.universe.assets):
        if ticker in panel.series:
            asset = panel.series[ticker]
            inside = asset.session < len(volumes)
            volumes[asset.session[inside], place] = np.log1p(asset.volume[inside])
    return pd.DataFrame(volumes).median(axis=1).to_numpy()


def _of_asset(
    ticker: str, panel: panels.Panel, median: np.ndarray, names: tuple[str, ...], config: FeatureConfig
) -> pd.DataFrame:
    asset = panel.series[ticker]
    log_return = np.log1p(asset.simple_return)
    series = features.Series(
        log_return=log_return,
        high_ratio=asset.high_ratio,
        low_ratio=asset.low_ratio,
        volume=asset.volume,
        median_log_volume=median[np.minimum(asset.session, median.size - 1)],
        market_log_return=panels.market_on(panel, asset),
    )
    values = features.compute(series, names, config)
    return pd.DataFrame(
        {"ticker": ticker, "session": asset.day.astype("datetime64[s]")}
        | {name: values[:, column] for column, name in enumerate(names)}
        | {"log_return": log_return, "ewma_variance": features.ewma_variance(log_return)}
    )
