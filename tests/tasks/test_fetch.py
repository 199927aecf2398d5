"""Fetching: what a delivery adds to what is known, what it must not change, and what is refused."""

import weakref
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from storage import bars, clock, snapshots, tables, universe
from storage.errors import InputError
from tasks import calendars
from tasks import fetch as stage
from tasks.fetch import own


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes on by a minute whenever it is read."""
    time = {"now": datetime(2024, 1, 1)}

    def now():
        time["now"] += timedelta(minutes=1)
        return time["now"]

    monkeypatch.setattr(clock, "now", now)
    return time


@pytest.fixture
def deliver(store, tmp_path, ticking):
    """Ingests a frame as a CSV file; the snapshot's id."""

    def ingest(frame, exchanges=None, name="prices.csv", accepted=()):
        path = tmp_path / name
        frame.to_csv(path, index=False)
        return stage.ingest.fn("files", "files:main", str(path), exchanges and elsewhere(store, exchanges), accepted)

    return ingest


def elsewhere(store, exchanges):
    """Id of a universe whose tickers trade on these exchanges."""
    rows = "\n".join(f"{ticker},{exchange}" for ticker, exchange in exchanges.items())
    return universe.keep(store, universe.parse("test", f"ticker,exchange\n{rows}"))


def prices(tickers="AB", first=date(2024, 1, 2), last=date(2024, 3, 28), column="close"):
    days = calendars.sessions("XNYS", first, last).astype(str)
    value = 50.0 + (days.astype("datetime64[D]") - np.datetime64("2024-01-02")).astype(int)
    parts = [pd.DataFrame({"date": days, "ticker": ticker, column: value}) for ticker in tickers]
    return pd.concat(parts, ignore_index=True)


def history(store):
    return tables.read(store, "bars", dataset="files:main").to_pandas()


def test_the_sample_holds_twenty_stocks_and_the_index_on_every_session(store):
    snapshot = stage.ingest.fn("sample", "sample")
    known = bars.latest(store, "sample")
    assert known["ticker"].nunique() == 21
    assert set(known["ticker"].value_counts()) == {8313}
    assert set(known["basis"]) == {"adjusted"}
    days = calendars.sessions("XNYS", date(1990, 1, 2), date(2022, 12, 28))
    one = known.loc[known["ticker"] == "AAPL", "session"].to_numpy().astype("datetime64[D]")
    np.testing.assert_array_equal(one, days)
    assert snapshots.newest(store, "sample").snapshot == snapshot
    assert set(tables.read(store, "quality")["severity"].to_pylist()) == {"warn"}


def test_of_what_was_read_nothing_is_held_while_the_snapshot_is_taken(deliver, monkeypatch):
    read, take, there, alive = own.read, snapshots.take, [], []

    def watched(*asked):
        given = read(*asked)
        there.extend(weakref.ref(each) for each in (given, *given.deliveries))
        return given

    monkeypatch.setattr(own, "read", watched)
    monkeypatch.setattr(snapshots, "take", lambda *given: alive.extend(ref() for ref in there) or take(*given))
    deliver(prices())
    assert alive == [None] * 3


def test_the_same_delivery_is_read_once(store, deliver, monkeypatch):
    first = deliver(prices())
    written = history(store)
    monkeypatch.setattr(own, "read", lambda *_: pytest.fail("read again"))
    assert deliver(prices()) == first
    assert len(history(store)) == len(written)
    assert tables.read(store, "snapshots").num_rows == 1


def test_files_are_not_read_again_once_their_universe_is_known(store, deliver, monkeypatch):
    first = deliver(prices())
    monkeypatch.setattr(own, "read", None)
    assert deliver(prices(), {"A": "XNYS", "B": "XNYS"}) == first
    assert len(tables.read(store, "snapshots")) == 1


def test_the_same_bytes_for_another_exchange_are_another_delivery(store, deliver):
    frame = prices(last=date(2024, 5, 31))
    deliver(frame)
    deliver(frame, {"A": "XLON"})
    found = tables.read(store, "quality").sort_by("session").to_pylist()
    [row] = [row for row in found if row["check_name"] == "session"]  # London's holidays
    assert (row["ticker"], str(row["session"]), row["value"]) == ("A", "2024-04-01", 2)


