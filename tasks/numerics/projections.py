"""Nearest portfolios: one proximal step on every feasible set, with prices on trading and on absolute weight.

    w = argmin 1/2 |w - y|^2 + turnover sum_i |w_i - c_i| + l1 sum_i |w_i|
        subject to  w_i = 0 where the mask is False,  w_i >= -short_each,  sum_i max(-w_i, 0) <= short_total,
                    sum_i |w_i| <= gross,  and, where `invested`, sum_i w_i = 1

y is the point, c the previous weights. With the multipliers theta of sum w, psi of the gross limit and phi of the
total short, a positive weight pays u = l1 + psi + theta for each unit more, a negative one v = theta - l1 - psi - phi.
Each weight alone solves, with the kinks k1 <= k2 of 0 and c_i and the slopes of all prices left of them, between them
and right of them, s0 = v - turnover, s1 = u - turnover where c_i > 0, else v + turnover, and s2 = u + turnover,

    w_i(u, v) = max(-short_each, y_i - s2, min(k2, max(y_i - s1, min(k1, y_i - s0))))

As u >= v, positive weights depend on u alone, negative ones on v alone: the long and the short book decouple.
What binds is found in this order; each multiplier is one root of a total that falls along a line of prices.

    invested   sum w = 1 on the line u - v = 2 l1; if that is too short, the short book alone to short_total or
               (gross - 1) / 2, whichever is less, and the long book alone to 1 more
    else       u = -v = l1; if that is over the gross limit, sum |w| = gross on the line u = -v; if that is too short,
               the short book alone to short_total, and the long book alone to what gross leaves it, or as at first

The totals are linear between kinks: Newton steps, kept inside a bracket, end on the root's own piece and are exact.
Weights keep the set to 1e-12, and previous weights that miss it by no more count as in it.

Reference: Parikh and Boyd, Proximal Algorithms, Foundations and Trends in Optimization 1(3), 2014,
sections 2.1 and 6.2; for the L1 ball, Duchi et al., Efficient projections onto the l1-ball, ICML 2008.
"""
# Shapes: all arrays are (n,), n = assets.

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_ROUNDING = 1e-12  # by which previous weights may miss a limit and still be kept
_EPSILON = 2.0**-52
_NEWTON = 40  # steps; where rounding holds up as many, halving the bracket is sure to end
_LARGEST = 1e100  # of a point, a weight or a penalty; squares and sums of these are numbers still


class Feasible(NamedTuple):
    """The weights that are allowed: long only where either short limit is 0. Limits may be infinite."""

    gross: float  # largest sum of absolute weights
    short_each: float  # largest short weight of an asset
    short_total: float  # largest sum of short weights
    invested: bool  # the weights sum to 1; otherwise the rest is cash, or debt


class _Assets(NamedTuple):
    """One problem, less its set."""

    point: FloatArray
    previous: FloatArray
    mask: BoolArray
    turnover: float
    l1: float
    least: float  # minus the largest short weight, or 0


class _Line(NamedTuple):
    """Prices u = up + x and v = down + slope x; the total along it is sum w for slope 1, sum |w| for slope -1."""

    up: float
    down: float
    slope: float


_GROSS = _Line(0.0, 0.0, -1.0)
_LONG = _Line(0.0, -np.inf, -1.0)  # no short weight pays
_SHORT = _Line(np.inf, 0.0, -1.0)


def nearest(
    point: FloatArray, previous: FloatArray, turnover: float, l1: float, mask: BoolArray, feasible: Feasible
) -> FloatArray:
    """The proximal step of this page. Where no trade is optimal the result is `previous`, bit for bit.

    Arrays are (n,); `previous` may have any sign and lie outside the set. ValueError when no weights are
    invested within the mask and the gross limit, when a penalty or limit is negative, and when a value of an
    allowed asset is not finite.
    """
    _check(point, previous, turnover, l1, mask, feasible)
    weights = np.empty(point.size)
    proximal(weights, point, previous, turnover, l1, mask, feasible)
    return weights


def _check(
    point: FloatArray, previous: FloatArray, turnover: float, l1: float, mask: BoolArray, feasible: Feasible
) -> None:
    """Raise ValueError for what has no solution."""
    if not point.size == previous.size == mask.size:
        raise ValueError(
            f"point has {point.size} assets, previous {previous.size}, mask {mask.size}; give equal lengths"
        )
    for name, price in (("turnover", turnover), ("l1", l1)):
        if not 0.0 <= price <= _LARGEST:
            raise ValueError(f"{name} is {price}; give a number from 0 to 1e100")
    for name in ("gross", "short_each", "short_total"):
        if not getattr(feasible, name) >= 0.0:
            raise ValueError(f"{name} is {getattr(feasible, name)}; give 0 to infinity")
    if feasible.invested and feasible.gross < 1.0:
        raise ValueError(f"gross is {feasible.gross} and weights must sum to 1; raise it, or allow cash")
    if feasible.invested and not mask.any():
        raise ValueError(f"mask allows none of {mask.size} assets; it must allow at least one")
    bad = np.flatnonzero(mask & ~(np.abs(point) + np.abs(previous) <= _LARGEST))
    if bad.size:
        raise ValueError(f"point or previous is not finite, or beyond 1e100, at asset {bad[0]}; repair or mask it out")


