"""Stage *allocate*: the weights of every strategy at every as-of date.

The return-drawdown optimiser needs that date's forecast and nothing before it, so its dates run apart. Online
strategies carry a state from session to session: it is folded from the universe's inception (the first
session with two eligible assets), stored at each date asked for, and resumed from the newest date stored.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage import tables
from storage.keys import Moment, PanelKey, Produced, to_json
from storage.schemas import CASH, TABLES
from storage.store import Store, open_store
from tasks import panels
from tasks.caching import cached_task, keyed_by
from tasks.numerics import covariance, online, return_drawdown
from tasks.numerics.configs import RISK_FREE, TRADING_DAYS, CovarianceConfig, OnlineConfig, ReturnDrawdownConfig

RETURN_DRAWDOWN = keyed_by(
    __name__,
    "tasks.numerics.return_drawdown",
    "tasks.numerics.covariance",
    "tasks.panels",
    packages=("numpy", "scipy", "exchange-calendars"),
)
ONLINE = keyed_by(__name__, "tasks.numerics.online", "tasks.panels", packages=("numpy", "numba", "exchange-calendars"))
FIXED = keyed_by(__name__, "tasks.panels", packages=("numpy", "exchange-calendars"))
ZERO = 1e-12  # of wealth: smaller weights are rounding
NO_FORECAST = "no forecast yet: too few sessions to train on"
log = logging.getLogger("prism.allocate")


def return_drawdown_key(
    moment: Moment, forecast: str | None, units: str, matrix: CovarianceConfig, config: ReturnDrawdownConfig
) -> str:
    """Key of the optimiser's weights at one date."""
    inputs = {"forecast": forecast, "units": units, "covariance": matrix, "config": config}
    return RETURN_DRAWDOWN.key("return_drawdown", prefix=moment.prefix, **inputs)


def online_key(moment: Moment, strategy: str, config: OnlineConfig) -> str:
    """Key of an online strategy's state and weights at one date."""
    return ONLINE.key(strategy, prefix=moment.prefix, config=config)


def fixed_key(moment: Moment, strategy: str) -> str:
    """Key of a baseline's weights at one date."""
    return FIXED.key(strategy, prefix=moment.prefix)


@cached_task(cache_policy=RETURN_DRAWDOWN, task_run_name="return_drawdown from {moments[0].month}")
def allocate_return_drawdown(
    panel: PanelKey,
    moments: tuple[Moment, ...],
    forecasts: tuple[str | None, ...],
    units: str,
    matrix: CovarianceConfig,
    config: ReturnDrawdownConfig,
) -> Produced:
    """Maximise return over drawdown at each date the store lacks; cash where there is no forecast."""
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(
        return_drawdown_key(moment, forecast, units, matrix, config)
        for moment, forecast in zip(moments, forecasts, strict=True)
    )
    there, found = tables.existing(store, "allocations", keys), []
    for key, moment, forecast in zip(keys, moments, forecasts, strict=True):
        if key not in there:
            weights, notes = _optimise(store, everything, moment, forecast, units, matrix, config)
            found.append(_Allocation(key, moment, "return_drawdown", weights, notes))
    _keep(store, found)
    return Produced("allocations", keys)


def _optimise(
    store: Store,
    panel: panels.Panel,
    moment: Moment,
    forecast: str | None,
    units: str,
    matrix: CovarianceConfig,
    config: ReturnDrawdownConfig,
) -> tuple[dict[str, float], dict[str, Any]]:
    """One date's weights by ticker, and what is to say about them."""
    if forecast is None:
        return {CASH: 1.0}, {"reason": NO_FORECAST}
    rows = tables.read(store, "forecasts", key=forecast).sort_by("ticker").to_pydict()
    columns = [panel.universe.assets.index(ticker) for ticker in rows["ticker"]]
    mean, variance = np.array(rows["mean"]), np.array(rows["variance"])
    expected = mean + variance / 2 if units == "simple" else mean
    last = panel.at(moment.as_of) + 1
    recent = np.log1p(panel.returns[last - matrix.sessions : last, columns])
    correlation = covariance.correlation(recent, matrix.shrinkage)
    result = return_drawdown.solve(expected, covariance.covariance(np.sqrt(variance), correlation), config)
    weights = dict(zip(rows["ticker"], result.weights.tolist(), strict=True))
    without = [ticker for ticker in _eligible_tickers(panel, last - 1) if ticker not in rows["ticker"]]
    if without:
        log.warning("%s: no forecast for %s, whose features have a gap", moment.month, ", ".join(without))
    notes = {name: value for name, value in result._asdict().items() if name != "weights"}
    return weights, notes | {"without_forecast": without}


