"""A server that listens beyond this machine: nobody gets in without the password, and reports stay here."""

import base64
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.flow]
ROOT = Path(__file__).parents[3]
ACCESS = "prism:a-long-password"
RUN = "from flows.cli import main; main()"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status(url, access=None):
    """The status of an answer to a request that lists flows."""
    request = urllib.request.Request(f"{url}/flows/filter", b"{}", {"Content-Type": "application/json"})
    if access:
        request.add_header("Authorization", f"Basic {base64.b64encode(access.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_server_beyond_this_machine_asks_for_the_password_and_its_own_runs_have_it(tmp_path):
    port, report_port = free_port(), free_port()
    place = {"PRISM_CACHE": "cache", "PREFECT_HOME": "home", "PRISM_STORE": "store"}
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in place.items()}
    environment |= {"PREFECT_SERVER_API_AUTH_STRING": ACCESS}
    ports = ["--port", str(port), "--report-port", str(report_port)]
    command = [sys.executable, "-c", RUN, "serve", "--host", "0.0.0.0", *ports]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as served:
        try:
            said = []
            while "Ctrl-C stops" not in "".join(said[-1:]):
                said.append(served.stdout.readline())
                assert said[-1], "".join(said)
            url = f"http://127.0.0.1:{port}/api"
            assert [status(url), status(url, "prism:another-one"), status(url, ACCESS)] == [401, 401, 200]
            assert ACCESS.partition(":")[2] not in "".join(said)
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", report_port)) == 0
            listening = Path("/proc/net/tcp").read_text()
            assert f" 0100007F:{report_port:04X} 00000000:0000 0A" in listening
            assert f" 00000000:{port:04X} 00000000:0000 0A" in listening
        finally:
            served.send_signal(signal.SIGINT)
            rest = served.communicate(timeout=90)[0]
    assert "Traceback" not in rest
    for file in (tmp_path / "cache").rglob("*.log"):
        assert ACCESS.partition(":")[2] not in file.read_text(), file