@njit(cache=True, error_model="numpy")
def proximal(
    weights: FloatArray,
    point: FloatArray,
    previous: FloatArray,
    turnover: float,
    l1: float,
    mask: BoolArray,
    feasible: Feasible,
) -> None:
    """Fill `weights` with what `nearest` returns, for compiled code that has made sure of what that checks."""
    most = min(feasible.short_total, 0.5 * (feasible.gross - 1.0) if feasible.invested else feasible.gross)
    least = 0.0 - feasible.short_each if most > 0.0 else 0.0
    assets = _Assets(point, previous, mask, turnover, l1, least)
    if _at_rest(assets, most, feasible):
        weights[:] = previous
    elif feasible.invested:
        _fill_invested(weights, most, assets)
    else:
        _fill_with_cash(weights, most, feasible.gross, assets)


@njit(cache=True, error_model="numpy")
def _at_rest(assets: _Assets, most: float, feasible: Feasible) -> bool:
    """Whether the previous weights are in the set and optimal: some prices u and v keep each of them in place."""
    point, previous, mask, turnover = assets.point, assets.previous, assets.mask, assets.turnover
    u_low, u_high, v_low, v_high = -np.inf, np.inf, -np.inf, np.inf
    long, short = 0.0, 0.0
    lowest, capped = assets.least * (1.0 + _ROUNDING), assets.least * (1.0 - _ROUNDING)
    for i in range(point.size):
        weight = previous[i]
        if weight < lowest or u_low > u_high or v_low > v_high:
            return False
        if mask[i]:
            fall, rise = point[i] - weight - turnover, point[i] - weight + turnover
            u_low = max(u_low, fall if weight >= 0.0 else -np.inf)
            u_high = min(u_high, rise if weight > 0.0 else np.inf)
            v_low = max(v_low, fall if weight < 0.0 else -np.inf)
            v_high = min(v_high, rise if capped < weight <= 0.0 else np.inf)
            long += max(weight, 0.0)
            short += max(-weight, 0.0)
        elif weight != 0.0:
            return False
    if u_low > u_high or v_low > v_high:
        return False
    if long + short > feasible.gross + _ROUNDING or short > most + _ROUNDING:
        return False
    owing = short >= most - _ROUNDING  # all the short weight allowed: u - v may exceed what the penalties make it
    if feasible.invested:
        two = 2.0 * assets.l1
        return abs(long - short - 1.0) <= _ROUNDING and u_high - v_low >= two and (owing or u_low - v_high <= two)
    low = max(u_low, assets.l1)
    high = u_high if long + short >= feasible.gross - _ROUNDING else min(u_high, assets.l1)
    return low <= high and low <= -v_low and (owing or -v_high <= high)


@njit(cache=True, error_model="numpy")
def _fill_invested(weights: FloatArray, most: float, assets: _Assets) -> None:
    """Weights that sum to 1, with a total short of `most` at most."""
    two = 2.0 * assets.l1
    price = _solve(
        weights, _Line(0.0, -two, 1.0), 1.0, _mean_price(weights, assets.point, assets.previous, assets.mask), assets
    )
    if assets.least < 0.0 and _books(weights)[1] > most + _ROUNDING:
        _fill_books(weights, 1.0 + most, price, most, two - price, assets)


@njit(cache=True, error_model="numpy")
def _fill_with_cash(weights: FloatArray, most: float, gross: float, assets: _Assets) -> None:
    """Weights with a total short of `most` and an absolute sum of `gross` at most."""
    price = assets.l1
    _fill(weights, price, -price, assets)
    long, short = _books(weights)
    if long + short > gross + _ROUNDING:
        price = _solve(weights, _GROSS, gross, price, assets)
        _, short = _books(weights)
    if short > most + _ROUNDING:
        _fill_books(weights, min(long, gross - most), price, most, price, assets)


@njit(cache=True, error_model="numpy")
def _fill_books(
    weights: FloatArray, long: float, long_price: float, short: float, short_price: float, assets: _Assets
) -> None:
    """Long weights that sum to `long` and short ones that sum to `short`; the prices are where to start."""
    shorts = np.empty(weights.size)
    _solve(shorts, _SHORT, short, short_price, assets)
    _solve(weights, _LONG, long, long_price, assets)
    for i in range(weights.size):
        weights[i] += shorts[i]


