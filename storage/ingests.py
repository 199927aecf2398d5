"""The diary of ingests, ticker by ticker: when each was asked for, what came, and which names are gone."""

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
    full_month: str | None  # month in which the whole history was last taken


NEVER = Asked(datetime.min, "never", "", None)


def newest(store: Store, dataset: str) -> dict[str, Asked]:
    """By ticker, the newest row that says more than that nothing was to do."""
    found: dict[str, Asked] = {}
    for row in _rows(store, dataset):
        before = found.get(row["ticker"], NEVER)
        month = f"{row['created_at']:%Y-%m}" if row["full"] and row["outcome"] == "ok" else before.full_month
        if row["outcome"] == "up_to_date":
            continue
        found[row["ticker"]] = Asked(row["created_at"], row["outcome"], row["detail"], month)
    return found


def retired(store: Store, dataset: str, days: int) -> dict[str, date]:
    """Tickers that the source did not know on `days` different days in a row, and the day on which that was so.

    Other failures say nothing about a ticker; an answer brings it back.
    """
    unknown: dict[str, list[date]] = {}
    for row in _rows(store, dataset):
        seen = unknown.setdefault(row["ticker"], [])
        if row["outcome"] in ("ok", "up_to_date", "rejected"):
            seen.clear()
        elif row["outcome"] == "not_found" and row["created_at"].date() not in seen:
            seen.append(row["created_at"].date())
    return {ticker: seen[days - 1] for ticker, seen in sorted(unknown.items()) if len(seen) >= days}


def _rows(store: Store, dataset: str) -> list[dict]:
    columns = ["ticker", "outcome", "detail", "full", "created_at"]
    return tables.read(store, "ingests", columns, dataset=dataset).sort_by("created_at").to_pylist()
