"""What each rebalance date needs, by key, before anything is computed.

Keys follow from inputs, configs and code alone, so the same plan serves the flows, which compute what is
missing, and `prism plan`, which only says what that would be.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby, pairwise
from typing import Protocol, TypeVar

from flows import strategies
from flows.lines import Line, Segment
from flows.parameters import Parameters
from flows.strategies import Strategies
from storage import tables
from storage.errors import InputError
from storage.keys import Moment, PanelKey
from storage.store import Store, open_store
from tasks import calibrate, features, forecast, gate, own_forecasts, panels
from tasks.numerics.configs import Forecaster

_NOTHING = "no month can be decided: no asset has the 132 sessions needed; bring longer prices"


@dataclass(frozen=True)
class MonthPlan:
    """The keys of one rebalance date."""

    moment: Moment
    follows: date | None  # the scenario's rebalance date before it
    forecast: forecast.Month | None
    gate: gate.Gated | None
    weights: dict[str, str]  # by strategy
    calibrated: calibrate.Calibrated | None = None

    @property
    def forecasts(self) -> str | None:
        """Key of the forecasts that the strategies use."""
        passed = self.calibrated or self.gate
        if passed is not None:
            return passed.key
        return self.forecast.forecast if self.forecast else None


@dataclass(frozen=True)
class Plan:
    """Rebalance dates of one segment, with the keys of every month of the data up to the last of them.

    Features and models are monthly however often one trades; states are kept at every date.
    """

    segment: Segment
    history: tuple[Moment, ...]  # the months
    features: tuple[str, ...]  # of `history`
    begun: tuple[features.Part, ...]  # the months that are not over at the last forecast of each block
    folds: tuple[Moment, ...]  # `history` and the dates decided: where strategies with a state stop
    forecasts: tuple[forecast.Month, ...]  # of the chain and of the months that its gates look at, in order of time
    strategies: Strategies
    keys: strategies.Keys
    chain: tuple[MonthPlan, ...]  # the dates decided, and those before them that they depend on
    months: tuple[MonthPlan, ...]  # the dates decided

    def features_to(self, moment: Moment) -> tuple[str, ...]:
        """Keys of the feature partitions that are known at `moment`."""
        config = self.segment.parameters.features
        whole = sum(month.as_of <= moment.as_of for month in self.history)
        begun = [features.part_key(part, config) for part in self.begun if part.moment == moment]
        return (*self.features[:whole], *begun)


class Dated(Protocol):
    """Whatever belongs to one rebalance date."""

    @property
    def moment(self) -> Moment:
        """The date's moment."""


Of = TypeVar("Of", bound=Dated)


def by_year(months: Sequence[Of]) -> list[tuple[Of, ...]]:
    """Rebalance dates in tuples of one year each, in order."""
    return [tuple(part) for _, part in groupby(months, lambda month: month.moment.rebalance_date.year)]


def by_years(months: Sequence[Of], least: int) -> list[tuple[Of, ...]]:
    """Rebalance dates in tuples of whole years, in order, of at least so many dates each but for the last."""
    found: list[tuple[Of, ...]] = []
    for year in by_year(months):
        if found and len(found[-1]) < least:
            found[-1] += year
        else:
            found.append(year)
    return found


def monthly(line: Line) -> Line:
    """The line with a rebalance date each month, for what does not depend on how often one trades."""
    segments = [
        replace(segment, parameters=segment.parameters.model_copy(update={"rebalance": "M", "rebalance_offset": 0}))
        for segment in line.segments
    ]
    return replace(line, segments=tuple(segments))


def schedule(line: Line) -> tuple[Moment, ...]:
    """Every rebalance date of the data by the terms that hold on it, in order of time."""
    store = open_store()
    return tuple(
        moment
        for segment in line.segments
        for moment in panels.moments(store, segment.panel, segment.parameters.schedule)
        if line.at(moment.rebalance_date) is segment
    )


def decided(line: Line, days: Collection[date]) -> list[tuple[PanelKey, tuple[Moment, ...]]]:
    """The rebalance dates among `days` of each segment that has some, with the prices that they are decided by."""
    moments = [moment for moment in schedule(line) if moment.rebalance_date in days]
    parts = groupby(moments, lambda moment: line.at(moment.rebalance_date).panel)
    return [(panel, tuple(part)) for panel, part in parts]


def possible(line: Line) -> tuple[Moment, ...]:
    """Rebalance dates that the data can decide: from the first with an eligible asset on."""
    first = panels.load(open_store(), line.newest.panel).first_eligible
    return tuple(moment for moment in schedule(line) if moment.as_of >= first)


def up_to(line: Line, day: date | None, today: date) -> tuple[Moment, ...]:
    """Possible rebalance dates whose as-of date is `day` or earlier (None: all)."""
    moments = possible(line)
    if not moments:
        raise InputError(_NOTHING)
    last = panels.load(open_store(), line.newest.panel).sessions[-1].item()
    span = f"give a date from {moments[0].as_of} to {min(last, today)}"
    if day is not None and day > today:
        raise InputError(f"as-of date {day} lies in the future; {span}")
    if day is not None and not moments[0].as_of <= day <= last:
        raise InputError(f"as-of date {day} lies outside the stored prices; {span}")
    return tuple(moment for moment in moments if day is None or moment.as_of <= day)


