"""A sign of life for a monitor elsewhere, which notices when it stays away."""

import logging
import urllib.request
from http.client import HTTPException
from urllib.error import URLError

from storage.settings import Settings

_SECONDS = 5
log = logging.getLogger("prism.flow")


def beat() -> None:
    """Call PRISM_HEARTBEAT_URL, if it is set. A failure is a line in the log, which does not show the address."""
    url = Settings().heartbeat_url
    if url is None:
        return
    try:
        with urllib.request.urlopen(url.get_secret_value(), timeout=_SECONDS):  # noqa: S310 - the person's own setting
            return
    except (URLError, OSError, ValueError, HTTPException) as error:
        log.warning("PRISM_HEARTBEAT_URL did not answer (%s); the run itself succeeded", type(error).__name__)
