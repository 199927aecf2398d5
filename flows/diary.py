"""The diary: what a run did, stage by stage, and how it ended. Every run leaves one row of the table `runs`."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime

import pyarrow as pa

from flows.zombies import watched
from storage import clock, tables
from storage.keys import to_json
from storage.schemas import TABLES
from storage.store import open_store
from tasks.progress import Progress

_DECIDING = "decide"  # of which the run says itself how many dates are new


@dataclass(frozen=True)
class Shown:
    """What a run put beside itself in Prefect's UI, and the strategy that its report is about."""

    status: str  # Markdown, as the next one
    opening: str  # of the summary
    publish: str


@dataclass
class Diary:
    """What a run did: computed answers and seconds of each stage, and which dates it was asked for."""

    command: str
    scenario: str
    started: datetime = field(default_factory=clock.now)
    stages: dict[str, list[float]] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)  # answers that were stored already, by stage
    asked: tuple[date, date] | None = None  # first and last rebalance date
    answers: dict[str, int] = field(default_factory=dict)  # that the dates need, by stage
    shown: Shown | None = None
    published: dict[str, str] = field(default_factory=dict)  # dates published before: identical, or why they differ
    is_kept: bool = False  # a run of its own, whose progress people watch
    _progress: Progress | None = None
    _done: float = 0.0
    _steps: float = 1.0

    @contextmanager
    def stage(self, name: str, computed: int = 0, reused: int = 0) -> Iterator[None]:
        """Time a stage."""
        begin = time.monotonic()
        yield
        count, seconds = self.stages.get(name, [0, 0.0])
        self.stages[name] = [count + computed, round(seconds + time.monotonic() - begin, 3)]
        self.reused[name] = self.reused.get(name, 0) + reused

    def watch(self, what: str, steps: float) -> None:
        """Show the progress of `what`, which takes so many steps."""
        if self.is_kept:
            self._progress, self._done, self._steps = Progress(f"{self.command} {what}"), 0.0, max(steps, 1.0)

    def step(self, steps: float, what: str) -> None:
        """Some more steps are done, the last of them `what`."""
        self._done += steps
        if self._progress is not None:
            self._progress.tell(min(self._done / self._steps, 1.0), what)

    def words(self) -> str:
        """What was computed, and what was stored already, in one sentence."""
        computed = {name: int(count) for name, (count, _) in self.stages.items() if count}
        computed.pop(_DECIDING, None)
        said = [f"computed {_counted(computed)}" if computed else "computed nothing"]
        stored = {name: count for name, count in self.reused.items() if count}
        return "; ".join(said + ([f"from the cache {_counted(stored)}"] if stored else []))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


@contextmanager
def recorded(command: str, scenario: str) -> Iterator[Diary]:
    """Write the run to the diary when it ends: completed, failed, or cancelled where a person or a signal ended it."""
    diary, status, detail = Diary(command, scenario, is_kept=True), "completed", ""
    try:
        with watched():
            yield diary
    except BaseException as error:
        status = "failed" if isinstance(error, Exception) else "cancelled"
        detail = str(error) or type(error).__name__
        raise
    finally:
        first, last = diary.asked or (None, None)
        row = {"run": uuid.uuid4().hex, "command": command, "scenario": scenario, "status": status, "detail": detail}
        row |= {"started_at": diary.started, "finished_at": clock.now(), "stages": to_json(diary.stages)}
        row |= {"first_date": first, "last_date": last}
        tables.append(open_store(), "runs", pa.Table.from_pylist([row], TABLES["runs"].schema))