def last_months(moments: Sequence[Moment], count: int) -> tuple[Moment, ...]:
    """The rebalance dates in the last `count` calendar months, that of the newest one included."""
    first = _number(moments[-1]) - count if moments else 0
    return tuple(moment for moment in moments if _number(moment) > first)


def _number(moment: Moment) -> int:
    """A number that grows by one with each calendar month."""
    return 12 * moment.rebalance_date.year + moment.rebalance_date.month


def between(line: Line, start: str, end: str) -> tuple[Moment, ...]:
    """Possible rebalance dates in the months from `start` to `end`, both named like 2024-05."""
    moments = possible(line)
    if start > end:
        raise InputError(f"start {start} is after end {end}; give the earlier month first")
    if not moments:
        raise InputError(_NOTHING)
    months = line.newest.parameters.model_copy(update={"rebalance": "M"}).schedule
    last = panels.moments(open_store(), line.newest.panel, months)[-1].month
    if start < month_of(moments[0]) or end > last:
        span = f"{month_of(moments[0])} to {last}"
        raise InputError(f"months {start} to {end} cannot all be decided; the prices allow {span}")
    found = tuple(moment for moment in moments if start <= month_of(moment) <= end)
    if not found:
        raise InputError(
            f"months {start} to {end} hold no rebalance date of scenario {line.scenario}, which trades on the first "
            "session of each quarter; give months with a January, April, July or October among them"
        )
    return found


def month_of(moment: Moment) -> str:
    """The calendar month of a rebalance date, like 2024-05."""
    return f"{moment.rebalance_date:%Y-%m}"


def with_next(line: Line, months: Sequence[Moment]) -> list[Moment]:
    """The dates and, where there is one, the date after them."""
    return [*months, *(moment for moment in possible(line) if moment.as_of > months[-1].as_of)][: len(months) + 1]


def make(line: Line, wanted: Sequence[Moment]) -> list[Plan]:
    """The plans of the dates wanted, one for each stretch that shares its terms, in order of time."""
    before = {later.rebalance_date: earlier.rebalance_date for earlier, later in pairwise(schedule(line))}
    days, plans = {moment.rebalance_date for moment in wanted}, []
    for segment in line.segments:
        follows = {day: before.get(day) for day in days if line.at(day) is segment}
        if follows:
            plans.append(_plan(segment, follows))
    return plans


def _plan(segment: Segment, follows: dict[date, date | None]) -> Plan:
    """The plan of some dates, given with the rebalance date before each."""
    store, parameters = open_store(), segment.parameters
    panel = panels.load(store, segment.panel)
    history = tuple(m for m in panels.moments(store, segment.panel) if m.rebalance_date <= max(follows))
    keys = tuple(features.feature_key(moment, parameters.features) for moment in history)
    dates = [
        moment
        for moment in panels.moments(store, segment.panel, parameters.schedule)
        if panel.first_eligible <= moment.as_of and moment.rebalance_date <= max(follows)
    ]
    run = strategies.of(panel, parameters)
    wanted = [
        moment
        for moment in dates
        if moment.rebalance_date in follows or (run.is_chained and month_of(moment) >= parameters.begin)
    ]
    parts = _parts(history, wanted)
    found = _forecasts(panel, dict(zip(history, keys, strict=True)), parts, parameters.forecaster, _own(store, segment))
    chain = tuple(_month(panel, moment, follows.get(moment.rebalance_date), found, parameters) for moment in wanted)
    given = [(month.moment, month.forecasts) for month in chain]
    named = strategies.keys(run, given, parameters, _begin(chain, parameters))
    chain = tuple(replace(month, weights=named.weights[month.moment]) for month in chain)
    months = tuple(month for month in chain if month.moment.rebalance_date in follows)
    forecasts = _used(found, chain)
    ends = {block[-1].moment for block in by_year(forecasts)}
    begun = tuple(part for moment, (_, part) in parts.items() if moment in ends)
    folds = {moment.as_of: moment for moment in (*history, *dates)}
    stops = tuple(folds[day] for day in sorted(folds))
    return Plan(segment, history, keys, begun, stops, forecasts, run, named, chain, months)


def _begin(chain: Sequence[MonthPlan], parameters: Parameters) -> Moment | None:
    """The first date of what is chained: that of `begin`, else the first with a forecast; None where there is none."""
    if parameters.begin:
        return next((month.moment for month in chain if month_of(month.moment) >= parameters.begin), None)
    return next((month.moment for month in chain if month.forecast), None)


def _used(found: "_Forecasts", months: Sequence[MonthPlan]) -> tuple[forecast.Month, ...]:
    """The forecasts of the dates and of the months that their gates look at, in order of time."""
    days = {month.moment.as_of for month in months if month.forecast}
    judges = [passed for month in months for passed in (month.gate, month.calibrated) if passed]
    days |= {moment.as_of for passed in judges for moment, _ in passed.past}
    return tuple(found.by_day[day] for day in sorted(days))


