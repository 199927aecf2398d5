"""mark_live: each session's evening, what was published is marked to market."""

from datetime import timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import lines
from flows.endings import in_words
from flows.lines import MAIN
from flows.rebalance import RUNNER, recorded
from storage import catalog, clock
from storage.errors import NoDataError
from storage.store import open_store
from tasks import calendars, live, panels

_SETTLE = timedelta(minutes=30)  # after the close, until a session's bars count as final


@flow(name="mark_live", task_runner=RUNNER, flow_run_name="mark live", timeout_seconds=2 * 3600)
@in_words
def mark_live(path: str | None = None) -> State[dict[str, Any]]:
    """Bring in the newest prices and mark all completed sessions that are not marked yet.

    The state says what came of it: Completed, Stale where the last completed session has no prices, or Outside where
    the record has left the cone of its forecasts for 21 sessions in a row.
    """
    store = open_store()
    if not lines.decided_dates(MAIN):
        raise NoDataError("main has decided nothing, so there is nothing to mark; run `prism run` first")
    with recorded("live", MAIN) as diary:
        with diary.stage("ingest"):
            line = lines.open_line(MAIN, path=path)
        loaded = panels.load(store, line.newest.panel)
        done = calendars.last_completed(loaded.universe.exchange, clock.now(), _SETTLE)
        last = loaded.sessions[-1].item()
        with diary.stage("live"):
            marked = live.mark(line.newest.panel, MAIN, min(done, last))
        catalog.rebuild(store)
    result = {"scenario": MAIN, "new": marked.new, "session": marked.session, "wealth": marked.wealth}
    result |= {"outside": marked.outside, "alert": marked.alert, "prices_to": last, "last_completed": done}
    return Completed(data=result, **_said(result))


def _said(result: dict[str, Any]) -> dict[str, str]:
    """Name and message of the state."""
    if result["prices_to"] < result["last_completed"]:
        said = f"prices end at {result['prices_to']}, and the session of {result['last_completed']} is over"
        return {"name": "Stale", "message": f"{said}; see `prism doctor`"}
    if result["session"] is None:
        return {"name": "Completed", "message": "nothing that was published has traded yet"}
    said = f"{result['new']} sessions marked up to {result['session']}, wealth {result['wealth']:.4f}"
    if result["alert"]:
        said += f"; outside the 90 % cone of the forecasts for {result['outside']} sessions in a row"
        return {"name": "Outside", "message": said}
    return {"name": "Completed", "message": said}
