"""What an ingest leaves in writing: findings of the gate, what was restated, and one row for each ticker asked for."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from storage import clock, tables
from storage.schemas import TABLES
from tasks.fetch.delivery import Run, Taken

_ROW = {"verdict": None, "attempts": None, "requests": None, "first_session": None, "last_session": None}
_ROW |= {"full": None, "payload": None, "rows": 0, "detail": ""}


def write(run: Run, taken: Sequence[Taken], changes: pd.DataFrame, moment: datetime) -> None:
    """The findings, restatements and rows of a batch, these last."""
    found = [each.verdict.findings for each in taken if len(each.verdict.findings)]
    if found:
        findings(run, pd.concat(found, ignore_index=True))
    fits = {each.ticker: each.fit for each in taken}
    _append(
        run, "restatements", changes.assign(verdict=changes["ticker"].map(fits), action="revised", known_from=moment)
    )
    outcomes(run, [_row(each) for each in taken if each.verdict.outcome != "refetch"])


def findings(run: Run, found: pd.DataFrame) -> None:
    """Rows of `quality`; what was found before in the same words is not repeated."""
    same = ["ticker", "session", "check_name", "action", "detail"]
    said = tables.read(run.store, "quality", same, dataset=run.dataset).to_pandas()
    said["session"] = pd.to_datetime(said["session"]).astype("datetime64[s]")
    joined = found.merge(said.drop_duplicates(), on=same, how="left", indicator=True)
    _append(run, "quality", found[(joined["_merge"] == "left_only").to_numpy()])


def outcomes(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of `ingests`: `ticker`, `outcome`, and what else is known."""
    stamped = [_ROW | row | {"run": run.name, "dataset": run.dataset, "created_at": clock.now()} for row in rows]
    if stamped:
        tables.append(run.store, "ingests", pa.Table.from_pylist(stamped, TABLES["ingests"].schema))


def _row(taken: Taken) -> dict[str, Any]:
    days = taken.verdict.bars["session"]
    kept = {"first_session": days.min().date(), "last_session": days.max().date()} if len(days) else {}
    row = {"ticker": taken.ticker, "outcome": taken.verdict.outcome, "rows": len(days), "verdict": taken.fit, **kept}
    return row | {"full": taken.delivery.full, "detail": sentence(taken), **taken.delivery.diary}


def sentence(taken: Taken) -> str:
    """Why a ticker waits or is quarantined; empty where all went well."""
    found = taken.verdict.findings
    if taken.detail or found.empty:
        return taken.detail
    serious = found[found["action"].isin(["quarantined", "held"])]
    return "; ".join(f"{name}: {detail}" for name, detail in zip(serious["check_name"], serious["detail"], strict=True))


def _append(run: Run, name: str, frame: pd.DataFrame) -> None:
    """Rows of a table from a frame with its columns but for `run` and `dataset`; days as dates, NaN as empty."""
    if frame.empty:
        return
    columns, schema = list(TABLES[name].columns), TABLES[name].schema
    frame = frame.assign(run=run.name, dataset=run.dataset)[columns]
    for column in frame.select_dtypes("datetime"):
        if pa.types.is_date(schema.field(column).type):
            frame[column] = frame[column].dt.date
    rows = frame.astype(object).replace({np.nan: None})
    tables.append(run.store, name, pa.Table.from_pandas(rows, schema, preserve_index=False))
