"""What a record of daily returns, weights and trades amounts to, in the usual figures.

With r the S daily returns of a strategy, the cost of its first purchase among them, rf the risk-free return of a
session, e = r - rf, and W_t = prod_{s <= t} (1 + r_s):

    annual return = W_S^(252/S) - 1                Sharpe  = sqrt(252) mean(e) / std(e)
    drawdown_t    = 1 - W_t / max(1, W_1 .. W_t)   Sortino = sqrt(252) mean(e) / sqrt(mean(min(e, 0)^2))

Standard deviations have ddof 1. Drawdowns, VaR and CVaR are positive fractions. What is undefined (a ratio to a
volatility of zero, a slope through two points) is NaN, never infinite.

Sources: Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21(1), 1994; Sortino and van der Meer, Downside
Risk, Journal of Portfolio Management 17(4), 1991; Rockafellar and Uryasev, Conditional value-at-risk for general
loss distributions, Journal of Banking & Finance 26(7), 2002.
"""
# Shapes: S = sessions, K = rebalance dates, n = assets.

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import inference
from tasks.numerics.configs import RISK_FREE, TRADING_DAYS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ZERO = 1e-12  # deviations below this are rounding of a constant
TAIL = 20  # VaR and CVaR look at the worst 1 in 20
ACTIVE = 0.005  # fraction of wealth from which on a position counts as active


def measures(
    daily_return: FloatArray,
    weights: FloatArray,
    turnover: FloatArray,
    cost: FloatArray,
    month: IntArray,
    risk_free: float | FloatArray = RISK_FREE / TRADING_DAYS,
) -> dict[str, float]:
    """All measures of one strategy by name; see the module for the formulas.

    `daily_return` (S,) fractions; `weights` (K, n) fractions of wealth at the rebalance dates; `turnover` and `cost`
    (K,) fractions of wealth, one a trade; `month` (S,) an integer that changes with the calendar month; `risk_free`
    the return of cash from the session before, one number or (S,). Raises ValueError for an empty record, a return
    that is no number, and a risk-free return that is missing for a session.
    """
    wrong = np.flatnonzero(~np.isfinite(daily_return))
    if not daily_return.size or wrong.size:
        fault = f"not a number at entry {wrong[0]}" if wrong.size else "empty"
        raise ValueError(f"daily_return is {fault}; measures need a finite return for each session of the record")
    if np.shape(risk_free) not in ((), daily_return.shape) or not np.isfinite(risk_free).all():
        raise ValueError(
            f"risk_free has shape {np.shape(risk_free)} and {np.sum(np.isfinite(risk_free))} finite values; "
            f"it must be one number, or {daily_return.shape}, one for each session of the record"
        )
    wealth = np.cumprod(1.0 + daily_return)
    with np.errstate(over="ignore"):
        found = {
            **_growth(daily_return, wealth, risk_free),
            **_under_water(wealth),
            **_shape(daily_return),
            **_steadiness(daily_return, wealth, month),
            "turnover": turnover.sum() * TRADING_DAYS / daily_return.size,
            "costs": cost.sum() * TRADING_DAYS / daily_return.size,
            **_concentration(weights),
            **_sureness(daily_return - risk_free),
        }
    found["calmar"] = _ratio(found["annual_return"], found["max_drawdown"])
    return {name: float(value) if np.isfinite(value) else np.nan for name, value in found.items()}


def drawdowns(wealth: FloatArray) -> FloatArray:
    """1 - W_t / max(1, W_1 .. W_t): (S,) positive fractions; the starting wealth, 1, is the first peak."""
    return 1.0 - wealth / np.maximum(np.maximum.accumulate(wealth), 1.0)


def _ratio(numerator: float, denominator: float) -> float:
    """The quotient, NaN where the denominator is zero to rounding."""
    return numerator / denominator if denominator > ZERO else np.nan


def _deviation(values: FloatArray) -> float:
    """Standard deviation with ddof 1, NaN for a single value."""
    return float(np.std(values, ddof=1)) if values.size > 1 else np.nan


def _growth(daily: FloatArray, wealth: FloatArray, risk_free: float | FloatArray) -> dict[str, float]:
    """Returns, volatility, and the two ratios of excess return to risk."""
    excess = daily - risk_free
    # The opening cost is one of the S returns, though no session passes with it.
    annual = np.sqrt(TRADING_DAYS)
    downside = np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2))
    return {
        "cumulative_return": wealth[-1] - 1.0,
        "annual_return": wealth[-1] ** (TRADING_DAYS / daily.size) - 1.0 if wealth[-1] >= 0 else np.nan,
        "annual_volatility": annual * _deviation(daily),
        "sharpe": _ratio(annual * excess.mean(), _deviation(excess)),
        "sortino": _ratio(annual * excess.mean(), downside),
    }