@cached_task(cache_policy=ONLINE, task_run_name="{strategy} from {moments[0].month}")
def allocate_online(
    panel: PanelKey, history: tuple[Moment, ...], moments: tuple[Moment, ...], strategy: str, config: OnlineConfig
) -> Produced:
    """Step an online strategy through every session, and keep its state and weights at `moments`.

    `history` holds all months of the data up to the last of `moments`, so that the newest stored state is found
    wherever an earlier run left it.
    """
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = {moment: online_key(moment, strategy, config) for moment in history}
    wanted = tuple(keys[moment] for moment in moments)
    there = tables.existing(store, "allocations", wanted)
    missing = {moment for moment in moments if keys[moment] not in there}
    if missing:
        folded = _fold(store, everything, history, keys, config, missing)
        tables.put(store, "states", _state_rows(everything.universe.assets, strategy, keys, folded))
        _keep(store, [_online_allocation(everything, strategy, keys[m], m, folded.get(m)) for m in missing])
        log.info("%s at %d dates", strategy, len(missing))
    return Produced("allocations", wanted)


Folded = dict[Moment, tuple[online.State, float]]


def _fold(
    store: Store,
    panel: panels.Panel,
    history: tuple[Moment, ...],
    keys: dict[Moment, str],
    config: OnlineConfig,
    missing: set[Moment],
) -> Folded:
    """States at the missing dates that have one, and the share of their month's sessions at the turnover ceiling."""
    first, last = min(moment.as_of for moment in missing), max(moment.as_of for moment in missing)
    since, state = _newest_state(store, [moment for moment in history if moment.as_of < first], keys)
    folded = {}
    for moment in history:
        if (since is None or moment.as_of > since.as_of) and moment.as_of <= last:
            state, binding = _advance(panel, since, state, moment, config)
            since = moment
            if state is not None and moment in missing:
                folded[moment] = state, binding
    return folded


def _newest_state(
    store: Store, earlier: list[Moment], keys: dict[Moment, str]
) -> tuple[Moment | None, online.State | None]:
    """The latest of the `earlier` dates whose state is stored, with the state."""
    rows = tables.read(store, "states", key=[keys[moment] for moment in earlier]).to_pylist()
    if not rows:
        return None, None
    row = max(rows, key=lambda row: row["as_of"])
    since = next(moment for moment in earlier if moment.as_of == row["as_of"])
    return since, online.State(np.array(row["weights"]), np.array(row["velocity"]), row["steps"])


def _advance(
    panel: panels.Panel, since: Moment | None, state: online.State | None, until: Moment, config: OnlineConfig
) -> tuple[online.State | None, float]:
    """The state at `until`, from that at `since`; None before the inception. A block starts its steps anew."""
    end = panel.at(until.as_of)
    if state is None or since is None:
        ready = np.flatnonzero(panel.eligible[: end + 1].sum(axis=1) >= 2)
        if not ready.size:
            return None, 0.0
        begin, state = int(ready[0]), online.init(panel.eligible[ready[0]])
    else:
        begin = panel.at(since.as_of)
        if since.rebalance_date.month == 1 and config.lr_reset == "block":
            state = online.with_reset(state)
    if begin == end:
        return state, 0.0
    padded = np.vstack([np.zeros((config.window, panel.returns.shape[1])), np.nan_to_num(panel.returns[: end + 1])])
    window = padded[begin + 2 :]  # config.window - 1 sessions before the first step's, and those of the steps
    cash = None
    if panel.risk_free is not None:
        before = np.full(config.window, RISK_FREE / TRADING_DAYS)
        cash = np.concatenate([before, panel.risk_free[: end + 1]])[begin + 2 :]
    state, _, binding = online.run(state, window, _masks(panel, begin, end), config, cash)
    return state, binding


