"""Terms of the online objective: what a portfolio's window of returns, and its weights, are worth.

    F(w) = sum_j a_j T_j(r, w),    r = X w + (1 - sum w) rf

where what is not invested earns, and what is borrowed owes, the risk-free return.

A term is one function that returns T and adds `scale` times its derivatives by the returns and by the weights, each
taken by itself, to two arrays; the kernel of `tasks.numerics.online` makes the gradient by w of them. Registered
by the decorator `term`, it is compiled to machine code of one signature, so that a kernel compiled once can call it:

    term(returns, cash, weights, factors, settings, scale, by_return, by_weight) -> T

`returns` (m,) of the portfolio, oldest first; `cash` (m,) risk-free; `weights` (n,); `factors` (m, f); `settings` (p,)
numbers of the term's own; `scale` a number; `by_return` (m,) and `by_weight` (n,) what is added to. Returns are simple,
a session, as fractions.

References: Sortino and Price, Performance measurement in a downside risk framework, Journal of Investing 3(3), 1994;
Rockafellar and Uryasev, Optimization of conditional value-at-risk, Journal of Risk 2(3), 2000; Chekhlov, Uryasev and
Zabarankin, Drawdown measure in portfolio optimization, International Journal of Theoretical and Applied Finance 8(1),
2005.
"""
# Shapes: m = sessions of the window, n = assets, f = factors.

import difflib
import warnings
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, njit, types
from numba.core.errors import NumbaExperimentalFeatureWarning
from numpy.typing import NDArray

from tasks.numerics.configs import TRADING_DAYS, OnlineConfig, named_numbers

# Functions as arguments of compiled code are what this registry rests on; its tests hold what it needs of them.
warnings.filterwarnings("ignore", category=NumbaExperimentalFeatureWarning)

FloatArray = NDArray[np.float64]

LEAST_GROWTH = 1e-6  # a day's 1 + return counts as no less, so that wealth stays positive
_INDEPENDENT = 1e-12  # part of a factor's squares that must be its own
_VECTOR, _MATRIX = types.float64[::1], types.float64[:, ::1]
_SIGNATURE = types.float64(_VECTOR, _VECTOR, _VECTOR, _MATRIX, _VECTOR, types.float64, _VECTOR, _VECTOR)
_HOME = __name__

TERMS: dict[str, Callable[..., float]] = {}  # by name; by dotted path where it is defined elsewhere


def term(function: Callable[..., float]) -> Callable[..., float]:
    """Register a term under its name, or under `module.name` where it is not one of this file's."""
    name = function.__name__ if function.__module__ == _HOME else f"{function.__module__}.{function.__name__}"
    TERMS[name] = function
    return function


@lru_cache(maxsize=64)
def compiled(function: Callable[..., float]) -> Any:
    """The term as machine code of the one signature; kept on disk where it is one of this file's."""
    return cfunc(_SIGNATURE, cache=function.__module__ == _HOME, error_model="numpy")(function)


class Chosen(NamedTuple):
    """A term with its signed weight and its settings."""

    name: str
    weight: float
    settings: tuple[float, ...]


SOUGHT = (  # all of a config that `chosen` looks at
    *("objective", "expected_return", "half_life", "downside_floor", "cvar_level", "factor_targets"),
    *("effective_minimum", "effective_maximum", "extra_terms", "sortino_weight", "drawdown_weight", "return_weight"),
    *("cvar_weight", "factor_weight", "concentration_weight", "volatility_weight"),
)
sought = attrgetter(*SOUGHT)


def chosen(config: OnlineConfig, factors: tuple[str, ...]) -> list[Chosen]:
    """The terms that a config gives a weight, with penalties negative; none where it climbs another objective.

    `factors` are the names of the factors at hand. ValueError for a term that is not registered, for a target beta on
    a factor that is not at hand, and for a weight on factor exposure without any factor.
    """
    half_life = config.half_life if config.expected_return == "exponential" else 0.0
    if config.objective != "window":
        return []
    found = [
        Chosen("sortino", config.sortino_weight, (half_life, config.downside_floor)),
        Chosen("drawdown", -config.drawdown_weight, ()),
        Chosen("expected_return", config.return_weight, (half_life,)),
        Chosen("cvar", -config.cvar_weight, (config.cvar_level,)),
        Chosen("factor_exposure", -config.factor_weight, _targets(config, factors)),
        Chosen("concentration", -config.concentration_weight, (config.effective_minimum, config.effective_maximum)),
        Chosen("volatility", -config.volatility_weight, ()),
        *(Chosen(name, weight, ()) for name, weight in named_numbers(config.extra_terms).items()),
    ]
    for entry in found:
        if entry.name not in TERMS:
            near = difflib.get_close_matches(entry.name, TERMS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TERMS)}"
            raise ValueError(f"extra_terms names {entry.name!r}, which is no term; {hint}")
    return [entry for entry in found if entry.weight]


