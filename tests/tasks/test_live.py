"""The live run: whom it asks and for what, what it does with each outcome, and when it gives up."""

import gzip
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from storage import actions, bars, blobs, clock, ingests, instruments, snapshots, tables, universe
from storage.errors import InputError, SourceError
from storage.keys import PanelKey
from tasks import calendars, panels
from tasks import fetch as stage
from tasks.fetch import live, yahoo
from tasks.fetch.chart import Quote

TICKERS = [f"T{place:02d}" for place in range(10)]


class Source:
    """A source that answers from a table of as-traded closes, or with the outcome that it is told."""

    def __init__(self):
        days = calendars.sessions("XNYS", date(2023, 1, 3), date(2025, 12, 31))
        generator = np.random.default_rng(7)
        moves = generator.normal(0.0004, 0.01, (days.size, len(TICKERS)))
        self.closes = pd.DataFrame(100 * np.exp(moves.cumsum(axis=0)), pd.DatetimeIndex(days).as_unit("s"), TICKERS)
        self.events = []  # ticker, ex_date, kind, value
        self.outcomes, self.asked, self.currency, self.adjusted = {}, [], {}, {}

    def fetch(self, wanted, limits, proxy, ca_file, cache, on_answer):
        self.asked.append(list(wanted))
        for each in wanted:
            outcome = self.outcomes.get(each.ticker, "ok" if each.ticker in self.closes else "not_found")
            quote = self.quote(each) if outcome == "ok" else None
            on_answer(yahoo.Answer(each.ticker, outcome, quote, 1, 1, f"{each.ticker} said {outcome}"))

    def quote(self, wanted):
        close = self.closes[wanted.ticker].loc[str(wanted.since) : str(wanted.last_completed)].dropna()
        frame = pd.DataFrame({"session": close.index, "close": close.to_numpy()})
        spread = {"open": frame["close"], "high": frame["close"] * 1.01, "low": frame["close"] * 0.99}
        frame = frame.assign(
            **spread, adj_close=self._adjusted(wanted, close), volume=1e6, dividend=np.nan, split=np.nan
        )
        mine = [event for event in self.events if event[0] == wanted.ticker]
        given = pd.DataFrame(mine, columns=["ticker", "ex_date", "kind", "value"]).drop(columns="ticker")
        given["ex_date"] = pd.to_datetime(given["ex_date"]).astype("datetime64[s]")
        for event in given.itertuples():
            frame.loc[frame["session"] == event.ex_date, event.kind] = event.value
        currency = self.currency.get(wanted.ticker, "USD")
        said = ("NYQ", "America/New_York", "EQUITY", date(2020, 1, 2))
        return Quote(wanted.ticker, frame, given, currency, wanted.ticker, *said, 0, f"{wanted}".encode())

    def _adjusted(self, wanted, close):
        """Yahoo's adjusted close, where the test gives one."""
        given = self.adjusted.get(wanted.ticker)
        return np.nan if given is None else given.loc[close.index].to_numpy()


@pytest.fixture
def source(monkeypatch):
    made = Source()
    monkeypatch.setattr(live.yahoo, "fetch", made.fetch)
    return made


@pytest.fixture
def now(monkeypatch):
    """The clock, which the test sets, and which goes on by a second whenever it is read."""
    time = {"now": datetime(2025, 6, 2, 14)}

    def read():
        time["now"] += timedelta(seconds=1)
        return time["now"]

    monkeypatch.setattr(clock, "now", read)

    def turn(*moment):
        time["now"] = datetime(*moment)

    return turn


@pytest.fixture
def run(store, source, now):
    """Ingest some tickers; the snapshot."""

    def ingest(tickers=TICKERS, accepted=(), rows=""):
        chosen = universe.parse("test", "ticker,currency,role,delisted,aliases\n" + "\n".join(tickers) + rows)
        identity = stage.ingest.fn("yahoo", "yahoo", None, universe.keep(store, chosen), tuple(accepted))
        return snapshots.load(store, identity)

    return ingest


def last_sessions(store):
    days = bars.latest(store, "yahoo").groupby("ticker")["session"].max()
    return {ticker: str(day.date()) for ticker, day in days.items()}


def outcome(store, ticker):
    rows = tables.read(store, "ingests", dataset="yahoo", ticker=ticker).sort_by("created_at").to_pylist()
    return rows[-1]


