"""The real client against a stand-in for Yahoo: every way to fail has its outcome, and the truth comes through."""

import contextlib
import json
import logging
import os
import socket
import sqlite3
import stat
import threading
import time
import warnings
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pandas as pd
import peewee
import pytest
import yfinance
from curl_cffi import CurlECode
from curl_cffi.requests.exceptions import ConnectionError as CurlConnectionError
from yfinance.data import YfData
from yfinance.exceptions import YFInvalidPeriodError, YFPricesMissingError, YFRateLimitError, YFTzMissingError

from tasks.fetch import chart, wire
from tasks.fetch import yahoo as client
from tasks.fetch.pacing import Pacer

SINCE = date(2026, 1, 2)


def outcomes(answers):
    return [answer.outcome for answer in answers]


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def shop(market):
    """A listing with a year of closes."""
    return market.add("SHOP", first="2025-11-03", dividends={"2026-05-08": 0.6})


@pytest.fixture
def many(market):
    """Names of ten listings."""
    names = [f"T{number}" for number in range(10)]
    for name in names:
        market.add(name, first="2026-09-01")
    return names


# --- what comes through


def test_the_truth_comes_through_as_traded(fetch, market, last):
    splits, dividends = {"2025-06-02": 4, "2026-03-02": 0.1}, {"2025-05-09": 0.8, "2026-03-02": 2.0, "2026-08-07": 0.7}
    truth = market.add("A", first="2020-01-02", splits=splits, dividends=dividends).truth.loc[: str(last)]
    for since in (date(2020, 1, 2), date(2025, 8, 1), date(2026, 4, 1)):
        bars = fetch("A", since=since).quote.bars.set_index("session")
        expected = truth.loc[str(since) :]
        assert bars.index.equals(expected.index)
        names = ["open", "high", "low", "close"]
        np.testing.assert_allclose(bars[names], expected[names], rtol=1e-6)
        np.testing.assert_allclose(bars["dividend"].fillna(0), expected["payout"], rtol=1e-6)
        np.testing.assert_allclose(bars["split"].fillna(1), expected["split"])


def test_answers_are_in_the_order_asked_for_and_handed_on_as_they_come(fetch, many, last):
    seen = []
    answers = fetch(*many, on_answer=lambda answer: seen.append((answer.ticker, threading.current_thread())))
    assert [answer.ticker for answer in answers] == many
    assert sorted(ticker for ticker, _ in seen) == sorted(many)
    assert {thread for _, thread in seen} == {threading.current_thread()}
    assert set(outcomes(answers)) == {"ok"}
    assert all(answer.quote.ticker == answer.ticker == answer.quote.symbol for answer in answers)
    assert answers[0].detail == f"{len(answers[0].quote.bars)} bars from 2026-09-01 to {last}"


def test_nothing_asked_for_is_nothing_answered(yahoo, tmp_path):
    client.fetch([], client.Limits(), yahoo.proxy, yahoo.ca_file, tmp_path / "cache", pytest.fail)
    assert yahoo.requests == []


def test_a_cold_start_takes_two_requests_more_than_tickers_and_a_warm_one_none(fetch, many, yahoo):
    cold = fetch(*many)
    assert len(yahoo.requests) == 2 + len(many)
    assert sum(answer.requests for answer in cold) == len(yahoo.requests)
    yahoo.requests.clear()
    warm = fetch(*many)
    assert sorted(request.place for request in yahoo.requests) == sorted(many)
    assert [(answer.attempts, answer.requests) for answer in warm] == [(1, 1)] * len(many)
    assert not [request for request in yahoo.requests if request.query.get("range") == "1d"]  # asks for no zone


def test_every_chart_request_carries_the_cookie_and_the_crumb(fetch, many, yahoo):
    fetch(*many)
    charts = [request for request in yahoo.requests if request.place in many]
    assert {request.cookies.get("A3") for request in charts} == {"d=stand-in"}
    assert {request.query["crumb"] for request in charts} == {"stand.in/crumb"}


