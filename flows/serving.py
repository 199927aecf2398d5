"""Commands that put the flows under a Prefect server: ui, serve, deploy.

The server answers this machine alone unless `--host` says otherwise, and then asks for a name and a password
(PREFECT_SERVER_API_AUTH_STRING); reports stay on this machine.

`ui` starts what is missing on this machine (server, worker, reports over HTTP), applies the deployments and stays;
`serve` does without pools and workers; both stop all that they started when they end. What they start writes to files
in PRISM_CACHE, and a second start finds the first.
"""

import ipaddress
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.request import urlopen

import typer

from flows import display, report_server
from flows.options import StoreOption, app, use_store
from storage.errors import InputError, StoreError
from storage.files import Place
from storage.locks import locked
from storage.settings import Settings
from storage.store import open_store

Port = Annotated[int, typer.Option("--port", min=1024, max=65535, help="Port of Prefect's server and its pages.")]
ReportPort = Annotated[int, typer.Option("--report-port", min=1024, max=65535, help="Port of the reports.")]
Host = Annotated[str, typer.Option("--host", help="Address that the server listens at; default: this machine alone.")]
_LOOPBACK = "127.0.0.1"
_STARTED_WITHIN = 180.0  # seconds, of the server on a busy machine
_STOPPED_WITHIN = 20.0
log = logging.getLogger("prism.cli")


@dataclass(frozen=True)
class _Child:
    """A process that was started here, with all that it starts itself."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """End it, and before it the runs that it started; what does not listen is killed."""
        for kind in (signal.SIGTERM, signal.SIGKILL):
            for pid in (*_descendants(self.process.pid), self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, kind)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOPPED_WITHIN)
                return


def _descendants(pid: int) -> list[int]:
    """Processes that were started by a process, or by one of these, the youngest first."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    found, waiting = [], [pid]
    while waiting:
        waiting = [child for child, parent in parents.items() if parent in waiting]
        found = waiting + found
    return found


@app.command()
def ui(port: Port = 4200, report_port: ReportPort = 4201, host: Host = _LOOPBACK, store: StoreOption = None) -> None:
    """Server, worker, deployments and reports on this machine; stays until Ctrl-C, which stops what it started."""
    _host(use_store(store), host, port, report_port, "prefect", "worker", "start", "--pool", "cpu", "--type", "process")


@app.command()
def serve(port: Port = 4200, report_port: ReportPort = 4201, host: Host = _LOOPBACK, store: StoreOption = None) -> None:
    """The deployments from one process, without pool and worker; stays until Ctrl-C."""
    _host(use_store(store), host, port, report_port, "flows.deploying")


@app.command()
def deploy(
    pool_type: Annotated[Literal["process", "docker"], typer.Option(help="Of the work pools cpu and gpu.")] = "process",
) -> None:
    """Make the work pools and apply the deployments on the server of PREFECT_API_URL."""
    if not os.environ.get("PREFECT_API_URL"):
        raise InputError(
            "there is no server to deploy to: set PREFECT_API_URL, like http://127.0.0.1:4200/api, or use `prism ui`"
        )
    from flows.deploying import deploy as apply

    names = apply(pool_type)
    display.say_line(f"{len(names)} deployments on {_shown(os.environ['PREFECT_API_URL'])}: {', '.join(names)}")


def _shown(url: str) -> str:
    """An address without the name and password that may stand in it."""
    return re.sub(r"//[^/@]*@", "//", url)


def _host(root: Place, host: str, port: int, report_port: int, *module: str) -> None:
    """Start what is missing, and stay with it."""
    _check_access(host)
    open_store(root)
    place = Settings().cache.expanduser().absolute() / f"served-{port}"
    with locked(place / "lock", wait=False) as first:
        if not first:
            _find(place / "served.json", root)
            return
        os.environ |= {
            "PRISM_STORE": str(root),
            "PREFECT_LOGGING_LEVEL": "INFO",
            "PREFECT_API_URL": os.environ.get("PREFECT_API_URL") or _address(host, port),
        }
        with ExitStack() as stack, _stoppable():
            children = _server(stack, place, host, port)
            os.environ["PRISM_REPORT_URL"] = Settings().report_url or stack.enter_context(
                report_server.serving(root / "reports", report_port)
            )
            if module[0] == "prefect":
                from flows.deploying import deploy as apply

                log.info("applying the deployments")
                apply("process")
            children.append(_start(stack, place, module[1] if module[0] == "prefect" else "serve", *module))
            _say(place / "served.json", root)
            _stay(children)


