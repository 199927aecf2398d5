"""Stage *allocate*: the weights of every strategy that needs nothing but what is known at one date.

The return-drawdown optimiser needs that date's forecast and nothing before it, so its dates run apart; where its
turnover is limited it starts from what it held, and its dates form a chain. Strategies that learn from session to
session are the stage *learn*.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage import tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import CASH
from storage.store import Store, open_store
from tasks import allocations, expectations, holdings, own_code, panels, problems
from tasks.allocations import Allocation
from tasks.caching import cached_task, keyed_by
from tasks.expectations import Given
from tasks.numerics import allocators, return_drawdown, risk_parity
from tasks.numerics.configs import (
    RISK_FREE,
    TRADING_DAYS,
    AccountingConfig,
    CovarianceConfig,
    ReturnDrawdownConfig,
)
from tasks.prices import prices_of

RETURN_DRAWDOWN = keyed_by(
    __name__,
    "tasks.allocations",
    "tasks.expectations",
    "tasks.holdings",
    "tasks.numerics.return_drawdown",
    "tasks.numerics.risk_parity",
    "tasks.panels",
    "tasks.prices",
    "tasks.problems",
    packages=("numpy", "scipy", "numba", "exchange-calendars"),
)
FIXED = keyed_by(__name__, "tasks.allocations", "tasks.panels", packages=("numpy", "exchange-calendars"))
OWN = keyed_by(
    __name__,
    "tasks.allocations",
    "tasks.expectations",
    "tasks.numerics.allocators",
    "tasks.own_code",
    "tasks.panels",
    packages=("numpy", "numba", "exchange-calendars"),
)
UNCERTIFIED = "the optimiser could not prove its weights to be the best; they are the best that it found"
NO_FORECAST = "no forecast yet: too few sessions to train on"
NO_ASSET = "no asset may be held yet"
RISK_PARITY, EQUAL = "risk_parity", "equal"  # the status of weights that are no optimum, but stand in for one
log = logging.getLogger("prism.allocate")
FloatArray = NDArray[np.float64]
Found = tuple[dict[str, float], dict[str, Any]]  # weights by ticker, and what is to say about them


@dataclass(frozen=True)
class Rule:
    """How return-drawdown decides, whatever the date."""

    units: str  # of the mean
    matrix: CovarianceConfig
    config: ReturnDrawdownConfig
    accounting: AccountingConfig  # of what is held, where the turnover is limited

    @property
    def is_chained(self) -> bool:
        """Whether a date depends on the one before it."""
        return self.config.turnover_limit < 1


@dataclass(frozen=True)
class Date:
    """One date of return-drawdown: its forecast, its key and, in a chain, the date before it."""

    moment: Moment
    forecast: str | None
    key: str
    before: "tuple[Moment, str] | None" = None


class Verdict(NamedTuple):
    """What calibration said of a forecast: whether risk parity is held in place of the optimum, and why."""

    fall_back: bool
    reason: str


def return_drawdown_dates(
    moments: Sequence[tuple[Moment, str | None]], begin: Moment | None, rule: Rule
) -> tuple[Date, ...]:
    """Dates with their keys, given each one's forecast.

    In a chain they must be all dates up to the last, and each depends on the one before it from the first on that has a
    forecast and is not before `begin`.
    """
    found: list[Date] = []
    for moment, forecast in moments:
        inputs: dict[str, Any] = {"forecast": forecast, "units": rule.units}
        inputs |= {"covariance": rule.matrix, "config": rule.config}
        before = None
        if rule.is_chained:
            before = _link(found[-1] if found else None, begin)
            inputs |= {"before": before, "accounting": rule.accounting}
        key = RETURN_DRAWDOWN.key("return_drawdown", prefix=moment.prefix, **inputs)
        found.append(Date(moment, forecast, key, before))
    return tuple(found)


def _link(last: Date | None, begin: Moment | None) -> tuple[Moment, str] | None:
    """What a date depends on, given the one before it."""
    if last is None or last.forecast is None or (begin is not None and last.moment.as_of < begin.as_of):
        return None
    return last.moment, last.key


@cached_task(cache_policy=RETURN_DRAWDOWN, task_run_name="return_drawdown from {dates[0].moment.month}")
def allocate_return_drawdown(panel: PanelKey, dates: tuple[Date, ...], rule: Rule) -> Produced:
    """Maximise return over drawdown at each date the store lacks, in order.

    Cash where there is no forecast. Risk parity within the same limits where calibration says that the forecaster is
    not to be trusted, or the optimiser fails; equal weights where that fails too. Each says so in `degraded`.
    """
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(entry.key for entry in dates)
    there, found = tables.existing(store, "allocations", keys), []
    books: dict[str, dict[str, float]] = {}
    missing = [entry.forecast for entry in dates if entry.key not in there]
    given, verdicts = expectations.forecasts(store, missing), _verdicts(store, missing)
    stand_ins = expectations.degraded(store, missing)
    for entry in dates:
        if entry.key not in there:
            held = _held(store, panel, entry, books, rule)
            weights, notes = _optimise(everything, entry, given, held, verdicts.get(entry.forecast), rule)
            notes = _with(notes, stand_ins.get(entry.forecast or ""))
            books[entry.key] = weights
            found.append(Allocation(entry.key, entry.moment, "return_drawdown", weights, notes))
    allocations.keep(store, found)
    return Produced("allocations", keys)


def _verdicts(store: Store, keys: Sequence[str | None]) -> dict[str | None, Verdict]:
    """What calibration said of those of the forecasts that have passed it."""
    rows = tables.read(store, "gates", ["key", "factor", "fall_back", "reason"], key=[key for key in keys if key])
    return {row["key"]: Verdict(row["fall_back"], row["reason"]) for row in rows.to_pylist() if row["factor"]}


def _held(
    store: Store, panel: PanelKey, entry: Date, books: dict[str, dict[str, float]], rule: Rule
) -> dict[str, float] | None:
    """What the date before left, drifted; None where the dates are no chain, or this is its first."""
    if entry.before is None:
        return None
    moment, key = entry.before
    if key not in books:
        books[key] = {row["ticker"]: row["weight"] for row in tables.read(store, "weights", key=key).to_pylist()}
    traded = moment.rebalance_date if rule.accounting.lag else moment.as_of
    prices = prices_of(store, panel.snapshot, [panel.universe])
    return holdings.drifted(prices, books[key], traded, entry.moment.as_of, rule.accounting)


def _optimise(
    panel: panels.Panel,
    entry: Date,
    given: Given,
    held: dict[str, float] | None,
    verdict: Verdict | None,
    rule: Rule,
) -> Found:
    """One date's weights by ticker, and what is to say about them."""
    if entry.forecast is None:
        return {CASH: 1.0}, {"reason": NO_FORECAST, "degraded": NO_FORECAST}
    as_of, sectors = entry.moment.as_of, dict(zip(panel.universe.assets, panels.sectors(panel), strict=True))
    tickers, mean, matrix = expectations.of(panel, as_of, given[entry.forecast], rule.units, rule.matrix)
    config = problems.with_sectors_at_hand(rule.config, sectors, tickers)
    own = tuple(sectors[ticker] for ticker in tickers)
    before = None if held is None else np.array([held.get(ticker, 0.0) for ticker in tickers])
    if verdict is not None and verdict.fall_back:
        weights, notes = risk_parity.within(risk_parity.weights(matrix), config, own, before), {"status": RISK_PARITY}
        notes = _with(notes, verdict.reason)
    else:
        weights, notes = _solved(mean, matrix, config, own, before)
    without = [ticker for ticker in eligible_tickers(panel, panel.at(as_of)) if ticker not in tickers]
    if without:
        log.warning("%s: no forecast for %s, whose features have a gap", entry.moment.month, ", ".join(without))
    notes |= {"without_forecast": without} | ({"reason": verdict.reason} if verdict else {})
    return allocations.by_ticker(tickers, weights), notes


