"""What portfolios that learn are measured against: constant mixes, buy and hold, and the best of them in hindsight.

With x_t = 1 + R_t the price relatives of n assets over T periods, and weights b on the simplex,

    constant mix      W_T(b) = prod_t b'x_t          rebalanced to b before every period
    buy and hold      W_T(b) = sum_i b_i prod_t x_ti
    best constant mix b* = argmax_b ln W_T(b)

ln W_T is concave, so that any b is certified by its gradient: ln W* - ln W(b) <= T ln max_i mean_t(x_ti / b'x_t). The
regret of a strategy is ln of the best in hindsight's wealth less ln of its own.

Reference: Cover, Universal portfolios, Mathematical Finance 1(1), 1991.
"""
# Shapes: T = periods, n = assets.

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]

CERTAIN = 1e-9  # of the logarithm of wealth: how far below the best a mix may be
_ROUNDS = 100
_HELD = 1e-9  # smaller weights are rounding


def constant_mix(returns: FloatArray, weights: FloatArray) -> float:
    """Wealth, from 1 on, of weights (n,) restored before each of the simple returns (T, n)."""
    return float(np.exp(np.log(_relatives(returns) @ weights).sum()))


def buy_and_hold(returns: FloatArray, weights: FloatArray) -> float:
    """Wealth, from 1 on, of weights (n,) bought once and left alone."""
    return float(np.exp(np.log(_relatives(returns)).sum(axis=0)) @ weights)


def best_constant_mix(returns: FloatArray) -> FloatArray:
    """The weights (n,) on the simplex whose constant mix ends with the most wealth, within 1e-9 of its logarithm.

    `returns` is (T, n), each above -1. ValueError where one is not, or where the search ends short of its certificate.
    """
    x = _relatives(returns)
    weights = _searched(x)
    for _ in range(_ROUNDS):
        if _shortfall(x, weights) <= CERTAIN:
            return weights
        weights = _stepped(x, weights)
    raise ValueError(
        f"the best constant mix of {x.shape[1]} assets is uncertain by {_shortfall(x, weights):.1e} of its log wealth; "
        "check the returns for assets that hardly differ"
    )


def _searched(x: FloatArray) -> FloatArray:
    """A search from equal weights by SLSQP, which ends close to the best."""
    n = x.shape[1]
    found = minimize(
        lambda b: -np.log(x @ b).mean(),
        np.full(n, 1 / n),
        jac=lambda b: -_gains(x, b),
        method="SLSQP",
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda b: b.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 200},
    )
    weights = np.where(found.x > _HELD, found.x, 0)
    return weights / weights.sum()


def _stepped(x: FloatArray, weights: FloatArray) -> FloatArray:
    """One Newton step among the assets that are held or would gain, as far as no weight turns negative."""
    gains = _gains(x, weights)
    used = np.flatnonzero((weights > 0) | (gains > 1 + _HELD))
    scaled = x[:, used] / (x @ weights)[:, None]
    ones = np.ones((used.size, 1))
    system = np.block([[scaled.T @ scaled / len(x), ones], [ones.T, np.zeros((1, 1))]])
    step = np.linalg.lstsq(system, np.append(gains[used] - 1, 0), rcond=None)[0][:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step < 0, -weights[used] / step, np.inf)
    after = weights.copy()
    after[used] = np.maximum(weights[used] + min(1.0, room.min()) * step, 0)
    after[used[room <= min(1.0, room.min())]] = 0
    return after / after.sum()


def _relatives(returns: FloatArray) -> FloatArray:
    """1 + R; ValueError where that is not positive."""
    x = 1 + np.asarray(returns, np.float64)
    if not (x > 0).all():
        row, asset = np.argwhere(~(x > 0))[0]
        raise ValueError(f"returns is {returns[row, asset]} in row {row}, column {asset}; it must be above -1")
    return x


def _gains(x: FloatArray, weights: FloatArray) -> FloatArray:
    """Gradient of the mean log growth: mean_t(x_ti / b'x_t), at most 1 at the best mix."""
    return (1 / (x @ weights)) @ x / len(x)


def _shortfall(x: FloatArray, weights: FloatArray) -> float:
    """Bound on how much log wealth the weights lack."""
    return float(len(x) * np.log(_gains(x, weights).max()))
