"""Keys: one exact JSON form, no guessing about types, and the same hash in every process."""

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.keys import Moment, PanelKey, digest, row_to_json, to_json

ROOT = Path(__file__).parents[2]
REFUSED = [
    np.float64(1.5),
    np.array([1.0]),
    pd.DataFrame({"a": [1]}),
    {1, 2},
    frozenset("ab"),
    b"bytes",
    Path("a"),
    Decimal("1.5"),
    object(),
    PanelKey,
]
SCRIPT = """
from datetime import date
from storage.keys import Moment, digest
print(digest({"b": [Moment(date(2024, 5, 1), date(2024, 4, 30), "p"), 0.1, None], "a": {"y": True, "x": "\\u00e9"}}))
"""


@dataclass(frozen=True)
class Config:
    rate: float
    names: tuple[str, ...]
    day: date


def test_the_json_form_has_sorted_names_no_spaces_and_dates_in_iso_form():
    value = {"z": Config(0.1, ("b", "a"), date(2024, 5, 31)), "a": [None, True, 1, "é"], "t": datetime(2024, 1, 2, 3)}
    assert to_json(value) == (
        '{"a":[null,true,1,"é"],"t":"2024-01-02T03:00:00","z":{"day":"2024-05-31","names":["b","a"],"rate":0.1}}'
    )


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_has_no_exact_json_form_is_no_part_of_a_key(value):
    for nested in (value, [value], {"name": value}, ("x", {"y": [value]})):
        with pytest.raises(TypeError, match="cannot be part of a key"):
            digest(nested)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"rate": value})


def test_the_digest_is_the_same_in_processes_that_hash_strings_differently():
    found = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SCRIPT]
        found.add(subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True).stdout)
    assert len(found) == 1
    expected = {"a": {"x": "é", "y": True}, "b": (Moment(date(2024, 5, 1), date(2024, 4, 30), "p"), 0.1, None)}
    assert found == {f"{digest(expected)}\n".encode()}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("aé'\"\\,:"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_two_values_share_a_digest_only_if_they_have_the_same_json_form(one, other):
    # repr tells apart what == does not: 1 and 1.0 and True, 0.0 and -0.0
    def shown(value):
        if isinstance(value, dict):
            return repr({name: shown(value[name]) for name in sorted(value)})
        return repr([shown(entry) for entry in value]) if isinstance(value, list) else repr(value)

    assert (digest(one) == digest(other)) == (shown(one) == shown(other))


def test_the_order_of_names_does_not_count_and_the_order_of_entries_does():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(["a", "b"]) != digest(["b", "a"])


def test_a_month_is_named_by_its_rebalance_date():
    assert Moment(date(2024, 5, 1), date(2024, 4, 30), "p").month == "2024-05"


def test_where_every_session_is_decided_each_is_named_by_its_day():
    assert Moment(date(2024, 5, 1), date(2024, 4, 30), "p", daily=True).month == "2024-05-01"


def test_a_row_as_arrow_gives_it_has_the_text_of_its_values():
    row = {"b": date(2020, 1, 2), "a": 0.1, "c": None, "d": [1.5, 2.0], "e": 3, "f": "ä", "g": datetime(2020, 1, 2, 3)}
    assert row_to_json(row) == to_json(row)
    with pytest.raises(ValueError, match="JSON"):
        row_to_json({"a": float("nan")})
