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

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from storage import clock, tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import CASH, TABLES
from storage.store import open_store
from tasks import allocations, crossed, learning, panels, problems
from tasks.caching import cached_task, keyed_by
from tasks.learning import Recipe
from tasks.numerics import causes
from tasks.numerics.causes import Ingredients, Step
from tasks.problems import Choice, FloatArray, Moments
from tasks.sights import OPTIMISER, Change, Market, Sight, Weights, books, held, limiting, model_of, stored

KEYED = keyed_by(
    __name__,
    "tasks.allocations",
    "tasks.crossed",
    "tasks.learning",
    "tasks.models",
    "tasks.numerics.causes",
    "tasks.panels",
    "tasks.prices",
    "tasks.problems",
    "tasks.sights",
    packages=("numpy", "scipy", "numba", "pandas", "torch", "exchange-calendars"),
)
OF_THE_UNIVERSE = ("equal_weight", "index")  # strategies whose weights follow from it alone
log = logging.getLogger("prism.explain")
Parts = dict[str, FloatArray]


def key(change: Change) -> str:
    """Key of a change's rows: the trades' key holds both decisions' weights and all bars that may be seen."""
    return KEYED.key("changes", trades=change.trades)


@cached_task(cache_policy=KEYED, task_run_name="explain {changes[0].after.moment.month}")
def explain_changes(panel: PanelKey, changes: tuple[Change, ...]) -> Produced:
    """Write the parts of each change that the store lacks, and the spread over the networks of its forecasts."""
    store = open_store()
    keys = tuple(key(change) for change in changes)
    there, market = tables.existing(store, "changes", keys), Market(store)
    for change in reversed(changes):  # the features of the newest date serve the earlier ones
        if key(change) not in there:
            spread, rows = _spread_rows(market, change), _change_rows(market, change)
            tables.put(store, "spread", pa.Table.from_pylist(spread, TABLES["spread"].schema))
            tables.put(store, "changes", pa.Table.from_pylist(rows, TABLES["changes"].schema))
            log.info("%s explained", change.after.moment.month)
    return Produced("changes", keys)


def _change_rows(market: Market, change: Change) -> list[dict[str, Any]]:
    """The rows of every strategy's parts, of the assets that have one."""
    after = books(market.store, change.after.weights)
    before = books(market.store, change.before.weights) if change.before else {}
    said = {"key": key(change), "trades": change.trades, "rebalance_date": change.after.moment.rebalance_date}
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
        return axis, {causes.DRIFT: np.zeros(len(axis)), causes.FIRST: _vector(new, axis) - cash}
    drifted = held(market.store, change, old)
    given = {t for key in (change.before.forecasts, change.after.forecasts) for t in stored(market.store, key)}
    axis = sorted({*old, *new, *(name for name, weight in drifted.items() if weight), CASH, *given})
    start, steps, solve = _causes(market, change, strategy, old, new, axis)
    vectors = (_vector(weights, axis) for weights in (old, drifted, new))
    return axis, causes.parts(*vectors, start, steps, solve)


def _vector(weights: Weights, axis: Sequence[str]) -> FloatArray:
    """Weights (n,), without those that are rounding, as they are stored."""
    values = np.array([weights.get(ticker, 0.0) for ticker in axis])
    return np.where(np.abs(values) > allocations.ZERO, values, 0.0)


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
        weights = [("", old), (causes.UNIVERSE if strategy in OF_THE_UNIVERSE else causes.NEW, new)]
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
    found.append((causes.RESTATED, restated))
    if was != now or newer.panel != change.own.panel:
        here = replace(newer, panel=change.own.panel)
        found.append((causes.PARAMETERS, _wish(market, here, now, before.moment)))
    return [*found, (causes.NEW, _wish(market, change.own, now, change.after.moment) if now.max_trade else new)]


def _wish(market: Market, sight: Sight, recipe: Recipe, moment: Moment) -> Weights:
    """What a strategy that learns would hold at a date if no limit held its trades back."""
    panel = market.panel(sight)
    months = [m for m in panels.moments(market.store, sight.panel) if m.as_of < moment.as_of]
    _, standing = deque(learning.fold(panel, learning.allocator(recipe, panel), (*months, moment)), maxlen=1)[0]
    if standing is None:
        return {CASH: 1.0}
    return allocations.by_ticker(panel.universe.assets, standing.held)


