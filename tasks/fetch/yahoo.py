"""Yahoo's daily prices over the network: every ticker ends in a named outcome, none in silence.

    ok            a quote                                          up_to_date  nothing new since the first day
    rate_limited  refused or deferred; ask again later             network     no answer
    bad_payload   an answer that is no chart of the ticker         no_data     an answer without prices
    not_found     Yahoo does not know the symbol                   config      the settings or the symbol are at fault

One fetch at a time, one pace for all requests. A refusal (status 429) stops all workers for a while and costs a ticker
no try. Settings at fault end the run, as do too many refusals, too many tickers in a row without an answer, and the
deadline; the tickers that are left get that outcome, their detail says that they are deferred.
"""

import logging
import math
import random
import re
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import pandas as pd
import peewee
from curl_cffi import CurlECode
from curl_cffi.requests.exceptions import RequestException
from yfinance.exceptions import (
    YFException,
    YFInvalidPeriodError,
    YFPricesMissingError,
    YFRateLimitError,
    YFTzMissingError,
)

from storage.errors import InputError
from tasks.fetch import chart, wire
from tasks.fetch.chart import BadPayload, Quote
from tasks.fetch.pacing import Breaker
from tasks.fetch.wire import Calls, Pace, Refused, Session

Outcome = Literal[
    "ok", "up_to_date", "rate_limited", "network", "bad_payload", "no_data", "not_found", "rejected", "config"
]
TRIES = {"no_data": 2, "network": math.inf, "bad_payload": math.inf}  # within the limit's; the others have one
SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.^=_&$-]*")  # it becomes a part of an address
ISIN = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]")
MISCONFIGURED = {
    CurlECode.COULDNT_RESOLVE_PROXY, CurlECode.PEER_FAILED_VERIFICATION, CurlECode.SSL_CACERT_BADFILE,
    CurlECode.SSL_CERTPROBLEM, CurlECode.SSL_ISSUER_ERROR, CurlECode.SSL_INVALIDCERTSTATUS,
}  # fmt: skip
NAMED = (
    ((Refused, YFRateLimitError), "rate_limited", "Yahoo says that it is asked too often"),
    ((YFTzMissingError,), "not_found", "Yahoo does not know the symbol"),
    ((YFInvalidPeriodError,), "config", "yfinance refuses the period"),
    ((OSError, sqlite3.OperationalError, peewee.OperationalError), "network", "no answer"),
)
SETTINGS = "check PRISM_PROXY and PRISM_CA_FILE (without them HTTPS_PROXY and REQUESTS_CA_BUNDLE count)"
log = logging.getLogger("prism.fetch")
_alone = threading.Lock()


@dataclass(frozen=True)
class Wanted:
    """A ticker, the zone of its exchange, the first day asked for and the last session that is complete."""

    ticker: str
    timezone: str
    since: date
    last_completed: date


@dataclass(frozen=True)
class Answer:
    """What became of one ticker; `detail` is a sentence without secrets, `quote` is None unless the outcome is ok."""

    ticker: str
    outcome: Outcome
    quote: Quote | None
    attempts: int
    requests: int
    detail: str


@dataclass(frozen=True)
class Limits:
    """How fast and how long to ask; times in seconds."""

    rate: float = 1.5  # requests a second, over all HTTP calls of the process
    workers: int = 3
    timeout: float = 10.0  # of one request
    tries: int = 3
    pause: float = 60.0  # of everyone after the first refusal, doubled at each further one
    longest_pause: float = 900.0
    openings: int = 3  # refusals that end the run
    deadline: float | None = None  # of the whole fetch; the rest is deferred
    retry_wait: float = 1.0  # before the second try, doubled at each further one, give or take a half
    network_stop: int = 5  # tickers in a row without an answer, after which the rest is deferred


