"""Prefect's server: one that lasts, at PREFECT_API_URL, or a temporary one for a single command.

Prefect starts a temporary one when the first flow asks for it: the flow's process imports the whole server and then
waits for another process to do the same. `starting` starts that process before the flow is imported, so that both go on
at once. It ends with the command, in whatever way that ends.
"""

import atexit
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from storage.errors import ServerError
from storage.settings import made

_PROGRAM = Path(__file__).with_name("temporary_server.py")
_STARTED_WITHIN = 120.0  # seconds, on a busy machine
_STOPPED_WITHIN = 10.0
_TEMPORARY = "PRISM_TEMPORARY_SERVER"  # in the environment, so that processes started by this one know it too
log = logging.getLogger("prism.cli")


def lasts() -> bool:
    """Whether there is a server that other machines and later runs find too."""
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() not in (None, os.environ.get(_TEMPORARY))


@contextmanager
def starting() -> Iterator[None]:
    """Start a temporary server while a block imports a flow, unless there is a server; it answers when the block ends.

    Raises ServerError where it does not come up.
    """
    log.info("starting Prefect")
    begin()
    yield
    if _TEMPORARY in os.environ:
        _prepare()
        _wait()


def begin() -> None:
    """Start a temporary server, unless the environment or Prefect's profile names one, or forbids it.

    It is on its way before this process imports Prefect, which alone knows the profile, and ends where that says no.
    Raises InputError where Prefect has no folder to write to.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    process, port = _started()
    from prefect.context import get_settings_context, refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

    if PREFECT_API_URL.value() is not None or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        _stop(process)
        return
    atexit.register(_stop, process)  # after what Prefect still sends at exit, which registers later
    made(PREFECT_HOME.value(), "Prefect's folder", "PREFECT_HOME")
    os.environ["PREFECT_API_URL"] = os.environ[_TEMPORARY] = f"http://127.0.0.1:{port}/api"
    refresh_global_settings_context()
    # nobody listens for heartbeats here, and a flow's end would wait up to a second for the thread that sends them
    get_settings_context().settings.flows.heartbeat_frequency = None


def _started() -> tuple[subprocess.Popen[bytes], int]:
    """The process of a server, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:  # who asks before it is there waits
        number, port = listening.fileno(), listening.getsockname()[1]
        # its standard input ends with this process; a Ctrl-C is for the run, which still has its end to tell
        process = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-P", _PROGRAM, str(number)],
            stdin=subprocess.PIPE,
            pass_fds=(number,),
            start_new_session=True,
        )
    return process, port


def _prepare() -> None:
    """Load what a run asks for later, while the other process imports the server; what fails here fails there."""
    with suppress(Exception):
        import fastapi  # noqa: F401 - Prefect does, with a flow's first run
        import numpy as np

        from storage.universe import Universe
        from tasks import calendars
        from tasks.numerics import returns
        from tasks.report import pictures  # noqa: F401 - with matplotlib

        calendars.closes(Universe.exchange)
        returns.on_sessions(np.zeros(1), np.zeros(1, np.int64), 1)  # with what numba loads for a first kernel


def _wait() -> None:
    try:
        urlopen(f"{os.environ[_TEMPORARY]}/health", timeout=_STARTED_WITHIN).close()  # noqa: S310 - this machine's own
    except OSError as error:
        raise ServerError(
            f"Prefect's temporary server did not answer ({error}); run the same command again, or set PREFECT_API_URL "
            "to a server that runs"
        ) from error


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
