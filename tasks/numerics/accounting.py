"""What one strategy's account is worth, session by session, after drift, interest, costs and trades.

With h the holdings drifted to the close of a trade, cash beside them, W = sum h + cash, and target weights w*:

    trade = w* W - h,    cost = c sum|trade|,    holdings after = w* (W - cost),    turnover = sum|trade| / (2 W)

and cash takes the rest. In each session between, from the values at the close before it,

    h <- h (1 + R),    cash <- cash (1 + rate / 252) - (short_rate / 252) sum max(-h, 0)

with rate = cash_rate for positive cash and cash_rate + borrow_spread for negative cash. Where a series of risk-free
returns f is given, f takes the place of cash_rate / 252 on its session.

An asset without a bar on the session of a trade keeps its holding. Where these frozen assets hold no more than the
target gives them, the others get their target weights and the money meant for the frozen ones waits in cash: no
position is made larger than decided. Where they hold more, the others and cash are scaled to what is left, by
(1 - frozen) / (1 - intended), and sold when nothing is left. The frozen part's share of the cost is taken from
cash, on credit where there is none.

A delisted asset leaves at the close of the session from which it counts as delisted, before any trade of that close:
a holding h > 0 is sold for h (1 - haircut), a short one is bought back for its full value, since a haircut is the
holder's loss and nobody's gain, and either costs c times what is paid. Cash takes it, and from then on the asset's
target is 0, what it was meant to have stays in cash, and it is no longer counted as untraded.

That is `costs = "flat"`. With `costs = "impact"` each trade costs what its size and its asset's liquidity say, and what
a session's volume does not take is carried over to the next ones: `tasks.numerics.impact` and
`tasks.numerics.execution`. Delistings cost c either way.

An account whose wealth falls to zero or below is closed: it stays at zero and trades no more.

Source: Boyd et al., Multi-Period Trading via Convex Optimization, Foundations and Trends in Optimization 3(1), 2017,
sections 2.1-2.5 (holdings, trades, costs of trading and holding, self-financing).
"""
# Shapes: S = sessions, n = assets, K = trades. Money is in units of the wealth the account opens with.

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.numerics import execution, holding
from tasks.numerics.configs import TRADING_DAYS, AccountingConfig
from tasks.numerics.execution import IlliquidError, Liquidity

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Account(NamedTuple):
    """The record of one account, from the session of its first trade on."""

    wealth: FloatArray  # (S - when[0],) at each close, after the trades of that close
    daily_return: FloatArray  # (S - when[0],) the first is minus the cost of the first purchase
    trades: FloatArray  # (K, n) signed fractions of the wealth W just before the trade, until the next one's session
    costs: FloatArray  # (K, n) fractions of the same W
    turnover: FloatArray  # (K,) half the sum of absolute trades
    untraded: BoolArray  # (K, n) assets without a bar on the trade's session, delisted ones aside
    unmet: BoolArray  # (K, n) targets on assets that were delisted by then: they stay in cash
    sold: FloatArray  # (n,) what an asset's delisting took off, at its last price: minus a fraction of the W before
    sale_costs: FloatArray  # (n,) fractions of the same W
    carried: FloatArray  # (K, n) the part of `trades` done at later sessions than the trade's own
    undone: FloatArray  # (K, n) what was never traded of what the session's volume or the money did not allow


