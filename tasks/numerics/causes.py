"""Why weights changed: the change from what is held to the new weights, split by cause so that the parts add up.

Before, the weights w0 were decided; until now they have drifted to h; w1 is decided. With S the allocator without its
limits, and x_0 ... x_K what it is given, from what w0 was decided with to what w1 was, one ingredient changing at a
time,

    w1 - h = (w0 - h) + sum_k [S(x_k) - S(x_{k-1})] + {[w1 - S(x_K)] - [w0 - S(x_0)]}.

The first term undoes the drift, the last is what limits, and what is held where they count it, take from the one
decision more than from the other; the sum telescopes whatever S is. The order matters as in every such split: each
ingredient is charged with what it changes given those before it.
"""
# Shapes: n = assets and cash.

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Ingredients = Mapping[str, Any]  # by name; arrays, or values that compare

DRIFT, REBALANCING, CONSTRAINTS = "drift", "rebalancing", "constraints"
UNIVERSE, RESTATED, NEW, RETRAINING = "universe", "restated data", "new data", "retraining"
CORRECTION, COVARIANCE, PARAMETERS, FIRST = "correction", "covariance", "parameters", "first purchase"
ORDER = (
    DRIFT,
    REBALANCING,
    UNIVERSE,
    RESTATED,
    NEW,
    RETRAINING,
    CORRECTION,
    COVARIANCE,
    PARAMETERS,
    CONSTRAINTS,
    FIRST,
)


class Step(NamedTuple):
    """The ingredients that one cause changes."""

    part: str
    changed: Ingredients


def parts(
    before: FloatArray,
    held: FloatArray,
    after: FloatArray,
    start: Ingredients,
    steps: Sequence[Step],
    solve: Callable[[Ingredients], FloatArray],
) -> dict[str, FloatArray]:
    """The parts of `after` - `held`, each (n,), by cause; beside them the drift from `before` to `held`.

    `solve` gives weights (n,) without limits. Steps of one name are one part; a step whose ingredients equal those it
    finds is 0 to the last bit, and nothing is solved for it.
    """
    given, found = dict(start), {REBALANCING: before - held}
    first = last = solve(given)
    for step in steps:
        weights = last if _is_same(given, step.changed) else solve(given | dict(step.changed))
        given |= step.changed
        found[step.part] = found.get(step.part, np.zeros(before.size)) + (weights - last)
        last = weights
    return {DRIFT: held - before, **found, CONSTRAINTS: (after - last) - (before - first)}


def _is_same(given: Ingredients, changed: Ingredients) -> bool:
    return all(name in given and _equal(given[name], value) for name, value in changed.items())


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)