def test_the_first_run_asks_for_the_whole_history_and_a_second_one_for_nothing(store, source, run):
    first = run()
    assert {each.since for each in source.asked[0]} == {date(2000, 1, 1)}
    assert {each.last_completed for each in source.asked[0]} == {date(2025, 5, 30)}  # June 2 has not closed
    assert set(last_sessions(store).values()) == {"2025-05-30"}
    assert run() == first
    assert len(source.asked) == 1
    assert outcome(store, "T00")["outcome"] == "up_to_date"


def test_a_later_day_of_the_month_is_asked_for_with_an_overlap_and_the_next_month_whole(store, source, run, now):
    run()
    before = bars.latest(store, "yahoo")
    now(2025, 6, 3, 23)
    second = run()
    days = calendars.sessions("XNYS", date(2024, 1, 1), date(2025, 5, 30))
    assert {each.since for each in source.asked[1]} == {days[-250].item()}
    after = bars.latest(store, "yahoo")
    assert len(after) == len(before) + 2 * len(TICKERS)
    kept = after[after["session"] <= "2025-05-30"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)  # known_from too: nothing was revised
    assert second.last_session == date(2025, 6, 3)
    now(2025, 7, 1, 23)
    run()
    assert {each.since for each in source.asked[2]} == {date(2000, 1, 1)}


def test_a_session_counts_as_final_half_an_hour_after_its_close(source, run, now):
    now(2025, 6, 2, 20, 29, 50)
    run()
    now(2025, 6, 2, 20, 30, 1)
    run()
    assert [asked[0].last_completed for asked in source.asked] == [date(2025, 5, 30), date(2025, 6, 2)]


def test_raw_payloads_actions_and_what_the_source_says_of_a_ticker_are_kept(store, source, run):
    source.events = [("T01", "2024-05-10", "dividend", 0.5), ("T01", "2024-08-09", "dividend", 0.5)]
    run()
    row = outcome(store, "T01")
    assert b"T01" in gzip.decompress(blobs.get(store, row["payload"]))
    assert (row["outcome"], row["verdict"], row["full"], row["requests"]) == ("ok", "first", True, 1)
    known = actions.latest(store, "yahoo")
    assert [(str(e.ex_date.date()), e.kind, e.value) for e in known.itertuples()] == [
        ("2024-05-10", "dividend", 0.5),
        ("2024-08-09", "dividend", 0.5),
    ]
    assert instruments.latest(store, "yahoo")["T01"]["instrument_type"] == "EQUITY"


def test_a_dividend_that_the_source_takes_back_is_retracted_and_its_bar_revised(store, source, run, now):
    source.events = [("T01", "2025-05-09", "dividend", 0.5)]
    first = run()
    source.events = []
    now(2025, 6, 3, 23)
    second = run()
    assert actions.latest(store, "yahoo").empty
    assert len(actions.latest(store, "yahoo", first.known_at)) == 1
    [row] = tables.read(store, "restatements").to_pylist()
    assert (row["ticker"], row["field"], row["before"], row["after"]) == ("T01", "dividend", 0.5, None)
    assert snapshots.restated(store, first.snapshot, second.snapshot, ("T01",))[0] == date(2025, 5, 9)


def test_a_revised_close_is_a_new_row_and_the_past_can_be_read_as_it_was_known(store, source, run, now):
    first = run()
    was = source.closes.loc["2025-05-14", "T03"]
    source.closes.loc["2025-05-14", "T03"] = 1.02 * was
    now(2025, 6, 3, 23)
    run()
    day = pd.Timestamp("2025-05-14")
    known = bars.latest(store, "yahoo").set_index(["ticker", "session"])["close"]
    then = bars.latest(store, "yahoo", first.known_at).set_index(["ticker", "session"])["close"]
    assert (known["T03", day], then["T03", day]) == (1.02 * was, was)
    assert outcome(store, "T03")["verdict"] == "revised_rows"
    fields = tables.read(store, "restatements").to_pydict()["field"]
    assert sorted(fields) == ["close", "high", "low", "open"]
    assert snapshots.at(store, "yahoo", first.known_at) == first
    pd.testing.assert_frame_equal(
        snapshots.read(store, first, TICKERS), bars.latest(store, "yahoo", first.known_at)[snapshots.COLUMNS]
    )


