"""Snapshots: exact partitions, and prefix hashes that change with what a decision may see and with nothing else."""

from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from storage import blobs, snapshots, tables
from storage.bars import VALUES
from storage.errors import NoDataError, StoreError

MOMENT = datetime(2024, 6, 1)
TICKERS = ("A", "B", "C")
SESSIONS = pd.bdate_range("2024-01-15", "2024-04-12").astype("datetime64[s]")
DAYS = [day.date() for day in SESSIONS]


def bars_of(tickers=TICKERS, sessions=SESSIONS):
    """Bars sorted by ticker and session; a ticker's numbers do not depend on the others."""
    parts = []
    for ticker in tickers:
        numbers = np.random.default_rng(ord(ticker)).uniform(1, 2, (len(SESSIONS), len(VALUES)))
        part = pd.DataFrame(numbers, columns=VALUES).assign(ticker=ticker, session=SESSIONS, basis="traded")
        part.loc[::7, "dividend"] = np.nan
        parts.append(part[part["session"].isin(sessions)])
    return pd.concat(parts, ignore_index=True)[snapshots.COLUMNS]


@pytest.fixture
def taken(store):
    """Keep bars as a snapshot of the dataset `sample`, each a minute after the one before."""
    minute = iter(range(60))

    def take(frame, dataset="sample", delisted=None):
        moment = MOMENT.replace(minute=next(minute))
        return snapshots.take(store, dataset, frame, moment, f"digest of {len(frame)}", delisted)

    return take


@pytest.fixture
def prefixes(store, taken):
    """The prefix hashes at every session of SESSIONS."""

    def find(frame, tickers=TICKERS, days=DAYS, seen=None, delisted=None):
        return snapshots.prefixes(store, taken(frame, delisted=delisted), tickers, "label", days, seen)

    return find


def test_reading_returns_the_bars_exactly(store, taken):
    frame = bars_of()
    frame.loc[3, VALUES] = [5e-324, 1e308, -0.0, np.nan, 0.1 + 0.2, 1e15 + 1, np.nan, 1.0]
    found = snapshots.read(store, taken(frame), TICKERS)
    pd.testing.assert_frame_equal(found, frame, check_exact=True, check_dtype=False)
    assert np.array_equal(np.signbit(found[VALUES]), np.signbit(frame[VALUES]))
    part = snapshots.read(store, taken(frame), ["C", "A", "Z"])
    expected = frame[frame["ticker"].isin(["A", "C"])]
    pd.testing.assert_frame_equal(part, expected.reset_index(drop=True), check_exact=True, check_dtype=False)


def test_equal_bars_have_equal_ids_and_share_their_files(store, taken):
    first = taken(bars_of())
    files = sum(file.is_file() for file in store.blobs.rglob("*"))
    second = taken(bars_of())
    assert (first.snapshot, first.manifest) == (second.snapshot, second.manifest)
    assert sum(file.is_file() for file in store.blobs.rglob("*")) == files
    assert taken(bars_of(("A", "B"))).snapshot != first.snapshot


def test_the_row_of_a_snapshot_says_what_it_holds(store, taken):
    snapshot = taken(bars_of())
    row = tables.read(store, "snapshots").to_pylist()[0]
    assert (row["first_session"], row["last_session"]) == (DAYS[0], DAYS[-1]) == (date(2024, 1, 15), date(2024, 4, 12))
    assert (row["tickers"], row["rows"]) == (3, 3 * len(DAYS))
    assert list(snapshots.manifest(store, snapshot)) == ["2024-01", "2024-02", "2024-03", "2024-04"]


def test_snapshots_are_found_by_dataset_id_and_delivery(store, taken):
    with pytest.raises(NoDataError, match="dataset sample has no prices yet"):
        snapshots.newest(store, "sample")
    first, second = taken(bars_of(("A",))), taken(bars_of())
    again = taken(bars_of(("A",)), "files:main")
    assert snapshots.newest(store, "sample") == second
    assert snapshots.newest(store, "files:main") == again
    assert snapshots.load(store, second.snapshot) == second
    taken(bars_of(("A",)))
    assert snapshots.load(store, first.snapshot) == first, "of equal snapshots the oldest counts"
    assert snapshots.load(store, again.snapshot) == again, "equal bars of another dataset are another snapshot"
    assert snapshots.delivered(store, "sample", f"digest of {3 * len(DAYS)}") is None, "it is not the newest"
    assert snapshots.delivered(store, "files:main", f"digest of {len(DAYS)}") == again
    with pytest.raises(NoDataError, match="snapshot ffffffffffff is not in"):
        snapshots.load(store, "f" * 64)


