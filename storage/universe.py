"""Universes: the assets that may be held, with sector, exchange and dates, and the index beside them.

A universe is read once, from the CSV files of this folder, a person's own file, or the tickers of a dataset,
and then kept as a blob; its id is part of every key, so an edited file is another universe.
"""

import csv
import io
import json
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from storage import blobs
from storage.errors import InputError
from storage.keys import to_json
from storage.store import Store

_FOLDER = Path(__file__).parent / "universes"
_FIRST, _LAST = date(1800, 1, 1), date(9999, 12, 31)


@dataclass(frozen=True)
class Member:
    """One row of a universe: an asset, and the days from and to which it may be held."""

    ticker: str
    name: str = ""
    sector: str = ""
    exchange: str = "XNYS"
    currency: str = "USD"
    first: date = _FIRST
    last: date = _LAST
    aliases: tuple[str, ...] = ()
    role: str = "asset"


@dataclass(frozen=True)
class Universe:
    """Members sorted by ticker and first day."""

    name: str
    members: tuple[Member, ...]

    @property
    def assets(self) -> tuple[str, ...]:
        """Tickers that may be held, sorted; the order of every array over assets."""
        return tuple(sorted({member.ticker for member in self.members if member.role == "asset"}))

    @property
    def index(self) -> str | None:
        """Ticker of the index, if there is one."""
        return next((member.ticker for member in self.members if member.role == "index"), None)

    @property
    def exchange(self) -> str:
        """The exchange whose sessions are the portfolio's: that of the first asset."""
        return next(member.exchange for member in self.members if member.role == "asset")

    @property
    def tickers(self) -> tuple[str, ...]:
        """Every ticker whose bars the universe may read: assets, index and aliases."""
        return tuple(sorted({name for member in self.members for name in (member.ticker, *member.aliases)}))


def names() -> list[str]:
    """The universes that come with PRISM."""
    return sorted(file.stem for file in _FOLDER.glob("*.csv"))


def of_tickers(name: str, tickers: list[str], index: str | None = None) -> Universe:
    """All `tickers` as assets, but for the index."""
    if index is not None and index not in tickers:
        raise InputError(f"index {index!r} has no prices; give one of {', '.join(tickers[:20])}")
    members = tuple(Member(ticker, role="index" if ticker == index else "asset") for ticker in sorted(tickers))
    return _checked(Universe(name, members))


def with_index(universe: Universe, index: str | None) -> Universe:
    """The universe with `index` in the role of the index (None: as it is)."""
    if index is None or index == universe.index:
        return universe
    others = tuple(m for m in universe.members if m.role != "index" and m.ticker != index)
    members = sorted((*others, Member(index, role="index")), key=lambda member: (member.ticker, member.first))
    return _checked(replace(universe, members=tuple(members)))


def parse(name: str, text: str) -> Universe:
    """A universe from CSV text with the columns `ticker` and optionally those of Member (`from`, `to` for days)."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    if "ticker" not in (rows.fieldnames or ()):
        raise InputError(f"universe {name} has no column `ticker`; its first line must name the columns")
    members = sorted((_member(name, row) for row in rows), key=lambda member: (member.ticker, member.first))
    return _checked(Universe(name, tuple(members)))


def _member(name: str, row: dict[str, str | None]) -> Member:
    values = {column: (value or "").strip() for column, value in row.items() if column}
    if not values["ticker"]:
        raise InputError(f"universe {name} has a row without a ticker; remove it or fill it in")
    try:
        first = date.fromisoformat(values.get("from") or _FIRST.isoformat())
        last = date.fromisoformat(values.get("to") or _LAST.isoformat())
    except ValueError as error:
        raise InputError(f"universe {name}, {values['ticker']}: {error}; write dates as 2024-05-31") from error
    return Member(
        ticker=values["ticker"],
        name=values.get("name", ""),
        sector=values.get("sector", ""),
        exchange=values.get("exchange") or "XNYS",
        currency=values.get("currency") or "USD",
        first=first,
        last=last,
        aliases=tuple(values.get("aliases", "").replace(";", " ").split()),
        role=values.get("role") or "asset",
    )


def _checked(universe: Universe) -> Universe:
    roles = {member.role for member in universe.members}
    if not roles <= {"asset", "index"}:
        unknown = sorted(roles - {"asset", "index"})
        raise InputError(f"universe {universe.name} has the role {unknown[0]!r}; a role is asset or index")
    indices = sorted({member.ticker for member in universe.members if member.role == "index"})
    if len(indices) > 1:
        raise InputError(f"universe {universe.name} has the indices {', '.join(indices)}; it may have one")
    if not universe.assets:
        raise InputError(f"universe {universe.name} has no asset; it needs at least one")
    spans = [(m.ticker, m.first, m.last) for m in universe.members]
    for (ticker, first, last), (after, start, _) in zip(spans, [*spans[1:], ("", _FIRST, _LAST)], strict=True):
        if first > last or (ticker == after and start <= last):
            raise InputError(f"universe {universe.name}: the dates of {ticker} overlap or end before they begin")
    return universe


def read(name_or_path: str) -> Universe:
    """A universe that comes with PRISM, or one from a CSV file."""
    if name_or_path in names():
        return parse(name_or_path, (_FOLDER / f"{name_or_path}.csv").read_text())
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise InputError(f"universe {name_or_path!r} is neither a file nor one of {', '.join(names())}")
    try:
        return parse(path.stem, path.read_text())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"universe file {path} cannot be read ({error}); it must be CSV text") from error


def keep(store: Store, universe: Universe) -> str:
    """Store the universe and return its id."""
    return blobs.put(store, to_json(universe).encode())


def load(store: Store, identity: str) -> Universe:
    """The universe of that id."""
    content = json.loads(blobs.get(store, identity))
    return Universe(content["name"], tuple(_restored(member) for member in content["members"]))


def _restored(values: dict) -> Member:
    days = {"first": date.fromisoformat(values["first"]), "last": date.fromisoformat(values["last"])}
    return Member(**{**values, **days, "aliases": tuple(values["aliases"])})