def fetch(
    wanted: Sequence[Wanted],
    limits: Limits,
    proxy: str | None,
    ca_file: Path | None,
    cache: Path,
    on_answer: Callable[[Answer], None],
) -> None:
    """Ask for every ticker; `on_answer` gets one answer each as it comes, in the calling thread.

    `proxy` and `ca_file` win over the environment; `cache` is a folder that can be written to. An exception is a
    defect, or came from `on_answer`; it is raised when the requests under way have ended.
    """
    # yfinance's own use of pandas
    warnings.filterwarnings("ignore", category=pd.errors.Pandas4Warning, module=r"yfinance\b")
    with _alone:
        run = _Run(limits)
        try:
            session = wire.open_session(proxy, ca_file, cache)
        except InputError as error:
            for each in wanted:
                on_answer(Answer(each.ticker, "config", None, 0, 0, str(error)))
            return
        session.begin(Pace(limits.rate, limits.timeout, run.breaker, run.stopped))
        with ThreadPoolExecutor(limits.workers, thread_name_prefix="yahoo") as pool:
            try:
                asked = as_completed([pool.submit(_answer, session, run, each) for each in wanted])
                _hand_on(asked, len(wanted), on_answer)
            except BaseException:
                run.finish("network", "deferred: the fetch was interrupted")  # or the pool would go on to its end
                raise


def _hand_on(asked: Iterator[Future[Answer]], count: int, on_answer: Callable[[Answer], None]) -> None:
    """Hand each answer on as it comes, and keep none: a quote takes a megabyte. Says now and then how far it is."""
    began = told = time.monotonic()
    for done, future in enumerate(asked, start=1):
        on_answer(future.result())
        left, now = count - done, time.monotonic()
        if left and (done % 25 == 0 or now - told >= 10):
            told = now
            log.info("prices: %d of %d tickers, about %.0f s left", done, count, (now - began) / done * left)