def test_the_snapshot_of_a_moment_is_the_newest_known_then(store, taken):
    with pytest.raises(NoDataError, match="dataset sample was never ingested; nothing of it was known at 2024-06-01"):
        snapshots.at(store, "sample", MOMENT)
    first, second = taken(bars_of(("A",))), taken(bars_of())
    taken(bars_of(("B",)), "files:main")
    assert snapshots.at(store, "sample", first.known_at) == first
    assert snapshots.at(store, "sample", second.known_at - timedelta(seconds=1)) == first
    assert snapshots.at(store, "sample", second.known_at) == second
    assert snapshots.at(store, "sample", datetime(2030, 1, 1)) == second
    with pytest.raises(
        NoDataError, match="was first known at 2024-06-01 00:00:00; nothing of it was known at 2024-05-31"
    ):
        snapshots.at(store, "sample", datetime(2024, 5, 31))


def test_a_snapshot_knows_which_tickers_were_delisted(store, taken):
    plain, none = taken(bars_of()), taken(bars_of(), delisted={})
    assert (plain.snapshot, plain.manifest) == (none.snapshot, none.manifest)
    gone = {"B": date(2024, 3, 1), "A": date(2024, 2, 29)}
    snapshot = taken(bars_of(), delisted=gone)
    assert (
        snapshots.delisted(store, snapshot)
        == snapshots.delisted(store, snapshots.load(store, snapshot.snapshot))
        == gone
    )
    assert snapshots.delisted(store, plain) == {}
    assert snapshot.snapshot != plain.snapshot != taken(bars_of(), delisted={"B": date(2024, 3, 1)}).snapshot
    assert snapshots.manifest(store, snapshot) == snapshots.manifest(store, plain)


def test_a_later_session_leaves_every_earlier_prefix_as_it_was(prefixes):
    whole = prefixes(bars_of())
    assert len(set(whole)) == len(DAYS)
    for end in (1, 12, 13, 14, 40, len(DAYS) - 1):  # 13 sessions are January
        days = [DAYS[0], *DAYS[max(end - 2, 1) : end]]
        assert prefixes(bars_of(sessions=SESSIONS[:end]), days=days) == [whole[DAYS.index(day)] for day in days]


def test_another_ticker_leaves_the_prefixes_of_the_universe_as_they_were(prefixes):
    days = DAYS[::6]
    whole = prefixes(bars_of(), days=days)
    assert prefixes(bars_of(("A", "B", "C", "Z")), days=days) == whole
    assert prefixes(bars_of(), ("C", "B", "A"), days) == whole
    assert not set(prefixes(bars_of(), ("A", "B"), days)) & set(whole)


@pytest.mark.parametrize("column", [*VALUES, "basis", "absent"])
def test_a_restated_bar_renames_exactly_the_dates_from_its_own_on(prefixes, column):
    for place, ticker in ((20, 0), (34, 1), (35, 2)):  # inside a month, its last session, the next one's first
        row = ticker * len(DAYS) + place
        frame = bars_of()
        if column in VALUES:
            frame.loc[row, column] = np.nextafter(np.nan_to_num(frame.loc[row, column]), 9)
        elif column == "basis":
            frame.loc[row, column] = "adjusted"
        else:
            frame = frame.drop(index=row).reset_index(drop=True)
        days = [DAYS[12], *DAYS[place - 1 : place + 2], DAYS[-1]]
        before, after = prefixes(bars_of(), days=days), prefixes(frame, days=days)
        assert [one != other for one, other in zip(before, after, strict=True)] == [day >= DAYS[place] for day in days]


def test_swapping_two_values_or_two_tickers_changes_the_prefix(prefixes):
    frame = bars_of()
    swapped = frame.rename(columns={"open": "close", "close": "open"})[snapshots.COLUMNS]
    renamed = frame.assign(ticker=frame["ticker"].map({"A": "B", "B": "A", "C": "C"}))
    renamed = renamed.sort_values(["ticker", "session"], ignore_index=True)
    assert len({prefixes(one, days=DAYS[-1:])[0] for one in (frame, swapped, renamed)}) == 3


