"""Bars: never changed, only added to; what was known at a moment stays what it was."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from storage import bars, tables
from storage.errors import StoreError

FIRST, SECOND, THIRD = (datetime(2024, month, 1, 12) for month in (1, 2, 3))


def delivery(closes, ticker="A", basis="traded", **others):
    """Bars with the given closes, on business days from 2 January on."""
    sessions = pd.bdate_range("2024-01-02", periods=len(closes)).astype("datetime64[s]")
    empty = dict.fromkeys([name for name in bars.VALUES if name != "close"], np.nan)
    frame = pd.DataFrame({"ticker": ticker, "session": sessions, **empty, "close": closes, **others})
    return frame[["ticker", "session", *bars.VALUES]].assign(basis=basis, source="files")


def ingest(store, frame, moment, dataset="files:main"):
    """What an ingest does: append what is new and what differs."""
    new, revised = bars.news(bars.latest(store, dataset), frame)
    bars.append(store, dataset, pd.concat([new, revised]), moment)
    return len(new), len(revised)


def closes(store, known_at=None, dataset="files:main"):
    return bars.latest(store, dataset, known_at)["close"].tolist()


def test_bars_come_back_exactly_and_sorted(store):
    frame = delivery([1.1, 0.1 + 0.2, 5e-324], volume=[1e15, np.nan, 0.0], split=[1.0, -0.0, np.nan])
    ingest(store, pd.concat([delivery([7.0], "B"), frame.iloc[::-1]]), FIRST)
    found = bars.latest(store, "files:main")
    expected = pd.concat([frame, delivery([7.0], "B")], ignore_index=True).drop(columns="source")
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_exact=True)
    assert tables.read(store, "bars")["source"].to_pylist() == ["files"] * 4
    assert np.signbit(found["split"][1])
    assert set(found["known_from"]) == {pd.Timestamp(FIRST)}


def test_the_bars_of_each_ticker_are_parts_of_those_of_all():
    rows = pd.concat([delivery([1.0, 2.0]), delivery([7.0], "B")], ignore_index=True)
    found = bars.by_ticker(rows, rows["ticker"])
    assert {name: part["close"].tolist() for name, part in found.items()} == {"A": [1.0, 2.0], "B": [7.0]}
    assert np.shares_memory(found["B"]["close"].to_numpy(), rows["close"].to_numpy())
    assert bars.by_ticker(rows.iloc[:0], rows["ticker"].iloc[:0]) == {}


def test_a_revision_is_a_new_row_and_leaves_the_past_as_it_was_known(store):
    assert ingest(store, delivery([1.0, 2.0, 3.0]), FIRST) == (3, 0)
    assert ingest(store, delivery([1.0, 2.5, 3.0, 4.0]), SECOND) == (1, 1)
    assert ingest(store, delivery([1.0, 2.0, 3.0, 4.0]), THIRD) == (0, 1)
    assert closes(store) == [1.0, 2.0, 3.0, 4.0]
    assert closes(store, THIRD) == [1.0, 2.0, 3.0, 4.0]
    assert closes(store, SECOND) == [1.0, 2.5, 3.0, 4.0]
    assert closes(store, FIRST) == [1.0, 2.0, 3.0]
    assert closes(store, datetime(2023, 12, 31)) == []
    assert tables.read(store, "bars").num_rows == 6


def test_the_same_delivery_twice_adds_nothing(store):
    frame = delivery([1.0, np.nan], volume=[np.nan, 5.0])
    assert ingest(store, frame, FIRST) == (2, 0)
    assert ingest(store, frame, SECOND) == (0, 0)
    assert tables.read(store, "bars").num_rows == 2


def test_a_delivery_that_lacks_rows_takes_nothing_away(store):
    ingest(store, pd.concat([delivery([1.0, 2.0, 3.0]), delivery([9.0], "B")]), FIRST)
    assert ingest(store, delivery([1.0]), SECOND) == (0, 0)
    assert closes(store) == [1.0, 2.0, 3.0, 9.0]


@pytest.mark.parametrize("name", bars.VALUES)
@pytest.mark.parametrize(("before", "after"), [(1.0, 1.0 + 2**-52), (1.0, np.nan), (np.nan, 1.0), (0.0, 5e-324)])
def test_any_other_value_is_a_revision(name, before, after):
    known, delivered = delivery([2.0]).assign(**{name: before}), delivery([2.0]).assign(**{name: after})
    new, revised = bars.news(known, delivered)
    assert (len(new), len(revised)) == (0, 1)
    pd.testing.assert_frame_equal(revised, delivered)


def test_missing_stays_equal_to_missing_and_another_basis_is_a_revision():
    known = delivery([np.nan, 1.0])
    assert [len(part) for part in bars.news(known, delivery([np.nan, 1.0]))] == [0, 0]
    assert [len(part) for part in bars.news(known, delivery([np.nan, 1.0], basis="split"))] == [0, 2]


def test_datasets_never_mix(store):
    ingest(store, delivery([1.0]), FIRST, "files:main")
    ingest(store, delivery([2.0]), FIRST, "files:other' OR '1'='1")
    assert closes(store) == [1.0]
    assert closes(store, dataset="files:other' OR '1'='1") == [2.0]
    assert closes(store, dataset="yahoo") == []


def test_a_bar_delivered_twice_at_once_is_refused_whole(store):
    with pytest.raises(StoreError, match=r"repeat a dataset . ticker . session . known_from"):
        ingest(store, pd.concat([delivery([1.0, 2.0]), delivery([3.0])]), FIRST)
    assert closes(store) == []
