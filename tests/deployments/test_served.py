"""What people see on a machine where `prism ui` runs: scheduled, started by hand, sent to other workers, unattended."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import timedelta

import pytest
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.types._datetime import now

from storage import catalog, ledger, tables
from storage.store import open_store

pytestmark = pytest.mark.long
CONTENT = "SELECT as_of, strategy, ticker, weight FROM weights ORDER BY ALL"


def exactly(root):
    """Weights to the last bit."""
    rows = catalog.query(open_store(root), "main", CONTENT).to_pylist()
    return [[value.hex() if isinstance(value, float) else value for value in row.values()] for row in rows]


def light(market):
    return json.loads((market / "light.json").read_text())


def runs_of(served, deployment):
    with served.client() as client:
        found = client.read_deployment_by_name(deployment)
        wanted = FlowRunFilter(deployment_id={"any_": [found.id]})
        return found, client.read_flow_runs(flow_run_filter=wanted, limit=50)


def test_the_scheduler_creates_runs_of_what_has_a_schedule(served):
    def planned():
        return runs_of(served, "monthly_rebalance/monthly")[1]

    deadline = time.monotonic() + 150
    while not planned() and time.monotonic() < deadline:
        time.sleep(2)
    times = sorted(run.expected_start_time.astimezone() for run in planned())
    assert len(times) >= 2
    assert times[1] - times[0] == timedelta(hours=2)
    assert runs_of(served, "backfill/backfill")[1] == []


def test_a_month_is_decided_by_the_worker_and_its_report_opens(served, market):
    path = str(market / "prices.csv")
    run = served.run("monthly_rebalance/monthly", parameters=light(market), path=path, months=2, due=False)
    assert run.state.is_completed(), run.state.message
    assert len(ledger.read(open_store(served.store), "main")) == 2
    with served.client() as client:
        links = [each.data for each in client.read_artifacts() if each.key == "report-main"]
    assert any(f"({served.reports}/" in link for link in links)
    (file,) = (served.store / "reports").glob("*.html")
    with urllib.request.urlopen(f"{served.reports}/{file.name}") as answer:
        assert answer.read() == file.read_bytes()


def test_a_due_month_without_prices_fails_by_a_sentence(served, market):
    run = served.run("monthly_rebalance/monthly", due=True)
    assert run.state.is_failed()
    assert "one is due on" in run.state.message


def test_a_near_schedule_fires_unattended(served):
    deployment, _ = runs_of(served, "report/report")
    with served.client() as client:
        soon = IntervalSchedule(interval=timedelta(days=1), anchor_date=now("UTC") + timedelta(seconds=90))
        client.create_deployment_schedules(deployment.id, [(soon, True)])

    def done():
        return [run for run in runs_of(served, "report/report")[1] if run.state and run.state.is_completed()]

    deadline = time.monotonic() + 300
    while not done() and time.monotonic() < deadline:
        time.sleep(3)
    (run,) = done()
    assert run.auto_scheduled
    assert run.start_time >= run.expected_start_time - timedelta(seconds=1)  # the runner begins that much early at most


def test_a_second_start_finds_the_first(served):
    port = served.address.rpartition(":")[2]
    again = served.prism("ui", "--port", port)
    assert (again.returncode, again.stdout.strip()) == (0, f"running already: {served.address}")
    other = served.prism("ui", "--port", port, "--store", served.folder / "other")
    assert other.returncode == 2
    assert f"serves the store {served.store}; stop it, or give another --port" in other.stderr


def test_trainings_go_to_a_worker_of_the_second_pool_with_the_same_bytes(served, market, tmp_path):
    asked = ("backfill", "--start", "2016-12", "--end", "2017-01", "--path", market / "prices.csv")
    asked += ("--params", market / "light.json")
    here, there = tmp_path / "here", tmp_path / "there"
    assert served.prism(*asked, "--store", here).returncode == 0
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "gpu", "--type", "process"],
        env=served.environment | {"PREFECT_API_URL": f"{served.address}/api", "PRISM_STORE": str(there)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        sent = served.prism(*asked, "--store", there, PRISM_TRAIN_DEPLOYMENT="train-forecaster/gpu")
    finally:
        worker.kill()
        worker.wait()
    assert sent.returncode == 0, sent.stderr
    assert "are sent to train-forecaster/gpu" in sent.stderr
    assert "trained on this machine" not in sent.stderr
    assert [run.state.name for run in runs_of(served, "train-forecaster/gpu")[1]] == ["Completed"]
    assert exactly(there) == exactly(here)
    made = {name: tables.read(open_store(root), "models", kind="trained") for name, root in (("h", here), ("t", there))}
    assert sorted(made["h"]["blob"].to_pylist()) == sorted(made["t"]["blob"].to_pylist())


def test_without_a_worker_there_a_training_is_done_here_and_said(served, market, tmp_path):
    asked = ("backfill", "--start", "2016-12", "--end", "2016-12", "--path", market / "prices.csv")
    asked += ("--params", market / "light.json", "--store", tmp_path / "store")
    ended = served.prism(*asked, PRISM_TRAIN_DEPLOYMENT="train-forecaster/gpu", PRISM_TRAIN_WAIT="5")
    assert ended.returncode == 0, ended.stderr
    assert "train-forecaster/gpu did not do it in time; 1 blocks are trained on this machine" in ended.stderr
    newest = max(runs_of(served, "train-forecaster/gpu")[1], key=lambda run: run.created)
    assert newest.state.name in ("Cancelling", "Cancelled")


def test_only_reports_are_served(served):
    for path in ("/", "/../STORE.json", "/%2e%2e/STORE.json", "/../catalog.duckdb", "/no.html"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(served.reports + path)


def test_ctrl_c_stops_all_that_was_started(served):
    assert served.stop() == (0, True)