def test_a_dividend_on_a_day_without_trading_is_not_lost_in_silence(store, deliver):
    frame = prices("A").assign(dividend=0.0)
    frame = pd.concat([frame, pd.DataFrame([{"date": "2024-03-02", "ticker": "A", "close": 90.0, "dividend": 0.5}])])
    deliver(frame)
    assert bars.latest(store, "files:main")["session"].max() == pd.Timestamp("2024-03-01")
    [row] = tables.read(store, "ingests").to_pylist()
    assert "action_lost" in row["detail"]


def test_later_files_add_what_is_new_and_restate_what_differs(store, deliver):
    first = deliver(prices())
    before = history(store)
    later = prices(last=date(2024, 4, 30))
    later.loc[later["date"] == "2024-02-15", "close"] += 0.25
    second = deliver(later)
    after = history(store)
    pd.testing.assert_frame_equal(after.merge(before)[before.columns], before, check_like=True)
    new = after[after["known_from"] > before["known_from"].max()]
    restated = new[new["session"] <= date(2024, 3, 28)]
    assert restated["session"].astype(str).tolist() == ["2024-02-15"] * 2
    assert len(new) == 2 + 2 * calendars.sessions("XNYS", date(2024, 4, 1), date(2024, 4, 30)).size
    latest = bars.latest(store, "files:main").set_index(["ticker", "session"])["close"]
    assert latest["A", pd.Timestamp("2024-02-15")] == before_close(before, "2024-02-15") + 0.25
    known = bars.latest(store, "files:main", before["known_from"].max())
    assert known.set_index(["ticker", "session"])["close"]["A", pd.Timestamp("2024-02-15")] == before_close(
        before, "2024-02-15"
    )
    changed = snapshots.restated(store, first, second, ("A",))
    assert changed[0] == date(2024, 2, 15)
    assert all(day.month == 4 for day in changed[1:])  # bars that only the later delivery holds


def before_close(frame, day):
    return frame.loc[(frame["ticker"] == "A") & (frame["session"] == date.fromisoformat(day)), "close"].item()


def test_a_delivery_that_lacks_known_bars_takes_none_away(store, deliver):
    deliver(prices())
    deliver(prices("A", first=date(2024, 2, 1), last=date(2024, 4, 30)))
    assert len(bars.latest(store, "files:main")) == 2 * 61 + 22


def test_without_a_path_the_known_files_are_taken_as_they_are(deliver):
    snapshot = deliver(prices())
    assert stage.ingest.fn("files", "files:main") == snapshot


def test_without_a_path_and_known_files_the_next_step_is_named(store):
    with pytest.raises(InputError, match="dataset files:main has no prices yet; name the file or folder with --path"):
        stage.ingest.fn("files", "files:main")
    with pytest.raises(InputError, match="/none does not exist; give --path"):
        stage.ingest.fn("files", "files:main", "/none")


def test_bars_of_other_days_are_refused_and_written_down(store, deliver):
    frame = pd.concat([prices(), pd.DataFrame({"date": ["2024-01-06", "2024-01-15"], "ticker": "A", "close": 9.0})])
    deliver(frame)
    found = tables.read(store, "quality").to_pylist()
    [row] = [row for row in found if row["check_name"] == "session"]
    assert (row["ticker"], str(row["session"]), row["value"], row["action"]) == ("A", "2024-01-06", 2, "refused")
    assert 9.0 not in set(history(store)["close"])


def test_a_row_that_breaks_a_rule_is_written_down_with_its_reason(store, deliver):
    frame = prices()
    frame["close"] = frame["close"].astype(str)
    frame.loc[3, "close"] = "much"
    deliver(frame)
    found = {row["check_name"]: row for row in tables.read(store, "quality").to_pylist()}
    assert (found["not_a_number"]["ticker"], found["not_a_number"]["action"]) == ("A", "refused")
    assert found["not_a_number"]["detail"] == "close is much; it must be a number"


def test_a_ticker_that_breaks_a_fatal_rule_is_quarantined_and_keeps_its_old_bars(store, deliver):
    deliver(prices())
    later = prices(last=date(2024, 4, 30))
    later.loc[(later["ticker"] == "A") & (later["date"] == "2024-04-02"), "close"] = -1.0
    deliver(later)
    newest = bars.latest(store, "files:main").groupby("ticker")["session"].max()
    assert [str(day.date()) for day in newest[["A", "B"]]] == ["2024-03-28", "2024-04-30"]
    outcomes = {row["ticker"]: row for row in tables.read(store, "ingests").sort_by("created_at").to_pylist()}
    assert outcomes["A"]["outcome"] == "rejected"
    assert outcomes["A"]["detail"].startswith("non_positive_price: ")
    [row] = [row for row in tables.read(store, "quality").to_pylist() if row["severity"] == "fatal"]
    assert (row["ticker"], row["check_name"], row["action"]) == ("A", "non_positive_price", "quarantined")


