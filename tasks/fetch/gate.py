"""The quality gate: what of a ticker's delivery may be stored, and what must be said about it.

The rules are declared in `checks` and evaluated in `rules`; here they become a verdict. A fatal one stores nothing and
leaves the old data as they are; a hold takes the sessions before the offending one and lets the others wait; a warning
is reported. What is stored already, and would give the same return today, was judged when it came: it holds nothing
again. One finding is made for each ticker and rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from tasks.fetch import rules
from tasks.fetch.checks import BY_NAME, CHECKS, Check, Severity
from tasks.fetch.rules import Hit
from tasks.fetch.series import BoolArray, Context, DayArray, Series
from tasks.fetch.thresholds import Thresholds
from tasks.numerics.dates import among

__all__ = ["CHECKS", "NO_FINDINGS", "Check", "Context", "Severity", "Verdict", "judge", "judge_together"]

BASES = ("traded", "split", "adjusted")
NEVER_ACCEPTED = ("symbol_changed", "currency_changed")  # another asset's prices, or another unit's
DROPPED = ("nan_price", "nan_last")  # rows without a price are no bars, accepted or not
LATE = ("missing_last", "nan_last")

NO_FINDINGS = pd.DataFrame(
    {"ticker": pd.Series(dtype=str), "session": pd.Series(dtype="datetime64[s]"), "check_name": pd.Series(dtype=str)}
    | {"severity": pd.Series(dtype=str), "value": pd.Series(dtype=float), "action": pd.Series(dtype=str)}
    | {"detail": pd.Series(dtype=str)}
)


@dataclass(frozen=True)
class Verdict:
    """What becomes of one ticker's delivery."""

    bars: pd.DataFrame  # rows that may be stored, values unchanged
    findings: pd.DataFrame  # as NO_FINDINGS; action: refused | quarantined | held | reported | accepted | dropped
    outcome: str  # ok | rejected: nothing is stored
    held_from: date | None  # first session that waits


def judge(ticker: str, bars: pd.DataFrame, context: Context, thresholds: Thresholds) -> Verdict:
    """Judge one ticker's delivery.

    `bars` are its rows: session (datetime64[s], increasing), open, high, low, close, adj_close, volume, dividend,
    split (float64, NaN where absent) and basis, the same in all rows.

    Raises ValueError for sessions that do not increase, and for another or a mixed basis.
    """
    series = Series.of(bars)
    _check_order(ticker, series, bars)
    hits = list(rules.changed_identity(context))
    given = np.union1d(series.days, context.disputed) if context.conflicts else series.days
    for rule in rules.SIFTING:
        found = list(rule(series, context, thresholds))
        hits += found
        for hit in found:
            series = series.where(~among(series.days, hit.days))
    if len(series):
        on_calendar = given[among(given, context.sessions)] if context.sessions.size else given
        hits += rules.calendar(on_calendar, context, thresholds)
        hits += [hit for rule in rules.LOOKING for hit in rule(series, context, thresholds)]
    else:
        hits.append(Hit("no_usable_bar", given[:1], given.size, f"none of {given.size} rows can be used"))
    return _verdict(ticker, bars, series, hits, context, thresholds)


def _check_order(ticker: str, series: Series, bars: pd.DataFrame) -> None:
    unordered = np.flatnonzero(np.diff(series.days) <= np.timedelta64(0, "D"))
    if unordered.size:
        day = series.days[unordered[0] + 1]
        raise ValueError(f"{ticker} has a row of {day} after one of the same or a later day; sort, one row a session")
    if len(bars) and (series.basis not in BASES or len(bars["basis"].unique()) > 1):
        raise ValueError(f"{ticker} has the basis {', '.join(bars['basis'].unique())}; judge one of {', '.join(BASES)}")


def _verdict(
    ticker: str, bars: pd.DataFrame, series: Series, hits: Sequence[Hit], context: Context, thresholds: Thresholds
) -> Verdict:
    stored = _stored(series, context.known, thresholds.overlap)
    actions, waits = [], []
    for hit in hits:
        new = hit.days[~among(hit.days, stored)]
        actions.append(_action(BY_NAME[hit.name], context.accepted, len(new) > 0))
        if actions[-1] == "held":
            waits.append(new[0])
    held_from = min(waits, default=None)
    keep = series.days if held_from is None else series.days[series.days < held_from]
    rejected = "quarantined" in actions or not keep.size
    days = bars["session"].to_numpy().astype("datetime64[D]")
    return Verdict(
        bars=bars.iloc[:0] if rejected else bars[among(days, keep)],
        findings=_findings(ticker, hits, actions),
        outcome="rejected" if rejected else "ok",
        held_from=None if held_from is None else held_from.item(),
    )


