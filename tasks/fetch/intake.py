"""The one way by which bars reach a dataset, whatever their source: compare, judge, append.

A delivery is compared with what is stored, then judged by the quality gate; what may be stored is added as new rows
or as revisions with a later `known_from`. Nothing stored is changed, and a delivery that lacks known rows takes none
away.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import numpy as np
import pandas as pd

from storage import actions, bars, clock, instruments
from storage.universe import major
from tasks import calendars
from tasks.fetch import diary, distributions, gate
from tasks.fetch.delivery import NO_ACTIONS, Delivery, Run, Taken
from tasks.fetch.gate import Verdict
from tasks.fetch.settings import QualitySettings, YahooSettings
from tasks.numerics import overlap

_SINGLE = 2e-4  # relative: prices in single precision wobble between calls
_NO_BARS = pd.DataFrame({"ticker": pd.Series(dtype=str), "session": pd.Series(dtype="datetime64[s]")}).assign(
    **dict.fromkeys(bars.VALUES, pd.Series(dtype=float)), basis=pd.Series(dtype=str)
)
_CONTEXT = 60  # stored sessions that a file's first bar is judged with
_BEFORE = np.timedelta64(14, "D")  # of calendar before a delivery's first bar


@dataclass(frozen=True)
class Known:
    """What a dataset holds."""

    bars: dict[str, pd.DataFrame]  # by ticker
    actions: pd.DataFrame
    instruments: Mapping[str, Mapping[str, object]]

    def of(self, *tickers: str) -> pd.DataFrame:
        """Bars of the first of these names that has any."""
        return next((self.bars[ticker] for ticker in tickers if ticker in self.bars), _NO_BARS)


def take_in(run: Run, deliveries: Sequence[Delivery]) -> list[Taken]:
    """Store what may be stored of a batch, with its actions, findings, restatements and diary."""
    known = _known(run, {name for each in deliveries for name in (each.ticker, *run.aliases.get(each.ticker, ()))})
    taken = _outages(run, [judged(run, delivery, known) for delivery in deliveries])
    return _stored(run, taken, known)


def _known(run: Run, tickers: Collection[str]) -> Known:
    """What the run's dataset holds of them."""
    rows = bars.latest(run.store, run.dataset, tickers=tickers)
    by_ticker = {ticker: frame.reset_index(drop=True) for ticker, frame in rows.groupby("ticker", sort=False)}
    return Known(by_ticker, actions.latest(run.store, run.dataset), instruments.latest(run.store, run.dataset))


def judged(run: Run, delivery: Delivery, known: Known) -> Taken:
    """How the delivery fits what is stored, and the gate's verdict on it."""
    ticker, accepted = delivery.ticker, delivery.ticker in run.accepted
    if delivery.is_rate:
        rows = delivery.bars[delivery.bars["close"].notna()]
        return Taken(delivery, "ok", Verdict(rows, gate.NO_FINDINGS, "ok", None))
    said = delivery.identity.get("currency", "")
    if delivery.currency and major(delivery.currency) != major(said):
        detail = f"it is quoted in {said} and the universe says {delivery.currency}; correct the universe's currency"
        return _refused(delivery, "ok", "rejected", detail)
    fit = _fit(known.of(ticker, *run.aliases.get(ticker, ())), delivery)
    if delivery.live and fit.kind in ("rescaled", "no_overlap") and not accepted:
        detail = f"the prices do not fit the stored ones: {fit.kind}, by a factor of {fit.ratio:.6g}"
        return _refused(delivery, fit.kind, "rejected" if delivery.full else "refetch", detail)
    limits = QualitySettings()
    delivery = distributions.booked(delivery, known.actions)
    if accepted:
        delivery = distributions.accepted(delivery, limits.unexplained)
    rows = _continued(known.of(ticker), delivery)
    verdict = gate.judge(ticker, rows, _context(run, delivery, known, accepted), limits)
    given = verdict.bars[verdict.bars["session"] >= delivery.bars["session"].iloc[0]]
    return Taken(delivery, fit.kind, replace(verdict, bars=given))


