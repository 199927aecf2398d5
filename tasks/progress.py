"""Progress of long work: a line in the log with the time left and, inside a run of Prefect's, a progress artifact."""

import logging
import re
import time
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext

_QUIET = 1.0  # seconds between two words, for people and for Prefect's server
log = logging.getLogger("prism.progress")


class Progress:
    """How far one piece of work has come. `already`: the share that an earlier run had done."""

    def __init__(self, name: str, already: float = 0.0) -> None:
        self._name, self._already, self._started = name, already, time.monotonic()
        self._spoken, self._share = self._started, already
        self._artifact = _artifact(name, already) if FlowRunContext.get() or TaskRunContext.get() else None

    def tell(self, share: float, detail: str) -> None:
        """Say that `share` (0 to 1) is done, unless something was said a moment ago and there is more to come."""
        now = time.monotonic()
        if share < 1 and now - self._spoken < _QUIET:
            return
        self._spoken, self._share = now, share
        left = _left(self._seconds_left(share)) if share < 1 else "done"
        log.info("  %s: %3.0f %%, %s, %s", self._name, 100 * share, detail, left)
        if self._artifact is not None:
            _update(self._artifact, share, f"{self._name}: {detail}")

    def end(self) -> None:
        """Say that all is done, unless that was said: work may end before its last step."""
        if self._share < 1:
            self.tell(1.0, "ended early")

    def _seconds_left(self, share: float) -> float | None:
        """What is left at the pace so far; None where nothing is done yet."""
        done = share - self._already
        return (time.monotonic() - self._started) * (1 - share) / done if done > 0 else None


def _update(artifact: UUID, share: float, description: str) -> None:
    try:
        update_progress_artifact(artifact, 100 * share, description=description)
    except Exception as error:  # a server that does not answer must not end the work that it watches
        log.warning("Prefect was not told: %s", error)


def _artifact(name: str, share: float) -> UUID | None:
    try:
        # keys hold lower-case letters, digits and dashes only
        made = create_progress_artifact(100 * share, key=re.sub(r"[^a-z0-9]+", "-", name.lower()), description=name)
        return made if isinstance(made, UUID) else None
    except Exception as error:  # as above
        log.warning("Prefect was not told: %s", error)
        return None


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "begun"
    return f"{seconds:.0f} s left" if seconds < 120 else f"{seconds / 60:.0f} min left"
