"""neuralforecast's DeepAR beside PRISM's network: what an LSTM of a library takes to train and to forecast.

It sees what ours sees: 66 sessions of the same features and of the return itself, one layer of the same width, a
Student-t, one thread; batches are of 1,024 windows of all assets, as in the transcription. What differs is the
question: it is trained on the next session alone and answers 21 sessions one after the other, where ours answers
their sum. Rows are made where the extra `peers` is installed.
"""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from tasks.numerics.configs import Forecaster
from tasks.numerics.windows import History

LIBRARY, NAME = "neuralforecast", "neuralforecast's DeepAR"
WINDOWS = 1024  # in a batch
Work = Callable[[], Any]


def training(known: History, config: Forecaster, batches: int) -> dict[str, Work]:
    """Training of a network by `batches` batches at a call; empty where the library is not installed."""
    if find_spec(LIBRARY) is None:
        return {}
    data, model = _dataset(known), _network(known, config, batches)
    return {NAME: lambda: _quietly(model.fit, data)}


def forecast(known: History, config: Forecaster) -> dict[str, Work]:
    """Forecasts of all assets by as many networks, with as many draws each; empty where it is not installed."""
    if find_spec(LIBRARY) is None:
        return {}
    data, models = _dataset(known), [_network(known, config, 1) for _ in range(config.training.ensemble)]
    for model in models:
        _quietly(model.fit, data)
    return {NAME: lambda: [_quietly(model.predict, data) for model in models]}


def note(text: str) -> str:
    """What is said of the peer's rows: the text, or why there are none."""
    return text if find_spec(LIBRARY) else f"{NAME}: no row, since {LIBRARY} is not installed (extra `peers`)"


def _names(known: History) -> list[str]:
    return [f"feature {number}" for number in range(known.features.shape[2])]


def _dataset(known: History) -> Any:
    """The sessions on which every asset has all features, as the library takes them."""
    from neuralforecast.tsdataset import TimeSeriesDataset

    whole = np.isfinite(known.features).all(axis=(0, 2))
    features, returns = known.features[:, whole], known.log_return[:, whole]
    count, sessions = returns.shape
    table = pd.DataFrame(features.reshape(count * sessions, -1), columns=_names(known))
    table.insert(0, "y", returns.ravel())
    table.insert(0, "ds", np.tile(np.arange(sessions), count))
    table.insert(0, "unique_id", np.repeat(np.arange(count), sessions))
    return TimeSeriesDataset.from_df(table)[0]


def _network(known: History, config: Forecaster, batches: int) -> Any:
    """A network of the config's size that no batch has trained."""
    from neuralforecast.losses.pytorch import DistributionLoss
    from neuralforecast.models import DeepAR

    return _quietly(
        DeepAR,
        h=config.features.horizon,
        input_size=config.features.lookback - 1,  # to which the library adds one
        hist_exog_list=_names(known),
        lstm_n_layers=1,
        lstm_hidden_size=config.network.hidden,
        lstm_dropout=0,
        loss=DistributionLoss("StudentT"),
        trajectory_samples=config.forecast.draws,
        max_steps=batches,
        val_check_steps=batches,
        learning_rate=config.training.learning_rate,
        batch_size=len(known.features),
        windows_batch_size=WINDOWS,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _quietly(work: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """The work without the library's words on devices, seeds and steps."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work(*given, **named)
