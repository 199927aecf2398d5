"""What a person does in Prefect's UI, in a real browser: another alpha by the form, the summary, the report.

Needs a Chromium (CHROMIUM names it) and the package playwright; starts a server and serves the flow on free ports.
"""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
SERVE = "from flows.rebalance import rebalance; rebalance.serve('rebalance')"
PATIENCE = 120  # seconds, on a busy machine


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def reports(decided_quickly):
    """The folder of reports, served on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    folder = decided_quickly / "reports"
    folder.mkdir(exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def ui(tmp_path, decided_quickly, reports):
    """The address of a server whose deployment `rebalance` is served, on a store where main has decided."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = os.environ | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_API_URL": f"{address}/api",
        "PRISM_STORE": str(decided_quickly),
        "PRISM_REPORT": "true",
        "PRISM_REPORT_URL": reports,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    started, log = [], (tmp_path / "log").open("w")
    try:
        for command in (["-m", "prefect", "server", "start", "--port", str(port)], ["-c", SERVE]):
            started.append(subprocess.Popen([sys.executable, *command], env=env, stdout=log, stderr=log))
            _wait_for(f"{address}/api/health")
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)
        log.close()


def _wait_for(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(1)
    pytest.fail(f"{url} did not answer within {PATIENCE} s")


@pytest.fixture
def page(ui):
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium; CHROMIUM names it")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 1600})
        opened.set_default_timeout(1000 * PATIENCE)
        yield opened
        browser.close()


def _listed(ui: str, kind: str) -> list[dict[str, Any]]:
    """What the server has of a kind."""
    asked = urllib.request.Request(f"{ui}/api/{kind}/filter", b"{}", {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def _found(ui: str, kind: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first of a kind that is as wanted, once it is there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for entry in _listed(ui, kind):
            if wanted(entry):
                return entry
        time.sleep(2)
    return pytest.fail(f"none of {kind} is as wanted: {[entry.get('state') for entry in _listed(ui, kind)]}")


def test_another_alpha_by_the_form_ends_in_a_summary_that_begins_with_what_differs(page, ui):
    deployment = _found(ui, "deployments", lambda entry: entry["name"] == "rebalance")
    page.goto(f"{ui}/v2/deployments/deployment/{deployment['id']}/run")
    title = page.get_by_text("Return drawdown (Optional)")
    group = title.locator("xpath=ancestor::div[contains(concat(' ', @class, ' '), ' group ')][1]")
    group.get_by_text("Change", exact=True).first.click()
    alpha = group.get_by_label("Alpha (Optional)")
    alpha.fill("-1")
    page.get_by_role("button", name="Submit").click()
    refusal = group.get_by_text("-1 is less than the minimum of 0")
    refusal.wait_for()
    alpha.fill("0.7")
    refusal.wait_for(state="hidden")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("Submit", exact=True).wait_for(state="hidden")  # the form gave way to the deployment's page

    run = _found(ui, "flow_runs", lambda entry: entry["state_type"] in ("COMPLETED", "FAILED", "CRASHED"))
    assert run["name"] == "rebalance 2017-01"
    said = run["state"]["message"]
    assert "2 rebalance dates newly decided (2016-12 to 2017-01); computed return_drawdown 2; from the cache" in said
    summary = _found(ui, "artifacts", lambda entry: (entry["key"] or "").startswith("summary-whatif-"))
    page.goto(f"{ui}/v2/artifacts/artifact/{summary['id']}")
    page.get_by_text("beside main, 2017-01").first.wait_for()
    row = page.get_by_role("row", name="return_drawdown.alpha")
    assert row.inner_text().split() == ["return_drawdown.alpha", "0.2", "0.7"]
    page.goto(page.get_by_role("link", name="The whole report").get_attribute("href"))
    assert "whatif-" in page.inner_text("body")
