"""The wire to Yahoo: yfinance and its session, which paces and counts every request and keeps the answer.

One session a process, for Yahoo counts by address, and yfinance knows only one. What yfinance keeps between calls
(failed answers, an error page in place of a crumb) is cleared before each try, or a retry would be answered from
memory. This module alone relies on names of yfinance that are not public; its version is pinned.
"""

import atexit
import logging
import re
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import yfinance as yf
from curl_cffi import CurlECode, CurlOpt, requests
from curl_cffi.requests.exceptions import Timeout
from yfinance import cache as yf_cache
from yfinance.data import YfData

from storage import clock
from storage.errors import InputError
from tasks.fetch.pacing import Breaker, Pacer, retry_after

CHART = "/v8/finance/chart/"
CRUMB = re.compile(r"[^\s<>{}]{1,64}")  # anything else is the text of an error


class Refused(Exception):  # noqa: N818 - it is what happened
    """Yahoo refused, or the breaker is open: nothing is sent, also not by yfinance's own second try."""


@dataclass
class Calls:
    """What one thread's tries of one ticker sent and saw."""

    symbol: str
    requests: int = 0
    status: int = 0  # of the newest chart answer
    body: bytes | None = None  # of that answer, as received


@dataclass
class Pace:
    """How one fetch may send: the breaker, seconds for one request, and the event that stops it."""

    rate: float
    timeout: float
    breaker: Breaker
    stopped: threading.Event


class Session(requests.Session):
    """A browser-like session with the proxy and certificates of the settings; without them the environment's."""

    def __init__(self, proxy: str | None, ca_file: Path | None) -> None:
        settings: dict[str, Any] = {"verify": str(ca_file)} if ca_file else {}
        if proxy:  # NO_PROXY speaks of the environment's proxy
            settings |= {"proxies": {"all": proxy}, "curl_options": {CurlOpt.NOPROXY: ""}}
        super().__init__(impersonate="chrome", **settings)
        self.proxy = proxy or getproxies().get("https") or getproxies().get("all")
        self._pacer = Pacer(1)
        self._local = threading.local()

    def begin(self, pace: Pace) -> None:
        """A new fetch. The turns of the one before still count."""
        self._pace, self._pacer.rate = pace, pace.rate
        self._silent: set[str] = set()

    def note(self, calls: Calls) -> None:
        """From now on this thread asks for that ticker."""
        self._local.calls = calls

    def request(self, method: Any, url: str, **options: Any) -> Any:
        """Send a request when it is its turn. Raises Refused on status 429 and while the breaker is open."""
        pace, host, data = self._pace, urlsplit(url).hostname or "", CHART in url
        if host in self._silent and not data:
            raise Timeout(f"{host} gave no answer before", CurlECode.OPERATION_TIMEDOUT)
        self._pacer.wait()
        if pace.breaker.remaining() or pace.stopped.is_set():
            raise Refused
        sent = time.monotonic()
        self._local.calls.requests += 1
        # yfinance gives the steps before the first chart 30 s each, while all threads wait
        options["timeout"] = pace.timeout
        try:
            response = super().request(method, url, **options)
        except Timeout:
            if not data:  # a firewall that drops packets would cost this time again for every ticker
                self._silent.add(host)
            raise
        if response.status_code == 429:
            pace.breaker.trip(sent, retry_after(response.headers.get("Retry-After"), clock.now()))
            raise Refused
        self._keep(response)
        return response

    def _keep(self, response: Any) -> None:
        """Keep the answer that carries the history; it may come after a redirect over the page of consent."""
        calls, place = self._local.calls, urlsplit(response.url)
        if unquote(place.path) == CHART + calls.symbol and "events=" in place.query:
            calls.status, calls.body = response.status_code, response.content


_opened: dict[tuple[str | None, Path | None, Path], Session] = {}  # the newest one only


def open_session(proxy: str | None, ca_file: Path | None, cache: Path) -> Session:
    """The process's session; a new one where the settings are other ones. InputError where one cannot be used."""
    key = (proxy, ca_file, cache)
    if key not in _opened:
        _check_readable(ca_file)
        _set_up(_private_folder(cache))
        session = Session(proxy, ca_file)
        data = YfData(session=session)
        data._cookie = data._crumb = None
        data._cookie_strategy = "basic"
        _opened.clear()
        _opened[key] = session
    return _opened[key]


def _check_readable(ca_file: Path | None) -> None:
    """InputError where there should be a file and is none; curl would say only that a certificate is bad."""
    try:
        if ca_file is not None:
            ca_file.read_bytes()
    except OSError as error:
        reason = f"PRISM_CA_FILE is {ca_file}, which cannot be read ({error.strerror})"
        raise InputError(f"{reason}; name a file with certificates in PEM form") from error


def _private_folder(cache: Path) -> Path:
    """A folder of this process alone, since yfinance pickles its cookies."""
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="yahoo-", dir=cache))
    except OSError as error:
        reason = f"PRISM_CACHE is {cache}, where nothing can be written ({error.strerror})"
        raise InputError(f"{reason}; name a folder that can be written to") from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _set_up(folder: Path) -> None:
    """Make yfinance raise what goes wrong, leave retries to us, and keep what it keeps in `folder`."""
    yf.config.debug.hide_exceptions = False
    yf.config.network.retries = 0
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # what it warns of is in the outcomes
    yf.set_tz_cache_location(str(folder))
    # those in use keep the folder that they saw first
    yf_cache._TzCacheManager._tz_cache = yf_cache._CookieCacheManager._Cookie_cache = None
    yf_cache.get_tz_cache().lookup("")  # opens it, which threads must not do at the same time


def ask(session: Session, calls: Calls, timezone: str, since: date, timeout: float) -> None:
    """Send what yfinance sends for a history from `since` to now; the answer is in `calls`. Raises as yfinance does.

    The frame that it makes of it is not used: it moves the events of missing days and drops what it cannot place.
    """
    data = YfData(session=session)
    data.cache_get.cache_clear()
    if data._crumb is not None and not CRUMB.fullmatch(data._crumb):
        data._crumb = None
    yf_cache.get_tz_cache().store(calls.symbol, timezone)  # or it asks for the zone first
    yf.Ticker(calls.symbol, session=session).history(
        start=since, end=None, interval="1d", auto_adjust=False, actions=True, repair=False, keepna=True,
        timeout=timeout,
    )  # fmt: skip
