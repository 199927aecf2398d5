"""Chunks on a Dask cluster: a scheduler and two workers in processes of their own give the bytes of the threads."""

import subprocess
import sys
from contextlib import ExitStack

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.workers import runner
from storage import catalog
from storage.errors import InputError
from storage.store import open_store

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


@pytest.mark.long
def test_a_cluster_gives_the_bytes_of_the_threads(served, market, tmp_path, port):
    asked = ("backfill", "--start", "2016-12", "--end", "2017-01", "--path", market / "prices.csv")
    asked += ("--params", market / "light.json")
    here, there, address = tmp_path / "here", tmp_path / "there", f"tcp://127.0.0.1:{port()}"
    scheduler = ("scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard")
    worker = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    environment = served.environment | {"PRISM_STORE": str(there)}
    with ExitStack() as stack:
        for place, command in enumerate((scheduler, worker, worker)):
            (tmp_path / str(place)).mkdir()
            out = stack.enter_context((tmp_path / f"{place}.log").open("w"))
            started = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                env=environment,
                cwd=tmp_path / str(place),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            stack.callback(started.wait)
            stack.callback(started.kill)
        sent = served.prism(*asked, "--store", there, PRISM_RUNNER="dask", PRISM_DASK_ADDRESS=address)
    assert sent.returncode == 0, sent.stderr
    logs = [(tmp_path / f"{place}.log").read_text() for place in (1, 2)]
    assert all("Finished in state Completed" in text for text in logs), "both workers had their share"
    assert served.prism(*asked, "--store", here).returncode == 0
    for sql in (WEIGHTS, FORECASTS):
        assert exactly(there, sql) == exactly(here, sql)
        assert exactly(there, sql)