def simulate(
    returns: FloatArray,
    tradable: BoolArray,
    when: IntArray,
    targets: FloatArray,
    config: AccountingConfig | Sequence[AccountingConfig],
    delisted: IntArray | None = None,
    risk_free: FloatArray | None = None,
    liquidity: Liquidity | None = None,
) -> Account:
    """The account that opens with wealth 1 in cash at the close of session when[0] and follows `targets`.

    `returns` (S, n) simple returns as fractions, NaN where an asset is not held; `tradable` (S, n) whether it has a
    bar; `when` (K,) increasing sessions of the trades' closes, lag already applied; `targets` (K, n) fractions of
    wealth, cash the rest; `config` one for all, or one for each trade that holds until the next, the delistings of
    that close included; `delisted` (n,) session from which each asset counts as delisted, S or more where it never
    does; `risk_free` (S,) simple return of cash from the session before, in place of the configs' cash_rate;
    `liquidity` for configs whose costs are "impact". Extending `returns` leaves earlier entries as they were, to the
    last bit, but for the last trade's while some of it is carried over.

    Raises ValueError for shapes that do not fit, sessions out of order, a target or a risk-free return that is no
    number, an asset that is held on a session on which it has no return, and one without the liquidity that a trade
    needs.
    """
    _check(returns, tradable, when, targets)
    _check_sessions(when, len(returns))
    configs = [config] * when.size if isinstance(config, AccountingConfig) else config
    if len(configs) != when.size:
        raise ValueError(f"{len(configs)} configs were given for {when.size} trades; give one, or one for each trade")
    ends = _ends(delisted, returns)
    gone = when[:, None] >= ends
    wanted = np.where(gone, 0.0, targets)
    wealth, trades, costs, sold, sale_costs, carried, undone = _run(
        np.ascontiguousarray(returns, np.float64),
        np.ascontiguousarray(tradable, np.bool_),
        np.ascontiguousarray(when, np.int64),
        np.ascontiguousarray(wanted),
        np.array([_rates(entry, risk_free) for entry in configs]),
        ends,
        _added(risk_free, len(returns), int(when[0]) + 1),
        _market(liquidity, tradable, when, wanted, configs),
    )
    _require_returns(wealth, returns, int(when[0]))
    before = np.concatenate(([1.0], wealth[:-1]))
    # A closed account has 0 / 0 here; its return is 0.
    daily = np.divide(wealth - before, before, out=np.zeros_like(wealth), where=before > 0)
    skipped = ~tradable[when] & ~gone, gone & (targets != 0)
    return Account(wealth, daily, trades, costs, _half_sums(trades), *skipped, sold, sale_costs, carried, undone)


def drift(
    weights: FloatArray,
    returns: FloatArray,
    config: AccountingConfig,
    delisted: IntArray | None = None,
    risk_free: FloatArray | None = None,
) -> FloatArray:
    """The fractions of wealth that `weights` become after t sessions without a trade: (n,), cash the rest.

    `weights` (n,) fractions of wealth; `returns` (t, n) simple returns of the sessions after the weights' close;
    `delisted` (n,) row of `returns` from which each asset counts as delisted, t or more where it does not, negative
    where it did so by the weights' close: such a weight is cash; `risk_free` (t,) in place of the config's cash_rate.
    Interest, short fees and delistings are as in `simulate`. Raises ValueError as that does.
    """
    ends = _ends(delisted, returns)
    held = np.where(ends < 0, 0.0, weights)
    wealth = _hold(
        held,
        1.0 - math.fsum(held),  # exact, so that assets without weight change no bit of it
        np.ascontiguousarray(returns, np.float64),
        np.array(_rates(config, risk_free)),
        ends,
        _added(risk_free, len(returns), 0),
    )
    if np.isnan(wealth):
        there = (np.asarray(weights) != 0) & (np.arange(len(returns))[:, None] <= ends)
        gaps = np.argwhere(np.isnan(returns) & there)
        raise ValueError(f"no return for a held asset at (session, asset) {gaps[0].tolist()}; use 0 where it is halted")
    return held / wealth if wealth > 0 else np.zeros_like(held)


def _check(returns: FloatArray, tradable: BoolArray, when: IntArray, targets: FloatArray) -> None:
    """Raise ValueError for shapes that do not fit and targets that are no numbers."""
    if returns.shape != tradable.shape or targets.shape != (when.size, returns.shape[1]):
        raise ValueError(
            f"returns {returns.shape}, tradable {tradable.shape}, when {when.shape} and targets {targets.shape} do not "
            "fit; they must be (S, n), (S, n), (K,) and (K, n)"
        )
    wrong = np.argwhere(~np.isfinite(targets))
    if wrong.size:
        raise ValueError(
            f"target {wrong[0].tolist()} is {targets[tuple(wrong[0])]}; weights must be numbers: use 0 for none"
        )