def test_a_person_may_take_the_good_rows_of_a_quarantined_ticker(store, deliver):
    frame = prices()
    frame.loc[3, "close"] = -1.0
    deliver(frame, accepted=("A",))
    assert bars.latest(store, "files:main")["ticker"].value_counts().to_dict() == {"A": 60, "B": 61}
    assert [row["action"] for row in tables.read(store, "quality").to_pylist() if row["severity"] == "fatal"] == [
        "refused"
    ]


def test_where_nothing_passes_the_gate_the_way_on_is_named(store, deliver):
    frame = prices("A")
    frame.loc[3, "close"] = 0.0
    with pytest.raises(InputError, match=r"no ticker of .* passed .* A: non_positive_price.* --accept A"):
        deliver(frame)
    assert tables.read(store, "snapshots").num_rows == 0


def test_a_tickers_own_exchange_decides_its_sessions(store, deliver):
    day = pd.DataFrame({"date": ["2024-01-15"], "ticker": "A", "close": 62.5})  # a holiday in New York, not in London
    deliver(pd.concat([prices("A", last=date(2024, 2, 16)), day]), {"A": "XLON"})
    assert 62.5 in set(history(store)["close"])
    assert tables.read(store, "quality").num_rows == 0


def test_the_diary_counts_the_bars_of_each_ticker(store, deliver):
    deliver(prices())
    rows = tables.read(store, "ingests").sort_by("ticker").to_pylist()
    assert [(row["ticker"], row["outcome"], row["rows"]) for row in rows] == [("A", "ok", 61), ("B", "ok", 61)]


def test_a_delivery_without_any_session_is_refused_and_stores_nothing(store, deliver, tmp_path):
    frame = pd.DataFrame({"date": ["2024-01-06"], "ticker": "A", "close": 9.0})
    with pytest.raises(InputError, match=r"prices\.csv has no bar on a session of its exchange"):
        deliver(frame)
    with pytest.raises(InputError, match="has no bar on a session"):
        stage.preview("files", str(tmp_path / "prices.csv"))
    assert tables.read(store, "snapshots").num_rows == 0


@pytest.mark.parametrize("column", ["close", "adj_close"])
def test_prices_adjusted_on_another_scale_must_come_whole(store, deliver, column):
    deliver(prices(column=column))
    halved = prices("A", first=date(2024, 3, 1), last=date(2024, 4, 30), column=column)
    halved[column] /= 2
    with pytest.raises(InputError, match="A is adjusted otherwise from 2024-03-01 on than in its older bars"):
        deliver(halved)
    assert tables.read(store, "snapshots").num_rows == 1
    whole = prices("A", last=date(2024, 4, 30), column=column)
    whole[column] /= 2
    deliver(whole)
    assert bars.latest(store, "files:main").query("ticker == 'A'")["close"].max() < 90


def test_bars_of_another_basis_must_come_whole(deliver):
    deliver(prices())
    part = prices("A", first=date(2024, 3, 1)).assign(split=0.0)
    with pytest.raises(InputError, match="A is adjusted otherwise from 2024-03-01 on"):
        deliver(part)


def test_a_month_without_dividends_continues_files_with_adjusted_closes(store, deliver):
    frame = prices("A").assign(dividend=0.0, split=0.0)
    frame["adj_close"] = frame["close"]
    frame.loc[10, "dividend"] = 0.5
    deliver(frame)
    later = prices("A", first=date(2024, 3, 1), last=date(2024, 4, 30)).assign(dividend=0.0, split=0.0)
    deliver(later.assign(adj_close=later["close"]))
    latest = bars.latest(store, "files:main")
    assert len(latest) == 61 + 22
    assert set(latest["basis"]) == {"traded", "adjusted"}


