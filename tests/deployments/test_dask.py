"""Chunks on a Dask cluster: a scheduler and two workers in processes of their own, two runs at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.workers import runner
from storage import catalog
from storage.errors import InputError
from storage.store import open_store
from storage.verification import verify

WEIGHTS = "SELECT as_of, strategy, ticker, weight FROM weights ORDER BY ALL"
FORECASTS = "SELECT as_of, ticker, mean, variance FROM forecasts ORDER BY ALL"


def exactly(root, sql):
    """Rows to the last bit."""
    rows = catalog.query(open_store(root), "main", sql).to_pylist()
    return [[value.hex() if isinstance(value, float) else value for value in row.values()] for row in rows]


def test_threads_are_the_default(monkeypatch):
    monkeypatch.setenv("PRISM_WORKERS", "3")
    assert runner()._max_workers == 3


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("", "needs a scheduler; set PRISM_DASK_ADDRESS"), ("tcp://127.0.0.1:1", "needs a Prefect server")],
)
def test_what_dask_lacks_is_said(monkeypatch, address, sentence):
    monkeypatch.setenv("PRISM_RUNNER", "dask")
    monkeypatch.setenv("PRISM_DASK_ADDRESS", address)
    with pytest.raises(InputError, match=sentence):
        runner()


def test_with_both_its_workers_are_used(monkeypatch):
    monkeypatch.setenv("PRISM_RUNNER", "dask")
    monkeypatch.setenv("PRISM_DASK_ADDRESS", "tcp://127.0.0.1:1")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert runner().address == "tcp://127.0.0.1:1"


@pytest.fixture
def cluster(served, tmp_path, port):
    """The address of a scheduler with two workers, and the logs of these."""
    address, logs = f"tcp://127.0.0.1:{port()}", [tmp_path / f"{place}.log" for place in range(3)]
    scheduler = ("scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard")
    worker = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    environment = served.environment | {"PRISM_STORE": str(tmp_path / "there")}
    with ExitStack() as stack:
        for log, command in zip(logs, (scheduler, worker, worker), strict=True):
            log.with_suffix("").mkdir()
            started = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                env=environment,
                cwd=log.with_suffix(""),
                stdout=stack.enter_context(log.open("w")),
                stderr=subprocess.STDOUT,
            )
            stack.callback(started.wait)
            stack.callback(started.kill)
        yield address, logs[1:]


@pytest.mark.long
def test_two_backfills_at_once_on_a_cluster_give_the_bytes_of_one_on_threads(served, market, tmp_path, cluster):
    here, there, (address, logs) = tmp_path / "here", tmp_path / "there", cluster
    on_dask = {"PRISM_RUNNER": "dask", "PRISM_DASK_ADDRESS": address}

    def backfilled(store, start, end, **variables):
        asked = ("backfill", "--start", start, "--end", end, "--path", market / "prices.csv")
        done = served.prism(*asked, "--params", market / "light.json", "--store", store, **variables)
        assert done.returncode == 0, done.stderr

    backfilled(there, "2016-11", "2016-11", **on_dask)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(backfilled, there, month, month, **on_dask) for month in ("2016-12", "2017-01")]:
            done.result()
    assert all("Finished in state Completed" in log.read_text() for log in logs), "both workers had their share"
    backfilled(here, "2016-11", "2017-01")
    for sql in (WEIGHTS, FORECASTS):
        assert exactly(there, sql) == exactly(here, sql)
        assert exactly(there, sql)
    assert verify(there, deep=True).is_whole
