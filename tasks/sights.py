"""Decisions that are compared, and what could be seen when they were made: as it was known then, or is known since."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from storage import tables
from storage.keys import Moment, PanelKey
from storage.schemas import CASH
from storage.store import Store
from tasks import covariances, crossed, histories, holdings, panels
from tasks.crossed import Teacher
from tasks.learning import Recipe
from tasks.numerics.configs import AccountingConfig, Forecaster
from tasks.numerics.windows import History
from tasks.prices import prices_of
from tasks.problems import Choice, FloatArray, Moments

OPTIMISER = "return_drawdown"
Weights = dict[str, float]  # by ticker


@dataclass(frozen=True)
class Sight:
    """What may be seen at a day of one snapshot."""

    panel: PanelKey
    day: date
    learned: date  # the newest monthly as-of date, at which models are
    features: tuple[str, ...]  # keys of the partitions up to the day; empty where nothing is forecast from features


@dataclass(frozen=True)
class Decided:
    """A decision, and what its numbers were made by."""

    moment: Moment
    traded: date
    weights: tuple[str, ...]  # keys
    forecasts: str | None
    choice: Choice
    forecaster: Forecaster
    recipes: tuple[Recipe, ...]

    @property
    def is_computed(self) -> bool:
        """Whether its forecasts are made from features."""
        return self.forecasts is not None and self.forecaster.forecast.forecaster != "files"


@dataclass(frozen=True)
class Change:
    """Two decisions, one after the other; of a first one there is none before."""

    trades: str  # key of the trades from the one to the other
    after: Decided
    own: Sight  # of the later date
    accounting: AccountingConfig
    before: Decided | None = None
    then: Sight | None = None  # of the earlier date, as it was decided
    now: Sight | None = None  # of the earlier date, as the later decision knows it
    ahead: Sight | None = None  # of the later date, by the features of the earlier decision

    @property
    def earlier(self) -> tuple[Decided, Sight, Sight]:
        """The decision before, with its date as it was and as it is known; only where there is one."""
        assert self.before is not None
        assert self.then is not None
        assert self.now is not None
        return self.before, self.then, self.now


class Book(NamedTuple):
    """One strategy's weights, under their key."""

    key: str
    weights: Weights


class Market:
    """Panels, and features of what may be seen; those that reach furthest serve every earlier day."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[tuple[PanelKey, tuple[str, ...]], History] = {}

    def panel(self, sight: Sight) -> panels.Panel:
        """The prices that are seen."""
        return panels.load(self.store, sight.panel)

    def known(self, sight: Sight) -> History:
        """The features that are known, at the day and perhaps later."""
        for (panel, features), history in self._known.items():
            if panel == sight.panel and set(sight.features) <= set(features):
                return history
        found = histories.load(self.store, sight.panel, sight.features)
        self._known[sight.panel, sight.features] = found
        return found

    def teacher(self, sight: Sight, forecaster: Forecaster, model: str | None) -> Teacher:
        """What was learned: the network under a key, or what the simple forecasters take."""
        if model is not None:
            return crossed.network(self.store, model, forecaster)
        return crossed.simple(self.panel(sight), self.known(sight), sight.learned, forecaster)

    def forecasts(self, sight: Sight, by: Teacher) -> Moments:
        """The forecasts of the day by what was learned somewhere."""
        return crossed.forecasts(self.panel(sight), self.known(sight), sight.day, by)

    def correlation(self, sight: Sight, tickers: Sequence[str], choice: Choice) -> FloatArray:
        """Correlation of the assets up to the day."""
        return covariances.correlation(self.panel(sight), sight.day, tickers, choice.matrix)

    def is_restated(self, change: Change) -> bool:
        """Whether the earlier date's bars are others than when it was decided."""
        one, other = (panels.prefix(self.store, sight.panel, sight.day) for sight in change.earlier[1:])
        return one != other


def books(store: Store, keys: Sequence[str]) -> dict[str, Book]:
    """Weights by strategy."""
    said = tables.read(store, "allocations", ["key", "strategy"], key=list(keys)).to_pylist()
    found = {row["strategy"]: Book(row["key"], {}) for row in said}
    for row in tables.read(store, "weights", ["strategy", "ticker", "weight"], key=list(keys)).to_pylist():
        found[row["strategy"]].weights[row["ticker"]] = row["weight"]
    return found


def held(store: Store, change: Change, weights: Weights) -> Weights:
    """What weights of the decision before have become at the as-of date, with what is left of them as cash."""
    before, _, now = change.earlier
    prices = prices_of(store, now.panel.snapshot, [now.panel.universe])
    found = holdings.drifted(prices, weights, before.traded, change.after.moment.as_of, change.accounting)
    return {CASH: 1.0 - sum(found.values())} | found


def stored(store: Store, key: str | None) -> Moments:
    """Forecasts by ticker, sorted; none where there is no key."""
    rows = tables.read(store, "forecasts", ["ticker", "mean", "variance"], key=key).sort_by("ticker") if key else None
    return {row["ticker"]: (row["mean"], row["variance"]) for row in rows.to_pylist()} if rows is not None else {}


def model_of(store: Store, key: str | None) -> str | None:
    """Key of the model behind forecasts; None where there is none."""
    rows = tables.read(store, "forecasts", ["model"], key=key)
    return rows["model"][0].as_py()


def limiting(store: Store, change: Change, allocation: str) -> Weights | None:
    """The holdings that the turnover of weights was counted from; None where it was not limited."""
    [row] = tables.read(store, "allocations", ["diagnostics"], key=allocation).to_pylist()
    if change.before is None or json.loads(row["diagnostics"]).get("turnover") is None:
        return None
    return held(store, change, books(store, change.before.weights)[OPTIMISER].weights)
