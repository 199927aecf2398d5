"""A person's own prices, from Parquet or CSV, as rows with a reason for every one left out.

Three layouts are understood: long (one row a date and ticker), wide (date x ticker, closes), and a folder with one
file per ticker, named by it; a single file without a ticker column is a folder of one. Dates are ISO 8601, year
first, because 03/04 has two meanings; a time of day or zone is dropped, so that the date as written is the session.
Text that stands for nothing (empty, `nan`, `null`, `-` ...) is absent; any other text among numbers is refused.
Nothing is written, filled or repaired, and only what cannot be read or placed is left out: whether the prices can be
right is judged by the quality gate.

The basis of the closes (formulas, section 1) follows from the columns,

    adjusted    adj_close and no dividend, or closes in a wide table, whose vendors adjust them
    traded      a split column, unless the closes do not step on the days of splits
    split       the rest

for Yahoo's exports hold splits beside closes already adjusted for them: dividing once more would give a return of
+300 % on the day of a four-for-one split.
"""

import re
import warnings
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from storage import tickers
from storage.errors import InputError

FIELDS = {
    "session": ("date", "datetime", "timestamp", "session"),
    "ticker": ("ticker", "symbol"),
    "adj_close": ("adj_close", "adjclose", "adjusted_close"),
    "dividend": ("dividend", "dividends"),
    "split": ("split", "splits", "stock_split", "stock_splits"),
    **{name: (name,) for name in ("open", "high", "low", "close", "volume")},
}
SYNONYMS = {name: field for field, names in FIELDS.items() for name in names}
NUMBERS = ["open", "high", "low", "close", "adj_close", "volume", "dividend", "split"]
KEY = ["ticker", "session"]
ABSENT = {"", "-", "na", "n/a", "nan", "nat", "null", "none", "<na>"}
TOLERANCE = 1e-6  # relative; vendors round each price by itself, and scrapes of one bar differ by float noise


class Parsed(NamedTuple):
    """What was understood of a person's file or folder."""

    bars: pd.DataFrame  # ticker, session, NUMBERS as float64, NaN where absent; sorted by ticker and session, unique
    refused: pd.DataFrame  # ticker, session, check_name, value, reason: the rows left out
    layout: str  # long | wide | folder
    basis: str  # traded | split | adjusted
    notes: tuple[str, ...]  # sentences on how columns were read
    conflicts: pd.DataFrame = pd.DataFrame({"ticker": [], "session": []})  # days whose rows disagree, left out


class _Table(NamedTuple):
    """One file in long form, its cells still as they were read."""

    rows: pd.DataFrame
    layout: str
    notes: list[str]


def read_prices(path: Path) -> Parsed:
    """Read the prices at `path`, a .csv or .parquet file or a folder of them; see the module for the rules.

    Refused with its reason is a row without ticker or date, with text among its numbers, without a close where
    another row of its day has one, and every row of a day whose rows disagree by more than 1e-6 of a number; rows that
    agree count once. A split ratio of 0 means no split.

    Raises InputError when there is no such file, it cannot be read, a date or close column is missing, two layouts
    are mixed, or no row can be used.
    """
    table = _folder(path) if path.is_dir() else _long(path)
    rows, unread, notes = _typed(table.rows)
    basis, reason = _basis(rows, table.layout)
    faults = _faults(rows, unread)
    bars, left, conflicts = _once(_without(rows, faults))
    collapsed = len(rows) - len(faults) - len(left) - len(bars)
    if collapsed:
        notes.append(f"{collapsed} rows repeat another one and count once.")
    refused = pd.concat([faults, left]).sort_index()
    if bars.empty:
        why = "the table is empty" if refused.empty else f"the first reason: {refused['reason'].iloc[0]}"
        raise InputError(f"{path} has no usable row among {len(rows)}; {why}. Correct the file and read it again.")
    said = (*table.notes, *notes, reason)
    return Parsed(bars, refused.reset_index(drop=True), table.layout, basis, said, conflicts)


