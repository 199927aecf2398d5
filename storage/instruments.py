"""What a source says a ticker is: currency, exchange, kind; append-only, a new row when it says otherwise."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from storage import tables
from storage.schemas import TABLES
from storage.store import Store

FIELDS = ("symbol", "currency", "exchange", "timezone", "instrument_type", "first_trade_date")


def latest(store: Store, dataset: str) -> dict[str, dict[str, Any]]:
    """The newest `FIELDS` of each ticker."""
    rows = tables.read(store, "instruments", dataset=dataset).sort_by("known_from").to_pylist()
    return {row["ticker"]: {name: row[name] for name in FIELDS} for row in rows}


def append(store: Store, dataset: str, given: Mapping[str, Mapping[str, Any]], known_from: datetime) -> None:
    """Add those of `given`, by ticker, that say something new."""
    known = latest(store, dataset)
    rows = [
        {"dataset": dataset, "ticker": ticker, "known_from": known_from, **{name: said[name] for name in FIELDS}}
        for ticker, said in sorted(given.items())
        if known.get(ticker) != {name: said[name] for name in FIELDS}
    ]
    if rows:
        tables.append(store, "instruments", pa.Table.from_pylist(rows, TABLES["instruments"].schema))
