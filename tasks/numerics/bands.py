"""How far apart accounts lie that differ by luck alone: by the day on which they trade, or by the seed of a network.

Accounts end on the same session, and later ones are shorter; they are compared over the sessions that all have, each
from wealth 1. The band is no interval of confidence: its edges are those of the accounts that there are.
"""
# Shapes: K = accounts, S = sessions that all have.

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Band(NamedTuple):
    """By session, (S,) each, the wealth of the accounts: of none of them all along, but for `divided`."""

    lowest: FloatArray
    median: FloatArray
    highest: FloatArray
    divided: FloatArray  # of money divided equally among the accounts at the start, and left there


def common(daily_returns: Sequence[FloatArray]) -> FloatArray:
    """The last returns of each account, as many as the shortest has: (K, S).

    Raises ValueError without an account, for one that is empty, and for a return that is no number.
    """
    shortest = min((own.size for own in daily_returns), default=0)
    if not shortest:
        raise ValueError(f"{len(daily_returns)} accounts are given, the shortest of 0 sessions; a band needs some")
    found = np.array([own[-shortest:] for own in daily_returns])
    if not np.isfinite(found).all():
        account, session = np.argwhere(~np.isfinite(found))[0].tolist()
        raise ValueError(f"account {account} has the return {found[account, session]}; returns must be numbers")
    return found


def band(daily_returns: Sequence[FloatArray]) -> Band:
    """The band of accounts by their daily returns after costs, which all end on the same session; see `common`."""
    wealth = np.cumprod(1.0 + common(daily_returns), axis=1)
    return Band(wealth.min(axis=0), np.median(wealth, axis=0), wealth.max(axis=0), wealth.mean(axis=0))