def _load(path: Path) -> pd.DataFrame:
    """The cells of one file."""
    if not path.exists():
        raise InputError(f"{path} does not exist; give a .csv or .parquet file, or a folder with one per ticker.")
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path} ends in {path.suffix!r}; prices are read from .csv and .parquet files.")
    try:
        frame = READERS[path.suffix.lower()](path)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        said = " ".join(str(error).split())
        message = f"{path} cannot be read ({said}); expected is Parquet, or CSV with commas and one header row."
        raise InputError(message) from error
    if frame.columns.nlevels > 1:
        raise InputError(f"{path} has {frame.columns.nlevels} header rows; write one row per date and ticker instead.")
    return frame


def _csv(path: Path) -> pd.DataFrame:
    """All cells as text, so that tickers such as NA or 0005 survive."""
    with warnings.catch_warnings():
        # A row longer than the header is an error; pandas would otherwise cut it, or shift it by a column.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")


def _parquet(path: Path) -> pd.DataFrame:
    """The columns with their types; an index counts as one where it has a name or holds dates."""
    frame = pd.read_parquet(path)
    if isinstance(frame.index, pd.DatetimeIndex):
        frame.index.name = frame.index.name or "date"
    return frame.reset_index(drop=not any(frame.index.names))


READERS = {".csv": _csv, ".parquet": _parquet}


def _fields(frame: pd.DataFrame, path: Path) -> dict[str, str]:
    """Which column is which field: {column: field}, for the columns known by a name of theirs."""
    plain = {column: re.sub(r"[\s_-]+", "_", str(column).strip().lower()) for column in frame.columns}
    found = {column: SYNONYMS[name] for column, name in plain.items() if name in SYNONYMS}
    # The name that pandas gives to an index saved without one.
    if "session" not in found.values() and "Unnamed: 0" in frame.columns[:1]:
        found["Unnamed: 0"] = "session"
    _check_fields(found, frame, path)
    return found


def _check_fields(found: dict[str, str], frame: pd.DataFrame, path: Path) -> None:
    """Raise InputError for a table without dates, or with two columns for one field."""
    if "session" not in found.values():
        raise InputError(f"{path} has no date column; it has {_listed(frame)}. Name one of them date.")
    fields = list(found.values())
    shared = [f"{column} ({field})" for column, field in found.items() if fields.count(field) > 1]
    if shared:
        raise InputError(f"{path} has the columns {', '.join(shared)} for the same field; keep one of them.")


def _listed(frame: pd.DataFrame) -> str:
    """The first columns, for a message."""
    return ", ".join(map(str, frame.columns[:12]))


def _long(path: Path) -> _Table:
    """One file in long form, whichever of the layouts it has."""
    frame = _load(path)
    fields = _fields(frame, path)
    if {"close", "adj_close"} & set(fields.values()):
        return _rows(frame, fields, path)
    # LOW and OPEN are tickers, too: in a wide table only the date goes by a field's name.
    if "ticker" in fields.values() or not _tickers(frame.columns.difference(list(fields), sort=False)):
        raise InputError(f"{path} has no close column; it has {_listed(frame)}. Name one of them close.")
    return _wide(frame, fields)


def _rows(frame: pd.DataFrame, fields: dict[str, str], path: Path) -> _Table:
    """A table with one row a date and ticker, or a date of the ticker that the file is named by."""
    notes = [f"Columns read: {', '.join(f'{column} as {field}' for column, field in fields.items())}."]
    ignored = frame.columns.difference(list(fields), sort=False)
    if len(ignored):
        notes.append(f"Ignored columns: {', '.join(map(str, ignored))}.")
    rows = frame[list(fields)].rename(columns=fields)
    if "ticker" in rows:
        return _Table(rows, "long", notes)
    notes.append("There is no ticker column; the file's name is taken as the ticker.")
    return _Table(rows.assign(ticker=path.stem), "folder", notes)


def _tickers(columns: pd.Index) -> list[str]:
    """The columns that name an asset; an index saved without a name does not."""
    return [column for column in columns if not str(column).startswith("Unnamed: ")]


def _wide(frame: pd.DataFrame, fields: dict[str, str]) -> _Table:
    """A date x ticker table of closes in long form; an empty cell is no bar."""
    date = next(column for column, field in fields.items() if field == "session")
    tickers = _tickers(frame.columns.drop(date))
    rows = frame.melt(id_vars=date, value_vars=tickers, var_name="ticker", value_name="close")
    empty = rows["close"].isna() | rows["close"].astype(str).str.strip().str.lower().isin(ABSENT)
    notes = [f"Column {date} is read as session, and {len(tickers)} others as the closes of tickers."]
    return _Table(rows[~empty].rename(columns={date: "session"}).reset_index(drop=True), "wide", notes)


