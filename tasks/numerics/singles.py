"""What each asset would have earned on its own, and how many of them a strategy beats.

Each is bought once with all the money at the close of one session and held to the end, in an account of
`accounting.simulate` with the same costs: what is delisted is sold, and cash from then on.
"""
# Shapes: S = sessions, n = assets, m = those bought, T = sessions from the purchase on.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import accounting, metrics
from tasks.numerics.configs import TRADING_DAYS, AccountingConfig

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Singles(NamedTuple):
    """The measures of each of m assets held alone, as `metrics` defines them; NaN where undefined."""

    cumulative_return: FloatArray  # (m,)
    annual_volatility: FloatArray
    sharpe: FloatArray
    max_drawdown: FloatArray


def hold_each(
    returns: FloatArray,
    tradable: BoolArray,
    bought: int,
    config: AccountingConfig,
    delisted: IntArray,
    risk_free: FloatArray | None = None,
) -> FloatArray:
    """Daily returns (T, n), costs of the purchase among the first, of n accounts that each hold one asset.

    `returns` (S, n), `tradable` (S, n), `delisted` (n,) and `risk_free` (S,) as in `accounting.simulate`; `bought` the
    session of the purchases. Raises ValueError as that does.
    """
    when, whole = np.array([bought]), np.ones((1, 1))
    columns = [
        accounting.simulate(
            returns[:, [place]], tradable[:, [place]], when, whole, config, delisted[[place]], risk_free
        ).daily_return
        for place in range(returns.shape[1])
    ]
    return np.column_stack(columns) if columns else np.empty((len(returns) - bought, 0))


def measured(daily: FloatArray, risk_free: float | FloatArray) -> Singles:
    """The measures of each column of daily returns (T, m), given the return of cash: one number, or (T,)."""
    wealth = np.cumprod(1 + daily, axis=0)
    excess = daily - (risk_free if np.ndim(risk_free) == 0 else np.asarray(risk_free)[:, None])
    spread, annual = _deviation(excess), np.sqrt(TRADING_DAYS)
    sharpe = np.divide(
        annual * excess.mean(axis=0), spread, out=np.full(spread.shape, np.nan), where=spread > metrics.ZERO
    )
    return Singles(wealth[-1] - 1, annual * _deviation(daily), sharpe, metrics.drawdowns(wealth).max(axis=0))


def share_beaten(value: float, others: FloatArray) -> float:
    """The share of `others` (m,) below `value`, those that are NaN left out; NaN where nothing can be compared."""
    known = others[np.isfinite(others)]
    return float(np.mean(known < value)) if known.size and np.isfinite(value) else np.nan


def _deviation(values: FloatArray) -> FloatArray:
    """Standard deviation (ddof 1) of each column, NaN for a single row."""
    return np.std(values, axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