def _check_access(host: str) -> None:
    """Let nobody else in without a password, and this machine's own runs in with it.

    Raises InputError for an address beyond this machine where no name and password are set.
    """
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING

    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise InputError(f"--host {host!r} is no address; give one like {_LOOPBACK}, or 0.0.0.0 for all") from error
    access = PREFECT_SERVER_API_AUTH_STRING.value() or ""
    if not here and not re.fullmatch(r"[^:\s]+:\S{8,}", access):
        raise InputError(
            f"--host {host} lets others in, and {'its password is too short' if access else 'nothing keeps them out'}; "
            "set PREFECT_SERVER_API_AUTH_STRING=name:password, the password of 8 characters or more"
        )
    if access:
        os.environ.setdefault("PREFECT_API_AUTH_STRING", access)


def _address(host: str, port: int) -> str:
    """Where this machine's own clients find a server that listens at an address."""
    there = ipaddress.ip_address(host)
    if there.is_unspecified:
        there = ipaddress.ip_address(_LOOPBACK)
    return f"http://{f'[{there}]' if there.version == 6 else there}:{port}/api"


def _find(said: Path, root: Place) -> None:
    """Say where the running one is; InputError where it serves another store."""
    running = json.loads(said.read_text()) if said.exists() else {}
    if running.get("store", str(root)) != str(root):
        raise InputError(f"{running['address']} serves the store {running['store']}; stop it, or give another --port")
    display.say_line(f"running already: {running.get('address', 'it is starting')}")


def _say(said: Path, root: Place) -> None:
    """Where to look, for the person and for a second start."""
    address = _shown(os.environ["PREFECT_API_URL"]).removesuffix("/api")
    said.write_text(json.dumps({"address": address, "store": str(root)}))
    display.say_line(f"Prefect   {address}\nreports   {os.environ['PRISM_REPORT_URL']}\nstore     {root}")
    display.say_line(f"logs      {said.parent}\nCtrl-C stops what was started here")
    sys.stdout.flush()


def _server(stack: ExitStack, place: Path, host: str, port: int) -> list[_Child]:
    """The server, if none answers at the address."""
    url = os.environ["PREFECT_API_URL"]
    if _answers(url):
        log.info("using the server at %s", _shown(url))
        return []
    if url != _address(host, port):
        raise InputError(f"no server answers at PREFECT_API_URL={_shown(url)}; start it, or leave the variable out")
    with socket.socket() as probe:
        if not probe.connect_ex((_LOOPBACK, port)):
            raise InputError(f"port {port} is taken by something that is no Prefect server; give another --port")
    log.info("starting Prefect's server")
    os.environ.setdefault("PREFECT_SERVER_UI_API_URL", "/api")
    started = _start(stack, place, "server", "prefect", "server", "start", "--host", host, "--port", str(port))
    until = time.monotonic() + _STARTED_WITHIN
    while not _answers(url):
        _check(started)
        if time.monotonic() > until:
            raise StoreError(f"Prefect's server did not answer within {_STARTED_WITHIN:.0f} s; {started.log} says why")
        time.sleep(0.5)
    return [started]


def _answers(url: str) -> bool:
    """Whether a Prefect server is there."""
    try:
        with urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310 - the address is the person's own
            return answer.read() == b"true"
    except (OSError, ValueError):
        return False


def _start(stack: ExitStack, place: Path, name: str, *module: str) -> _Child:
    """Start a module as a process of a group of its own, to be stopped with all that it starts."""
    path = place / f"{name}.log"
    with path.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", *module], stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    child = _Child(name, process, path)
    stack.callback(child.stop)
    return child


def _check(child: _Child) -> None:
    """Raise StoreError where it has ended by itself."""
    code = child.process.poll()
    if code is not None:
        raise StoreError(f"the {child.name} ended with code {code}; {child.log} says why")


def _stay(children: Sequence[_Child]) -> None:
    """Wait until one of them ends, or somebody says stop."""
    while True:
        for child in children:
            _check(child)
        time.sleep(1)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Take SIGTERM like Ctrl-C, also where a shell started this in the background; both are the end that was wanted."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, stop) for kind in kinds]
    try:
        yield
    except KeyboardInterrupt:
        log.info("stopping")
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
