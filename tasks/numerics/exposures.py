"""What moved a strategy's returns: its exposure to factors, and what it earned beside them.

With e the T daily excess returns of a strategy and F the k factors' on the same sessions, ordinary least squares

    e_t = alpha + sum_j beta_j F_tj + u_t

whose errors are those of Newey and West: with x_t = (1, F_t), L lags, and the correction of small samples,

    V = T / (T - k - 1) (X'X)^-1 [sum_{l=-L..L} (1 - |l| / (L + 1)) sum_t u_t x_t x_{t-l}' u_{t-l}] (X'X)^-1

L = floor(4 (T / 100)^(2/9)) where it is not given (their plug-in rule; 7 for five years). Alpha is reported a year,
252 alpha. With one factor, the index, this is the capital asset pricing model.

Against a baseline b of daily returns, beta and alpha are those of one factor, b's excess return, and

    excess return = annual return - annual return of b          information ratio = sqrt(252) mean(r - b) / std(r - b)

What is undefined is NaN: a t-value without error, and all of it where the factors do not vary on their own or there
are fewer than k + 3 sessions.

Sources: Newey and West, A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent
covariance matrix, Econometrica 55(3), 1987; Newey and West, Automatic lag selection in covariance matrix estimation,
Review of Economic Studies 61(4), 1994; Jensen, The performance of mutual funds in the period 1945-1964, Journal of
Finance 23(2), 1968; Goodwin, The information ratio, Financial Analysts Journal 54(4), 1998.
"""
# Shapes: T = sessions, k = factors.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics.configs import TRADING_DAYS
from tasks.numerics.metrics import ZERO

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

WINDOW = TRADING_DAYS  # sessions of a rolling exposure
COLLINEAR = 1e-8  # smallest singular value of the scaled factors, as a part of the largest


class Exposure(NamedTuple):
    """One regression."""

    alpha: float  # a year
    alpha_t: float
    beta: FloatArray  # (k,)
    t: FloatArray  # (k,)
    r2: float
    rows: int  # sessions on which all is known
    lags: int


class Comparison(NamedTuple):
    """A strategy against a baseline."""

    excess_return: float  # a year
    information_ratio: float
    beta: float
    alpha: float  # a year
    alpha_t: float


def default_lags(rows: int) -> int:
    """Newey and West's number of lags for as many sessions."""
    return int(4 * (rows / 100) ** (2 / 9))


def regress(excess: FloatArray, factors: FloatArray, lags: int | None = None) -> Exposure:
    """The exposure of excess returns (T,) to factors (T, k); sessions on which one is NaN are left out.

    Raises ValueError for shapes that do not fit, no factor, an infinite value, and negative lags.
    """
    _check(excess, factors, lags)
    known = np.isfinite(excess) & np.isfinite(factors).all(axis=1)
    y, count = excess[known], factors.shape[1]
    used = default_lags(y.size) if lags is None else lags
    lost = Exposure(np.nan, np.nan, np.full(count, np.nan), np.full(count, np.nan), np.nan, y.size, used)
    if y.size < count + 3:
        return lost
    x = np.column_stack([np.ones(y.size), factors[known]])
    if not _vary(x[:, 1:]):
        return lost
    inverse = np.linalg.inv(x.T @ x)
    coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
    residual = y - x @ coefficients
    scores = x * residual[:, None]
    errors = np.sqrt(np.diag(inverse @ _long_run(scores, used) @ inverse) * y.size / (y.size - count - 1))
    # residuals that are rounding, as of an index on itself, have errors that are too
    t = coefficients / errors if residual.std() > ZERO else np.full(count + 1, np.nan)
    spread = ((y - y.mean()) ** 2).sum()
    r2 = 1 - residual @ residual / spread if y.std() > ZERO else np.nan
    alpha = TRADING_DAYS * coefficients[0]
    return Exposure(float(alpha), float(t[0]), coefficients[1:], t[1:], float(r2), y.size, used)


def rolling(
    excess: FloatArray, factors: FloatArray, ends: IntArray, window: int = WINDOW
) -> list[tuple[int, Exposure]]:
    """The exposure over the `window` sessions up to and including each of `ends`, where there are as many."""
    places = [int(end) for end in ends if end + 1 >= window]
    return [(end, regress(excess[end + 1 - window : end + 1], factors[end + 1 - window : end + 1])) for end in places]


def month_ends(month: IntArray) -> IntArray:
    """Sessions after which the month changes, given an integer (T,) that changes with it: the last is none yet."""
    return np.flatnonzero(month[1:] != month[:-1])


def compare(daily: FloatArray, baseline: FloatArray, risk_free: float | FloatArray) -> Comparison:
    """A strategy's daily returns (T,) against a baseline's on the same sessions, and the return of cash on each."""
    if daily.shape != baseline.shape or not daily.size:
        raise ValueError(f"returns have shapes {daily.shape} and {baseline.shape}; give both on the same sessions")
    found = regress(daily - risk_free, (baseline - risk_free)[:, None])
    active = daily - baseline
    deviation = np.std(active, ddof=1) if active.size > 1 else 0.0
    ratio = np.sqrt(TRADING_DAYS) * active.mean() / deviation if deviation > ZERO else np.nan
    excess = _annual(daily) - _annual(baseline)
    return Comparison(float(excess), float(ratio), float(found.beta[0]), found.alpha, found.alpha_t)


def _annual(daily: FloatArray) -> float:
    """The geometric mean return, a year."""
    return float(np.prod(1 + daily) ** (TRADING_DAYS / daily.size) - 1)


def _check(excess: FloatArray, factors: FloatArray, lags: int | None) -> None:
    """Refuse what cannot be regressed."""
    if factors.ndim != 2 or excess.shape != factors.shape[:1] or not factors.shape[1]:
        raise ValueError(f"excess has shape {excess.shape} and factors {factors.shape}; give (T,) and (T, k), k >= 1")
    if np.isinf(excess).any() or np.isinf(factors).any():
        raise ValueError("a return is infinite; use NaN where there is none")
    if lags is not None and lags < 0:
        raise ValueError(f"lags is {lags}; it must be at least 0")


def _vary(factors: FloatArray) -> bool:
    """Whether the factors (T, k) move, and each on its own."""
    centred = factors - factors.mean(axis=0)
    scale = centred.std(axis=0)
    if (scale <= ZERO).any():
        return False
    values = np.linalg.svd(centred / scale, compute_uv=False)
    return bool(values[-1] > COLLINEAR * values[0])


def _long_run(scores: FloatArray, lags: int) -> FloatArray:
    """The sum over lags of Bartlett's weight and the scores' cross products: (k + 1, k + 1), semi-definite."""
    total = scores.T @ scores
    for lag in range(1, min(lags, len(scores) - 1) + 1):
        cross = scores[lag:].T @ scores[:-lag]
        total += (1 - lag / (lags + 1)) * (cross + cross.T)
    return total
