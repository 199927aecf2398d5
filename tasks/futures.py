"""A market with another future, for one past decision: all that it could know is as it was, and nothing after is.

What comes after a date has two sides. Sessions after its as-of date: their bars, actions and own forecasts are others,
one asset disappears soon, and one leaves the universe. Knowledge after its `known_at`: bars of its last sessions are
restated later. A decision that is made again in this market must come out the same.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from storage import bars, knowledge, snapshots, tables, universe
from storage.ledger import Decision
from storage.results import Rows
from storage.schemas import TABLES
from storage.store import Store
from storage.universe import Member, Universe
from tasks import calendars, perturbation

_RESTATED = 3  # newest sessions of each ticker that a later delivery corrects
_SOON = timedelta(days=10)  # after the as-of date: when one asset disappears and one leaves the universe
_WINDOW = timedelta(days=120)  # of prices around a trade, for its account
_TRUE, _OTHER = "as it was", "otherwise"  # datasets for the account


@dataclass(frozen=True)
class Future:
    """What is in the store that holds it: what takes the place of the records' snapshots and universes, by id."""

    snapshots: dict[str, str]
    universes: dict[str, str]
    accounts: tuple[str, str]  # snapshots of the time around the trade: as it was, and otherwise


@dataclass(frozen=True)
class _Split:
    """Bars by what the decision could know of."""

    past: pd.DataFrame
    later: pd.DataFrame  # as known today
    other: pd.DataFrame


def invent(
    source: Store,
    target: Store,
    dataset: str,
    chain: Sequence[Decision],
    universes: Collection[str],
    written_by: datetime,
) -> Future:
    """Fill an empty store with a market whose future after the last decision of `chain` is another.

    `universes`: ids of all that the scenario had; `written_by`: when that decision was recorded.
    """
    decision = chain[-1]
    used = {entry.record["snapshot"]: snapshots.load(source, entry.record["snapshot"]) for entry in chain}
    chosen = {identity: universe.load(source, identity) for identity in sorted(universes)}
    generator = np.random.default_rng(decision.as_of.toordinal())
    own = chosen[decision.record["universe"]]
    gone, leaving = _leavers(own, generator)
    known_at = min(snapshot.known_at for snapshot in used.values())
    split = _split(_rows(source, dataset, list(chosen.values())), own, decision.as_of, known_at, generator)
    other = split.other[(split.other["ticker"] != gone) | (split.other["session"] <= _stamp(decision.as_of + _SOON))]
    restated = _restated(split.past, used[decision.record["snapshot"]].known_at, generator)
    _put(target, dataset, pd.concat([split.past, other, restated]))
    _others(source, target, dataset, decision.as_of, written_by, known_at)
    last = decision.as_of + _SOON
    taken = {}
    for identity, snapshot in sorted(used.items(), key=lambda item: item[1].known_at):
        said = {name: day for name, day in snapshots.delisted(source, snapshot).items() if day <= decision.as_of}
        said |= {gone: last} if gone and gone not in said else {}
        taken[identity] = knowledge.snapshot(target, dataset, snapshot.known_at, said).snapshot
    others = {
        identity: universe.keep(target, _leaving(old, leaving, decision.as_of)) for identity, old in chosen.items()
    }
    begin = chain[0].rebalance_date - _WINDOW, decision.rebalance_date + _SOON
    accounts = [
        _account(target, name, split.past, later, begin, known_at)
        for name, later in ((_TRUE, split.later), (_OTHER, split.other))
    ]
    return Future(taken, others, (accounts[0], accounts[1]))


def _stamp(day: date) -> pd.Timestamp:
    return pd.Timestamp(day)


def _leavers(chosen: Universe, generator: np.random.Generator) -> tuple[str, str]:
    """Two assets: one that will have no more bars, and one that will leave the universe; none where there are few."""
    assets = chosen.assets
    if len(assets) < 3:
        return "", ""
    first, second = generator.choice(len(assets), 2, replace=False)
    return assets[first], assets[second]


def _leaving(chosen: Universe, ticker: str, as_of: date) -> Universe:
    """The universe with a ticker that leaves soon after a date, and those that join after it joining later still."""
    return replace(chosen, members=tuple(_later(member, ticker, as_of) for member in chosen.members))


def _later(member: Member, ticker: str, as_of: date) -> Member:
    if member.first > as_of:
        return replace(member, first=min(member.first + _SOON, member.last))
    if member.ticker == ticker and member.last > as_of + _SOON:
        return replace(member, last=as_of + _SOON)
    return member