def test_a_history_is_asked_for_from_midnight_of_the_exchange_to_now(fetch, market, yahoo):
    market.add("7203.T", exchange="XTKS", first="2025-11-04")
    fetch("7203.T", since=date(2026, 1, 5))
    query = yahoo.asked("7203.T")[0].query
    assert int(query["period1"]) == datetime(2026, 1, 4, 15, tzinfo=UTC).timestamp()
    assert abs(int(query["period2"]) - time.time()) < 60
    assert (query["interval"], query["events"]) == ("1d", "div,splits,capitalGains")


def test_tokyo_has_tokyos_dates(fetch, market, last):
    listing = market.add("7203.T", exchange="XTKS", first="2025-11-04", dividends={"2026-03-30": 50.0})
    quote = fetch("7203.T", since=date(2026, 1, 5)).quote
    expected = listing.truth.loc["2026-01-05" : str(last)].index
    assert quote.bars["session"].equals(pd.Series(expected, name="session"))
    assert quote.bars.set_index("session")["dividend"].dropna().to_dict() == {pd.Timestamp("2026-03-30"): 50.0}


@pytest.mark.parametrize("symbol", ["BRK-B", "^GSPC", "EURUSD=X", "7203.T", "M&M.NS"])
def test_symbols_with_signs_are_asked_for_by_their_name(fetch, market, yahoo, symbol):
    market.add(symbol, first="2026-06-01")
    answer = fetch(symbol)
    assert (answer.outcome, answer.quote.symbol) == ("ok", symbol)
    assert len(yahoo.asked(symbol)) == 1


def test_symbols_are_stripped_and_upper_cased_and_answered_under_the_name_given(fetch, shop):
    answer = fetch(" shop ")
    assert (answer.outcome, answer.ticker, answer.quote.ticker, answer.quote.symbol) == (
        "ok",
        " shop ",
        " shop ",
        "SHOP",
    )


@pytest.mark.parametrize(
    ("symbol", "words"),
    [("BRK/B", "no symbol"), ("BRK B", "no symbol"), (" ", "no symbol"), ("US0378331005", "ISIN"), ("", "no symbol")],
)
def test_what_is_no_symbol_is_refused_without_a_request_and_the_others_go_on(fetch, shop, yahoo, symbol, words):
    wrong, right = fetch(symbol, "SHOP")
    assert (wrong.outcome, wrong.attempts, wrong.requests) == ("config", 0, 0)
    assert words in wrong.detail
    assert right.outcome == "ok"
    assert {request.place for request in yahoo.requests} == {"fc", "getcrumb", "SHOP"}


def test_an_unknown_zone_is_refused_without_a_request(fetch, shop, yahoo, tmp_path):
    wanted = [client.Wanted("SHOP", "Mars/Base", SINCE, date(2026, 11, 19))]
    answers = []
    client.fetch(wanted, client.Limits(), yahoo.proxy, yahoo.ca_file, tmp_path / "cache", answers.append)
    assert outcomes(answers) == ["config"]
    assert "Mars/Base" in answers[0].detail
    assert yahoo.requests == []


# --- what fails, and how often it is tried


def test_a_refusal_pauses_everyone_and_costs_no_try(fetch, shop, yahoo):
    yahoo.fail("SHOP", "429")
    answer = fetch("SHOP", tries=1)
    assert (answer.outcome, answer.attempts) == ("ok", 2)
    assert len(yahoo.asked("SHOP")) == 2  # yfinance's own second try was not sent
    assert len(yahoo.asked("getcrumb")) == 1  # nor is the cookie thrown away


def test_two_refusals_in_a_row_are_waited_for(fetch, shop, yahoo):
    yahoo.fail("SHOP", "429", times=2)
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts, len(yahoo.asked("SHOP"))) == ("ok", 3, 3)


def test_refusals_without_end_end_the_run_and_defer_the_rest(fetch, many, yahoo):
    for name in many:
        yahoo.fail(name, "429", times=None)
    answers = fetch(*many, openings=3, workers=3)
    assert set(outcomes(answers)) == {"rate_limited"}
    assert all(answer.detail.startswith("deferred: Yahoo said 3 times") for answer in answers)
    assert len([request for request in yahoo.requests if request.place in many]) <= 3 * 3
    assert answers[-1].attempts == 0


