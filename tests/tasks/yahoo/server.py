"""A stand-in for Yahoo: an HTTP proxy on the loopback that ends TLS itself and answers for Yahoo's hosts.

The real client reaches it by two ordinary settings, a proxy and a file of certificates. Everything it was asked is in
`requests`; `fail` makes a ticker, or a step of the handshake (fc, getcrumb, guce), answer wrongly, sometimes or always.
"""

import contextlib
import datetime
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
from dataclasses import dataclass
from html import escape
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CHART = "/v8/finance/chart/"
HOSTS = ["fc.yahoo.com", "guce.yahoo.com", "consent.yahoo.com", "query1.finance.yahoo.com", "query2.finance.yahoo.com"]
CRUMB = "stand.in/crumb"
DOWN = "<html><head><title>Yahoo</title></head><body>Will be right back...</body></html>"


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    cookies: dict[str, str]
    at: float  # monotonic
    in_flight: int  # requests being answered at that moment, this one included

    @property
    def place(self) -> str:
        """The ticker of a chart request, else the step of the handshake."""
        if self.path.startswith(CHART):
            return unquote(self.path.removeprefix(CHART))
        return "getcrumb" if self.path.endswith("getcrumb") else self.host.partition(".")[0]


@dataclass
class Fault:
    """What goes wrong at a place: its kind, how often (None: always), and a number or text that it takes."""

    kind: str
    times: int | None
    with_: str | float | None


