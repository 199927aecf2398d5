"""Orders in shares: from what a person holds to the weights decided for a month."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from storage import snapshots, universe
from storage.errors import InputError
from storage.ledger import Decision
from storage.schemas import CASH
from storage.snapshots import Snapshot
from storage.store import Store
from storage.universe import Universe
from tasks import calendars
from tasks.numerics.orders import Orders, whole_shares


@dataclass(frozen=True)
class Sheet:
    """Orders with the tickers and prices they are in."""

    tickers: list[str]
    held: np.ndarray
    price: np.ndarray
    orders: Orders


def read_holdings(path: Path) -> dict[str, float]:
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
    _check(path, holdings, len(rows), table.fieldnames or [])
    return holdings


def _check(path: Path, holdings: dict[str, float], lines: int, columns: Sequence[str]) -> None:
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


def in_shares(
    store: Store,
    decision: Decision,
    weights: dict[str, float],
    holdings: dict[str, float],
    capital: float | None,
    cost: float,
) -> Sheet:
    """Orders at the closes of the decision's as-of date.

    `capital`: the account's whole value; what the shares held are not worth is cash. Without it the cash is the
    holdings' own.
    """
    snapshot = snapshots.load(store, decision.record["snapshot"])
    tickers = sorted((weights.keys() | holdings.keys()) - {CASH})
    closes = _closes(store, snapshot, decision, tickers)
    unknown = [ticker for ticker in tickers if ticker not in closes.index]
    if unknown:
        raise InputError(f"{unknown[0]} has no price up to {decision.as_of}; take it out of the holdings file")
    price = closes.loc[tickers].to_numpy(np.float64)
    held = np.array([holdings.get(ticker, 0.0) for ticker in tickers])
    cash = holdings.get(CASH, 0.0) if capital is None else capital - float(held @ price)
    wanted = np.array([weights.get(ticker, 0.0) for ticker in tickers])
    try:
        return Sheet(tickers, held, price, whole_shares(wanted, price, held, cash, cost))
    except ValueError as error:
        raise InputError(f"{error}; give --capital, or a $CASH line in the holdings file") from error


def _closes(store: Store, snapshot: Snapshot, decision: Decision, tickers: list[str]) -> pd.Series:
    """Last close of each ticker known at the as-of date, under its own name or an alias, in the universe's currency."""
    chosen = universe.load(store, decision.record["universe"])
    names = {alias: ticker for ticker, known in chosen.names.items() for alias in known[1:]}
    bars = snapshots.read(store, snapshot, [*tickers, *names, *chosen.rates])
    last = {name: _last_known(chosen, name, decision.as_of) for name in set(bars["ticker"])}
    bars = bars[bars["session"] <= bars["ticker"].map(last)].sort_values("session", kind="stable")
    closes = bars.groupby(bars["ticker"].replace(names))["close"].last()
    return closes * [_in_base(chosen, ticker, closes) for ticker in closes.index]


def _last_known(chosen: Universe, ticker: str, day: date) -> pd.Timestamp:
    """The last session of the ticker's own exchange that is known at the portfolio's close of `day`."""
    own = chosen.exchanges.get(ticker, chosen.exchange)
    return pd.Timestamp(calendars.last_closed(own, chosen.exchange, np.array([day], "datetime64[D]"))[0])


def _in_base(chosen: Universe, ticker: str, closes: pd.Series) -> float:
    """What turns the ticker's close into the universe's currency: the unit of its quotes, and the exchange rate."""
    if ticker not in chosen.currencies or ticker in chosen.rates:
        return 1.0
    rate = chosen.rate_of(ticker)
    return universe.unit(chosen.currencies[ticker]) * (1.0 if rate is None else float(closes[rate]))
