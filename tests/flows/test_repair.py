"""Repair as people call it: what is computed comes back to the byte, and what is lost is said."""

import json
import shutil

import pytest

from storage import tables
from storage.verification import verify

pytestmark = [pytest.mark.flow, pytest.mark.long]
COMPUTED = ("weights", "forecasts", "trades", "wealth", "metrics", "executions", "allocations")


@pytest.fixture
def hurt(decided_quickly, place, tmp_path):
    """A copy of a store with two decided months, and a function that spoils the data files of a table."""
    store = place(shutil.copytree(decided_quickly, tmp_path / "store"))

    def spoil(name):
        for file in (store.tables / name).glob("*.parquet"):
            file.write_bytes(b"spoiled")

    return store, spoil


def test_lost_results_are_computed_again_to_the_byte(hurt, prism, content):
    store, spoil = hurt
    before = content(store)
    for name in COMPUTED:
        spoil(name)
    max(store.tables.glob("decisions/_delta_log/*.json")).write_bytes(b"")
    code, out, error = prism("repair", "--store", store.root, "--json")
    said = json.loads(out)
    assert (code, said["lost"], said["failed"]) == (0, [], {}), error
    assert said["computed"] == {"main": ["2016-12", "2017-01"]}
    assert content(store) == before
    assert verify(store.root, deep=True).is_whole
    code, out, _ = prism("repair", "--store", store.root)
    assert (code, out) == (0, "0 mended, 0 lost, nothing is damaged\n")


def test_what_only_its_source_has_is_said_and_the_rest_is_usable(hurt, prism, content):
    store, spoil = hurt
    before = content(store)
    spoil("bars")
    code, out, _ = prism("repair", "--store", store.root)
    assert code == 1
    assert "lost: tables/bars lost" in out
    assert "`prism ingest`" in out
    assert {name: rows for name, rows in content(store).items() if name != "bars"} == {
        name: rows for name, rows in before.items() if name != "bars"
    }
    assert tables.read(store, "bars").num_rows == 0
