"""A served deployment on a Prefect server of its own: a breach waits for a person, and is held without one."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from datetime import date

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import alerts
from storage import ledger

pytestmark = [pytest.mark.flow, pytest.mark.long]
JANUARY = date(2018, 1, 2)
SERVE = "from flows.monthly import monthly_rebalance; monthly_rebalance.serve(name='test')"
# the processes of a served deployment see the morning of the rebalance date
CLOCK = """
import time
from datetime import datetime, timedelta
from storage import clock
begun = time.time()
clock.now = lambda: datetime(2018, 1, 2, 15) + timedelta(seconds=time.time() - begun)
"""


def until(look, seconds=400):
    """What `look` finds, once it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(2)
    raise AssertionError("waited in vain")


@pytest.fixture
def notified():
    """A loopback address, and what is posted to it."""
    posted = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", posted
        server.shutdown()


@pytest.fixture
def environment(tmp_path):
    """Of the server and of what it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    own = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    own |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()]), "PRISM_LIMIT_TURNOVER": "0.01"}
    return os.environ | own | {"PREFECT_LOGGING_LEVEL": "INFO"}


@pytest.fixture
def server(environment):
    """A Prefect server, which the client of this process asks too."""
    url = environment["PREFECT_API_URL"]
    port = url.split(":")[2].removesuffix("/api")
    plain = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PREFECT_API_URL")}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", port, "--no-ui"]
    with subprocess.Popen(command, env=plain, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _answers(f"{url}/health"))
            with temporary_settings({PREFECT_API_URL: url}):
                yield url
        finally:
            process.terminate()


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture
def run(server, environment, quick, csv):
    """Run the served deployment once; gives the run when it has come to one of some states."""

    def start(folder, hours, states, answer=None):
        used = environment | {"PRISM_STORE": str(folder), "PRISM_APPROVAL_HOURS": str(hours)}
        with (
            subprocess.Popen([sys.executable, "-c", SERVE], env=used) as served,
            get_client(sync_client=True) as client,
        ):
            try:
                deployment = until(lambda: _deployment(client))
                given = {"parameters": quick.model_dump(mode="json"), "path": csv, "months": 1}
                made = client.create_flow_run_from_deployment(deployment.id, parameters=given)
                if answer:
                    until(lambda: _named(client, made.id, {"Paused"}))
                    client.resume_flow_run(made.id, run_input=answer)
                return until(lambda: _named(client, made.id, states))
            finally:
                served.terminate()
                with suppress(subprocess.TimeoutExpired):
                    served.wait(30)
                served.kill()  # one that waits for a paused run does not end by itself

    return start


def _deployment(client):
    return next((entry for entry in client.read_deployments() if entry.name == "test"), None)


def _named(client, identity, names):
    run = client.read_flow_run(identity)
    assert not run.state.is_failed(), run.state.message
    assert not run.state.is_crashed(), run.state.message
    return run if run.state.name in names else None


def test_a_breach_is_held_without_an_answer_and_published_with_one(run, place, tmp_path, notified):
    CustomWebhookNotificationBlock(
        name="told", url=notified[0], method="POST", json_data={"subject": "{{subject}}", "body": "{{body}}"}
    ).save("told")
    for _ in range(2):  # the second time they are brought up to date
        assert len(alerts.install("custom-webhook/told")) == len(alerts.ALERTS)

    held = run(tmp_path / "one", 0.004, {"Held"})
    assert "2018-01 held" in held.state.message
    assert "nobody answered by 2018-01-02 15:" in held.state.message
    assert "trades: none" in held.state.message
    entry = ledger.current(place(tmp_path / "one"), "main")[JANUARY]
    assert (entry.kind, entry.record["publication"]["answer"]) == ("held", "no answer")
    assert "turnover is 50.0 %, above the limit of 1 %" in entry.record["publication"]["breaches"][0]

    answer = {"answer": "approve", "by": "Ada", "comment": "the first purchase"}
    done = run(tmp_path / "two", 1, {"Completed"}, answer)
    entry = ledger.current(place(tmp_path / "two"), "main")[JANUARY]
    assert (entry.kind, entry.record["publication"]["by"]) == ("published", "Ada")
    assert "approved by Ada: the first purchase" in done.state.message

    until(lambda: len(notified[1]) >= 4)
    told = {entry["subject"]: entry["body"] for entry in notified[1]}
    assert told.keys() == {"PRISM: an approval is needed", "PRISM: held, no trade", "PRISM: weights and trades"}
    assert "trades: " in told["PRISM: weights and trades"]