def _targets(config: OnlineConfig, factors: tuple[str, ...]) -> tuple[float, ...]:
    """The target beta of each factor; 1 on a lone market, 0 where none is given."""
    given = named_numbers(config.factor_targets)
    unknown = [name for name in given if name not in factors]
    if config.factor_weight and (unknown or not factors):
        wrong = f"factor_targets names {unknown[0]!r}" if unknown else f"factor_weight is {config.factor_weight}"
        raise ValueError(f"{wrong}, and the factors at hand are {', '.join(factors) or 'none'}; name one of these")
    default = 1.0 if factors == ("market",) else 0.0
    return tuple(given.get(name, default) for name in factors)


@njit(cache=True, error_model="numpy")
def _fading(values: FloatArray, less: FloatArray, half_life: float, scale: float, by_return: FloatArray) -> float:
    """E[values - less] with weights that halve every `half_life` sessions; adds scale times its derivative."""
    factor = 0.5 ** (1.0 / half_life)
    total, weight, weights = 0.0, 1.0, 0.0
    for k in range(values.size - 1, -1, -1):
        total += weight * (values[k] - less[k])
        weights += weight
        weight *= factor
    weight = 1.0
    for k in range(values.size - 1, -1, -1):
        by_return[k] += scale * weight / weights
        weight *= factor
    return total / weights


@njit(cache=True, error_model="numpy")
def _excess_sums(returns: FloatArray, cash: FloatArray) -> tuple[float, float]:
    """Sums of the excess returns, and of the squares of those below 0: in four parts each, which vectorise."""
    whole = returns.size // 4 * 4
    total_a, total_b, total_c, total_d = 0.0, 0.0, 0.0, 0.0
    below_a, below_b, below_c, below_d = 0.0, 0.0, 0.0, 0.0
    for k in range(0, whole, 4):
        a, b = returns[k] - cash[k], returns[k + 1] - cash[k + 1]
        c, d = returns[k + 2] - cash[k + 2], returns[k + 3] - cash[k + 3]
        total_a += a
        total_b += b
        total_c += c
        total_d += d
        below_a += min(a, 0.0) * min(a, 0.0)
        below_b += min(b, 0.0) * min(b, 0.0)
        below_c += min(c, 0.0) * min(c, 0.0)
        below_d += min(d, 0.0) * min(d, 0.0)
    for k in range(whole, returns.size):
        a = returns[k] - cash[k]
        total_a += a
        below_a += min(a, 0.0) * min(a, 0.0)
    return (total_a + total_b) + (total_c + total_d), (below_a + below_b) + (below_c + below_d)


