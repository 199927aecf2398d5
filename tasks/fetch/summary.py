"""What an ingest did, in words for a person: the artifact of the run, and what the terminal prints."""

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from storage import tables
from storage.store import Store

SHOWN = 30  # rows of a table that somebody will read


@dataclass(frozen=True)
class Summary:
    """The newest ingest of a dataset."""

    dataset: str
    ingests: pd.DataFrame
    quality: pd.DataFrame
    restatements: pd.DataFrame

    @property
    def outcomes(self) -> dict[str, int]:
        """Tickers by outcome."""
        return dict(sorted(Counter(self.ingests["outcome"]).items()))

    @property
    def requests(self) -> int:
        """What it took of the source."""
        return int(self.ingests["requests"].fillna(0).sum())

    def counts(self) -> dict[str, object]:
        """Outcomes and requests, and by ticker why it was not taken or waits."""
        waiting = dict(zip(self.waiting["ticker"], self.waiting["detail"], strict=True))
        return {"outcomes": self.outcomes, "requests": self.requests, "waiting": waiting}

    @property
    def waiting(self) -> pd.DataFrame:
        """Tickers that were not taken, or only in part."""
        return self.ingests[(self.ingests["outcome"] != "up_to_date") & (self.ingests["detail"] != "")]


def newest(store: Store, dataset: str) -> Summary | None:
    """The dataset's newest ingest; None where there is none."""
    rows = tables.read(store, "ingests", dataset=dataset).to_pandas()
    if rows.empty:
        return None
    run = rows.sort_values("created_at", kind="stable")["run"].iloc[-1]
    quality, restated = (tables.read(store, name, run=run).to_pandas() for name in ("quality", "restatements"))
    return Summary(dataset, rows[rows["run"] == run].sort_values("ticker"), quality, restated)


def markdown(summary: Summary) -> str:
    """The artifact: outcomes, what waits and why, what was restated, what looked odd."""
    parts = [f"# Prices of {summary.dataset}", _outcomes(summary)]
    parts += _table("Not taken, or waiting", summary.waiting, ["ticker", "outcome", "last_session", "detail"])
    parts += _table("Restated", summary.restatements, ["ticker", "field", "rows", "first_session", "before", "after"])
    parts += _table("Looks odd", summary.quality, ["ticker", "session", "check_name", "severity", "action", "detail"])
    return "\n\n".join(parts)


def _outcomes(summary: Summary) -> str:
    counts = ", ".join(f"{number} {outcome}" for outcome, number in summary.outcomes.items())
    return f"{len(summary.ingests)} tickers: {counts}; {summary.requests} requests."


def _table(title: str, rows: pd.DataFrame, columns: list[str]) -> list[str]:
    """A Markdown table of the first rows, under its title; nothing where there is no row."""
    if rows.empty:
        return []
    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    body = [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows[columns].head(SHOWN).to_numpy()]
    rest = [f"\n... and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return [f"## {title}", "\n".join([*head, *body]), *rest]


def _cell(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "/")
