"""What forecasts say of a portfolio, and what that was worth once its horizon is over.

With mu (n,) the expected simple returns over the next H sessions, Sigma the covariance of the allocators and w the
weights, the rest of 1 being cash with a known return c, the portfolio's simple return over H sessions is predicted as

    mean = w'mu + (1 - sum w) c,   volatility = sqrt(w'Sigma w),   Gaussian or, where the assets' forecasts have tails,
    Student-t with their degrees of freedom and scale = sqrt((w t)'Sigma (w t)),  t_i = scale_i / sigma_i

which is exact if the assets are jointly Student-t (elliptical). What followed is the account that holds w from the
close of the trade and never trades again: V_k = sum_i w_i prod_{j<=k} (1 + R_ij) + cash likewise, from simple returns.
Its return is V_H - 1 and its drawdown max_k 1 - V_k / max(1, V_1 .. V_k), before costs and fees. The drawdown proxy is

    max(floor, 2 sqrt(H / sigma_horizon) volatility),  sigma_horizon 1 (the founding document, literally) and 21 (sane)

Errors are by Newey and West where dates are so close that their horizons overlap, else those of independent dates.
"""
# Shapes: n = assets, H = sessions of the horizon, K = dates.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import smirnovi

from tasks.numerics import scores, statistics
from tasks.numerics.statistics import Estimate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

COVERAGES = (0.5, 0.9, 0.95)
WINDOW = 24  # months of a rolling measure
ROLLING = ("covers_90", "bias", "z_mean", "z_deviation", "pit_distance", "proxy_held", "proxy_sane_held")
_OVERLAPS = 3  # horizons over which errors allow for overlapping outcomes
_EACH_SIDE = 0.025  # of Kolmogorov's two: samples that leave on both are so rare that the limit is right to 1e-6
_SANE = 21  # sessions that a forecast volatility covers


class Prediction(NamedTuple):
    """The distribution of a portfolio's simple return over the horizon."""

    mean: float
    volatility: float
    scale: float  # of the distribution with tails; the volatility where it is Gaussian
    degrees: float  # infinite where it is Gaussian

    def interval(self, coverage: float) -> tuple[float, float]:
        """Ends of the central interval of that probability."""
        lower, upper = scores.interval(self.mean, self.scale, self.degrees, coverage)
        return float(lower), float(upper)

    def pit(self, realised: float) -> float:
        """Probability that it gave to returns below the realised."""
        return float(scores.pit(np.array([realised]), self.mean, self.scale, self.degrees)[0])


class Judged(NamedTuple):
    """Predictions of one strategy's portfolio at K dates, and what followed."""

    realised: FloatArray  # (K,) simple return
    mean: FloatArray  # (K,)
    volatility: FloatArray  # (K,)
    scale: FloatArray  # (K,)
    degrees: FloatArray  # (K,)
    drawdown: FloatArray  # (K,) realised, a positive fraction
    proxy: FloatArray  # (K,) of it, literally
    proxy_sane: FloatArray  # (K,) in the sane unit

    def some(self, which: NDArray[np.bool_]) -> "Judged":
        """The dates in `which` (K,)."""
        return Judged(*(values[which] for values in self))


class Measure(NamedTuple):
    """A value with its standard error, NaN where there is none."""

    value: float
    error: float


def predict(
    weights: FloatArray,
    mean: FloatArray,
    covariance: FloatArray,
    scale: FloatArray,
    degrees: FloatArray,
    cash_return: float,
) -> Prediction:
    """The prediction for weights (n,), signed fractions of wealth.

    `mean` (n,) expected simple returns, `covariance` (n, n), `scale` (n,) and `degrees` (n,) of the assets' forecast
    distributions, `cash_return` that of cash over the horizon. Of several degrees the heaviest held tail counts.
    """
    tail = weights * scale / np.sqrt(np.diag(covariance))
    return Prediction(
        mean=float(weights @ mean + (1 - weights.sum()) * cash_return),
        volatility=_root(weights, covariance),
        scale=_root(tail, covariance),
        degrees=float(degrees[weights != 0].min(initial=np.inf)),
    )


def _root(weights: FloatArray, covariance: FloatArray) -> float:
    return float(np.sqrt(max(weights @ covariance @ weights, 0.0)))


