"""Trained models in the store: a checkpoint with its lineage, and the fits of a training that goes on later.

Arrays that are read must have the names and shapes of the network that the configs describe, before they become one.
"""

import logging
import platform
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from storage import checkpoints, tables, unfinished
from storage.errors import StoreError
from storage.keys import Moment, to_json
from storage.schemas import TABLES
from storage.store import Store
from tasks.numerics import vlstm
from tasks.numerics.configs import Forecaster, VLSTMConfig
from tasks.numerics.fitting import Fit
from tasks.numerics.tails import Tails
from tasks.numerics.training import Model

Arrays = dict[str, np.ndarray]
_MOMENTS = ("parameters", "first_moment", "second_moment", "best")
_NUMBERS = ("steps", "epoch", "loss", "score", "waited", "parts")
_WHOLE = ("steps", "epoch", "waited", "parts")
_INPUTS = "encoder.weight_ih_l0"  # its columns are the features
log = logging.getLogger("prism.forecast")


def put(
    store: Store,
    key: str,
    moment: Moment,
    parent: str | None,
    model: Model,
    fits: tuple[Fit, ...],
    seconds: float,
    forecaster: Forecaster,
    made_by: dict[str, Any],
    degraded: str | None = None,
) -> None:
    """Write a model's checkpoint, then its row. A parent makes it a refreshed one; made_by is code and versions.

    degraded: why it is not the model that was asked for, if it is not.
    """
    kind = "refreshed" if parent else "trained"
    configs = {name: getattr(forecaster, name) for name in ("features", "network", "loss", "training")}
    lineage = {"key": key, "kind": kind, "parent": parent, "moment": moment, "configs": configs, **made_by}
    lineage |= {"machine": _machine(made_by["device"]), "parts": [fit.parts for fit in fits]}
    lineage["epochs"] = [fit.epoch for fit in fits]
    losses = [fit.loss for fit in fits]
    row = {"key": key, "block": moment.rebalance_date.year, "as_of": moment.as_of, "kind": kind, "parent": parent}
    row["blob"] = checkpoints.put(store, _arrays(model), lineage)
    row |= {"loss": None if np.isnan(losses).any() else float(np.mean(losses)), "seconds": seconds}
    row["degraded"] = degraded
    tables.put(store, "models", pa.Table.from_pylist([row | {"lineage": to_json(lineage)}], TABLES["models"].schema))


def _machine(device: str) -> dict[str, Any]:
    """What the bytes of a training depend on beside its key."""
    accelerator = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "architecture": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "accelerator": accelerator,
    }


def _arrays(model: Model) -> Arrays:
    arrays = {f"{member}/{name}": v for member, values in enumerate(model.parameters) for name, v in values.items()}
    arrays |= {"feature_mean": model.feature_mean, "feature_std": model.feature_std}
    return arrays | {"label_mean": np.array([model.label_mean]), "tails": np.array(model.tails)}


def get(store: Store, key: str, forecaster: Forecaster) -> Model:
    """The model under a key. Raises StoreError where its checkpoint holds another network than the config's."""
    blob = tables.read(store, "models", key=key)["blob"][0].as_py()
    arrays = checkpoints.get(store, blob)
    members = sorted({int(name.split("/")[0]) for name in arrays if name.partition("/")[0].isdecimal()})
    parameters = tuple(_part(arrays, f"{member}/") for member in members)
    sizes = [arrays[name].size if name in arrays else -1 for name in ("feature_mean", "feature_std")]
    one = [arrays[name].shape if name in arrays else () for name in ("label_mean", "tails")]
    fit = [_is_of(values, forecaster.network, sizes[0]) for values in parameters]
    if not fit or not all(fit) or sizes[0] != sizes[1] or one != [(1,), (2,)]:
        raise StoreError(f"blob {blob} is not of the network that model {key[:12]} names; restore it from a backup")
    mean, std, label_mean = (arrays[name] for name in ("feature_mean", "feature_std", "label_mean"))
    return Model(parameters, mean, std, float(label_mean[0]), Tails(*arrays["tails"].tolist()))


def degraded(store: Store, keys: Iterable[str]) -> dict[str, str]:
    """By key why a model is not what was asked for; those that are, are not named."""
    rows = tables.read(store, "models", ["key", "degraded"], key=list(keys)).to_pylist()
    return {row["key"]: row["degraded"] for row in rows if row["degraded"]}


def _part(arrays: Arrays, start: str) -> Arrays:
    """The arrays whose names begin so, by the rest of their names."""
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}


def _is_of(parameters: Arrays, network: VLSTMConfig, n_features: int) -> bool:
    """Whether arrays are the parameters of such a network."""
    found = {name: (value.dtype, value.shape) for name, value in parameters.items()}
    return found == {name: (np.float32, shape) for name, shape in vlstm.shapes(n_features, network).items()}


def put_fits(store: Store, key: str, fits: tuple[Fit, ...]) -> None:
    """Keep the fits of a training that is not over, so that it can go on from here."""
    arrays: Arrays = {}
    for member, fit in enumerate(fits):
        arrays[f"{member}/numbers"] = np.array([getattr(fit, name) for name in _NUMBERS], float)
        for kind in _MOMENTS:
            arrays |= {f"{member}/{kind}/{name}": value for name, value in getattr(fit, kind).items()}
    unfinished.put(store, key, arrays)


def get_fits(store: Store, key: str, forecaster: Forecaster) -> tuple[Fit, ...] | None:
    """The fits of a training that was interrupted; None where there are none of the config's network."""
    arrays = unfinished.get(store, key)
    if arrays is None:
        return None
    members = sorted({name.split("/")[0] for name in arrays}, key=lambda name: (len(name), name))
    found = tuple(_fit(arrays, f"{member}/", forecaster.network) for member in members)
    if not found or None in found:
        log.warning("unfinished work %s is of another network; it is done again from the start", key[:12])
        return None
    return tuple(fit for fit in found if fit is not None)


def _fit(arrays: Arrays, start: str, network: VLSTMConfig) -> Fit | None:
    """A member's fit; None where its arrays are not those of one."""
    numbers = arrays.get(f"{start}numbers", np.empty(0))
    moments = {kind: _part(arrays, f"{start}{kind}/") for kind in _MOMENTS}
    inputs = moments["parameters"].get(_INPUTS, np.empty(0))
    n_features = inputs.shape[1] if inputs.ndim == 2 else 0
    known = [_is_of(values, network, n_features) for kind, values in moments.items() if values or kind == "parameters"]
    if numbers.shape != (len(_NUMBERS),) or not all(known):
        return None
    said = dict(zip(_NUMBERS, numbers.tolist(), strict=True))
    return Fit(**moments, **{name: int(value) if name in _WHOLE else value for name, value in said.items()})
