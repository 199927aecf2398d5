"""Stage *portfolio*: what the forecasts said of every strategy's portfolio at each decided date, and what followed.

The distribution that the forecasts of the as-of date give the weights is set against the account that holds them for
a horizon from the close of the trade. The forecast covers the sessions after the as-of date and the account those after
the trade, so that with lag 1 they are one session apart. A strategy with an asset that has no forecast at a date, the
index for one, or with nothing but cash, has no row there. Results of dates whose horizon is open are empty until it is
over. The expected simple return is mean + variance / 2 of the log return's forecast, whatever allocators were given.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import ledger, pointers, tables
from storage.keys import PanelKey
from storage.ledger import Decision
from storage.schemas import CASH, TABLES
from storage.store import Store, open_store
from tasks import covariances, panels
from tasks.caching import keyed_by
from tasks.numerics import portfolio_judgement
from tasks.numerics.configs import TRADING_DAYS, CovarianceConfig
from tasks.numerics.portfolio_judgement import FloatArray, Judged, Measure
from tasks.prices import Prices, prices_of

KEYED = keyed_by(
    __name__,
    "tasks.covariances",
    "tasks.numerics.portfolio_judgement",
    "tasks.panels",
    "tasks.prices",
    packages=("numpy", "scipy", "exchange-calendars"),
)
_COLUMNS = ["key", "ticker", "mean", "variance", "scale", "degrees"]
_ARRAYS = ("realised", "mean", "volatility", "scale", "degrees", "realised_drawdown")
_ARRAYS += ("drawdown_proxy", "drawdown_proxy_sane")
log = logging.getLogger("prism.portfolio")
Rows = list[dict[str, Any]]
Targets = dict[str, dict[str, float]]  # weights by strategy and ticker


@dataclass(frozen=True)
class _Terms:
    """What of a date's parameters its predictions and outcomes depend on."""

    matrix: CovarianceConfig
    horizon: int
    floor: float
    lag: int
    cash_rate: float


def _terms(decision: Decision) -> _Terms:
    parameters = decision.record["parameters"]
    account, drawdown = parameters["accounting"], parameters["return_drawdown"]
    matrix = CovarianceConfig(**parameters["covariance"])
    return _Terms(matrix, drawdown["horizon"], drawdown["drawdown_floor"], account["lag"], account["cash_rate"])


@task(cache_policy=NO_CACHE, task_run_name="judge portfolios of {scenario}")
def judge_portfolios(panel: PanelKey, scenario: str) -> str | None:
    """Predict and judge the portfolios of all decided dates that have forecasts; the key of the result.

    None, and nothing written, where no strategy has a portfolio of assets with forecasts.
    """
    store = open_store()
    decided = [decision for decision in ledger.current(store, scenario).values() if decision.forecasts]
    universes = list(dict.fromkeys([*(decision.record["universe"] for decision in decided), panel.universe]))
    last = panels.load(store, panel).sessions[-1].item()
    seen = [panels.prefix(store, PanelKey(panel.snapshot, identity), last) for identity in universes]
    of = [(d.rebalance_date, d.as_of, d.forecasts, d.weights, d.record["universe"], _terms(d)) for d in decided]
    key = KEYED.key("portfolio", seen=seen, of=of)
    if not tables.existing(store, "portfolio_forecasts", [key]):
        rows = _predicted(store, panel, universes, decided)
        if not rows:
            return None
        measured = _measured(rows, panels.load(store, panel), decided)
        for name, found in (("portfolio_judgements", measured), ("portfolio_forecasts", rows)):
            stamped = [row | {"key": key} for row in found]
            tables.put(store, name, pa.Table.from_pylist(stamped, TABLES[name].schema))
        log.info("portfolios of %d dates judged, %d measures", len(decided), len(measured))
    pointers.point(store, "portfolios", scenario, key)
    return key


def _predicted(store: Store, panel: PanelKey, universes: list[str], decided: Sequence[Decision]) -> Rows:
    """A row for each date and strategy whose portfolio can be predicted."""
    newest_last = [name for name in universes if name != panel.universe] + [panel.universe]
    prices = prices_of(store, panel.snapshot, newest_last)
    forecasts, targets = _forecasts(store, decided), _targets(store, decided)
    rows = []
    for decision in decided:
        loaded = panels.load(store, PanelKey(panel.snapshot, decision.record["universe"]))
        given = forecasts[decision.forecasts or ""]
        rows += _of_date(decision, loaded, prices, given, targets[decision.rebalance_date])
    return rows


def _forecasts(store: Store, decided: Sequence[Decision]) -> dict[str, Rows]:
    """Rows of each forecast, in order of their tickers."""
    found: dict[str, Rows] = {decision.forecasts or "": [] for decision in decided}
    for row in tables.read(store, "forecasts", _COLUMNS, key=list(found)).sort_by("ticker").to_pylist():
        found[row["key"]].append(row)
    return found


