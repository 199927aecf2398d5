"""Partitions: months kept by key, read together in order, missing ones told."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from storage import blobs, partitions, tables
from storage.errors import StoreError
from storage.partitions import Partition

NAMES = ("price", "beta")


def partition(month, names=NAMES, tickers=("B", "A"), key=None):
    sessions = pd.bdate_range(f"{month}-01", periods=3).astype("datetime64[s]")
    rows = pd.DataFrame([(t, day) for t in tickers for day in sessions], columns=["ticker", "session"])
    numbers = np.random.default_rng(int(month[-2:])).normal(size=(len(rows), len(names)))
    rows[list(names)] = numbers
    return Partition(key or f"key of {month}", month, sessions[-1].date(), names, rows)


def test_months_are_read_together_sorted_by_ticker_and_session(store):
    march, april = partition("2024-03"), partition("2024-04")
    march.rows.loc[0, "beta"] = np.nan
    partitions.put(store, "features", [april, march])
    names, rows = partitions.read(store, "features", [april.key, march.key])
    expected = pd.concat([march.rows, april.rows]).sort_values(["ticker", "session"], kind="stable")
    assert names == NAMES
    pd.testing.assert_frame_equal(rows, expected.reset_index(drop=True), check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(
        partitions.read(store, "features", [march.key])[1].iloc[3:, 2:], march.rows.iloc[:3, 2:].set_axis([3, 4, 5])
    )


def test_the_row_of_a_month_says_what_it_holds(store):
    partitions.put(store, "features", [partition("2024-03")])
    (row,) = tables.read(store, "features").to_pylist()
    assert (row["key"], row["month"], row["as_of"]) == ("key of 2024-03", "2024-03", date(2024, 3, 5))
    assert (row["names"], row["rows"]) == (list(NAMES), 6)


def test_equal_features_are_one_blob_and_two_keys(store):
    partitions.put(store, "features", [partition("2024-03"), partition("2024-03", key="another")])
    assert len(set(tables.read(store, "features")["blob"].to_pylist())) == 1
    first, second = (partitions.read(store, "features", [key])[1] for key in ("key of 2024-03", "another"))
    pd.testing.assert_frame_equal(first, second)


def test_nothing_to_keep_keeps_nothing(store):
    partitions.put(store, "features", [])
    assert not (store.tables / "features").exists()


def test_missing_months_are_counted(store):
    partitions.put(store, "features", [partition("2024-03")])
    with pytest.raises(StoreError, match="2 of 3 months of features are missing; run it again"):
        partitions.read(store, "features", ["key of 2024-03", "key of 2024-04", "x' OR '1'='1"])


def test_a_damaged_month_is_never_read(store):
    partitions.put(store, "features", [partition("2024-03")])
    blob = tables.read(store, "features")["blob"][0].as_py()
    content = bytearray(blobs.path(store, blob).read_bytes())
    content[40] ^= 1
    blobs.path(store, blob).write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        partitions.read(store, "features", ["key of 2024-03"])
