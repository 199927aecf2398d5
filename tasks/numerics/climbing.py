"""What the lanes of an online state climb, and its slopes by the window's returns and, directly, by the weights."""
# Shapes: B = lanes, m = sessions of a window, n = assets, f = factors.

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.kernels import BARE, INLINED
from tasks.numerics.terms import LEAST_GROWTH

FloatArray = NDArray[np.float64]

WINDOW, LOG_WEALTH, LINEAR = 0, 1, 2  # what a lane climbs


@njit(**INLINED)
def value(
    returns: FloatArray,
    cash: FloatArray,
    weights: FloatArray,
    factors: FloatArray,
    functions: Any,
    scales: FloatArray,
    settings: FloatArray,
    b: int,
    by_return: FloatArray,
    by_weight: FloatArray,
) -> float:
    """F of lane b; adds its derivatives by the returns and, directly, by the weights."""
    total = 0.0
    for j in range(len(functions)):
        scale = scales[b, j]
        if scale != 0.0:
            term = functions[j]
            total += scale * term(returns, cash, weights, factors, settings[b, j], scale, by_return, by_weight)
    return total


@njit(**BARE)
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
    by_weight[:] = 0.0
    first, some_cash, some_factors = 0, cash, factors
    for b in range(lanes.size):
        for k in range(m):
            returns[b, k] += cash[k]
        if lanes[b].objective == WINDOW:
            if first != m - min(lanes[b].window, m):
                first = m - min(lanes[b].window, m)
                some_cash, some_factors = cash[first:], factors[first:]
            value(
                returns[b, first:],
                some_cash,
                weights[b],
                some_factors,
                functions,
                scales,
                settings,
                b,
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
