"""Stage *explain*: why the weights of a decision differ from what was held, and how far the networks disagree.

The change from the weights of the decision before, drifted to the as-of date, to the new ones is split into parts that
add up to it. Of return-drawdown, in this order, everything solved without limits:

    universe       assets that left are taken out (and, at the end, those that came are put in)
    restated data  the as-of date before, as the newer snapshot knows it; 0 where both name the same bars
    new data       this as-of date's features, forecast by what was learned at the date before
    retraining     the same features, forecast by what was learned now
    correction     what a gate or a calibration does to the model's forecasts, of then and of now
    covariance     this as-of date's correlation
    parameters     numbers that an amendment changed
    constraints    what limits, and holdings where turnover is limited, take from the new weights more than from the old

before which `rebalancing` undoes the drift. `drift` itself stands beside the parts and is none of them. Strategies that
learn have their sessions' steps as new data, within which each session's own limits act; baselines change with their
universe, all others with new data. What is held at a first decision was cash, and all of it a `first purchase`.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage import clock, tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import CASH, TABLES
from storage.store import Store, open_store
from tasks import crossed, histories, holdings, learning, panels, problems
from tasks.caching import cached_task, keyed_by
from tasks.crossed import Teacher
from tasks.learning import Recipe
from tasks.numerics import causes
from tasks.numerics.causes import Ingredients, Step
from tasks.numerics.configs import AccountingConfig, Forecaster
from tasks.numerics.windows import History
from tasks.problems import Choice, Moments

KEYED = keyed_by(
    __name__,
    "tasks.crossed",
    "tasks.histories",
    "tasks.holdings",
    "tasks.learning",
    "tasks.models",
    "tasks.numerics.causes",
    "tasks.panels",
    "tasks.problems",
    packages=("numpy", "scipy", "numba", "pandas", "torch", "exchange-calendars"),
)
UNIVERSE, RESTATED, NEW, RETRAINING = "universe", "restated data", "new data", "retraining"
CORRECTION, COVARIANCE, PARAMETERS, FIRST = "correction", "covariance", "parameters", "first purchase"
BASELINES = ("equal_weight", "index")
OPTIMISER = "return_drawdown"
log = logging.getLogger("prism.explain")
FloatArray = NDArray[np.float64]
Weights = dict[str, float]  # by ticker
Parts = dict[str, FloatArray]


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

    @property
    def key(self) -> str:
        """Key of the rows: the trades' key holds both decisions' weights and all bars that may be seen."""
        return KEYED.key("changes", trades=self.trades)


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
        return panels.load(self.store, sight.panel)

    def known(self, sight: Sight) -> History:
        for (panel, features), history in self._known.items():
            if panel == sight.panel and set(sight.features) <= set(features):
                return history
        found = histories.load(self.store, self.panel(sight), sight.features)
        self._known[sight.panel, sight.features] = found
        return found

    def teacher(self, sight: Sight, forecaster: Forecaster, model: str | None) -> Teacher:
        if model is not None:
            return crossed.network(self.store, model, forecaster)
        return crossed.simple(self.panel(sight), self.known(sight), sight.learned, forecaster)

    def forecasts(self, sight: Sight, by: Teacher) -> Moments:
        return crossed.forecasts(self.panel(sight), self.known(sight), sight.day, by)

    def correlation(self, sight: Sight, tickers: Sequence[str], choice: Choice) -> FloatArray:
        return problems.correlation(self.panel(sight), sight.day, tickers, choice.matrix)

    def is_restated(self, change: Change) -> bool:
        """Whether the earlier date's bars are others than when it was decided."""
        one, other = (panels.prefix(self.store, sight.panel, sight.day) for sight in change.earlier[1:])
        return one != other


