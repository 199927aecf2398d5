"""Universes: the assets that may be held, with sector, exchange, currency and dates, and what is read beside them.

Beside the assets there may be an index, exchange rates, a risk-free rate and factors. A universe is read once,
from the CSV files of this folder, a person's own file, or the tickers of a dataset, and then kept as a blob; its
id is part of every key, so an edited file is another universe.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from storage import blobs, tickers
from storage.errors import InputError
from storage.keys import to_json
from storage.store import Store

ROLES = ("asset", "index", "rate", "risk_free", "factor")
CURRENCIES = "24/5"  # where exchange rates trade: five days a week, around the clock
_FOLDER = Path(__file__).parent / "universes"
_FIRST, _LAST = date(1800, 1, 1), date(9999, 12, 31)
_DAYS = ("first", "last", "delisted", "chosen_on")
_CURRENCY = re.compile("[A-Z]{3}")
_MAJOR = {"GBp": "GBP", "GBX": "GBP", "ZAc": "ZAR", "ILA": "ILS"}


@dataclass(frozen=True)
class Member:
    """One row of a universe: a ticker, its role, and the days from and to which it may be held."""

    ticker: str
    name: str = ""
    sector: str = ""
    exchange: str = "XNYS"
    currency: str = "USD"
    first: date = _FIRST
    last: date = _LAST
    aliases: tuple[str, ...] = ()
    role: str = "asset"
    also: tuple[str, ...] = ()  # further sectors in which a source lists it; labels only
    delisted: date | None = None  # from this day on it is no longer traded
    chosen_on: date | None = None  # when it was picked: before that day its results are hindsight


@dataclass(frozen=True)
class Universe:
    """Members sorted by ticker and first day, the exchange of the portfolio's sessions, and its currency."""

    name: str
    members: tuple[Member, ...]
    exchange: str = "XNYS"
    currency: str = "USD"

    @cached_property
    def assets(self) -> tuple[str, ...]:
        """Tickers that may be held, sorted; the order of every array over assets."""
        return self.of_role("asset")

    @property
    def index(self) -> str | None:
        """Ticker of the index, if there is one."""
        return next(iter(self.of_role("index")), None)

    @property
    def rates(self) -> tuple[str, ...]:
        """Tickers of exchange rates, sorted."""
        return self.of_role("rate")

    @property
    def risk_free(self) -> str | None:
        """Ticker of the risk-free rate, if there is one."""
        return next(iter(self.of_role("risk_free")), None)

    @property
    def factors(self) -> tuple[str, ...]:
        """Tickers of factors, sorted."""
        return self.of_role("factor")

    @property
    def tickers(self) -> tuple[str, ...]:
        """Every ticker whose bars the universe may read: those of all roles, and aliases."""
        return tuple(sorted(self.exchanges))

    @cached_property
    def names(self) -> dict[str, tuple[str, ...]]:
        """By ticker the names of its bars: itself, then the aliases of all its rows."""
        found: dict[str, tuple[str, ...]] = {}
        for member in self.members:
            found[member.ticker] = tuple(dict.fromkeys((*found.get(member.ticker, (member.ticker,)), *member.aliases)))
        return found

    @property
    def sectors(self) -> dict[str, tuple[str, ...]]:
        """Assets by sector; one that a source lists twice is in both."""
        pairs = {(sector, m.ticker) for m in self.members if m.role == "asset" for sector in (m.sector, *m.also)}
        labels = sorted({sector for sector, _ in pairs if sector})
        return {label: tuple(sorted(ticker for sector, ticker in pairs if sector == label)) for label in labels}

    @property
    def chosen_on(self) -> date | None:
        """The latest day on which a member was picked; None where no row says so."""
        return max((member.chosen_on for member in self.members if member.chosen_on), default=None)

    @cached_property
    def exchanges(self) -> dict[str, str]:
        """The exchange of every ticker and alias."""
        return {name: member.exchange for member in self.members for name in (member.ticker, *member.aliases)}

    @cached_property
    def currencies(self) -> dict[str, str]:
        """The currency of every ticker and alias, as its row has it."""
        return {name: member.currency for member in self.members for name in (member.ticker, *member.aliases)}

    def rate_of(self, ticker: str) -> str | None:
        """The rate that turns the ticker's prices into the universe's currency; None where they are in it."""
        return pair(self.currencies[ticker], self.currency)

    def of_role(self, role: str) -> tuple[str, ...]:
        """Tickers in that role, sorted."""
        return tuple(sorted({member.ticker for member in self.members if member.role == role}))