def _check_sessions(when: IntArray, count: int) -> None:
    """Raise ValueError where the trades are not at increasing sessions of the record."""
    if not when.size or when[0] < 0 or when[-1] >= count or (np.diff(when) <= 0).any():
        raise ValueError(f"when is {when.tolist()}; it must hold increasing sessions from 0 to {count - 1}")


def _require_returns(wealth: FloatArray, returns: FloatArray, first: int) -> None:
    """Raise ValueError where a missing return of a held asset made the wealth unknown."""
    unknown = np.flatnonzero(np.isnan(wealth))
    if unknown.size:
        session = first + int(unknown[0])
        assets = np.flatnonzero(np.isnan(returns[session])).tolist()
        raise ValueError(
            f"a held asset has no return on session {session}, one of {assets}; use 0 where an asset is halted"
        )


def _ends(delisted: IntArray | None, returns: FloatArray) -> IntArray:
    """The session from which each asset counts as delisted, (n,); ValueError where there is not one for each."""
    count, n = returns.shape
    if delisted is None:
        return np.full(n, count, np.int64)
    if np.shape(delisted) != (n,):
        raise ValueError(f"delisted has shape {np.shape(delisted)}; it must be ({n},), a session for each asset")
    return np.ascontiguousarray(delisted, np.int64)


def _added(risk_free: FloatArray | None, count: int, first: int) -> FloatArray:
    """What each session adds to the rates of `_rates`, (count,); ValueError where one is missing from `first` on."""
    if risk_free is None:
        return np.zeros(count)
    if np.shape(risk_free) != (count,):
        raise ValueError(f"risk_free has shape {np.shape(risk_free)}; it must be ({count},), a return for each session")
    unknown = np.flatnonzero(~np.isfinite(risk_free[first:]))
    if unknown.size:
        place = first + int(unknown[0])
        raise ValueError(f"risk_free is {risk_free[place]} on session {place}; cash needs a return on each session")
    return np.ascontiguousarray(risk_free, np.float64)


def _market(
    liquidity: Liquidity | None,
    tradable: BoolArray,
    when: IntArray,
    targets: FloatArray,
    configs: Sequence[AccountingConfig],
) -> FloatArray:
    """Half-spreads, volatilities and volumes by session, (S, 3, n); empty where all costs are flat.

    IlliquidError where there is none of what a trade may need at its session: of assets with a target then or before.
    """
    sized = np.array([config.costs == "impact" for config in configs])
    if not sized.any():
        return np.empty((0, 3, 0))
    if liquidity is None or any(part.shape != tradable.shape for part in liquidity):
        raise ValueError(f"costs are 'impact'; liquidity must be given, its arrays {tradable.shape} like returns")
    market = np.stack(liquidity, axis=1)
    touched = (targets != 0) | (np.vstack([np.zeros_like(targets[:1]), targets[:-1]]) != 0)
    unknown = ~np.isfinite(market[when]).all(axis=1) & touched & tradable[when] & sized[:, None]
    if unknown.any():
        trade, asset = np.argwhere(unknown)[0].tolist()
        raise IlliquidError(asset, int(when[trade]))
    return np.ascontiguousarray(market)


def _rates(config: AccountingConfig, risk_free: FloatArray | None) -> tuple[float, ...]:
    """Cost and haircut, and rates a session: earned by cash, paid on debt and on shorts; a series adds to the two."""
    lent = config.cash_rate if risk_free is None else 0.0
    annual = lent, lent + config.borrow_spread, config.short_rate
    sized = (config.impact, config.capital, config.max_participation) if config.costs == "impact" else (0.0, 0.0, 0.0)
    return config.cost, config.delisting_haircut, *(rate / TRADING_DAYS for rate in annual), *sized


@njit(cache=True)
def _half_sums(trades: FloatArray) -> FloatArray:
    """Turnover of each trade, (K,), summed in the order of the assets."""
    halves = np.zeros(trades.shape[0])
    for k in range(trades.shape[0]):
        for i in range(trades.shape[1]):
            halves[k] += 0.5 * abs(trades[k, i])
    return halves