def test_a_file_of_corrections_restates_just_these(store, deliver):
    deliver(prices())
    deliver(pd.DataFrame({"date": ["2024-02-15", "2024-02-16"], "ticker": "A", "close": [93.0, 96.5]}), name="more.csv")
    [row] = tables.read(store, "restatements").to_pylist()
    assert (row["ticker"], row["field"], row["rows"], str(row["first_session"])) == ("A", "close", 2, "2024-02-15")
    assert (row["before"], row["after"]) == (95.0, 96.5)
    before = history(store)["known_from"].min()
    changed = bars.latest(store, "files:main").merge(bars.latest(store, "files:main", before), on=bars.IDENTITY)
    changed = changed[changed["close_x"] != changed["close_y"]]
    assert list(changed["close_x"]) == [93.0, 96.5]
    assert list(changed["close_y"]) == [94.0, 95.0]


def test_a_month_in_another_unit_is_seen_at_its_seam(store, deliver):
    deliver(prices())
    pence = prices("A", first=date(2024, 4, 1), last=date(2024, 4, 30))
    pence["close"] *= 100
    deliver(pd.concat([pence, prices("B", first=date(2024, 4, 1), last=date(2024, 4, 30))]), name="april.csv")
    newest = bars.latest(store, "files:main").groupby("ticker")["session"].max()
    assert [str(day.date()) for day in newest[["A", "B"]]] == ["2024-03-28", "2024-04-30"]


def test_a_preview_says_what_would_come_and_stores_nothing(store, tmp_path):
    frame = prices().drop(index=[5, 6])
    pd.concat([frame, pd.DataFrame({"date": ["2024-01-06"], "ticker": ["B"], "close": [9.0]})]).to_csv(
        tmp_path / "prices.csv", index=False
    )
    said = stage.preview("files", str(tmp_path / "prices.csv"))
    assert (said["layout"], said["basis"]) == ("long", "split")
    first, last = date(2024, 1, 2), date(2024, 3, 28)
    assert said["tickers"] == [
        {"ticker": "A", "bars": 59, "first": first, "last": last, "gaps": 2, "outcome": "taken"},
        {"ticker": "B", "bars": 62, "first": first, "last": last, "gaps": 0, "outcome": "taken"},
    ]
    assert [(row["ticker"], row["session"], row["check_name"]) for row in said["findings"]] == [
        ("A", date(2024, 1, 9), "missing_sessions"),
        ("B", date(2024, 1, 6), "session"),
    ]
    assert not list(store.tables.iterdir())
    assert not list(store.blobs.iterdir())


def test_a_preview_of_files_needs_a_path():
    with pytest.raises(InputError, match="--source files needs --path"):
        stage.preview("files", None)


def test_what_was_found_before_is_not_repeated(store, deliver):
    frame = prices().drop(index=[5, 6])
    deliver(frame)
    deliver(frame.assign(close=frame["close"] + 0.001))
    assert [row["check_name"] for row in tables.read(store, "quality").to_pylist()] == ["missing_sessions"]


def test_adjusted_closes_must_overlap_with_those_they_continue(store, deliver):
    deliver(prices(column="adj_close"))
    april = prices("A", first=date(2024, 4, 1), last=date(2024, 4, 30), column="adj_close")
    with pytest.raises(InputError, match=r"A from 2024-04-01 on share fewer than 3 sessions .* --accept A"):
        deliver(april, name="april.csv")
    deliver(april, name="april.csv", accepted=("A",))
    assert len(bars.latest(store, "files:main").query("ticker == 'A'")) == 61 + 22


def test_dividends_that_come_later_do_not_rescale_what_was_adjusted_before(store, deliver):
    first = prices("A").rename(columns={"close": "adj_close"})
    deliver(first.assign(close=first["adj_close"]))
    later = prices("A", first=date(2024, 3, 1), last=date(2024, 4, 30)).assign(dividend=0.0, split=0.0)
    later.loc[30, "dividend"] = 4.0
    factor = np.where(np.arange(len(later)) < 30, 0.96, 1.0)
    with pytest.raises(InputError, match="A is adjusted otherwise from 2024-03-01 on"):
        deliver(later.assign(adj_close=later["close"] * factor))


def test_a_name_holds_rates_or_prices(store, deliver, tmp_path):
    (tmp_path / "rates.csv").write_text("date,A\n2024-01-02,0.02\n")
    stage.ingest_rates.fn("files:main", str(tmp_path / "rates.csv"), "percent")
    with pytest.raises(InputError, match="A holds rates already; rename it"):
        deliver(prices())


def test_accepting_a_ticker_that_the_files_lack_is_refused(deliver):
    with pytest.raises(InputError, match="--accept TYPO: the delivery holds no such ticker; it holds A, B"):
        deliver(prices(), accepted=("TYPO",))
