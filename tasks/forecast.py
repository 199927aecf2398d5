"""Stage *forecast*: train a block's model, refresh it for each month, forecast mean and variance.

Models of a block are refreshed from its trained one, never from each other, so that all dates are independent
given the block. The network is imported inside the task bodies: flows, forms and light workers load this
module and must not load torch.
"""

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from storage import checkpoints, features, tables
from storage.errors import NoDataError
from storage.keys import Moment, PanelKey, Produced, to_json
from storage.schemas import TABLES
from storage.settings import Settings
from storage.store import Store, open_store
from tasks import panels
from tasks.caching import cached_task, keyed_by, versions
from tasks.numerics import windows
from tasks.numerics.configs import FeatureConfig, Forecaster
from tasks.numerics.windows import History

if TYPE_CHECKING:
    from tasks.numerics.training import Model

KEYED = keyed_by(
    __name__,
    "tasks.numerics.training",
    "tasks.numerics.predictive",
    "tasks.panels",
    "storage.features",
    "storage.checkpoints",
    packages=("numpy", "torch", "exchange-calendars"),
)
log = logging.getLogger("prism.forecast")


@dataclass(frozen=True)
class Month:
    """One month's keys: its features and, where there is a model, that and what it was refreshed from."""

    moment: Moment
    features: str
    trained: str | None
    model: str | None
    forecast: str


def possible(panel: panels.Panel, moments: tuple[Moment, ...], forecaster: Forecaster) -> list[Moment]:
    """The moments at which enough is known for a forecast."""
    needed = 1 if forecaster.forecast.forecaster == "ewma" else forecaster.training.minimum_sessions
    known = [_sessions_with_labels(panel, moment, forecaster.features) for moment in moments]
    return [
        moment
        for moment, count in zip(moments, known, strict=True)
        if count >= needed and panel.eligible[panel.at(moment.as_of)].any()
    ]


def _sessions_with_labels(panel: panels.Panel, moment: Moment, config: FeatureConfig) -> int:
    """Sessions at which some asset has a whole window and a label known at the moment."""
    seen = np.zeros(panel.sessions.size, bool)
    for ticker in panel.universe.assets:
        if ticker in panel.series:
            asset = panel.series[ticker]
            own = int(np.searchsorted(asset.day, np.datetime64(moment.as_of), side="right"))
            seen[asset.session[2 * config.lookback - 1 : max(own - config.horizon, 0)]] = True
    return int(seen.sum())


def trained_key(features_key: str, forecaster: Forecaster) -> str:
    """Key of the model trained on all that `features_key`, the training date's features, names."""
    return KEYED.key("train", seen=features_key, **_of_model(forecaster))


def month_keys(moment: Moment, features_key: str, trained: tuple[str, str] | None, forecaster: Forecaster) -> Month:
    """The month's keys. `trained`: the block's trained model, and the features key of the date it was trained at."""
    if forecaster.forecast.forecaster == "ewma":
        key = KEYED.key("ewma", seen=features_key, config=forecaster.features, forecast=forecaster.forecast)
        return Month(moment, features_key, None, None, key)
    assert trained is not None, "a network's forecast needs a trained model"
    parent, trained_on = trained
    model = parent
    if features_key != trained_on and forecaster.training.refresh_epochs:
        model = KEYED.key("refresh", parent=parent, seen=features_key, **_of_model(forecaster))
    key = KEYED.key("forecast", model=model, seen=features_key, forecast=forecaster.forecast)
    return Month(moment, features_key, parent, model, key)


def _of_model(forecaster: Forecaster) -> dict[str, Any]:
    configs = {name: getattr(forecaster, name) for name in ("features", "network", "loss", "training")}
    return configs | {"device": Settings().device}


@cached_task(cache_policy=KEYED, task_run_name="train {moment.as_of}")
def train_block(
    panel: PanelKey, moment: Moment, key: str, history: tuple[str, ...], forecaster: Forecaster
) -> Produced:
    """Train the model of the block that starts at `moment`, from the feature partitions `history`."""
    from tasks.numerics import training

    store = open_store()
    if not tables.existing(store, "models", [key]):
        log.info("training the model of %s", moment.month)
        known = _history(store, panel, history, moment)
        started = time.monotonic()
        model, loss = training.train(
            known,
            **_arguments(forecaster),
            stamp=moment.as_of.toordinal(),
            device=Settings().device,
            progress=lambda member, epoch, loss: log.info(
                "  %s: network %d, epoch %d, loss %.3f", moment.month, member + 1, epoch + 1, loss
            ),
        )
        _keep(store, key, moment, "trained", None, model, loss, time.monotonic() - started, forecaster)
        log.info("model of %s trained in %.1f s, loss %.3f", moment.month, time.monotonic() - started, loss)
    return Produced("models", (key,))


@cached_task(cache_policy=KEYED, task_run_name="forecast from {months[0].moment.month}")
def forecast_months(
    panel: PanelKey, months: tuple[Month, ...], history: tuple[str, ...], forecaster: Forecaster
) -> Produced:
    """Forecast each month that the store lacks, refreshing its model first. `history` reaches to the last month."""
    store = open_store()
    keys = tuple(month.forecast for month in months)
    there = tables.existing(store, "forecasts", keys)
    missing = [month for month in months if month.forecast not in there]
    if missing:
        names, rows = features.read(store, history)
        everything = panels.load(store, panel)
        for month in missing:
            known = _cut(names, rows, everything, month.moment)
            tables.put(store, "forecasts", _forecast(store, everything, month, known, forecaster))
            log.info("forecast of %s", month.moment.month)
    return Produced("forecasts", keys)


