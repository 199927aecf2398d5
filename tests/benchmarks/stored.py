"""Section *store*: a person's file of 20 years and 500 tickers taken in, read back and asked, beside a plain script.

    import          the file into an empty store, as a run takes it in: read, judged by the quality gate, compared
                    with what is known, appended with its provenance, kept as a snapshot of monthly partitions
    next month      the same file 21 sessions longer: only what is new is written, and what was known stays
    as-of read      the panel of all tickers as it was known before that month, cut at a date
    questions       SQL through the catalog: best return of 63 sessions, mean volume by month, a correlation

The baseline is pandas with one Parquet file beside the person's own: read, sort, drop doubles, write the file anew; for
a read or a question, read the columns needed again, pivot, compute. It judges nothing and has one version, the last.
"""

import os
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from storage import catalog, snapshots, universe
from storage.keys import PanelKey
from storage.store import open_store
from tasks import calendars, fetch, panels
from tests.benchmarks import frame
from tests.benchmarks.allocators import daily_returns
from tests.benchmarks.frame import Row, Section

NAME, DATASET = "store", "files:main"
TICKERS, SESSIONS, MONTH = 500, 5040, 21
FIRST, DAY = date(2001, 1, 2), "2015-06-30"
SPAN, TURNS = 63, 3
Frame = pd.DataFrame


def bars(tickers: int, sessions: int, seed: int = 0) -> Frame:
    """Generated daily bars in long form: date, ticker, open, high, low, close, volume."""
    rng = np.random.default_rng(seed)
    days = calendars.sessions("XNYS", FIRST, date(2022, 1, 1))[:sessions]
    moves = daily_returns(tickers, sessions, seed).clip(-0.15, 0.15)  # none that the gate could take for a split
    close = np.round(100 * np.cumprod(1 + moves, axis=0), 4)
    opened = np.round(close * (1 + 0.003 * rng.standard_normal(close.shape)), 4)
    reach = np.abs(0.004 * rng.standard_normal((2, *close.shape)))
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * (1 + reach[0]),
        "low": np.minimum(opened, close) * (1 - reach[1]),
        "close": close,
        "volume": np.round(np.exp(rng.normal(13, 0.4, close.shape))),
    }
    names = np.array([f"T{number:03}" for number in range(tickers)])
    keys = {"date": np.repeat(days.astype("datetime64[s]"), tickers), "ticker": np.tile(names, sessions)}
    return Frame(keys | {name: values.ravel() for name, values in columns.items()})


# --- ours, each in a process of its own


def take_in(store: str, path: str) -> None:
    """Bring the file into the store, as a run does."""
    os.environ["PRISM_STORE"] = store
    fetch.ingest.fn("files", DATASET, path)


def read(store: str, known: str, day: str) -> Frame:
    """Returns (session x ticker) up to a day, as a decision saw them that knew what the first snapshot holds."""
    place = open_store(store)
    snapshot = snapshots.load(place, known)
    tickers = sorted({name for month in snapshots.manifest(place, snapshot).values() for name in month["tickers"]})
    chosen = universe.in_currency(universe.of_tickers("all", tickers), "USD")
    panel = panels.load(place, PanelKey(snapshot.snapshot, universe.keep(place, chosen)))
    count = panel.at(date.fromisoformat(day)) + 1
    return Frame(panel.returns[:count], panel.sessions[:count], list(panel.universe.assets))


def ask(store: str, sql: str) -> Frame:
    """The answer to a question in SQL."""
    return catalog.query(open_store(store), "main", sql).to_pandas()


QUESTIONS = {
    f"best return of {SPAN} sessions by ticker": f"""
        SELECT ticker, max(change) AS best FROM (
            SELECT ticker, close / lag(close, {SPAN}) OVER (PARTITION BY ticker ORDER BY session) - 1 AS change
            FROM bars WHERE session <= DATE '{DAY}')
        GROUP BY ticker ORDER BY ticker""",
    "mean volume by month and ticker": """
        SELECT ticker, date_trunc('month', session) AS month, avg(volume) AS volume
        FROM bars GROUP BY ALL ORDER BY ALL""",
    "correlation of two tickers": """
        WITH moves AS (
            SELECT session, ticker, close / lag(close) OVER (PARTITION BY ticker ORDER BY session) - 1 AS change
            FROM bars WHERE ticker IN ('T000', 'T001'))
        SELECT corr(a.change, b.change) AS correlation
        FROM moves a JOIN moves b USING (session) WHERE a.ticker = 'T000' AND b.ticker = 'T001'""",
}