def major(currency: str) -> str:
    """The currency whose hundredth part prices may be quoted in: GBP for GBp; others are themselves."""
    return _MAJOR.get(currency, currency)


def unit(currency: str) -> float:
    """What a price of 1 is in the major currency: 0.01 where prices are quoted in its hundredth part."""
    return 0.01 if currency in _MAJOR else 1.0


def hindsight(universe: Universe, first: date) -> str:
    """How the choice of the universe bears on results from `first` on; empty where it was made before them."""
    count, flatters = len(universe.assets), "flatter what an investor of that time could have earned"
    if universe.chosen_on is None:
        return f"If the {count} assets of {universe.name} were chosen with hindsight, results {flatters}."
    if universe.chosen_on <= first:
        return ""
    chosen = f"The {count} assets of {universe.name} were chosen with hindsight, on {universe.chosen_on}"
    return f"{chosen}: results before that day {flatters}."


def names() -> list[str]:
    """The universes that come with PRISM."""
    return sorted(file.stem for file in _FOLDER.glob("*.csv"))


def of_tickers(name: str, tickers: list[str], index: str | None = None) -> Universe:
    """All `tickers` as assets, but for the index."""
    if index is not None and index not in tickers:
        raise InputError(f"index {index!r} has no prices; give one of {', '.join(tickers[:20])}")
    return _of_members(name, [Member(ticker, role="index" if ticker == index else "asset") for ticker in tickers])


def with_index(universe: Universe, index: str | None) -> Universe:
    """The universe with `index` in the role of the index (None: as it is)."""
    return universe if index in (None, universe.index) else _with_role(universe, "index", (index,))


def with_risk_free(universe: Universe, ticker: str | None) -> Universe:
    """The universe with `ticker` in the role of the risk-free rate (None: as it is)."""
    return universe if ticker in (None, universe.risk_free) else _with_role(universe, "risk_free", (ticker,))


def with_factors(universe: Universe, tickers: Sequence[str]) -> Universe:
    """The universe with `tickers` as its factors (none: as it is)."""
    wanted = tuple(sorted(set(tickers)))
    return universe if wanted in ((), universe.factors) else _with_role(universe, "factor", wanted)


def _with_role(universe: Universe, role: str, tickers: tuple[str, ...]) -> Universe:
    """Just `tickers` in that role; one that is no member yet trades where the portfolio does."""
    known = {member.ticker: member for member in universe.members}
    new = [known.get(t) or Member(t, exchange=universe.exchange, currency=universe.currency) for t in tickers]
    others = [member for member in universe.members if member.role != role and member.ticker not in tickers]
    cast = [replace(member, role=role, first=_FIRST, last=_LAST) for member in new]
    return in_currency(_checked(replace(universe, members=_sorted([*others, *cast]))), universe.currency)


def joined(universe: Universe, others: Sequence[Universe]) -> Universe:
    """The universe with the rows of tickers that only the others have: for reading prices, not for choosing assets."""
    known = set(universe.exchanges)
    extra = {member for other in others for member in other.members if member.ticker not in known}
    return replace(universe, members=_sorted([*universe.members, *extra]))


def in_currency(universe: Universe, currency: str) -> Universe:
    """The universe with `currency` as its base, and just the exchange rates which that needs.

    A rate is one base unit per unit of another currency of an asset or the index: `GBPUSD=X`, as a row of the
    universe has it, else on the market of currencies.
    """
    currency = major(currency)
    wanted = {pair(m.currency, currency) for m in universe.members if m.role in ("asset", "index")} - {None}
    others = [m for m in universe.members if m.role != "rate" or m.ticker in wanted]
    missing = wanted - {member.ticker for member in others}
    rates = [Member(ticker, exchange=CURRENCIES, currency=currency, role="rate") for ticker in missing]
    return _checked(replace(universe, members=_sorted([*others, *rates]), currency=currency))


def pair(currency: str, base: str) -> str | None:
    """The ticker of the rate that turns `currency` into `base`, as Yahoo writes it; None where none is needed.

    Pence and the like need that of their pound: a return does not depend on the unit.
    """
    own, wanted = major(currency), major(base)
    return None if own == wanted else f"{own}{wanted}=X"


def parse(name: str, text: str) -> Universe:
    """A universe from CSV text with the columns `ticker` and optionally those of Member (`from`, `to` for days).

    The first asset of the text sets the exchange and the base currency; missing exchange rates are added.
    """
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    columns = list(rows.fieldnames or ())
    if len(set(columns)) != len(columns):
        raise InputError(f"universe {name} names a column twice ({', '.join(columns)}); name each once")
    if "ticker" not in columns:
        raise InputError(f"universe {name} has no column `ticker`; its first line must name the columns")
    return _of_members(name, [_member(name, row) for row in rows])