@cached_task(cache_policy=KEYED, task_run_name="explain {changes[0].after.moment.month}")
def explain_changes(panel: PanelKey, changes: tuple[Change, ...]) -> Produced:
    """Write the parts of each change that the store lacks, and the spread over the networks of its forecasts."""
    store = open_store()
    keys = tuple(change.key for change in changes)
    there, market = tables.existing(store, "changes", keys), Market(store)
    for change in changes:
        if change.key not in there:
            spread, rows = _spread_rows(market, change), _change_rows(market, change)
            tables.put(store, "spread", pa.Table.from_pylist(spread, TABLES["spread"].schema))
            tables.put(store, "changes", pa.Table.from_pylist(rows, TABLES["changes"].schema))
            log.info("%s explained", change.after.moment.month)
    return Produced("changes", keys)


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
    prices = panels.prices_of(store, now.panel.snapshot, [now.panel.universe])
    found = holdings.drifted(prices, weights, before.traded, change.after.moment.as_of, change.accounting)
    return {CASH: 1.0 - sum(found.values())} | found


def _change_rows(market: Market, change: Change) -> list[dict[str, Any]]:
    """The rows of every strategy's parts, of the assets that have one."""
    after = books(market.store, change.after.weights)
    before = books(market.store, change.before.weights) if change.before else {}
    said = {"key": change.key, "trades": change.trades, "rebalance_date": change.after.moment.rebalance_date}
    said |= {"as_of": change.after.moment.as_of, "created_at": clock.now()}
    rows = []
    for strategy, book in sorted(after.items()):
        old = before[strategy].weights if strategy in before else None
        axis, parts = _of_strategy(market, change, strategy, old, book.weights)
        for place, ticker in enumerate(axis):
            own = {part: float(values[place]) for part, values in parts.items()}
            if any(own.values()) or ticker in book.weights:
                named = said | {"strategy": strategy, "ticker": ticker}
                rows += [named | {"part": part, "change": value} for part, value in own.items()]
    return rows


def _of_strategy(
    market: Market, change: Change, strategy: str, old: Weights | None, new: Weights
) -> tuple[list[str], Parts]:
    """One strategy's tickers, cash among them, and parts."""
    if old is None or change.before is None:
        axis = sorted({*new, CASH})
        cash = np.array([float(ticker == CASH) for ticker in axis])
        return axis, {causes.DRIFT: np.zeros(len(axis)), FIRST: _vector(new, axis) - cash}
    drifted = held(market.store, change, old)
    given = {t for key in (change.before.forecasts, change.after.forecasts) for t in _stored(market.store, key)}
    axis = sorted({*old, *new, *(name for name, weight in drifted.items() if weight), CASH, *given})
    start, steps, solve = _causes(market, change, strategy, old, new, axis)
    vectors = (_vector(weights, axis) for weights in (old, drifted, new))
    return axis, causes.parts(*vectors, start, steps, solve)


def _vector(weights: Weights, axis: Sequence[str]) -> FloatArray:
    return np.array([weights.get(ticker, 0.0) for ticker in axis])


Causes = tuple[Ingredients, list[Step], Callable[[Ingredients], FloatArray]]


def _causes(market: Market, change: Change, strategy: str, old: Weights, new: Weights, axis: list[str]) -> Causes:
    """What the strategy was given before, what changed of it, and how weights come of it."""
    if strategy == OPTIMISER:
        start, steps = _of_optimiser(market, change)
        return start, steps, partial(_solved, axis=axis)
    recipes = [{recipe.name: recipe for recipe in each.recipes} for each in (change.before, change.after) if each]
    if all(strategy in found for found in recipes):
        weights = _of_learner(market, change, *(found[strategy] for found in recipes), old, new)
    else:
        weights = [("", old), (UNIVERSE if strategy in BASELINES else NEW, new)]
    first, *others = [(part, _vector(found, axis)) for part, found in weights]
    steps = [Step(part, {"weights": found}) for part, found in others]
    return {"weights": first[1]}, steps, lambda given: given["weights"]


