"""Why a backtest's strategies earned what they did: single stocks, factors, baselines and contributions, as rows.

Every number is of the same accounts as the backtest's wealth. A regression leaves out the session of the first
trade, during which nothing was held, and counts its cost on the next one.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage import snapshots
from storage.bars import RATES
from storage.keys import PanelKey
from storage.schemas import CASH
from storage.store import Store
from tasks import panels
from tasks.accounts import Kept
from tasks.numerics import contributions, exposures, singles
from tasks.numerics.configs import BASELINES, TRADING_DAYS
from tasks.prices import Prices

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Row = dict[str, Any]

# Shapes: S = sessions of the prices, n = their tickers, K = trades.


def rows(
    store: Store,
    snapshot: str,
    universe: str,
    first_universe: str,
    first_as_of: date,
    prices: Prices,
    kept: Sequence[Kept],
) -> dict[str, list[Row]]:
    """Rows by table: `singles`, `exposures`, `against`, `contributions`, and two measures of each strategy.

    `universe` names the newest universe, whose index, factors and sectors count; `first_universe` the one that the
    first decision was made for, and `first_as_of` when: its assets are the single stocks.
    """
    newest, first = (panels.load(store, PanelKey(snapshot, identity)) for identity in (universe, first_universe))
    models = _models(store, snapshot, newest, prices)
    alone, beaten = _singles(kept, prices, _could_be_bought(first, first_as_of, prices))
    return {
        "singles": alone,
        "exposures": [row for one in kept for row in _exposures(one, prices, models)],
        "against": [row for one in kept for row in _against(one, kept, prices)],
        "contributions": [row for one in kept for row in _contributions(one, prices, newest)],
        "metrics": beaten,
    }


def _cash(one: Kept, prices: Prices) -> FloatArray:
    """The return of cash on each session: (S,)."""
    if prices.risk_free is not None:
        return prices.risk_free
    return np.full(prices.sessions.size, one.configs[-1].cash_rate / TRADING_DAYS)


def _span(start: int, prices: Prices) -> Row:
    """The dates of an account, as its measures name them: from the close before its first trade on."""
    return {"start_date": prices.sessions[start - 1].item(), "end_date": prices.sessions[-1].item()}


def _number(value: float) -> float | None:
    """The number, None where it is undefined."""
    return float(value) if np.isfinite(value) else None


def _could_be_bought(panel: panels.Panel, as_of: date, prices: Prices) -> IntArray:
    """Columns of the assets that a decision at the as-of date could hold."""
    eligible = panel.eligible[panel.at(as_of)]
    assets = [ticker for ticker, may in zip(panel.universe.assets, eligible, strict=True) if may]
    return np.array([prices.tickers.index(ticker) for ticker in assets], np.int64)


def _singles(kept: Sequence[Kept], prices: Prices, columns: IntArray) -> tuple[list[Row], list[Row]]:
    """Rows of the single stocks over the longest span, and of the share that each strategy beats over its own."""
    found, beaten = {}, []
    for one in sorted(kept, key=lambda entry: entry.start):
        if one.start not in found:
            found[one.start] = _alone(one, prices, columns[prices.traded[one.start, columns]])
        _, measured = found[one.start]
        own = singles.measured(one.account.daily_return[:, None], _cash(one, prices)[one.start :])
        for name, value, others in (
            ("wealth", own.cumulative_return, measured.cumulative_return),
            ("sharpe", own.sharpe, measured.sharpe),
        ):
            share = _number(singles.share_beaten(float(value[0]), others))
            row = {"strategy": one.name, "name": f"single_stocks_beaten_{name}", "value": share}
            beaten.append(row | _span(one.start, prices))
    start = min(found)
    bought, measured = found[start]
    return [
        {"ticker": prices.tickers[column]}
        | {name: _number(values[place]) for name, values in measured._asdict().items()}
        | _span(start, prices)
        for place, column in enumerate(bought)
    ], beaten


def _alone(one: Kept, prices: Prices, columns: IntArray) -> tuple[IntArray, singles.Singles]:
    """Single stocks bought when the strategy first traded, on its terms."""
    daily = singles.hold_each(
        prices.returns[:, columns],
        prices.traded[:, columns],
        one.start,
        replace(one.configs[0], costs="flat"),  # a purchase of all that one has knows no size
        prices.delisted[columns],
        prices.risk_free,
    )
    return columns, singles.measured(daily, _cash(one, prices)[one.start :])


def _models(
    store: Store, snapshot: str, panel: panels.Panel, prices: Prices
) -> dict[str, dict[str, tuple[FloatArray, bool]]]:
    """By model its factors: daily returns (S,), NaN where there are none, and whether they are paid for.

    What is bought, an index or a fund, has an excess return over cash; series of returns, as of long-short portfolios,
    are excess returns already.
    """
    before = prices.sessions.size - panel.sessions.size

    def over(values: FloatArray) -> FloatArray:
        return np.concatenate([np.full(before, np.nan), values])

    market = panel.market if panel.index_returns is None else panel.index_returns
    name = panel.universe.index if panel.index_returns is not None else None
    models = {"capm": {name or "market": (over(market), True)}}
    if panel.factors:
        bars = snapshots.read(store, snapshots.load(store, snapshot), panel.universe.tickers)
        rates = set(bars.loc[bars["basis"].isin(RATES), "ticker"])
        given = ((ticker, rates & set(panel.universe.names[ticker])) for ticker in panel.factors)
        models["factors"] = {ticker: (over(panel.factors[ticker]), not series) for ticker, series in given}
    return models


def _held_returns(one: Kept, start: int) -> FloatArray:
    """Daily returns of the sessions after `start`, the cost of a first purchase on it counted on the next: (T,)."""
    daily = one.account.daily_return[start - one.start :]
    later = daily[1:].copy()
    if start == one.start and later.size:
        later[0] = (1 + daily[0]) * (1 + later[0]) - 1
    return later


def _exposures(one: Kept, prices: Prices, models: dict[str, dict[str, tuple[FloatArray, bool]]]) -> list[Row]:
    """A strategy's exposures over its whole span, and at the end of each month over the year before."""
    later = slice(one.start + 1, None)
    days, cash = prices.sessions[later], _cash(one, prices)[later]
    if not days.size:
        return []
    excess, found = _held_returns(one, one.start) - cash, []
    ends = exposures.month_ends(days.astype("datetime64[M]").astype(np.int64))
    for model, factors in models.items():
        series = np.column_stack([values[later] - cash if paid else values[later] for values, paid in factors.values()])
        fits = [("whole", days.size - 1, exposures.regress(excess, series))]
        fits += [("rolling", end, fit) for end, fit in exposures.rolling(excess, series, ends)]
        for kind, end, fit in fits:
            shared = {"strategy": one.name, "model": model, "kind": kind, "session": days[end].item()}
            shared |= {name: _number(getattr(fit, name)) for name in ("alpha", "alpha_t", "r2")}
            shared |= {"rows": fit.rows, "lags": fit.lags}
            found += [
                shared | {"factor": factor, "beta": _number(beta), "t": _number(t)}
                for factor, beta, t in zip(factors, fit.beta, fit.t, strict=True)
            ]
    return found


