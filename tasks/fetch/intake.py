"""The one way by which bars reach a dataset, whatever their source: compare, judge, append.

A delivery is compared with what is stored, then judged by the quality gate; what may be stored is added as new rows
or as revisions with a later `known_from`. Nothing stored is changed, and a delivery that lacks known rows takes none
away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pandas as pd

from storage import actions, bars, clock, instruments
from storage.settings import current
from tasks import calendars
from tasks.fetch import diary, distributions, gate
from tasks.fetch.delivery import NO_ACTIONS, Delivery, Run, Taken
from tasks.fetch.judgement import NO_BARS, Known, judged
from tasks.fetch.settings import QualitySettings, YahooSettings


def take_in(run: Run, deliveries: Sequence[Delivery], rows: pd.DataFrame | None = None) -> list[Taken]:
    """Store what may be stored of a batch, with its actions, findings, restatements and diary.

    `rows`: the dataset's newest bars, where they were read already.
    """
    if rows is None:
        names = {name for each in deliveries for name in (each.ticker, *run.aliases.get(each.ticker, ()))}
        rows = bars.latest(run.store, run.dataset, tickers=names)
    known = _known(run, rows)
    taken = _outages(run, [judged(run, delivery, known) for delivery in deliveries])
    return _stored(run, taken, known)


def _known(run: Run, rows: pd.DataFrame) -> Known:
    """What the run's dataset holds of the tickers of `rows`, its bars."""
    by_ticker = {ticker: frame.reset_index(drop=True) for ticker, frame in bars.by_ticker(rows, rows["ticker"]).items()}
    return Known(by_ticker, actions.latest(run.store, run.dataset), instruments.latest(run.store, run.dataset))


def _outages(run: Run, taken: list[Taken]) -> list[Taken]:
    """The batch with its newest session held back where the source lost it for most tickers of an exchange."""
    places: dict[tuple[str, date], list[Taken]] = {}
    for each in taken:
        if each.delivery.expected is not None and not each.delivery.is_rate:
            places.setdefault((run.exchange(each.ticker), each.delivery.expected), []).append(each)
    held: dict[str, Taken] = {}
    for (exchange, last), there in places.items():
        verdicts = {each.ticker: each.verdict for each in there}
        first = min(each.delivery.bars["session"].min() for each in there).date()
        found = gate.judge_together(verdicts, calendars.sessions(exchange, first, last), current(QualitySettings))
        diary.findings(run, found)
        if found["action"].eq("held").any():
            held |= {each.ticker: _without(each, last) for each in there}
    return [held.get(each.ticker, each) for each in taken]


def _without(taken: Taken, day: date) -> Taken:
    """The delivery with that session and later ones waiting."""
    rows = taken.verdict.bars
    verdict = replace(taken.verdict, bars=rows[rows["session"] < pd.Timestamp(day)], held_from=day)
    return replace(taken, verdict=verdict, detail=f"waits from {day} on, which the source lost for most tickers")


def _stored(run: Run, taken: list[Taken], known: Known) -> list[Taken]:
    """Append what is new or revised, and write the diary last: its rows say that all is there."""
    moment, good = clock.now(), [each for each in taken if each.verdict.outcome == "ok" and len(each.verdict.bars)]
    kept = [_storable(each) for each in good]
    rows = pd.concat(kept, ignore_index=True) if good else NO_BARS
    before = pd.concat([NO_BARS, *(known.of(each.ticker) for each in good)], ignore_index=True)
    live = any(each.delivery.live for each in good)
    new, revised = bars.news(before, rows.assign(source=run.source), _tolerances() if live else bars.EXACT)
    bars.append(run.store, run.dataset, pd.concat([new, revised]) if len(revised) else new, moment)
    since = {each.ticker: rows["session"].min() for each, rows in zip(good, kept, strict=True)}
    _store_actions(run, good, since, known, moment)
    said = {each.ticker: each.delivery.identity for each in good if each.delivery.identity}
    instruments.append(run.store, run.dataset, said, moment)
    added, changed = (frame["ticker"].value_counts() for frame in (new, revised))
    taken = [
        replace(each, new=int(added.get(each.ticker, 0)), restated=int(changed.get(each.ticker, 0))) for each in taken
    ]
    diary.write(run, taken, bars.changes(before, revised), moment)
    return taken


def _storable(taken: Taken) -> pd.DataFrame:
    """The bars as they are kept.

    A live source's adjusted close is on the scale of its moment, so it served the gate and is not kept. The first bar
    of a window may lack an action that lies before it, and is known already.
    """
    rows = taken.verdict.bars.assign(ticker=taken.ticker)
    if not taken.delivery.live:
        return rows
    inside = taken.delivery.full | (rows["session"] > taken.delivery.bars["session"].iloc[0])
    return rows[inside].assign(adj_close=np.nan)


def _tolerances() -> Mapping[str, float]:
    """Relative differences, by column, that are no revision."""
    prices = dict.fromkeys(["open", "high", "low", "close"], current(QualitySettings).overlap)
    return prices | {"dividend": 1e-4, "split": 1e-6, "volume": current(YahooSettings).volume_revision}


def _store_actions(
    run: Run, good: list[Taken], since: Mapping[str, pd.Timestamp], known: Known, moment: datetime
) -> None:
    """Actions of the stored sessions, on their own ex-dates; those that a source no longer lists are retracted.

    What a person booked (`distributions`) no source lists, and none retracts.
    """
    given, there = [NO_ACTIONS.assign(ticker="")], [known.actions[:0]]
    stored = dict(tuple(known.actions.groupby("ticker", sort=False)))
    for each in good:
        until = pd.Timestamp(each.verdict.held_from or pd.Timestamp.max)
        rows, mine = each.delivery.actions, stored.get(each.ticker)
        if len(rows):
            inside = (rows["ex_date"] >= since[each.ticker]) & (rows["ex_date"] < until)
            given.append(rows[inside].assign(ticker=each.ticker))
        if mine is not None:
            there.append(mine[(mine["ex_date"] < until) & (mine["kind"] != distributions.KIND)])
    listed = pd.concat(given, ignore_index=True)
    found = actions.news(pd.concat(there, ignore_index=True), listed, pd.Series(since, dtype="datetime64[s]"))
    actions.append(run.store, run.dataset, found, run.source, moment)
