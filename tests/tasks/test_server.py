"""Prefect's server: there already, or a temporary one that a command starts, and that ends with it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prefect.context import refresh_global_settings_context
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)

from storage.errors import InputError, ServerError
from tasks import server

ROOT = Path(__file__).parents[2]
WAITS = """
import os, time
import flows
from tasks import server
with server.starting():
    from prefect import flow
print(os.environ["PREFECT_API_URL"], server.lasts(), flush=True)

@flow
def nothing():
    return "done"

print(nothing(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def own_environment(monkeypatch):
    """Prefect's settings are as before afterwards."""
    for name in ("PREFECT_API_URL", server._TEMPORARY):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    monkeypatch.undo()
    refresh_global_settings_context()


def test_a_server_that_is_there_lasts_and_none_is_started(own_environment):
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert server.lasts()
        with server.starting():
            pass
    assert server._TEMPORARY not in os.environ


def test_none_is_started_where_prefect_may_start_none(own_environment):
    with temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}), server.starting():
        pass
    assert server._TEMPORARY not in os.environ
    assert not server.lasts()


def test_one_that_the_profile_has_no_use_for_ends_again(own_environment, monkeypatch):
    begun, started = [], server._started
    monkeypatch.setattr(server, "_started", lambda: begun.append(started()) or begun[-1])
    with temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}), server.starting():
        [(process, _)] = begun
        assert process.poll() is not None


def test_it_is_on_its_way_before_prefect_is_imported():
    code = """
import sys
import flows
from tasks import server
server._started = lambda: sys.exit("late" if "prefect" in sys.modules else "early")
server.begin()
"""
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=known, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "early"


def test_what_runs_ask_for_later_can_be_loaded_meanwhile(monkeypatch):
    monkeypatch.setattr(server, "suppress", lambda *errors: nullcontext())
    server._prepare()


def test_a_temporary_server_does_not_last(own_environment, monkeypatch):
    monkeypatch.setenv(server._TEMPORARY, "http://127.0.0.1:1/api")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert not server.lasts()


def test_one_that_does_not_come_up_is_a_sentence(own_environment, monkeypatch, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)")
    monkeypatch.setattr(server, "_PROGRAM", broken)
    with (
        pytest.raises(ServerError, match=r"temporary server did not answer .* run the same command again"),
        server.starting(),
    ):
        assert os.environ["PREFECT_API_URL"] == os.environ[server._TEMPORARY]


@pytest.fixture
def idle(monkeypatch):
    """A process that does nothing, in place of the server's."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        monkeypatch.setattr(server, "_started", lambda: (process, 1))
        yield
        process.kill()


def test_a_folder_that_prefect_cannot_use_is_a_sentence(own_environment, idle, tmp_path):
    folder = tmp_path / "file" / "prefect"
    folder.parent.touch()
    said = rf"Prefect's folder {folder} cannot be used \(Not a directory\); give another folder as PREFECT_HOME"
    with temporary_settings({PREFECT_HOME: folder}), pytest.raises(InputError, match=said):
        server.begin()
    assert server._TEMPORARY not in os.environ


def test_heartbeats_are_for_a_server_that_lasts(own_environment, idle):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 180}, restore_defaults={PREFECT_API_URL}):
        server.begin()
        assert server._TEMPORARY in os.environ
        assert PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() is None


@pytest.mark.long
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_it_runs_flows_and_ends_with_its_command_however_that_ends(tmp_path, ending):
    environment = os.environ | {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WAITS]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        url, lasts = process.stdout.readline().split()
        assert (lasts, process.stdout.readline()) == ("False", "done\n")
        urlopen(f"{url}/health").close()
        process.send_signal(ending)
    until = time.monotonic() + 30
    while _answers(url) and time.monotonic() < until:
        time.sleep(0.2)
    assert not _answers(url)


def _answers(url: str) -> bool:
    try:
        urlopen(f"{url}/health", timeout=5).close()
    except (URLError, OSError):
        return False
    return True
