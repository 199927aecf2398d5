"""Stage *fetch*: read a source, compare it with what is known, and take a snapshot.

Two sources need no network: `sample`, the 20 large US stocks and the index whose adjusted closes skfolio
bundles (1990 to 2022), and `files`, a person's own prices. A delivery that was read before is not read again.
"""

import hashlib
import importlib.metadata
import logging
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import bars, clock, snapshots, tables
from storage.errors import InputError, NoDataError
from storage.keys import digest
from storage.schemas import TABLES
from storage.snapshots import Snapshot
from storage.store import Store, open_store
from tasks import calendars
from tasks.caching import fingerprint
from tasks.fetch.files import Parsed, read_prices

DEFAULT_EXCHANGE = "XNYS"
RESCALED = 1e-5  # relative: more than vendors' rounding
log = logging.getLogger("prism.fetch")


@dataclass(frozen=True)
class Delivery:
    """What a source has to give, before it is stored."""

    bars: pd.DataFrame
    refused: pd.DataFrame
    notes: tuple[str, ...]
    layout: str


@task(cache_policy=NO_CACHE, task_run_name="ingest {dataset}")
def ingest(source: str, dataset: str, path: str | None, exchanges: dict[str, str]) -> str:
    """Bring a source's bars into `dataset`; the id of the snapshot that holds what is known now.

    `exchanges` gives the exchange of tickers that trade elsewhere than New York. Without a `path`, files that
    were ingested before are taken as they are.
    """
    store = open_store()
    if source == "files" and path is None:
        return _known(store, dataset).snapshot
    delivered = _digest(source, path, exchanges)
    same = snapshots.delivered(store, dataset, delivered)
    if same is not None:
        log.info("prices of %s: nothing new", dataset)
        return same.snapshot
    return _store(store, dataset, source, read(source, path, exchanges), delivered).snapshot


def _known(store: Store, dataset: str) -> Snapshot:
    try:
        return snapshots.newest(store, dataset)
    except NoDataError as error:
        raise InputError(f"dataset {dataset} has no prices yet; name the file or folder with --path") from error


