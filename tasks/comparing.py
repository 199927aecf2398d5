"""Two decisions side by side, from what is stored: weights, trades, what was expected of them, and the backtests.

Of two scenarios the backtests are compared over the sessions that both have, with paired intervals; two dates of one
scenario have the same backtest, which is not compared with itself. Differences are those of the second less the first.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from storage import ledger, tables
from storage.errors import InputError, NoDataError
from storage.keys import PanelKey
from storage.ledger import Decision
from storage.schemas import CASH
from storage.store import Store
from tasks import expectations, panels
from tasks.numerics import differences, metrics
from tasks.numerics.configs import TRADING_DAYS, CovarianceConfig

MEASURES = (
    "annual_return", "annual_volatility", "sharpe", "sortino", "max_drawdown", "cvar_95", "turnover", "costs",
)  # fmt: skip
_INTERVALS = {"sharpe": "sharpe_difference", "annual_return": "annual_return_difference"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One strategy of one decision."""

    decision: Decision
    strategy: str
    weights: dict[str, float]

    @property
    def parameters(self) -> dict[str, Any]:
        """What the date was decided with."""
        return self.decision.record["parameters"]


def names(store: Store) -> list[str]:
    """Scenarios that have decided a date."""
    return sorted(set(tables.read(store, "decisions", ["scenario"])["scenario"].to_pylist()))


def decided(store: Store, scenario: str) -> dict[str, Decision]:
    """The scenario's decisions by name, in order; InputError with the nearest names where there is no such scenario."""
    known = names(store)
    if scenario not in known:
        if not known:
            raise NoDataError("no scenario has decided a month yet; run `prism run` first")
        near = difflib.get_close_matches(scenario, known, n=3, cutoff=0.3) or known[:3]
        raise InputError(f"there is no scenario {scenario!r}; did you mean {' or '.join(near)}?")
    return {entry.month: entry for entry in ledger.current(store, scenario).values()}


def decision(store: Store, scenario: str, month: str | None) -> Decision:
    """The scenario's decision of a month or day, by default its newest one.

    InputError with the nearest decided ones where it has not decided that.
    """
    found = decided(store, scenario)
    if month is None:
        return next(reversed(found.values()))
    fitting = [entry for entry in found.values() if f"{entry.rebalance_date}".startswith(month)]
    if not fitting:
        before = [name for name in found if name < month][-1:]
        after = [name for name in found if name > month][:1]
        raise InputError(f"scenario {scenario} has not decided {month}; nearest to it: {' and '.join(before + after)}")
    return fitting[-1]


def side(store: Store, found: Decision, strategy: str | None) -> Side:
    """A strategy of a decision, by default the published one; InputError where it has none of that name."""
    books: dict[str, dict[str, float]] = {}
    for row in tables.read(store, "weights", key=list(found.weights)).sort_by("ticker").to_pylist():
        books.setdefault(row["strategy"], {})[row["ticker"]] = row["weight"]
    name = strategy or found.record["parameters"]["publish"]
    if name not in books:
        near = difflib.get_close_matches(name, books, n=1, cutoff=0.3) or sorted(books)
        raise InputError(
            f"scenario {found.scenario} has no strategy {name!r} at {found.month}; did you mean {' or '.join(near)}?"
        )
    return Side(found, name, books[name])


def weights(a: Side, b: Side) -> list[Row]:
    """Weights by ticker, the largest first."""
    return _beside(a.weights, b.weights)


def _beside(a: dict[str, float], b: dict[str, float]) -> list[Row]:
    tickers = sorted({*a, *b}, key=lambda ticker: (-max(abs(a.get(ticker, 0.0)), abs(b.get(ticker, 0.0))), ticker))
    pairs = [(ticker, a.get(ticker, 0.0), b.get(ticker, 0.0)) for ticker in tickers]
    return [{"ticker": ticker, "a": own, "b": other, "difference": other - own} for ticker, own, other in pairs]


def trades(store: Store, a: Side, b: Side) -> list[Row]:
    """Planned trades by ticker, fractions of wealth, the largest first."""
    return _beside(*({row["ticker"]: row["trade"] for row in _trades(store, side)} for side in (a, b)))


def _trades(store: Store, side: Side) -> list[Row]:
    return tables.read(store, "trades", key=side.decision.trades, strategy=side.strategy).to_pylist()


def expected(store: Store, a: Side, b: Side) -> list[Row]:
    """Return and volatility that the forecasts expect over the horizon, turnover, cost; None where there is none."""
    own, other = _expected(store, a), _expected(store, b)
    return [_row(name, own[name], other[name]) for name in own]


def _row(name: str, a: float | None, b: float | None) -> Row:
    return {"name": name, "a": a, "b": b, "difference": None if a is None or b is None else b - a}


