"""Before publishing: a limit that is broken needs a person, and what is not approved is held."""

import getpass
import http.server
import os
import pty
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path

import pytest

from flows import heartbeat, publishing
from flows.backfill import backfill
from flows.monthly import monthly_rebalance
from flows.publishing import Answer
from flows.replay import replay
from storage import catalog, clock, ledger
from storage.errors import ApprovalError
from storage.limits import Limits
from tasks.proposal import Proposal

ROOT = Path(__file__).parents[2]
DECEMBER, JANUARY = date(2017, 12, 1), date(2018, 1, 2)
CALM = Proposal(
    weights={"A": 0.6, "B": 0.4}, turnover=0.3, weight=0.6, weight_of="A", sector=0.7, sector_of="Energy",
    distance=None, volatility=0.5, missing=0.1, left_out=1, forecast=None,
)  # fmt: skip


def at(monkeypatch, *when):
    monkeypatch.setattr(clock, "now", lambda: datetime(*when))


def test_without_limits_nothing_is_broken():
    assert publishing.breaches(CALM, Limits()) == []


def test_a_breach_names_value_limit_and_what_to_do(monkeypatch):
    for name, limit in {
        "weight": "0.5",
        "turnover": "0.3",
        "sector": "0.65",
        "distance": "0",
        "missing": "0.2",
    }.items():
        monkeypatch.setenv(f"PRISM_LIMIT_{name.upper()}", limit)
    assert publishing.breaches(CALM, Limits()) == [
        "the weight of A is 60.0 %, above the limit of 50 %; raise PRISM_LIMIT_WEIGHT or lower "
        "return_drawdown.max_weight",
        "the weight of sector Energy is 70.0 %, above the limit of 65 %; raise PRISM_LIMIT_SECTOR or set a sector cap",
    ]


@pytest.fixture
def monitor():
    """A server on loopback that notes the paths it is asked for, and answers with a status."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if "good" in self.path else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_the_monitor_is_called_and_its_failure_fails_nothing_and_shows_no_secret(monitor, monkeypatch, caplog):
    url, asked = monitor
    heartbeat.beat()
    assert asked == []
    for path in ("/good/s3cret", "/bad/s3cret"):
        monkeypatch.setenv("PRISM_HEARTBEAT_URL", url + path)
        heartbeat.beat()
    for address in ("nonsense s3cret", "http://127.0.0.1:s3cret/", "http://127.0.0.1/s3 cret"):
        monkeypatch.setenv("PRISM_HEARTBEAT_URL", address)
        heartbeat.beat()
    assert asked == ["/good/s3cret", "/bad/s3cret"]
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        "PRISM_HEARTBEAT_URL did not answer (HTTPError)",
        "PRISM_HEARTBEAT_URL did not answer (ValueError)",
        "PRISM_HEARTBEAT_URL did not answer (InvalidURL)",
        "PRISM_HEARTBEAT_URL did not answer (InvalidURL)",
    ]
    assert "s3cret" not in caplog.text
    assert "s3 cret" not in caplog.text


ASKING = """
from datetime import date
from types import SimpleNamespace
import flows
from flows import publishing
from storage.errors import ApprovalError

month = SimpleNamespace(moment=SimpleNamespace(month="2018-01"))
try:
    print(publishing._asked(month, SimpleNamespace(turnover=0.5), ["turnover is 50 %, above 40 %"], None))
except ApprovalError as error:
    print(f"refused: {error}")
"""


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("maybe\n\ny\nlooks right\n", "Answer(answer='approve', by='{user}', comment='looks right')"),
        ("n\n\n", "Answer(answer='reject', by='{user}', comment='')"),
        ("\x04", "refused: 2018-01 needs a person's approval: turnover is 50 %, above 40 %; nothing was recorded"),
        ("y\n\x04", "refused: 2018-01 needs a person's approval"),
    ],
)
def test_a_terminal_asks_until_it_is_a_yes_or_a_no_and_takes_no_end_for_an_answer(typed, said):
    ours, theirs = pty.openpty()
    asking = subprocess.Popen([sys.executable, "-c", ASKING], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT)
    os.close(theirs)
    shown = ""
    for line in typed.splitlines(keepends=True) or [typed]:
        while not shown.endswith(": "):
            shown += os.read(ours, 1000).decode()
        os.write(ours, line.encode())
        shown += "\n"
    with suppress(OSError):  # how the end of a terminal is told
        while more := os.read(ours, 1000):
            shown += more.decode()
    os.close(ours)
    assert asking.wait(60) == 0
    assert "2018-01: turnover 50.0 %" in shown
    assert said.format(user=getpass.getuser()) in shown.replace("\r\n", "")


@pytest.mark.long
@pytest.mark.flow
def test_a_month_is_held_and_the_next_one_goes_on_from_there(
    store, quick, csv, prices, written, tmp_path, monkeypatch, prism, monitor
):
    monkeypatch.setenv("PRISM_LIMIT_TURNOVER", "0.01")
    monkeypatch.setenv("PRISM_LEAK_GATE", "true")
    at(monkeypatch, 2017, 12, 1, 15)
    early = written(prices.loc[:"2017-11-30"], tmp_path / "early.csv")
    with pytest.raises(ApprovalError, match="2017-12 needs a person's approval: turnover is"):
        monthly_rebalance(parameters=quick, path=early, months=2)
    assert DECEMBER not in ledger.current(store, "main")
    code, shown, _ = prism("run", "--path", early, "--months", 2, "--reject", "too much")
    assert code == 0
    assert "2017-12 is held, nothing is traded: 2017-12 is held, rejected by" in shown
    held = ledger.current(store, "main")[DECEMBER]
    assert (held.kind, held.record["publication"]["comment"]) == ("held", "too much")
    assert held.record["publication"]["measured"]["forecast"]["volatility"] > 0
    assert catalog.query(store, "main", f"SELECT 1 FROM trades WHERE rebalance_date = '{DECEMBER}'").num_rows == 0
    code, _, said = prism("explain", "2017-12")
    assert (code, "2017-12 was held" in said) == (2, True)

    monkeypatch.setenv("PRISM_HEARTBEAT_URL", monitor[0] + "/good")
    at(monkeypatch, 2018, 1, 2, 15)
    state = monthly_rebalance(path=csv, months=3, answer=Answer("approve", "Ada", "seen"), return_state=True)
    assert monitor[1] == ["/good"]
    assert "2018-01 published" in state.message
    assert "note: 2018-01 was approved by Ada: seen (turnover is" in state.message
    published = ledger.current(store, "main")[JANUARY]
    assert published.record["holdings"] == list(held.weights)
    # neither asks again, nor changes what is final
    assert monthly_rebalance(months=3)["published"] == {"2017-12": "identical", "2018-01": "identical"}
    assert backfill("2017-11", "2018-01")["decided"] == []
    assert replay("2017-11", "2018-01")["identical"] == 3
    assert prism("explain", "2018-01")[0] == 0
    assert prism("verify")[0] == 0
    assert "every rebalance date is decided" in prism("plan", "--months", 3)[1]
    assert "trades start from what was held through 2017-12" in prism("trades")[1]