def _folder(path: Path) -> _Table:
    """All files of a folder, one ticker each, as one long table."""
    known = {entry: entry.suffix.lower() in READERS for entry in sorted(path.glob("[!.]*"))}
    tables = [_member(file) for file, reads in known.items() if reads]
    if not tables:
        raise InputError(f"{path} holds no .csv or .parquet file among {len(known)} entries; expected is one a ticker.")
    notes = [f"Ignored in the folder: {entry.name}." for entry, reads in known.items() if not reads]
    notes += dict.fromkeys(chain.from_iterable(table.notes for table in tables))
    return _Table(pd.concat([table.rows for table in tables], ignore_index=True), "folder", notes)


def _member(file: Path) -> _Table:
    """One file of a folder; InputError where it holds other tickers than the one it is named by."""
    table = _long(file)
    if table.layout == "wide" or set(table.rows["ticker"].astype(str)) - {file.stem}:
        raise InputError(
            f"{file.parent} mixes two layouts: {file.name} holds several tickers, but in a folder each file holds one "
            "and is named by it. Read that file on its own."
        )
    return table


def _typed(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, list[str]]:
    """The cells as ticker, session and NUMBERS; the reasons against rows with other text; and notes."""
    name = cells["ticker"].astype(str).str.strip()
    rows = pd.DataFrame({"ticker": name.mask(cells["ticker"].isna(), ""), "session": _sessions(cells["session"])})
    unread, notes = pd.Series(dtype=str), []
    for column in NUMBERS:
        given = cells.get(column, pd.Series(np.nan, index=rows.index))
        rows[column], wrong = _numbers(given)
        unread = unread.combine_first(f"{column} is " + given[wrong].astype(str) + "; it must be a number")
    if rows["close"].isna().all() and rows["adj_close"].notna().any():
        rows["close"] = rows["adj_close"]
        notes.append("There is no close beside adj_close; adj_close stands for both.")
    # Yahoo writes 0 on days without a split.
    rows["split"] = rows["split"].replace(0.0, 1.0)
    return rows, unread, notes


def _sessions(given: pd.Series) -> pd.Series:
    """Dates as written: 2022-01-04 00:00+09:00 is the session of January 4; NaT where there is none."""
    codes, distinct = pd.factorize(given)
    parts = pd.Series(distinct).astype(str).str.extract(r"^\s*(\d{4})([-/.]?)(\d{2})\2(\d{2})(?:[ T].*)?$")
    dates = pd.to_datetime(parts[0] + "-" + parts[2] + "-" + parts[3], format="%Y-%m-%d", errors="coerce")
    # Code -1, a missing cell, picks the last entry.
    known = np.append(dates.to_numpy("datetime64[s]"), np.datetime64("NaT", "s"))
    return pd.Series(known[codes], index=given.index)


