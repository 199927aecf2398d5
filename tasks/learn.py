"""Stage *learn*: strategies that carry a state from session to session.

The state is stored at the first date of each month that is asked for, and resumed from the newest one stored.
"""

import logging
from itertools import pairwise

from storage import tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import CASH
from storage.store import Store, open_store
from tasks import allocations, carried, learning, panels
from tasks.allocations import Allocation
from tasks.caching import cached_task, keyed_by
from tasks.learning import Recipe, Standing

KEYED = keyed_by(
    __name__,
    "tasks.allocations",
    "tasks.carried",
    "tasks.learning",
    "tasks.panels",
    packages=("numpy", "numba", "exchange-calendars"),
)
TOO_FEW = "fewer than two assets are eligible yet"
log = logging.getLogger("prism.learn")


def key(moment: Moment, recipe: Recipe, rebalance: str) -> str:
    """Key of the strategy's state and weights at one date; `rebalance` counts where trades are limited."""
    return KEYED.key("learn", prefix=moment.prefix, recipe=recipe, dates=rebalance if recipe.max_trade else None)


@cached_task(cache_policy=KEYED, task_run_name="{recipe.name} from {moments[0].month}")
def learn(
    panel: PanelKey, history: tuple[Moment, ...], moments: tuple[Moment, ...], recipe: Recipe, rebalance: str
) -> Produced:
    """Step a strategy through every session, and keep its state and weights at `moments`.

    `history` holds all dates of the data up to the last of `moments`, so that the newest stored state is found wherever
    an earlier run left it.
    """
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = {moment: key(moment, recipe, rebalance) for moment in history}
    wanted = tuple(keys[moment] for moment in moments)
    there = tables.existing(store, "allocations", wanted)
    missing = {moment for moment in moments if keys[moment] not in there}
    if missing:
        _compute(store, everything, recipe, keys, missing)
        log.info("%s at %d dates", recipe.name, len(missing))
    return Produced("allocations", wanted)


def _compute(store: Store, panel: panels.Panel, recipe: Recipe, keys: dict[Moment, str], missing: set[Moment]) -> None:
    """Fold to the dates that are missing, and keep what was found; `keys` are of every date up to them."""
    history, first = tuple(keys), min(moment.as_of for moment in missing)
    since, stood = _newest(store, keys, [moment for moment in history if moment.as_of < first])
    of_month = {after for before, after in pairwise(history) if before.month[:7] != after.month[:7]}
    states, found = {}, []
    learner, last = learning.allocator(recipe, panel), max(moment.as_of for moment in missing)
    upto = tuple(moment for moment in history if moment.as_of <= last)
    for moment, standing in learning.fold(panel, learner, upto, since, stood, recipe.max_trade):
        if moment in missing:
            found.append(_allocation(panel, recipe.name, keys[moment], moment, standing))
            if standing is not None and moment in of_month:
                kept = {"state": standing.state, "held": standing.held, "counts": standing.counts}
                states[keys[moment]] = moment, kept
    carried.put(store, recipe.name, panel.universe.assets, states)
    allocations.keep(store, found)


def _newest(store: Store, keys: dict[Moment, str], earlier: list[Moment]) -> tuple[Moment | None, Standing | None]:
    """The latest of the earlier dates whose state is stored, with how the strategy stood."""
    found = carried.newest(store, [keys[moment] for moment in earlier])
    if found is None:
        return None, None
    since = next(moment for moment in earlier if keys[moment] == found[0])
    return since, Standing(found[1]["state"], found[1]["held"], {}, found[1]["counts"])


def _allocation(panel: panels.Panel, strategy: str, key: str, moment: Moment, standing: Standing | None) -> Allocation:
    if standing is None:
        return Allocation(key, moment, strategy, {CASH: 1.0}, {"reason": TOO_FEW})
    weights = allocations.by_ticker(panel.universe.assets, standing.held)
    return Allocation(key, moment, strategy, weights, standing.said)