def test_an_answer_that_was_under_way_when_the_run_ended_counts(fetch, many, yahoo):
    fetch(many[0])
    yahoo.fail(many[0], "slow", with_=1.2)
    yahoo.fail(many[1], "late_429", times=None, with_=0.6)
    answers = fetch(*many, workers=2, openings=1)
    assert outcomes(answers) == ["ok"] + ["rate_limited"] * 9


def test_one_refused_ticker_does_not_take_the_answers_of_the_others(fetch, many, yahoo):
    yahoo.fail(many[3], "429")
    answers = fetch(*many)
    assert set(outcomes(answers)) == {"ok"}


def test_nobody_sends_while_the_breaker_is_open_not_even_who_waited_for_a_turn(fetch, many, yahoo):
    fetch(many[0])
    yahoo.requests.clear()
    yahoo.fail(many[:3], "429")  # whichever is first
    assert outcomes(fetch(*many[:3], pause=1.6, rate=2)) == ["ok"] * 3
    first, second = sorted(request.at for request in yahoo.requests)[:2]
    assert second - first > 1.5


@pytest.mark.parametrize("written", ["seconds", "date"])
def test_a_demanded_pause_is_honoured(fetch, shop, yahoo, written):
    text = "1" if written == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    yahoo.fail("SHOP", "429", with_=text)
    assert fetch("SHOP").outcome == "ok"
    first, second = (request.at for request in yahoo.asked("SHOP"))
    assert second - first > 0.9


def test_a_demanded_pause_is_honoured_up_to_the_longest(fetch, shop, yahoo):
    yahoo.fail("SHOP", "429", with_="3600")
    assert fetch("SHOP", longest_pause=0.1).outcome == "ok"


def test_a_refused_crumb_pauses_and_is_asked_for_again(fetch, shop, yahoo):
    yahoo.fail("getcrumb", "429")
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts) == ("ok", 2)
    assert [request.query.get("crumb") for request in yahoo.asked("SHOP")] == ["stand.in/crumb"]


@pytest.mark.parametrize("text", ["Too Many Requests", "Internal Server Error", "<html>Sorry</html>", '{"error": {}}'])
def test_the_text_of_an_error_does_not_stay_the_crumb(fetch, shop, yahoo, text):
    yahoo.fail("getcrumb", "text", with_=text)
    yahoo.fail("SHOP", "cut")  # so that there is a second try
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts) == ("ok", 2)
    assert yahoo.asked("SHOP")[-1].query.get("crumb") == "stand.in/crumb"


def test_an_unknown_symbol_is_not_found_at_once(fetch, shop, yahoo):
    gone, there = fetch("GONE", "SHOP", workers=1)
    assert (gone.outcome, gone.attempts, gone.quote) == ("not_found", 1, None)
    assert "No data found, symbol may be delisted" in gone.detail
    assert there.outcome == "ok"
    assert len(yahoo.asked("GONE")) == 2  # yfinance's second try, with other cookies


def test_a_page_in_place_of_the_reason_does_not_make_a_symbol_unknown(fetch, shop, yahoo):
    yahoo.fail("SHOP", "status", times=None, with_=404)
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts) == ("bad_payload", 3)
    assert "status 404" in answer.detail


def test_a_symbol_that_dies_and_revives_in_one_process_is_answered_again(fetch, shop, yahoo):
    yahoo.fail("SHOP", "404", times=None)
    assert fetch("SHOP").outcome == "not_found"
    yahoo.mend()
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts) == ("ok", 1)


