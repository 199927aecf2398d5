"""Long runs: memory bounded over ten years of 109 assets, and nothing that grows over twenty monthly runs."""

import gc
import os
import re
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.maintain import maintain
from flows.monthly import monthly_rebalance
from flows.parameters import make, merged
from storage import ledger
from storage.store import open_store
from tasks import calendars

pytestmark = [pytest.mark.flow, pytest.mark.long]
ROOT = Path(__file__).parents[2]
ASSETS, LIMIT = 109, 2500  # MB of memory, at most
BACKFILL = """
import resource, sys
import flows
from flows.backfill import backfill
from flows.parameters import make

values = {"source": "files", "index": "IDX", "forecast": {"forecaster": "calibrated_ewma"}}
backfill("2009-01", "2018-12", parameters=make(values), path=sys.argv[1])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def many_prices():
    """Daily closes of 109 assets over 13 years."""
    days = calendars.sessions("XNYS", np.datetime64("2006-01-03"), np.datetime64("2018-12-31"))
    generator = np.random.default_rng(0)
    market = generator.normal(3e-4, 0.008, days.size)
    moves = {f"A{n:03}": market + generator.normal(0, 0.006 + 1e-4 * n, days.size) for n in range(ASSETS)}
    closes = 100 * np.exp(np.cumsum(pd.DataFrame(moves | {"IDX": market}), axis=0))
    return closes.set_axis(pd.DatetimeIndex(days, name="date"))


def test_120_months_of_109_assets_fit_in_the_memory_that_is_stated(tmp_path, written):
    path = written(many_prices(), tmp_path / "prices.csv")
    environment = os.environ | {"PRISM_STORE": str(tmp_path / "store")}
    command = [sys.executable, "-c", BACKFILL, path]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-2000:]
    peak = int(re.search(r"peak (\d+)", told.stdout)[1])
    print(f"peak of memory: {peak} MB")
    assert len(ledger.read(open_store(tmp_path / "store"), "main")) == 120
    assert peak < LIMIT


def used():
    """Memory in MB, open files and threads of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    memory = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024
    return memory, len(os.listdir("/proc/self/fd")), threading.active_count()


def test_twenty_monthly_runs_in_one_process_leave_it_as_it_was(tmp_path, place, quick, prices, written):
    place(tmp_path / "store")
    path, seen = written(prices, tmp_path / "prices.csv"), []
    given = make(merged(quick.values(), {"training": {"minimum_sessions": 30}}))
    months = pd.date_range("2016-04-29", periods=20, freq="BME")
    for day in months:
        monthly_rebalance(parameters=given, path=path, as_of=day.date(), months=1)
        seen.append(used())
    assert maintain()["temporaries"] == 0
    print(f"memory, files, threads: {seen}")
    assert len(ledger.current(open_store(tmp_path / "store"), "main")) == len(months)
    (memory, files, threads), last = seen[4], seen[-1]
    assert last[0] - memory < 60, "MB in fifteen runs"
    assert last[1] <= files + 3
    assert last[2] <= threads + 3


def test_upkeep_beside_a_run_changes_nothing(tmp_path, place, quick, prices, written, content):
    path, stop = written(prices, tmp_path / "prices.csv"), threading.Event()
    calm = place(tmp_path / "calm")
    monthly_rebalance(parameters=quick, path=path, as_of=date(2017, 3, 30), months=6)
    expected = content(calm)
    store = place(tmp_path / "store")
    failed = []

    def keep():
        while not stop.is_set():
            try:
                maintain()
            except BaseException as error:
                failed.append(error)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        monthly_rebalance(parameters=quick, path=path, as_of=date(2017, 3, 30), months=6)
    finally:
        stop.set()
        keeper.join()
    assert failed == []
    assert content(store) == expected
