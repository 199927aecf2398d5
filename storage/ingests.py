"""The diary of ingests, ticker by ticker: when each was asked for, what came, and which names are gone."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime

from storage import tables
from storage.store import Store


@dataclass(frozen=True)
class Asked:
    """A ticker's last rows in the diary."""

    at: datetime
    outcome: str
    detail: str
    ok_at: datetime | None  # when bars were last taken
    full_month: str | None  # month in which the whole history was last taken


NEVER = Asked(datetime.min, "never", "", None, None)
_MOST = 0.5  # of a run's tickers unknown: the source is at fault, not the names


def newest(store: Store, dataset: str) -> dict[str, Asked]:
    """By ticker, the newest row that says more than that nothing was to do."""
    found: dict[str, Asked] = {}
    for row in _rows(store, dataset):
        before = found.get(row["ticker"], NEVER)
        month = f"{row['created_at']:%Y-%m}" if row["full"] and row["outcome"] == "ok" else before.full_month
        if row["outcome"] == "up_to_date":
            continue
        taken = row["created_at"] if row["outcome"] == "ok" else before.ok_at
        found[row["ticker"]] = Asked(row["created_at"], row["outcome"], row["detail"], taken, month)
    return found


def retired(store: Store, dataset: str, days: int) -> dict[str, date]:
    """Tickers that the source did not know on `days` different days in a row, and the first of these days.

    Other failures say nothing about a ticker, nor does a run in which most were unknown; an answer brings it back.
    """
    rows, unknown = _rows(store, dataset), dict[str, list[date]]()
    strange = _strange(rows)
    for row in rows:
        seen = unknown.setdefault(row["ticker"], [])
        if row["outcome"] in ("ok", "rejected"):
            seen.clear()
        elif row["outcome"] == "not_found" and row["run"] not in strange and row["created_at"].date() not in seen:
            seen.append(row["created_at"].date())
    return {ticker: seen[0] for ticker, seen in sorted(unknown.items()) if len(seen) >= days}


def _strange(rows: list[dict]) -> set[str]:
    """Runs in which the source knew hardly any ticker."""
    asked = Counter(row["run"] for row in rows)
    lost = Counter(row["run"] for row in rows if row["outcome"] == "not_found")
    return {run for run, count in lost.items() if count > 1 and count > _MOST * asked[run]}


def _rows(store: Store, dataset: str) -> list[dict]:
    columns = ["run", "ticker", "outcome", "detail", "full", "created_at"]
    return tables.read(store, "ingests", columns, dataset=dataset).sort_by("created_at").to_pylist()