TRANSIENT = {
    "cut": ("bad_payload", None), "down": ("bad_payload", None), "short": ("network", None), "reset": ("network", None),
    "slow": ("network", 3.0), "unauthorized": ("bad_payload", None), "status": ("bad_payload", 502),
    "empty": ("no_data", None),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_fails_once_is_tried_again(fetch, shop, yahoo, kind):
    # yfinance tries twice by itself after a status; libcurl does, when a connection that it used before is reset
    yahoo.fail("SHOP", kind, times=2 if kind in ("status", "unauthorized") else 1, with_=TRANSIENT[kind][1])
    answer = fetch("SHOP", timeout=1 if kind == "slow" else 10)
    assert answer.outcome == "ok"
    assert answer.attempts == 2 or kind == "reset"
    assert len(yahoo.asked("SHOP")) > 1


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_always_fails_has_its_outcome_after_its_tries(fetch, shop, yahoo, kind):
    outcome, with_ = TRANSIENT[kind]
    yahoo.fail("SHOP", kind, times=None, with_=with_)
    answer = fetch("SHOP", timeout=0.5 if kind == "slow" else 10)
    assert (answer.outcome, answer.quote) == (outcome, None)
    assert answer.attempts == (2 if kind == "empty" else 3)
    assert "\n" not in answer.detail
    assert "http" not in answer.detail


@pytest.mark.parametrize(
    ("kind", "words"),
    [("cut", "no JSON"), ("down", "no JSON"), ("status", "status 502"), ("slow", "timed out"), ("unauthorized", "401")],
)
def test_the_detail_says_what_happened(fetch, shop, yahoo, kind, words):
    yahoo.fail("SHOP", kind, times=None, with_=TRANSIENT[kind][1])
    assert words in fetch("SHOP", timeout=0.4, tries=1).detail


def test_a_run_after_a_502_in_the_same_process_is_answered(fetch, shop, yahoo):
    yahoo.fail("SHOP", "status", times=None, with_=502)
    assert fetch("SHOP").outcome == "bad_payload"
    yahoo.mend()
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts) == ("ok", 1)


def test_an_answer_that_yfinance_remembers_is_forgotten_before_each_try(fetch, shop, yahoo):
    fetch("SHOP")
    session = next(iter(wire._opened.values()))
    session.note(wire.Calls("SHOP"))
    past = {"start": "2026-01-05", "end": "2026-03-02", "timeout": 2}  # a closed window, which yfinance remembers

    def rows():
        return len(yfinance.Ticker("SHOP", session=session).history(**past))

    yahoo.fail("SHOP", "cut")
    with pytest.raises(json.JSONDecodeError):
        rows()
    with pytest.raises(json.JSONDecodeError):  # nothing fails any more but its memory
        rows()
    assert YfData().cache_get.cache_info().currsize
    assert fetch("SHOP").outcome == "ok"
    assert rows() == 38


@pytest.mark.parametrize(
    ("error", "outcome", "attempts"),
    [
        (YFTzMissingError("SHOP"), "not_found", 1),
        (YFPricesMissingError("SHOP", "", yahoo_reason="No data found for this date range"), "no_data", 2),
        (YFPricesMissingError("SHOP", "", yahoo_reason="Symbol Not Found"), "not_found", 1),
        (YFInvalidPeriodError("SHOP", "1x", "1d"), "config", 1),
        (sqlite3.OperationalError("database is locked"), "network", 3),
        (peewee.OperationalError("database is locked"), "network", 3),
        (ConnectionResetError("reset by peer"), "network", 3),
        (YFRateLimitError(), "rate_limited", 3),
    ],
)
def test_what_yfinance_raises_has_its_outcome(fetch, shop, monkeypatch, error, outcome, attempts):
    def ask(*_):
        raise error

    monkeypatch.setattr(wire, "ask", ask)
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts) == (outcome, attempts)


@pytest.mark.parametrize("error", [TypeError("history() got an unexpected argument"), RuntimeError("a defect")])
def test_an_exception_without_an_answer_is_a_defect(fetch, shop, monkeypatch, error):
    def ask(*_):
        raise error

    monkeypatch.setattr(wire, "ask", ask)
    with pytest.raises(type(error)):
        fetch("SHOP")


def test_a_first_day_after_today_is_up_to_date(fetch, shop):
    answer = fetch("SHOP", since=date.today() + timedelta(days=3))
    assert (answer.outcome, answer.attempts, answer.quote) == ("up_to_date", 1, None)


def test_a_window_with_only_the_running_session_is_up_to_date(fetch, shop, market):
    market.now = datetime(2026, 11, 20, 18, tzinfo=UTC)
    answer = fetch("SHOP", since=date(2026, 11, 20), last_completed=date(2026, 11, 19))
    assert (answer.outcome, answer.quote) == ("up_to_date", None)


