"""The reports of a store over HTTP on this machine only: files of one folder, to be read and nothing else.

The links in Prefect's artifacts point here. A report is named by its content, so a browser may keep it.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from storage.errors import InputError
from storage.files import Place

_NAME = re.compile(r"/([0-9A-Za-z][0-9A-Za-z._-]*\.html)")


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the names of reports; everything else is not there."""

    server_version = "prism"
    sys_version = ""
    folder: Place

    def do_GET(self) -> None:
        """The report."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """That it is there."""
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        named = _NAME.fullmatch(self.path)
        file = self.folder / named[1] if named else None
        if file is None or file.is_symlink() or not file.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = file.read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is for what matters."""


@contextmanager
def serving(folder: Place, port: int) -> Iterator[str]:
    """Serve a folder's reports while the block runs; their address. `port` 0 takes a free one.

    Raises InputError where the port is taken.
    """
    handler = type("Handler", (_Handler,), {"folder": folder})
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise InputError(
            f"port {port} cannot serve the reports ({error.strerror}); give another --report-port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
