"""Stage *features*: what the forecaster sees of each asset and session, kept by month.

A month's partition holds the sessions after the as-of date before it, up to its own. Its key is the prefix of
its own as-of date, so it never changes when later months arrive. What is known between two of these dates is a
partition of its own, of the sessions since the last one.
"""

import logging
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from storage import partitions, tables
from storage.keys import Moment, PanelKey, Produced
from storage.locks import locked
from storage.settings import Settings
from storage.store import Store, open_store
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


@dataclass(frozen=True)
class Part:
    """The sessions of one partition: those after `since`, up to the as-of date of `moment`."""

    moment: Moment
    since: date


def feature_key(moment: Moment, config: FeatureConfig) -> str:
    """Key of one month's partition."""
    return KEYED.key("features", prefix=moment.prefix, config=config)


def part_key(part: Part, config: FeatureConfig) -> str:
    """Key of the partition of a part of a month."""
    return KEYED.key("features", prefix=part.moment.prefix, since=part.since, config=config)


@cached_task(cache_policy=KEYED, task_run_name="features {config.features}")
def compute_features(
    panel: PanelKey, moments: tuple[Moment, ...], config: FeatureConfig, begun: tuple[Part, ...] = ()
) -> Produced:
    """Compute the partitions of `moments`, all from the first month on, and of `begun`, that the store lacks."""
    store = open_store()
    starts = [date.min, *(moment.as_of for moment in moments)]
    parts = {feature_key(moment, config): Part(moment, since) for moment, since in zip(moments, starts, strict=False)}
    parts |= {part_key(part, config): part for part in begun}
    if _lacking(store, parts):
        # another run of this machine may be at some of these months
        with locked(Settings().cache.expanduser() / "locks" / f"features-{store.identity}"):
            _make(store, panel, _lacking(store, parts), config)
    return Produced("features", tuple(parts))


def _lacking(store: Store, parts: dict[str, Part]) -> dict[str, Part]:
    """The partitions that the store does not hold."""
    there = tables.existing(store, "features", parts)
    return {key: part for key, part in parts.items() if key not in there}


def _make(store: Store, panel: PanelKey, missing: dict[str, Part], config: FeatureConfig) -> None:
    if not missing:
        return
    log.info("%d partitions of features", len(missing))
    last = max(part.moment.as_of for part in missing.values())
    names, rows = _rows(panels.load(store, panel), last, config)
    made = [_partition(key, part, names, rows) for key, part in missing.items()]
    partitions.put(store, "features", made)


def _partition(key: str, part: Part, names: tuple[str, ...], rows: pd.DataFrame) -> partitions.Partition:
    """The rows of one partition: the sessions after `since`."""
    days = rows["session"].to_numpy("datetime64[D]")
    own = rows[(days > np.datetime64(part.since)) & (days <= np.datetime64(part.moment.as_of))]
    return partitions.Partition(key, part.moment.month, part.moment.as_of, names, own)


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
