"""A run of which nothing has changed since it was last done: what it came to then is what it comes to now.

An answer is kept in PRISM_CACHE under a key that names all that it depends on: what was asked, the scenario's terms and
prices, every file of the store's tables as a listing shows it, what runs did not complete, all source, the libraries
and the settings. So whatever is written, corrected, repaired, lost or edited has every stage look again, as it does
where the cache was deleted. The prices of the newest snapshot are read and checked all the same.

Kept is what a run came to that decided by itself: nobody was asked, and no other process wrote to the tables meanwhile.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from flows import artifacts, strategies
from flows.diary import Diary
from flows.lines import Line
from flows.outlook import Outlook
from flows.provenance import libraries, sources
from storage import blobs, catalog, listing, snapshots, tables
from storage.keys import Moment, canonical, digest, name_of
from storage.settings import Settings, current
from storage.store import Store, open_store
from tasks import caching, memos
from tasks.report import write_report

_SETTINGS = {"device", "train_device", "train_deployment", "report", "report_url"}


@dataclass(frozen=True)
class Question:
    """What a run was asked, and how the tables stood then."""

    line: Line
    words: tuple[Any, ...]  # the command, and what chooses its dates
    versions: dict[str, int]  # of the tables

    def key(self) -> str:
        """Names all that the answer depends on, as it is at this moment."""
        store, own = open_store(), [strategies.own_source(segment.parameters) for segment in self.line.segments]
        terms = [(segment.terms, segment.panel) for segment in self.line.segments]
        asked = [store.identity, str(store.root), self.line.scenario, terms, self.words]
        by = [caching.project(), sources(), libraries(), own]
        settings = current(Settings).model_dump(include=_SETTINGS)
        return digest([asked, by, settings, listing.of_tables(store), _failures(store, self.line.scenario)])


@dataclass(frozen=True)
class Answer:
    """What a run came to, and what it put beside itself in Prefect's UI."""

    result: dict[str, Any]
    asked: tuple[date, date]  # first and last rebalance date
    newest: Moment  # of those asked
    answers: dict[str, int]  # that the dates need, by stage
    reused: dict[str, int]  # the same of every stage that was run, in order
    published: dict[str, str]
    status: str  # Markdown, as the next one
    opening: str  # of the summary
    publish: str  # the strategy that the report is about


def ask(line: Line, *words: Any) -> Question:
    """The question of a run that begins."""
    return Question(line, words, tables.versions(open_store()))


def find(question: Question) -> Answer | None:
    """What is known of it; None where the stages are to look."""
    known = None if question.line.pending else _answer(memos.read(question.key()))
    if known is not None:
        _check_prices(open_store(), question.line.newest.panel.snapshot)
    return known


def _answer(values: Any) -> Answer | None:
    """An answer from its memo; None where that is none."""
    try:
        first, last = map(date.fromisoformat, values["asked"])
        newest = {name: date.fromisoformat(values["newest"][name]) for name in ("rebalance_date", "as_of")}
        return Answer(**values | {"asked": (first, last), "newest": Moment(**values["newest"] | newest)})
    except (TypeError, KeyError, ValueError):
        return None


def keep(question: Question, wanted: Sequence[Moment], result: dict[str, Any], diary: Diary) -> None:
    """Remember what a run came to, unless another process wrote meanwhile, or no run of Prefect's is under way."""
    if diary.shown is None or diary.asked is None or not tables.are_ours(open_store(), question.versions):
        return
    known = Answer(
        result=result | {"decided": []},
        asked=diary.asked,
        newest=wanted[-1],
        answers=diary.answers,
        reused={stage: diary.answers.get(stage, 0) for stage in diary.reused},
        published=diary.published,
        **asdict(diary.shown),
    )
    memos.write(question.key(), canonical(known))


def plan(known: Answer) -> str:
    """The plan of a run that has nothing to do, as Markdown."""
    return Outlook([{"stage": name, "missing": 0, "seconds": None} for name in known.answers], []).markdown()


def again(line: Line, known: Answer, diary: Diary) -> dict[str, Any]:
    """Give the answer as the run did that found it, with its artifacts, its report and its row in the diary."""
    diary.asked, diary.published, diary.reused = known.asked, known.published, known.reused
    diary.watch(" to ".join(dict.fromkeys(name_of(day, known.newest.daily) for day in known.asked)), 1)
    report = None
    if current(Settings).report:
        with diary.stage("report"):
            report = write_report(line.scenario, known.publish, known.opening)
    catalog.rebuild(open_store())
    artifacts.show("status", line.scenario, lambda: known.status)
    diary.step(1, "nothing has changed")
    return known.result | {"report": report}


def _failures(store: Store, scenario: str) -> list[str]:
    """The scenario's runs that were not completed: the grid of dates tells of them."""
    rows = tables.read(store, "runs", ["run", "status"], scenario=scenario).to_pylist()
    return sorted(row["run"] for row in rows if row["status"] != "completed")


def _check_prices(store: Store, snapshot: str) -> None:
    """Raise StoreError where bars of a snapshot are missing or damaged."""
    for month in snapshots.manifest(store, snapshots.load(store, snapshot)).values():
        blobs.get(store, month["blob"])