def _sureness(excess: FloatArray) -> dict[str, float]:
    """How sure the Sharpe ratio is: its sessions, annual errors, and the probability that the true one is above 0."""
    ratio, annual = inference.sharpe(excess), np.sqrt(TRADING_DAYS)
    moments = _moments(excess)
    error = inference.iid_error(ratio, excess.size, moments["skewness"], moments["kurtosis"])
    return {
        "sessions": excess.size,
        "sharpe_error": annual * inference.error(excess),
        "sharpe_error_iid": annual * error,
        "psr": inference.probabilistic(ratio, error),
    }


def _under_water(wealth: FloatArray) -> dict[str, float]:
    """Depth and length of the losses from earlier peaks; means are over all sessions.

    The worst year is the deepest fall within 252 returns. A drawdown lasts the sessions that close below its peak.
    """
    depth = drawdowns(wealth)
    # The starting wealth counts as a peak of the first 252 sessions, the zeros before it never.
    padded = np.concatenate((np.zeros(TRADING_DAYS - 1), [1.0], wealth))
    peaks = np.lib.stride_tricks.sliding_window_view(padded, TRADING_DAYS + 1).max(axis=1)
    recovered = np.flatnonzero(np.concatenate(([True], depth == 0, [True])))
    return {
        "max_drawdown": depth.max(),
        "worst_year_drawdown": (1.0 - wealth / np.maximum(peaks, ZERO)).max(),
        "longest_drawdown": np.diff(recovered).max() - 1,
        "average_drawdown": depth.mean(),
        "ulcer_index": np.sqrt(np.mean(depth**2)),
    }


def _shape(daily: FloatArray) -> dict[str, float]:
    """Tails and moments of the daily returns; kurtosis is raw (3 for a Gaussian), moments are uncorrected for bias.

    VaR = inf{x : P(loss <= x) >= 0.95}; CVaR = VaR + mean(max(loss - VaR, 0)) / 0.05, the mean of the worst 5 %.
    """
    var = -np.sort(daily)[daily.size // TAIL]
    return {
        "var_95": var,
        "cvar_95": var + TAIL * np.mean(np.maximum(-daily - var, 0.0)),
        **_moments(daily),
    }


def _moments(daily: FloatArray) -> dict[str, float]:
    """Skewness and raw kurtosis, NaN for a constant."""
    centred = daily - daily.mean()
    scale = np.sqrt(np.mean(centred**2))
    return {
        "skewness": np.mean((centred / scale) ** 3) if scale > ZERO else np.nan,
        "kurtosis": np.mean((centred / scale) ** 4) if scale > ZERO else np.nan,
    }


def _steadiness(daily: FloatArray, wealth: FloatArray, month: IntArray) -> dict[str, float]:
    """Shares of sessions and months with a gain, and R^2 of log wealth on time (three sessions at least)."""
    starts = np.flatnonzero(np.concatenate(([True], month[1:] != month[:-1])))
    stability = np.nan
    if daily.size > 2 and wealth.min() > 0 and np.log(wealth).std() > ZERO:
        stability = np.corrcoef(np.arange(daily.size), np.log(wealth))[0, 1] ** 2
    return {
        "hit_rate": np.mean(daily > 0),
        "positive_months": np.mean(np.multiply.reduceat(1.0 + daily, starts) > 1.0),
        "stability": stability,
    }


def _concentration(weights: FloatArray) -> dict[str, float]:
    """How few positions hold the portfolio, as means over the rebalance dates that hold any.

    With p = |w| / sum|w|: HHI = 10,000 sum p^2, effective positions = 10,000 / mean HHI, top 10 = the ten largest p.
    Active positions are those above 0.5 % of wealth.
    """
    held = weights[np.abs(weights).sum(axis=1) > 0]
    if not held.size:
        return {"hhi": np.nan, "effective_positions": np.nan, "top10": np.nan, "active_positions": 0.0}
    found = {name: float(values.mean()) for name, values in concentration(held).items()}
    return {"hhi": 1e4 * found["hhi"], "effective_positions": 1.0 / found["hhi"]} | {
        name: found[name] for name in ("top10", "active_positions")
    }


def concentration(weights: FloatArray) -> dict[str, FloatArray]:
    """HHI, as a fraction, share of the ten largest, and active positions at each date of `weights` (K, n): each (K,).

    Every date must hold something.
    """
    held = np.abs(weights)
    shares = held / held.sum(axis=1, keepdims=True)
    return {
        "hhi": np.sum(shares**2, axis=1),
        "top10": np.sort(shares, axis=1)[:, -10:].sum(axis=1),
        "active_positions": np.sum(held > ACTIVE, axis=1).astype(float),
    }