def held(weights: FloatArray, returns: FloatArray, cash_returns: FloatArray) -> FloatArray:
    """Value of 1 held in `weights` (n,), the rest in cash, at the end of each session: (H,).

    `returns` (H, n) and `cash_returns` (H,) are simple returns of the sessions after the trade's close.
    """
    grown = np.cumprod(1 + returns, axis=0) @ weights
    return grown + (1 - weights.sum()) * np.cumprod(1 + cash_returns)


def drawdown(value: FloatArray) -> float:
    """Largest fall of values (H,) from the highest one before, the 1 at the start included: a positive fraction."""
    return float((1 - value / np.maximum(np.maximum.accumulate(value), 1.0)).max(initial=0.0))


def proxies(volatility: float, horizon: int, floor: float) -> tuple[float, float]:
    """The drawdown proxy with sigma taken to cover one session, as the document writes it, and 21 sessions."""
    literal, sane = (max(floor, 2 * np.sqrt(horizon / sessions) * volatility) for sessions in (1, _SANE))
    return float(literal), float(sane)


def overlap(session: IntArray, horizon: int) -> int:
    """Dates over which errors allow for shared outcomes, given the sessions (K,) of the trades in order.

    0 for dates a horizon or more apart, a month or a quarter; three horizons less one date where every session trades.
    """
    if session.size < 2:
        return 0
    within = round(horizon / float(np.median(np.diff(session))))  # dates in a horizon
    return min(_OVERLAPS * max(within - 1, 0), session.size - 1)


def measures(judged: Judged, lags: int) -> dict[str, Measure]:
    """Everything that is measured of K >= 1 dates, by name.

    `bias` is the mean of realised less predicted returns; `z_mean` and `z_deviation` are of (realised - mean) /
    volatility, 0 and 1 if predictions are right; `covers_*` and `pit_distance` are of the distribution with tails,
    those with `gaussian_` of the one without, and a right forecaster stays below `pit_distance_limit` in 95 of 100
    samples of independent dates; `proxy_held` is the share of dates whose drawdown stayed at or below the proxy,
    `proxy_ratio` the mean of drawdown over proxy.
    """
    z = (judged.realised - judged.mean) / judged.volatility
    tailed = scores.pit(judged.realised, judged.mean, judged.scale, judged.degrees)
    plain = scores.pit(judged.realised, judged.mean, judged.volatility)
    found = {
        "bias": _mean(judged.realised - judged.mean, lags),
        "z_mean": _mean(z, lags),
        "z_deviation": _spread(z, lags),
    }
    for prefix, values in (("", tailed), ("gaussian_", plain)):
        for share in COVERAGES:
            inside = (np.abs(values - 0.5) <= share / 2).astype(float)
            found[f"{prefix}covers_{100 * share:.0f}"] = _mean(inside, lags)
        found[f"{prefix}pit_distance"] = Measure(scores.kolmogorov(values), np.nan)
    found["pit_distance_limit"] = Measure(float(smirnovi(z.size, _EACH_SIDE)), np.nan)
    for name, proxy in (("proxy", judged.proxy), ("proxy_sane", judged.proxy_sane)):
        found[f"{name}_held"] = _mean((judged.drawdown <= proxy).astype(float), lags)
        found[f"{name}_ratio"] = _mean(judged.drawdown / proxy, lags)
    return found


def rolling(judged: Judged, month: IntArray, lags: int) -> dict[int, tuple[int, dict[str, Measure]]]:
    """The measures of ROLLING over each WINDOW of calendar months, with the number of its dates, by its last month.

    `month` (K,), K >= 1, ascends by one with each calendar month. The first window ends WINDOW - 1 months after the
    first date.
    """
    found = {}
    for last in np.unique(month[month >= month[0] + WINDOW - 1]):
        which = (month > last - WINDOW) & (month <= last)
        count = int(which.sum())
        whole = measures(judged.some(which), min(lags, count - 1))
        found[int(last)] = count, {name: whole[name] for name in ROLLING}
    return found


def _mean(values: FloatArray, lags: int) -> Measure:
    found: Estimate = statistics.mean_with_error(values, lags)
    return Measure(found.mean, found.error)


def _spread(values: FloatArray, lags: int) -> Measure:
    """Standard deviation, with the error that its square's has by the delta method."""
    if values.size < 2:
        return Measure(np.nan, np.nan)
    deviation = float(values.std(ddof=1))
    error = statistics.mean_with_error((values - values.mean()) ** 2, lags).error
    return Measure(deviation, error / (2 * deviation) if deviation > 0 else np.nan)