def test_the_running_bar_is_dropped_until_its_session_is_complete(fetch, shop, market):
    market.now = datetime(2026, 11, 20, 20, 59, 59, tzinfo=UTC)
    quote = fetch("SHOP", last_completed=date(2026, 11, 19)).quote
    assert (quote.bars["session"].iloc[-1], quote.live) == (pd.Timestamp("2026-11-19"), 1)
    market.now = datetime(2026, 11, 20, 21, 31, tzinfo=UTC)
    quote = fetch("SHOP", last_completed=date(2026, 11, 20)).quote
    assert quote.bars["close"].iloc[-1] == pytest.approx(shop.truth.loc["2026-11-20", "close"], rel=1e-6)


def test_the_dividend_of_a_missing_row_is_on_the_next_bar(fetch, shop):
    shop.missing = {date(2026, 5, 8)}
    bars = fetch("SHOP").quote.bars.set_index("session")
    assert bars["dividend"].dropna().to_dict() == {pd.Timestamp("2026-05-11"): pytest.approx(0.6)}


def test_an_answer_for_another_symbol_is_refused(fetch, market):
    market.add("OLD", first="2026-06-01", symbol="NEW")
    answer = fetch("OLD")
    assert (answer.outcome, answer.detail) == ("bad_payload", "the answer for OLD is that of NEW")


def test_a_chart_that_yfinance_cannot_frame_is_read_all_the_same(fetch, shop, market, yahoo):
    body = market.chart("SHOP")[1]
    del body["chart"]["result"][0]["meta"]["instrumentType"]
    yahoo.fail("SHOP", "text", with_=json.dumps(body))
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts, answer.quote.instrument_type) == ("ok", 1, "")


def test_the_page_of_consent_is_agreed_to_and_the_chart_behind_it_kept(fetch, shop, yahoo):
    yahoo.fail("SHOP", "consent")
    answer = fetch("SHOP")
    assert (answer.outcome, answer.attempts) == ("ok", 1)
    assert [request.method for request in yahoo.asked("consent")] == ["GET", "POST"]


@pytest.mark.parametrize("steps", [["fc"], ["fc", "guce"], ["getcrumb"]])
def test_hosts_that_swallow_requests_cost_their_time_once_and_no_data(fetch, many, yahoo, steps):
    for step in steps:
        yahoo.fail(step, "slow", times=None, with_=30)
    began = time.monotonic()
    assert set(outcomes(fetch(*many, timeout=0.5))) == {"ok"}
    assert time.monotonic() - began < 10
    for step in steps:
        assert len(yahoo.asked(step)) <= 2  # query1 and query2 both give crumbs


# --- when the run ends


def test_tickers_in_a_row_without_an_answer_defer_the_rest(fetch, many, yahoo):
    for name in many:
        yahoo.fail(name, "short", times=None)
    answers = fetch(*many, workers=1, tries=2, network_stop=3)
    assert set(outcomes(answers)) == {"network"}
    assert [answer.attempts for answer in answers] == [2, 2, 2] + [0] * 7
    assert answers[3].detail.startswith("deferred: 3 tickers in a row got no answer")


def test_an_answer_between_them_begins_the_count_anew(fetch, many, yahoo):
    for name in (many[0], many[1], many[3], many[4]):
        yahoo.fail(name, "short", times=None)
    answers = fetch(*many, workers=1, tries=1, network_stop=3)
    assert outcomes(answers)[:6] == ["network", "network", "ok", "network", "network", "ok"]


def test_a_deadline_defers_the_rest(fetch, many, yahoo):
    for name in many:
        yahoo.fail(name, "slow", times=None, with_=0.3)
    answers = fetch(*many, workers=1, deadline=0.5)
    assert outcomes(answers)[0] == "ok"
    assert (answers[-1].outcome, answers[-1].attempts) == ("network", 0)
    assert answers[-1].detail.startswith("deferred: the 0.5 s given to this fetch are over")


def test_a_pause_beyond_the_deadline_is_not_waited_for(fetch, many, yahoo):
    yahoo.fail(many[0], "429", with_="100")
    began = time.monotonic()
    answers = fetch(*many, workers=1, longest_pause=100, deadline=20)
    assert time.monotonic() - began < 10
    assert set(outcomes(answers)) == {"rate_limited"}
    assert answers[0].detail.startswith("deferred: the 20 s")


