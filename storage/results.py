"""The rows of a decision's results without keys, and where those of two stores differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from storage import tables
from storage.ledger import RESULTS, Decision, result_keys
from storage.schemas import TABLES
from storage.store import Store

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
_NAMES = ("as_of", "rebalance_date", "session", "strategy", "ticker")  # what a row is about


@dataclass(frozen=True)
class Difference:
    """One value that differs between two sets of rows; None where there is no such row."""

    table: str
    row: str
    column: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.column} {self.before} -> {self.after}"


def of(store: Store, decision: Decision) -> dict[str, Rows]:
    """Rows of forecasts, weights and trades, without what names other content."""
    return {name: under(store, name, result_keys(decision)[name]) for name in RESULTS}


def under(store: Store, table: str, keys: Sequence[str]) -> Rows:
    """Rows of a table under some keys, without what names other content."""
    columns = [column for column in TABLES[table].columns if column not in ("key", "model")]
    return tables.read(store, table, columns, key=list(keys)).to_pylist()


def differences(table: str, before: Sequence[Row], after: Sequence[Row]) -> list[Difference]:
    """Every value in which rows differ, in the order of what they are about: strategy, then the rest."""
    old, new = _by_name(before), _by_name(after)
    found = []
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name, {}), new.get(name, {})
        if one != other:
            columns = [c for c in (one | other) if c not in _NAMES and one.get(c) != other.get(c)]
            found += [
                Difference(table, _said(one or other), column, one.get(column), other.get(column)) for column in columns
            ]
    return found


def _said(row: Row) -> str:
    """What a row is about, in words."""
    rest = " ".join(str(row[name]) for name in _NAMES if name in row and name != "strategy")
    return f"of {row['strategy']}, {rest}" if "strategy" in row else rest


def _by_name(rows: Sequence[Row]) -> dict[tuple[str, ...], Row]:
    about = ("strategy", "rebalance_date", "as_of", "session", "ticker")
    return {tuple(str(row[name]) for name in about if name in row): row for row in rows}


def largest_change(before: Sequence[Row], after: Sequence[Row]) -> dict[str, Any] | None:
    """The largest change of a weight: strategy, ticker, and the weight after less the one before; None without any."""
    old, new = ({(row["strategy"], row["ticker"]): row["weight"] for row in rows} for rows in (before, after))
    moved = {name: new.get(name, 0.0) - old.get(name, 0.0) for name in sorted(old.keys() | new.keys())}
    if not any(moved.values()):
        return None
    strategy, ticker = max(moved, key=lambda name: abs(moved[name]))
    return {"strategy": strategy, "ticker": ticker, "change": moved[strategy, ticker]}


def first_of_frames(table: str, before: pd.DataFrame, after: pd.DataFrame) -> Difference | None:
    """The first value in which frames of `ticker, session` and numbers differ; None where they are equal."""
    old, new = (frame.set_index(["session", "ticker"]).sort_index() for frame in (before, after))
    names, rows = old.columns.union(new.columns, sort=False), old.index.union(new.index)
    old, new = old.reindex(index=rows, columns=names), new.reindex(index=rows, columns=names)
    unequal = ~((old == new) | (old.isna() & new.isna())).to_numpy()
    if not unequal.any():
        return None
    row, column = (int(place[0]) for place in np.nonzero(unequal))
    session, ticker = rows[row]
    values = (frame.iloc[row, column].item() for frame in (old, new))
    return Difference(table, f"{session:%Y-%m-%d} {ticker}", str(names[column]), *values)
