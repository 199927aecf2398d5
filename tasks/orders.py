"""Orders in shares: from what a person holds to the weights decided for a month."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from storage import snapshots, universe
from storage.errors import InputError
from storage.ledger import Decision
from storage.schemas import CASH
from storage.snapshots import Snapshot
from storage.store import Store
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
    """Last close of each ticker up to the as-of date, under its own name or an alias."""
    members = universe.load(store, decision.record["universe"]).members
    names = {alias: member.ticker for member in members for alias in member.aliases}
    bars = snapshots.read(store, snapshot, [*tickers, *names])
    bars = bars[bars["session"] <= np.datetime64(decision.as_of)].sort_values("session", kind="stable")
    return bars.groupby(bars["ticker"].replace(names))["close"].last()
