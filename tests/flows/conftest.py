"""A small market in a person's own files, and what the flows make of it."""

import sys

import numpy as np
import pandas as pd
import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows import cli
from flows import parameters as forms
from storage import catalog
from storage.store import open_store
from tasks import calendars, server

TICKERS = ("AAA", "BBB", "CCC", "DDD", "EEE")
# the smallest network that still trains, refreshes and forecasts
LIGHT = {
    "source": "files",
    "index": "IDX",
    "network": {"hidden": 4, "latent": 2},
    "training": {"epochs": 1, "ensemble": 1, "minimum_sessions": 100},
    "forecast": {"draws": 4},
}
# what a query returns, to the last bit, without times of recording and chain hashes
CONTENT = {
    "bars": "SELECT * EXCLUDE (known_from) FROM bars",
    "forecasts": "SELECT * FROM forecasts",
    "weights": "SELECT * FROM weights",
    "trades": "SELECT * FROM trades",
    "executions": "SELECT * FROM executions",
    "wealth": "SELECT * FROM wealth",
    "metrics": "SELECT * FROM metrics",
    "decisions": "SELECT rebalance_date, as_of, kind, revision, content_hash FROM decisions",
}


def make_prices(seed: int = 0) -> pd.DataFrame:
    """Daily closes from 2015 to 2017: one market factor, five stocks of different volatility."""
    days = calendars.sessions("XNYS", np.datetime64("2015-01-02"), np.datetime64("2017-12-29"))
    generator = np.random.default_rng(seed)
    market = generator.normal(0.0004, 0.008, days.size)
    columns = {"IDX": market}
    for place, ticker in enumerate(TICKERS):
        columns[ticker] = market + generator.normal(0.0002 * place, 0.006 + 0.003 * place, days.size)
    closes = 100 * np.exp(np.cumsum(pd.DataFrame(columns), axis=0))
    return closes.set_axis(pd.DatetimeIndex(days, name="date"))


@pytest.fixture(scope="session", autouse=True)
def _without_a_heartbeat():
    """A flow ends when its work does, not up to a second later when its heartbeat wakes."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture(autouse=True)
def _without_a_server_of_a_command(monkeypatch):
    """Commands in this process share the temporary server that Prefect starts for its flows."""
    monkeypatch.setattr(server, "begin", lambda: None)


@pytest.fixture(scope="session")
def prices() -> pd.DataFrame:
    return make_prices()


@pytest.fixture(scope="session")
def light() -> forms.Parameters:
    return forms.make(LIGHT)


@pytest.fixture(scope="session")
def quick(light) -> forms.Parameters:
    """No network, and forecasts that are learned from labels all the same."""
    others = {"forecast": {"forecaster": "calibrated_ewma"}, "training": {"minimum_sessions": 30}}
    return forms.make(forms.merged(light.values(), others))


@pytest.fixture(scope="session")
def decided_quickly(tmp_path_factory, quick, prices):
    """A store in which 2016-12 and 2017-01 are decided; CCC has no bar on the as-of date of the latter."""
    from flows.backfill import backfill

    folder, gap = tmp_path_factory.mktemp("decided"), prices.copy()
    gap.loc["2016-12-30", "CCC"] = np.nan
    gap.to_csv(folder / "prices.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", str(folder / "store"))
        backfill("2016-12", "2017-01", parameters=quick, path=str(folder / "prices.csv"))
    return folder / "store"


@pytest.fixture
def csv(tmp_path, prices):
    """The prices as a person's own wide CSV file."""
    return write(prices, tmp_path / "prices.csv")


def write(prices: pd.DataFrame, path) -> str:
    prices.to_csv(path)
    return str(path)


@pytest.fixture
def written():
    return write


@pytest.fixture
def place(monkeypatch):
    """Make a folder the store of everything that follows."""

    def use(folder):
        monkeypatch.setenv("PRISM_STORE", str(folder))
        return open_store()

    return use


@pytest.fixture
def content():
    """The rows of every view of a scenario, exactly, up to an as-of date."""

    def read(store, scenario="main", names=tuple(CONTENT), until=None):
        rows = {}
        for name in names:
            found = catalog.query(store, scenario, CONTENT[name]).to_pylist()
            kept = [row for row in found if until is None or _day(row) <= until]
            rows[name] = sorted(repr([_exact(value) for value in row.values()]) for row in kept)
        return rows

    return read


def _exact(value):
    return value.hex() if isinstance(value, float) else value


def _day(row):
    return row.get("as_of") or row.get("rebalance_date") or row["session"]


@pytest.fixture
def prism(monkeypatch, capsys):
    """Run `prism ...` in this process: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["prism", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run
