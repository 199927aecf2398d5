"""Stage *baselines*: well-known portfolios of the same assets, dates and costs, to compare the strategies with.

Each date's weights come from the simple returns of the last sessions up to and including its as-of date, and from
nothing else: no forecast, no state. What cannot be computed is an equal weight with the reason beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import CASH
from storage.store import open_store
from tasks import allocations, panels
from tasks.allocations import Allocation
from tasks.caching import cached_task, keyed_by
from tasks.numerics import covariance
from tasks.numerics.configs import TRADING_DAYS, BaselineConfig

KEYED = keyed_by(
    __name__,
    "tasks.allocations",
    "tasks.numerics.covariance",
    "tasks.panels",
    "tasks.portfolios",
    packages=("numpy", "scipy", "scikit-learn", "skfolio", "cvxpy-base", "clarabel", "exchange-calendars"),
)
FEWEST = 20  # sessions of which a covariance is taken
STILL = 1e-12  # a range of returns below it is a constant price and rounding
NO_ASSET = "no asset may be held yet"
NO_MOVE = "no asset has moved"
Found = tuple[dict[str, float], dict[str, Any]]  # weights by ticker, and what is to say about them


@dataclass(frozen=True)
class Rule:
    """How one baseline decides, whatever the date."""

    strategy: str
    config: BaselineConfig
    cash_rate: float  # annual, where the universe names no risk-free rate


def key(moment: Moment, rule: Rule) -> str:
    """Key of a baseline's weights at one date."""
    return KEYED.key(rule.strategy, prefix=moment.prefix, **_inputs(rule))


def _inputs(rule: Rule) -> dict[str, Any]:
    """What the weights depend on: means and cash count for the maximum of the Sharpe ratio alone."""
    inputs: dict[str, Any] = {"sessions": rule.config.sessions, "shrinkage": rule.config.shrinkage}
    return inputs | ({"rule": rule} if rule.strategy == "maximum_sharpe" else {})


@cached_task(cache_policy=KEYED, task_run_name="{rule.strategy} from {moments[0].month}")
def allocate_baseline(panel: PanelKey, moments: tuple[Moment, ...], rule: Rule) -> Produced:
    """The baseline's weights at each date that the store lacks."""
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(key(moment, rule) for moment in moments)
    there = tables.existing(store, "allocations", keys)
    found = [
        Allocation(own, moment, rule.strategy, *_decide(everything, everything.at(moment.as_of), rule))
        for own, moment in zip(keys, moments, strict=True)
        if own not in there
    ]
    allocations.keep(store, found)
    return Produced("allocations", keys)


def _decide(panel: panels.Panel, session: int, rule: Rule) -> Found:
    """One date's weights by ticker, and what is to say about them."""
    columns = np.flatnonzero(panel.eligible[session])
    if not columns.size:
        return {CASH: 1.0}, {"reason": NO_ASSET}
    tickers = [panel.universe.assets[column] for column in columns]
    seen = slice(max(0, session + 1 - rule.config.sessions), session + 1)
    known = np.isfinite(panel.returns[seen, columns]).all(axis=1)
    returns = panel.returns[seen, columns][known]
    cash = rule.cash_rate if panel.risk_free is None else TRADING_DAYS * panel.risk_free[seen][known].mean()
    notes: dict[str, Any] = {"sessions": len(returns)}
    if len(returns) < FEWEST:
        return _equal(tickers), notes | _second_best(f"{len(returns)} sessions of the {FEWEST} needed")
    moving = np.ptp(returns, axis=0) > STILL
    notes["without_risk"] = [ticker for ticker, moves in zip(tickers, moving, strict=True) if not moves]
    if not moving.any():
        return _equal(tickers), notes | _second_best(NO_MOVE)
    try:
        weights, gap = _solved(returns[:, moving], float(cash), rule)
    except ValueError as error:
        return _equal(tickers), notes | _second_best(str(error))
    kept = [ticker for ticker, moves in zip(tickers, moving, strict=True) if moves]
    return allocations.by_ticker(kept, weights), notes | {"gap": gap}


def _second_best(reason: str) -> dict[str, str]:
    """What to say of equal weights that stand in for the baseline's."""
    return {"reason": reason, "degraded": f"{reason}, so equal weights stand in"}


def _solved(returns: NDArray[np.float64], cash: float, rule: Rule) -> tuple[NDArray[np.float64], float | None]:
    """Weights (n,) from the annual moments of simple returns (T, n) and an annual rate of cash, and their gap."""
    from tasks import portfolios

    mean = portfolios.shrunk_mean(returns) if rule.config.mean == "shrunk" else returns.mean(axis=0)
    correlation = covariance.correlation(returns, rule.config.shrinkage)
    daily = covariance.covariance(returns.std(axis=0, ddof=1), correlation)
    return portfolios.solve(rule.strategy, TRADING_DAYS * mean, TRADING_DAYS * daily, cash)


def _equal(tickers: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(tickers, 1 / len(tickers))
