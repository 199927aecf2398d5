"""What each strategy of a scenario was told to do: decided dates that follow each other, and its weights at each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from storage import ledger, tables
from storage.keys import PanelKey, to_json
from storage.ledger import HELD, Decision
from storage.store import Store
from tasks import panels
from tasks.numerics.configs import AccountingConfig
from tasks.prices import Prices

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Strategy:
    """One strategy's decided dates, without a gap, and its weights at each. K = dates, n = tickers."""

    name: str
    months: list[Decision]
    targets: list[dict[str, float]]

    def on(self, prices: Prices) -> tuple[IntArray, FloatArray, list[AccountingConfig]]:
        """Sessions of its trades (K,), targets by the prices' tickers (K, n), and what trading costs at each."""
        days = [np.datetime64(trade_date(month)) for month in self.months]
        when = np.searchsorted(prices.sessions, days).astype(np.int64)
        targets = np.array([[target.get(ticker, 0.0) for ticker in prices.tickers] for target in self.targets])
        return when, targets, [terms(month) for month in self.months]


def stretch(decided: dict[date, Decision]) -> list[Decision]:
    """The newest decided rebalance dates that follow each other without a gap, in order of time."""
    newest_first: list[Decision] = []
    for day, decision in sorted(decided.items(), reverse=True):
        if newest_first and not _follows(newest_first[-1], day):
            break
        newest_first.append(decision)
    return newest_first[::-1]


def _follows(later: Decision, day: date) -> bool:
    """Whether `day` is the rebalance date before; a record that does not say so is of a scenario of whole months."""
    if "follows" in later.record:
        return later.record["follows"] == f"{day}"
    return 12 * (later.rebalance_date.year - day.year) + later.rebalance_date.month - day.month == 1


def traded(store: Store, panel: PanelKey, scenario: str) -> tuple[list[Decision], list[str]]:
    """The scenario's stretch as far as it has traded in the panel's data, held dates aside, and its universes.

    The panel's universe is the last of these: its sessions are the account's.
    """
    months = stretch(ledger.current(store, scenario))
    used = [panel.universe, *(month.record["universe"] for month in reversed(months))]
    last = panels.load(store, panel).sessions[-1].item()
    done = [month for month in months if month.kind != HELD and trade_date(month) <= last]
    return done, list(dict.fromkeys(used))[::-1]


def terms(month: Decision) -> AccountingConfig:
    """What trading and holding cost by the parameters that the date was decided with."""
    return _config(to_json(month.record["parameters"]["accounting"]))


@lru_cache(maxsize=16)
def _config(values: str) -> AccountingConfig:
    return AccountingConfig(**json.loads(values))


def trade_date(month: Decision) -> date:
    """The session at whose close the date trades."""
    return month.rebalance_date if terms(month).lag else month.as_of


def strategies(store: Store, months: Sequence[Decision]) -> list[Strategy]:
    """Each strategy of the newest date, as far back as it was decided at every date."""
    by_key: dict[str, tuple[str, dict[str, float]]] = {}
    for row in tables.read(store, "weights", key=[key for month in months for key in month.weights]).to_pylist():
        by_key.setdefault(row["key"], (row["strategy"], {}))[1][row["ticker"]] = row["weight"]
    decided = [dict(by_key[key] for key in month.weights) for month in months]
    found = []
    for name in sorted(decided[-1]):
        lacking = [place for place, month in enumerate(decided) if name not in month]
        begin = lacking[-1] + 1 if lacking else 0
        found.append(Strategy(name, list(months[begin:]), [month[name] for month in decided[begin:]]))
    return found
