"""What strategies carry from session to session, as JSON: exact, readable, and nothing that could run.

A state is a dictionary or one of the NamedTuples below, of arrays, numbers, texts, None and further states. An array
whose elements are all equal is kept as that element and its shape; every float comes back as it was, to the last bit.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from storage import tables
from storage.errors import StoreError
from storage.keys import Moment, to_json
from storage.schemas import TABLES
from storage.store import Store
from tasks.numerics.allocators import SectorState
from tasks.numerics.steps import State

_TUPLES: dict[str, Any] = {"State": State, "SectorState": SectorState}
_PLAIN = (bool, int, float, str, type(None))


def pack(state: Any) -> Any:
    """The state as plain JSON values. TypeError for what has no exact form, ValueError for a number that is none."""
    if isinstance(state, np.ndarray):
        return _packed_array(state)
    if isinstance(state, np.generic):
        return pack(np.asarray(state))
    if hasattr(state, "_asdict") and type(state).__name__ in _TUPLES:
        return {"tuple": type(state).__name__, "fields": {name: pack(part) for name, part in state._asdict().items()}}
    if isinstance(state, dict):
        return {"fields": {str(name): pack(part) for name, part in state.items()}}
    if isinstance(state, (list, tuple)):
        return {"list": [pack(part) for part in state]}
    if isinstance(state, _PLAIN):
        return {"value": state}
    raise TypeError(f"a state holds a {type(state).__name__}; use arrays, numbers, texts, lists and dictionaries")


def _packed_array(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind not in "fib":
        raise TypeError(f"a state holds an array of {array.dtype}; use floats, integers or booleans")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("a state holds an array with NaN or infinity; a strategy must carry finite numbers")
    equal = array.size > 0 and (array == array.flat[0]).all() and not np.signbit(array.astype(float)).any()
    content = {"fill": array.flat[0].item()} if equal else {"items": array.ravel().tolist()}
    return {"shape": list(array.shape), "dtype": array.dtype.str, **content}


def unpack(packed: Any) -> Any:
    """The state that `pack` was given; lists and tuples come back as lists."""
    if "shape" in packed:
        shape, dtype = tuple(packed["shape"]), np.dtype(packed["dtype"])
        return (
            np.full(shape, packed["fill"], dtype)
            if "fill" in packed
            else np.array(packed["items"], dtype).reshape(shape)
        )
    if "value" in packed:
        return packed["value"]
    if "list" in packed:
        return [unpack(part) for part in packed["list"]]
    fields = {name: unpack(part) for name, part in packed["fields"].items()}
    return _TUPLES[packed["tuple"]](**fields) if "tuple" in packed else fields


def put(store: Store, strategy: str, tickers: Sequence[str], states: dict[str, tuple[Moment, Any]]) -> None:
    """Keep states by key."""
    rows = [
        {
            "key": key,
            "as_of": moment.as_of,
            "strategy": strategy,
            "tickers": list(tickers),
            "state": to_json(pack(state)),
        }
        for key, (moment, state) in states.items()
    ]
    tables.put(store, "carried", pa.Table.from_pylist(rows, TABLES["carried"].schema))


def newest(store: Store, keys: Sequence[str]) -> tuple[str, Any] | None:
    """The latest state that is stored under one of the keys, with its key."""
    rows = tables.read(store, "carried", ["key", "as_of"], key=keys).to_pylist()
    if not rows:
        return None
    key = max(rows, key=lambda row: row["as_of"])["key"]
    content = tables.read(store, "carried", ["state"], key=key)["state"][0].as_py()
    try:
        return key, unpack(json.loads(content))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"table carried: the state {key[:12]} cannot be read ({error}); restore the store") from error
