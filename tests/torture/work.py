"""Work to be disturbed: jobs that write to a store as the stages do, the same bytes whoever does them and how often.

A job is one month of a scenario: prices and their snapshot, features, a model with its interrupted training, forecasts,
weights, trades, and the record that makes them count. A job that is done already writes nothing.
"""

import uuid
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from storage import (
    bars,
    blobs,
    catalog,
    checkpoints,
    ledger,
    partitions,
    pointers,
    pruning,
    snapshots,
    tables,
    unfinished,
)
from storage.keys import digest
from storage.ledger import Decision
from storage.locks import locked
from storage.partitions import Partition
from storage.schemas import TABLES
from storage.store import Store

TICKERS = ("AAA", "BBB", "CCC", "DDD")
STRATEGIES = ("one", "two")
FIRST = date(2000, 1, 3)
RESULTS = ("features", "models", "forecasts", "weights", "trades")
# what differs from one run to another: times of recording, and the places in a chain
NOT_COMPARED = {"created_at", "position", "record_hash", "parent_hash", "seconds"}
DIARY = "runs"


def key_of(table: str, number: int) -> str:
    return digest([table, number])


def day_of(number: int) -> date:
    return FIRST + timedelta(days=7 * number)


def do(store: Store, number: int) -> bool:
    """Do a job; False where it was done."""
    if tables.read(store, "decisions", ["position"], rebalance_date=day_of(number)).num_rows:
        return False
    _learn(store, number)
    for name in RESULTS:
        if not tables.existing(store, name, [key_of(name, number)]):
            WRITERS[name](store, number)
    row = {"run": uuid.uuid4().hex, "command": "torture", "scenario": "main", "status": "completed", "detail": ""}
    row |= {"started_at": datetime(2024, 1, 1), "finished_at": datetime(2024, 1, 1), "stages": "{}"}
    tables.append(store, DIARY, pa.Table.from_pylist([row | {"first_date": None, "last_date": None}], _schema(DIARY)))
    pointers.point(store, "portfolios", f"line-{number}", key_of("portfolios", number))
    _decide(store, number)
    return True


def _schema(name: str) -> pa.Schema:
    return TABLES[name].schema


def numbers(number: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=shape)


def _learn(store: Store, number: int) -> None:
    """Prices as an ingest takes them: rows that are new, then the snapshot, one writer at once."""
    dataset, known_at = f"prices-{number}", datetime(2024, 1, 1) + timedelta(hours=number)
    days = pd.bdate_range(day_of(number), periods=5)
    rows = pd.DataFrame([{"ticker": t, "session": d} for t in TICKERS for d in days])
    rows = rows.assign(**dict.fromkeys(bars.VALUES, np.nan), basis="traded", source="made")
    rows["close"] = np.exp(numbers(number, len(rows)))
    with locked(store.root / ".ingesting"):
        fresh, _ = bars.news(bars.latest(store, dataset), rows)
        bars.append(store, dataset, fresh, known_at)
        if snapshots.delivered(store, dataset, f"{number}") is None:
            snapshots.take(store, dataset, bars.latest(store, dataset, known_at), known_at, f"{number}")


def _features(store: Store, number: int) -> None:
    rows = pd.DataFrame({"ticker": TICKERS, "session": day_of(number), "x": numbers(number, len(TICKERS))})
    month = f"{day_of(number):%Y-%m}"
    partitions.put(store, "features", [Partition(key_of("features", number), month, day_of(number), ("x",), rows)])


def _models(store: Store, number: int) -> None:
    key, arrays = key_of("models", number), {"weight": numbers(number, 50, 40), "bias": numbers(number, 40)}
    for epoch in range(2):
        unfinished.put(store, key, {"weight": arrays["weight"] * epoch})
    blob = checkpoints.put(store, arrays, {"number": number})
    row = {"key": key, "block": 2000, "as_of": day_of(number), "kind": "trained", "parent": None, "blob": blob}
    row |= {"loss": 0.5, "seconds": 1.0, "lineage": "{}"}
    tables.put(store, "models", pa.Table.from_pylist([row], _schema("models")))
    unfinished.drop(store, key)


def _forecasts(store: Store, number: int) -> None:
    values = np.exp(numbers(number, len(TICKERS)))
    shared = dict.fromkeys(TABLES["forecasts"].columns) | {"key": key_of("forecasts", number), "as_of": day_of(number)}
    columns = ("mean", "variance", "baseline_variance", "scale", "lower_90", "upper_90")
    rows = [shared | {"ticker": t} | dict.fromkeys(columns, v) for t, v in zip(TICKERS, values, strict=True)]
    tables.put(store, "forecasts", pa.Table.from_pylist(rows, _schema("forecasts")))


def weights_of(number: int) -> list[dict]:
    """The rows of a job's weights, which anybody can say whole or not."""
    values = np.exp(numbers(number, len(TICKERS)))
    named = zip(TICKERS, (values / values.sum()).tolist(), strict=True)
    shared = {"key": key_of("weights", number), "as_of": day_of(number), "strategy": "one"}
    return [shared | {"ticker": ticker, "weight": weight} for ticker, weight in named]


def _weights(store: Store, number: int) -> None:
    tables.put(store, "weights", pa.Table.from_pylist(weights_of(number), _schema("weights")))


def _trades(store: Store, number: int) -> None:
    shared = {"key": key_of("trades", number), "rebalance_date": day_of(number), "cost": 0.0}
    rows = [shared | {"strategy": s, "ticker": t, "trade": number / 7} for s in STRATEGIES for t in TICKERS]
    tables.put(store, "trades", pa.Table.from_pylist(rows, _schema("trades")))


WRITERS = {
    "features": _features,
    "models": _models,
    "forecasts": _forecasts,
    "weights": _weights,
    "trades": _trades,
}


def _decide(store: Store, number: int) -> None:
    """The record, once, whoever decides the same month at this moment."""
    day = day_of(number)
    keys = {"forecasts": key_of("forecasts", number), "weights": (key_of("weights", number),)}
    made = Decision("main", day, day, "backfill", **keys, trades=key_of("trades", number), record={"number": number})
    made = Decision(**vars(made) | {"content_hash": ledger.content_hashes(store, [made])[0]})
    while True:
        records = ledger.read(store, "main")
        if day in {record.rebalance_date for record in records} or ledger.append(store, [made], after=len(records)):
            return


def keep(store: Store, days: int = 7) -> None:
    """What `prism maintain` does to a store."""
    tables.compact(store, 8)
    tables.vacuum(store, days)
    pruning.prune(store, days)
    pruning.sweep(store, days)
    unfinished.forget(store)
    catalog.rebuild(store)


def content(store: Store) -> dict[str, list[str]]:
    """Every row of every table to the last bit, in canonical order; the diary is left out.

    A row that names a blob stands with the blob's own hash, which reading it checks.
    """
    found = {}
    for name in TABLES:
        if name == DIARY or not (store.tables / name).exists():
            continue
        rows = tables.read(store, name).to_pylist()
        kept = [{c: _exact(v) for c, v in row.items() if c not in NOT_COMPARED} for row in rows]
        found[name] = sorted(repr(row) for row in kept)
        for row in kept:
            if row.get("blob") or row.get("manifest"):
                blobs.get(store, row.get("blob") or row["manifest"])
    return found


def _exact(value: object) -> object:
    return value.hex() if isinstance(value, float) else value
