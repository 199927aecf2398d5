"""The process of a temporary Prefect server (see `tasks.server`): serves until its standard input ends.

Runs as a file by itself and imports nothing of PRISM's.
"""

import os
import signal
import socket
import sys
from threading import Thread

import uvicorn
from prefect.server.api.server import create_app


def serve(number: int) -> None:
    """Serve on the listening socket of that number."""
    Thread(target=_end_with_input, daemon=True).start()
    # what its own `prefect` would run as a temporary server: no pages, no scheduler
    config = uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error", lifespan="on")
    uvicorn.Server(config).run([socket.socket(fileno=number)])


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
