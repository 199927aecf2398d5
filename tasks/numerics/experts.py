"""Aggregation of strategies: shares that follow each one's wealth after costs, and the regret of having followed them.

With g_kj the factor by which strategy j's account grew in period k, after its costs, and N strategies,

    p_0j = 1 / N,    p_(k+1)j ~ p_kj g_kj^eta,    then    p <- (1 - s) p + s / N

eta is the learning rate and s the fixed share. With eta = 1 and s = 0 the shares are those of money left in each
account, and the regret against the best strategy is at most ln N, whatever happens.

References: Vovk, Aggregating strategies, COLT 1990; Herbster and Warmuth, Tracking the best expert, Machine Learning
32(2), 1998 (fixed share).
"""
# Shapes: K = periods, N = strategies.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics.configs import ExpertsConfig
from tasks.numerics.mixes import best_constant_mix, constant_mix

FloatArray = NDArray[np.float64]


class Regret(NamedTuple):
    """Log wealth that the aggregate, before its own costs, lacks of what was best in hindsight; negative is ahead."""

    best: int  # the strategy that ended with the most wealth
    best_expert: float
    best_mix: float  # of the constant mixes of the strategies


def shares(growth: FloatArray, config: ExpertsConfig) -> FloatArray:
    """Shares (K + 1, N) before each period and after the last, from growth factors (K, N).

    A strategy whose growth is 0 keeps no share but the fixed one. ValueError where a factor is negative or no number,
    and where all strategies with a share are ruined.
    """
    bad = ~(np.isfinite(growth) & (growth >= 0))
    if bad.any():
        period, place = np.argwhere(bad)[0]
        raise ValueError(
            f"growth is {growth[period, place]} in period {period}, strategy {place}; it must not be below 0"
        )
    count = growth.shape[1]
    path = np.full((len(growth) + 1, count), 1 / count)
    for k, factors in enumerate(growth):
        grown = path[k] * (factors / factors.max() if factors.max() > 0 else factors) ** config.learning_rate
        if grown.sum() == 0:
            raise ValueError(f"every strategy with a share lost everything in period {k}; nothing is left to follow")
        path[k + 1] = (1 - config.fixed_share) * grown / grown.sum() + config.fixed_share / count
    return path


def regret(growth: FloatArray, followed: FloatArray) -> Regret:
    """What the shares `followed` (K or more, N), held through each period, lack after the growth (K, N)."""
    own = float(np.log((followed[: len(growth)] * growth).sum(axis=1)).sum())
    with np.errstate(divide="ignore"):
        each = np.log(growth).sum(axis=0)
    mix = np.log(constant_mix(growth - 1, best_constant_mix(growth - 1))) if (growth > 0).all() else np.nan
    return Regret(int(each.argmax()), float(each.max()) - own, float(mix) - own)