def test_noise_of_single_precision_and_late_volume_revise_nothing(store, source, run, now, monkeypatch):
    run()
    before = bars.latest(store, "yahoo")
    source.closes *= 1 + 1e-5
    quote = source.quote
    monkeypatch.setattr(source, "quote", lambda wanted: _louder(quote(wanted)))
    now(2025, 6, 3, 23)
    run()
    after = bars.latest(store, "yahoo")
    pd.testing.assert_frame_equal(after[after["session"] <= "2025-05-30"].reset_index(drop=True), before)


def _louder(quote):
    quote.bars["volume"] *= 1.08
    return quote


def test_prices_on_another_scale_are_asked_for_whole_and_then_quarantined(store, source, run, now):
    run()
    source.closes["T04"] /= 4
    now(2025, 6, 3, 23)
    run()
    assert [each.ticker for each in source.asked[2]] == ["T04"]  # the window did not fit
    assert source.asked[2][0].since == date(2000, 1, 1)
    row = outcome(store, "T04")
    assert (row["outcome"], row["verdict"]) == ("rejected", "rescaled")
    assert "they are 0.25 times as high" in row["detail"]
    assert last_sessions(store)["T04"] == "2025-05-30"
    assert last_sessions(store)["T05"] == "2025-06-03"


def test_a_person_may_accept_the_new_scale(store, source, run, now):
    run()
    source.closes["T04"] /= 4
    now(2025, 6, 3, 23)
    run(accepted=["T04"])
    latest = bars.latest(store, "yahoo").query("ticker == 'T04'").set_index("session")["close"]
    pd.testing.assert_series_equal(
        latest, source.closes["T04"].loc[:"2025-06-03"], check_names=False, check_freq=False, check_index_type=False
    )


def test_failures_are_outcomes_and_never_rows(store, source, run):
    source.outcomes = {"T09": "network"}
    run()
    assert "T09" not in last_sessions(store)
    assert (outcome(store, "T09")["outcome"], outcome(store, "T09")["detail"]) == ("network", "T09 said network")
    source.outcomes = {}
    run()
    assert [each.ticker for each in source.asked[1]] == ["T09"]  # only what is missing
    assert last_sessions(store)["T09"] == "2025-05-30"


def test_too_few_answers_publish_nothing_and_keep_what_came(store, source, run):
    source.outcomes = {"T08": "rate_limited", "T09": "rate_limited"}
    with pytest.raises(SourceError, match=r"only 8 of 10 tickers were taken \(2 rate_limited; T08: T08 said"):
        run()
    assert tables.read(store, "snapshots").num_rows == 0
    assert len(last_sessions(store)) == 8
    source.outcomes = {}
    snapshot = run()
    assert {each.ticker for each in source.asked[1]} == {"T08", "T09"}
    assert snapshots.manifest(store, snapshot)["2025-05"]["tickers"].keys() == set(TICKERS)


@pytest.mark.long
def test_a_ticker_is_retired_after_three_days_unknown_and_comes_back(store, source, run, now):
    run()
    source.outcomes = {"T02": "not_found"}
    for day in (3, 3, 4):
        now(2025, 6, day, 23, 30 if len(source.asked) % 2 else 0)
        assert snapshots.delisted(store, run()) == {}
    now(2025, 6, 5, 23)
    assert snapshots.delisted(store, run()) == {"T02": date(2025, 6, 3)}
    now(2025, 6, 6, 23)
    run()
    assert "T02" not in {each.ticker for each in source.asked[-1]}
    source.outcomes = {}
    now(2025, 7, 7, 23)
    assert snapshots.delisted(store, run()) == {}
    assert last_sessions(store)["T02"] == "2025-07-07"


def test_other_failures_never_retire_a_ticker(store, source, run, now):
    run()
    source.outcomes = {"T02": "network"}
    for day in (3, 4, 5, 6):
        now(2025, 6, day, 23)
        run()
    assert ingests.retired(store, "yahoo", 3) == {}


def test_another_currency_than_the_universe_says_is_quarantined(store, source, run):
    source.currency = {"T05": "GBp", "T06": "GBp"}
    source.closes["GBPUSD=X"] = source.closes["T00"] / 80
    run([ticker for ticker in TICKERS if ticker != "T06"], rows="\nT06,GBP,,")
    assert outcome(store, "T05")["outcome"] == "rejected"
    assert "quoted in GBp and the universe says USD" in outcome(store, "T05")["detail"]
    assert outcome(store, "T06")["outcome"] == "ok"  # pence of the same pound


