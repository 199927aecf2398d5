"""Prices that come whole, without a network: the embedded sample, and a person's own files."""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from storage import bars, clock, snapshots
from storage.errors import InputError
from storage.keys import digest
from storage.settings import current
from storage.snapshots import Snapshot
from tasks import calendars
from tasks.caching import fingerprint
from tasks.fetch import diary, intake, judgement, sample
from tasks.fetch.delivery import NO_ACTIONS, Delivery, Run, Taken, bars_of
from tasks.fetch.files import read_prices
from tasks.fetch.settings import QualitySettings
from tasks.numerics.overlap import FEWEST

_JUDGING = tuple(
    f"tasks.fetch.{name}"
    for name in ("files", "intake", "judgement", "distributions", "gate", "checks", "rules", "series", "thresholds")
)
RESCALED = 1e-5  # relative: more than vendors' rounding
log = logging.getLogger("prism.fetch")


@dataclass(frozen=True)
class Read:
    """What was understood of a source."""

    deliveries: tuple[Delivery, ...]
    refused: pd.DataFrame  # ticker, session, check_name, value, reason
    notes: tuple[str, ...]
    layout: str
    basis: str


def deliver(run: Run, path: str | None) -> Snapshot:
    """Take in the sample, or the files at `path`, unless that very delivery is the dataset's newest."""
    delivered = _digest(run, path)
    same = snapshots.delivered(run.store, run.dataset, delivered)
    if same is not None:
        log.info("prices of %s: nothing new", run.dataset)
        return same
    _store(run, path)  # of what it has read nothing is held any more
    return snapshots.take(run.store, run.dataset, bars.latest(run.store, run.dataset), clock.now(), delivered)


def _store(run: Run, path: str | None) -> None:
    """Store what a source gives and may be stored; raises InputError where the dataset holds nothing then."""
    given = read(run, path)
    _check_names(run, given)
    known = bars.latest(run.store, run.dataset)
    _check_seams(run, known, given.deliveries)
    taken = intake.take_in(run, given.deliveries, known)
    diary.findings(run, _refusals(given.refused))
    _say(run, given, taken)
    if known.empty and not any(len(each.verdict.bars) for each in taken):
        raise InputError(_nothing(path, taken))