def test_every_nan_is_one_and_minus_zero_is_zero(prefixes):
    frame = bars_of()
    frame.loc[5, "dividend"], frame.loc[6, "dividend"] = 0.0, np.nan
    odd = np.array([0x7FF8_0000_0000_0ABC], dtype=np.uint64).view(np.float64)[0]
    dividends = frame["dividend"].to_numpy(copy=True)
    dividends[5], dividends[6] = -0.0, odd
    days = [*DAYS[5:9], DAYS[-1]]
    assert prefixes(frame.assign(dividend=dividends), days=days) == prefixes(frame, days=days)
    dividends[6] = 0.0
    found = prefixes(frame.assign(dividend=dividends), days=days)
    assert [one == other for one, other in zip(found, prefixes(frame, days=days), strict=True)] == [True] + [False] * 4


def test_the_label_and_days_without_bars_have_their_say(store, taken):
    snapshot = taken(bars_of())
    days = [date(2024, 1, 14), date(2024, 1, 19), date(2024, 1, 20), date(2024, 4, 12), date(2024, 6, 30)]
    found = snapshots.prefixes(store, snapshot, TICKERS, "label", days)
    assert found[1] == found[2] != found[0]
    assert found[3] == found[4]
    assert not set(found) & set(snapshots.prefixes(store, snapshot, TICKERS, "other", days))


def test_dates_asked_together_or_alone_have_the_same_prefix(store, taken):
    snapshot = taken(bars_of())
    alone = [snapshots.prefixes(store, snapshot, TICKERS, "label", [day])[0] for day in DAYS[::9]]
    assert snapshots.prefixes(store, snapshot, TICKERS, "label", DAYS[::9]) == alone


def test_every_date_of_a_month_is_cut_from_one_look_at_its_rows(store, taken, monkeypatch):
    snapshot, looked = taken(bars_of()), []
    read = snapshots._partition
    monkeypatch.setattr(snapshots, "_partition", lambda *ids: looked.append(ids) or read(*ids))
    others = {"B": [None, *DAYS[:-1]], "C": [DAYS[max(place - 3, 0)] for place in range(len(DAYS))]}
    found = snapshots.prefixes(store, snapshot, TICKERS, "label", DAYS, others)
    assert len(looked) == len(snapshots.manifest(store, snapshot))
    assert len(set(found)) == len(DAYS)


def test_the_names_of_stored_results_stay_from_release_to_release(store):
    days = pd.to_datetime(["2024-01-30", "2024-01-31", "2024-02-01"]).astype("datetime64[s]")
    frame = pd.DataFrame({name: [1.5, 2.0, 2.5] for name in VALUES}).assign(session=days, ticker="A")
    parts = [frame.assign(ticker=basis, basis=basis) for basis in ("adjusted", "split", "traded")]
    taken = snapshots.take(store, "sample", pd.concat(parts, ignore_index=True)[snapshots.COLUMNS], MOMENT, "d")
    assert taken.snapshot == "22b7024852286e940b2157b2e05ca4c508ebe924604bcef7d4e1b53fd42130ac"
    assert snapshots.prefixes(store, taken, ["adjusted", "split", "traded"], "label", [day.date() for day in days]) == [
        "fcfe5d29ed9d39a84091ded127b4204f406e51231d48047b780e1534cb452a68",
        "258aa670884a4837405de8d07fdfc1adcd5352d9806ed89c717d4540179ef75a",
        "1eb22f1481132d6501829b4b9211d7f3fc7e0717d743192e6fedeab036e57545",
    ]


def seen_until(days):
    """The ticker C is seen up to the session before each day."""
    return {"C": [DAYS[max(DAYS.index(day) - 1, 0)] for day in days]}


def test_a_ticker_that_is_known_later_is_cut_where_it_is_known(prefixes):
    days = [DAYS[3], DAYS[20], DAYS[34], DAYS[35], DAYS[36]]
    whole = prefixes(bars_of(), days=days, seen=seen_until(days))
    for place in (20, 34, 35):  # inside a month, its last session, the next one's first
        frame = bars_of()
        frame.loc[2 * len(DAYS) + place, "close"] = 9.0
        changed = prefixes(frame, days=days, seen=seen_until(days))
        assert [one != other for one, other in zip(whole, changed, strict=True)] == [day > DAYS[place] for day in days]
        frame = bars_of()
        frame.loc[place, "close"] = 9.0
        changed = prefixes(frame, days=days, seen=seen_until(days))
        assert [one != other for one, other in zip(whole, changed, strict=True)] == [day >= DAYS[place] for day in days]