def test_when_most_tickers_lack_the_newest_session_it_waits_for_all(store, source, run, now):
    run()
    source.closes.loc["2025-06-02", TICKERS[:7]] = np.nan
    now(2025, 6, 2, 23)
    run()
    assert set(last_sessions(store).values()) == {"2025-05-30"}
    found = tables.read(store, "quality").to_pylist()
    assert [row["action"] for row in found if row["check_name"] == "source_outage"] == ["held"]


def test_a_risk_free_rate_may_be_zero_or_negative_and_is_kept_as_a_yield(store, source, run):
    source.closes["^IRX"] = np.linspace(0.5, -0.1, len(source.closes))
    run(rows="\n^IRX,USD,risk_free,")
    rows = bars.latest(store, "yahoo").query("ticker == '^IRX'")
    assert set(rows["basis"]) == {"yield"}
    assert rows["close"].iloc[0] == 0.5
    assert rows["close"].min() < 0.1


def test_a_delisted_member_is_not_asked_for_for_ever(store, source, run, now):
    source.closes.loc["2025-03-03":, "T07"] = np.nan
    rows = "\nT07,,,2025-03-02"
    others = [ticker for ticker in TICKERS if ticker != "T07"]
    run(others, rows=rows)
    now(2025, 6, 3, 23)
    run(others, rows=rows)
    assert "T07" not in {each.ticker for each in source.asked[1]}


def test_a_spin_off_waits_until_a_person_accepts_the_sources_return(store, source, run, now):
    whole = source.closes["T06"].copy()
    source.closes.loc["2025-05-20":, "T06"] *= 0.7  # 30 % leave as shares of another company
    source.adjusted["T06"] = whole * 0.7
    first = run()
    assert last_sessions(store)["T06"] == "2025-05-19"
    assert "unexplained_return" in outcome(store, "T06")["detail"]
    assert outcome(store, "T06")["outcome"] == "ok"
    run(accepted=["T06"])
    assert last_sessions(store)["T06"] == "2025-05-30"
    row = bars.latest(store, "yahoo").set_index(["ticker", "session"]).loc[("T06", pd.Timestamp("2025-05-20"))]
    before, after = whole.loc["2025-05-19"], whole.loc["2025-05-20"]
    assert row["dividend"] == pytest.approx(0.3 * before, rel=1e-12)  # what the factor 1 - D/C[-1] takes off
    assert (row["close"] + row["dividend"]) / before - 1 == pytest.approx(0.7 * after / before + 0.3 - 1, rel=1e-12)
    known = actions.latest(store, "yahoo")
    assert [(e.ticker, e.kind) for e in known.itertuples()] == [("T06", "distribution")]
    now(2025, 6, 3, 23)
    third = run()
    assert last_sessions(store)["T06"] == "2025-06-03"  # the same history says nothing new
    pd.testing.assert_frame_equal(actions.latest(store, "yahoo"), known)
    assert first.snapshot != third.snapshot


@pytest.mark.long
def test_a_renamed_ticker_goes_on_under_its_other_name(store, source, run, now):
    others, rows = [ticker for ticker in TICKERS if ticker != "T02"], "\nT02,,,,NEW"
    run(others, rows=rows)
    assert {each.ticker for each in source.asked[0]} == set(TICKERS)
    source.closes["NEW"] = source.closes.pop("T02")
    for day in (3, 4, 5):
        now(2025, 6, day, 23)
        snapshot = run(others, rows=rows)
        assert run(others, rows=rows) == snapshot  # on the same day: the new name is up to date
    assert [each.ticker for each in source.asked[2]] == ["NEW"]  # in the same run as it was found out
    assert last_sessions(store)["NEW"] == "2025-06-05"
    now(2025, 6, 6, 23)
    snapshot = run(others, rows=rows)
    assert "T02" not in {each.ticker for each in source.asked[-1]}  # retired; its new name is asked for
    assert "NEW" in {each.ticker for each in source.asked[-1]}
    chosen = universe.parse("test", "ticker,aliases\n" + "\n".join(others) + "\nT02,NEW")
    panel = panels.load(store, PanelKey(snapshot.snapshot, universe.keep(store, chosen)))
    assert panel.delisted.min() == panel.sessions.size
    expected = source.closes["NEW"].loc[:"2025-06-06"].pct_change().to_numpy()[1:]
    np.testing.assert_allclose(panel.returns[1:, panel.universe.assets.index("T02")], expected, atol=1e-12)