def _of_members(name: str, members: list[Member]) -> Universe:
    """The universe of members that are still in the order of their source."""
    first = next((member for member in members if member.role == "asset"), Member(""))
    return in_currency(_checked(Universe(name, _sorted(members), first.exchange)), first.currency)


def _sorted(members: Sequence[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: (member.ticker, member.first)))


def _member(name: str, row: dict[str, str | None]) -> Member:
    values = {column: (value or "").strip() for column, value in row.items() if column}
    if not values["ticker"]:
        raise InputError(f"universe {name} has a row without a ticker; remove it or fill it in")
    columns = dict(zip(_DAYS, ("from", "to", "delisted", "chosen_on"), strict=True))
    try:
        days = {day: date.fromisoformat(values[column]) for day, column in columns.items() if values.get(column)}
    except ValueError as error:
        raise InputError(f"universe {name}, {values['ticker']}: {error}; write dates as 2024-05-31") from error
    role = values.get("role") or "asset"
    return Member(
        ticker=values["ticker"],
        name=values.get("name", ""),
        sector=values.get("sector", ""),
        exchange=values.get("exchange") or (CURRENCIES if role == "rate" else Member.exchange),
        currency=values.get("currency") or Member.currency,
        aliases=tuple(values.get("aliases", "").replace(";", " ").split()),
        role=role,
        also=tuple(label.strip() for label in values.get("also", "").split(";") if label.strip()),
        **days,
    )


def _checked(universe: Universe) -> Universe:
    name, known = universe.name, f"{', '.join(ROLES[:-1])} or {ROLES[-1]}"
    for ticker in sorted({written for member in universe.members for written in (member.ticker, *member.aliases)}):
        said = tickers.fault(ticker)
        if said:
            raise InputError(f"universe {name}: the ticker {ticker[: tickers.LONGEST]!r} {said}")
    unknown = sorted({member.role for member in universe.members} - set(ROLES))
    if unknown:
        raise InputError(f"universe {name} has the role {unknown[0]!r}; a role is {known}")
    for role, plural in (("index", "indices"), ("risk_free", "risk-free rates")):
        found = universe.of_role(role)
        if len(found) > 1:
            raise InputError(f"universe {name} has the {plural} {', '.join(found)}; it may have one")
    if not universe.assets:
        raise InputError(f"universe {name} has no asset; it needs at least one")
    for code in sorted({universe.currency, *universe.currencies.values()}):
        if code not in _MAJOR and not _CURRENCY.fullmatch(code):
            raise InputError(f"universe {name} has the currency {code!r}; write a code of three capitals such as USD")
    _check_days(name, universe.members)
    return universe


def _check_days(name: str, members: tuple[Member, ...]) -> None:
    """Raise InputError for rows of a ticker whose days cannot be."""
    spans = [(m.ticker, m.first, m.last) for m in members]
    for (ticker, first, last), (after, start, _) in zip(spans, [*spans[1:], ("", _FIRST, _LAST)], strict=True):
        if first > last or (ticker == after and start <= last):
            raise InputError(f"universe {name}: the dates of {ticker} overlap or end before they begin")
    for m in members:
        if m.delisted and m.delisted < m.first:
            raise InputError(
                f"universe {name}: {m.ticker} was delisted on {m.delisted}, before its first day {m.first}; correct one"
            )


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


def identity(universe: Universe) -> str:
    """The id of the universe's blob, whether it is stored or not."""
    return hashlib.sha256(to_json(universe).encode()).hexdigest()


def keep(store: Store, universe: Universe) -> str:
    """Store the universe and return its id."""
    return blobs.put(store, to_json(universe).encode())


def load(store: Store, blob: str) -> Universe:
    """The universe of that id."""
    content = json.loads(blobs.get(store, blob))
    members = tuple(_restored(member) for member in content.pop("members"))
    # universes of the first format name neither exchange nor currency: the first member by ticker set them
    first = next(member for member in members if member.role == "asset")
    return Universe(members=members, **{"exchange": first.exchange, "currency": first.currency} | content)


def _restored(values: dict[str, Any]) -> Member:
    days = {name: date.fromisoformat(values[name]) for name in _DAYS if values.get(name)}
    texts = {name: tuple(values[name]) for name in ("aliases", "also") if name in values}
    return Member(**{**values, **days, **texts})
