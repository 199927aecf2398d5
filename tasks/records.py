"""What a strategy of a scenario did between two dates, from what is stored, and how two such records differ.

Costs, turnover and concentration are means over the rebalance dates; where two records have the same dates, their
differences have intervals by Newey and West. Those of Sharpe ratio and return have bootstrap intervals.

A portfolio in tranches (`tasks.numerics.tranches`) has a record, too: that of the account which follows what its parts
hold, each of them a scenario of its own.
"""
# Shapes: S = sessions, K = rebalance dates, n = assets.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage import ledger, tables
from storage.keys import PanelKey
from storage.ledger import HELD, Decision
from storage.schemas import CASH
from storage.store import Store
from tasks import accounts, followed, panels
from tasks.numerics import differences, fitness, inference, metrics, statistics, tranches
from tasks.numerics.configs import TRADING_DAYS, FitnessConfig
from tasks.prices import prices_of

FloatArray = NDArray[np.float64]
DayArray = NDArray[np.datetime64]
BoolArray = NDArray[np.bool_]
TextArray = NDArray[np.str_]

MEASURES = (
    "sharpe", "annual_return", "annual_volatility", "sortino", "max_drawdown", "cumulative_return", "fitness",
    "turnover", "costs", "active_positions", "hhi", "effective_positions", "top10", "sharpe_error", "sharpe_error_iid",
)  # fmt: skip
_INTERVALS = {"sharpe_difference": "sharpe", "annual_return_difference": "annual_return"}


@dataclass(frozen=True)
class Record:
    """One strategy's account, and what it held and traded."""

    sessions: DayArray  # (S,)
    daily: FloatArray  # (S,) returns after costs
    cash: FloatArray  # (S,)
    dates: DayArray  # (K,)
    turnover: FloatArray  # (K,)
    cost: FloatArray  # (K,)
    weights: FloatArray  # (K, n)
    fitness: FitnessConfig

    def where(self, days: BoolArray, traded: BoolArray) -> "Record":
        """The part of the record of some sessions (S,) and rebalance dates (K,), joined as if they were all."""
        by_session = {name: getattr(self, name)[days] for name in ("sessions", "daily", "cash")}
        return replace(self, **by_session, **{name: getattr(self, name)[traded] for name in _BY_DATE})


_BY_DATE = ("dates", "turnover", "cost", "weights")


class Difference(NamedTuple):
    """How much more one record has of a measure; NaN where there is no interval."""

    value: float
    lower: float = np.nan
    upper: float = np.nan


def read(store: Store, scenario: str, backtest: str, strategy: str, first: date, last: date) -> Record:
    """The record of a strategy in a backtest of the scenario, from its first trade at or after `first` up to `last`."""
    made = [entry for entry in ledger.current(store, scenario).values() if first <= entry.rebalance_date <= last]
    months = [entry for entry in made if entry.kind != HELD]
    rows = tables.read(store, "wealth", ["session", "daily_return"], key=backtest, strategy=strategy).to_pandas()
    rows = rows.sort_values("session")[1:]  # before it there is the session before the first trade
    rows = rows[(rows["session"] >= first) & (rows["session"] <= last)]
    sessions = rows["session"].to_numpy().astype("datetime64[D]")
    dates = np.array([entry.rebalance_date for entry in months], "datetime64[D]")
    turnover, cost = _traded(store, backtest, strategy, dates)
    score = FitnessConfig(**months[-1].record["parameters"]["fitness"])
    return Record(
        sessions,
        rows["daily_return"].to_numpy(),
        _cash(store, months[-1], sessions),
        dates,
        turnover,
        cost,
        _weights(store, months, strategy),
        score,
    )


def in_tranches(store: Store, scenarios: Sequence[str], strategy: str, last: date) -> Record:
    """The record up to `last` of a portfolio in equal tranches, which follow a strategy of a scenario each.

    The scenarios share their prices, and what trading costs. It begins when all of them have traded.
    """
    newest = list(ledger.current(store, scenarios[0]).values())[-1]
    panel = PanelKey(newest.record["snapshot"], newest.record["universe"])
    prices, config = prices_of(store, panel.snapshot, [panel.universe]), followed.terms(newest)
    found = [followed.strategies(store, followed.traded(store, panel, name)[0]) for name in scenarios]
    parts = [next(own for own in each if own.name == strategy).on(prices) for each in found]
    days, targets = [part[0] for part in parts], [part[1] for part in parts]
    when, held = tranches.whole(days, targets, prices.returns, config, prices.delisted, prices.risk_free)
    account = accounts.simulate(prices, when, held, config, accounts.liquidity(prices, [config]))
    sessions = prices.sessions[when[0] :].astype("datetime64[D]")
    record = Record(
        sessions,
        account.daily_return,
        _cash(store, newest, sessions),
        prices.sessions[when].astype("datetime64[D]"),
        account.turnover,
        account.costs.sum(axis=1),
        held,
        FitnessConfig(**newest.record["parameters"]["fitness"]),
    )
    return record.where(record.sessions <= np.datetime64(last), record.dates <= np.datetime64(last))