def _solved(
    mean: FloatArray,
    matrix: FloatArray,
    config: ReturnDrawdownConfig,
    sectors: tuple[str, ...],
    before: FloatArray | None,
) -> tuple[FloatArray, dict[str, Any]]:
    """The optimiser's weights, or those of risk parity, or equal ones, within its limits; and what is to say.

    Raises ValueError where no portfolio keeps the limits.
    """
    try:
        result = return_drawdown.solve(mean, matrix, config, sectors, before)
        if not np.isfinite(result.weights).all():
            raise ArithmeticError("its weights are no numbers")
    except (ValueError, ArithmeticError) as error:
        said = f"the optimiser failed ({error})"
        log.warning(said)
        try:
            weights = risk_parity.within(risk_parity.weights(matrix), config, sectors, before)
            return weights, {"status": RISK_PARITY, "degraded": f"{said}, so risk parity stands in"}
        except (ValueError, ArithmeticError):
            equal = np.full(mean.size, 1.0 / mean.size)
            weights = risk_parity.within(equal, config, sectors, before)
            return weights, {"status": EQUAL, "degraded": f"{said}, and so did risk parity: equal weights stand in"}
    notes = {name: value for name, value in result._asdict().items() if name != "weights"}
    return result.weights, _with(notes, UNCERTIFIED if result.status == "uncertified" else None)