def _against(one: Kept, kept: Sequence[Kept], prices: Prices) -> list[Row]:
    """A strategy against each baseline that was run, over the sessions that both held something."""
    found = []
    for other in kept:
        start = max(one.start, other.start)
        if other.name in BASELINES and other is not one and start + 1 < prices.sessions.size:
            mine, theirs = _held_returns(one, start), _held_returns(other, start)
            compared = exposures.compare(mine, theirs, _cash(one, prices)[start + 1 :])
            row = {"strategy": one.name, "baseline": other.name} | _span(start, prices)
            found.append(row | {name: _number(value) for name, value in compared._asdict().items()})
    return found


def _contributions(one: Kept, prices: Prices, panel: panels.Panel) -> list[Row]:
    """What each asset that was held, and cash, contributed to a strategy.

    Nothing where trades went on at later sessions than their own: the record does not say at which.
    """
    if one.account.carried.any():
        return []
    book = contributions.ledger(one.account, prices.returns, one.when, one.configs, prices.delisted)
    parts = contributions.contributions(book)
    sectors = dict(zip(panel.universe.assets, panels.sectors(panel), strict=True))
    touched = np.append((one.account.trades != 0).any(axis=0), True)
    return [
        {
            "strategy": one.name,
            "ticker": ticker,
            "sector": sectors.get(ticker, ""),
            "return_contribution": float(parts.returns[place]),
            "cost_contribution": float(parts.costs[place]),
            "risk_contribution": _number(parts.risk[place]),
            "average_weight": float(parts.weight[place]),
        }
        for place, ticker in enumerate([*prices.tickers, CASH])
        if touched[place]
    ]