def _numbers(given: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Cells as float64, NaN where absent or unreadable, and which are unreadable (text, or infinite)."""
    if pd.api.types.is_numeric_dtype(given.dtype):
        values, absent = pd.Series(given.to_numpy(np.float64, na_value=np.nan), given.index), given.isna()
    else:
        text = given.astype(str).str.strip()
        absent = given.isna() | text.str.lower().isin(ABSENT)
        values = pd.to_numeric(text.mask(absent), errors="coerce").astype(np.float64)
    unreadable = ~absent & ~np.isfinite(values)
    return values.mask(unreadable), unreadable


def _basis(rows: pd.DataFrame, layout: str) -> tuple[str, str]:
    """The basis of the closes, and the sentences that say why."""
    paid = rows["dividend"].fillna(0).ne(0).any()
    if layout == "wide":
        return "adjusted", "Basis adjusted: a wide table holds one close per day, taken as the total-return close."
    if rows["adj_close"].notna().any() and not paid:
        return "adjusted", "Basis adjusted: there is an adj_close and no dividend."
    basis, reason = "split", "Basis split: closes are taken as adjusted for splits."
    if rows["split"].notna().any():
        basis, reason = _split_basis(rows)
    if paid:
        reason += " Dividends are added to returns: leave them out if the closes are adjusted for them already."
    return basis, reason


def _split_basis(rows: pd.DataFrame) -> tuple[str, str]:
    """Whether closes step on the days of splits: by ln C_t/C_{t-1}, nearer to -ln s (traded) or to 0 (split)."""
    ordered = rows[(rows["close"] > 0) & rows["session"].notna()].sort_values(KEY, kind="stable")
    step = np.log(ordered["close"]).groupby(ordered["ticker"]).diff()
    event = step.notna() & (ordered["split"] > 0) & (ordered["split"] != 1)
    ratio = np.log(ordered["split"][event])
    stepped = (step[event] + ratio).abs() < step[event].abs()
    if stepped.size and stepped.mean() <= 0.5:
        basis, words = "split", "the closes do not step on the days of splits, so they are adjusted for them"
    else:
        basis, words = "traded", "there is a split column"
    reason = f"Basis {basis}: {words}."
    odd = ordered.loc[stepped.index[stepped == (basis == "split")], "ticker"]
    if len(odd):
        reason += f" {len(odd)} of {stepped.size} splits look otherwise, the first of {odd.iloc[0]}."
    return basis, reason


def _faults(rows: pd.DataFrame, unread: pd.Series) -> pd.DataFrame:
    """The rows that cannot be read or placed, each with the first reason, under their own index."""
    found = [
        rows.loc[unread.index, KEY].assign(check_name="not_a_number", value=np.nan, reason=unread),
        _refusal(rows[rows["ticker"].eq("")], "no_ticker", "the ticker is empty"),
        _strange(rows),
        _refusal(rows[rows["session"].isna()], "no_date", "the date is empty or not written as YYYY-MM-DD"),
    ]
    every = pd.concat(found)
    return every[~every.index.duplicated()]


def _strange(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of what is no ticker; a name is long, so that the reason gives its beginning."""
    said = {name: tickers.fault(name) for name in rows["ticker"].unique()}
    wrong = rows[rows["ticker"].isin([name for name, fault in said.items() if fault])]
    named = wrong["ticker"].str[: tickers.LONGEST]
    reasons = [f"the ticker {name!r} {said[whole]}" for name, whole in zip(named, wrong["ticker"], strict=True)]
    return wrong[["session"]].assign(ticker=named, check_name="bad_ticker", value=wrong["close"], reason=reasons)[
        [*KEY, "check_name", "value", "reason"]
    ]


def _refusal(rows: pd.DataFrame, name: str, reason: str) -> pd.DataFrame:
    """Rows of the table of refusals; the close is the value, and its place in the reason is {:g}."""
    return rows[KEY].assign(check_name=name, value=rows["close"], reason=[reason.format(at) for at in rows["close"]])


def _once(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One row a ticker and session: (bars, refusals, days whose rows disagree)."""
    rows = rows.sort_values(KEY, kind="stable")
    again = _repeats(rows)
    repeated = rows[again | again.shift(-1, fill_value=False)].sort_index()
    priced = repeated["close"].notna()
    empty = repeated[~priced & priced.groupby([repeated[name] for name in KEY]).transform("any")]
    repeated = _without(repeated, empty)
    conflict = repeated[_disagree(repeated)]
    refused = pd.concat(
        [
            _refusal(empty, "no_close", "the close is empty, and another row of the day has one"),
            _refusal(conflict, "conflicting_duplicate", "close is {:g}, and another row of the day disagrees"),
        ]
    )
    kept = _without(rows, refused)
    bars = kept[~_repeats(kept)].reset_index(drop=True)
    return bars, refused, conflict[KEY].drop_duplicates().sort_values(KEY).reset_index(drop=True)


def _repeats(rows: pd.DataFrame) -> pd.Series:
    """Which rows, sorted, are of the same ticker and session as the one before."""
    return rows[KEY].eq(rows[KEY].shift()).all(axis=1)


def _without(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Rows but for the others, and no copy where there are none."""
    return rows.drop(index=others.index) if len(others) else rows


def _disagree(repeated: pd.DataFrame) -> pd.Series:
    """Which rows belong to a day whose rows differ in a number; a number and its absence differ."""
    days = repeated.groupby(KEY)[NUMBERS]
    least, most, count = days.transform("min"), days.transform("max"), days.transform("count")
    size = days.transform("size")
    same = (most - least <= TOLERANCE * most.abs()) & count.eq(size, axis=0) | count.eq(0)
    return ~same.all(axis=1)
