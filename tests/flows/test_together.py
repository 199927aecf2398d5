"""Runs at once on one store: the bytes of runs one after the other, no error, and nothing computed twice."""

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client

from flows.backfill import backfill
from flows.monthly import monthly_rebalance
from storage import ledger, tables
from storage.store import open_store
from storage.verification import verify

pytestmark = [pytest.mark.flow, pytest.mark.long]
ROOT = Path(__file__).parents[2]
AS_OF = date(2017, 4, 28)
WITHOUT_CHAINS = ("bars", "forecasts", "weights", "trades", "executions", "wealth", "metrics")
RUN = """
import sys
from datetime import date
import flows
from flows.backfill import backfill
from flows.monthly import monthly_rebalance
first, last, path = sys.argv[1:]
if first == "monthly":
    monthly_rebalance(path=path, as_of=date.fromisoformat(last), months=1)
else:
    backfill(first, last, path=path)
"""
# whose rows are kept by key, so that a second writing leaves a second file
KEYED = ("features", "models", "forecasts", "allocations", "weights", "trades")


def decided(store):
    """What stands decided, by date."""
    return {day: entry.content_hash for day, entry in ledger.current(store, "main").items()}


def written_twice(store):
    """Keys that two files of a table's log hold, or have held; a file of a commit that came too late is in no log."""
    counted = Counter()
    for name in KEYED:
        for file in committed(store.tables / name):
            counted.update({(name, key) for key in pq.read_table(file, columns=["key"])["key"].to_pylist()})
    return [key for key, count in counted.items() if count > 1]


def committed(table):
    """Data files that any commit of a table has added."""
    lines = [line for log in (table / "_delta_log").glob("*.json") for line in log.read_text().splitlines()]
    return {table / action["add"]["path"] for action in map(json.loads, lines) if "add" in action}


@pytest.fixture
def one_by_one(tmp_path, place, light, csv):
    """A store in which the same was decided by one run after the other; the first fixes the scenario."""
    store = place(tmp_path / "calm")
    backfill("2016-11", "2016-11", parameters=light, path=csv)
    backfill("2016-12", "2017-01")
    backfill("2017-02", "2017-04")
    monthly_rebalance(as_of=AS_OF, months=1)
    return store


def begun(place, root, light, csv):
    store = place(root)
    backfill("2016-11", "2016-11", parameters=light, path=csv)
    return store


def check(store, calm, content):
    ours, theirs = content(store, names=WITHOUT_CHAINS), content(calm, names=WITHOUT_CHAINS)
    assert [name for name in WITHOUT_CHAINS if ours[name] != theirs[name]] == []
    assert decided(store) == decided(calm)
    assert ledger.broken(store, "main") is None
    records = Counter((entry.rebalance_date, entry.content_hash) for entry in ledger.read(store, "main"))
    assert max(records.values()) == 1, "a date was recorded twice"
    assert len(ledger.current(store, "main")) == 7
    assert written_twice(store) == []
    assert verify(store.root, deep=True).is_whole


def test_threads_of_one_process_decide_the_same(one_by_one, tmp_path, place, light, csv, content, monkeypatch):
    monkeypatch.setattr(tables, "_CROWDED", 10_000)  # what is merged would be counted twice
    store = begun(place, tmp_path / "store", light, csv)
    runs = [
        lambda: backfill("2016-12", "2017-01"),
        lambda: backfill("2017-02", "2017-04"),
        lambda: monthly_rebalance(as_of=AS_OF, months=1),
    ]
    with ThreadPoolExecutor(len(runs)) as pool:
        for run in [pool.submit(run) for run in runs]:
            run.result()
    check(store, one_by_one, content)


def test_processes_decide_the_same(one_by_one, tmp_path, place, light, csv, content):
    store = begun(place, tmp_path / "store", light, csv)
    with get_client(sync_client=True) as client:
        environment = os.environ | {"PREFECT_API_URL": str(client.api_url), "PRISM_STORE": str(store.root)}
    asked = [("2016-12", "2017-01"), ("2017-02", "2017-04"), ("monthly", f"{AS_OF}")]
    commands = [[sys.executable, "-c", RUN, *words, csv] for words in asked]
    runs = [subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) for command in commands]
    for run in runs:
        _, said = run.communicate(timeout=900)
        assert run.returncode == 0, said.decode()[-2000:]
    check(open_store(store.root), one_by_one, content)