# --- the baseline


def rewrite(kept: str, path: str) -> None:
    """Read the person's file and write the script's own anew."""
    rows = pd.read_parquet(path).dropna(subset=["close"]).drop_duplicates(["ticker", "date"])
    rows.sort_values(["ticker", "date"]).to_parquet(kept, index=False)


def read_plainly(kept: str, day: str) -> Frame:
    """Returns (session x ticker) up to a day from the script's file."""
    rows = pd.read_parquet(kept, columns=["date", "ticker", "close"])
    return rows[rows["date"] <= day].pivot(index="date", columns="ticker", values="close").pct_change()


def _best(kept: str) -> Frame:
    rows = pd.read_parquet(kept, columns=["date", "ticker", "close"])
    closes = rows[rows["date"] <= DAY].pivot(index="date", columns="ticker", values="close")
    return closes.pct_change(SPAN).max().rename("best").reset_index()


def _volumes(kept: str) -> Frame:
    rows = pd.read_parquet(kept, columns=["date", "ticker", "volume"])
    months = rows["date"].dt.to_period("M").dt.to_timestamp().rename("month")
    return rows.groupby(["ticker", months])["volume"].mean().reset_index()


def _correlation(kept: str) -> Frame:
    asked = [("ticker", "in", ["T000", "T001"])]
    rows = pd.read_parquet(kept, columns=["date", "ticker", "close"], filters=asked)
    moves = rows.pivot(index="date", columns="ticker", values="close").pct_change()
    return Frame({"correlation": [moves["T000"].corr(moves["T001"])]})


PLAIN: dict[str, Callable[[str], Frame]] = dict(zip(QUESTIONS, (_best, _volumes, _correlation), strict=True))


# --- measurements


def section() -> Section:
    """All rows."""
    with tempfile.TemporaryDirectory() as folder:
        rows = _measured(Path(folder))
    notes = (
        f"{SESSIONS:,} sessions x {TICKERS} tickers, long Parquet with open, high, low, close and volume; CPU time; "
        "questions are medians of interleaved turns, the rest is done once, each in a process of its own",
        "baseline: pandas on one Parquet file that is rewritten; a ratio below 1 is the price of the gate, of "
        "provenance, of content hashes and of all versions, which it has none of",
        "as-of read: ours also tells which assets may be held, their volumes, spreads and ranges",
    )
    return Section(NAME, notes, tuple(rows))


def _measured(folder: Path) -> list[Row]:
    store, kept, small = str(folder / "store"), str(folder / "kept.parquet"), folder / "small.parquet"
    before, after = folder / "before.parquet", folder / "after.parquet"
    made = bars(TICKERS, SESSIONS + MONTH)
    made.to_parquet(after)
    made.head(SESSIONS * TICKERS).to_parquet(before)
    made[made["ticker"] < "T002"].head(2000).to_parquet(small)
    frame.apart(__name__, "take_in", str(folder / "small"), str(small))  # so that the kernels are compiled
    rows = []
    for case, path in (("import", before), ("next month", after)):
        ours, plain = (frame.apart(__name__, *work, str(path)) for work in (("take_in", store), ("rewrite", kept)))
        rows.append(frame.cost(NAME, case, ours.seconds, plain.seconds, "CPU-s"))
        rows.append(frame.cost(NAME, f"{case}, peak memory", ours.memory, plain.memory, "MiB"))
        if case == "import":
            known = snapshots.newest(open_store(store), DATASET).snapshot
    return rows + _reads(store, known, kept) + _questions(store, kept)


def _reads(store: str, known: str, kept: str) -> list[Row]:
    ours, plain = frame.apart(__name__, "read", store, known, DAY), frame.apart(__name__, "read_plainly", kept, DAY)
    return [
        frame.cost(NAME, "as-of read", ours.seconds, plain.seconds, "CPU-s"),
        frame.cost(NAME, "as-of read, peak memory", ours.memory, plain.memory, "MiB"),
    ]


def _questions(store: str, kept: str) -> list[Row]:
    works: dict[str, Callable[[], Any]] = {}
    for case, sql in QUESTIONS.items():
        works[f"ours, {case}"] = lambda sql=sql: ask(store, sql)
        works[f"plain, {case}"] = lambda case=case: PLAIN[case](kept)
    seconds = frame.interleaved(works, TURNS)
    return [frame.cost(NAME, case, seconds[f"ours, {case}"], seconds[f"plain, {case}"], "CPU-s") for case in QUESTIONS]
