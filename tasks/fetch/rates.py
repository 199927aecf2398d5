"""Returns from a file: risk-free rates and factor returns, one column each, as bars of the basis `rate`.

Such a file gives what was earned in each session, not a price: the Fama-French files are the example. Its unit is
named by the person who brings it, because 0.01 is a plausible day in either.
"""

import logging
from pathlib import Path

import pandas as pd

from storage import bars, clock, snapshots
from storage.errors import InputError
from storage.snapshots import Snapshot
from tasks.fetch import diary
from tasks.fetch.delivery import Run, bars_of
from tasks.fetch.files import read_prices

UNITS = {"percent": 0.01, "fraction": 1.0}
_LARGEST = 0.5  # of a return in one session: more is another unit
log = logging.getLogger("prism.fetch")


def deliver(run: Run, path: str, unit: str) -> Snapshot:
    """Take in a table with a date column and one column of returns for each name.

    Raises InputError for another layout, an unknown unit, or a return that is too large to be one of a session.
    """
    rows = read(path, unit)
    known = bars.latest(run.store, run.dataset)
    _check_names(known, rows)
    new, revised = bars.news(known, rows.assign(source=run.source))
    moment = clock.now()
    bars.append(run.store, run.dataset, pd.concat([new, revised]), moment)
    counts = rows["ticker"].value_counts().sort_index()
    diary.outcomes(run, [{"ticker": name, "outcome": "ok", "rows": int(count)} for name, count in counts.items()])
    log.info("rates of %s: %s; %d new, %d restated", run.dataset, ", ".join(counts.index), len(new), len(revised))
    return snapshots.take(run.store, run.dataset, bars.latest(run.store, run.dataset), clock.now(), run.name)


def read(path: str, unit: str) -> pd.DataFrame:
    """The returns in long form, as fractions: ticker, session, and `close` for the value."""
    if unit not in UNITS:
        raise InputError(f"unit {unit!r} is unknown; give --unit percent or --unit fraction")
    parsed = read_prices(Path(path).expanduser())
    if parsed.layout != "wide":
        raise InputError(f"{path} is a {parsed.layout} table; rates are read from a date column and one for each name")
    rows = parsed.bars[parsed.bars["close"].notna()]
    values = rows["close"] * UNITS[unit]
    if (values.abs() > _LARGEST).any():
        worst = rows.loc[values.abs().idxmax()]
        raise InputError(
            f"{worst['ticker']} is {worst['close']:g} {unit} on {worst['session'].date()}; no session earns that: "
            "give the other --unit, or correct the file"
        )
    given = rows[["ticker", "session"]].assign(close=values)
    return bars_of(given, "rate").assign(ticker=given["ticker"].to_numpy())


def _check_names(known: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Refuse a name that has prices: prices and returns of one ticker must not mix."""
    priced = known.loc[known["basis"] != "rate", "ticker"]
    shared = sorted(set(rows["ticker"]) & set(priced))
    if shared:
        raise InputError(f"{shared[0]} has prices already; rename its column in the file of rates")