def _digest(run: Run, path: str | None) -> str:
    """Names a delivery: the files' bytes or the sample's version, and the code that reads and judges them."""
    code = [fingerprint(__name__, _JUDGING), current(QualitySettings).model_dump()]
    if run.source == "sample":
        return digest([code, "skfolio", sample.version()])
    named = _existing(path)
    files = sorted(file for file in named.rglob("*") if file.is_file()) if named.is_dir() else [named]
    content = [(str(file.relative_to(named)), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    return digest([code, dict(run.exchanges), sorted(run.accepted), content])


def _existing(path: str | None) -> Path:
    named = Path(path or "").expanduser()
    if not path or not named.exists():
        raise InputError(f"{path or '--path'} does not exist; give --path a Parquet or CSV file, or a folder of them")
    return named


def read(run: Run, path: str | None) -> Read:
    """Read a source without storing anything."""
    if run.source == "sample":
        rows = sample.read()
        return Read(_deliveries(rows, "adjusted", {}), _no_refusals(), (), "wide", "adjusted")
    parsed = read_prices(_existing(path))
    if not _is_on_a_session(parsed.bars, run):
        raise InputError(
            f"{path} has no bar on a session of its exchange; correct the dates or the universe's exchange"
        )
    conflicts = {name: tuple(days.dt.date) for name, days in parsed.conflicts.groupby("ticker")["session"]}
    given = _deliveries(parsed.bars, parsed.basis, conflicts)
    return Read(given, parsed.refused, parsed.notes, parsed.layout, parsed.basis)


def _no_refusals() -> pd.DataFrame:
    return pd.DataFrame(columns=["ticker", "session", "check_name", "value", "reason"])


def _deliveries(rows: pd.DataFrame, basis: str, conflicts: Mapping[str, tuple]) -> tuple[Delivery, ...]:
    """One for each ticker of `rows`, which are sorted by it."""
    parts = bars.by_ticker(bars_of(rows, basis), rows["ticker"])
    return tuple(
        Delivery(ticker, frame.reset_index(drop=True), conflicts=conflicts.get(ticker, ()))
        for ticker, frame in parts.items()
    )


def _is_on_a_session(frame: pd.DataFrame, run: Run) -> bool:
    """Whether any row lies on a session of its ticker's exchange."""
    places = {name: run.exchange(name) for name in frame["ticker"].unique()}
    for exchange in sorted(set(places.values())):
        here = [name for name, place in places.items() if place == exchange]
        days = frame.loc[frame["ticker"].isin(here), "session"].drop_duplicates()
        if days.isin(calendars.sessions(exchange, days.min(), days.max())).any():
            return True
    return False


def _refusals(refused: pd.DataFrame) -> pd.DataFrame:
    """Rows that could not be read or placed, as findings."""
    return refused.rename(columns={"reason": "detail"}).assign(severity="warn", action="refused")


def _say(run: Run, given: Read, taken: list[Taken]) -> None:
    """What was taken, and what was not and why."""
    count, new, restated = (
        sum(len(d.bars) for d in given.deliveries),
        sum(t.new for t in taken),
        sum(t.restated for t in taken),
    )
    log.info(
        "prices of %s: %d bars of %d tickers, %d new, %d restated, %d refused",
        run.dataset, count, len(taken), new, restated, len(given.refused),
    )  # fmt: skip
    for note in given.notes:
        log.info("  %s", note)
    for each in taken:
        if diary.sentence(each):
            hint = f" (--accept {each.ticker} takes its good rows)" if each.verdict.outcome == "rejected" else ""
            log.warning("  %s %s: %s%s", each.ticker, _fate(each), diary.sentence(each), hint)


def _fate(taken: Taken) -> str:
    if taken.verdict.outcome == "rejected":
        return "quarantined"
    return f"waits from {taken.verdict.held_from} on" if taken.verdict.held_from else "taken"


def _nothing(path: str | None, taken: list[Taken]) -> str:
    return (
        f"no ticker of {path} passed the quality gate; the first, {taken[0].ticker}: "
        f"{diary.sentence(taken[0])}. Correct the files, or take its good rows with --accept {taken[0].ticker}"
    )


def preview(run: Run, path: str | None) -> dict[str, Any]:
    """What a source would bring, for a person to look at before anything is stored."""
    given = read(run, path)
    _check_accepted(run, given)
    nothing_known = judgement.Known({}, NO_ACTIONS.assign(ticker=""), {})
    tickers, findings = [], [_refusals(given.refused)]
    for each in given.deliveries:
        taken = judgement.judged(run, each, nothing_known)
        days = each.bars["session"]
        first, last = days.min().date(), days.max().date()
        there = calendars.sessions(run.exchange(each.ticker), first, last)
        gaps = int(np.isin(there, days.to_numpy().astype("datetime64[D]"), invert=True).sum())
        row = {"ticker": each.ticker, "bars": len(days), "first": first, "last": last, "gaps": gaps}
        tickers.append(row | {"outcome": _fate(taken)})
        findings.append(taken.verdict.findings)
    found = pd.concat([part for part in findings if len(part)] or findings[:1], ignore_index=True)
    rows = found.astype(object).where(found.notna(), None).to_dict("records")
    for row in rows:
        row["session"] = row["session"].date() if row["session"] is not None else None
    return {
        "layout": given.layout,
        "basis": given.basis,
        "notes": list(given.notes),
        "tickers": tickers,
        "findings": rows,
    }


def _check_names(run: Run, given: Read) -> None:
    """Refuse prices of a name that holds rates, and an accepted ticker that the delivery lacks."""
    _check_accepted(run, given)
    names = {each.ticker for each in given.deliveries}
    shared = sorted(names & bars.rates(run.store, run.dataset))
    if shared:
        raise InputError(f"{shared[0]} holds rates already; rename it in the file of prices")


def _check_accepted(run: Run, given: Read) -> None:
    names = {each.ticker for each in given.deliveries}
    lacking = sorted(run.accepted - names)
    if lacking:
        raise InputError(f"--accept {lacking[0]}: the delivery holds no such ticker; it holds {_first(names)}")


def _first(names: Collection[str]) -> str:
    """The first names, for a message."""
    return ", ".join(sorted(names)[:20])


def _check_seams(run: Run, known: pd.DataFrame, deliveries: Sequence[Delivery]) -> None:
    """Refuse a delivery that adjusts a ticker otherwise than the older bars that it leaves as they are.

    Its first bar would follow one on another scale, and a split or dividend would be counted as a loss.
    """
    begin = pd.Series({each.ticker: each.bars["session"].iloc[0] for each in deliveries})
    older = known[known["session"] < known["ticker"].map(begin)]
    if older.empty:
        return
    tickers = set(older["ticker"])
    delivered = pd.concat([each.bars.assign(ticker=each.ticker) for each in deliveries if each.ticker in tickers])
    known = known[known["ticker"].isin(tickers)]
    apart = sorted(_apart(known, delivered) - run.accepted)
    if apart:
        raise InputError(
            f"the adjusted closes of {apart[0]} from {begin[apart[0]].date()} on share fewer than {FEWEST} sessions "
            "with its older bars, so a dividend between them would be counted as a loss; give files that overlap, or "
            f"--accept {apart[0]}"
        )
    wrong = sorted(_other_basis(older, delivered) | _rescaled(known, delivered))
    if wrong:
        raise InputError(
            f"{wrong[0]} is adjusted otherwise from {begin[wrong[0]].date()} on than in its older bars, which this "
            "delivery does not hold; give --path files with all sessions of that ticker"
        )


def _other_basis(older: pd.DataFrame, delivered: pd.DataFrame) -> set[str]:
    """Tickers whose bars are of another basis than the older ones, and cannot be read by that one.

    Files with adjusted closes are `traded` or `adjusted` according to the dividends in them: they are read alike.
    """
    tickers = older["ticker"]
    now = tickers.map(delivered.groupby("ticker")["basis"].first())
    complete = tickers.map(delivered["adj_close"].notna().groupby(delivered["ticker"]).all()).astype(bool)
    alike = older["basis"].ne("split") & now.ne("split") & complete
    return set(tickers[older["basis"].ne(now) & ~alike])


def _apart(known: pd.DataFrame, delivered: pd.DataFrame) -> set[str]:
    """Tickers with adjusted closes that share too few sessions with the known ones to compare them."""
    adjusted = delivered[delivered["basis"] == "adjusted"]
    shared = adjusted.merge(known[bars.IDENTITY], on=bars.IDENTITY)["ticker"].value_counts()
    return set(adjusted["ticker"].unique()) - set(shared.index[shared >= FEWEST])


def _rescaled(known: pd.DataFrame, delivered: pd.DataFrame) -> set[str]:
    """Tickers whose adjusted prices differ from those known on most sessions of the overlap, not just on some."""
    both = known.merge(delivered, on=bars.IDENTITY, suffixes=("_before", ""))
    both = both[(both["basis"] != "traded") | (both["basis_before"] == "adjusted")]
    price, before = (both[f"adj_close{end}"].fillna(both[f"close{end}"]) for end in ("", "_before"))
    overlap = (price / before).groupby(both["ticker"]).agg(["size", "median"])
    return set(overlap.index[(overlap["size"] >= 3) & ((overlap["median"] - 1).abs() > RESCALED)])
