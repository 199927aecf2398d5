"""A strategy against a baseline, on the same sessions: what it gained more, and how sure that is.

With a and b the daily returns of both, x and y their excess over the risk-free return:

    sharpe_difference         sqrt(252) (SR(x) - SR(y)), with the interval of a stationary bootstrap of whole sessions
    annual_return_difference  of the geometric annual returns, with the same draws' interval
    years                     of the record, 252 sessions each
    years_needed              until the Sharpe difference, if it stays, is told from 0 at 95 % (inference.years_needed)

The mean length of the bootstrap's blocks is chosen for the series whose mean the Sharpe difference is, to first order:
the difference of both influences. Ends of intervals are percentiles. Every pair draws from a generator of the same
seed, so that it does not depend on which others are compared.
"""
# Shapes: S = sessions.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tasks.numerics import bootstrap, inference
from tasks.numerics.configs import TRADING_DAYS

FloatArray = NDArray[np.float64]

DRAWS = 2000
CONFIDENCE = 0.95
SEED = 0
_YEAR = float(np.sqrt(TRADING_DAYS))
_ENDS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


class Comparison(NamedTuple):
    """One measure of a pair; NaN where it is undefined or has no interval."""

    name: str
    value: float
    lower: float = np.nan
    upper: float = np.nan
    method: str = ""


def paired(own: FloatArray, other: FloatArray, risk_free: float | FloatArray) -> list[Comparison]:
    """What the strategy's daily returns (S,) have over the baseline's (S,), by name.

    Raises ValueError where the two do not have the same sessions, or a return is not finite.
    """
    if own.shape != other.shape or own.ndim != 1 or not np.isfinite([own, other]).all():
        raise ValueError(f"own has shape {own.shape} and other {other.shape}; pass finite returns of the same sessions")
    cash = np.broadcast_to(np.asarray(risk_free, float), own.shape)
    gap = inference.sharpe(own - cash) - inference.sharpe(other - cash)
    returns = _annual(np.log1p(own).mean()) - _annual(np.log1p(other).mean()) if _solvent(own, other) else np.nan
    ratio, growth, method = _intervals(own, other, cash)
    years = inference.years_of(own.size)
    error = inference.difference_error(own - cash, other - cash)
    needed = inference.years_needed(gap, error, years, CONFIDENCE)
    z = float(ndtri(_ENDS[1]))
    said = f"years x ({z:.2f} x error / difference)^2, error by HAC with {inference.lags_of(own.size)} lags"
    return [
        Comparison("sharpe_difference", _YEAR * gap, *ratio, method),
        Comparison("annual_return_difference", returns, *growth, method),
        Comparison("years", years),
        Comparison("years_needed", needed, method=said),
    ]


def _annual(log_return: FloatArray | float) -> FloatArray | float:
    return np.expm1(TRADING_DAYS * log_return)


def _solvent(*daily: FloatArray) -> bool:
    return all(bool((values > -1.0).all()) for values in daily)


def _intervals(
    own: FloatArray, other: FloatArray, cash: FloatArray
) -> tuple[tuple[float, float], tuple[float, float], str]:
    """Intervals of both differences, and how they were made; NaN where a ratio is undefined or the record is short."""
    psi = inference.influence(own - cash) - inference.influence(other - cash)
    if own.size < bootstrap.FEWEST or np.isnan(psi).any():
        return (np.nan, np.nan), (np.nan, np.nan), ""
    block = bootstrap.block_length(psi)
    x, y = own - cash, other - cash
    logs = [np.log1p(own), np.log1p(other)] if _solvent(own, other) else []
    drawn = bootstrap.means(np.column_stack([x, x**2, y, y**2, *logs]), block, np.random.default_rng(SEED), DRAWS)
    gap = _YEAR * (_ratio(drawn[:, 0], drawn[:, 1], own.size) - _ratio(drawn[:, 2], drawn[:, 3], own.size))
    growth = _annual(drawn[:, 4]) - _annual(drawn[:, 5]) if logs else np.array([np.nan])
    said = f"stationary bootstrap, mean block length {block}, {DRAWS} draws, percentiles"
    return _ends(gap), _ends(growth), said


def _ratio(mean: FloatArray, square: FloatArray, count: int) -> FloatArray:
    """Sharpe ratios from means of the returns and of their squares; 0 for a draw that does not move."""
    variance = (square - mean**2) * count / (count - 1)
    moves = variance > inference.ZERO**2
    return np.divide(mean, np.sqrt(variance, where=moves, out=np.ones_like(mean)), where=moves, out=np.zeros_like(mean))


def _ends(draws: FloatArray) -> tuple[float, float]:
    lower, upper = np.quantile(draws, _ENDS)
    return float(lower), float(upper)
