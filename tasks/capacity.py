"""Stage *capacity*: how much money the strategies of a scenario can carry, by their stored decisions.

Every strategy is accounted at each capital, with costs and delays that follow from the volumes. Capacity is the capital
at which its Sharpe ratio falls below that of equal weights of the same size.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import clock, tables
from storage.errors import InputError, NoDataError
from storage.keys import PanelKey
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import accounts, followed, panels
from tasks.caching import keyed_by
from tasks.numerics import capacity
from tasks.numerics.capacity import CAPITALS, Point
from tasks.numerics.execution import IlliquidError
from tasks.prices import prices_of

KEYED = keyed_by(
    __name__,
    "tasks.accounts",
    "tasks.followed",
    "tasks.panels",
    "tasks.prices",
    "tasks.numerics.capacity",
    packages=("numpy", "numba", "exchange-calendars"),
)
BASELINE = "equal_weight"


@task(cache_policy=NO_CACHE, task_run_name="capacity {scenario}")
def measure_capacity(panel: PanelKey, scenario: str, capitals: tuple[float, ...] = CAPITALS) -> str:
    """Keep the record of every strategy at each of the capitals, ascending; the key of the result.

    NoDataError while nothing has traded; InputError for prices without high, low and volume.
    """
    store = open_store()
    months, universes = followed.traded(store, panel, scenario)
    if not months:
        raise NoDataError(f"scenario {scenario} has traded on no decided date yet; run `prism backfill` first")
    last = panels.load(store, panel).sessions[-1].item()
    seen = [panels.prefix(store, replace(panel, universe=identity), last) for identity in universes]
    weights, terms = [month.weights for month in months], [followed.terms(month) for month in months]
    days = [month.rebalance_date for month in months]
    key = KEYED.key("capacity", scenario=scenario, seen=seen, weights=weights, terms=terms, days=days, sizes=capitals)
    if not tables.existing(store, "capacity", [key]):
        curves = _curves(store, panel, universes, followed.strategies(store, months), capitals)
        shared = {"key": key, "scenario": scenario, "created_at": clock.now()}
        shared |= {"start_date": months[0].rebalance_date, "end_date": last}
        rows = [
            shared | {"strategy": name, "capacity": _capacity(curve, curves.get(BASELINE))} | _shown(point)
            for name, curve in curves.items()
            for point in curve
        ]
        tables.put(store, "capacity", pa.Table.from_pylist(rows, TABLES["capacity"].schema))
    return key


def _curves(
    store: Store,
    panel: PanelKey,
    universes: list[str],
    strategies: list[followed.Strategy],
    capitals: tuple[float, ...],
) -> dict[str, list[Point]]:
    """By strategy its record at each capital."""
    prices, found = prices_of(store, panel.snapshot, universes), {}
    for strategy in strategies:
        when, targets, configs = strategy.on(prices)
        sized = [replace(config, costs="impact") for config in configs]
        market = accounts.liquidity(prices, sized)
        traded = prices.returns, prices.traded, when, targets, sized, market
        try:
            found[strategy.name] = capacity.curve(*traded, prices.delisted, prices.risk_free, capitals)
        except IlliquidError as error:
            raise InputError(
                f"capacity follows from high, low and volume, and {prices.tickers[error.asset]} lacks them on most of "
                f"the {accounts.WINDOW} sessions up to {prices.sessions[error.session]}; bring prices that have them"
            ) from error
    return found


def _capacity(own: list[Point], baseline: list[Point] | None) -> float | None:
    """The capital at which the strategy falls below equal weights; None where it does not, or they were not run."""
    if baseline is None:
        return None
    ratios = [[point.sharpe for point in curve] for curve in (own, baseline)]
    return capacity.falls_below([point.capital for point in own], *ratios)


def _shown(point: Point) -> dict[str, float | None]:
    """The point's columns; what is no number is empty."""
    return {name: value if np.isfinite(value) else None for name, value in point._asdict().items()}