@term
def sortino(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """E[r - rf] / sqrt(mean(min(r - rf, 0)^2) + floor^2); settings: half-life of E (0: mean), floor."""
    m = returns.size
    total, squares = _excess_sums(returns, cash)
    deviation = np.sqrt(squares / m + settings[1] * settings[1])
    mean, each = total / m, scale / deviation / m
    if settings[0] > 0.0:
        mean, each = _fading(returns, cash, settings[0], scale / deviation, by_return), 0.0
    slope = scale * mean / (m * deviation * deviation * deviation)
    for k in range(m):
        by_return[k] += each - slope * min(returns[k] - cash[k], 0.0)
    return mean / deviation


@term
def drawdown(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """Maximum drawdown of wealth from 1 on; only returns between the first deepest trough and its peak count."""
    wealth, peak, peak_end = 1.0, 1.0, 0
    kept, start, end = 1.0, 0, 0
    for k in range(returns.size):
        wealth *= max(1.0 + returns[k], LEAST_GROWTH)
        if wealth > peak:
            peak, peak_end = wealth, k + 1
        elif wealth < kept * peak:
            kept, start, end = wealth / peak, peak_end, k + 1
    for k in range(start, end):
        growth = 1.0 + returns[k]
        by_return[k] -= scale * kept / growth if growth > LEAST_GROWTH else 0.0
    return 1.0 - kept


@term
def expected_return(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """E[r] a session; settings: half-life of E (0: mean)."""
    if settings[0] > 0.0:
        return _fading(returns, np.zeros(returns.size), settings[0], scale, by_return)
    by_return += scale / returns.size
    return mean_of(returns)


@term
def cvar(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """Mean loss of the worst (1 - level) part of the sessions, the last of them in part; settings: level."""
    return _worst(-returns, (1.0 - settings[0]) * returns.size, -scale, by_return)


@njit(cache=True, error_model="numpy")
def _worst(losses: FloatArray, count: float, scale: float, slope: FloatArray) -> float:
    """Mean of the `count` largest losses, the last in part; adds scale times its derivative by each loss."""
    left, total = losses.copy(), 0.0
    for rank in range(int(np.ceil(count))):  # few of many: a sort would be more work, also for the compiler
        k = left.argmax()
        share = min(1.0, count - rank) / count
        total += share * losses[k]
        slope[k] += scale * share
        left[k] = -np.inf
    return total


@term
def factor_exposure(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """sum_f (beta_f - target_f)^2, beta the least-squares slopes of r on all factors and a constant; settings: targets.

    Nothing where a factor is not known on the whole window, or the factors do not vary independently.
    """
    m, count = factors.shape
    centred, sizes = np.empty((count, m)), np.zeros(count)
    for f in range(count):
        mean = 0.0
        for k in range(m):
            mean += factors[k, f] / m
        for k in range(m):
            centred[f, k] = factors[k, f] - mean
            sizes[f] += factors[k, f] * factors[k, f]
    projection = _solve(_products(centred), sizes, centred)
    if not projection.any():
        return 0.0
    total = 0.0
    for f in range(count):
        beta = 0.0
        for k in range(m):
            beta += projection[f, k] * returns[k]
        distance = beta - settings[f]
        total += distance * distance
        for k in range(m):
            by_return[k] += 2.0 * scale * distance * projection[f, k]
    return total


@njit(cache=True, error_model="numpy")
def _products(vectors: FloatArray) -> FloatArray:
    """Inner products of the rows."""
    count, m = vectors.shape
    found = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            for k in range(m):
                found[i, j] += vectors[i, k] * vectors[j, k]
    return found


@njit(cache=True, error_model="numpy")
def _solve(matrix: FloatArray, sizes: FloatArray, right: FloatArray) -> FloatArray:
    """The solution of a small positive definite system, by elimination.

    Zeros where a pivot is rounding beside its size, or not finite.
    """
    a, x, count = matrix.copy(), right.copy(), matrix.shape[0]
    for i in range(count):
        if not a[i, i] > _INDEPENDENT * sizes[i]:
            return np.zeros_like(right)
        for j in range(i + 1, count):
            ratio = a[j, i] / a[i, i]
            a[j] -= ratio * a[i]
            x[j] -= ratio * x[i]
    for i in range(count - 1, -1, -1):
        for j in range(i + 1, count):
            x[i] -= a[i, j] * x[j]
        x[i] /= a[i, i]
    return x


@term
def concentration(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """Distance of the effective positions (sum |w|)^2 / sum w^2 from a range; settings: its ends."""
    gross, squares = 0.0, 0.0
    for i in range(weights.size):
        gross += abs(weights[i])
        squares += weights[i] * weights[i]
    if squares == 0.0:
        return 0.0
    effective = gross * gross / squares
    if settings[0] <= effective <= settings[1]:
        return 0.0
    side = -1.0 if effective < settings[0] else 1.0
    for i in range(weights.size):
        slope = 2.0 * gross / squares * np.sign(weights[i]) - 2.0 * effective / squares * weights[i]
        by_weight[i] += scale * side * slope
    return settings[0] - effective if side < 0.0 else effective - settings[1]


@njit(cache=True, error_model="numpy")
def _squares(returns: FloatArray, mean: float) -> float:
    """Sum of the squared deviations from `mean`."""
    total = 0.0
    for k in range(returns.size):
        total += (returns[k] - mean) * (returns[k] - mean)
    return total


@njit(cache=True, error_model="numpy")
def mean_of(returns: FloatArray) -> float:
    """The mean, summed in order."""
    total = 0.0
    for k in range(returns.size):
        total += returns[k]
    return total / returns.size


@njit(cache=True, error_model="numpy")
def annual_volatility(returns: FloatArray) -> float:
    """sqrt(252) times the standard deviation (ddof 1)."""
    return np.sqrt(TRADING_DAYS * _squares(returns, mean_of(returns)) / (returns.size - 1))


@term
def volatility(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """Annualised standard deviation of r (ddof 1)."""
    mean, value = mean_of(returns), annual_volatility(returns)
    if value > 0.0:
        for k in range(returns.size):
            by_return[k] += scale * TRADING_DAYS * (returns[k] - mean) / ((returns.size - 1) * value)
    return value


@term
def variance(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """Annualised variance of r (ddof 1)."""
    mean, factor = mean_of(returns), TRADING_DAYS / (returns.size - 1)
    for k in range(returns.size):
        by_return[k] += scale * 2.0 * factor * (returns[k] - mean)
    return factor * _squares(returns, mean)


@term
def semivariance(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """Annualised mean square of the returns below cash."""
    total, factor = 0.0, TRADING_DAYS / returns.size
    for k in range(returns.size):
        loss = min(returns[k] - cash[k], 0.0)
        total += factor * loss * loss
        by_return[k] += scale * 2.0 * factor * loss
    return total


@term
def cdar(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """Conditional drawdown at risk: mean of the deepest 5 % of all sessions' drawdowns from the running peak."""
    m = returns.size
    depth, peak_at = np.empty(m), np.empty(m, np.int64)
    wealth, peak, peak_end = 1.0, 1.0, 0
    for k in range(m):
        wealth *= max(1.0 + returns[k], LEAST_GROWTH)
        if wealth > peak:
            peak, peak_end = wealth, k + 1
        depth[k], peak_at[k] = 1.0 - wealth / peak, peak_end
    share = np.zeros(m)
    value = _worst(depth, 0.05 * m, scale, share)
    for k in range(m):
        if share[k] != 0.0:
            for j in range(peak_at[k], k + 1):
                if 1.0 + returns[j] > LEAST_GROWTH:
                    by_return[j] -= share[k] * (1.0 - depth[k]) / (1.0 + returns[j])
    return value


def nothing(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """What fills the places that no term takes."""
    return 0.0