def _stored(series: Series, known: pd.DataFrame, tolerance: float) -> DayArray:
    """Days on which the same return is stored: one that a decision may have used."""
    if known.empty:
        return series.days[:0]
    before = Series.of(known[known["basis"] == known["basis"].iloc[-1]])
    before = before.where(~np.isnan(before.price))
    if not len(before) or not len(series):
        return series.days[:0]
    place = np.minimum(np.searchsorted(before.days, series.days), len(before) - 1)
    there = before.days[place] == series.days
    follows = np.concatenate([[False], there[:-1]])
    same = ~(np.abs(before.returns[place] - series.returns) > tolerance)
    return series.days[there & follows & same]


def _action(check: Check, accepted: bool, new: bool) -> str:
    """What follows from a broken rule."""
    if check.name in DROPPED and (accepted or check.severity == "warn"):
        return "dropped"
    if check.severity == "warn":
        return "refused" if check.name == "session" else "reported"
    if check.severity == "fatal":
        return "refused" if accepted and check.name not in NEVER_ACCEPTED else "quarantined"
    if accepted:
        return "accepted"
    return "held" if new else "reported"


def _findings(ticker: str, hits: Sequence[Hit], actions: Sequence[str]) -> pd.DataFrame:
    if not hits:
        return NO_FINDINGS
    first = [hit.days[0] if hit.days.size else np.datetime64("NaT", "D") for hit in hits]
    columns: dict[str, Any] = {
        "ticker": [ticker] * len(hits),
        "session": np.array(first, "datetime64[s]"),
        "check_name": [hit.name for hit in hits],
        "severity": [BY_NAME[hit.name].severity for hit in hits],
        "value": np.array([hit.value for hit in hits], np.float64),
        "action": list(actions),
        "detail": [hit.detail for hit in hits],
    }
    return pd.DataFrame(columns)


def judge_together(verdicts: Mapping[str, Verdict], sessions: DayArray, thresholds: Thresholds) -> pd.DataFrame:
    """What the tickers of one exchange say together: findings with an empty ticker, `value` the share of them.

    `sessions` are the exchange's, up to the last completed one. A `source_outage` (action `held`) is an outage on that
    one: its session should wait for all of them, also for those that have it. Tickers that wait for other reasons, or
    were rejected, say nothing; of fewer than `thresholds.together` nothing is said.
    """
    heard = [verdict for verdict in verdicts.values() if verdict.outcome == "ok" and not _waits_alone(verdict)]
    listed, absent, still = (np.zeros(sessions.size) for _ in range(3))
    for verdict in heard:
        span, there, same = _attendance(verdict, sessions)
        listed += span
        absent += span & ~there
        still += same
    share_absent, share_odd = absent / np.maximum(listed, 1), (absent + still) / np.maximum(listed, 1)
    enough = listed >= thresholds.together
    closed, odd = enough & (share_absent > thresholds.calendar), enough & (share_odd > thresholds.outage)
    newest = np.arange(sessions.size) == sessions.size - 1
    hits = []
    for name, here, share, words in (
        ("calendar", closed, share_absent, "nearly all tickers lack a bar; look for an unscheduled closure"),
        ("source_gap", odd & ~closed & ~newest, share_odd, "many tickers lack a bar or repeat the price before"),
        ("source_outage", odd & newest, share_odd, "most tickers lack a bar or repeat the price before"),
    ):
        if here.any():
            days = sessions[here]
            hits.append(Hit(name, days, float(share[here].max()), f"{words} {rules.when(days)}"))
    return _findings("", hits, [_action(BY_NAME[hit.name], False, True) for hit in hits])


def _waits_alone(verdict: Verdict) -> bool:
    """Whether a ticker waits for a reason of its own, so that its newest sessions were cut off."""
    held = verdict.findings[verdict.findings["action"] == "held"]
    return not held["check_name"].isin(LATE).all()


def _attendance(verdict: Verdict, sessions: DayArray) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Sessions on which a ticker should have a bar, has one, and has one with the price before: (S,) each.

    It should from its first bar to its last, and to the newest session where the source was expected to reach it.
    """
    series = Series.of(verdict.bars)
    last = sessions[-1] if verdict.findings["check_name"].isin(LATE).any() else series.days[-1]
    span = (sessions >= series.days[0]) & (sessions <= last)
    there = among(sessions, series.days)
    same = among(sessions, series.days[series.returns == 0])
    return span, there, span & there & same
