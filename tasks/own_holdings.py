"""What a person really holds: brought from a file, checked, kept as it was brought, and valued.

One import is a date and shares by ticker, with `$CASH` in currency; its identity is the hash of both. The shares are
those at the close of the date, after that day's trades. Imports are only ever added: the last one of a date is that
date's, earlier ones stay in the history.

The trades of a rebalance date start from the newest import dated after the rebalance date before it and up to its own
as-of date, if there is one; where the two are one day, since every session is traded, from one of that day. An import
of the rebalance date before is left out, since it may have been counted before that day's trades.
"""

import csv
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa

from storage import clock, scenarios, snapshots, tables
from storage.errors import InputError, NoDataError, StoreError
from storage.keys import digest
from storage.schemas import CASH, TABLES
from storage.store import Store
from tasks import valuation

LARGEST = 1e12  # shares, or currency: more is a mistake of typing


@dataclass(frozen=True)
class Holdings:
    """One import."""

    holdings: str  # its identity
    date: date
    shares: dict[str, float]  # by ticker, `$CASH` in currency
    imported_at: datetime


@dataclass(frozen=True)
class Valued:
    """Holdings at the closes of a date."""

    shares: dict[str, float]  # of that date: splits since the holdings' own counted
    weights: dict[str, float]  # fractions of wealth by ticker; cash is the rest
    wealth: float