def _expected(store: Store, side: Side) -> dict[str, float | None]:
    """Of the weights whose assets have a forecast; `not_forecast` is the weight of the rest, cash among it."""
    planned, parameters = _trades(store, side), side.parameters
    found: dict[str, float | None] = {"expected_return": None, "expected_volatility": None, "not_forecast": None}
    if side.decision.forecasts:
        given = expectations.forecasts(store, [side.decision.forecasts])[side.decision.forecasts]
        units, matrix = parameters["forecast"]["mean_units"], CovarianceConfig(**parameters["covariance"])
        ahead = expectations.of(_panel(store, side.decision), side.decision.as_of, given, units, matrix)
        held = np.array([side.weights.get(ticker, 0.0) for ticker in ahead.tickers])
        rest = sum(weight for ticker, weight in side.weights.items() if ticker not in ahead.tickers)
        volatility = float(np.sqrt(held @ ahead.covariance @ held))
        found = {"expected_return": float(held @ ahead.mean), "expected_volatility": volatility}
        found |= {"not_forecast": float(rest)}
    moved = sum(abs(row["trade"]) for row in planned if row["ticker"] != CASH)
    return found | {"turnover": moved / 2, "cost": float(sum(row["cost"] for row in planned))}


def _panel(store: Store, found: Decision) -> panels.Panel:
    return panels.load(store, PanelKey(found.record["snapshot"], found.record["universe"]))


def backtests(store: Store, a: Side, b: Side) -> Row | None:
    """Measures of both backtests over the sessions that both have, with paired intervals of two differences.

    None for two dates of one line, where one of the two has no backtest, and where they share too few sessions.
    """
    if (a.decision.scenario, a.strategy) == (b.decision.scenario, b.strategy):
        return None
    own, other = (_daily(store, side) for side in (a, b))
    common = own.index.intersection(other.index)
    if common.size < 2:
        return None
    cash = _cash(store, b, common)
    columns = [own[common].to_numpy(), other[common].to_numpy()]
    measured = [_measures(store, side, common, values, cash) for side, values in zip((a, b), columns, strict=True)]
    gaps = {entry.name: entry for entry in differences.paired(columns[1], columns[0], cash)}
    rows = []
    for name in MEASURES:
        row = _row(name, *(_number(found[name]) for found in measured)) | {"lower": None, "upper": None}
        if name in _INTERVALS:
            gap = gaps[_INTERVALS[name]]
            row |= {"lower": _number(gap.lower), "upper": _number(gap.upper)}
        rows.append(row)
    years = {name: _number(gaps[name].value) for name in ("years", "years_needed")}
    span = {"start_date": common[0].date(), "end_date": common[-1].date(), "sessions": common.size}
    return span | {"measures": rows, **years, "method": gaps["sharpe_difference"].method}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _newest(store: Store, scenario: str) -> str | None:
    """Key of the scenario's newest backtest."""
    rows = tables.read(store, "backtests", ["position", "key"], scenario=scenario).sort_by("position")["key"]
    return rows[-1].as_py() if len(rows) else None


def _daily(store: Store, side: Side) -> pd.Series:
    """Daily returns by session, from the session of the first trade on."""
    key = _newest(store, side.decision.scenario)
    rows = tables.read(store, "wealth", ["session", "daily_return"], key=key or "", strategy=side.strategy)
    found = rows.sort_by("session").to_pandas()
    return pd.Series(found["daily_return"].to_numpy(), pd.to_datetime(found["session"])).iloc[1:]


def _cash(store: Store, side: Side, common: pd.DatetimeIndex) -> np.ndarray:
    """The risk-free return of each common session: the universe's, or the constant of the parameters."""
    panel = _panel(store, side.decision)
    constant = side.parameters["accounting"]["cash_rate"] / TRADING_DAYS
    if panel.risk_free is None:
        return np.full(common.size, constant)
    rates = pd.Series(panel.risk_free, pd.to_datetime(panel.sessions))
    return rates.reindex(common).fillna(constant).to_numpy()


def _measures(
    store: Store, side: Side, common: pd.DatetimeIndex, daily: np.ndarray, cash: np.ndarray
) -> dict[str, float]:
    """The measures of the common sessions; turnover and costs are those of the rebalance dates among them."""
    key = _newest(store, side.decision.scenario)
    done = tables.read(store, "executions", key=key or "", strategy=side.strategy).to_pylist()
    first, last = common[0].date(), common[-1].date()
    traded = [row for row in done if _within(row["rebalance_date"], first, last)]
    turnover = np.array([abs(row["trade"]) / 2 for row in traded])
    cost = np.array([row["cost"] for row in traded])
    month = common.to_numpy().astype("datetime64[M]").astype(np.int64)
    return metrics.measures(daily, np.zeros((1, 1)), turnover, cost, month, cash)


def _within(day: date, first: date, last: date) -> bool:
    return first <= day <= last


def spans(sides: Sequence[Side]) -> list[Row]:
    """What each side is, for the heading."""
    return [
        {"scenario": side.decision.scenario, "month": side.decision.month, "strategy": side.strategy}
        | {"as_of": side.decision.as_of, "rebalance_date": side.decision.rebalance_date, "kind": side.decision.kind}
        for side in sides
    ]