def on_common_sessions(found: Mapping[str, Record]) -> dict[str, Record]:
    """The records as they are where all begin on one session; else what of each follows the first day of the last."""
    firsts = {record.sessions[0] for record in found.values()}
    if len(firsts) == 1:
        return dict(found)
    begun = max(firsts)
    return {label: own.where(own.sessions > begun, own.dates > begun) for label, own in found.items()}


def _traded(store: Store, backtest: str, strategy: str, dates: DayArray) -> tuple[FloatArray, FloatArray]:
    """Turnover and cost of each date: two (K,)."""
    rows = tables.read(store, "executions", ["rebalance_date", "trade", "cost"], key=backtest, strategy=strategy)
    done = rows.to_pandas()
    done["trade"] = done["trade"].abs() / 2
    found = done.groupby("rebalance_date")[["trade", "cost"]].sum().reindex(dates.tolist(), fill_value=0.0)
    return found["trade"].to_numpy(), found["cost"].to_numpy()


def _weights(store: Store, months: Sequence[Decision], strategy: str) -> FloatArray:
    """Weights of each date without cash: (K, n)."""
    keys = [key for entry in months for key in entry.weights]
    rows = tables.read(store, "weights", ["as_of", "ticker", "weight"], key=keys, strategy=strategy).to_pandas()
    rows = rows.drop_duplicates(["as_of", "ticker"])
    table = rows.pivot(index="as_of", columns="ticker", values="weight").reindex([entry.as_of for entry in months])
    return table.drop(columns=CASH, errors="ignore").fillna(0.0).to_numpy()


def _cash(store: Store, newest: Decision, sessions: DayArray) -> FloatArray:
    """The risk-free return of each session: the universe's, or the constant of the parameters."""
    panel = panels.load(store, PanelKey(newest.record["snapshot"], newest.record["universe"]))
    constant = newest.record["parameters"]["accounting"]["cash_rate"] / TRADING_DAYS
    if panel.risk_free is None:
        return np.full(sessions.size, constant)
    rates = pd.Series(panel.risk_free, panel.sessions.astype("datetime64[D]"))
    return rates.reindex(sessions).fillna(constant).to_numpy()


def by_label(record: Record, sessions: TextArray, dates: TextArray) -> dict[str, Record]:
    """The parts of a record by label, in the order of their first sessions.

    `sessions` (S,) and `dates` (K,) name what each session and rebalance date belongs to: a span of time, a regime.
    """
    return {name: record.where(sessions == name, dates == name) for name in dict.fromkeys(sessions.tolist())}


def measures(record: Record) -> dict[str, float]:
    """The record's measures by name; NaN where one is undefined."""
    months = record.sessions.astype("datetime64[M]").astype(np.int64)
    found = metrics.measures(record.daily, record.weights, record.turnover, record.cost, months, record.cash)
    config = replace(record.fitness, factor_weight=0.0)  # exposures are the backtest's
    found |= fitness.score(found, record.daily, {}, config)
    return {name: found[name] for name in MEASURES}


def compared(own: Record, other: Record) -> dict[str, Difference]:
    """What the one has over the other, by measure; those without a way to an interval have none."""
    both, there = measures(own), measures(other)
    found = {name: Difference(both[name] - there[name]) for name in MEASURES}
    if np.array_equal(own.sessions, other.sessions):
        for entry in differences.paired(own.daily, other.daily, own.cash):
            if entry.name in _INTERVALS:
                found[_INTERVALS[entry.name]] = _certain(Difference(entry.value, entry.lower, entry.upper))
    if np.array_equal(own.dates, other.dates):
        pairs = zip(by_date(own).items(), by_date(other).values(), strict=True)
        found |= {name: mean_of(mine - theirs) for (name, mine), theirs in pairs}
    return found


def _certain(found: Difference) -> Difference:
    """A difference of exactly nothing has an interval of nothing, which no bootstrap finds."""
    return Difference(0.0, 0.0, 0.0) if found.value == 0 and np.isnan(found.lower) else found


def by_date(record: Record) -> dict[str, FloatArray]:
    """What is a mean over the rebalance dates, at each of them: (K,), turnover and costs a year.

    Concentration is NaN where nothing is held.
    """
    yearly, holds = TRADING_DAYS * record.dates.size / record.sessions.size, np.abs(record.weights).sum(axis=1) > 0
    found = {"turnover": yearly * record.turnover, "costs": yearly * record.cost}
    for name, values in metrics.concentration(record.weights[holds]).items():
        found[name] = np.full(holds.size, np.nan)
        found[name][holds] = values * (1e4 if name == "hhi" else 1.0)
    return found


def mean_of(values: FloatArray) -> Difference:
    """The mean of a series over rebalance dates, with its interval; that of a constant has no width."""
    known = values[np.isfinite(values)]
    if known.size < 2:
        return Difference(float(known.mean()) if known.size else np.nan)
    found = statistics.mean_with_error(known, min(inference.lags_of(known.size), known.size - 1))
    return Difference(found.mean, found.lower, found.upper)
