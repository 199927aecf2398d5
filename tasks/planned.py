"""Planned trades: from what is held at the as-of date to the weights of a rebalance date, or nothing where it is held.

What is held are the weights of the rebalance date before, drifted to the as-of date; at first it is cash. A holding
whose asset was delisted since then has become cash. One in an asset without a bar on the session of that date's trade
counts as if it had been traded. Those of the published strategy are what the person really holds instead, where that
was imported in time (`tasks.own_holdings`), valued at the closes of the as-of date.

A date that is `held` trades nothing. Its weights are what is held at its as-of date, and the next date drifts from
there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from storage import tables
from storage.keys import Moment, PanelKey
from storage.ledger import HELD, Decision
from storage.schemas import CASH, TABLES
from storage.store import Store
from tasks import accounts, allocations, holdings, own_holdings
from tasks.allocations import Allocation
from tasks.numerics.configs import AccountingConfig
from tasks.prices import prices_of

ZERO = 1e-15  # of wealth: smaller trades are rounding
Weights = dict[str, float]  # by ticker
ByStrategy = dict[str, Weights]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Month:
    """What the decision of one rebalance date is made of."""

    moment: Moment
    follows: date | None  # the scenario's rebalance date before it
    kind: str  # published, held or backfill
    forecasts: str | None  # key
    model: str | None  # key
    weights: tuple[tuple[str, str], ...]  # strategy and key, sorted
    accounting: AccountingConfig
    made_of: dict[str, Any]  # parameters, code hashes and versions, for the record
    amend: str | None = None  # a person's reason to publish it anew where it comes out differently
    publish: str = ""  # the strategy that a person trades
    publication: dict[str, Any] | None = None  # what was looked at before publishing, and who answered what

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the weights."""
        return tuple(key for _, key in self.weights)


@dataclass(frozen=True)
class Before:
    """Weights of the rebalance date before, and the universe they were chosen from."""

    rebalance_date: date
    as_of: date
    keys: tuple[str, ...]
    universe: str
    is_held: bool  # not traded: they are those of the as-of date's close

    def since(self, lag: int) -> date:
        """The session from whose close they drift."""
        return self.rebalance_date if lag and not self.is_held else self.as_of


@dataclass(frozen=True)
class Imported:
    """What a person holds, at the as-of date's closes."""

    holdings: str
    date: date
    weights: tuple[tuple[str, float], ...]
    wealth: float


@dataclass(frozen=True)
class Plan:
    """A rebalance date, and what its trades start from."""

    month: Month
    before: Before | None
    own: Imported | None

    @property
    def used(self) -> tuple[str, ...]:
        """Keys of all weights that its trades depend on."""
        return (*self.month.keys, *(self.before.keys if self.before else ()))


def left_by(decision: Decision) -> Before:
    """What a decision leaves to the date after it."""
    chosen_from = (decision.record.get("stands") or decision.record)["universe"]
    dates = decision.rebalance_date, decision.as_of
    return Before(*dates, decision.weights, chosen_from, decision.kind == HELD)


def imported(
    store: Store,
    panel: PanelKey,
    month: Month,
    standing: Decision | None,
    imports: Sequence[own_holdings.Holdings],
) -> Imported | None:
    """The imported holdings that the date's trades start from, if any: of a final date those of its record."""
    found = own_holdings.start_of(imports, month.follows, month.moment.as_of)
    if standing is not None and standing.is_final:
        named = (standing.record.get("imported") or {}).get("holdings")
        found = next((entry for entry in imports if entry.holdings == named), None)
    if found is None or not month.publish:
        return None
    worth = own_holdings.valued(store, panel.snapshot, panel.universe, month.moment.as_of, found)
    return Imported(found.holdings, found.date, tuple(worth.weights.items()), worth.wealth)


