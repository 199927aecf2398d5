"""How much money a strategy can carry: its record after costs that grow with the account.

The same decisions are accounted at each capital with half the spread and the square root of each trade's part of the
volume as cost, and with no more than a part of the average volume a session (`impact`, `execution`). Small accounts
pay the spread; large ones move prices, trade late, and leave some of it undone.
"""
# Shapes: S = sessions, n = assets, K = trades, C = capitals.

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import accounting, inference
from tasks.numerics.configs import TRADING_DAYS, AccountingConfig
from tasks.numerics.execution import Liquidity

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CAPITALS = (1e5, 1e6, 1e7, 1e8, 1e9)


class Point(NamedTuple):
    """What one account came to; fractions of wealth a year, the ratio NaN where it is undefined."""

    capital: float
    sharpe: float
    annual_return: float
    costs: float
    turnover: float
    late: float  # turnover that was done at later sessions than its rebalance date's
    undone: float  # turnover that was decided and never done


def curve(
    returns: FloatArray,
    tradable: BoolArray,
    when: IntArray,
    targets: FloatArray,
    configs: Sequence[AccountingConfig],
    liquidity: Liquidity,
    delisted: IntArray | None = None,
    risk_free: FloatArray | None = None,
    capitals: Sequence[float] = CAPITALS,
) -> list[Point]:
    """A point for each capital; arrays as in `accounting.simulate`, whose errors these are.

    `configs` (K,) say what else trading and holding cost; their kind of costs and their capital do not count.
    """
    cash = configs[-1].cash_rate / TRADING_DAYS if risk_free is None else risk_free[when[0] :]
    found = []
    for capital in capitals:
        sized = [replace(config, costs="impact", capital=capital) for config in configs]
        account = accounting.simulate(returns, tradable, when, targets, sized, delisted, risk_free, liquidity)
        growth, years = account.wealth[-1], account.wealth.size / TRADING_DAYS
        found.append(
            Point(
                capital,
                float(np.sqrt(TRADING_DAYS)) * inference.sharpe(account.daily_return - cash),
                float(growth ** (1 / years) - 1.0),
                float(account.costs.sum() + account.sale_costs.sum()) / years,
                float(account.turnover.sum() + np.abs(account.sold).sum() / 2) / years,
                float(np.abs(account.carried).sum()) / 2 / years,
                float(np.abs(account.undone).sum()) / 2 / years,
            )
        )
    return found


def falls_below(capitals: Sequence[float], own: Sequence[float], other: Sequence[float]) -> float | None:
    """The capital at which `own` (C,) first falls below `other` (C,), interpolated on the logarithm of capital.

    None where it never does: it stays above, or is below from the first capital on. A pair with a value that is no
    number tells nothing.
    """
    gap, size = np.subtract(own, other), np.log(np.asarray(capitals, float))
    known = np.isfinite(gap)
    gap, size = gap[known], size[known]
    falls = np.flatnonzero((gap[:-1] >= 0) & (gap[1:] < 0))
    if not falls.size:
        return None
    k = int(falls[0])
    part = gap[k] / (gap[k] - gap[k + 1])
    return float(np.exp(size[k] + part * (size[k + 1] - size[k])))
