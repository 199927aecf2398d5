"""One ticker's delivery against what is stored of it: whether it fits, and what of it may be stored.

A live source may add sessions and revise a few; prices on another scale, or a past that is mostly another one, are
not taken on its word. What it would revise and the gate doubts keeps its stored values, and the newer sessions are
judged by themselves; so a bad row of the past that a person accepted once stays out without being asked for again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from storage import bars
from storage.settings import current
from storage.universe import major
from tasks import calendars
from tasks.fetch import distributions, gate
from tasks.fetch.delivery import Delivery, Run, Taken
from tasks.fetch.gate import Verdict
from tasks.fetch.settings import QualitySettings, YahooSettings
from tasks.numerics import overlap

NO_BARS = pd.DataFrame({"ticker": pd.Series(dtype=str), "session": pd.Series(dtype="datetime64[s]")}).assign(
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
        return next((self.bars[ticker] for ticker in tickers if ticker in self.bars), NO_BARS)


def judged(run: Run, delivery: Delivery, known: Known) -> Taken:
    """How the delivery fits what is stored, and the gate's verdict on it."""
    stored = known.of(delivery.ticker)
    if len(stored) and delivery.is_rate != bars.are_rates(stored):
        kinds = ("a rate", "prices") if delivery.is_rate else ("prices", "a rate")
        return _refused(delivery, "no_overlap", "rejected", f"it came as {kinds[0]} and is stored as {kinds[1]}")
    if delivery.is_rate:
        rows = delivery.bars[delivery.bars["close"].notna()]
        return Taken(delivery, "ok", Verdict(rows, gate.NO_FINDINGS, "ok", None))
    said = str(delivery.identity.get("currency", ""))
    if delivery.currency and major(delivery.currency) != major(said):
        detail = f"it is quoted in {said} and the universe says {delivery.currency}; correct the universe's currency"
        return _refused(delivery, "ok", "rejected", detail)
    fit, misfit = _fit(run, delivery, known)
    if misfit and delivery.ticker not in run.accepted:
        detail = f"the prices do not fit the stored ones: {misfit}"
        return _refused(delivery, fit, "rejected" if delivery.full else "refetch", detail)
    return _passed(run, delivery, known, fit)


def _fit(run: Run, delivery: Delivery, known: Known) -> tuple[str, str]:
    """The verdict on the overlap, and for a live source what is wrong with it; empty where nothing is."""
    stored = known.of(delivery.ticker, *run.aliases.get(delivery.ticker, ()))
    if stored.empty:
        return "first", ""
    days = (stored["session"].to_numpy(), delivery.bars["session"].to_numpy())
    _, before, now = np.intersect1d(*days, assume_unique=True, return_indices=True)
    closes = stored["close"].to_numpy()[before], delivery.bars["close"].to_numpy()[now]
    found = overlap.verdict(*closes, current(QualitySettings).overlap)
    return found.kind, _misfit(found, len(stored)) if delivery.live else ""


def _misfit(found: overlap.Overlap, stored: int) -> str:
    if found.kind == "rescaled":
        return f"they are {found.ratio:.6g} times as high"
    if found.kind == "no_overlap" and (stored >= overlap.FEWEST or found.differing.any()):
        return f"they share fewer than {overlap.FEWEST} sessions"
    share = found.differing.mean() if found.differing.size else 0.0
    few = current(YahooSettings).revised_share
    return f"{share:.0%} of the shared sessions differ" if found.kind == "revised_rows" and share > few else ""


