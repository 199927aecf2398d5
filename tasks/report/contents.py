"""What the report shows, read once from the store: the newest decision and the scenario's results.

Everything comes through the catalog's views and the ledger, so a half-finished decision is never seen.
"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import duckdb
import pandas as pd

from storage import catalog, ledger, universe
from storage.errors import InputError, NoDataError
from storage.ledger import Decision
from storage.schemas import CASH
from storage.store import Store
from storage.universe import Member, Universe
from tasks.report.formats import ordered

Frame = Any  # a DataFrame or Series of pandas, whose own annotations are unions that no checker narrows

_QUERIES = {
    "weights": "SELECT rebalance_date, strategy, ticker, weight FROM weights ORDER BY ALL",
    "trades": "SELECT ticker, trade, cost FROM trades WHERE rebalance_date = $day AND strategy = $published ORDER BY 1",
    "forecasts": "SELECT * FROM forecasts ORDER BY as_of, ticker",
    "gates": "SELECT as_of, reason FROM gates WHERE as_of = $as_of",
    "judgements": "SELECT * FROM judgements",
    "executions": "SELECT rebalance_date, strategy, trade FROM executions ORDER BY ALL",
    "wealth": "SELECT session, strategy, wealth, daily_return, drawdown FROM wealth ORDER BY strategy, session",
    "metrics": "SELECT strategy, name, value, start_date, end_date FROM metrics ORDER BY ALL",
    "periods": "SELECT * FROM periods ORDER BY start_date, strategy",
    "comparisons": "SELECT strategy, baseline, name, value, lower, upper FROM comparisons",
    "exposures": "SELECT strategy, model, factor, kind, session, beta, t, alpha, alpha_t, r2 FROM exposures",
    "against": "SELECT * FROM against",
    "contributions": "SELECT * FROM contributions",
    "singles": "SELECT ticker, cumulative_return FROM singles",
    "changes": "SELECT strategy, ticker, part, change FROM changes WHERE rebalance_date = $day",
    "spread": "SELECT strategy, ticker, lowest, highest FROM spread WHERE rebalance_date = $day",
    "allocations": "SELECT a.strategy, a.diagnostics FROM (SELECT unnest(weights) AS key FROM decisions "
    "WHERE rebalance_date = $day) JOIN raw.allocations a USING (key)",
    "portfolio_forecasts": "SELECT * FROM portfolio_forecasts WHERE rebalance_date = $day",
    "portfolio_judgements": "SELECT strategy, name, value, error FROM portfolio_judgements WHERE kind = 'all'",
    "live": "SELECT session, wealth, expected, lower_90, upper_90, outside FROM live",
    "leaks": "SELECT rebalance_date, verdict, seconds FROM leak_checks WHERE as_of = $as_of "
    "ORDER BY created_at DESC LIMIT 1",
    "hashes": "SELECT content_hash, record_hash, created_at FROM decisions WHERE rebalance_date = $day",
}


@dataclass(frozen=True)
class Contents:
    """The newest decision of a scenario, and the results of all."""

    scenario: str
    published: str
    newest: Decision
    dates: int  # decided rebalance dates
    universe: Universe
    tables: dict[str, Frame]  # by the names of the queries above

    @property
    def record(self) -> dict[str, Any]:
        """What the newest decision was made of."""
        return self.newest.record

    @property
    def month(self) -> str:
        """The newest decision's name: its month, or its day where every session is decided."""
        return self.newest.month

    @property
    def period(self) -> str:
        """What lies between two rebalance dates."""
        return {"D": "session", "M": "month", "Q": "quarter"}[self.record["parameters"].get("rebalance", "M")]

    @property
    def current(self) -> Frame:
        """Weights of the newest decision: tickers down, strategies across, 0 where nothing is held."""
        weights = self.tables["weights"]
        rows = weights[weights["rebalance_date"] == pd.Timestamp(self.newest.rebalance_date)]
        table = rows.pivot(index="ticker", columns="strategy", values="weight").fillna(0.0)
        return table[ordered(list(table.columns), self.published)]

    @property
    def forecasts(self) -> Frame:
        """Mean and variance of the newest decision's forecast by ticker; no rows where there is none."""
        rows = self.tables["forecasts"]
        return rows[rows["as_of"] == pd.Timestamp(self.newest.as_of)].set_index("ticker")

    @property
    def traded(self) -> bool:
        """Whether any decision has traded, so that there are results."""
        return bool(len(self.tables["wealth"]))

    @property
    def measured(self) -> list[str]:
        """Strategies with results, in the order of the report."""
        return ordered(list(self.tables["wealth"]["strategy"].unique()), self.published)

    @property
    def leading(self) -> str:
        """The published strategy or, before its first trade, the first one with results."""
        return self.published if self.published in self.measured else self.measured[0]

    def wealth_of(self, strategy: str) -> Frame:
        """A strategy's sessions in order, with wealth, daily return and drawdown."""
        wealth = self.tables["wealth"]
        return wealth[wealth["strategy"] == strategy]

    def measures_of(self, strategy: str) -> dict[str, float]:
        """A strategy's measures by name; NaN where one is undefined."""
        rows = self.tables["metrics"]
        rows = rows[rows["strategy"] == strategy]
        return dict(zip(rows["name"], rows["value"].astype(float), strict=True))

    def span_of(self, strategy: str) -> tuple[date, date]:
        """The first and last session of a strategy's results."""
        sessions = self.wealth_of(strategy)["session"]
        return sessions.iloc[0].date(), sessions.iloc[-1].date()

    @property
    def first(self) -> date:
        """The day from which there are results; the newest decision's where there are none."""
        return self.span_of(self.leading)[0] if self.traded else self.newest.as_of

    @cached_property
    def comparable(self) -> bool:
        """Whether all strategies cover the same sessions."""
        return len({self.span_of(name) for name in self.measured}) == 1

    def member(self, ticker: str) -> Member:
        """The newest row of the universe with that ticker."""
        if ticker == CASH:
            return Member(CASH, "Cash")
        rows = [member for member in self.universe.members if member.ticker == ticker]
        return rows[-1] if rows else Member(ticker)


def read(store: Store, scenario: str, published: str) -> Contents:
    """What the store holds of a scenario.

    Raises NoDataError when no month is decided, and InputError when the newest one lacks the published strategy.
    """
    decided = ledger.current(store, scenario)
    if not decided:
        raise NoDataError(f"scenario {scenario} has decided no month, so there is no report; run `prism run` first")
    newest = decided[max(decided)]
    values = {"day": newest.rebalance_date, "as_of": newest.as_of, "published": published}
    with catalog.connect(store, scenario) as connection:
        tables = {name: _frame(connection, sql, values) for name, sql in _QUERIES.items()}
    found = Contents(scenario, published, newest, len(decided), universe.load(store, newest.record["universe"]), tables)
    if published not in found.current:
        known = ", ".join(found.current.columns)
        raise InputError(
            f"strategy {published!r} has no weights for {found.month}, so it cannot be published; name one of {known}"
        )
    return found


def _frame(connection: duckdb.DuckDBPyConnection, sql: str, values: dict[str, Any]) -> Frame:
    used = {name: value for name, value in values.items() if f"${name}" in sql}
    return connection.execute(sql, used).df()