def _with(notes: dict[str, Any], degraded: str | None) -> dict[str, Any]:
    """The notes with one more reason why the weights are second best, if there is one."""
    said = [text for text in (notes.get("degraded"), degraded) if text]
    return notes | ({"degraded": "; ".join(said)} if said else {})


def fixed_key(moment: Moment, strategy: str) -> str:
    """Key of a baseline's weights at one date."""
    return FIXED.key(strategy, prefix=moment.prefix)


@cached_task(cache_policy=FIXED, task_run_name="{strategy} from {moments[0].month}")
def allocate_fixed(panel: PanelKey, moments: tuple[Moment, ...], strategy: str) -> Produced:
    """The baselines that need no state: `equal_weight` over the eligible assets, and `index`."""
    store, everything = open_store(), panels.load(open_store(), panel)
    keys = tuple(fixed_key(moment, strategy) for moment in moments)
    there = tables.existing(store, "allocations", keys)
    rule = {"equal_weight": _equal_weight, "index": _index}[strategy]
    found = [
        Allocation(key, moment, strategy, rule(everything, everything.at(moment.as_of)), {})
        for key, moment in zip(keys, moments, strict=True)
        if key not in there
    ]
    allocations.keep(store, found)
    return Produced("allocations", keys)


def _equal_weight(panel: panels.Panel, session: int) -> dict[str, float]:
    tickers = eligible_tickers(panel, session)
    return {ticker: 1 / len(tickers) for ticker in tickers} if tickers else {CASH: 1.0}


def eligible_tickers(panel: panels.Panel, session: int) -> list[str]:
    """Assets that a decision at the session may hold."""
    return [ticker for place, ticker in enumerate(panel.universe.assets) if panel.eligible[session, place]]


def _index(panel: panels.Panel, session: int) -> dict[str, float]:
    started = panel.index_returns is not None and np.isfinite(panel.index_returns[: session + 1]).any()
    return {panel.universe.index or CASH: 1.0} if started else {CASH: 1.0}


def own_key(moment: Moment, forecast: str | None, name: str, path: str, source: str) -> str:
    """Key of the weights that a module of one's own gives at one date."""
    return OWN.key(name, prefix=moment.prefix, forecast=forecast, path=path, source=source)


@cached_task(cache_policy=OWN, task_run_name="{name} from {moments[0].month}")
def allocate_own(
    panel: PanelKey, moments: tuple[Moment, ...], forecasts: tuple[str | None, ...], name: str, path: str, source: str
) -> Produced:
    """Weights of a module's `allocate(seen)` at each date the store lacks; `source` is the hash of its text."""
    store, everything = open_store(), panels.load(open_store(), panel)
    given = list(zip(moments, forecasts, strict=True))
    keys = tuple(own_key(moment, forecast, name, path, source) for moment, forecast in given)
    there, module = tables.existing(store, "allocations", keys), own_code.strategy(path)
    lacking = [entry for key, entry in zip(keys, forecasts, strict=True) if key not in there]
    known, stand_ins = expectations.forecasts(store, lacking), expectations.degraded(store, lacking)
    found = []
    for key, (moment, forecast) in zip(keys, given, strict=True):
        if key not in there:
            seen = _seen(everything, moment, known.get(forecast or "", {}))
            if seen.mask.any():
                weights = allocators.checked(path, module.allocate(seen), seen.mask)
                notes = _with({}, stand_ins.get(forecast or ""))
                found.append(Allocation(key, moment, name, allocations.by_ticker(seen.tickers, weights), notes))
            else:
                found.append(Allocation(key, moment, name, {CASH: 1.0}, {"reason": NO_ASSET}))
    allocations.keep(store, found)
    return Produced("allocations", keys)


def _seen(panel: panels.Panel, moment: Moment, forecasts: dict[str, tuple[float, float]]) -> allocators.Seen:
    """The market up to one date, with the forecasts that there are."""
    end = panel.at(moment.as_of) + 1
    seen, assets = slice(max(0, end - allocators.LOOKBACK), end), panel.universe.assets
    mean, variance = np.array([forecasts.get(ticker, (np.nan, np.nan)) for ticker in assets]).T
    cash = np.full(end, RISK_FREE / TRADING_DAYS) if panel.risk_free is None else panel.risk_free
    return allocators.Seen(
        tickers=assets,
        returns=np.nan_to_num(panel.returns[seen]),
        mask=panel.eligible[end - 1],
        risk_free=cash[seen],
        factors={name: values[seen] for name, values in panel.factors.items()},
        mean=mean,
        variance=variance,
    )