def _of_learner(
    market: Market, change: Change, was: Recipe, now: Recipe, old: Weights, new: Weights
) -> list[tuple[str, Weights]]:
    """Weights of a strategy that learns, without a limit on its trades, as one thing after the other is changed."""
    before, then, newer = change.earlier
    earlier = _wish(market, then, was, before.moment) if was.max_trade else old
    found = [("", earlier)]
    restated = _wish(market, newer, was, before.moment) if market.is_restated(change) else earlier
    found.append((RESTATED, restated))
    if was != now or newer.panel != change.own.panel:
        here = replace(newer, panel=change.own.panel)
        found.append((PARAMETERS, _wish(market, here, now, before.moment)))
    return [*found, (NEW, _wish(market, change.own, now, change.after.moment) if now.max_trade else new)]


def _wish(market: Market, sight: Sight, recipe: Recipe, moment: Moment) -> Weights:
    """What a strategy that learns would hold at a date if no limit held its trades back."""
    panel = market.panel(sight)
    months = [m for m in panels.moments(market.store, sight.panel) if m.as_of < moment.as_of]
    learner, standing = learning.allocator(recipe, panel), None
    for _, standing in learning.fold(panel, learner, (*months, moment)):
        pass
    if standing is None:
        return {CASH: 1.0}
    weights = dict(zip(panel.universe.assets, standing.held.tolist(), strict=True))
    return weights | {CASH: 1.0 - float(standing.held.sum())}


def _stored(store: Store, key: str | None) -> Moments:
    """Forecasts by ticker, sorted; none where there is no key."""
    rows = tables.read(store, "forecasts", ["ticker", "mean", "variance"], key=key).sort_by("ticker") if key else None
    return {row["ticker"]: (row["mean"], row["variance"]) for row in rows.to_pylist()} if rows is not None else {}


def _of_optimiser(market: Market, change: Change) -> tuple[Ingredients, list[Step]]:
    """What the optimiser was given at the date before, and what changed since, one after the other."""
    before, then, now = change.earlier
    was, will = _stored(market.store, before.forecasts), _stored(market.store, change.after.forecasts)
    both = tuple(ticker for ticker in was if ticker in will)
    old, new = before.choice.unlimited, change.after.choice.unlimited
    members = UNIVERSE if was and will else NEW
    start = {"forecasts": was, "choice": old} | _of_members(market, then, tuple(was), old)
    steps = [Step(members, _of_members(market, then, both, old))]
    seen = _of_members(market, now if market.is_restated(change) else then, both, old)
    if before.is_computed and change.after.is_computed:
        steps += _of_forecasts(market, change, will, seen)
    else:
        steps += [Step(RESTATED, seen), Step(NEW, {"forecasts": will})]
    steps.append(Step(COVARIANCE, _of_members(market, change.own, both, old)))
    steps.append(Step(members, _of_members(market, change.own, tuple(will), old)))
    return start, [*steps, Step(PARAMETERS, {"choice": new} | _of_members(market, change.own, tuple(will), new))]


def _of_members(market: Market, sight: Sight, tickers: tuple[str, ...], choice: Choice) -> Ingredients:
    """The assets, and their correlation as it is seen."""
    return {"tickers": tickers, "correlation": market.correlation(sight, tickers, choice)}


def _of_forecasts(market: Market, change: Change, will: Moments, seen: Ingredients) -> list[Step]:
    """The steps from the forecasts of the date before to those of this one, `will`.

    `seen` is the correlation of the date before as it is known now.
    """
    assert change.ahead is not None
    before, then, now = change.earlier
    keys, restated = (before.forecasts, change.after.forecasts), market.is_restated(change)
    market.known(change.ahead)
    then = then if restated else now
    models, corrected = [_model(market.store, key) for key in keys], tables.existing(market.store, "gates", keys)
    old = market.teacher(then, before.forecaster, models[0])
    raw, steps = will, []
    if keys[0] in corrected:
        steps.append(Step(CORRECTION, {"forecasts": market.forecasts(then, old)}))
    if keys[1] in corrected:
        raw = market.forecasts(change.own, market.teacher(change.own, change.after.forecaster, models[1]))
    steps.append(Step(RESTATED, seen | ({"forecasts": market.forecasts(now, old)} if restated else {})))
    steps.append(Step(NEW, {"forecasts": market.forecasts(change.ahead, old)}))
    steps.append(Step(RETRAINING, {"forecasts": raw}))
    return [*steps, Step(CORRECTION, {"forecasts": will})] if corrected else steps


