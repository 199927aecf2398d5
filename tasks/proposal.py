"""What is about to be published, in the numbers that its limits are about. Nothing is written and nothing decided."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import ledger
from storage.keys import PanelKey
from storage.ledger import Decision
from storage.schemas import CASH
from storage.store import Store, open_store
from tasks import expectations, own_holdings, panels, planned
from tasks.numerics.configs import TRADING_DAYS, CovarianceConfig
from tasks.planned import Month, Plan, Weights


@dataclass(frozen=True)
class Forecast:
    """What was expected of a portfolio's simple return over the horizon, in sessions."""

    mean: float
    volatility: float
    horizon: int


@dataclass(frozen=True)
class Proposal:
    """The published strategy's next step. Fractions of wealth; None where there is nothing to compare with."""

    weights: Weights  # cash too
    turnover: float  # half the sum of absolute trades
    weight: float  # the largest single one
    weight_of: str
    sector: float  # the largest sum of a sector
    sector_of: str
    distance: float | None  # half the sum of absolute differences to the weights of the date before
    volatility: float | None  # change of the predicted volatility since the date before, as a part of it
    missing: float  # share of the universe that was left out
    left_out: int
    forecast: Forecast | None

    def values(self) -> dict[str, Any]:
        """For the ledger's record: all but the weights, which the record names by key."""
        return {name: value for name, value in asdict(self).items() if name != "weights"}


@task(cache_policy=NO_CACHE, task_run_name="propose {month.moment.month}")
def propose(panel: PanelKey, scenario: str, month: Month) -> Proposal:
    """Measure what the published strategy would hold and trade on a date whose weights are computed."""
    store, loaded = open_store(), panels.load(open_store(), panel)
    standing = ledger.current(store, scenario)
    before = standing.get(month.follows) if month.follows else None
    imports = own_holdings.history(store, scenario)
    own = planned.imported(store, panel, month, standing.get(month.moment.rebalance_date), imports)
    plan = Plan(month, planned.left_by(before) if before else None, own)
    holdings = planned.Holdings(store, panel, [plan])
    target = holdings.target(plan)[month.publish]
    trades = planned.between(target, holdings.of(plan).get(month.publish, {}))
    assets = {ticker: weight for ticker, weight in target.items() if ticker != CASH}
    weight_of, weight = _largest(assets)
    sector_of, sector = _largest(_by_sector(loaded, assets))
    forecast = _forecast(store, panel, month, target)
    missing = panels.left_out(loaded, month.moment.as_of)
    return Proposal(
        weights=target,
        turnover=sum(abs(trade) for trade in trades.values()) / 2,
        weight=weight,
        weight_of=weight_of,
        sector=sector,
        sector_of=sector_of,
        distance=_distance(holdings, before, month.publish, target),
        volatility=_change(forecast, before),
        missing=len(missing) / len(loaded.universe.assets),
        left_out=len(missing),
        forecast=forecast,
    )


def _largest(weights: Mapping[str, float]) -> tuple[str, float]:
    """The name of the largest position, long or short, and its size."""
    name = max(sorted(weights), key=lambda key: abs(weights[key]), default="")
    return name, abs(weights.get(name, 0.0))


def _by_sector(panel: panels.Panel, weights: Weights) -> dict[str, float]:
    """Sums by sector of the assets that have one."""
    found: dict[str, float] = {}
    for ticker, sector in zip(panel.universe.assets, panels.sectors(panel), strict=True):
        if sector and ticker in weights:
            found[sector] = found.get(sector, 0.0) + weights[ticker]
    return found


def _distance(holdings: planned.Holdings, before: Decision | None, strategy: str, target: Weights) -> float | None:
    """How far the weights are from those of the date before, undrifted."""
    earlier = dict(holdings.weights[key] for key in before.weights if key in holdings.weights) if before else {}
    if strategy not in earlier:
        return None
    return sum(abs(change) for change in planned.between(target, earlier[strategy]).values()) / 2


def _forecast(store: Store, panel: PanelKey, month: Month, target: Weights) -> Forecast | None:
    """What the date's forecasts say of the weights; None where an asset that is held has none, or all is cash."""
    given = expectations.forecasts(store, [month.forecasts]).get(month.forecasts or "", {})
    if not given or target.keys() - {*given, CASH} or not target.keys() - {CASH}:
        return None
    parameters = month.made_of["parameters"]
    matrix, horizon = CovarianceConfig(**parameters["covariance"]), parameters["features"]["horizon"]
    found = expectations.of(panels.load(store, panel), month.moment.as_of, given, "simple", matrix)
    held = np.array([target.get(ticker, 0.0) for ticker in found.tickers])
    cash = (1 - held.sum()) * month.accounting.cash_rate * horizon / TRADING_DAYS
    return Forecast(float(held @ found.mean + cash), float(np.sqrt(held @ found.covariance @ held)), horizon)


def _change(forecast: Forecast | None, before: Decision | None) -> float | None:
    """By which part the predicted volatility is another than the one of the date before, as its record has it."""
    said = ((before.record.get("publication") or {}).get("measured") or {}).get("forecast") if before else None
    if forecast is None or not said:
        return None
    return abs(forecast.volatility / said["volatility"] - 1)
