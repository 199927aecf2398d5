"""The reports over HTTP: those of one folder, read-only, on this machine."""

import http.client
import socket

import pytest

from flows import report_server
from storage.errors import InputError


@pytest.fixture
def ask(tmp_path):
    folder = tmp_path / "store" / "reports"
    folder.mkdir(parents=True)
    (folder / "2024-05-0123456789ab.html").write_text("<p>Report</p>")
    (folder / ".2024-05-0123456789ab.html.tmp").write_text("half")
    (tmp_path / "store" / "STORE.json").write_text("{}")
    (folder / "link.html").symlink_to(tmp_path / "store" / "STORE.json")
    (folder / "folder.html").mkdir()
    with report_server.serving(folder, 0) as address:
        host = address.removeprefix("http://")

        def request(method, path):
            connection = http.client.HTTPConnection(host, timeout=5)
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Content-Length")

        request.host = host
        yield request


def test_a_report_is_read(ask):
    assert ask("GET", "/2024-05-0123456789ab.html") == (200, b"<p>Report</p>", "13")
    assert ask("HEAD", "/2024-05-0123456789ab.html") == (200, b"", "13")


ELSEWHERE = """/ /../STORE.json /%2e%2e/STORE.json /..%2fSTORE.json //etc/passwd /link.html /folder.html /none.html
/.2024-05-0123456789ab.html.tmp /reports/2024-05-0123456789ab.html /x.html?/../a"""


@pytest.mark.parametrize("path", ELSEWHERE.split())
def test_nothing_else_is(ask, path):
    assert ask("GET", path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_is_changed(ask, method):
    assert ask(method, "/2024-05-0123456789ab.html")[0] == 501


def test_only_this_machine_is_answered(ask):
    assert ask.host.startswith("127.0.0.1:")


def test_a_taken_port_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot serve"), report_server.serving(tmp_path, port):
            pass
