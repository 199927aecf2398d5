"""What each month needs, by key, before anything is computed.

Keys follow from inputs, configs and code alone, so the same plan serves the flows, which compute what is
missing, and `prism plan`, which only says what that would be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from typing import Protocol, TypeVar

from flows.lines import Line, Segment
from flows.parameters import BASELINES, Parameters
from storage import tables
from storage.errors import InputError
from storage.keys import Moment
from storage.store import Store, open_store
from tasks import allocate, features, forecast, gate, own_forecasts, panels
from tasks.numerics.configs import Forecaster


@dataclass(frozen=True)
class MonthPlan:
    """One month's keys."""

    moment: Moment
    forecast: forecast.Month | None
    gate: gate.Gated | None
    weights: dict[str, str]  # by strategy

    @property
    def forecasts(self) -> str | None:
        """Key of the forecasts that the strategies use."""
        if self.gate is not None:
            return self.gate.key
        return self.forecast.forecast if self.forecast else None


@dataclass(frozen=True)
class Plan:
    """Months of one segment, with the keys of every month of the data up to the last of them."""

    segment: Segment
    history: tuple[Moment, ...]
    features: tuple[str, ...]  # of `history`
    forecasts: tuple[forecast.Month, ...]  # of the months and of those that their gates look at, in order of time
    months: tuple[MonthPlan, ...]

    def features_to(self, moment: Moment) -> tuple[str, ...]:
        """Keys of the feature partitions that are known at `moment`."""
        return self.features[: self.history.index(moment) + 1]

    def blocks(self) -> list[tuple[MonthPlan, ...]]:
        """The months by year: what one task decides."""
        return by_year(self.months)


class Dated(Protocol):
    """Whatever belongs to one month."""

    @property
    def moment(self) -> Moment:
        """The month's moment."""


Of = TypeVar("Of", bound=Dated)


def by_year(months: Sequence[Of]) -> list[tuple[Of, ...]]:
    """Months in tuples of one year each, in order."""
    return [tuple(part) for _, part in groupby(months, lambda month: month.moment.rebalance_date.year)]


def possible(line: Line) -> tuple[Moment, ...]:
    """Months that the data can decide: from the first with an eligible asset on."""
    store, panel = open_store(), line.newest.panel
    everything = panels.load(store, panel)
    moments = panels.moments(store, panel)
    return tuple(moment for moment in moments if everything.eligible[: everything.at(moment.as_of) + 1].any())


def up_to(line: Line, day: date | None, today: date) -> tuple[Moment, ...]:
    """Possible months whose as-of date is `day` or earlier (None: all)."""
    moments = possible(line)
    if not moments:
        raise InputError("no month can be decided: no asset has the 132 sessions needed; bring longer prices")
    last = panels.load(open_store(), line.newest.panel).sessions[-1].item()
    span = f"give a date from {moments[0].as_of} to {min(last, today)}"
    if day is not None and day > today:
        raise InputError(f"as-of date {day} lies in the future; {span}")
    if day is not None and not moments[0].as_of <= day <= last:
        raise InputError(f"as-of date {day} lies outside the stored prices; {span}")
    return tuple(moment for moment in moments if day is None or moment.as_of <= day)


def between(line: Line, start: str, end: str) -> tuple[Moment, ...]:
    """Possible months from `start` to `end`, both named like 2024-05."""
    moments = possible(line)
    if start > end:
        raise InputError(f"start {start} is after end {end}; give the earlier month first")
    if not moments or start < moments[0].month or end > moments[-1].month:
        span = f"{moments[0].month} to {moments[-1].month}" if moments else "none"
        raise InputError(f"months {start} to {end} cannot all be decided; the prices allow {span}")
    return tuple(moment for moment in moments if start <= moment.month <= end)


def with_next(line: Line, months: Sequence[Moment]) -> list[Moment]:
    """The months and, where there is one, the month after them."""
    return [*months, *(moment for moment in possible(line) if moment.as_of > months[-1].as_of)][: len(months) + 1]


def make(line: Line, wanted: Sequence[Moment]) -> list[Plan]:
    """The plans of the months wanted, one for each stretch that shares its terms, in order of time."""
    plans = []
    for segment in line.segments:
        months = {moment.rebalance_date for moment in wanted if line.at(moment.rebalance_date) == segment}
        if months:
            plans.append(_plan(segment, months))
    return plans


