"""Trained models in the store: a checkpoint with its lineage, and the fits of a training that goes on later."""

import platform
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from storage import checkpoints, tables, unfinished
from storage.keys import Moment, to_json
from storage.schemas import TABLES
from storage.store import Store
from tasks.numerics.configs import Forecaster
from tasks.numerics.fitting import Fit
from tasks.numerics.tails import Tails
from tasks.numerics.training import Model

Arrays = dict[str, np.ndarray]
_MOMENTS = ("parameters", "first_moment", "second_moment", "best")
_NUMBERS = ("steps", "epoch", "loss", "score", "waited", "parts")
_WHOLE = ("steps", "epoch", "waited", "parts")


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
) -> None:
    """Write a model's checkpoint, then its row. A parent makes it a refreshed one; made_by is code and versions."""
    kind = "refreshed" if parent else "trained"
    configs = {name: getattr(forecaster, name) for name in ("features", "network", "loss", "training")}
    lineage = {"key": key, "kind": kind, "parent": parent, "moment": moment, "configs": configs, **made_by}
    lineage |= {"machine": _machine(made_by["device"]), "parts": [fit.parts for fit in fits]}
    lineage["epochs"] = [fit.epoch for fit in fits]
    losses = [fit.loss for fit in fits]
    row = {"key": key, "block": moment.rebalance_date.year, "as_of": moment.as_of, "kind": kind, "parent": parent}
    row["blob"] = checkpoints.put(store, _arrays(model), lineage)
    row |= {"loss": None if np.isnan(losses).any() else float(np.mean(losses)), "seconds": seconds}
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


def get(store: Store, key: str) -> Model:
    """The model under a key."""
    arrays = checkpoints.get(store, tables.read(store, "models", key=key)["blob"][0].as_py())
    members = sorted({int(name.split("/")[0]) for name in arrays if "/" in name})
    parameters = tuple(
        {name.split("/")[1]: v for name, v in arrays.items() if name.startswith(f"{member}/")} for member in members
    )
    return Model(
        parameters,
        arrays["feature_mean"],
        arrays["feature_std"],
        float(arrays["label_mean"][0]),
        Tails(*arrays["tails"].tolist()),
    )


def put_fits(store: Store, key: str, fits: tuple[Fit, ...]) -> None:
    """Keep the fits of a training that is not over, so that it can go on from here."""
    arrays: Arrays = {}
    for member, fit in enumerate(fits):
        arrays[f"{member}/numbers"] = np.array([getattr(fit, name) for name in _NUMBERS], float)
        for kind in _MOMENTS:
            arrays |= {f"{member}/{kind}/{name}": value for name, value in getattr(fit, kind).items()}
    unfinished.put(store, key, arrays)


def get_fits(store: Store, key: str) -> tuple[Fit, ...] | None:
    """The fits of a training that was interrupted; None where there are none."""
    arrays = unfinished.get(store, key)
    if arrays is None:
        return None
    members = sorted({int(name.split("/")[0]) for name in arrays})
    return tuple(_fit(arrays, f"{member}/") for member in members)


def _fit(arrays: Arrays, start: str) -> Fit:
    numbers = dict(zip(_NUMBERS, arrays[f"{start}numbers"].tolist(), strict=True))
    whole = {name: int(numbers.pop(name)) for name in _WHOLE}
    moments = {
        kind: {n.removeprefix(f"{start}{kind}/"): v for n, v in arrays.items() if n.startswith(f"{start}{kind}/")}
        for kind in _MOMENTS
    }
    return Fit(**moments, **whole, **numbers)
