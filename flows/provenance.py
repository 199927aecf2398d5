"""What a date is made of, beside its prices: parameters, the source of every stage, the libraries' versions."""

from typing import Any

from flows.planning import Plan
from tasks import allocate, baselines, calibrate, decide, experts, features, forecast, gate, learn, tuned
from tasks.caching import StageKey, versions

_STAGES: tuple[StageKey, ...] = (
    features.KEYED,
    forecast.KEYED,
    gate.KEYED,
    calibrate.KEYED,
    allocate.RETURN_DRAWDOWN,
    allocate.FIXED,
    allocate.OWN,
    baselines.KEYED,
    learn.KEYED,
    tuned.KEYED,
    experts.KEYED,
    decide.KEYED,
)


def libraries() -> dict[str, str]:
    """Versions of all libraries that change numbers."""
    return {name: value for stage in _STAGES for name, value in versions(stage.packages).items()}


def sources() -> dict[str, str]:
    """Hash of the source of every module that a date's answers depend on."""
    return {name: value for stage in _STAGES for name, value in stage.code.items()}


def made_of(plan: Plan) -> dict[str, Any]:
    """Parameters, source hashes and library versions behind a plan's dates."""
    code = sources() | plan.strategies.code
    terms = {"valid_from": plan.segment.terms.valid_from, "reason": plan.segment.terms.reason}
    return {"parameters": plan.segment.parameters.values(), "terms": terms, "code": code, "versions": libraries()}
