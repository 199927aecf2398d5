"""A portfolio in tranches: parts of equal size that follow one strategy, each traded on days of its own.

On every day t on which a part trades, the whole is told to hold the mean of what its k parts hold at that close: of a
part that trades its new weights, of any other what its last weights w_j, of the day s_j < t, have become since.

    w*(t) = 1/k sum_j drift(w_j, s_j -> t)

It begins on the day by which every part has traded. Trades of the parts are netted in it, and only what is left of them
costs.

References: Jegadeesh and Titman, Returns to Buying Winners and Selling Losers, Journal of Finance 48(1), 1993, on
portfolios that overlap; Hoffstein, Sibears and Faber, Rebalance Timing Luck, Journal of Index Investing 10(1), 2019.
"""
# Shapes: S = sessions, n = assets, k = parts, K_j = trades of part j, K = trades of the whole.

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import accounting
from tasks.numerics.configs import AccountingConfig

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def whole(
    days: Sequence[IntArray],
    targets: Sequence[FloatArray],
    returns: FloatArray,
    config: AccountingConfig,
    delisted: IntArray,
    risk_free: FloatArray | None = None,
) -> tuple[IntArray, FloatArray]:
    """When the whole trades, sessions (K,), and the weights that it is told to hold then, (K, n).

    `days` and `targets` are those of each part, (K_j,) ascending sessions and (K_j, n) fractions of wealth; the rest as
    in `accounting.simulate`. Of one part the whole is that part, to the bit. Raises ValueError without any, and for a
    part that never trades.
    """
    if not days or not all(own.size for own in days):
        counts = [own.size for own in days]
        raise ValueError(f"{len(days)} tranches trade {counts} times; give at least one, and each of them a day")
    when = np.unique(np.concatenate(days))
    when = when[when >= max(own[0] for own in days)]
    held = np.zeros((when.size, returns.shape[1]))
    for own, weights in zip(days, targets, strict=True):
        newest = np.searchsorted(own, when, side="right") - 1
        for place, trade in enumerate(newest):
            since = slice(own[trade] + 1, when[place] + 1)
            now = weights[trade]
            if since.start < since.stop:
                cash = None if risk_free is None else risk_free[since]
                now = accounting.drift(now, returns[since], config, delisted - since.start, cash)
            held[place] += now
    return when, held / len(days)