def _model(store: Store, key: str | None) -> str | None:
    """Key of the model behind forecasts."""
    rows = tables.read(store, "forecasts", ["model"], key=key)
    return rows["model"][0].as_py()


def _solved(given: Ingredients, axis: Sequence[str]) -> FloatArray:
    """Weights (n,) of the assets that have a forecast, without limits; cash where none has."""
    known = [place for place, ticker in enumerate(given["tickers"]) if ticker in given["forecasts"]]
    tickers = tuple(given["tickers"][place] for place in known)
    if not tickers:
        return _vector({CASH: 1.0}, axis)
    mean, variance = np.array([given["forecasts"][ticker] for ticker in tickers]).T
    problem = problems.Problem(tickers, mean, variance, given["correlation"][np.ix_(known, known)])
    weights = problems.solve(problem, given["choice"], dict.fromkeys(tickers, "")).weights
    return _vector(dict(zip(tickers, weights.tolist(), strict=True)) | {CASH: 1.0 - float(weights.sum())}, axis)


def _spread_rows(market: Market, change: Change) -> list[dict[str, Any]]:
    """Lowest, highest and standard deviation of each weight over the networks; no rows for fewer than two."""
    after, own = change.after, change.own
    key = _model(market.store, after.forecasts) if after.forecasts else None
    book = books(market.store, after.weights).get(OPTIMISER)
    if key is None or book is None:
        return []
    panel, by = market.panel(own), market.teacher(own, after.forecaster, key)
    alone = crossed.of_members(panel, market.known(own), own.day, by)
    if len(alone) < 2:
        return []
    pooled, final = market.forecasts(own, by), _stored(market.store, after.forecasts)
    given = [_corrected(each, pooled, final) for each in alone]
    matrix, before = market.correlation(own, tuple(final), after.choice), limiting(market.store, change, book.key)
    sectors = dict(zip(panel.universe.assets, panels.sectors(panel), strict=True))
    found = []
    for each in given:
        problem = problems.Problem(tuple(each), *np.array(list(each.values())).T, matrix)
        found.append(problems.solve(problem, after.choice, sectors, before).weights)
    weights = np.array(found)
    said = {"key": change.key, "allocation": book.key, "rebalance_date": after.moment.rebalance_date}
    said |= {"strategy": OPTIMISER, "created_at": clock.now()}
    columns = zip(final, weights.min(axis=0), weights.max(axis=0), weights.std(axis=0, ddof=1), strict=True)
    return [
        said | {"ticker": ticker, "lowest": float(low), "highest": float(high), "deviation": float(deviation)}
        for ticker, low, high, deviation in columns
        if high > 0.0 or ticker in book.weights
    ]


def limiting(store: Store, change: Change, allocation: str) -> Weights | None:
    """The holdings that the turnover of weights was counted from; None where it was not limited."""
    [row] = tables.read(store, "allocations", ["diagnostics"], key=allocation).to_pylist()
    if change.before is None or json.loads(row["diagnostics"]).get("turnover") is None:
        return None
    return held(store, change, books(store, change.before.weights)[OPTIMISER].weights)


def _corrected(alone: Moments, pooled: Moments, final: Moments) -> Moments:
    """One network's forecasts, moved as a correction moved the pooled ones to the final ones."""
    return {
        ticker: (
            alone[ticker][0] + (mean - pooled[ticker][0]),
            alone[ticker][1] * (variance / pooled[ticker][1]),
        )
        for ticker, (mean, variance) in final.items()
    }
