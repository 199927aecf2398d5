"""What the forecaster sees of one asset: scale-free features, each of data up to and including session t.

Raw prices and volumes saturate the gates of an LSTM until its gradients are exactly zero, so every feature is
free of scale: returns and distances in units of the asset's own volatility, logarithms of ratios, or bounded.
With log return l, total-return index P, lookback L and s_t the EWMA 0.94 volatility of the asset:

    position           (ln P_t - mean of ln P over L) / (s_t sqrt(L))
    shock              l_t / s_t, clipped at 6
    variance_ratio     ln(mean of l^2 over L / mean of l^2 so far) / 2
    volatility         ln(252 s_t^2) / 2
    ema20, ema50       ln(P_t / EMA_k(P)_t) / (s_t sqrt(k)), clipped at 4
    beta               cov(l, l_m) / var(l_m) over L, minus 1, clipped at 3
    smi                stochastic momentum index (10, 5, 10)
    market_volatility  `volatility` of the market

is the set "scaled"; "document" is the list of the founding document, without units of volatility. It has features of
volume, which "scaled" leaves out: with them, forecasts on 109 US stocks were no better.

Every statistic is a compiled loop that reads a fixed span or a recursion, never a sum whose rounding depends on
what follows: rows up to t are the same bytes whatever is appended after t. Standardisation belongs to training.

Sources: RiskMetrics Technical Document, 4th ed. 1996, section 5.2 (EWMA); Blau, Momentum, Direction, and
Divergence, 1995 (stochastic momentum index).
"""
# Shapes: T = own sessions of one asset, F = features. Row 0 is the asset's first bar.

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.configs import TRADING_DAYS, FeatureConfig

FloatArray = NDArray[np.float64]
Feature = Callable[["Series", int], FloatArray]

VARIANCE_FLOOR = 1e-10  # of a daily return: a volatility of 0.001 %, below that of cash
SPREAD_FLOOR = 1e-6  # of ln(1 + V): a volume that never changes scores 0, not 0/0
FAST_DECAY = 0.94  # RiskMetrics' for daily data


class Series(NamedTuple):
    """One asset on its own sessions; all but the first log returns are finite."""

    log_return: FloatArray  # (T,) total return; the first is NaN
    high_ratio: FloatArray | None  # (T,) high / close
    low_ratio: FloatArray | None  # (T,) low / close
    volume: FloatArray | None  # (T,) shares, in today's splits or any other one unit
    median_log_volume: FloatArray | None  # (T,) cross-section median of ln(1 + V) of the day
    market_log_return: FloatArray  # (T,) the market's over the same intervals; the first is NaN


@njit(cache=True)
def ewma_variance(log_return: FloatArray, decay: float = 0.97, start: int = 66) -> FloatArray:
    """Zero-mean exponentially weighted variance of a daily log return, which includes session t.

        v = mean of the first `start` l^2,   then   v_t = decay v_{t-1} + (1 - decay) l_t^2

    log_return: (T,), NaN at the first session; a later NaN starts the estimate anew. Returns (T,) per session, NaN
    until there are `start` returns, never below VARIANCE_FLOOR.
    Source: RiskMetrics Technical Document, section 5.2; decay 0.97 is its monthly value.
    """
    out = np.full(log_return.size, np.nan)
    level, known = 0.0, 0
    for t in range(log_return.size):
        square = log_return[t] * log_return[t]
        if np.isnan(square):
            level, known = 0.0, 0
            continue
        known += 1
        level = level + square / start if known <= start else decay * level + (1 - decay) * square
        if known >= start:
            out[t] = max(level, VARIANCE_FLOOR)
    return out


@njit(cache=True)
def _log_price(log_return: FloatArray) -> FloatArray:
    """Log of the total-return index, 0 at the first session."""
    out = np.zeros(log_return.size)
    for t in range(1, out.size):
        out[t] = out[t - 1] + log_return[t]
    return out


@njit(cache=True)
def _ema(values: FloatArray, span: int) -> FloatArray:
    """Recursive exponential mean with alpha = 2 / (span + 1), started at the first value."""
    out = values.copy()
    alpha = 2.0 / (span + 1)
    for t in range(1, out.size):
        out[t] = alpha * values[t] + (1 - alpha) * out[t - 1]
    return out


