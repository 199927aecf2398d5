"""A market, a stand-in for Yahoo that tells it, and a fetch by the real client."""

import importlib.util
import sys
from dataclasses import replace
from datetime import UTC, date, timedelta
from pathlib import Path

import pytest

from storage import clock
from tasks import calendars
from tasks.fetch import yahoo as client

QUICK = client.Limits(rate=500, timeout=10, pause=0.05, longest_pause=5, retry_wait=0.01)


def _module(name):
    """A file beside this one; folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


market_module, server_module = _module("market"), _module("server")


@pytest.fixture
def market():
    """A market of its own for each test, seen at the real time unless `now` is set."""
    return market_module.Market()


@pytest.fixture
def yahoo(market, tmp_path):
    """The stand-in that tells `market`."""
    server = server_module.Yahoo(market, tmp_path)
    yield server
    server.close()


@pytest.fixture
def at(market, monkeypatch):
    """Set the time, of the market and of the store alike."""

    def turn(moment):
        market.now = moment.replace(tzinfo=UTC)
        time = {"now": moment}

        def read():
            time["now"] += timedelta(milliseconds=10)
            return time["now"]

        monkeypatch.setattr(clock, "now", read)

    return turn


@pytest.fixture
def last():
    """The last completed session of New York now."""
    today = clock.now().date()
    days = calendars.sessions("XNYS", today - timedelta(days=10), today)
    done = [day.item() for day in days if calendars.close_of("XNYS", day.item()) + timedelta(minutes=30) <= clock.now()]
    return done[-1]


@pytest.fixture
def fetch(yahoo, market, last, tmp_path):
    """Fetch tickers from the stand-in; one answer, or a list of them where several are asked for."""

    def ask(*tickers, since=date(2026, 1, 2), last_completed=None, limits=None, **how):
        settings = {"proxy": yahoo.proxy, "ca_file": yahoo.ca_file, "cache": tmp_path / "cache"}
        place = {ticker: market.listings.get(ticker.strip().upper()) for ticker in tickers}
        zones = {ticker: listing.timezone if listing else "America/New_York" for ticker, listing in place.items()}
        wanted = [client.Wanted(ticker, zones[ticker], since, last_completed or last) for ticker in tickers]
        limited = {name: how.pop(name) for name in list(how) if hasattr(client.Limits, name)}
        given, told = [], how.pop("on_answer", lambda _: None)

        def note(answer):
            given.append(answer)
            told(answer)

        client.fetch(wanted, replace(limits or QUICK, **limited), **settings | how, on_answer=note)
        order = [each.ticker for each in wanted]
        answers = sorted(given, key=lambda answer: order.index(answer.ticker))
        return answers[0] if len(answers) == 1 else answers

    return ask
