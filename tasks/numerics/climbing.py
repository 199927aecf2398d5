"""What the lanes of an online state climb, and its slopes by the window's returns and, directly, by the weights."""
# Shapes: B = lanes, m = sessions of a window, n = assets, f = factors.

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.terms import LEAST_GROWTH

FloatArray = NDArray[np.float64]

WINDOW, LOG_WEALTH, LINEAR = 0, 1, 2  # what a lane climbs
_INLINED = {"inline": "always", "error_model": "numpy"}  # else each lane would count the references of its arrays


@njit(**_INLINED)
def value(
    returns: FloatArray,
    cash: FloatArray,
    weights: FloatArray,
    factors: FloatArray,
    functions: Any,
    scales: FloatArray,
    settings: FloatArray,
    by_return: FloatArray,
    by_weight: FloatArray,
) -> float:
    """F; adds its derivatives by the returns and, directly, by the weights."""
    total = 0.0
    for j in range(len(functions)):
        if scales[j] != 0.0:
            term = functions[j]
            total += scales[j] * term(returns, cash, weights, factors, settings[j], scales[j], by_return, by_weight)
    return total


@njit(cache=True, error_model="numpy")
def climb(
    returns: FloatArray,
    cash: FloatArray,
    weights: FloatArray,
    factors: FloatArray,
    lanes: Any,
    functions: Any,
    scales: FloatArray,
    settings: FloatArray,
    by_return: FloatArray,
    by_weight: FloatArray,
) -> None:
    """The derivatives of what each lane climbs: adds to `by_return` (B, m), overwrites `by_weight` (B, n).

    `returns` (B, m) are in excess of `cash` (m,), which is added to them; `factors` (m, f); see `steps.run` for the
    rest.
    """
    m = cash.size
    for b in range(lanes.size):
        for k in range(m):
            returns[b, k] += cash[k]
        for i in range(by_weight.shape[1]):
            by_weight[b, i] = 0.0
        if lanes[b].objective == WINDOW:
            first = m - min(lanes[b].window, m)
            value(
                returns[b, first:],
                cash[first:],
                weights[b],
                factors[first:],
                functions,
                scales[b],
                settings[b],
                by_return[b, first:],
                by_weight[b],
            )
        elif lanes[b].objective == LOG_WEALTH:
            by_return[b, -1] += 1.0 / max(1.0 + returns[b, -1], LEAST_GROWTH)
        else:
            by_return[b, -1] += 1.0


@njit(cache=True, error_model="numpy")
def portfolio(weights: FloatArray, rows: FloatArray) -> FloatArray:
    """Returns (m,) of weights (n,) held through `rows` (m, n)."""
    return np.dot(weights.copy().reshape(1, -1), rows.T)[0]
