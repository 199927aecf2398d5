"""How fast to ask, and when to stop asking: a pacer that spaces requests, and a breaker that opens on refusals.

Both are shared by all threads of a fetch. Times are seconds of a monotonic clock; clock and sleep are given, so
that tests need not wait.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

log = logging.getLogger("prism.fetch")


class Pacer:
    """At most `rate` calls a second, evenly spaced, however many threads call."""

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.rate = rate
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._free = -math.inf  # when the next call may go

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._free)
            self._free = turn + 1 / self.rate
        if turn > now:
            self._sleep(turn - now)


class Breaker:
    """Stops everyone when the source says that it is asked too often.

    The k-th opening lasts `pause` 2^(k-1) seconds, or as long as the source demands if that is more, at most
    `longest`. The opening number `openings` ends the run: there is no further try.
    """

    def __init__(
        self, pause: float, longest: float, openings: int,
        clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep,
    ) -> None:  # fmt: skip
        self._pause, self._longest, self._openings = pause, longest, openings
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._count = 0
        self._opened = self._until = -math.inf

    @property
    def count(self) -> int:
        """How often it has opened."""
        return self._count

    @property
    def ended(self) -> bool:
        """Whether the last opening was one too many."""
        return self._count >= self._openings

    def remaining(self) -> float:
        """Seconds until requests may go again; 0 when they may, infinite when they never will."""
        return math.inf if self.ended else max(0.0, self._until - self._clock())

    def trip(self, sent: float, demanded: float | None = None) -> None:
        """A request sent at `sent` was refused; the source demands a pause of `demanded` seconds, or none.

        Refusals of requests that were under way when it opened belong to that opening, and only prolong it.
        """
        with self._lock:
            now, asked = self._clock(), demanded or 0.0
            if sent <= self._opened:
                self._until = max(self._until, now + min(asked, self._longest))
                return
            length = min(max(self._pause * 2**self._count, asked), self._longest)
            self._count += 1
            self._opened, self._until = now, now + length
        after = "ending the run" if self.ended else f"waiting {length:.0f} s"
        log.warning("prices: too many requests, refusal %d of %d; %s", self._count, self._openings, after)

    def wait(self) -> None:
        """Return when requests may go again; at once when they never will, or when the sleep says to stop."""
        while 0 < (left := self.remaining()) < math.inf:
            if self._sleep(left):
                return


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds from `now` (UTC, no zone) that a Retry-After header demands, as a number or a date; None if none."""
    text = (header or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return max(0.0, (moment - now).total_seconds())