def test_a_whole_history_that_cannot_be_fetched_is_not_asked_for_for_ever(store, source, run, now, monkeypatch):
    run()
    source.closes["T04"] /= 4
    fetch = source.fetch
    monkeypatch.setattr(live.yahoo, "fetch", lambda wanted, *rest: source_fails_on(fetch, source, wanted, rest))
    now(2025, 6, 3, 23)
    run()
    assert outcome(store, "T04")["outcome"] == "network"
    assert last_sessions(store)["T04"] == "2025-05-30"


def source_fails_on(fetch, source, wanted, rest):
    source.outcomes = {"T04": "network"} if [each.ticker for each in wanted] == ["T04"] else {}
    fetch(wanted, *rest)


def test_another_company_under_the_same_name_is_quarantined(store, source, run, now):
    run()
    before = bars.latest(store, "yahoo")
    generator = np.random.default_rng(3)
    source.closes["T04"] = 40 * np.exp(generator.normal(0, 0.02, len(source.closes)).cumsum())
    now(2025, 6, 3, 23)
    run()
    assert (outcome(store, "T04")["outcome"], outcome(store, "T04")["verdict"]) == ("rejected", "revised_rows")
    assert "100% of the shared sessions differ" in outcome(store, "T04")["detail"]
    pd.testing.assert_frame_equal(
        bars.latest(store, "yahoo").query("ticker == 'T04'").reset_index(drop=True),
        before.query("ticker == 'T04'").reset_index(drop=True),
    )


def test_days_on_which_the_source_knows_nobody_retire_nobody(store, source, run, now):
    run()
    source.outcomes = dict.fromkeys(TICKERS, "not_found")
    for day in (3, 4, 5):
        now(2025, 6, day, 23)
        with pytest.raises(SourceError, match=r"only 0 of 10 .* correct the names in the universe, or run"):
            run()
    source.outcomes = {}
    now(2025, 6, 6, 23)
    assert snapshots.delisted(store, run()) == {}
    assert set(last_sessions(store).values()) == {"2025-06-06"}


@pytest.mark.long
def test_a_member_that_left_is_asked_for_until_it_could_be_sold(store, source, run, now):
    others, rows = [ticker for ticker in TICKERS if ticker != "T07"], "\nT07,,,2025-06-10"
    run(others, rows=rows)
    source.outcomes = {"T07": "network"}
    now(2025, 6, 11, 23)
    run(others, rows=rows)
    source.outcomes = {}
    for day in (12, 17, 18, 20):
        now(2025, 6, day, 23)
        run(others, rows=rows)
    assert last_sessions(store)["T07"] == "2025-06-18"  # a week after its last day
    assert "T07" not in {each.ticker for each in source.asked[-1]}


def test_a_doubtful_revision_of_the_past_keeps_neither_newer_sessions_nor_actions_waiting(store, source, run, now):
    source.events = [("T01", "2024-05-10", "dividend", 0.5), ("T01", "2024-08-09", "dividend", 0.5)]
    source.adjusted["T01"] = adjusted(source, "T01")
    run()
    kept = actions.latest(store, "yahoo")
    was = source.closes.loc["2023-06-14", "T01"]
    source.closes.loc["2023-06-14", "T01"] = 0.9 * was  # the adjusted close does not know of it
    now(2025, 7, 1, 23)
    run()
    assert last_sessions(store)["T01"] == "2025-07-01"
    close = bars.latest(store, "yahoo").set_index(["ticker", "session"])["close"]
    assert close["T01", pd.Timestamp("2023-06-14")] == was
    pd.testing.assert_frame_equal(actions.latest(store, "yahoo"), kept)
    assert outcome(store, "T01")["detail"] == ""
    found = tables.read(store, "quality").to_pylist()
    assert ("unexplained_return", "kept") in {(row["check_name"], row["action"]) for row in found}


def test_a_doubtful_revision_within_a_window_loses_no_new_session(store, source, run, now):
    source.adjusted["T01"] = source.closes["T01"].copy()
    run()
    was = source.closes.loc["2025-05-14", "T01"]
    source.closes.loc["2025-05-14", "T01"] = 0.9 * was
    now(2025, 6, 3, 23)
    run()
    rows = bars.latest(store, "yahoo").query("ticker == 'T01'").set_index("session")["close"]
    assert (rows["2025-05-14"], str(rows.index[-1].date())) == (was, "2025-06-03")
    assert len(rows.loc["2025-05-30":]) == 3