@njit(cache=True)
def _trailing_mean(values: FloatArray, length: int) -> FloatArray:
    """Mean of the last `length` values, each summed anew; NaN where there are fewer."""
    out = np.full(values.size, np.nan)
    for t in range(length - 1, values.size):
        total = 0.0
        for k in range(t - length + 1, t + 1):
            total += values[k]
        out[t] = total / length
    return out


@njit(cache=True)
def _trailing_covariance(x: FloatArray, y: FloatArray, length: int) -> FloatArray:
    """Sample covariance (ddof 1) of the last `length` pairs; NaN where there are fewer."""
    mean_x, mean_y = _trailing_mean(x, length), _trailing_mean(y, length)
    out = np.full(x.size, np.nan)
    for t in range(length - 1, x.size):
        total = 0.0
        for k in range(t - length + 1, t + 1):
            total += (x[k] - mean_x[t]) * (y[k] - mean_y[t])
        out[t] = total / (length - 1)
    return out


@njit(cache=True)
def _trailing_maximum(values: FloatArray, length: int) -> FloatArray:
    """Largest of the last `length` values, of as many as there are at the start."""
    out = values.copy()
    for t in range(out.size):
        for k in range(max(0, t - length + 1), t):
            out[t] = max(out[t], values[k])
    return out


@njit(cache=True)
def _expanding_mean_square(log_return: FloatArray) -> FloatArray:
    """Mean of l_1^2 ... l_t^2; NaN at the first session, which has no return."""
    out = np.full(log_return.size, np.nan)
    total = 0.0
    for t in range(1, out.size):
        total += log_return[t] * log_return[t]
        out[t] = total / t
    return out


def _sigma(series: Series, lookback: int) -> FloatArray:
    """Daily volatility in which distances are measured."""
    return np.sqrt(ewma_variance(series.log_return, FAST_DECAY, lookback))


def _centred_price(series: Series, lookback: int) -> FloatArray:
    """Log price minus its mean over the lookback."""
    log_price = _log_price(series.log_return)
    return log_price - _trailing_mean(log_price, lookback)


def _position(series: Series, lookback: int) -> FloatArray:
    """`_centred_price` in units of the volatility of `lookback` sessions."""
    return _centred_price(series, lookback) / (_sigma(series, lookback) * np.sqrt(lookback))


def _shock(series: Series, lookback: int) -> FloatArray:
    """Today's log return in units of volatility."""
    return np.clip(series.log_return / _sigma(series, lookback), -6, 6)


def _variance_ratio(series: Series, lookback: int) -> FloatArray:
    """Half the log of the trailing variance over the variance so far, both about zero."""
    trailing = _trailing_mean(series.log_return * series.log_return, lookback)
    so_far = _expanding_mean_square(series.log_return)
    return 0.5 * np.log(np.maximum(trailing, VARIANCE_FLOOR) / np.maximum(so_far, VARIANCE_FLOOR))


def _log_volatility(series: Series, lookback: int) -> FloatArray:
    """Half the log of the annual EWMA variance."""
    return 0.5 * np.log(TRADING_DAYS * ewma_variance(series.log_return, FAST_DECAY, lookback))


def _market_volatility(series: Series, lookback: int) -> FloatArray:
    """`_log_volatility` of the market."""
    return 0.5 * np.log(TRADING_DAYS * ewma_variance(series.market_log_return, FAST_DECAY, lookback))


def _ema_gap(series: Series, lookback: int, span: int) -> FloatArray:
    """Log distance of the price from its EMA."""
    price = np.exp(_log_price(series.log_return))
    return np.log(price / _ema(price, span))


def _scaled_ema_gap(series: Series, lookback: int, span: int) -> FloatArray:
    """`_ema_gap` in units of the volatility of `span` sessions."""
    gap = _ema_gap(series, lookback, span)
    return np.clip(gap / (_sigma(series, lookback) * np.sqrt(span)), -4, 4)


def _beta(series: Series, lookback: int) -> FloatArray:
    """Regression coefficient of the asset's log return on the market's; 0 on a market that stands still."""
    market = series.market_log_return
    variance = np.maximum(_trailing_covariance(market, market, lookback), VARIANCE_FLOOR)
    return _trailing_covariance(series.log_return, market, lookback) / variance


def _excess_beta(series: Series, lookback: int) -> FloatArray:
    """Beta's distance from the market's own."""
    return np.clip(_beta(series, lookback) - 1, -3, 3)