class _Run:
    """One fetch: its limits, and whether and why it ended before all tickers were asked for."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.end: tuple[Outcome, str] | None = None
        self.stopped = threading.Event()
        self.breaker = Breaker(limits.pause, limits.longest_pause, limits.openings, sleep=self.stopped.wait)
        self._guard, self._began, self._unanswered = threading.Lock(), time.monotonic(), 0

    def finish(self, outcome: Outcome, detail: str) -> None:
        """End the run; the tickers that are left get this outcome."""
        with self._guard:
            self.end = self.end or (outcome, detail)
        self.stopped.set()

    def ready(self) -> bool:
        """Wait until requests may go; False when the run is over."""
        if not self._over():
            self.breaker.wait()
        return not self._over()

    def _over(self) -> bool:
        deadline = self.limits.deadline
        left = math.inf if deadline is None else self._began + deadline - time.monotonic()
        if self.breaker.ended:
            reason = f"deferred: Yahoo said {self.breaker.count} times that it is asked too often; run it again later"
            self.finish("rate_limited", reason)
        elif left <= self.breaker.remaining():
            reason = f"deferred: the {deadline:g} s given to this fetch are over; run it again for the rest"
            self.finish("rate_limited" if self.breaker.count else "network", reason)
        return self.end is not None

    def rest(self, failures: int) -> None:
        """Wait before the next try of a ticker that failed."""
        self.stopped.wait(self.limits.retry_wait * 2 ** (failures - 1) * random.uniform(0.5, 1.5))  # noqa: S311

    def count(self, outcome: Outcome) -> None:
        """Count the tickers in a row that got no answer, and end the run when there are too many."""
        with self._guard:
            self._unanswered = count = self._unanswered + 1 if outcome == "network" else 0
        if count >= self.limits.network_stop:
            self.finish("network", f"deferred: {count} tickers in a row got no answer; check the network, {SETTINGS}")


class _Try(NamedTuple):
    """One try of one ticker."""

    outcome: Outcome
    detail: str
    quote: Quote | None = None


def _answer(session: Session, run: _Run, wanted: Wanted) -> Answer:
    """Ask for one ticker until it has an outcome or the run is over."""
    calls = Calls(wanted.ticker.strip().upper())
    fault = _fault(calls.symbol, wanted)
    if fault:
        return Answer(wanted.ticker, "config", None, 0, 0, fault)
    session.note(calls)
    attempts, failures, last = 0, 0, _Try("rate_limited", "")
    while run.ready():
        attempts += 1
        last = _try(session, run, calls, wanted)
        if last.outcome == "config":
            run.finish("config", last.detail)
        if last.outcome != "rate_limited":
            failures += 1
            if failures >= min(run.limits.tries, TRIES.get(last.outcome, 1)):
                break
            run.rest(failures)
    run.count(last.outcome)
    if last.outcome == "rate_limited" and run.end:
        last = _Try(*run.end)
    quote = last.quote and replace(last.quote, ticker=wanted.ticker)
    return Answer(wanted.ticker, last.outcome, quote, attempts, calls.requests, last.detail)


def _fault(symbol: str, wanted: Wanted) -> str | None:
    """What is wrong with a symbol or zone, in a sentence; None if nothing."""
    if not SYMBOL.fullmatch(symbol):
        return f"{wanted.ticker!r} is no symbol of Yahoo's, without blanks or slashes (BRK-B); correct the universe"
    if ISIN.fullmatch(symbol):
        return f"{symbol} looks like an ISIN, which Yahoo would have to search for; give the symbol in the universe"
    try:
        ZoneInfo(wanted.timezone)
    except (LookupError, ValueError, OSError):
        return f"the timezone {wanted.timezone!r} of {symbol} is unknown; correct its exchange in the universe"
    return None


def _try(session: Session, run: _Run, calls: Calls, wanted: Wanted) -> _Try:
    """One try: ask, and judge what came."""
    calls.status, calls.body = 0, None
    try:
        wire.ask(session, calls, wanted.timezone, wanted.since, run.limits.timeout)
    except Exception as error:
        if isinstance(error, YFRateLimitError):  # said in words, under another status
            run.breaker.trip(time.monotonic())
        known = _known(error, calls, session.proxy)
        if known is not None:
            return known
        # yfinance could not make a frame of the answer; whether it is a chart is judged below
        if calls.body is None or not isinstance(error, LookupError | TypeError | ValueError | YFException):
            raise
    return _judged(calls, wanted.last_completed)


def _judged(calls: Calls, last_completed: date) -> _Try:
    """What the chart answer is worth."""
    if calls.body is None:
        return _Try("bad_payload", f"Yahoo sent {calls.symbol} elsewhere than to its chart")
    if calls.status >= 400:
        return _Try("bad_payload", f"Yahoo answered {calls.symbol} with status {calls.status} and no chart")
    try:
        quote = chart.parse(calls.symbol, calls.body, last_completed)
    except BadPayload as error:
        return _Try("bad_payload", _line(error))
    if quote.bars.empty:
        return _Try("up_to_date", f"{calls.symbol} has no complete session in the days asked for")
    first, last = quote.bars["session"].iloc[[0, -1]]
    return _Try("ok", f"{len(quote.bars)} bars from {first:%F} to {last:%F}", quote)


def _known(error: Exception, calls: Calls, proxy: str | None) -> _Try | None:
    """The outcome that an exception stands for; None where the answer itself decides."""
    if isinstance(error, YFPricesMissingError):
        return _missing(error.yahoo_reason, calls)
    if isinstance(error, RequestException):
        return _unreached(error, proxy)
    for kinds, outcome, said in NAMED:
        if isinstance(error, kinds):
            return _Try(outcome, f"{calls.symbol}: {said} ({_line(error)})")
    return None


def _missing(reason: str | None, calls: Calls) -> _Try:
    """An answer without prices; `reason` is Yahoo's own, if it gives one."""
    said = f"Yahoo has no prices of {calls.symbol}: {_line(reason or 'it gives no reason')}"
    if reason and "Data doesn't exist for startDate" in reason:
        return _Try("up_to_date", said)
    if calls.status == 404 or re.search("delisted|not found", reason or "", re.IGNORECASE):
        return _Try("not_found", said)
    if calls.status >= 400:
        return _Try("bad_payload", f"{said} (status {calls.status})")
    return _Try("no_data", said)


def _unreached(error: RequestException, proxy: str | None) -> _Try:
    """No answer: the fault of the settings where the proxy or the certificates refuse, else of the network."""
    text = _line(error).removeprefix("Failed to perform, curl: ").partition(". See https://curl.se")[0]
    reply = re.search(r"CONNECT tunnel failed, response (\d)", text)
    refused = reply[1] == "4" if reply else proxy is not None and error.code == CurlECode.COULDNT_CONNECT
    text = _without_secrets(text, proxy)
    if refused or error.code in MISCONFIGURED:
        return _Try("config", f"Yahoo cannot be reached with these settings: {text}; {SETTINGS}")
    return _Try("network", f"Yahoo gave no answer: {text}")


def _line(error: object) -> str:
    """The first line of a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _without_secrets(text: str, proxy: str | None) -> str:
    """The text without the name and password of a proxy, which curl repeats where it cannot read its address."""
    account = re.sub(r"^\w+://", "", proxy or "").rpartition("@")[0]
    for secret in filter(None, (account, *account.split(":", 1))):
        text = text.replace(secret, "***")
    return text
