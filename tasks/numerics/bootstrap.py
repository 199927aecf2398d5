"""The stationary bootstrap: what a statistic of a series would have been, had its sessions come in another order.

A draw joins blocks of consecutive sessions until there are S of them. Each begins at a session drawn uniformly, goes on
at the first session after the last, and has a length drawn from the geometric distribution of mean b, so that the
series that it makes is as stationary as the series it is made of. Columns are drawn together: what happened on the
same session stays together, and differences are paired.

`block_length` chooses b for the mean of a series, with R(k) its autocovariances, lambda the flat-top window and M twice
the lag after which no correlation is significant:

    b = (2 G^2 / D)^(1/3) S^(1/3),    G = sum_k lambda(k/M) |k| R(k),    D = 2 (sum_k lambda(k/M) R(k))^2

Sources: Politis and Romano, The Stationary Bootstrap, JASA 89(428), 1994; Politis and White, Automatic Block-Length
Selection for the Dependent Bootstrap, Econometric Reviews 23(1), 2004, as corrected by Patton, Politis and White in
28(4), 2009.
"""
# Shapes: S = sessions, M = columns, B = draws.

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FEWEST = 20  # sessions of which a block length can be chosen
_SIGNIFICANT = 2.0  # standard errors of a correlation


def block_length(values: FloatArray) -> int:
    """Mean block length for the mean of the values (S,), rounded up; 1 for a series without dependence.

    Raises ValueError for fewer than FEWEST values, or one that is not finite.
    """
    if values.ndim != 1 or values.size < FEWEST or not np.isfinite(values).all():
        raise ValueError(f"values have shape {values.shape}; a block length needs {FEWEST} finite numbers or more")
    count = values.size
    run = max(5, math.ceil(math.sqrt(math.log10(count))))
    furthest = math.ceil(math.sqrt(count)) + run
    covariance = _autocovariances(values, min(furthest, count - 1))
    if not covariance[0] > 0:
        return 1
    bandwidth = min(2 * _last_significant(covariance / covariance[0], count, run), covariance.size - 1)
    lag = np.arange(-bandwidth, bandwidth + 1)
    weighted = _flat_top(lag / max(bandwidth, 1)) * covariance[np.abs(lag)]
    length = (np.abs(lag) @ weighted / weighted.sum()) ** 2 * count if weighted.sum() else 0.0
    return max(1, math.ceil(min(length ** (1 / 3), 3 * math.sqrt(count), count / 3)))


def _autocovariances(values: FloatArray, furthest: int) -> FloatArray:
    """R(0) .. R(furthest), with divisor S."""
    centred = values - values.mean()
    return np.array([centred[k:] @ centred[: centred.size - k] for k in range(furthest + 1)]) / values.size


def _last_significant(correlation: FloatArray, count: int, run: int) -> int:
    """The smallest lag that `run` insignificant correlations follow; without such a run the last significant one."""
    small = np.abs(correlation[1:]) < _SIGNIFICANT * math.sqrt(math.log10(count) / count)
    for lag in range(1, small.size - run + 1):
        if small[lag : lag + run].all():
            return lag
    return int(np.flatnonzero(~small)[-1]) + 1 if not small.all() else 1


def _flat_top(position: FloatArray) -> FloatArray:
    """1 up to a half, then down to 0 at 1."""
    return np.clip(2.0 * (1.0 - np.abs(position)), 0.0, 1.0)


def means(columns: FloatArray, block: int, generator: np.random.Generator, draws: int = 2000) -> FloatArray:
    """Means of the columns (S, M) in each draw: (B, M).

    `block` is the mean length of a block. Raises ValueError for columns without rows or with a value that is not
    finite, and for a block or a number of draws below 1.
    """
    if columns.ndim != 2 or not columns.size or not np.isfinite(columns).all():
        raise ValueError(f"columns have shape {columns.shape}; pass finite numbers as (sessions, columns)")
    if block < 1 or draws < 1:
        raise ValueError(f"block is {block} and draws {draws}; both must be at least 1")
    # sums over a block are differences of running sums; doubled, since a block may run over the end
    running = np.vstack([np.zeros(columns.shape[1]), np.cumsum(np.vstack([columns, columns]), axis=0)])
    return _sums(running, columns.shape[0], float(block), generator, draws) / columns.shape[0]


@njit(cache=True)
def _sums(running: FloatArray, count: int, block: float, generator: np.random.Generator, draws: int) -> FloatArray:
    """Sums over the sessions of each draw; block lengths by inversion of the geometric distribution."""
    width = running.shape[1]
    sums = np.zeros((draws, width))
    scale = 1.0 / np.log1p(-1.0 / block) if block > 1.0 else 0.0
    for draw in range(draws):
        drawn = 0
        while drawn < count:
            start = int(generator.random() * count)
            length = 1 + int(np.log1p(-generator.random()) * scale) if block > 1.0 else 1
            length = min(length, count - drawn)
            for column in range(width):
                sums[draw, column] += running[start + length, column] - running[start, column]
            drawn += length
    return sums