def _own(store: Store, segment: Segment) -> own_forecasts.Own:
    """What there is of a person's own forecasts, where they are asked for."""
    if segment.parameters.forecast.forecaster != "files":
        return own_forecasts.Own()
    assets = panels.load(store, segment.panel).universe.assets
    return own_forecasts.of(store, segment.terms.dataset, assets)


@dataclass(frozen=True)
class _Forecasts:
    """The forecasts that are possible."""

    monthly: dict[Moment, forecast.Month]
    by_day: dict[date, forecast.Month]  # by as-of date, those of the months among them


def _forecasts(
    panel: panels.Panel,
    keys: dict[Moment, str],
    parts: dict[Moment, tuple[Moment, features.Part]],
    config: Forecaster,
    own: own_forecasts.Own,
) -> _Forecasts:
    """The forecasts of all months, whose features have `keys`, and of the dates between two of them, `parts`.

    A network is trained at the first month of its year; between two months a date is forecast by what was learned at
    the earlier one, if that was enough.
    """
    of_months: dict[Moment, forecast.Month] = {}
    ready = forecast.possible(panel, tuple(keys), config, own)
    for _, block in groupby(ready, lambda moment: moment.rebalance_date.year):
        months, trained = list(block), None
        if config.forecast.forecaster == "vlstm":
            trained = forecast.trained(open_store(), months[0], keys[months[0]], config)
        for moment in months:
            of_months[moment] = forecast.month_keys(moment, keys[moment], trained, config, own)
    by_day = {moment.as_of: month for moment, month in of_months.items()}
    for moment in forecast.possible(panel, tuple(parts), config, own):
        learned, part = parts[moment]
        if learned in of_months or config.forecast.forecaster == "files":
            key = features.part_key(part, config.features)
            by_day[moment.as_of] = forecast.day_keys(moment, key, learned, of_months.get(learned), config, own)
    return _Forecasts(of_months, by_day)


def _parts(history: tuple[Moment, ...], wanted: Sequence[Moment]) -> dict[Moment, tuple[Moment, features.Part]]:
    """For each date between two monthly as-of dates the earlier one, and what the features hold since then."""
    found, days = {}, [month.as_of for month in history]
    for moment in wanted:
        place = bisect_right(days, moment.as_of) - 1
        if place >= 0 and days[place] != moment.as_of:
            found[moment] = history[place], features.Part(moment, days[place])
    return found


def _month(
    panel: panels.Panel,
    moment: Moment,
    follows: date | None,
    found: _Forecasts,
    parameters: Parameters,
) -> MonthPlan:
    """One date without the keys of its weights."""
    plan, passed, calibrated = found.by_day.get(moment.as_of), None, None
    gated, config = parameters.forecast.gate, parameters.calibration
    if plan is not None and (gated or config.gate_allocation):
        before = [(m, month.forecast) for m, month in found.monthly.items() if m.as_of < moment.as_of]
        given = panel, moment, plan.forecast, before, parameters.features.horizon
        passed = gate.gated(*given) if gated else None
        calibrated = calibrate.calibrated(*given, config) if config.gate_allocation else None
    return MonthPlan(moment, follows, plan, passed, {}, calibrated)


def answers(plan: Plan) -> dict[str, tuple[str, set[str]]]:
    """By stage, in the order in which they run: the table of its answers, and the keys of all that the plan needs."""
    begun = [features.part_key(part, plan.segment.parameters.features) for part in plan.begun]
    asked = {
        "features": ("features", [*plan.features, *begun] if plan.forecasts else []),
        "train": ("models", [month.trained.key for month in plan.forecasts if month.trained]),
        "forecast": ("forecasts", [month.forecast for month in plan.forecasts]),
    }
    gates = [month.gate.key for month in plan.chain if month.gate]
    asked |= {"gate": ("gates", gates)} if gates else {}
    calibrated = [month.calibrated.key for month in plan.chain if month.calibrated]
    asked |= {"calibrate": ("gates", calibrated)} if calibrated else {}
    asked |= {name: ("allocations", [month.weights[name] for month in plan.chain]) for name in plan.months[0].weights}
    return {stage: (table, set(keys)) for stage, (table, keys) in asked.items()}


def missing(store: Store, plan: Plan) -> dict[str, int]:
    """How many answers of each stage the store lacks."""
    return {stage: len(keys - tables.existing(store, table, keys)) for stage, (table, keys) in answers(plan).items()}


def traded(segment: Segment, moments: Sequence[Moment]) -> tuple[Moment, ...]:
    """Those whose trade lies within the data."""
    panel, lag = panels.load(open_store(), segment.panel), segment.parameters.accounting.lag
    last = panel.sessions[-1].item()
    found = tuple(m for m in moments if (m.rebalance_date if lag else m.as_of) <= last)
    if not found:
        raise InputError("none of these dates has traded yet; give an earlier end")
    return found