def _history(store: Store, panel: PanelKey, history: tuple[str, ...], moment: Moment) -> History:
    names, rows = features.read(store, history)
    return _cut(names, rows, panels.load(store, panel), moment)


def _cut(names: tuple[str, ...], rows: pd.DataFrame, panel: panels.Panel, moment: Moment) -> History:
    """What is known at the as-of date, each asset's own sessions to the left."""
    rows = rows[rows["session"] <= pd.Timestamp(moment.as_of)]
    assets = dict(list(rows.groupby("ticker", sort=False)))
    width = max(len(part) for part in assets.values())
    shape = (len(panel.universe.assets), width)
    known = History(
        features=np.full((*shape, len(names)), np.nan, np.float32),
        log_return=np.full(shape, np.nan),
        ewma_variance=np.full(shape, np.nan),
        session=np.full(shape, -1, np.int64),
        last_session=panel.at(moment.as_of),
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


def _arguments(forecaster: Forecaster) -> dict[str, Any]:
    return {name: getattr(forecaster, name) for name in ("features", "network", "loss", "training")}


def _keep(
    store: Store,
    key: str,
    moment: Moment,
    kind: str,
    parent: str | None,
    model: "Model",
    loss: float,
    seconds: float,
    forecaster: Forecaster,
) -> None:
    """Write a model's checkpoint, then its row."""
    arrays = {f"{member}/{name}": v for member, values in enumerate(model.parameters) for name, v in values.items()}
    arrays |= {"feature_mean": model.feature_mean, "feature_std": model.feature_std}
    arrays["label_mean"] = np.array([model.label_mean])
    lineage = {"key": key, "kind": kind, "parent": parent, "moment": moment, "configs": _arguments(forecaster)}
    lineage |= {"code": KEYED.code, "versions": versions(KEYED.packages), "device": Settings().device}
    row = {"key": key, "block": moment.rebalance_date.year, "as_of": moment.as_of, "kind": kind, "parent": parent}
    row["blob"] = checkpoints.put(store, arrays, lineage)
    row |= {"loss": None if math.isnan(loss) else loss, "seconds": seconds, "lineage": to_json(lineage)}
    tables.put(store, "models", pa.Table.from_pylist([row], TABLES["models"].schema))


def _model(store: Store, key: str) -> "Model":
    from tasks.numerics.training import Model

    arrays = checkpoints.get(store, tables.read(store, "models", key=key)["blob"][0].as_py())
    members = sorted({int(name.split("/")[0]) for name in arrays if "/" in name})
    parameters = tuple(
        {name.split("/")[1]: v for name, v in arrays.items() if name.startswith(f"{member}/")} for member in members
    )
    return Model(parameters, arrays["feature_mean"], arrays["feature_std"], float(arrays["label_mean"][0]))


def _refreshed(store: Store, month: Month, known: History, forecaster: Forecaster) -> "Model":
    """The month's model: the block's own, or that one refreshed with what is known at the month."""
    from tasks.numerics import training

    assert month.model is not None
    assert month.trained is not None
    if tables.existing(store, "models", [month.model]):
        return _model(store, month.model)
    started, stamp = time.monotonic(), month.moment.as_of.toordinal()
    parent = _model(store, month.trained)
    model, loss = training.refresh(parent, known, **_arguments(forecaster), stamp=stamp, device=Settings().device)
    seconds = time.monotonic() - started
    _keep(store, month.model, month.moment, "refreshed", month.trained, model, loss, seconds, forecaster)
    return model


def _forecast(store: Store, panel: panels.Panel, month: Month, known: History, forecaster: Forecaster) -> pa.Table:
    """The month's rows: every eligible asset whose whole input window is known."""
    from tasks.numerics import predictive

    config = forecaster.features
    ready = np.isfinite(windows.last_values(known.ewma_variance, known.session))
    if month.model is not None:
        ready &= np.isfinite(windows.forecast_windows(known, config.lookback)).all(axis=(1, 2))
    eligible = panel.eligible[panel.at(month.moment.as_of)] & ready
    if month.model is None:
        result = predictive.ewma(known, eligible, config)
    else:
        result = predictive.vlstm(
            _refreshed(store, month, known, forecaster),
            known,
            eligible,
            config,
            forecaster.network,
            forecaster.training,
            forecaster.forecast,
            stamp=month.moment.as_of.toordinal(),
            device=Settings().device,
        )
    if not eligible.any():
        raise NoDataError(f"{month.moment.month}: no asset has {config.lookback} sessions of features without a gap")
    rows = [
        {"key": month.forecast, "as_of": month.moment.as_of, "ticker": ticker, "model": month.model}
        | {name: float(getattr(result, name)[place]) for name in ("mean", "variance", "baseline_variance")}
        for place, ticker in enumerate(panel.universe.assets)
        if eligible[place]
    ]
    return pa.Table.from_pylist(rows, TABLES["forecasts"].schema)
