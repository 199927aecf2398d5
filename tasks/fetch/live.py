"""The live source's run: whom to ask and for what, one run at a time, and whether enough of them answered.

A ticker whose newest completed session is stored is not asked again. One that is new, or was not yet asked for its
whole history in this calendar month, is asked for all of it; else for a window that overlaps what is stored. What was
fetched is stored batch by batch, so a run that dies or is cut off by the source goes on where it stopped.
"""

import gzip
import logging
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta

import pandas as pd
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from storage import bars, blobs, clock, ingests, snapshots
from storage.errors import NoDataError, SourceError
from storage.instruments import FIELDS
from storage.settings import Settings, current
from storage.snapshots import Snapshot
from storage.universe import Universe
from tasks import calendars, server
from tasks.fetch import diary, yahoo
from tasks.fetch.chart import Quote
from tasks.fetch.delivery import Delivery, Run, Taken, bars_of
from tasks.fetch.intake import take_in
from tasks.fetch.settings import YahooSettings
from tasks.locks import FlockManager

BATCH = 50  # tickers that are stored together
LOST = ("rate_limited", "network", "bad_payload", "no_data", "not_found", "config")
_LIMIT = "yahoo"  # the source counts by address, so two runs never ask at once
_SOLD = timedelta(days=7)  # after its last day an asset is sold at the next rebalance date at hand
_ASK_AGAIN = timedelta(days=30)  # a retired ticker, which may come back
log = logging.getLogger("prism.fetch")


@dataclass
class _Plan:
    """Whom to ask, for what; and who needs no asking."""

    wanted: dict[str, yahoo.Wanted] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)  # those of them asked for their whole history
    up_to_date: set[str] = field(default_factory=set)


def update(run: Run, chosen: Universe) -> Snapshot:
    """Bring the universe's tickers up to their last completed sessions; the snapshot of what is then known.

    Raises SourceError where fewer than the least share of them answered; what came is stored all the same.
    """
    with _alone():
        book = _Book(run, chosen)
        book.ask_all()
        diary.outcomes(run, [{"ticker": ticker, "outcome": "up_to_date"} for ticker in sorted(book.plan.up_to_date)])
        book.check()
        return _snapshot(run)


@contextmanager
def _alone() -> Iterator[None]:
    """One run at a time: on this machine by a lock that dies with its holder, on all by a limit of Prefect's server."""
    lock, holder = FlockManager(), uuid.uuid4().hex
    if not lock.is_free(_LIMIT):
        log.info("prices: another run asks the source; waiting for it")
    lock.acquire_lock(_LIMIT, holder)
    try:
        # without a server there are no other machines, and the slot of a run that was killed would stay taken
        if not server.lasts():
            yield
            return
        with get_client(sync_client=True) as client:
            client.upsert_global_concurrency_limit_by_name(_LIMIT, 1)
        with concurrency(_LIMIT, occupy=1, strict=True):
            yield
    finally:
        lock.release_lock(_LIMIT, holder)