@njit(cache=True)
def _hold(
    held: FloatArray, cash: float, returns: FloatArray, rates: FloatArray, ends: IntArray, added: FloatArray
) -> float:
    """All sessions of `returns` (t, n) without a trade: `held` moves in place; gives the wealth."""
    sold, costs = np.zeros(held.size), np.zeros(held.size)
    wealth = cash
    for i in range(held.size):
        wealth += held[i]
    for t in range(returns.shape[0]):
        cash, wealth = holding.accrue(held, cash, returns[t], rates, added[t])
        cash, wealth = holding.sell(held, cash, wealth, ends == t, rates, sold, costs)
    return wealth


@njit(cache=True)
def _run(
    returns: FloatArray,
    tradable: BoolArray,
    when: IntArray,
    targets: FloatArray,
    rates: FloatArray,
    ends: IntArray,
    added: FloatArray,
    market: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """The loop of `simulate`: wealth (S - when[0],), trades and costs (K, n), sales and costs of delistings (n,).

    Then what was carried over and what was left undone (K, n). `rates` (K, 8) of each trade and the sessions after
    it; `added` (S,) to those of cash and debt; `market` (S, 3, n), empty where all costs are flat.
    """
    count, n = returns.shape
    wealth = np.empty(count - when[0])
    trades, costs = np.zeros(targets.shape), np.zeros(targets.shape)
    carried, undone = np.zeros(targets.shape), np.zeros(targets.shape)
    sold, sale_costs = np.zeros(n), np.zeros(n)
    held, cash, worth, k = np.zeros(n), 1.0, 1.0, 0
    waiting, debt, is_waiting = np.zeros(n), 0.0, False
    for t in range(when[0], count):
        if t > when[0]:
            cash, worth = holding.accrue(held, cash, returns[t], rates[k - 1], added[t])
            cash, worth = holding.sell(held, cash, worth, ends == t, rates[k - 1], sold, sale_costs)
            if is_waiting:
                is_waiting = _keep_waiting(waiting, returns[t], ends == t, worth)
        if k < when.size and when[k] == t:
            if is_waiting:
                undone[k - 1] += waiting / worth
                is_waiting = False
            if worth > 0 and rates[k, holding.PARTICIPATION] > 0:
                cash, worth, debt = execution.begin(
                    held,
                    cash,
                    worth,
                    targets[k],
                    tradable[t],
                    market[t],
                    rates[k, holding.SCALE :],
                    waiting,
                    trades[k],
                    costs[k],
                )
                is_waiting = (waiting != 0).any()
            elif worth > 0:
                cash, worth = holding.trade(
                    held, worth, targets[k], tradable[t], rates[k, holding.COST], trades[k], costs[k]
                )
            k += 1
        elif is_waiting:
            cash, worth = execution.go_on(
                held,
                cash,
                worth,
                debt,
                tradable[t],
                market[t],
                rates[k - 1, holding.SCALE :],
                waiting,
                trades[k - 1],
                carried[k - 1],
                costs[k - 1],
                undone[k - 1],
            )
            is_waiting = (waiting != 0).any()
        if worth < 0:  # the costs of a size that nobody should trade
            held[:], cash, worth, is_waiting = 0.0, 0.0, 0.0, False
        wealth[t - when[0]] = worth
    if is_waiting and worth > 0:
        undone[k - 1] += waiting / worth
    return wealth, trades, costs, sold, sale_costs, carried, undone


@njit(cache=True)
def _keep_waiting(waiting: FloatArray, returns: FloatArray, leaving: BoolArray, wealth: float) -> bool:
    """Orders of shares are worth what the shares are; those in a delisted asset, or of a ruined account, are void."""
    for i in range(waiting.size):
        if leaving[i] or wealth <= 0:
            waiting[i] = 0.0
        elif waiting[i] != 0:
            waiting[i] *= 1.0 + returns[i]
    return (waiting != 0).any()
