"""Whether the prices are those of the moment: a decision rests on a session that is over, and on the newest one due.

A session that is still open has no close yet, whatever a file says. And what people trade on must not pass over a date
in silence because the prices of the session before it have not come.
"""

from datetime import timedelta

from flows.lines import Line
from storage import clock, universe
from storage.errors import InputError, SourceError
from storage.keys import Moment
from storage.store import open_store
from tasks import calendars
from tasks.fetch.settings import YahooSettings


def check(line: Line, newest: Moment, must_be_due: bool) -> None:
    """Refuse to decide `newest` where its as-of session is open or, if it must be, is not the newest one due.

    Raises:
        InputError: the session is not over.
        SourceError: a decision is due on a later session, whose prices are not there.

    """
    exchange, now = universe.load(open_store(), line.newest.panel.universe).exchange, clock.now()
    close = calendars.close_of(exchange, newest.as_of)
    if now < close:
        raise InputError(
            f"the session {newest.as_of} is not over, and {newest.month} is decided on its close; run it again after "
            f"{close:%Y-%m-%d %H:%M} UTC"
        )
    if must_be_due:
        settle = timedelta(minutes=YahooSettings().settle)
        due = calendars.due(exchange, now, settle, line.newest.parameters.schedule)
        if newest.as_of < due:
            raise SourceError(
                f"the newest prices of scenario {line.scenario} allow a decision on the session {newest.as_of}, and "
                f"one is due on {due}, which is over; bring its prices with `prism ingest`, and run it again"
            )