def _plan(segment: Segment, months: set[date]) -> Plan:
    store, config = open_store(), segment.parameters.forecaster
    panel = panels.load(store, segment.panel)
    history = tuple(m for m in panels.moments(store, segment.panel) if m.rebalance_date <= max(months))
    keys = tuple(features.feature_key(moment, config.features) for moment in history)
    by_moment = dict(zip(history, keys, strict=True))
    own = _own(store, segment, panel)
    ready = _forecasts(forecast.possible(panel, history, config, own), by_moment, config, own)
    strategies = runnable(panel, segment.parameters)
    wanted = [moment for moment in history if moment.rebalance_date in months]
    plans = tuple(_month(panel, moment, ready, strategies, segment.parameters) for moment in wanted)
    needed = {other for plan in plans if plan.gate for other, _ in plan.gate.past}
    needed |= {plan.moment for plan in plans}
    return Plan(segment, history, keys, tuple(month for at, month in ready.items() if at in needed), plans)


def _own(store: Store, segment: Segment, panel: panels.Panel) -> own_forecasts.Own:
    """What there is of a person's own forecasts, where they are asked for."""
    if segment.parameters.forecast.forecaster != "files":
        return own_forecasts.Own()
    return own_forecasts.of(store, segment.terms.dataset, panel.universe.assets)


def _forecasts(
    ready: list[Moment], by_moment: dict[Moment, str], config: Forecaster, own: own_forecasts.Own
) -> dict[Moment, forecast.Month]:
    """The forecast of every moment that can have one; a network's is trained at the first of its year."""
    found = {}
    for _, block in groupby(ready, lambda moment: moment.rebalance_date.year):
        months, trained = list(block), None
        if config.forecast.forecaster == "vlstm":
            trained = forecast.Trained(months[0], forecast.trained_key(by_moment[months[0]], config))
        for moment in months:
            found[moment] = forecast.month_keys(moment, by_moment[moment], trained, config, own)
    return found


def runnable(panel: panels.Panel, parameters: Parameters) -> tuple[str, ...]:
    """The strategies that these prices allow: `index` needs an index.

    Raises InputError where that leaves out the published one.
    """
    names = tuple(name for name in parameters.strategies if name != "index" or panel.index_returns is not None)
    if parameters.publish not in names:
        raise InputError("publish is 'index' and the universe has no index; name one with --index TICKER")
    return names


def _month(
    panel: panels.Panel,
    moment: Moment,
    ready: dict[Moment, forecast.Month],
    strategies: tuple[str, ...],
    parameters: Parameters,
) -> MonthPlan:
    plan, passed = ready.get(moment), None
    if plan is not None and parameters.forecast.gate:
        before = [(other, month.forecast) for other, month in ready.items() if other.as_of < moment.as_of]
        passed = gate.gated(panel, moment, plan.forecast, before, parameters.features.horizon)
    bare = MonthPlan(moment, plan, passed, {})
    return replace(bare, weights=_weights(moment, bare.forecasts, strategies, parameters))


def _weights(
    moment: Moment, forecasts: str | None, strategies: tuple[str, ...], parameters: Parameters
) -> dict[str, str]:
    keys = {name: allocate.online_key(moment, name, config) for name, config in parameters.online.items()}
    keys |= {name: allocate.fixed_key(moment, name) for name in strategies if name in BASELINES}
    if "return_drawdown" in strategies:
        keys["return_drawdown"] = allocate.return_drawdown_key(
            moment,
            forecasts,
            parameters.forecast.mean_units,
            parameters.covariance,
            parameters.return_drawdown,
        )
    return dict(sorted(keys.items()))


def missing(store: Store, plan: Plan) -> dict[str, int]:
    """How many answers of each stage the store lacks."""
    lacking = {
        "features": _lacking(store, "features", plan.features if plan.forecasts else ()),
        "train": _lacking(store, "models", [month.trained.key for month in plan.forecasts if month.trained]),
        "forecast": _lacking(store, "forecasts", [month.forecast for month in plan.forecasts]),
    }
    gates = [month.gate.key for month in plan.months if month.gate]
    lacking |= {"gate": _lacking(store, "gates", gates)} if gates else {}
    for name in plan.months[0].weights:
        lacking[name] = _lacking(store, "allocations", [month.weights[name] for month in plan.months])
    return lacking


def _lacking(store: Store, table: str, keys: Sequence[str]) -> int:
    return len(set(keys) - tables.existing(store, table, set(keys)))