def _continued(stored: pd.DataFrame, delivery: Delivery) -> pd.DataFrame:
    """The delivered bars after the last stored ones before them, so that a file's seam is judged like any other day."""
    before = stored[stored["session"] < delivery.bars["session"].iloc[0]].tail(_CONTEXT)
    if delivery.live or before.empty or before["basis"].iloc[-1] != delivery.bars["basis"].iloc[0]:
        return delivery.bars
    return pd.concat([before[before["basis"] == before["basis"].iloc[-1]][delivery.bars.columns], delivery.bars])


def _refused(delivery: Delivery, fit: str, outcome: str, detail: str) -> Taken:
    return Taken(delivery, fit, Verdict(delivery.bars.iloc[:0], gate.NO_FINDINGS, outcome, None), detail)


def _fit(stored: pd.DataFrame, delivery: Delivery) -> overlap.Overlap:
    """How the delivered closes fit those stored of the same sessions."""
    if stored.empty:
        return overlap.Overlap("first", np.nan, np.zeros(0, bool))
    both = stored[["session", "close"]].merge(delivery.bars[["session", "close"]], on="session", suffixes=("", "_new"))
    return overlap.verdict(both["close"].to_numpy(), both["close_new"].to_numpy(), _SINGLE)


def _context(run: Run, delivery: Delivery, known: Known, accepted: bool) -> gate.Context:
    exchange, days = run.exchange(delivery.ticker), delivery.bars["session"].to_numpy().astype("datetime64[D]")
    stored = known.of(delivery.ticker)
    first = min([*stored["session"].to_numpy().astype("datetime64[D]")[:1], days[0]])
    return gate.Context(
        exchange=exchange,
        sessions=calendars.sessions(exchange, first - _BEFORE, delivery.expected or days[-1]),
        known=stored,
        actions=delivery.actions,
        identity=delivery.identity,
        known_identity=known.instruments.get(delivery.ticker, {}),
        expects_last=delivery.live,
        accepted=accepted,
        conflicts=delivery.conflicts,
    )


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
        found = gate.judge_together(verdicts, calendars.sessions(exchange, first, last), QualitySettings())
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
    rows = pd.concat([_storable(each) for each in good], ignore_index=True) if good else _NO_BARS
    before = pd.concat([_NO_BARS, *(known.of(each.ticker) for each in good)], ignore_index=True)
    live = any(each.delivery.live for each in good)
    new, revised = bars.news(before, rows.assign(source=run.source), _tolerances() if live else bars.EXACT)
    bars.append(run.store, run.dataset, pd.concat([new, revised]), moment)
    _store_actions(run, good, known, moment)
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
    return rows.assign(adj_close=np.nan).iloc[0 if taken.delivery.full else 1 :]


def _tolerances() -> Mapping[str, float]:
    """Relative differences, by column, that are no revision."""
    prices = dict.fromkeys(["open", "high", "low", "close"], _SINGLE)
    return prices | {"dividend": 1e-4, "split": 1e-6, "volume": YahooSettings().volume_revision}


def _store_actions(run: Run, good: list[Taken], known: Known, moment: datetime) -> None:
    """Actions of the stored sessions, on their own ex-dates; those that a source no longer lists are retracted."""
    given, since = [NO_ACTIONS.assign(ticker="")], {}
    for each in good:
        since[each.ticker] = _storable(each)["session"].min()
        rows = each.delivery.actions.assign(ticker=each.ticker)
        until = pd.Timestamp(each.verdict.held_from or pd.Timestamp.max)
        given.append(rows[(rows["ex_date"] >= since[each.ticker]) & (rows["ex_date"] < until)])
    there = known.actions[known.actions["ticker"].isin(list(since))]
    found = actions.news(there, pd.concat(given, ignore_index=True), pd.Series(since, dtype="datetime64[s]"))
    actions.append(run.store, run.dataset, found, run.source, moment)
