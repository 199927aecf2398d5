"""How the store and its settings are: what is stored, since when, what has gaps, waits, or is out of date."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from storage import bars, clock, ingests, instruments, snapshots, tables, universe
from storage.errors import NoDataError
from storage.limits import Limits
from storage.settings import ObjectStorage, Settings
from storage.store import Store
from tasks import calendars
from tasks.fetch.delivery import DEFAULT_EXCHANGE
from tasks.fetch.settings import QualitySettings, YahooSettings

_NEW_YORK = "America/New_York"
STALE = 5  # sessions of its exchange behind the last completed one: from then on an asset may not be held


@dataclass(frozen=True)
class Series:
    """One ticker of a dataset."""

    ticker: str
    first: date | None
    last: date | None
    bars: int
    gaps: int | None  # sessions of its exchange between first and last without a bar; None: exchange unknown
    behind: int | None  # sessions of its exchange since the last bar
    state: str  # fine | stale | quarantined | waiting | retired | unanswered
    detail: str


def settings() -> list[dict[str, Any]]:
    """Every setting: name in the environment, value, whether it is set there, and what it means; secrets masked."""
    rows = []
    for group in (Settings(), ObjectStorage(), Limits(), YahooSettings(), QualitySettings()):
        given, prefix = _given(group), group.model_config["env_prefix"]
        for name, entry in type(group).model_fields.items():
            value = getattr(group, name)
            shown = "(set, not shown)" if isinstance(value, SecretStr) else value
            origin = "environment" if name in given else "default"
            rows.append(
                {"name": f"{prefix}{name.upper()}", "value": shown, "origin": origin, "help": entry.description}
            )
    return rows


def _given(group: BaseSettings) -> set[str]:
    """Fields that the environment sets."""
    return group.model_fields_set


def datasets(store: Store) -> list[str]:
    """Datasets that anything was asked for."""
    return sorted(set(tables.read(store, "ingests", ["dataset"])["dataset"].to_pylist()))


def examine(store: Store, dataset: str) -> dict[str, Any]:
    """One dataset, ticker by ticker."""
    held = _held(store, dataset)
    asked = ingests.newest(store, dataset)
    gone = ingests.retired(store, dataset, YahooSettings().retire_days)
    places = _exchanges(store, dataset)
    said = instruments.latest(store, dataset)
    for ticker in held.keys() - places.keys():  # no universe names it: New York's, unless the source says otherwise
        if said.get(ticker, {}).get("timezone", _NEW_YORK) == _NEW_YORK:
            places[ticker] = DEFAULT_EXCHANGE
    live = dataset == "yahoo"
    series = [
        _series(ticker, held.get(ticker), asked.get(ticker, ingests.NEVER), gone, places, live)
        for ticker in sorted({*held, *asked})
    ]
    return {"dataset": dataset, **_extent(store, dataset, series), "tickers": [vars(each) for each in series]}


def _held(store: Store, dataset: str) -> dict[str, pd.Series]:
    """Sessions with a bar, by ticker."""
    known = bars.latest(store, dataset)
    return {str(ticker): rows for ticker, rows in known.groupby("ticker")["session"]}


def _exchanges(store: Store, dataset: str) -> dict[str, str]:
    """Exchanges by ticker, from the universes that read the dataset."""
    used = tables.read(store, "scenarios", ["universe"], dataset=dataset)["universe"].to_pylist()
    return {name: place for one in sorted(set(used)) for name, place in universe.load(store, one).exchanges.items()}


def _series(
    ticker: str,
    sessions: pd.Series | None,
    asked: ingests.Asked,
    gone: Mapping[str, date],
    places: Mapping[str, str],
    live: bool,
) -> Series:
    if sessions is None:
        return Series(ticker, None, None, 0, 0, 0, _state(asked, 0, ticker in gone), asked.detail)
    days = sessions.to_numpy().astype("datetime64[D]")
    gaps, behind = _attendance(places[ticker], days, live) if ticker in places else (None, None)
    state = _state(asked, behind or 0, ticker in gone)
    return Series(ticker, days[0].item(), days[-1].item(), days.size, gaps, behind, state, asked.detail)


def _attendance(exchange: str, days: NDArray[np.datetime64], live: bool) -> tuple[int, int]:
    """Sessions without a bar between the first and the last one, and since."""
    settle = timedelta(minutes=YahooSettings().settle)
    until = calendars.last_completed(exchange, clock.now(), settle) if live else days[-1]
    between = calendars.sessions(exchange, days[0], days[-1])
    behind = calendars.sessions(exchange, days[-1] + 1, until).size
    return int(np.isin(between, days, invert=True).sum()), behind


def _state(asked: ingests.Asked, behind: int, gone: bool) -> str:
    if gone:
        return "retired"
    if asked.outcome == "rejected":
        return "quarantined"
    if asked.outcome != "ok":
        return "unanswered"
    if asked.detail:
        return "waiting"
    return "stale" if behind > STALE else "fine"


def _extent(store: Store, dataset: str, series: list[Series]) -> dict[str, Any]:
    """What the dataset spans, and when it was last known."""
    filled = [each for each in series if each.bars]
    extent = {
        "bars": sum(each.bars for each in series),
        "first": min((each.first for each in filled), default=None),
        "last": max((each.last for each in filled), default=None),
        "restatements": tables.read(store, "restatements", ["run"], dataset=dataset).num_rows,
    }
    try:
        newest = snapshots.newest(store, dataset)
    except NoDataError:
        return extent | {"snapshot": None, "known_at": None}
    return extent | {"snapshot": newest.snapshot, "known_at": newest.known_at}
