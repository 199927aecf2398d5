"""The fitness score: one number for a strategy, the sum of the parts that are stored beside it.

    fitness = a1 Sortino + a5 E[R] - a2 MDD - a3 turnover - a4 HHI - a7 sum_f |beta_f - target_f| - a9 instability

Sortino, E[R] = 252 mean(r) and turnover are annual, MDD is the deepest fall within 252 returns, HHI the mean sum of
squared shares in [0, 1], and instability the standard deviation (ddof 1) of the returns over 63 sessions, one from
each session on that has as many before it. A part whose weight is 0 is 0, also where it could not be computed.
"""
# Shapes: S = sessions.

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tasks.numerics.configs import TRADING_DAYS, FitnessConfig, named_numbers

FloatArray = NDArray[np.float64]

ROLLING = 63  # sessions of a return whose deviation is the instability
PARTS = ("sortino", "return", "drawdown", "turnover", "concentration", "factors", "instability")


def score(
    measured: Mapping[str, float],
    daily_return: FloatArray,
    betas: Mapping[str, float],
    config: FitnessConfig,
) -> dict[str, float]:
    """`fitness` and its parts `fitness_sortino` .. `fitness_instability`; the parts sum to it.

    `measured` holds the strategy's measures (metrics.measures), `betas` its exposures by factor; a target of a factor
    that has no beta counts as if it were 0 there. NaN where a part with a weight is.
    """
    weighted = {
        "sortino": (config.sortino_weight, measured["sortino"]),
        "return": (config.return_weight, TRADING_DAYS * float(daily_return.mean())),
        "drawdown": (-config.drawdown_weight, measured["worst_year_drawdown"]),
        "turnover": (-config.turnover_weight, measured["turnover"]),
        "concentration": (-config.concentration_weight, measured["hhi"] / 1e4),
        "factors": (-config.factor_weight, _distance(betas, named_numbers(config.factor_targets))),
        "instability": (-config.instability_weight, instability(daily_return)),
    }
    parts = {f"fitness_{name}": weight * value if weight else 0.0 for name, (weight, value) in weighted.items()}
    return {"fitness": float(sum(parts.values())), **parts}


def betas(excess: FloatArray, factors: Mapping[str, FloatArray]) -> dict[str, float]:
    """Slopes of the excess returns (S,) on all factors (S,) at once, by least squares with a constant.

    Over the sessions on which every factor has a return; NaN where these are no more than the factors and the constant.
    """
    columns = np.column_stack([np.ones_like(excess), *factors.values()])
    known = np.isfinite(columns).all(axis=1)
    if known.sum() <= columns.shape[1]:
        return dict.fromkeys(factors, float("nan"))
    slopes = np.linalg.lstsq(columns[known], excess[known])[0][1:]
    return dict(zip(factors, slopes.tolist(), strict=True))


def _distance(betas: Mapping[str, float], targets: Mapping[str, float]) -> float:
    """sum_f |beta_f - target_f| over the factors that have either."""
    return sum(abs(betas.get(name, 0.0) - targets.get(name, 0.0)) for name in {**betas, **targets})


def instability(daily_return: FloatArray) -> float:
    """Standard deviation of the returns over 63 sessions of (S,); NaN where there are fewer than two of them."""
    if daily_return.size <= ROLLING:
        return float("nan")
    wealth = np.append(1.0, np.cumprod(1.0 + daily_return))
    start = wealth[:-ROLLING]
    rolling = np.divide(wealth[ROLLING:], start, out=np.zeros_like(start), where=start > 0) - 1.0
    return float(np.std(rolling, ddof=1))
