"""What a session does to an account: interest and returns, the sale of what is delisted, a trade at a flat cost.

The formulas are those of `tasks.numerics.accounting`, of which these are the compiled steps.
"""
# Shapes: n = assets. Money is in units of the wealth that the account opens with.

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.execution import scale_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Columns of the rates; k, capital and participation, 0 where costs are flat, belong together.
COST, HAIRCUT, LENT, BORROWED, SHORT, SCALE, CAPITAL, PARTICIPATION = range(8)


@njit(cache=True)
def accrue(held: FloatArray, cash: float, returns: FloatArray, rates: FloatArray, added: float) -> tuple[float, float]:
    """One session without a trade: `held` (n,) moves in place; gives (cash, wealth), all zero once ruined."""
    cash *= 1.0 + (rates[LENT if cash > 0 else BORROWED] + added)
    for i in range(held.size):
        if held[i] < 0:
            cash += rates[SHORT] * held[i]
        # An asset not held may lack a return.
        if held[i] != 0:
            held[i] *= 1.0 + returns[i]
    return _worth(held, cash)


@njit(cache=True)
def _worth(held: FloatArray, cash: float) -> tuple[float, float]:
    """Cash and wealth; all zero, `held` too, where the wealth is not above zero."""
    # In the order of the assets: a sum in blocks would change bits with the array's layout.
    wealth = cash
    for i in range(held.size):
        wealth += held[i]
    if wealth <= 0:
        held[:] = 0.0
        return 0.0, 0.0
    return cash, wealth


@njit(cache=True)
def sell(
    held: FloatArray,
    cash: float,
    wealth: float,
    leaving: BoolArray,
    rates: FloatArray,
    sold: FloatArray,
    costs: FloatArray,
) -> tuple[float, float]:
    """Holdings in assets that are `leaving` (n,) become cash; `sold` and `costs` say what; gives (cash, wealth)."""
    for i in np.flatnonzero(leaving):
        if held[i] != 0:
            paid = held[i] * (1.0 - rates[HAIRCUT]) if held[i] > 0 else held[i]
            cost = rates[COST] * abs(paid)
            sold[i], costs[i] = -held[i] / wealth, cost / wealth
            cash += paid - cost
            held[i] = 0.0
    return _worth(held, cash)


@njit(cache=True)
def trade(
    held: FloatArray,
    wealth: float,
    target: FloatArray,
    tradable: BoolArray,
    rate: float,
    trades: FloatArray,
    costs: FloatArray,
) -> tuple[float, float]:
    """One trade: `held` becomes the holdings after it; `trades` and `costs` (n,) are filled; gives (cash, wealth)."""
    scale = scale_of(held, wealth, target, tradable)
    cost = 0.0
    for i in range(held.size):
        if tradable[i]:
            trades[i] = scale * target[i] - held[i] / wealth
            costs[i] = rate * abs(trades[i])
            cost += costs[i]
    after = wealth * (1.0 - cost)
    cash = after
    for i in range(held.size):
        if tradable[i]:
            held[i] = scale * target[i] * after
        cash -= held[i]
    return cash, after
