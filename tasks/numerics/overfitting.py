"""Whether the best of many trials in one part of their record is any good in the rest of it.

Combinatorially symmetric cross-validation: the sessions are cut into an even number of blocks; each half of the blocks
is once the part in which the best Sharpe ratio is chosen, and the other half the part in which it is ranked. With
w = rank / (N + 1) of the chosen trial there (1 the worst, N the best, ties shared),

    PBO = share of the choices with log(w / (1 - w)) <= 0:  those no better than the middle of all trials.

It is about one half where no trial is better than another, and near 0 where the best is truly so.

Source: Bailey, Borwein, Lopez de Prado and Zhu, The Probability of Backtest Overfitting, Journal of Computational
Finance 20(4), 2017.
"""
# Shapes: T = sessions, N = trials, S = blocks, C = choices.

import itertools

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BLOCKS = 16
_AT_ONCE = 4_000_000  # numbers in memory together
_EQUAL = 1e-9  # Sharpe ratios that differ by no more are rounding of each other


def backtest_overfitting(returns: FloatArray, blocks: int = BLOCKS) -> float:
    """PBO of the trials' excess returns (T, N).

    Blocks differ by at most one session. A trial that does not move in a part has the ratio 0 there. Raises ValueError
    for fewer than two trials, blocks that are odd or below 2, more than the sessions allow (two each), and a return
    that is not finite.
    """
    if returns.ndim != 2 or returns.shape[1] < 2 or not np.isfinite(returns).all():
        raise ValueError(f"returns have shape {returns.shape}; pass finite returns of two or more trials as (T, N)")
    if blocks < 2 or blocks % 2 or returns.shape[0] < 2 * blocks:
        raise ValueError(f"blocks is {blocks}; it must be even, and at most half of the {returns.shape[0]} sessions")
    relative = logits(returns, blocks)
    return float(np.mean(relative <= 0))


def logits(returns: FloatArray, blocks: int = BLOCKS) -> FloatArray:
    """log(w / (1 - w)) of the trial chosen in each half of the blocks: (C,)."""
    edges = np.linspace(0, returns.shape[0], blocks + 1).astype(np.int64)
    sums = [np.add.reduceat(moment, edges[:-1], axis=0) for moment in (returns, returns**2)]
    sizes = np.diff(edges).astype(float)
    halves = np.array(list(itertools.combinations(range(blocks), blocks // 2)), np.int64)
    step = max(1, _AT_ONCE // returns.shape[1])
    parts = [_ranked(sums, sizes, halves[k : k + step]) for k in range(0, len(halves), step)]
    return np.concatenate(parts)


def _ranked(sums: list[FloatArray], sizes: FloatArray, halves: IntArray) -> FloatArray:
    """The chosen trials' logits in the other halves."""
    chosen = np.zeros((len(halves), sizes.size))
    np.put_along_axis(chosen, halves, 1.0, axis=1)
    rows = np.arange(len(halves))
    best = _sharpes(sums, sizes, chosen).argmax(axis=1)
    elsewhere = _sharpes(sums, sizes, 1.0 - chosen)
    own = elsewhere[rows, best][:, None]
    below, level = (elsewhere < own - _EQUAL).sum(axis=1), (np.abs(elsewhere - own) <= _EQUAL).sum(axis=1)
    rank = below + (level + 1) / 2
    return np.log(rank / (elsewhere.shape[1] + 1 - rank))


def _sharpes(sums: list[FloatArray], sizes: FloatArray, chosen: FloatArray) -> FloatArray:
    """Sharpe ratios of the trials over the chosen blocks (C, S): (C, N)."""
    count = (chosen @ sizes)[:, None]
    mean, square = (chosen @ moment / count for moment in sums)
    variance = square - mean**2
    moves = variance > 1e-14 * square + 1e-300
    return np.divide(mean, np.sqrt(variance, where=moves, out=np.ones_like(mean)), where=moves, out=np.zeros_like(mean))