def test_a_defect_is_raised_and_ends_the_run(fetch, many, yahoo, monkeypatch):
    def broken(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(chart, "parse", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        fetch(*many, workers=1, rate=20)
    assert len(yahoo.asked()) < len(many)


def test_an_error_of_the_caller_ends_the_run(fetch, many, yahoo):
    def broken(_):
        raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        fetch(*many, on_answer=broken, workers=1, rate=20)
    assert len(yahoo.asked()) < len(many)


def test_who_waits_for_a_turn_does_not_send_when_the_run_has_ended(fetch, many, yahoo):
    def broken(_):
        raise ValueError("the disk is full")

    fetch(many[0])
    yahoo.requests.clear()
    with pytest.raises(ValueError, match="the disk is full"):
        fetch(*many, on_answer=broken, workers=3, rate=2)
    assert len(yahoo.requests) == 1


# --- pace


def test_every_request_waits_for_its_turn(fetch, many, yahoo, monkeypatch):
    turns, wait = [], Pacer.wait

    def counted(pacer):
        turns.append(pacer.rate)
        wait(pacer)

    monkeypatch.setattr(Pacer, "wait", counted)
    yahoo.fail(many[0], "status", times=2, with_=502)
    fetch(*many, rate=123)
    assert turns == [123] * len(yahoo.requests)


def test_the_pace_holds_over_threads_and_from_one_fetch_to_the_next(fetch, many, yahoo):
    fetch(*many[:3], rate=20)
    fetch(*many[:3], rate=20)
    began, ended = yahoo.requests[0].at, yahoo.requests[-1].at
    assert ended - began > (len(yahoo.requests) - 1) / 20 - 0.05


def test_no_more_requests_are_under_way_than_workers(fetch, many, yahoo):
    for name in many:
        yahoo.fail(name, "slow", times=None, with_=0.05)
    fetch(*many, workers=2)
    assert max(request.in_flight for request in yahoo.requests) == 2


def test_two_fetches_of_one_process_go_one_after_the_other(fetch, many, yahoo):
    for name in many:
        yahoo.fail(name, "slow", times=None, with_=0.03)
    threads = [threading.Thread(target=fetch, args=many[:5], kwargs={"workers": 1}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(request.in_flight for request in yahoo.requests) == 1


def test_progress_is_told_every_25_tickers(fetch, market, caplog):
    names = [f"T{number}" for number in range(51)]
    for name in names:
        market.add(name, first="2026-11-02")
    with caplog.at_level(logging.INFO, logger="prism.fetch"):
        fetch(*names, workers=4)
    lines = [record.message.split(",")[0] for record in caplog.records if record.name == "prism.fetch"]
    assert lines == ["prices: 25 of 51 tickers", "prices: 50 of 51 tickers"]


# --- settings


def assert_config(answers, *words):
    assert set(outcomes(answers)) == {"config"}
    assert [answer.attempts for answer in answers[1:]] == [0] * (len(answers) - 1)
    assert len({answer.detail for answer in answers}) == 1
    for word in words:
        assert word in answers[0].detail


@pytest.mark.parametrize(
    "proxy",
    [
        "http://anna:geheim%21@127.0.0.1:{port}",  # nobody listens
        "http://anna:geheim%21@proxy.invalid:8080",
        "http://anna:geheim%21@127.0.0.1:port",
        "http://anna:ge/heim@127.0.0.1:{port}",
        "anna:geheim@127.0.0.1:port",
        "socks5://anna:geheim@127.0.0.1:{port}",
        "ftp://anna:geheim@127.0.0.1:{port}",
        "http://geheim@127.0.0.1:port",
    ],
)
def test_a_proxy_that_refuses_or_does_not_exist_ends_the_run_without_naming_its_password(fetch, many, caplog, proxy):
    answers = fetch(*many, proxy=proxy.format(port=closed_port()), workers=1)
    assert_config(answers, "PRISM_PROXY", "PRISM_CA_FILE")
    said = answers[0].detail + caplog.text
    assert "heim" not in said
    assert "anna" not in said


def test_without_a_proxy_a_host_that_refuses_is_the_networks_fault():
    error = CurlConnectionError("Failed to connect", CurlECode.COULDNT_CONNECT)
    assert client._unreached(error, None).outcome == "network"
    assert client._unreached(error, "http://proxy:1").outcome == "config"


@pytest.mark.parametrize(("status", "outcome"), [(407, "config"), (403, "config"), (503, "network")])
def test_a_proxy_that_denies_is_the_settings_fault_and_one_that_fails_is_the_networks(
    fetch, many, yahoo, status, outcome
):
    yahoo.proxy_status = status
    answers = fetch(*many, workers=1, network_stop=2)
    assert set(outcomes(answers)) == {outcome}
    assert answers[0].attempts == (1 if outcome == "config" else 3)


@pytest.fixture
def other_authority(tmp_path):
    """The certificate of an authority that signed nothing."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime.now(UTC), datetime(2099, 1, 1, tzinfo=UTC))
    signed = made.add_extension(x509.BasicConstraints(True, None), critical=True).sign(key, hashes.SHA256())
    (tmp_path / "other.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return tmp_path / "other.pem"


def test_a_certificate_of_another_authority_ends_the_run(fetch, many, other_authority):
    assert_config(fetch(*many, ca_file=other_authority, workers=1), "PRISM_CA_FILE", "certificate")


def test_without_a_file_of_certificates_the_machines_own_count(fetch, many):
    assert_config(fetch(*many, ca_file=None, workers=1), "PRISM_CA_FILE", "certificate")


def test_a_file_of_certificates_that_is_none_is_said_before_any_request(fetch, many, yahoo, tmp_path):
    assert_config(fetch(*many, ca_file=tmp_path / "none.pem"), "PRISM_CA_FILE", "none.pem, which cannot be read")
    (tmp_path / "text.pem").write_text("no certificate")
    assert_config(fetch(*many, ca_file=tmp_path / "text.pem", workers=1), "PRISM_CA_FILE")
    assert yahoo.requests == []


def test_the_environment_counts_without_settings(fetch, shop, yahoo, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", yahoo.proxy)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(yahoo.ca_file))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch("SHOP", proxy=None, ca_file=None).outcome == "ok"


def test_a_proxy_of_the_environment_that_refuses_is_config_too(fetch, shop, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://anna:geheim@127.0.0.1:{closed_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    answer = fetch("SHOP", proxy=None, ca_file=None)
    assert answer.outcome == "config"
    assert "geheim" not in answer.detail


def test_settings_win_over_the_environment(fetch, shop, other_authority, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(other_authority))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    assert fetch("SHOP").outcome == "ok"


def test_a_cache_that_is_no_folder_is_said_before_any_request(fetch, many, yahoo, tmp_path):
    (tmp_path / "file").write_text("")
    assert_config(fetch(*many, cache=tmp_path / "file"), "PRISM_CACHE", "file", "name a folder that can be written to")
    assert_config(fetch(*many, cache=tmp_path / "file" / "below"), "PRISM_CACHE")
    assert yahoo.requests == []


@contextlib.contextmanager
def plain_user():
    """The rights of a plain user, for root may write everywhere."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_a_read_only_cache_is_said_before_any_request(fetch, many, yahoo, tmp_path):
    (tmp_path / "fixed").mkdir(mode=0o555)
    with plain_user():
        answers = fetch(*many, cache=tmp_path / "fixed", ca_file=None)
    assert_config(answers, "PRISM_CACHE", "Permission denied", "name a folder that can be written to")
    assert yahoo.requests == []


def test_what_yfinance_keeps_lies_in_a_private_folder_of_the_cache(fetch, shop, tmp_path):
    fetch("SHOP")
    (folder,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert {"tkr-tz.db", "cookies.db"} <= {path.name for path in folder.iterdir()}
    assert not Path(yfinance.cache._TzDBManager.get_location()).is_relative_to(Path.home() / ".cache")


def test_other_settings_begin_anew(fetch, shop, yahoo, tmp_path):
    fetch("SHOP")
    yahoo.requests.clear()
    fetch("SHOP", cache=tmp_path / "another")
    assert [request.place for request in yahoo.requests] == ["fc", "getcrumb", "SHOP"]


def test_pandas_is_quiet_about_yfinance(fetch, market):
    market.add("A", first="2026-01-02", splits={"2026-07-01": 2}, dividends={"2026-08-07": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.Pandas4Warning)
        warnings.filterwarnings("ignore", "Series.values returning an ndarray")  # of the calendars in the stand-in
        assert fetch("A").outcome == "ok"
