"""Stage *experts*: one strategy that follows the others by what they earned after costs, with its regret.

Each strategy's account is kept from the first of the dates on, with the scenario's own costs. At a date the shares are
those that its growth up to the as-of session gives, and the weights are the shares' mixture of that date's weights.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from storage import tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import CASH
from storage.store import Store, open_store
from tasks import accounts, allocations
from tasks.allocations import Allocation
from tasks.caching import cached_task, keyed_by
from tasks.numerics import experts
from tasks.numerics.configs import AccountingConfig, ExpertsConfig
from tasks.prices import prices_of

KEYED = keyed_by(
    __name__,
    "tasks.allocations",
    "tasks.accounts",
    "tasks.numerics.experts",
    "tasks.panels",
    "tasks.prices",
    packages=("numpy", "numba", "scipy", "exchange-calendars"),
)
NAME = "experts"
log = logging.getLogger("prism.experts")
FloatArray = NDArray[np.float64]
Books = dict[str, dict[str, float]]  # weights by strategy and ticker


@dataclass(frozen=True)
class Date:
    """One date: the keys of the strategies' weights, by strategy and sorted, and its own."""

    moment: Moment
    weights: tuple[tuple[str, str], ...]
    counts: bool  # what is earned from it on moves the shares
    key: str


def dates(
    moments: Sequence[tuple[Moment, Mapping[str, str]]],
    begin: Moment | None,
    config: ExpertsConfig,
    costs: AccountingConfig,
) -> tuple[Date, ...]:
    """Dates with their keys, from keys of weights by strategy.

    From `begin` on they must be all dates up to the last, and each key names those before it; until then shares are
    equal.
    """
    found: list[Date] = []
    for moment, weights in moments:
        chosen, before = tuple(sorted(weights.items())), found[-1].key if found and found[-1].counts else None
        counts = begin is None or moment.as_of >= begin.as_of
        inputs = {"weights": chosen, "config": config, "costs": costs, "before": before, "counts": counts}
        found.append(Date(moment, chosen, counts, KEYED.key(NAME, prefix=moment.prefix, **inputs)))
    return tuple(found)


@cached_task(cache_policy=KEYED, task_run_name="experts from {chain[0].moment.month}")
def follow(panel: PanelKey, chain: tuple[Date, ...], config: ExpertsConfig, costs: AccountingConfig) -> Produced:
    """Aggregate at each date that the store lacks; those that count are all dates up to the last."""
    store, keys = open_store(), tuple(entry.key for entry in chain)
    there = tables.existing(store, "allocations", keys)
    if len(there) < len(set(keys)):
        books, count = _books(store, chain), sum(not entry.counts for entry in chain)
        growth = np.ones((0, len(chain[0].weights)))
        if count + 1 < len(chain):
            growth = _growth(store, panel, chain[count:], books[count:], costs)
        shares = experts.shares(growth, config)
        said = allocations.degraded(store, {key for entry in chain for _, key in entry.weights})
        found = []
        for place, entry in enumerate(chain):
            if entry.key not in there:
                past = max(place - count, 0)
                made = _allocation(entry, books[place], growth[:past], shares[: past + 1])
                troubles = [f"{name}: {said[key]}" for name, key in entry.weights if key in said]
                notes = made.diagnostics | ({"degraded": "; ".join(troubles)} if troubles else {})
                found.append(replace(made, diagnostics=notes))
        allocations.keep(store, found)
        log.info("experts at %d dates", len(found))
    return Produced("allocations", keys)


def _books(store: Store, chain: Sequence[Date]) -> list[Books]:
    """Weights of every strategy at each date."""
    rows: dict[str, dict[str, float]] = {}
    for row in tables.read(store, "weights", key=[key for entry in chain for _, key in entry.weights]).to_pylist():
        rows.setdefault(row["key"], {})[row["ticker"]] = row["weight"]
    return [{name: rows[key] for name, key in entry.weights} for entry in chain]


def _growth(
    store: Store, panel: PanelKey, chain: Sequence[Date], books: Sequence[Books], costs: AccountingConfig
) -> FloatArray:
    """Factors by which each strategy's account grew from one date to the next: (dates - 1, strategies)."""
    prices = prices_of(store, panel.snapshot, [panel.universe])
    moments = [entry.moment for entry in chain[:-1]]
    days = np.array([m.rebalance_date if costs.lag else m.as_of for m in moments], "datetime64[D]")
    ends = np.array([entry.moment.as_of for entry in chain[1:]], "datetime64[D]")
    when = np.searchsorted(prices.sessions, days).astype(np.int64)
    until = np.searchsorted(prices.sessions, ends) - when[0]
    columns, market = [], accounts.liquidity(prices, [costs])
    for name, _ in chain[0].weights:
        targets = np.array([[book[name].get(ticker, 0.0) for ticker in prices.tickers] for book in books[:-1]])
        account = accounts.simulate(prices, when, targets, costs, market)
        wealth = np.append(1.0, account.wealth[until])
        columns.append(np.divide(wealth[1:], wealth[:-1], out=np.zeros(until.size), where=wealth[:-1] > 0))
    return np.column_stack(columns)


def _allocation(entry: Date, books: Books, growth: FloatArray, shares: FloatArray) -> Allocation:
    """The mixture at one date, with the shares and the regret so far."""
    weights: dict[str, float] = {}
    for share, (name, _) in zip(shares[-1], entry.weights, strict=True):
        for ticker, weight in books[name].items():
            weights[ticker] = weights.get(ticker, 0.0) + float(share) * weight
    names = [name for name, _ in entry.weights]
    notes = {"shares": dict(zip(names, shares[-1].tolist(), strict=True))}
    if len(growth):
        regret = experts.regret(growth, shares)
        notes |= {"best_expert": names[regret.best], "regret": regret.best_expert}
        notes |= {"regret_best_mix": regret.best_mix if np.isfinite(regret.best_mix) else None}
    return Allocation(entry.key, entry.moment, NAME, weights or {CASH: 1.0}, notes)