def _rows(source: Store, dataset: str, universes: Sequence[Universe]) -> pd.DataFrame:
    """All that was ever known of the universes' bars."""
    tickers = sorted({ticker for chosen in universes for ticker in chosen.tickers})
    rows = tables.read(source, "bars", dataset=dataset, ticker=tickers).to_pandas()
    rows["session"] = pd.to_datetime(rows["session"])
    return rows.sort_values([*bars.IDENTITY, "known_from"], kind="stable", ignore_index=True)


def _split(
    rows: pd.DataFrame, chosen: Universe, as_of: date, known_at: datetime, generator: np.random.Generator
) -> _Split:
    """The rows in two at what each ticker's exchange lets a decision see; later ones count as known at `known_at`."""
    day = np.array([as_of], "datetime64[D]")
    seen = {
        name: pd.Timestamp(calendars.last_closed(exchange, chosen.exchange, day)[0])
        for name, exchange in chosen.exchanges.items()
    }
    past = rows["session"] <= rows["ticker"].map(seen).fillna(_stamp(as_of))
    later = rows[~past].drop_duplicates(bars.IDENTITY, keep="last").assign(known_from=known_at)
    return _Split(rows[past], later, perturbation.perturbed(later.reset_index(drop=True), generator))


def _restated(past: pd.DataFrame, known_at: datetime, generator: np.random.Generator) -> pd.DataFrame:
    """Corrections, known only after `known_at`, of each ticker's newest bars."""
    newest = past.drop_duplicates(bars.IDENTITY, keep="last").groupby("ticker").tail(_RESTATED)
    later = max(known_at, past["known_from"].max()) + timedelta(seconds=1)
    return perturbation.restated(newest, generator).assign(known_from=later)


def _put(target: Store, dataset: str, rows: pd.DataFrame) -> None:
    stamped = rows.assign(dataset=dataset, session=rows["session"].dt.date)
    columns, schema = list(TABLES["bars"].columns), TABLES["bars"].schema
    knowledge.put(target, "bars", pa.Table.from_pandas(stamped[columns], schema, preserve_index=False))


def _others(source: Store, target: Store, dataset: str, as_of: date, written_by: datetime, known_at: datetime) -> None:
    """Actions and own forecasts: those after the date are others."""
    for name, day, value, moment in (
        ("actions", "ex_date", "value", None),
        ("own_forecasts", "as_of", "mean", written_by),
    ):
        rows = tables.read(source, name, dataset=dataset).to_pandas()
        later = rows[day] > as_of
        rows.loc[later, value] *= 3.0
        rows.loc[later, "known_from"] = known_at
        kept = rows if moment is None else rows[rows["known_from"] <= moment]
        knowledge.put(target, name, pa.Table.from_pandas(kept, TABLES[name].schema, preserve_index=False))


def _account(
    target: Store, dataset: str, past: pd.DataFrame, later: pd.DataFrame, span: tuple[date, date], known_at: datetime
) -> str:
    """A snapshot of the time around a trade, with one of the futures."""
    rows = pd.concat([past, later])
    inside = (rows["session"] >= _stamp(span[0])) & (rows["session"] <= _stamp(span[1]))
    _put(target, dataset, rows[inside])
    return knowledge.snapshot(target, dataset, known_at, {}).snapshot


def drawn(decided: Sequence[Decision], as_of: date) -> Decision:
    """One of the dates decided: by chance, and for one as-of date always the same."""
    return decided[np.random.default_rng(as_of.toordinal()).integers(len(decided))]


def early_trades(true: Rows, other: Rows, decision: Decision) -> str | None:
    """A strategy whose trade is the same whatever the prices of its own close are, as a sentence; None: there is none.

    Of one that held two assets or more, the trade depends on how they moved until then.
    """
    day = decision.rebalance_date
    for strategy in sorted({row["strategy"] for row in true}):
        mine = [row for row in true if row["strategy"] == strategy]
        trade = [row["trade"] for row in mine if row["rebalance_date"] == day]
        theirs = [r["trade"] for r in other if r["strategy"] == strategy and r["rebalance_date"] == day]
        held = [row for row in mine if row["rebalance_date"] < day and row["trade"] > 0]
        if len(held) > 1 and trade and trade == theirs:
            return f"executions of {strategy}, {day}: the trade does not depend on the prices of its own close"
    return None