def _digest(source: str, path: str | None, exchanges: dict[str, str]) -> str:
    """Names a delivery: the files' bytes or the sample's version, and the code that reads them."""
    code = fingerprint(__name__, ("tasks.fetch.files",))
    if source == "sample":
        return digest([code, "skfolio", importlib.metadata.version("skfolio")])
    named = Path(path or "").expanduser()
    files = sorted(file for file in named.rglob("*") if file.is_file()) if named.is_dir() else [named]
    if not named.exists():
        raise InputError(f"{named} does not exist; give --path a Parquet or CSV file, or a folder of them")
    content = [(str(file.relative_to(named)), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    return digest([code, exchanges, content])


def read(source: str, path: str | None, exchanges: dict[str, str]) -> Delivery:
    """Read a source without storing anything."""
    parsed = _sample() if source == "sample" else read_prices(Path(path or "").expanduser())
    frame, off = _on_sessions(parsed.bars.assign(basis=parsed.basis, source=source), exchanges)
    if frame.empty:
        raise InputError(
            f"{path} has no bar on a session of its exchange; correct the dates or the universe's exchange"
        )
    refused = pd.concat([part for part in (parsed.refused, off) if len(part)] or [parsed.refused], ignore_index=True)
    return Delivery(frame, refused, parsed.notes, parsed.layout)


def preview(source: str, path: str | None, exchanges: dict[str, str]) -> dict[str, Any]:
    """What a source would bring, for a person to look at before anything is stored."""
    if source == "files" and path is None:
        raise InputError("--source files needs --path, a Parquet or CSV file or a folder of them")
    found = read(source, path, exchanges)
    tickers = []
    for ticker, rows in found.bars.groupby("ticker", sort=True):
        first, last = rows["session"].min().date(), rows["session"].max().date()
        gaps = len(calendars.sessions(exchanges.get(ticker, DEFAULT_EXCHANGE), first, last)) - len(rows)
        tickers.append({"ticker": ticker, "bars": len(rows), "first": first, "last": last, "gaps": gaps})
    refused = found.refused.astype(object).where(found.refused.notna(), None).to_dict("records")
    for row in refused:
        row["session"] = row["session"].date() if row["session"] is not None else None
    return {"layout": found.layout, "basis": found.bars["basis"].iloc[0], "notes": list(found.notes)} | {
        "tickers": tickers,
        "refused": refused,
    }


def _sample() -> Parsed:
    # skfolio takes two seconds to import and is needed on the first run only
    from skfolio.datasets import load_sp500_dataset, load_sp500_index

    wide = load_sp500_dataset().join(load_sp500_index())
    frame = wide.rename_axis(columns="ticker").stack().rename("close").reset_index()
    frame = frame.rename(columns={"Date": "session"}).sort_values(["ticker", "session"], ignore_index=True)
    empty = dict.fromkeys([name for name in bars.VALUES if name != "close"], np.nan)
    frame = frame.assign(session=frame["session"].astype("datetime64[s]"), **empty)
    refused = pd.DataFrame(columns=["ticker", "session", "check_name", "value", "reason"])
    return Parsed(frame[["ticker", "session", *bars.VALUES]], refused, "wide", "adjusted", ())


def _on_sessions(frame: pd.DataFrame, exchanges: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The bars of sessions of each ticker's exchange, and as refused those of other days."""
    places = frame["ticker"].map(lambda ticker: exchanges.get(ticker, DEFAULT_EXCHANGE))
    good = pd.Series(False, index=frame.index)
    for exchange in sorted(places.unique()):
        here = places == exchange
        days = frame.loc[here, "session"]
        good[here] = np.isin(
            days.to_numpy().astype("datetime64[D]"), calendars.sessions(exchange, days.min(), days.max())
        )
    off = frame.loc[~good, ["ticker", "session"]].assign(check_name="session", value=np.nan)
    off["reason"] = "the exchange " + places[~good] + " did not trade on that day"
    return frame[good].reset_index(drop=True), off


def _store(store: Store, dataset: str, source: str, delivery: Delivery, delivered: str) -> Snapshot:
    """Append what is new or restated, write the diary, and take the snapshot."""
    moment, run = clock.now(), uuid.uuid4().hex
    known = bars.latest(store, dataset)
    _check_seams(known, delivery.bars)
    new, revised = bars.news(known, delivery.bars)
    bars.append(store, dataset, pd.concat([new, revised]), moment)
    _write_diary(store, run, dataset, source, delivery, {"new": len(new), "restated": len(revised)})
    log.info(
        "prices of %s: %d bars of %d tickers, %d new, %d restated, %d refused",
        dataset, len(delivery.bars), delivery.bars["ticker"].nunique(), len(new), len(revised), len(delivery.refused),
    )  # fmt: skip
    for note in delivery.notes:
        log.info("  %s", note)
    return snapshots.take(store, dataset, bars.latest(store, dataset), moment, delivered)


def _check_seams(known: pd.DataFrame, delivered: pd.DataFrame) -> None:
    """Refuse a delivery that adjusts a ticker otherwise than the older bars that it leaves as they are.

    Its first bar would follow one on another scale, and a split or dividend would be counted as a loss.
    """
    begin = delivered.groupby("ticker")["session"].min()
    older = known[known["session"] < known["ticker"].map(begin)]
    wrong = sorted((_other_basis(older, delivered) | _rescaled(known, delivered)) & set(older["ticker"]))
    if wrong:
        raise InputError(
            f"{wrong[0]} is adjusted otherwise from {begin[wrong[0]].date()} on than in its older bars, which this "
            "delivery does not hold; give --path files with all sessions of that ticker"
        )


def _other_basis(older: pd.DataFrame, delivered: pd.DataFrame) -> set[str]:
    """Tickers whose bars are of another basis than the older ones, and cannot be read by that one.

    Files with adjusted closes are `traded` or `adjusted` according to the dividends in them: they are read alike.
    """
    tickers = older["ticker"]
    now = tickers.map(delivered.groupby("ticker")["basis"].first())
    complete = tickers.map(delivered["adj_close"].notna().groupby(delivered["ticker"]).all()).astype(bool)
    alike = older["basis"].ne("split") & now.ne("split") & complete
    return set(tickers[older["basis"].ne(now) & ~alike])


def _rescaled(known: pd.DataFrame, delivered: pd.DataFrame) -> set[str]:
    """Tickers whose adjusted prices differ from those known on most sessions of the overlap, not just on some."""
    both = known.merge(delivered[delivered["basis"] != "traded"], on=bars.IDENTITY, suffixes=("_before", ""))
    price, before = (both[f"adj_close{end}"].fillna(both[f"close{end}"]) for end in ("", "_before"))
    overlap = (price / before).groupby(both["ticker"]).agg(["size", "median"])
    return set(overlap.index[(overlap["size"] >= 3) & ((overlap["median"] - 1).abs() > RESCALED)])


def _write_diary(store: Store, run: str, dataset: str, source: str, delivery: Delivery, counts: dict[str, int]) -> None:
    """One row a ticker in `ingests`, and the refused rows in `quality`."""
    rows: list[dict[str, Any]] = [
        {"run": run, "dataset": dataset, "ticker": ticker, "outcome": "ok", "rows": int(count), "detail": source}
        | {"created_at": clock.now()}
        for ticker, count in delivery.bars["ticker"].value_counts().sort_index().items()
    ]
    tables.append(store, "ingests", pa.Table.from_pylist(rows, TABLES["ingests"].schema))
    if len(delivery.refused):
        found = delivery.refused.astype(object).where(delivery.refused.notna(), None)
        refused = [
            {
                "run": run,
                "dataset": dataset,
                "ticker": row.ticker or "",
                "check_name": row.check_name,
                "value": row.value,
            }
            | {"session": row.session.date() if row.session is not None else None, "severity": "fatal"}
            | {"action": "refused", "detail": row.reason}
            for row in found.itertuples()
        ]
        tables.append(store, "quality", pa.Table.from_pylist(refused, TABLES["quality"].schema))
