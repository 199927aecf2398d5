"""Where a strategy's return and risk came from, asset by asset.

An account's record is opened again as a ledger: with h the holdings at the close before, in units of the wealth that
the account opened with, session t changes its wealth by

    W_t - W_{t-1} = sum_i (gain_it - cost_it) + interest_t,    gain_it = h_{i,t-1} R_it

the cost of asset i being that of its trades, of its delisting, and the fee of its short holding; what a delisting's
haircut takes is a loss. The interest is cash's: what it earns, what debt pays, and what creditors lose where an
account is closed.

**Return.** In units of the opening wealth the changes add up without any linking: sum_t over them is W_T - 1, the
cumulative return after costs. A session's return so counts by the wealth that it was earned on: linked by the growth
before it.

**Risk.** With c_it = (gain_it - cost_it) / W_{t-1} and c_0t the same of interest, r_t = sum_i c_it, and

    share of the variance = cov(c_i, r) / var(r),    which sum to 1

It is negative for what hedged the rest. Source: Menchero and Davis, Risk contribution is exposure times volatility
times correlation, Journal of Portfolio Management 37(2), 2011.
"""
# Shapes: S = sessions, T = those from the first trade on, n = assets, K = trades.

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics.accounting import Account
from tasks.numerics.configs import TRADING_DAYS, AccountingConfig
from tasks.numerics.metrics import ZERO

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Ledger(NamedTuple):
    """An account session by session, in units of the wealth it opened with."""

    before: FloatArray  # (T,) wealth at the close before, 1 at first
    held: FloatArray  # (T, n) value of each holding at each close, after the trades of that close
    cash: FloatArray  # (T,) beside them
    gains: FloatArray  # (T, n) before costs
    costs: FloatArray  # (T, n)
    interest: FloatArray  # (T,)


class Contributions(NamedTuple):
    """Parts of an account's return and variance: (n + 1,) each, cash last."""

    returns: FloatArray  # before costs
    costs: FloatArray  # not positive; with `returns` they sum to the cumulative return
    risk: FloatArray  # shares of the variance, with sum 1; NaN where there is none
    weight: FloatArray  # mean over the closes


def ledger(
    account: Account,
    returns: FloatArray,
    when: IntArray,
    config: AccountingConfig | Sequence[AccountingConfig],
    delisted: IntArray,
) -> Ledger:
    """The ledger of what `accounting.simulate` made of the same `returns` (S, n), `when`, `config` and `delisted`."""
    configs = [config] * when.size if isinstance(config, AccountingConfig) else config
    first, wealth = int(when[0]), account.wealth
    moves = np.nan_to_num(returns[first:])
    held, costs, losses = (np.zeros(moves.shape) for _ in range(3))
    ends = [*(when[1:] - first), len(moves) - 1]
    for k, (start, stop) in enumerate(zip(when - first, ends, strict=True)):
        whole = wealth[start] / (1 - account.costs[k].sum())  # before the trade
        if whole > 0:
            after = (held[start] / whole + account.trades[k]) * wealth[start]
            held[start] = np.where(account.untraded[k], held[start], after)
            costs[start] += account.costs[k] * whole
        later = slice(start + 1, stop + 1)
        held[later] = held[start] * np.cumprod(1 + moves[later], axis=0)
        for i in np.flatnonzero((delisted - first > start) & (delisted - first <= stop) & (account.sold != 0)):
            day = delisted[i] - first
            value = held[day, i]
            costs[day, i] += account.sale_costs[i] * value / -account.sold[i]
            losses[day, i] = configs[k].delisting_haircut * max(value, 0.0)
            held[day : stop + 1, i] = 0.0
        held[later][wealth[later] <= 0] = 0.0
        costs[later] += configs[k].short_rate / TRADING_DAYS * np.maximum(-held[start:stop], 0.0)
    before = np.append(1.0, wealth[:-1])
    gains = -losses
    gains[1:] += held[:-1] * moves[1:]
    interest = wealth - before - (gains - costs).sum(axis=1)
    return Ledger(before, held, wealth - held.sum(axis=1), gains, costs, interest)


def contributions(book: Ledger) -> Contributions:
    """What each asset and cash did for the return and the variance of an account."""
    parts = np.column_stack([book.gains - book.costs, book.interest])
    opened = book.before > 0
    daily = np.divide(parts, book.before[:, None], out=np.zeros_like(parts), where=opened[:, None])
    total = daily.sum(axis=1)
    centred = total - total.mean()
    variance = centred @ centred
    risk = (daily - daily.mean(axis=0)).T @ centred / variance if total.std() > ZERO else np.full(len(parts.T), np.nan)
    wealth = book.held.sum(axis=1) + book.cash
    values = np.column_stack([book.held, book.cash])
    weight = np.divide(values, wealth[:, None], out=np.zeros_like(values), where=wealth[:, None] > 0).mean(axis=0)
    return Contributions(
        np.append(book.gains.sum(axis=0), book.interest.sum()), np.append(-book.costs.sum(axis=0), 0.0), risk, weight
    )