def test_a_cut_is_the_absence_of_what_it_leaves_out(prefixes):
    for place in (3, 20, 35):
        frame = bars_of()
        early = frame[(frame["ticker"] != "C") | (frame["session"] < SESSIONS[place])].reset_index(drop=True)
        day = DAYS[place]
        assert prefixes(frame, days=[day], seen={"C": [DAYS[place - 1]]}) == prefixes(early, days=[day])
    nothing = prefixes(bars_of(), days=DAYS[:1], seen={"C": [None]})
    assert nothing == prefixes(bars_of(("A", "B")), days=DAYS[:1])
    label = prefixes(bars_of(("Z",)), days=DAYS[:1])
    assert prefixes(bars_of(), days=DAYS[:1], seen={name: [None] for name in TICKERS}) == label


def test_a_delisting_has_its_say_from_its_day_on(prefixes):
    days = [DAYS[12], DAYS[20], DAYS[21], DAYS[-1]]
    plain = prefixes(bars_of(), days=days)
    gone = prefixes(bars_of(), days=days, delisted={"B": DAYS[21], "Z": DAYS[0]})
    assert [one != other for one, other in zip(plain, gone, strict=True)] == [False, False, True, True]
    assert prefixes(bars_of(), ("A", "C"), days, delisted={"B": DAYS[0]}) == prefixes(bars_of(), ("A", "C"), days)
    assert prefixes(bars_of(), days=days, delisted={"B": DAYS[20]})[2:] != gone[2:]
    assert prefixes(bars_of(), days=days, delisted={"C": DAYS[21]})[2:] != gone[2:]


def test_a_damaged_partition_is_never_read(store, taken):
    snapshot = taken(bars_of())
    entry = snapshots.manifest(store, snapshot)["2024-02"]
    file = store.blobs / entry["blob"][:2] / entry["blob"]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        snapshots.read(store, snapshot, TICKERS)
    with pytest.raises(StoreError, match="is damaged"):
        snapshots.prefixes(store, snapshot, TICKERS, "label", [date(2024, 2, 6)])


def test_months_whose_rows_are_stored_are_not_made_again(store, taken, monkeypatch):
    made, parquet = [], snapshots._parquet
    monkeypatch.setattr(snapshots, "_parquet", lambda rows: made.append(str(rows["session"][0])[:7]) or parquet(rows))
    taken(bars_of(sessions=SESSIONS[:-5]))
    assert made == ["2024-01", "2024-02", "2024-03", "2024-04"]
    made.clear()
    longer = taken(bars_of())
    assert made == ["2024-04"]
    revised = bars_of()
    revised.loc[5, "close"] = 3.0
    found = snapshots.read(store, taken(revised), TICKERS)
    assert made == ["2024-04", "2024-01"]
    pd.testing.assert_frame_equal(found, revised, check_exact=True, check_dtype=False)
    monkeypatch.undo()
    assert snapshots.contents("sample", bars_of())[2] == longer.snapshot
    assert snapshots.read(store, longer, TICKERS).equals(bars_of())


def test_a_damaged_month_is_written_anew_by_the_next_snapshot(store, taken):
    first = taken(bars_of())
    partition = snapshots.manifest(store, first)["2024-02"]["blob"]
    blobs.path(store, partition).write_bytes(b"damaged")
    assert snapshots.manifest(store, taken(bars_of()))["2024-02"]["blob"] == partition
    assert snapshots.read(store, first, TICKERS).equals(bars_of())


def test_the_bars_that_differ_between_two_snapshots_are_found_ticker_by_ticker(store, taken):
    frame, restated = bars_of(), bars_of()
    days = pd.to_datetime(["2024-02-06", "2024-03-05"])
    restated.loc[restated["session"].isin(days) & (restated["ticker"] == "B"), "close"] = 3.0
    before, after, more = (each.snapshot for each in (taken(frame), taken(restated), taken(bars_of(("A", "B", "D")))))
    assert snapshots.restated(store, before, after, ("A", "B")) == (date(2024, 2, 6), date(2024, 3, 5))
    assert snapshots.restated(store, before, after, ("A",)) == ()
    assert snapshots.restated(store, before, more, ("A", "B")) == ()
    assert len(snapshots.restated(store, before, more, ("D",))) == frame["session"].nunique()