class Yahoo:
    """The stand-in. `proxy` and `ca_file` are what the client is given."""

    def __init__(self, market, folder) -> None:
        self.market = market
        self.requests: list[Request] = []
        self.proxy_status: int | None = None  # answered to CONNECT instead of a tunnel
        self._faults: dict[str, list[Fault]] = {}
        self._errors: list[BaseException] = []
        self._busy, self._lock = 0, threading.Lock()
        self.ca_file = folder / "ca.pem"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.handle_error = self._note
        self._server.yahoo, self._server.tls = self, _tls(self.ca_file, folder / "server.pem")
        self.proxy = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop; raises what went wrong in here."""
        self._server.shutdown()
        self._server.server_close()
        if self._errors:
            raise self._errors[0]

    def _note(self, *_) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # clients may hang up, or refuse the certificate
            self._errors.append(error)

    def fail(self, place, kind, times=1, with_=None) -> None:
        """Let the next `times` answers at `place`, or at one of several, fail; see _Handler for the kinds."""
        fault = Fault(kind, times, with_)
        for one in [place] if isinstance(place, str) else place:
            self._faults.setdefault(one, []).append(fault)

    def mend(self) -> None:
        """Answer rightly from now on."""
        self._faults.clear()

    def asked(self, place=None) -> list[Request]:
        """Requests so far, of one place or all."""
        return [request for request in self.requests if place in (None, request.place)]

    @contextlib.contextmanager
    def receive(self, handler):
        """Note a request; gives the fault that is due."""
        url = urlsplit(handler.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        cookies = {name: morsel.value for name, morsel in SimpleCookie(handler.headers.get("Cookie")).items()}
        with self._lock:
            self._busy += 1
            now = time.monotonic()
            request = Request(handler.command, handler.host, url.path, query, cookies, now, self._busy)
            self.requests.append(request)
            fault = self._due(request.place)
        try:
            yield request, fault
        finally:
            with self._lock:
                self._busy -= 1

    def _due(self, place):
        for fault in self._faults.get(place, []):
            if fault.times is None:
                return fault
            if fault.times:
                fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    host = ""

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        yahoo = self.server.yahoo
        if yahoo.proxy_status:
            self.send(yahoo.proxy_status, "no tunnel")
            return
        self.host = self.path.partition(":")[0]
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.setup()
        self.close_connection = False

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        if "done" in form:
            with self.server.yahoo.receive(self):
                self.send(302, "", ("Location", form["done"][0]))
            return
        self.do_GET()

    def do_GET(self):
        with self.server.yahoo.receive(self) as (request, fault):
            if fault is not None:
                getattr(self, f"fault_{fault.kind}")(request, fault.with_)
            elif request.path.startswith(CHART):
                self.chart(request)
            else:
                self.handshake(request)

    def handshake(self, request):
        """The steps before the first chart."""
        if request.place == "getcrumb":
            self.send(200, CRUMB)
        elif request.host == "fc.yahoo.com":
            flags = "Domain=.yahoo.com; Path=/; Max-Age=31557600; Secure; HttpOnly; SameSite=None"
            self.send(404, "", ("Set-Cookie", f"A3=d=stand-in; {flags}"))
        elif request.host == "guce.yahoo.com" and request.path == "/consent":
            form = "".join(f'<input type="hidden" name="{name}" value="v"/>' for name in ("csrfToken", "sessionId"))
            self.send(200, f"<html><form>{form}</form></html>")
        elif request.path == "/form":
            self.send(200, f'<form action="/agree"><input name="done" value="{escape(request.query["done"])}"/></form>')
        else:
            flags = "Domain=.yahoo.com; Path=/; Max-Age=31557600; Secure"
            self.send(200, "", ("Set-Cookie", f"A3=d=consent; {flags}"))

    def chart(self, request):
        """The market's answer."""
        period = {name: int(request.query[name]) for name in ("period1", "period2") if name in request.query}
        status, body = self.server.yahoo.market.chart(request.place, **period)
        self.send(status, json.dumps(body))

    def body(self, request):
        return json.dumps(self.server.yahoo.market.chart(request.place)[1])

    def send(self, status, text, *headers, length=None):
        raw = text.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw) if length is None else length))
        self.end_headers()
        self.wfile.write(raw)

    # the kinds of faults; the second argument is what `fail` was given beside

    def fault_429(self, _, retry_after):
        self.send(429, "Too Many Requests", *([("Retry-After", str(retry_after))] if retry_after else []))

    def fault_late_429(self, _, wait):
        time.sleep(wait)
        self.fault_429(_, None)

    def fault_404(self, *_):
        error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
        self.send(404, json.dumps({"chart": {"result": None, "error": error}}))

    def fault_status(self, _, status):
        self.send(status, f"<html><body>status {status}</body></html>")

    def fault_unauthorized(self, *_):
        error = {"code": "Unauthorized", "description": "Invalid Crumb"}
        self.send(401, json.dumps({"finance": {"result": None, "error": error}}))

    def fault_text(self, _, text):
        self.send(200, text)

    def fault_cut(self, request, _):
        body = self.body(request)
        self.send(200, body[: len(body) // 2])

    def fault_short(self, request, _):
        body = self.body(request)
        self.send(200, body[: len(body) // 2], length=len(body))
        self.close_connection = True

    def fault_slow(self, request, wait):
        time.sleep(wait)
        with contextlib.suppress(OSError):
            self.chart(request) if request.path.startswith(CHART) else self.handshake(request)
        self.close_connection = True

    def fault_reset(self, *_):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def fault_consent(self, request, _):
        """Sent to the page of consent, whose form leads back."""
        back = quote(f"https://{request.host}{self.path}", safe="")
        self.send(302, "", ("Location", f"https://consent.yahoo.com/form?done={back}"))

    def fault_down(self, *_):
        self.send(200, DOWN)

    def fault_empty(self, request, _):
        meta = self.server.yahoo.market.chart(request.place)[1]["chart"]["result"][0]["meta"]
        result = {"meta": meta, "indicators": {"quote": [{}], "adjclose": [{}]}}
        self.send(200, json.dumps({"chart": {"result": [result], "error": None}}))

    def finish(self):
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.request.close()  # the one inside TLS, which the server knows nothing of


def _tls(ca_file, server_file):
    """A context with a certificate for Yahoo's hosts, of an authority made for it and written to `ca_file`."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("stand-in CA", HOSTS[0])]

    def certificate(name, key, extension):
        made = x509.CertificateBuilder(names[0], name, key.public_key(), x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        return made.add_extension(extension, critical=True).sign(keys[0], hashes.SHA256())

    authority = certificate(names[0], keys[0], x509.BasicConstraints(ca=True, path_length=0))
    alternatives = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])
    server = certificate(names[1], keys[1], alternatives)
    pem = serialization.Encoding.PEM
    ca_file.write_bytes(authority.public_bytes(pem))
    private = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    server_file.write_bytes(server.public_bytes(pem) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
