"""Runs whose process is killed: shown as crashed by the next run, with their tasks; and nobody else is."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.states import Pending, Running

from flows import zombies
from flows.zombies import OURS, bury, watched

pytestmark = pytest.mark.flow
ROOT = Path(__file__).parents[2]
RUN = """
import sys, time
from pathlib import Path
import flows
from prefect import flow, task
from flows.zombies import watched

@task
def work():
    Path(sys.argv[1]).write_text("at work")
    time.sleep(600)

@flow(name="inner")
def inner():
    work()

@flow(name="to be killed")
@watched()
def outer():
    inner()

outer()
"""


def states(name):
    """States of the runs of a flow, and of the tasks of these, by the server of this Prefect's home."""
    with get_client(sync_client=True) as client:
        flows = {each.id: each.name for each in client.read_flows()}
        runs = [run for run in client.read_flow_runs() if flows[run.flow_id] == name]
        tasks = [each for each in client.read_task_runs() if each.flow_run_id in {run.id for run in runs}]
    return [run.state.name for run in runs], [each.state.name for each in tasks if each.state]


@pytest.mark.long
def test_a_run_whose_process_is_killed_is_shown_as_crashed_by_the_next(tmp_path):
    ready = tmp_path / "ready"
    with get_client(sync_client=True) as client:
        environment = os.environ | {"PREFECT_API_URL": str(client.api_url)}
    process = subprocess.Popen([sys.executable, "-c", RUN, str(ready)], cwd=ROOT, env=environment)
    while not ready.exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.1)
    assert states("to be killed")[0] == ["Running"]
    assert bury() == [], "its process is there"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert states("to be killed")[0] == ["Running"], "Prefect does not know"

    @flow(name="the next")
    @watched()
    def following():
        return 1

    assert following() == 1
    assert states("to be killed") == (["Crashed"], ["Crashed"])
    assert states("inner")[0] == ["Crashed"]
    assert states("the next")[0] == ["Completed"]
    assert list(zombies._folder().iterdir()) == []


def test_a_run_that_ends_by_itself_leaves_nothing_and_stays_as_it_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_CACHE", str(tmp_path))

    @task
    def look():
        return [file.name for file in zombies._folder().iterdir()]

    @flow(name="looks")
    @watched()
    def looks(fails):
        assert bury() == []
        if fails:
            raise ValueError("on purpose")
        return look()

    assert len(looks(False)) == 1
    with pytest.raises(ValueError, match="on purpose"):
        looks(True)
    assert sorted(states("looks")[0]) == ["Completed", "Failed"]
    assert list(zombies._folder().iterdir()) == []


def test_a_run_that_was_killed_before_it_had_a_lock_is_found_in_a_while(monkeypatch):
    @flow(name="ingest_prices")
    def ours():
        pass

    with get_client(sync_client=True) as client:
        made = [client.create_flow_run(ours, state=state).id for state in (Running(), Pending())]
        assert bury() == [], "they may have begun just now"
        monkeypatch.setattr(zombies, "_PATIENCE", 0)
        assert len(bury()) == 2
        assert [client.read_flow_run(run).state.name for run in made] == ["Crashed", "Crashed"]


def test_all_our_flows_and_no_others_are_looked_for():
    found = {
        name
        for file in (ROOT / "flows").glob("*.py")
        for name in re.findall(r'@flow\(\s*name="([\w-]+)"', file.read_text())
    }
    assert set(OURS) == found


def test_a_run_of_another_server_is_waited_for_and_forgotten_after_a_month(tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_CACHE", str(tmp_path))
    place = zombies._folder() / str(uuid4())
    place.write_text("elsewhere")
    assert (bury(), place.exists()) == ([], True)
    then = time.time() - 31 * 86_400
    os.utime(place, (then, then))
    assert (bury(), place.exists()) == ([], False)


def test_a_file_without_a_run_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_CACHE", str(tmp_path))
    place = zombies._folder() / str(uuid4())
    place.write_text("")
    assert (bury(), place.exists()) == ([], False)


def test_outside_of_a_run_nothing_is_watched(tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_CACHE", str(tmp_path))
    with watched():
        assert not (tmp_path / "running").exists()