def _masks(panel: panels.Panel, begin: int, end: int) -> NDArray[np.bool_]:
    """Eligible assets of the sessions after `begin`; a session without any keeps those of the last one with some."""
    some = panel.eligible[: end + 1].any(axis=1)
    last_with_some = np.maximum.accumulate(np.where(some, np.arange(end + 1), 0))
    return panel.eligible[last_with_some[begin + 1 :]]


def _state_rows(assets: tuple[str, ...], strategy: str, keys: dict[Moment, str], folded: Folded) -> pa.Table:
    rows = [
        {"key": keys[moment], "as_of": moment.as_of, "strategy": strategy, "tickers": list(assets), "binding": binding}
        | {"weights": state.weights.tolist(), "velocity": state.velocity.tolist(), "steps": state.t}
        for moment, (state, binding) in folded.items()
    ]
    return pa.Table.from_pylist(rows, TABLES["states"].schema)


@cached_task(cache_policy=FIXED, task_run_name="{strategy} from {moments[0].month}")
def allocate_fixed(panel: PanelKey, moments: tuple[Moment, ...], strategy: str) -> Produced:
    """The baselines that need no state: `equal_weight` over the eligible assets, and `index`."""
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(fixed_key(moment, strategy) for moment in moments)
    there = tables.existing(store, "allocations", keys)
    rule = {"equal_weight": _equal_weight, "index": _index}[strategy]
    _keep(
        store,
        [
            _Allocation(key, moment, strategy, rule(everything, everything.at(moment.as_of)), {})
            for key, moment in zip(keys, moments, strict=True)
            if key not in there
        ],
    )
    return Produced("allocations", keys)


def _equal_weight(panel: panels.Panel, session: int) -> dict[str, float]:
    tickers = _eligible_tickers(panel, session)
    return {ticker: 1 / len(tickers) for ticker in tickers} if tickers else {CASH: 1.0}


def _eligible_tickers(panel: panels.Panel, session: int) -> list[str]:
    return [ticker for place, ticker in enumerate(panel.universe.assets) if panel.eligible[session, place]]


def _index(panel: panels.Panel, session: int) -> dict[str, float]:
    started = panel.index_returns is not None and np.isfinite(panel.index_returns[: session + 1]).any()
    return {panel.universe.index or CASH: 1.0} if started else {CASH: 1.0}


@dataclass(frozen=True)
class _Allocation:
    key: str
    moment: Moment
    strategy: str
    weights: dict[str, float]
    diagnostics: dict[str, Any]


def _online_allocation(
    panel: panels.Panel, strategy: str, key: str, moment: Moment, folded: tuple[online.State, float] | None
) -> _Allocation:
    if folded is None:
        return _Allocation(key, moment, strategy, {CASH: 1.0}, {"reason": "fewer than two assets are eligible yet"})
    state, binding = folded
    weights = dict(zip(panel.universe.assets, state.weights.tolist(), strict=True))
    return _Allocation(key, moment, strategy, weights, {"steps": state.t, "ceiling_binding": binding})


def _keep(store: Store, found: list[_Allocation]) -> None:
    """Write the weights that are not zero, then the rows that say that they are there."""
    if not found:
        return
    weights = [
        {"key": a.key, "as_of": a.moment.as_of, "strategy": a.strategy, "ticker": ticker, "weight": weight}
        for a in found
        for ticker, weight in a.weights.items()
        if abs(weight) > ZERO
    ]
    said = [
        {"key": a.key, "as_of": a.moment.as_of, "strategy": a.strategy, "diagnostics": to_json(a.diagnostics)}
        for a in found
    ]
    tables.put(store, "weights", pa.Table.from_pylist(weights, TABLES["weights"].schema))
    tables.put(store, "allocations", pa.Table.from_pylist(said, TABLES["allocations"].schema))
