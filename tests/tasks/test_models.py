"""Models in the store: what was trained comes back to the byte, with what it was made of; so do fits on their way."""

import json
import math
import platform
from dataclasses import asdict, replace
from datetime import date

import numpy as np
import pytest
import torch

from storage import checkpoints, tables, unfinished
from storage.keys import Moment
from tasks import models
from tasks.numerics import training, vlstm
from tasks.numerics.fitting import Fit
from tasks.numerics.tails import Tails
from tasks.numerics.training import Model

MOMENT = Moment(date(2024, 1, 2), date(2023, 12, 29), "prefix")
MADE = {"code": {"tasks.forecast": "0123"}, "versions": {"torch": "2"}, "device": "cpu"}


def parameters(small, seed):
    return vlstm.initialise(3, small.network, torch.Generator().manual_seed(seed))


@pytest.fixture
def model(small):
    """A model of two members with odd numbers in it."""
    return Model(
        (parameters(small, 1), parameters(small, 2)),
        np.array([0.1, -0.0, 5e-324]),
        np.array([1.0, 2.0, 1 / 3]),
        1 / 3,
        Tails(4.2 + 2**-50, 0.9),
    )


@pytest.fixture
def fits(small):
    """Fits in the middle of a training, before one, and ended by a validation."""
    first, second, third = (parameters(small, seed) for seed in (1, 2, 3))
    return (
        Fit(first, second, third, steps=12, epoch=3, loss=0.1 + 0.2, parts=4),
        Fit(second, {}, {}),
        Fit(first, third, second, steps=7, epoch=2, loss=-1.5, best=third, score=1 / 3, waited=1),
    )


def assert_same(found, expected):
    """Equal to the last bit, names and types included, whatever is nested in what."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value)
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    elif isinstance(expected, float):
        assert found.hex() == expected.hex()
    else:
        assert found == expected


def put(store, model, fits, small, key="key", parent=None):
    models.put(store, key, MOMENT, parent, model, fits, 1.5, small, MADE)
    [row] = tables.read(store, "models", key=key).to_pylist()
    return row, json.loads(row["lineage"])


def test_a_model_comes_back_to_the_byte(store, model, fits, small):
    put(store, model, fits[:1], small)
    assert_same(models.get(store, "key", small), model)


def test_a_model_without_heavy_tails_comes_back_too(store, model, fits, small):
    plain = model._replace(tails=Tails(math.inf, 1.0), parameters=model.parameters[:1])
    put(store, plain, fits[:1], small)
    assert_same(models.get(store, "key", small), plain)


def test_members_keep_their_order_beyond_ten(store, model, small, fits):
    many = model._replace(parameters=tuple(parameters(small, seed) for seed in range(12)))
    put(store, many, fits[:1], small)
    assert_same(models.get(store, "key", small), many)


def test_fits_come_back_to_the_byte_whether_begun_or_not(store, fits, small):
    models.put_fits(store, "key", fits)
    assert_same(models.get_fits(store, "key", small), fits)
    assert models.get_fits(store, "another", small) is None


def test_fits_of_more_than_ten_members_keep_their_order(store, small):
    many = tuple(Fit(parameters(small, seed), {}, {}, epoch=seed) for seed in range(12))
    models.put_fits(store, "key", many)
    assert_same(models.get_fits(store, "key", small), many)


def test_damaged_fits_count_as_none(store, fits, small):
    models.put_fits(store, "key", fits)
    [file] = (store.root / "unfinished").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert models.get_fits(store, "key", small) is None


def test_the_lineage_says_what_the_bytes_were_made_of_and_on(store, model, fits, small):
    training.set_threads(small.training)
    row, lineage = put(store, model, fits, small)
    assert checkpoints.lineage(store, row["blob"]) == lineage
    assert lineage["machine"] == {
        "architecture": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
        "accelerator": None,
    }
    assert lineage["parts"] == [4, 1, 1]
    assert lineage["epochs"] == [3, 0, 2]
    assert {name: lineage[name] for name in MADE} == MADE
    assert lineage["configs"] == {
        name: asdict(getattr(small, name)) for name in ("features", "network", "loss", "training")
    }
    assert (lineage["key"], lineage["kind"], lineage["parent"]) == ("key", "trained", None)
    moment = {"rebalance_date": "2024-01-02", "as_of": "2023-12-29", "prefix": "prefix", "daily": False}
    assert lineage["moment"] == moment


def test_the_row_of_a_model_says_its_block_kind_and_mean_loss(store, model, fits, small):
    row, _ = put(store, model, (fits[0], fits[2]), small)
    assert (row["block"], row["as_of"], row["kind"], row["parent"]) == (2024, date(2023, 12, 29), "trained", None)
    assert (row["loss"], row["seconds"]) == (pytest.approx((0.1 + 0.2 - 1.5) / 2, rel=1e-15), 1.5)
    row, lineage = put(store, model, fits, small, "refreshed", "key")
    assert (row["kind"], row["parent"], lineage["kind"], lineage["parent"]) == ("refreshed", "key", "refreshed", "key")
    assert row["loss"] is None  # one of the fits has no epoch behind it, and so no loss


def test_two_threads_are_told_from_one(store, model, fits, small):
    try:
        training.set_threads(replace(small.training, threads=2))
        assert put(store, model, fits, small)[1]["machine"]["threads"] == 2
    finally:
        training.set_threads(small.training)


def test_what_is_unfinished_is_no_model(store, fits, small):
    models.put_fits(store, "key", fits)
    assert tables.read(store, "models").num_rows == 0
    unfinished.drop(store, "key")
    assert models.get_fits(store, "key", small) is None