def _of_optimiser(market: Market, change: Change) -> tuple[Ingredients, list[Step]]:
    """What the optimiser was given at the date before, and what changed since, one after the other."""
    before, then, now = change.earlier
    was, will = stored(market.store, before.forecasts), stored(market.store, change.after.forecasts)
    both = tuple(ticker for ticker in was if ticker in will)
    old, new = before.choice.unlimited, change.after.choice.unlimited
    members = causes.UNIVERSE if was and will else causes.NEW
    start = {"forecasts": was, "choice": old} | _of_members(market, then, tuple(was), old)
    steps = [Step(members, _of_members(market, then, both, old))]
    seen = _of_members(market, now if market.is_restated(change) else then, both, old)
    if before.is_computed and change.after.is_computed:
        steps += _of_forecasts(market, change, will, seen)
    else:
        steps += [Step(causes.RESTATED, seen), Step(causes.NEW, {"forecasts": will})]
    steps.append(Step(causes.COVARIANCE, _of_members(market, change.own, both, old)))
    steps.append(Step(members, _of_members(market, change.own, tuple(will), old)))
    return start, [*steps, Step(causes.PARAMETERS, {"choice": new} | _of_members(market, change.own, tuple(will), new))]


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
    models, corrected = [model_of(market.store, key) for key in keys], tables.existing(market.store, "gates", keys)
    old = market.teacher(then, before.forecaster, models[0])
    raw, steps = will, []
    if keys[0] in corrected:
        steps.append(Step(causes.CORRECTION, {"forecasts": market.forecasts(then, old)}))
    if keys[1] in corrected:
        raw = market.forecasts(change.own, market.teacher(change.own, change.after.forecaster, models[1]))
    steps.append(Step(causes.RESTATED, seen | ({"forecasts": market.forecasts(now, old)} if restated else {})))
    steps.append(Step(causes.NEW, {"forecasts": market.forecasts(change.ahead, old)}))
    steps.append(Step(causes.RETRAINING, {"forecasts": raw}))
    return [*steps, Step(causes.CORRECTION, {"forecasts": will})] if corrected else steps


def _solved(given: Ingredients, axis: Sequence[str]) -> FloatArray:
    """Weights (n,) of the assets that have a forecast, without limits; cash where none has."""
    known = [place for place, ticker in enumerate(given["tickers"]) if ticker in given["forecasts"]]
    tickers = tuple(given["tickers"][place] for place in known)
    if not tickers:
        return _vector({CASH: 1.0}, axis)
    mean, variance = np.array([given["forecasts"][ticker] for ticker in tickers]).T
    problem = problems.Problem(tickers, mean, variance, given["correlation"][np.ix_(known, known)])
    weights = problems.solve(problem, given["choice"], dict.fromkeys(tickers, "")).weights
    return _vector(allocations.by_ticker(tickers, weights), axis)


def _spread_rows(market: Market, change: Change) -> list[dict[str, Any]]:
    """Lowest, highest and standard deviation of each weight over the networks; no rows for fewer than two."""
    after, own = change.after, change.own
    model = model_of(market.store, after.forecasts) if after.forecasts else None
    book = books(market.store, after.weights).get(OPTIMISER)
    if model is None or book is None:
        return []
    panel, by = market.panel(own), market.teacher(own, after.forecaster, model)
    alone = crossed.of_members(panel, market.known(own), own.day, by)
    if len(alone) < 2:
        return []
    pooled = market.forecasts(own, by)
    final = {t: moments for t, moments in stored(market.store, after.forecasts).items() if t in pooled}
    given = [_corrected(each, pooled, final) for each in alone]
    matrix, before = market.correlation(own, tuple(final), after.choice), limiting(market.store, change, book.key)
    sectors = dict(zip(panel.universe.assets, panels.sectors(panel), strict=True))
    found = []
    for each in given:
        problem = problems.Problem(tuple(each), *np.array(list(each.values())).T, matrix)
        found.append(problems.solve(problem, after.choice, sectors, before).weights)
    weights = np.array(found)
    said = {"key": key(change), "allocation": book.key, "rebalance_date": after.moment.rebalance_date}
    said |= {"strategy": OPTIMISER, "created_at": clock.now()}
    columns = zip(final, weights.min(axis=0), weights.max(axis=0), weights.std(axis=0, ddof=1), strict=True)
    return [
        said | {"ticker": ticker, "lowest": float(low), "highest": float(high), "deviation": float(deviation)}
        for ticker, low, high, deviation in columns
        if high > 0.0 or ticker in book.weights
    ]


def _corrected(alone: Moments, pooled: Moments, final: Moments) -> Moments:
    """One network's forecasts, moved as a correction moved the pooled ones to the final ones."""
    return {
        ticker: (
            alone[ticker][0] + (mean - pooled[ticker][0]),
            alone[ticker][1] * (variance / pooled[ticker][1]),
        )
        for ticker, (mean, variance) in final.items()
    }
