"""Trades in a market that gives only so much a session: what is done at a close, and what waits for the next.

A trade moves the holding h of an asset towards w* W. At one close it moves by at most the value that `participation`
of the asset's average session allows; the rest is carried over, as a number of shares, to the next closes at which
the asset has a bar, until it is done or the next rebalance date puts another in its place.

Sales come first. While some of them are carried over, purchases of a close are all cut by one factor, so that they
spend the cash that is there and what the sales of that close bring: an account that was to be without debt borrows
for no purchase, and one with leverage no more than was decided. Costs are paid from cash, on credit where there is
none. What remains to be bought when nothing remains to be sold and the money is spent lapses.

Where no limit binds, a trade at rates of cost c_i leaves the holdings w* (W - cost), as one at a flat cost does.
"""
# Shapes: S = sessions, n = assets. Money is in units of the wealth that the account opens with.

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics.impact import cost as cost_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Liquidity(NamedTuple):
    """How each asset trades at each session, by bars up to it; NaN where that is not known."""

    half_spread: FloatArray  # (S, n) as a fraction of the price
    volatility: FloatArray  # (S, n) standard deviation of a session's return
    volume: FloatArray  # (S, n) value traded in an average session, in the account's currency


class IlliquidError(ValueError):
    """A trade needs the liquidity of an asset at a session, and it is not known."""

    def __init__(self, asset: int, session: int) -> None:
        super().__init__(
            f"asset {asset} has no spread, volatility or volume at session {session}, where it may be traded; use "
            "costs = 'flat'"
        )
        self.asset, self.session = asset, session


@njit(cache=True)
def scale_of(held: FloatArray, wealth: float, target: FloatArray, tradable: BoolArray) -> float:
    """What the tradable part of the target is multiplied by: see `tasks.numerics.accounting` on frozen assets."""
    frozen, intended = 0.0, 0.0
    for i in range(held.size):
        if not tradable[i]:
            frozen += held[i] / wealth
            intended += target[i]
    if frozen <= intended:
        return 1.0
    if frozen >= 1:
        return 0.0
    return (1.0 - frozen) / (1.0 - intended)


@njit(cache=True)
def _allowed(wanted: FloatArray, volume: FloatArray, participation: float, capital: float) -> FloatArray:
    """The part of each wanted trade (n,) that one close takes, 1 where all of it."""
    part = np.ones(wanted.size)
    for i in range(wanted.size):
        if wanted[i] != 0:
            limit = participation * volume[i] / capital
            if not limit > 0:  # no volume, or none known
                part[i] = 0.0
            elif abs(wanted[i]) > limit:
                part[i] = limit / abs(wanted[i])
    return part


@njit(cache=True)
def _affordable(wanted: FloatArray, part: FloatArray, money: float) -> float:
    """What purchases are multiplied by, so that they spend `money` and what the sales bring, and no more."""
    bought, sold = 0.0, 0.0
    for i in range(wanted.size):
        if wanted[i] > 0:
            bought += part[i] * wanted[i]
        else:
            sold -= part[i] * wanted[i]
    if bought == 0 or bought <= money + sold:
        return 1.0
    return max(money + sold, 0.0) / bought


@njit(cache=True)
def begin(
    held: FloatArray,
    cash: float,
    wealth: float,
    target: FloatArray,
    tradable: BoolArray,
    market: FloatArray,
    terms: FloatArray,
    waiting: FloatArray,
    trades: FloatArray,
    costs: FloatArray,
) -> tuple[float, float, float]:
    """The close of a rebalance date: `held` moves in place; gives (cash, wealth, debt that was decided, a fraction).

    `market` (3, n) half-spreads, volatilities and volumes; `terms` (3,) k, capital and participation; `waiting`,
    `trades` and `costs` (n,) are filled.
    """
    scale, debt = scale_of(held, wealth, target, tradable), 1.0
    wanted = np.zeros(held.size)
    for i in range(held.size):
        if tradable[i]:
            wanted[i] = scale * target[i] * wealth - held[i]
            debt -= scale * target[i]
        else:
            debt -= held[i] / wealth
    debt = min(debt, 0.0)
    part = _allowed(wanted, market[2], terms[2], terms[1])
    if ((part < 1) & (wanted < 0)).any():
        cut = _affordable(wanted, part, cash - debt * wealth)
        for i in range(held.size):
            part[i] *= cut if wanted[i] > 0 else 1.0
    total = 0.0
    for i in range(held.size):
        value = part[i] * wanted[i]
        charged = cost_of(value * terms[1], market[0, i], market[1, i], market[2, i], terms[0]) / terms[1]
        trades[i], costs[i] = value / wealth, charged / wealth
        total += charged
    after = wealth - total
    cash = after
    for i in range(held.size):
        waiting[i] = 0.0
        if tradable[i]:
            move = scale * target[i] * after - held[i]
            if part[i] < 1:
                waiting[i] = (1.0 - part[i]) * move
                held[i] += part[i] * move
            else:
                held[i] = scale * target[i] * after
        cash -= held[i]
    return cash, after, debt


@njit(cache=True)
def go_on(
    held: FloatArray,
    cash: float,
    wealth: float,
    debt: float,
    tradable: BoolArray,
    market: FloatArray,
    terms: FloatArray,
    waiting: FloatArray,
    trades: FloatArray,
    carried: FloatArray,
    costs: FloatArray,
    lapsed: FloatArray,
) -> tuple[float, float]:
    """A later close: what is `waiting` trades as far as it may; gives (cash, wealth). As `begin` otherwise."""
    wanted = np.where(tradable, waiting, 0.0)
    part = _allowed(wanted, market[2], terms[2], terms[1])
    cut = _affordable(wanted, part, cash - debt * wealth)
    total, selling = 0.0, False
    for i in range(held.size):
        value = part[i] * (cut if wanted[i] > 0 else 1.0) * wanted[i]
        charged = cost_of(value * terms[1], market[0, i], market[1, i], market[2, i], terms[0]) / terms[1]
        trades[i] += value / wealth
        carried[i] += value / wealth
        costs[i] += charged / wealth
        held[i] += value
        waiting[i] = 0.0 if value == waiting[i] else waiting[i] - value
        selling = selling or waiting[i] < 0
        cash -= value + charged
        total += charged
    if cut < 1 and not selling:
        for i in range(held.size):
            lapsed[i] += waiting[i] / wealth
            waiting[i] = 0.0
    return cash, wealth - total
