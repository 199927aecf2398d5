"""From weights to whole shares.

    target_i = trunc(w_i (W - R) / price_i),    order_i = target_i - held_i,    R = c / (1 - c) sum_i |w_i W - h_i|

with W the account's value, h the value of what is held, and c the cost of a side. The orders cost at most R plus
what truncation leaves over, so with w >= 0 and sum w <= 1 what is bought never costs more than there is.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Orders(NamedTuple):
    """What to trade, and the cash that is left."""

    target: FloatArray  # (n,) shares to hold
    order: FloatArray  # (n,) shares to buy, negative: to sell
    cost: FloatArray  # (n,) in currency
    cash: float  # in currency, after all orders and their costs


def whole_shares(weights: FloatArray, price: FloatArray, held: FloatArray, cash: float, cost: float) -> Orders:
    """Orders that move `held` shares (n,) and `cash` to `weights` (n,) of the account's value.

    `price` (n,) in currency a share, `cost` a fraction of each order's value. Raises ValueError where a price is
    missing or not positive, or the account is worth nothing.
    """
    wrong = np.flatnonzero(~(price > 0) | ~np.isfinite(price))
    if wrong.size:
        raise ValueError(f"price is {price[wrong[0]]} at place {wrong[0]}; every asset held or wanted needs one")
    wealth = float(held @ price) + cash
    if not wealth > 0:
        raise ValueError(f"the account is worth {wealth}; it must be worth more than 0")
    reserve = cost / (1 - cost) * float(np.abs(weights * wealth - held * price).sum())
    target = np.trunc(weights * max(wealth - reserve, 0.0) / price)
    order = target - held
    charged = cost * np.abs(order) * price
    return Orders(target, order, charged, cash - float(order @ price) - float(charged.sum()))
