"""Stage *live*: the published weights, marked to market session by session, as an account would have kept them.

Only what the ledger says was published before the close of its rebalance date counts, or held; never a backfill, nor
what was amended later. A held date, and one on which nothing was published, trades nothing. Costs, interest, halts and
delistings are those of the backtest's account. Rows are written once: a price that is corrected later moves the wealth
of the next session, as it does in an account, and no row before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import clock, ledger, tables
from storage.errors import StoreError
from storage.keys import PanelKey
from storage.ledger import HELD, PUBLISHED, Decision
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import accounts, calendars, panels
from tasks.numerics.accounting import Account
from tasks.numerics.cone import cone
from tasks.numerics.configs import AccountingConfig
from tasks.planned import books
from tasks.prices import Prices, prices_of

ALERT = 21  # sessions in a row outside the cone
FloatArray = NDArray[np.float64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Marked:
    """Where the live record stands."""

    new: int  # sessions marked now
    session: date | None  # the last one; None while nothing published has traded
    wealth: float
    outside: int  # sessions in a row outside the cone, up to the last one
    alert: bool  # whether these became 21, or as many again, now


def decided_in_time(store: Store, scenario: str, exchange: str) -> list[Decision]:
    """What stood at the close of each rebalance date that was published or held, in order of time."""
    written = tables.read(store, "decisions", ["position", "created_at"], scenario=scenario).sort_by("position")
    found: dict[date, Decision] = {}
    for decision, at in zip(ledger.read(store, scenario), written["created_at"].to_pylist(), strict=True):
        if decision.advisory or not decision.is_final:
            continue
        day = decision.rebalance_date
        # a date is held when its deadline, the close at the latest, has passed
        if decision.kind == HELD or at < calendars.close_of(exchange, day):
            found[day] = decision
    return [found[day] for day in sorted(found)]


@task(cache_policy=NO_CACHE, task_run_name="mark {scenario} to market")
def mark(panel: PanelKey, scenario: str, until: date) -> Marked:
    """Append a row for each session up to `until` that has none yet."""
    store = open_store()
    known = tables.read(store, "live", scenario=scenario).sort_by("session").to_pylist()
    exchange = panels.load(store, panel).universe.exchange
    months = [m for m in decided_in_time(store, scenario, exchange) if m.kind == PUBLISHED and _trade_date(m) <= until]
    if not months:
        return Marked(0, None, 1.0, 0, alert=False)
    rows = _rows(store, panel, scenario, months, until, known)
    if rows and not tables.claim(store, "live", pa.Table.from_pylist(rows, TABLES["live"].schema)):
        raise StoreError(f"the live record of {scenario} was being marked by another run; run the same command again")
    last, runs = [*known, *rows][-1], [row["outside"] for row in rows]
    alert = any(run and run % ALERT == 0 for run in runs)
    return Marked(len(rows), last["session"], last["wealth"], last["outside"], alert)


def _trade_date(month: Decision) -> date:
    return month.rebalance_date if month.record["parameters"]["accounting"]["lag"] else month.as_of


def _rows(store: Store, panel: PanelKey, scenario: str, months: Sequence[Decision], until: date, known: Rows) -> Rows:
    """The rows of the sessions after those known."""
    prices, when, account = _account(store, panel, months, until)
    sessions = prices.sessions[when[0] :]
    found = cone(account.wealth, *_forecast(months, when - when[0], sessions.size))
    force = np.searchsorted(when - when[0], np.arange(sessions.size), side="right") - 1
    before, outside = (known[-1]["wealth"], known[-1]["outside"]) if known else (1.0, 0)
    last = known[-1]["session"] if known else date.min
    rows = []
    for t in np.flatnonzero((sessions > np.datetime64(last)) & (sessions <= np.datetime64(until))):
        value, month = float(account.wealth[t]), months[force[t]]
        outside = outside + 1 if value < found.lower[t] or value > found.upper[t] else 0
        row = {"scenario": scenario, "session": sessions[t].item(), "rebalance_date": month.rebalance_date}
        row |= {"strategy": _published(month), "wealth": value, "outside": outside, "created_at": clock.now()}
        row["daily_return"] = (value - before) / before if before > 0 else 0.0
        parts = {"expected": found.middle[t], "lower_90": found.lower[t], "upper_90": found.upper[t]}
        rows.append(row | {name: None if np.isnan(part) else float(part) for name, part in parts.items()})
        before = value
    return rows


def _account(
    store: Store, panel: PanelKey, months: Sequence[Decision], until: date
) -> tuple[Prices, NDArray[np.int64], Account]:
    """The prices, the sessions of the trades, and the account that follows the published weights."""
    used = [panel.universe, *(month.record["universe"] for month in reversed(months))]
    prices = prices_of(store, panel.snapshot, list(dict.fromkeys(used))[::-1])
    chosen = books(store, [key for month in months for key in month.weights])
    held = [dict(chosen[key] for key in month.weights if key in chosen)[_published(month)] for month in months]
    targets = np.array([[weights.get(ticker, 0.0) for ticker in prices.tickers] for weights in held])
    configs = [AccountingConfig(**month.record["parameters"]["accounting"]) for month in months]
    days = [np.datetime64(_trade_date(month)) for month in months]
    when = np.searchsorted(prices.sessions, days).astype(np.int64)
    return prices, when, accounts.simulate(prices, when, targets, configs, accounts.liquidity(prices, configs))


def _published(month: Decision) -> str:
    """The strategy that was published."""
    return month.record["parameters"]["publish"]


def _forecast(months: Sequence[Decision], when: NDArray[np.int64], count: int) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of each session, (count,), as forecast when the weights in force were published.

    They are in force from the session after their trade on.
    """
    mean, variance = np.full(count, np.nan), np.full(count, np.nan)
    for month, begin, end in zip(months, when + 1, [*(when[1:] + 1), count], strict=True):
        said = ((month.record.get("publication") or {}).get("measured") or {}).get("forecast")
        if said:
            mean[begin:end] = said["mean"] / said["horizon"]
            variance[begin:end] = said["volatility"] ** 2 / said["horizon"]
    return mean, variance
