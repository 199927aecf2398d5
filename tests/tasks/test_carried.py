"""States as JSON: every number comes back to the last bit, and what has no exact form is refused."""

import json

import numpy as np
import pytest

from storage import tables
from storage.errors import StoreError
from storage.keys import to_json
from tasks import carried, panels
from tasks.numerics import online
from tasks.numerics.allocators import SectorState
from tasks.numerics.configs import OGD_LONG_WINDOW


def again(state):
    return carried.unpack(json.loads(to_json(carried.pack(state))))


def test_states_come_back_to_the_last_bit():
    rng = np.random.default_rng(0)
    state = online.init(np.ones(7, bool), OGD_LONG_WINDOW)._replace(
        velocity=rng.normal(size=7) * 1e-17, account=np.nextafter(np.ones(252), 2), t=np.int64(3)
    )
    found = again(state)
    assert type(found) is online.State
    for part, wanted in zip(found, state, strict=True):
        assert np.asarray(part).dtype == np.asarray(wanted).dtype
        np.testing.assert_array_equal(part, wanted)


def test_states_hold_states_texts_and_nothing():
    inner = {"a": {"weights": np.array([0.1, -0.0]), "said": "yes", "n": 3, "list": [1, 2.5, None]}, "b": None}
    found = again(SectorState(None, inner, np.zeros(0)))
    assert found.outer is None
    assert found.inner["b"] is None
    assert found.inner["a"]["said"] == "yes"
    assert found.inner["a"]["list"] == [1, 2.5, None]
    assert np.signbit(found.inner["a"]["weights"][1])
    assert found.held.shape == (0,)


def test_what_is_all_one_number_is_short():
    assert len(to_json(carried.pack(np.ones(252)))) < 60


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        ({"x": {1, 2}}, TypeError, "a state holds a set"),
        ({"x": np.array(["a"])}, TypeError, "a state holds an array of <U1"),
        ({"x": np.array([np.nan])}, ValueError, "NaN or infinity"),
        ({"x": lambda: 1}, TypeError, "a state holds a function"),
    ],
)
def test_what_has_no_exact_form_is_refused(state, error, said):
    with pytest.raises(error, match=said):
        carried.pack(state)


def test_the_newest_state_is_found_and_a_damaged_one_is_said(market):
    panel = market.panel()
    first, second = panels.moments(market.store, panel)[:2]
    carried.put(market.store, "s", ("A",), {"one": (first, {"n": 1}), "two": (second, {"n": 2})})
    assert carried.newest(market.store, ["one", "two", "three"]) == ("two", {"n": 2})
    assert carried.newest(market.store, ["three"]) is None
    rows = tables.read(market.store, "carried", key="two")
    spoilt = rows.set_column(rows.column_names.index("state"), "state", [["{}"]])
    tables.put(market.store, "carried", spoilt)
    with pytest.raises(StoreError, match="the state two cannot be read"):
        carried.newest(market.store, ["two"])