@njit(cache=True, error_model="numpy")
def _mean_price(weights: FloatArray, point: FloatArray, previous: FloatArray, mask: BoolArray) -> float:
    """The price at which the point less it sums to 1 over what is held: near the root, as few come and go in a step.

    Over all allowed assets where nothing is held. Overwrites `weights`.
    """
    held = 0
    for i in range(weights.size):
        keeps = mask[i] & (previous[i] != 0.0)
        weights[i] = point[i] if keeps else 0.0
        held += keeps
    if held == 0:
        for i in range(weights.size):
            weights[i] = point[i] if mask[i] else 0.0
            held += mask[i]
    return (_total(weights, True) - 1.0) / held


@njit(cache=True, error_model="numpy")
def _solve(weights: FloatArray, line: _Line, target: float, start: float, assets: _Assets) -> float:
    """Fill `weights` where their total along the line is the target; returns x there."""
    low, high, x = -np.inf, np.inf, start
    tolerance = _EPSILON * weights.size * (1.0 + target)
    attempts = 0
    while True:
        attempts += 1
        moving = _fill(weights, line.up + x, line.down + line.slope * x, assets)
        excess = _total(weights, line.slope > 0.0) - target
        if abs(excess) <= (tolerance if moving else _ROUNDING):
            return x
        if excess > 0.0:
            low = x
        else:
            high = x
        if moving and attempts < _NEWTON:
            x += excess / moving
        if not low < x < high:  # no step, or one over a kink
            reach = _reach(target, assets)
            low, high = max(low, -reach), min(high, reach)
            x = 0.5 * low + 0.5 * high
            if not low < x < high:  # no number lies between the two
                _mix(weights, line, target, low, high, assets)
                return x


@njit(cache=True, error_model="numpy")
def _mix(weights: FloatArray, line: _Line, target: float, low: float, high: float, assets: _Assets) -> None:
    """Fill `weights` between those at two prices that are next to each other, so that the total is the target."""
    others = np.empty(weights.size)
    _fill(others, line.up + low, line.down + line.slope * low, assets)
    _fill(weights, line.up + high, line.down + line.slope * high, assets)
    above = _total(others, line.slope > 0.0) - target
    below = _total(weights, line.slope > 0.0) - target
    gap = above - below
    shares = (above / gap, -below / gap) if gap > 0.0 else (1.0, 0.0)  # one less the other would lose the smaller
    for i in range(weights.size):
        weights[i] = shares[0] * weights[i] + shares[1] * others[i]


@njit(cache=True, error_model="numpy")
def _reach(target: float, assets: _Assets) -> float:
    """A bound on |x|: beyond it the total is the target or more, or no more than 0."""
    largest = 0.0
    for i in range(assets.point.size):
        if assets.mask[i]:
            largest = max(largest, abs(assets.point[i]))
    return (largest + assets.turnover + target) * (1.0 + 4.0 * _EPSILON)


# The loops below are over independent results, or over four sums at once: both vectorise, in a fixed order.


@njit(cache=True, error_model="numpy")
def _fill(weights: FloatArray, u: float, v: float, assets: _Assets) -> int:
    """Set weights to w(u, v); returns how many of them move with the prices."""
    point, previous, mask = assets.point, assets.previous, assets.mask
    turnover, least = assets.turnover, assets.least
    moving = 0
    for i in range(weights.size):
        weight = _weight(point[i], previous[i], turnover, least, u, v) if mask[i] else 0.0
        weights[i] = weight
        moving += (weight != 0.0) & (weight != previous[i]) & (weight != least)
    return moving


@njit(cache=True, error_model="numpy")
def _weight(point: float, previous: float, turnover: float, least: float, u: float, v: float) -> float:
    """One asset's weight at its prices."""
    between = u - turnover if previous > 0.0 else v + turnover
    weight = max(point - between, min(previous, 0.0, point - (v - turnover)))
    return max(least, point - (u + turnover), min(max(previous, 0.0), weight))


@njit(cache=True, error_model="numpy")
def _total(weights: FloatArray, signed: bool) -> float:
    """The sum of w where `signed`, else of |w|."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = weights.size // 4 * 4
    for i in range(0, whole, 4):
        a += weights[i] if signed else abs(weights[i])
        b += weights[i + 1] if signed else abs(weights[i + 1])
        c += weights[i + 2] if signed else abs(weights[i + 2])
        d += weights[i + 3] if signed else abs(weights[i + 3])
    for i in range(whole, weights.size):
        a += weights[i] if signed else abs(weights[i])
    return (a + b) + (c + d)


@njit(cache=True, error_model="numpy")
def _books(weights: FloatArray) -> tuple[float, float]:
    """The total long and the total short weight."""
    long, short = 0.0, 0.0
    for weight in weights:
        long += max(weight, 0.0)
        short += max(-weight, 0.0)
    return long, short