def read_file(path: Path) -> dict[str, float]:
    """Shares by ticker, and `$CASH` in currency, from a CSV file with the columns `ticker` and `shares`."""
    try:
        table = csv.DictReader(path.read_text().removeprefix("\ufeff").splitlines())
        table.fieldnames = [name.strip().lower() for name in table.fieldnames or ()]
        rows = list(table)
        holdings = {row["ticker"].strip(): float(row["shares"]) for row in rows}
    except (OSError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise InputError(
            f"holdings file {path} cannot be read ({error}); it needs the columns ticker,shares"
        ) from error
    _check_file(path, holdings, len(rows), table.fieldnames or [])
    return holdings


def _check_file(path: Path, holdings: dict[str, float], lines: int, columns: Sequence[str]) -> None:
    """Raise InputError for a file without a header, a ticker named twice, and shares that are no number."""
    if not {"ticker", "shares"} <= set(columns):
        raise InputError(
            f"holdings file {path} begins with {','.join(columns)!r}; its first line must be ticker,shares"
        )
    if len(holdings) != lines:
        raise InputError(f"holdings file {path} names a ticker twice; give each ticker one line")
    wrong = [ticker for ticker, shares in holdings.items() if not math.isfinite(shares)]
    if wrong:
        raise InputError(f"holdings file {path} gives {holdings[wrong[0]]} shares of {wrong[0]}; give a number")


def take(store: Store, scenario: str, path: Path, day: date) -> tuple[Holdings, bool]:
    """Keep a file's holdings as those of `day`; gives them, and whether that is new.

    Raises InputError, with nothing stored, for a file that cannot be read or names nothing, a day that no prices are
    of, a ticker without prices by then, a number of shares that nobody holds, and an account that is worth nothing.
    """
    dataset, universe_id = market(store, scenario)
    snapshot = snapshots.newest(store, dataset)
    if day > clock.now().date() or day < snapshot.first_session:
        where = "lies in the future" if day > clock.now().date() else "lies before the stored prices"
        raise InputError(f"--date {day} {where}; give a date from {snapshot.first_session} to {clock.now().date()}")
    shares = _checked(store, snapshot, universe_id, path, day)
    identity = digest({"date": day, "shares": dict(sorted(shares.items()))})
    for _ in range(10):
        known = history(store, scenario)
        standing = next((entry for entry in reversed(known) if entry.date == day), None)
        if standing is not None and standing.holdings == identity:
            return standing, False
        made = Holdings(identity, day, shares, clock.now())
        tickers = sorted(shares)
        row = {"scenario": scenario, "position": len(known), "holdings": identity, "date": day, "tickers": tickers}
        row |= {"shares": [shares[ticker] for ticker in tickers], "imported_at": made.imported_at}
        if tables.claim(store, "holdings", pa.Table.from_pylist([row], TABLES["holdings"].schema)):
            return made, True
    raise StoreError(f"scenario {scenario}: other imports of holdings were first 10 times; run the same command again")


def market(store: Store, scenario: str) -> tuple[str, str | None]:
    """The dataset of a scenario and its newest universe; before anything is decided, the dataset last ingested."""
    terms = scenarios.read(store, scenarios.checked_name(scenario))
    if terms:
        return terms[0].dataset, terms[-1].universe
    rows = tables.read(store, "snapshots", ["dataset", "known_at"]).sort_by("known_at").to_pylist()
    if not rows:
        raise NoDataError("there are no prices to check holdings against; run `prism run` or `prism ingest` first")
    return rows[-1]["dataset"], None


def _checked(
    store: Store, snapshot: snapshots.Snapshot, universe_id: str | None, path: Path, day: date
) -> dict[str, float]:
    """The file's shares under the universe's own names."""
    read = read_file(path)
    if not read:
        raise InputError(f"holdings file {path} names nothing; give each ticker a line, and cash the ticker {CASH}")
    wrong = [ticker for ticker, shares in read.items() if abs(shares) > LARGEST]
    if wrong:
        raise InputError(f"holdings file {path} gives {read[wrong[0]]:g} shares of {wrong[0]}; {LARGEST:g} is the most")
    quotes = valuation.quotes(store, snapshot.snapshot, universe_id, set(read) - {CASH})
    aliases = quotes.aliases
    shares = {aliases.get(ticker, ticker): count for ticker, count in read.items()}
    if len(shares) != len(read):
        raise InputError(f"holdings file {path} names an asset twice, once by an alias; give each asset one line")
    closes = quotes.closes(day)
    for ticker in sorted(shares.keys() - {CASH} - set(closes.index)):
        raise InputError(f"holdings file {path} names {ticker}, which {_why_unknown(store, snapshot, ticker, day)}")
    worth = shares.get(CASH, 0.0) + sum(count * closes[t] for t, count in shares.items() if t != CASH)
    if not worth > 0:
        raise InputError(f"the holdings of {path} are worth {worth:,.2f} on {day}; they must be worth more than 0")
    return shares


def _why_unknown(store: Store, snapshot: snapshots.Snapshot, ticker: str, day: date) -> str:
    months = snapshots.manifest(store, snapshot).values()
    known = sorted({name for month in months for name in month["tickers"]})
    if ticker in known:
        return f"has no price up to {day}; take it out"
    near = difflib.get_close_matches(ticker.upper(), known, n=1, cutoff=0.5)
    return f"has no prices in dataset {snapshot.dataset}; " + (f"did you mean {near[0]}?" if near else "take it out")


def history(store: Store, scenario: str) -> list[Holdings]:
    """All imports of a scenario, in the order in which they were made."""
    rows = tables.read(store, "holdings", scenario=scenario).sort_by("position").to_pylist()
    return [
        Holdings(row["holdings"], row["date"], _pairs(row["tickers"], row["shares"]), row["imported_at"])
        for row in rows
    ]


def _pairs(tickers: list[str], shares: list[float]) -> dict[str, float]:
    return dict(zip(tickers, shares, strict=True))


def newest(known: Sequence[Holdings], until: date = date.max, since: date = date.min) -> Holdings | None:
    """The import of the latest date from `since` to `until`; of several of that date, the last one made."""
    found: Holdings | None = None
    for entry in known:
        if since <= entry.date <= until and (found is None or entry.date >= found.date):
            found = entry
    return found


def start_of(known: Sequence[Holdings], follows: date | None, as_of: date) -> Holdings | None:
    """The import that the trades decided at `as_of` start from: see the module; `follows` is the date before."""
    found = newest(known, as_of)
    late_enough = found is not None and (follows is None or found.date > follows or found.date == as_of)
    return found if late_enough else None


def valued(store: Store, snapshot: str, universe_id: str | None, as_of: date, held: Holdings) -> Valued:
    """Holdings at the closes of `as_of`, on or after their own date. InputError where a close is not known."""
    quotes = valuation.quotes(store, snapshot, universe_id, held.shares.keys() - {CASH})
    splits, closes = quotes.splits(held.date, as_of), quotes.closes(as_of)
    lacking = sorted(held.shares.keys() - {CASH} - set(closes.index))
    if lacking:
        raise InputError(
            f"{lacking[0]} of the holdings of {held.date} has no price up to {as_of}; import them without it"
        )
    shares = {ticker: count * float(splits.get(ticker, 1.0)) for ticker, count in held.shares.items()}
    values = {ticker: count * float(closes[ticker]) for ticker, count in shares.items() if ticker != CASH}
    wealth = sum(values.values()) + shares.get(CASH, 0.0)
    if not wealth > 0:
        raise InputError(f"the holdings of {held.date} are worth {wealth:,.2f} at {as_of}; import what is held now")
    return Valued(shares, {ticker: value / wealth for ticker, value in sorted(values.items())}, wealth)
