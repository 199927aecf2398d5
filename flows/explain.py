"""Explanations of decisions that were made: what each differs from the one before in, and why.

Everything follows from the ledger's records: their snapshots, parameters and keys. Nothing is decided here, and what
is written are the keyed rows of `changes` and `spread`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from flows import parameters as forms
from flows import strategies
from flows.parameters import Parameters
from storage import ledger
from storage.errors import NoDataError
from storage.keys import Moment, PanelKey
from storage.ledger import HELD, Decision
from storage.store import Store, open_store
from tasks import explain, features, panels
from tasks.numerics.configs import FeatureConfig
from tasks.planned import left_by
from tasks.problems import Choice
from tasks.sights import OPTIMISER, Change, Decided, Sight


def explain_dates(scenario: str, days: Sequence[date]) -> tuple[Change, ...]:
    """Explain the decisions of some rebalance dates, given in order, where the store does not yet; what was given.

    A held date chose nothing, so there is nothing to explain.
    """
    store = open_store()
    records = ledger.read(store, scenario)
    current = ledger.current(store, scenario)
    changes = tuple(change_of(store, records, current[day]) for day in days if current[day].kind != HELD)
    if changes:
        explain.explain_changes.fn(changes[0].own.panel, changes)
    return changes


def change_of(store: Store, records: Sequence[Decision], decision: Decision) -> Change:
    """What the stage needs to know of a decision and the one that it started from."""
    panel, parameters, after = panel_of(decision), _parameters(decision), _decided(store, decision)
    is_forecast = bool(decision.forecasts and OPTIMISER in parameters.strategies)
    own = _sight(store, panel, after.moment, parameters, is_forecast)
    change = Change(decision.trades, after, own, parameters.accounting)
    before = _before(records, decision)
    if before is None:
        return change
    earlier, terms = _decided(store, before), _parameters(before)
    newer = PanelKey(panel.snapshot, before.record["universe"])
    again = replace(earlier.moment, prefix=panels.prefix(store, newer, earlier.moment.as_of))
    crossed = bool(is_forecast and before.forecasts)
    return replace(
        change,
        before=earlier,
        then=_sight(store, panel_of(before), earlier.moment, terms, crossed),
        now=_sight(store, newer, again, terms, crossed),
        ahead=_sight(store, panel, after.moment, terms, crossed),
    )


def _before(records: Sequence[Decision], decision: Decision) -> Decision | None:
    """The record whose weights were held, as the decision says; None where it started from cash.

    What a person imported as really held is left aside: a strategy's weights follow from its own.
    """
    held = decision.record["holdings"][bool(decision.record.get("imported")) :]
    found = [entry for entry in records if list(entry.weights) == held and not entry.advisory]
    if held and not found:
        raise NoDataError(f"{decision.month} started from weights of no record; run `prism backfill` for that month")
    return found[-1] if held else None


def panel_of(decision: Decision) -> PanelKey:
    """The prices that a decision saw."""
    return PanelKey(decision.record["snapshot"], decision.record["universe"])


def _parameters(decision: Decision) -> Parameters:
    return forms.make(decision.record["parameters"])


def _decided(store: Store, decision: Decision) -> Decided:
    parameters = _parameters(decision)
    run = strategies.of(panels.load(store, panel_of(decision)), parameters)
    return Decided(
        moment=Moment(decision.rebalance_date, decision.as_of, decision.record["prefix"], parameters.rebalance == "D"),
        traded=left_by(decision).since(parameters.accounting.lag),
        weights=decision.weights,
        forecasts=decision.forecasts,
        choice=Choice(run.rule.units, run.rule.matrix, run.rule.config),
        forecaster=parameters.forecaster,
        recipes=tuple(run.recipes.values()),
    )


def _sight(store: Store, panel: PanelKey, moment: Moment, parameters: Parameters, forecast: bool) -> Sight:
    """What may be seen at a date; where something was forecast, with its features, computed if the store lacks them."""
    months = tuple(month for month in panels.moments(store, panel) if month.as_of <= moment.as_of)
    learned, seen = months[-1].as_of if months else moment.as_of, ()
    if forecast and months and parameters.forecast.forecaster != "files":
        seen = _features(panel, months, moment, parameters.features)
    return Sight(panel, moment.as_of, learned, seen)


def _features(panel: PanelKey, months: tuple[Moment, ...], moment: Moment, config: FeatureConfig) -> tuple[str, ...]:
    """Keys of the partitions up to a date, which are in the store then."""
    begun = (features.Part(moment, months[-1].as_of),) if months[-1].as_of != moment.as_of else ()
    return features.compute_features.fn(panel, months, config, begun).keys
