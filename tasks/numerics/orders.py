"""From weights to shares, paid for with the account's own money.

    target_i = w_i (W - R) / price_i,    order_i = target_i - held_i,    R = sum_i cost(|w_i (W - R) - h_i|)

with W the account's value and h the value of what is held: R is what the orders themselves cost, a fixed point. Whole
shares are rounded towards zero, which frees more money than it costs, so that with w >= 0 and sum w <= 1 what is
bought never costs more than there is. What rounding does to the account is said by its tracking error,

    sqrt(252 (w' - w)' C (w' - w)),    C the covariance of daily returns, w' the weights of the rounded shares,

as a volatility a year of the difference between the two accounts' returns.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics.configs import TRADING_DAYS

FloatArray = NDArray[np.float64]
Charge = Callable[[FloatArray], FloatArray]  # cost of trades (n,), both in currency

_STEPS = 200  # of the fixed point; each leaves a part of the error that is the cost of one more unit traded


class Orders(NamedTuple):
    """What to trade, and the cash that is left."""

    target: FloatArray  # (n,) shares to hold
    order: FloatArray  # (n,) shares to buy, negative: to sell
    cost: FloatArray  # (n,) in currency
    cash: float  # in currency, after all orders and their costs
    weights: FloatArray  # (n,) of the account after all that


def flat(cost: float) -> Charge:
    """Orders that cost a fraction of their value."""
    return lambda values: cost * np.abs(values)


def in_shares(
    weights: FloatArray, price: FloatArray, held: FloatArray, cash: float, charge: Charge, whole: bool = True
) -> Orders:
    """Orders that move `held` shares (n,) and `cash` to `weights` (n,) of the account's value.

    `price` (n,) in currency a share; `whole` rounds to shares towards zero. Raises ValueError where a price is missing
    or not positive, the account is worth nothing, or the orders would cost all of it.
    """
    wrong = np.flatnonzero(~(price > 0) | ~np.isfinite(price))
    if wrong.size:
        raise ValueError(f"price is {price[wrong[0]]} at place {wrong[0]}; every asset held or wanted needs one")
    wealth = float(held @ price) + cash
    if not wealth > 0:
        raise ValueError(f"the account is worth {wealth}; it must be worth more than 0")
    target = weights * (wealth - _reserve(weights, held * price, wealth, charge)) / price
    if whole:
        target = np.trunc(target)
    order = target - held
    charged = charge(order * price)
    left = cash - float(order @ price) - float(charged.sum())
    left = 0.0 if abs(left) <= 1e-12 * wealth else left
    return Orders(target, order, charged, left, target * price / (wealth - charged.sum()))


def _reserve(weights: FloatArray, values: FloatArray, wealth: float, charge: Charge) -> float:
    """What the orders cost, themselves reduced by it."""
    reserve = 0.0
    for _ in range(_STEPS):
        before, reserve = reserve, float(charge(weights * (wealth - reserve) - values).sum())
        if not reserve < wealth:
            raise ValueError(f"the orders would cost {reserve:,.2f} of the {wealth:,.2f} that the account is worth")
        if abs(reserve - before) <= 1e-14 * wealth:
            break
    return reserve


def tracking_error(wanted: FloatArray, rounded: FloatArray, returns: FloatArray) -> float:
    """The annualised volatility by which weights `rounded` (n,) miss those `wanted`: see the module.

    `returns` (T, n) daily, T >= 2; a missing one counts as 0.
    """
    missed = np.nan_to_num(returns) @ (rounded - wanted)
    return float(np.sqrt(TRADING_DAYS) * missed.std(ddof=1))
