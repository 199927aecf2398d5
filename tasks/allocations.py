"""What every allocator leaves behind: weights by ticker, and what is to say about them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage import tables
from storage.keys import Moment, to_json
from storage.schemas import CASH, TABLES
from storage.store import Store

ZERO = 1e-12  # of wealth: smaller weights are rounding


@dataclass(frozen=True)
class Allocation:
    """One strategy's weights at one date."""

    key: str
    moment: Moment
    strategy: str
    weights: dict[str, float]
    diagnostics: dict[str, Any]  # `degraded`: why the weights are second best, where they are


def by_ticker(tickers: Sequence[str], weights: NDArray[np.float64]) -> dict[str, float]:
    """Weights by ticker, with what they leave, or borrow, as cash."""
    found = dict(zip(tickers, weights.tolist(), strict=True))
    return found | {CASH: 1.0 - float(weights.sum())}


def keep(store: Store, found: Sequence[Allocation]) -> None:
    """Write the weights that are not zero, then the rows that say that they are there."""
    if not found:
        return
    weights = [
        {"key": a.key, "as_of": a.moment.as_of, "strategy": a.strategy, "ticker": ticker, "weight": weight}
        for a in found
        for ticker, weight in a.weights.items()
        if abs(weight) > ZERO
    ]
    said = [
        {"key": a.key, "as_of": a.moment.as_of, "strategy": a.strategy, "diagnostics": to_json(a.diagnostics)}
        for a in found
    ]
    tables.put(store, "weights", pa.Table.from_pylist(weights, TABLES["weights"].schema))
    tables.put(store, "allocations", pa.Table.from_pylist(said, TABLES["allocations"].schema))


def degraded(store: Store, keys: Iterable[str]) -> dict[str, str]:
    """By key why weights are second best; those that are not, are not named."""
    rows = tables.read(store, "allocations", ["key", "diagnostics"], key=list(keys)).to_pylist()
    said = {row["key"]: json.loads(row["diagnostics"]).get("degraded") for row in rows}
    return {key: text for key, text in said.items() if text}