class _Planner:
    """What is stored and was asked, and what follows for each ticker."""

    def __init__(self, run: Run, chosen: Universe) -> None:
        self.run, self.chosen, self.settings, self.now = run, chosen, current(YahooSettings), clock.now()
        self.stored = bars.latest(run.store, run.dataset).groupby("ticker")["session"].max()
        self.asked = ingests.newest(run.store, run.dataset)
        self.retired = ingests.retired(run.store, run.dataset, self.settings.retire_days)

    def plan(self) -> _Plan:
        """The whole run's."""
        made = _Plan()
        for ticker in sorted({member.ticker for member in self.chosen.members}):
            before = self.asked.get(ticker, ingests.NEVER)
            again = ticker in self.run.accepted or self.now - before.at >= _ASK_AGAIN
            if ticker not in self.retired or again:
                self.add(made, ticker)
            if before.outcome == "not_found":
                self.add_aliases(made, ticker)
        return made

    def add_aliases(self, made: _Plan, ticker: str) -> list[str]:
        """Ask for the other names of a ticker that the source does not know: it may be renamed."""
        names = [name for name in self.run.aliases.get(ticker, ()) if name not in made.wanted]
        for name in names:
            self.add(made, name)
        return [name for name in names if name in made.wanted]

    def add(self, made: _Plan, ticker: str) -> None:
        """One name: nothing to do, its whole history, or a window that overlaps what is stored."""
        exchange, before = self.chosen.exchanges[ticker], self.asked.get(ticker, ingests.NEVER)
        last = calendars.last_completed(exchange, self.now, timedelta(minutes=self.settings.settle))
        newest = self.stored[ticker].date() if ticker in self.stored else None
        accepted = ticker in self.run.accepted
        done = newest is not None and (newest >= last or self._is_over(ticker, before))
        if done and not accepted:
            made.up_to_date.add(ticker)
            return
        since = self.settings.since
        if newest is not None and before.full_month == f"{self.now:%Y-%m}" and not accepted:
            earliest = newest - timedelta(days=2 * self.settings.overlap)
            since = calendars.sessions(exchange, earliest, newest)[-self.settings.overlap :][0].item()
        else:
            made.full.add(ticker)
        made.wanted[ticker] = yahoo.Wanted(ticker, calendars.timezone(exchange), since, last)

    def _is_over(self, ticker: str, before: ingests.Asked) -> bool:
        """Whether its last day in the universe has passed, and bars were taken well after the sale that follows."""
        members = [member for member in self.chosen.members if ticker in (member.ticker, *member.aliases)]
        left = max(member.delisted or member.last for member in members)
        return before.ok_at is not None and before.ok_at.date() - _SOLD > left