def adjusted(source, ticker):
    """The source's adjusted closes: each dividend takes off 1 - D / C of all that lies before it."""
    close = source.closes[ticker]
    factor = pd.Series(1.0, close.index)
    for _, day, _, value in (event for event in source.events if event[0] == ticker):
        factor[close.index < day] *= 1 - value / close[close.index < day].iloc[-1]
    return close * factor


def test_what_a_person_accepted_outlives_a_day_on_which_the_source_lacks_it(store, source, run, now):
    whole = source.closes["T06"].copy()
    source.closes.loc["2025-05-20":, "T06"] *= 0.7
    source.adjusted["T06"] = whole * 0.7
    run(accepted=["T06"])
    close, source.closes.loc["2025-05-20", "T06"] = source.closes.loc["2025-05-20", "T06"], np.nan
    now(2025, 6, 3, 23)
    run()
    source.closes.loc["2025-05-20", "T06"] = close
    now(2025, 6, 4, 23)
    run()
    assert last_sessions(store)["T06"] == "2025-06-04"
    assert list(actions.latest(store, "yahoo")["kind"]) == ["distribution"]


def test_a_new_listing_goes_on_after_its_first_bars(store, source, run, now):
    source.closes.loc[:"2025-05-28", "T08"] = np.nan
    run()
    assert len(bars.latest(store, "yahoo").query("ticker == 'T08'")) == 2
    now(2025, 6, 3, 23)
    run()
    assert last_sessions(store)["T08"] == "2025-06-03"


def test_a_rate_is_not_read_as_prices_nor_prices_as_a_rate(store, source, run, now):
    others = [ticker for ticker in TICKERS if ticker != "T09"]
    run(others, rows="\nT09,,risk_free,")
    now(2025, 6, 3, 23)
    run()
    assert outcome(store, "T09")["detail"] == "it came as prices and is stored as a rate"


@pytest.mark.long
def test_a_retirement_stands_while_another_universe_has_nothing_to_ask(store, source, run, now):
    run()
    source.outcomes = {"T03": "not_found"}
    for day in (3, 4, 5):
        now(2025, 6, day, 23)
        run()
    now(2025, 6, 6, 23)
    others = [ticker for ticker in TICKERS if ticker != "T03"]
    assert list(snapshots.delisted(store, run(others, rows="\nT03,,,2025-05-01"))) == ["T03"]


def test_a_person_may_accept_another_currency_that_the_universe_names_too(store, source, run, now):
    run()
    source.currency = {"T03": "EUR"}
    source.closes["EURUSD=X"] = 1.1
    others = [ticker for ticker in TICKERS if ticker != "T03"]
    now(2025, 6, 3, 23)
    run(others, rows="\nT03,EUR,,")
    assert "currency_changed" in outcome(store, "T03")["detail"]
    run(others, accepted=["T03"], rows="\nT03,EUR,,")
    assert (outcome(store, "T03")["outcome"], last_sessions(store)["T03"]) == ("ok", "2025-06-03")


def test_accepting_a_ticker_that_the_universe_lacks_is_refused(run):
    with pytest.raises(InputError, match="--accept TYPO: the universe has no such ticker; it has T00, T01"):
        run(accepted=["TYPO"])


def test_a_wrong_setting_is_a_sentence_that_names_its_variable(run, monkeypatch):
    monkeypatch.setenv("PRISM_YAHOO_RATE", "abc")
    with pytest.raises(InputError, match=r"PRISM_YAHOO_RATE=abc: Input should be a valid number.*; correct"):
        run()


def test_a_bad_row_that_a_person_accepted_is_left_out_in_later_months_too(store, source, run, now):
    source.closes.loc["2023-03-14", "T05"] = 0.0
    run(accepted=["T05"])
    assert last_sessions(store)["T05"] == "2025-05-30"
    now(2025, 7, 1, 23)
    run()
    assert (outcome(store, "T05")["outcome"], outcome(store, "T05")["full"]) == ("ok", True)
    assert last_sessions(store)["T05"] == "2025-07-01"
    assert (bars.latest(store, "yahoo")["close"] > 0).all()


def test_a_bad_row_among_new_ones_is_quarantined_with_them(store, source, run, now):
    run()
    source.closes.loc["2025-06-02", "T05"] = 0.0
    now(2025, 6, 3, 23)
    run()
    assert outcome(store, "T05")["outcome"] == "rejected"
    assert last_sessions(store)["T05"] == "2025-05-30"