def _targets(store: Store, decided: Sequence[Decision]) -> dict[date, Targets]:
    """The weights of each date."""
    by_key: dict[str, tuple[str, dict[str, float]]] = {}
    wanted = [key for decision in decided for key in decision.weights]
    for row in tables.read(store, "weights", ["key", "strategy", "ticker", "weight"], key=wanted).to_pylist():
        by_key.setdefault(row["key"], (row["strategy"], {}))[1][row["ticker"]] = row["weight"]
    return {d.rebalance_date: dict(by_key[key] for key in d.weights if key in by_key) for d in decided}


def _of_date(decision: Decision, panel: panels.Panel, prices: Prices, given: Rows, targets: Targets) -> Rows:
    """The rows of one date, a strategy each."""
    terms, tickers = _terms(decision), [row["ticker"] for row in given]
    mean, variance, scale = (np.array([row[name] for row in given]) for name in ("mean", "variance", "scale"))
    degrees = np.array([row["degrees"] or np.inf for row in given])
    matrix = covariances.of(panel, decision.as_of, tickers, variance, terms.matrix)
    last = panel.at(decision.as_of)
    rate = terms.cash_rate / TRADING_DAYS if panel.risk_free is None else float(panel.risk_free[last])
    after = _after(decision, prices, tickers, terms)
    rows = []
    for strategy, held in sorted(targets.items()):
        weights = np.array([held.get(ticker, 0.0) for ticker in tickers])
        if not weights.any() or held.keys() - {*tickers, CASH}:
            continue
        found = portfolio_judgement.predict(weights, mean + variance / 2, matrix, scale, degrees, terms.horizon * rate)
        if found.volatility > 0:
            row = {"rebalance_date": decision.rebalance_date, "as_of": decision.as_of, "strategy": strategy}
            rows.append(row | _row(found, terms) | _followed(found, weights, after))
    return rows


def _row(found: portfolio_judgement.Prediction, terms: _Terms) -> dict[str, Any]:
    """The columns that are known at the as-of date."""
    lower, upper = found.interval(0.9)
    literal, sane = portfolio_judgement.proxies(found.volatility, terms.horizon, terms.floor)
    known = {"mean": found.mean, "volatility": found.volatility, "scale": found.scale, "lower_90": lower}
    known |= {"upper_90": upper, "drawdown_proxy": literal, "drawdown_proxy_sane": sane}
    return known | {"degrees": found.degrees if np.isfinite(found.degrees) else None}


def _after(
    decision: Decision, prices: Prices, tickers: Sequence[str], terms: _Terms
) -> tuple[FloatArray, FloatArray] | None:
    """Simple returns of the tickers, (H, n), and of cash, (H,), after the trade; None while the horizon is open."""
    traded = decision.rebalance_date if terms.lag else decision.as_of
    begin = int(np.searchsorted(prices.sessions, np.datetime64(traded), side="right"))
    end = begin + terms.horizon
    if end > prices.sessions.size:
        return None
    returns = prices.returns[begin:end, [prices.tickers.index(ticker) for ticker in tickers]]
    cash = np.full(terms.horizon, terms.cash_rate / TRADING_DAYS)
    return returns, cash if prices.risk_free is None else prices.risk_free[begin:end]


def _followed(
    found: portfolio_judgement.Prediction, weights: FloatArray, after: tuple[FloatArray, FloatArray] | None
) -> dict[str, float | None]:
    """The columns that are known once the horizon is over."""
    if after is None:
        return dict.fromkeys(("realised", "pit", "realised_drawdown"))
    value = portfolio_judgement.held(weights, *after)
    realised = float(value[-1] - 1)
    said = {"realised": realised, "realised_drawdown": portfolio_judgement.drawdown(value)}
    return said | {"pit": found.pit(realised)}


def _measured(rows: Rows, panel: panels.Panel, decided: Sequence[Decision]) -> Rows:
    """Measures of every strategy over all of its dates that are over, and rolling."""
    terms, found = _terms(decided[-1]), []
    for strategy in sorted({row["strategy"] for row in rows}):
        own = [row for row in rows if row["strategy"] == strategy and row["realised"] is not None]
        if not own:
            continue
        days = np.array([row["rebalance_date"] for row in own], "datetime64[D]")
        columns = {name: np.array([row[name] for row in own], float) for name in _ARRAYS}
        columns["degrees"] = np.where(np.isnan(columns["degrees"]), np.inf, columns["degrees"])
        judged = Judged(*columns.values())
        lags = portfolio_judgement.overlap(np.searchsorted(panel.sessions, days), terms.horizon)
        whole = portfolio_judgement.measures(judged, lags)
        found += _rows(strategy, "all", "", whole, len(own))
        month = days.astype("datetime64[M]").astype(np.int64)
        for last, (count, measures) in portfolio_judgement.rolling(judged, month, lags).items():
            found += _rows(strategy, "rolling", str(np.datetime64(last, "M")), measures, count)
    return found


def _rows(strategy: str, kind: str, label: str, measures: dict[str, Measure], count: int) -> Rows:
    said = {"strategy": strategy, "kind": kind, "label": label, "rows": count}
    return [
        said | {"name": name} | {part: v if np.isfinite(v) else None for part, v in measure._asdict().items()}
        for name, measure in measures.items()
    ]