class _Book:
    """What came of a run so far, stored batch by batch."""

    def __init__(self, run: Run, chosen: Universe) -> None:
        self.run, self.chosen, self.planner = run, chosen, _Planner(run, chosen)
        self.plan = self.planner.plan()
        self.waiting: list[yahoo.Answer] = []
        self.unfit: list[str] = []  # their window does not fit what is stored
        self.lost: dict[str, yahoo.Answer] = {}

    def ask_all(self) -> None:
        """Fetch and store what the plan wants; then whole histories where a window did not fit, and renamed tickers."""
        self.ask(list(self.plan.wanted))
        renamed = [name for ticker in self._unknown() for name in self.planner.add_aliases(self.plan, ticker)]
        if self.unfit:
            log.info("prices: the whole history of %s, which does not fit what is stored", ", ".join(self.unfit))
        for ticker in self.unfit:
            self.plan.wanted[ticker] = replace(self.plan.wanted[ticker], since=self.planner.settings.since)
            self.plan.full.add(ticker)
        self.ask([*self.unfit, *renamed])
        known = {ticker for ticker in self._unknown() if self._renamed(ticker)}
        self.lost = {ticker: answer for ticker, answer in self.lost.items() if ticker not in known}

    def _unknown(self) -> list[str]:
        return [ticker for ticker, answer in self.lost.items() if answer.outcome == "not_found"]

    def _renamed(self, ticker: str) -> bool:
        """Whether another name of the ticker was answered."""
        answered = self.plan.wanted.keys() - self.lost.keys() | self.plan.up_to_date
        return any(name in answered for name in self.run.aliases.get(ticker, ()))

    def ask(self, tickers: Sequence[str]) -> None:
        """Fetch and store."""
        if not tickers:
            return
        place, wanted = current(Settings), [self.plan.wanted[ticker] for ticker in tickers]
        proxy = place.proxy.get_secret_value() if place.proxy else None
        try:
            yahoo.fetch(wanted, _limits(), proxy, place.ca_file, place.cache.expanduser(), self.note)
        finally:  # what came before a person's Ctrl-C, too
            self.flush()

    def note(self, answer: yahoo.Answer) -> None:
        """Take an answer, and store a batch when there are enough."""
        self.waiting.append(answer)
        if len(self.waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Store what waits."""
        answers, self.waiting = self.waiting, []
        given = [answer for answer in answers if answer.quote is not None]
        payloads = blobs.put_all(self.run.store, [gzip.compress(answer.quote.raw, mtime=0) for answer in given])
        deliveries = [self._delivery(answer, payload) for answer, payload in zip(given, payloads, strict=True)]
        taken = take_in(self.run, deliveries)
        self.unfit += [each.ticker for each in taken if each.verdict.outcome == "refetch"]
        for each in taken:
            self._say(each)
        without = [answer for answer in answers if answer.quote is None]
        self.lost |= {answer.ticker: answer for answer in without if answer.outcome in LOST}
        diary.outcomes(self.run, [_row(answer) for answer in without])

    def _say(self, taken: Taken) -> None:
        """Name what was not taken, or not whole; a quarantined ticker counts as not answered."""
        said = diary.sentence(taken)
        if taken.verdict.outcome == "rejected":
            log.warning("prices: %s is quarantined: %s (--accept %s takes it)", taken.ticker, said, taken.ticker)
            self.lost[taken.ticker] = yahoo.Answer(taken.ticker, "rejected", None, 0, 0, said)
        elif said and taken.verdict.outcome == "ok":
            log.warning("prices: %s waits: %s", taken.ticker, said)

    def _delivery(self, answer: yahoo.Answer, payload: str) -> Delivery:
        quote = answer.quote
        return Delivery(
            answer.ticker,
            self._bars(quote),
            quote.actions,
            identity={name: getattr(quote, name) for name in FIELDS},
            currency="" if answer.ticker == self.chosen.risk_free else self.chosen.currencies[answer.ticker],
            expected=self.plan.wanted[answer.ticker].last_completed,
            full=answer.ticker in self.plan.full,
            diary={"attempts": answer.attempts, "requests": answer.requests, "payload": payload},
        )

    def _bars(self, quote: Quote) -> pd.DataFrame:
        """Bars as traded; of an exchange rate or a yield nothing but the close."""
        if quote.ticker == self.chosen.risk_free:
            return bars_of(quote.bars[["session", "close"]], "yield")
        if quote.ticker in self.chosen.rates:
            return bars_of(quote.bars[["session", "close"]], "traded")
        return bars_of(quote.bars, "traded")

    def check(self) -> None:
        """Raise SourceError where too few answered; name those that are missing."""
        settings, count = self.planner.settings, len(self.plan.wanted) + len(self.plan.up_to_date)
        if not self.lost:
            return
        share, first = 1 - len(self.lost) / count, next(iter(self.lost.values()))
        kinds = Counter(answer.outcome for answer in self.lost.values())
        words = ", ".join(f"{number} {outcome}" for outcome, number in sorted(kinds.items()))
        if share < settings.least_share:
            raise SourceError(
                f"only {count - len(self.lost)} of {count} tickers were taken ({words}; {first.ticker}: "
                f"{first.detail}); what came is kept: {_next_step(kinds)}"
            )
        log.warning("prices: nothing new of %s (%s)", ", ".join(sorted(self.lost)), words)
        if share < settings.complete_share:
            log.warning("prices: %d of %d tickers were taken; the others are stale", count - len(self.lost), count)


def _next_step(kinds: Counter[str]) -> str:
    if kinds["config"]:
        return "correct the settings, and run the same command again"
    if kinds["rejected"]:
        return "look at `prism doctor`, and take what is right with --accept"
    wrong = "correct the names in the universe, or " if kinds["not_found"] else ""
    return f"{wrong}run the same command again later"


def _limits() -> yahoo.Limits:
    """The client's own settings."""
    given = current(YahooSettings).model_dump()
    return yahoo.Limits(**{entry.name: given[entry.name] for entry in fields(yahoo.Limits) if entry.name in given})


def _row(answer: yahoo.Answer) -> dict:
    return {"ticker": answer.ticker, "outcome": answer.outcome, "detail": answer.detail} | {
        "attempts": answer.attempts,
        "requests": answer.requests,
    }


def _snapshot(run: Run) -> Snapshot:
    """The snapshot of what is known now; the newest one where nothing changed since."""
    gone = ingests.retired(run.store, run.dataset, current(YahooSettings).retire_days)
    known = bars.latest(run.store, run.dataset)
    if known.empty:
        raise SourceError(f"no ticker of dataset {run.dataset} has prices; `prism doctor` says what was answered")
    retired = {ticker: day for ticker, day in gone.items() if (known["ticker"] == ticker).any()}
    for ticker, day in retired.items():
        log.warning("prices: %s is unknown to the source since %s and counts as delisted", ticker, day)
    try:
        newest = snapshots.newest(run.store, run.dataset)
        if newest.known_at >= known["known_from"].max() and snapshots.delisted(run.store, newest) == retired:
            return newest
    except NoDataError:  # the first one
        pass
    return snapshots.take(run.store, run.dataset, known, clock.now(), run.name, retired)
