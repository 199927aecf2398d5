"""The rows of a decision's results without keys, and where those of two stores differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage import tables
from storage.ledger import RESULTS, Decision, result_keys
from storage.schemas import TABLES
from storage.store import Store

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
    found = {}
    for name in RESULTS:
        columns = [column for column in TABLES[name].columns if column not in ("key", "model")]
        found[name] = tables.read(store, name, columns, key=result_keys(decision)[name]).to_pylist()
    return found


def differences(
    table: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[Difference]:
    """Every value in which rows differ, in the order of what they are about: strategy, then the rest."""
    old, new = _by_name(before), _by_name(after)
    found = []
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name, {}), new.get(name, {})
        if one != other:
            columns = [c for c in (one | other) if c not in _NAMES and one.get(c) != other.get(c)]
            found += [
                Difference(table, " ".join(name), column, one.get(column), other.get(column)) for column in columns
            ]
    return found


def _by_name(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    about = ("strategy", "rebalance_date", "as_of", "session", "ticker")
    return {tuple(str(row[name]) for name in about if name in row): row for row in rows}


def largest_change(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The largest change of a weight: strategy, ticker, and the weight after less the one before; None without any."""
    old, new = ({(row["strategy"], row["ticker"]): row["weight"] for row in rows} for rows in (before, after))
    moved = {name: new.get(name, 0.0) - old.get(name, 0.0) for name in sorted(old.keys() | new.keys())}
    if not any(moved.values()):
        return None
    strategy, ticker = max(moved, key=lambda name: abs(moved[name]))
    return {"strategy": strategy, "ticker": ticker, "change": moved[strategy, ticker]}