def books(store: Store, keys: Iterable[str]) -> dict[str, tuple[str, Weights]]:
    """By key the strategy and its weights by ticker."""
    found: dict[str, tuple[str, Weights]] = {}
    for row in tables.read(store, "weights", key=set(keys)).to_pylist():
        found.setdefault(row["key"], (row["strategy"], {}))[1][row["ticker"]] = row["weight"]
    return found


class Holdings:
    """What strategies hold at the as-of dates of some plans, before any trade."""

    def __init__(self, store: Store, panel: PanelKey, plans: Iterable[Plan]) -> None:
        plans = list(plans)
        self.weights = books(store, {key for plan in plans for key in plan.used})
        chosen_from = {plan.before.universe for plan in plans if plan.before}
        self._prices = {name: prices_of(store, panel.snapshot, [name]) for name in chosen_from}

    def of(self, plan: Plan) -> ByStrategy:
        """Fractions of wealth by strategy and ticker; cash is the rest."""
        held = self._drifted(plan)
        if plan.own and plan.month.publish:
            held[plan.month.publish] = dict(plan.own.weights)
        return held

    def target(self, plan: Plan) -> ByStrategy:
        """The weights chosen, by strategy and ticker."""
        return {name: self.weights[key][1] if key in self.weights else {} for name, key in plan.month.weights}

    def _drifted(self, plan: Plan) -> ByStrategy:
        """What the weights of the date before have become at the as-of date."""
        before, month = plan.before, plan.month
        if before is None:
            return {}
        prices, since = self._prices[before.universe], before.since(month.accounting.lag)
        return {
            strategy: holdings.drifted(prices, held, since, month.moment.as_of, month.accounting)
            for strategy, held in (self.weights[key] for key in before.keys if key in self.weights)
        }


def stand(store: Store, panel: PanelKey, plan: Plan) -> None:
    """Write the weights of a held date, under its keys: what each of its strategies holds, cash the rest."""
    held = Holdings(store, panel, [plan]).of(plan)
    kept = []
    for strategy, key in plan.month.weights:
        assets = held.get(strategy, {})
        weights = assets | {CASH: 1.0 - sum(weight for ticker, weight in assets.items() if ticker != CASH)}
        said = {"reason": "held: nothing was published, so what was held stands"}
        kept.append(Allocation(key, plan.month.moment, strategy, weights, said))
    allocations.keep(store, kept)


def write(store: Store, panel: PanelKey, plans: Mapping[str, Plan]) -> None:
    """Write the planned trades of rebalance dates by key."""
    held = Holdings(store, panel, plans.values())
    costs = accounts.Costs(store, panel, [plan.month.accounting for plan in plans.values()])
    rows = [row for key, plan in plans.items() for row in _rows(key, plan, held, costs)]
    if rows:
        tables.put(store, "trades", pa.Table.from_pylist(rows, TABLES["trades"].schema))


def _rows(key: str, plan: Plan, held: Holdings, costs: accounts.Costs) -> Rows:
    """The trades of one date, with what they are estimated to cost."""
    month, start, rows = plan.month, held.of(plan), []
    for strategy, target in sorted(held.target(plan).items()):
        trades = between(target, start.get(strategy, {}))
        worth = plan.own.wealth if plan.own and strategy == month.publish else month.accounting.capital
        charged = costs.of(trades, worth, month.moment.as_of, month.accounting)
        row = {"key": key, "rebalance_date": month.moment.rebalance_date, "strategy": strategy}
        rows += [row | {"ticker": t, "trade": trade, "cost": charged[t]} for t, trade in trades.items()]
    return rows


def between(target: Weights, held: Weights) -> Weights:
    """Trades by ticker, as fractions of wealth at the as-of date."""
    tickers = sorted((target.keys() | held.keys()) - {CASH})
    trades = {ticker: target.get(ticker, 0.0) - held.get(ticker, 0.0) for ticker in tickers}
    return {ticker: trade for ticker, trade in trades.items() if abs(trade) > ZERO}