def _passed(run: Run, delivery: Delivery, known: Known, fit: str) -> Taken:
    """What the gate lets pass; a doubtful revision does not keep newer sessions waiting."""
    limits, stored, accepted = current(QualitySettings), known.of(delivery.ticker), delivery.ticker in run.accepted
    delivery = distributions.booked(delivery, known.actions)
    if accepted:
        delivery = distributions.accepted(delivery, limits.unexplained)
    context = _context(run, delivery, known, accepted)
    rows = _continued(stored, delivery)
    verdict = gate.judge(delivery.ticker, rows, context, limits)
    if delivery.live and len(stored) and _doubts_the_past(verdict, stored["session"].max()):
        again = gate.judge(delivery.ticker, _as_stored(rows, stored, limits.overlap), context, limits)
        newer = again.bars[again.bars["session"] > stored["session"].max()]
        verdict = replace(again, bars=newer, findings=_kept(verdict.findings, again.findings))
    begin = verdict.bars["session"].searchsorted(delivery.bars["session"].iloc[0])
    return Taken(delivery, fit, replace(verdict, bars=verdict.bars.iloc[begin:]))


def _doubts_the_past(verdict: Verdict, newest: pd.Timestamp) -> bool:
    """Whether the gate stopped at a session that is stored, or at nothing in particular."""
    held = verdict.held_from is not None and pd.Timestamp(verdict.held_from) <= newest
    return held or verdict.outcome == "rejected"


def _kept(doubts: pd.DataFrame, findings: pd.DataFrame) -> pd.DataFrame:
    """The findings on the newer sessions, and the doubts about the past, whose stored values are kept."""
    serious = doubts["action"].isin(["held", "quarantined"])
    return pd.concat([doubts[serious].assign(action="kept"), findings], ignore_index=True)


def _as_stored(rows: pd.DataFrame, stored: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """The delivered bars, but for the past as it is stored: its sessions, and its values wherever the closes differ."""
    rows = rows[(rows["session"] > stored["session"].max()) | rows["session"].isin(stored["session"])]
    values = stored.set_index("session")[bars.VALUES].reindex(rows["session"])
    close = rows["close"].to_numpy()
    differs = np.abs(values["close"].to_numpy() / close - 1) > tolerance
    mixed = rows.copy()
    mixed.loc[differs, bars.VALUES] = values[differs].to_numpy()
    mixed.loc[differs, "adj_close"] = np.nan
    return mixed


def _continued(stored: pd.DataFrame, delivery: Delivery) -> pd.DataFrame:
    """The delivered bars after the last stored ones before them, so that a file's seam is judged like any other day."""
    if delivery.live or stored.empty:
        return delivery.bars
    before = stored[: stored["session"].searchsorted(delivery.bars["session"].iloc[0])].tail(_CONTEXT)
    if before.empty or before["basis"].iloc[-1] != delivery.bars["basis"].iloc[0]:
        return delivery.bars
    same = before[before["basis"] == before["basis"].iloc[-1]][delivery.bars.columns]
    return pd.concat([same, delivery.bars], ignore_index=True)


def _refused(delivery: Delivery, fit: str, outcome: str, detail: str) -> Taken:
    return Taken(delivery, fit, Verdict(delivery.bars.iloc[:0], gate.NO_FINDINGS, outcome, None), detail)


def _context(run: Run, delivery: Delivery, known: Known, accepted: bool) -> gate.Context:
    exchange, days = run.exchange(delivery.ticker), delivery.bars["session"].to_numpy().astype("datetime64[D]")
    stored = known.of(delivery.ticker)
    first = min([*stored["session"].to_numpy()[:1].astype("datetime64[D]"), days[0]])
    return gate.Context(
        exchange=exchange,
        sessions=calendars.sessions(exchange, first - _BEFORE, delivery.expected or days[-1]),
        known=stored,
        actions=delivery.actions,
        identity=delivery.identity,
        known_identity=_known_identity(delivery, known, accepted),
        expects_last=delivery.live,
        accepted=accepted,
        conflicts=delivery.conflicts,
    )


def _known_identity(delivery: Delivery, known: Known, accepted: bool) -> Mapping[str, object]:
    """What the source said before; of an accepted ticker in the universe's currency the currency may change."""
    before = known.instruments.get(delivery.ticker, {})
    return {name: value for name, value in before.items() if name != "currency"} if accepted else before