def _smi(series: Series, lookback: int) -> FloatArray:
    """Place of the close in the range of 10 sessions, in [-1, 1], smoothed by EMAs of 5, then 10 sessions.

    The range is that of the closes, widened by the highs and lows where there are any. A range of zero scores 0.
    """
    close = np.exp(_log_price(series.log_return))
    high = close if series.high_ratio is None else np.fmax(close, close * series.high_ratio)
    low = close if series.low_ratio is None else np.fmin(close, close * series.low_ratio)
    top, bottom = _trailing_maximum(high, 10), -_trailing_maximum(-low, 10)
    distance = _ema(_ema(close - 0.5 * (top + bottom), 5), 10)
    half_range = 0.5 * _ema(_ema(top - bottom, 5), 10)
    return np.divide(distance, half_range, out=np.zeros_like(close), where=half_range > 0)


def _given(values: FloatArray | None, name: str) -> FloatArray:
    """The series' optional array, which the feature at hand cannot do without."""
    if values is None:
        raise ValueError(f"{name} is None, but a feature of volume is asked for; take names(config, has_volume=False)")
    return values


def _volume(series: Series, lookback: int) -> FloatArray:
    """Standard score of ln(1 + V) among the lookback; the 1 keeps sessions without a trade finite."""
    log_volume = np.log1p(_given(series.volume, "volume"))
    spread = np.sqrt(_trailing_covariance(log_volume, log_volume, lookback))
    return (log_volume - _trailing_mean(log_volume, lookback)) / np.maximum(spread, SPREAD_FLOOR)


def _relative_volume(series: Series, lookback: int) -> FloatArray:
    """ln(1 + V) against the median asset of the day."""
    return np.log1p(_given(series.volume, "volume")) - _given(series.median_log_volume, "median_log_volume")


def _log_return(series: Series, lookback: int) -> FloatArray:
    """Today's log return as it is."""
    return series.log_return


def _annual_volatility(series: Series, lookback: int) -> FloatArray:
    """Standard deviation (ddof 1) of log returns over the lookback, annual."""
    return np.sqrt(TRADING_DAYS * _trailing_covariance(series.log_return, series.log_return, lookback))


SETS: dict[str, dict[str, Feature]] = {
    "scaled": {
        "position": _position,
        "shock": _shock,
        "variance_ratio": _variance_ratio,
        "volatility": _log_volatility,
        "ema20": partial(_scaled_ema_gap, span=20),
        "ema50": partial(_scaled_ema_gap, span=50),
        "beta": _excess_beta,
        "smi": _smi,
        "market_volatility": _market_volatility,
    },
    "document": {
        "price": _centred_price,
        "volume": _volume,
        "log_return": _log_return,
        "volatility": _annual_volatility,
        "ema20": partial(_ema_gap, span=20),
        "ema50": partial(_ema_gap, span=50),
        "beta": _beta,
        "log_volume": _relative_volume,
        "smi": _smi,
    },
}
NEEDS_VOLUME = ("volume", "log_volume")


def names(config: FeatureConfig, has_volume: bool) -> tuple[str, ...]:
    """Features of the configured set, in order; those of volume are left out where the source has none."""
    return tuple(name for name in SETS[config.features] if has_volume or name not in NEEDS_VOLUME)


def compute(series: Series, names: tuple[str, ...], config: FeatureConfig) -> NDArray[np.float32]:
    """The named features of one asset: (T, F), not standardised, NaN before own session `lookback`.

    That session is the first with `lookback` returns, so the first whole input window ends at own session
    2 lookback - 1. A feature is also NaN where its inputs are (a missing volume, an unknown market return).
    Raises ValueError for a name outside the set, a feature whose volume is missing, and a return that is not finite.
    """
    _check(series, names, config)
    table = SETS[config.features]
    out = np.stack([table[name](series, config.lookback) for name in names], axis=1).astype(np.float32)
    out[: config.lookback] = np.nan
    return out


def _check(series: Series, names: tuple[str, ...], config: FeatureConfig) -> None:
    """Refuse what `compute` cannot turn into features."""
    for name in names:
        if name not in SETS[config.features]:
            allowed = ", ".join(SETS[config.features])
            raise ValueError(f"feature {name!r} is not in the set {config.features!r}; choose from {allowed}")
    bad = np.flatnonzero(~np.isfinite(series.log_return[1:])) + 1
    if bad.size:
        raise ValueError(f"log_return[{bad[0]}] is {series.log_return[bad[0]]}; keep only sessions that have a bar")
