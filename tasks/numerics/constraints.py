"""What a long-only portfolio must keep to beside summing to 1, as linear rows, and the linear programs over them.

    lower <= w <= upper                     caps, and positions that must be kept
    sum of a sector's w <= its cap          for each sector with a cap
    1/2 sum |w - held| <= turnover          against the weights held now

`held` may sum to less than 1: the rest is cash, which is spent without being a trade of its own, so that a first
purchase from cash has turnover 1/2, as in `accounting`. Assets that may not be held any more are sold whatever the
limit says, and their sales count. The absolute values are split into purchases and sales, w = held + b - s with
b, s >= 0, which makes all of it linear in (b, s).
"""
# Shapes: n = assets, g = sectors with a cap, m = moves: a purchase of each asset, then a sale of each, which there is
# with a limit on turnover only, c = columns: the moves looked at, k = the assets that these and what is held concern.

from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import linprog

from tasks.numerics.configs import ReturnDrawdownConfig, named_numbers

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

TOLERANCE = 1e-9  # within which every limit is kept
ZERO = 1e-12  # weights below are rounding
_ROOM = 1e-10  # that limits which leave one portfolio only are given


class Limits(NamedTuple):
    """The set of portfolios; weights sum to 1 besides."""

    lower: FloatArray  # (n,)
    upper: FloatArray  # (n,)
    members: FloatArray  # (g, n), 1 where an asset is in the sector, else 0
    caps: FloatArray  # (g,)
    sectors: tuple[str, ...]  # (g,)
    held: FloatArray  # (n,)
    sold: float  # turnover of what may not be held any more
    turnover: float  # the limit, infinite if there is none


class Columns(NamedTuple):
    """Weights w = base + matrix @ x of k assets with low <= x <= high, signs @ x = total and rows @ x <= room."""

    assets: BoolArray  # (n,) the k of them that are held or bought; the others stay at 0
    base: FloatArray  # (k,)
    matrix: FloatArray  # (k, c)
    low: FloatArray  # (c,)
    high: FloatArray  # (c,)
    signs: FloatArray  # (c,)
    total: float
    rows: FloatArray  # (g or g + 1, c)
    room: FloatArray


def limits(
    config: ReturnDrawdownConfig, usable: BoolArray, sectors: tuple[str, ...] | None, held: FloatArray | None
) -> Limits:
    """The limits that a config sets, over the `usable` ones of all assets; `min_weight` is not among them.

    `usable` and `held` are (n,), and `sectors` names the sector of each asset, "" for none; the arrays of the result
    cover the usable assets. ValueError for what does not match or is no portfolio, for the cap of a sector that no
    asset has, and for caps that cannot hold a sum of 1.
    """
    caps = _sector_caps(config, usable.size, sectors)
    n, now = int(np.count_nonzero(usable)), _holdings(held, usable.size)
    largest = np.full(n, config.max_weight)
    chosen = [sector for sector, there in zip(sectors or (), usable, strict=False) if there]
    names = tuple(name for name, cap in caps.items() if cap < 1.0 and name in chosen)
    members = np.array([[float(sector == name) for sector in chosen] for name in names]).reshape(len(names), n)
    found = Limits(
        lower=np.zeros(n),
        upper=np.where([caps.get(name) == 0.0 for name in chosen], 0.0, largest) if 0.0 in caps.values() else largest,
        members=members,
        caps=np.array([caps[name] for name in names]),
        sectors=names,
        held=now[usable],
        sold=0.5 * float(now[~usable].sum()),
        turnover=config.turnover_limit if held is not None and config.turnover_limit < 1.0 else np.inf,
    )
    _check_room(found, config)
    return found


def turnover(limits: Limits, weights: FloatArray) -> float:
    """Half the sum of absolute changes from the weights held, those that are no longer usable included."""
    return limits.sold + 0.5 * float(np.abs(weights - limits.held).sum())


def violation(limits: Limits, weights: FloatArray) -> float:
    """The most by which weights (n,) miss a limit or the sum of 1; 0 where they keep all."""
    misses = [_beyond(weights, limits.lower, limits.upper)]
    if limits.sectors:
        misses.append((limits.members @ weights - limits.caps).max())
    if limits.turnover < np.inf:
        misses.append(turnover(limits, weights) - limits.turnover)
    return max(0.0, *(float(miss) for miss in misses))


def binding(limits: Limits, weights: FloatArray, config: ReturnDrawdownConfig) -> tuple[str, ...]:
    """The limits that hold with equality, by the name of their option, a sector by its own."""
    found: list[str] = []
    if config.max_weight < 1.0 and weights.max() >= config.max_weight - TOLERANCE:
        found.append("max_weight")
    if config.min_weight > 0.0 and (np.abs(weights - config.min_weight) < TOLERANCE)[weights > 0.0].any():
        found.append("min_weight")
    if limits.sectors:
        full = limits.members @ weights >= limits.caps - TOLERANCE
        found += [f"sector {name}" for name, reached in zip(limits.sectors, full, strict=True) if reached]
    if limits.turnover < np.inf and turnover(limits, weights) >= limits.turnover - TOLERANCE:
        found.append("turnover_limit")
    return tuple(found)


def reachable(limits: Limits) -> Limits | None:
    """The limits, with that of turnover raised to the least that the others allow; None where those allow nothing."""
    if limits.turnover == np.inf and not limits.sectors:
        return limits if limits.lower.sum() <= 1.0 + _ROOM and limits.upper.sum() >= 1.0 - _ROOM else None
    point = nearest(limits, limits.held)
    if point is None:
        return None
    least = turnover(limits, point)
    return limits if least <= limits.turnover else limits._replace(turnover=least + _ROOM)


def small(limits: Limits, weights: FloatArray, minimum: float) -> BoolArray:
    """The positions (n,) above 0 and below `minimum`, those aside that the limits already make large enough."""
    return (weights > 0.0) & (weights < minimum - ZERO) & (limits.lower == 0.0)


def narrowed(limits: Limits, weights: FloatArray, minimum: float) -> Limits:
    """Limits under which fewer positions are `small`; there must be one.

    Those below half the minimum are dropped, or else the smallest is, or else that has to be the minimum at least:
    the first of these that some portfolio keeps to, without more turnover if there is one. ValueError if none does.
    """
    below = small(limits, weights, minimum)
    smallest = below & (weights == weights[below].min())
    tiny = below & (weights < minimum / 2.0)
    ways = [
        limits._replace(upper=np.where(dropped, 0.0, limits.upper)) for dropped in (tiny, smallest) if dropped.any()
    ]
    ways.append(limits._replace(lower=np.where(smallest, minimum, limits.lower)))
    possible = [found for found in map(reachable, ways) if found is not None]
    if not possible:
        raise ValueError(
            f"min_weight is {minimum}; no portfolio was found that keeps it and the caps; lower it, or raise a cap"
        )
    return min(possible, key=lambda found: found.turnover)


@njit(cache=True)
def _beyond(weights: FloatArray, lower: FloatArray, upper: FloatArray) -> float:
    """The most by which weights miss their bounds or the sum of 1."""
    total, most = 0.0, 0.0
    for i in range(weights.size):
        total += weights[i]
        most = max(most, lower[i] - weights[i], weights[i] - upper[i])
    return max(most, abs(total - 1.0))


def clean(limits: Limits, weights: FloatArray) -> FloatArray:
    """Weights (n,) without rounding: 0 or above `ZERO`, between the bounds, of sum 1 as far as these have room."""
    return _clean(limits.lower, limits.upper, weights)


@njit(cache=True)
def _clean(lower: FloatArray, upper: FloatArray, weights: FloatArray) -> FloatArray:
    """The same between these bounds."""
    inside, room = np.empty(weights.size), np.zeros(weights.size)
    left, total = 1.0, 0.0
    for i in range(weights.size):
        inside[i] = min(max(weights[i] if weights[i] >= ZERO else 0.0, lower[i]), upper[i])
        left -= inside[i]
    for i in range(weights.size):
        if inside[i] > 0.0:
            room[i] = upper[i] - inside[i] if left > 0.0 else inside[i] - lower[i]
            total += room[i]
    return inside + left / total * room if total > 0.0 else inside


def nearest(limits: Limits, point: FloatArray) -> FloatArray | None:
    """Weights (n,) with the least sum |w - point| within all limits but that of turnover; None if there are none."""
    around = columns(limits._replace(held=point, sold=0.0, turnover=2.0))  # twice what a portfolio can have
    return _solve(np.ones(around.low.size), around)


def towards(limits: Limits, origin: FloatArray, goal: FloatArray) -> FloatArray:
    """Weights on the way from `origin`, within all limits, to `goal`, which may exceed that of turnover alone.

    Turnover is convex on the way, so that a share of the way adds no more than that share of the difference.
    """
    begun, ended = turnover(limits, origin), turnover(limits, goal)
    share = 1.0 if ended <= limits.turnover else max(limits.turnover - begun, 0.0) / (ended - begun)
    return origin + share * (goal - origin)


def extreme(limits: Limits, slope: FloatArray) -> FloatArray:
    """Weights (n,) with the largest slope'w within all limits, some of which must keep to them."""
    if limits.turnover == np.inf and not limits.sectors:
        return filled(slope, limits.lower, limits.upper)
    split = columns(limits)
    found = _solve(-(slope[split.assets] @ split.matrix), split)
    if found is None:
        raise ValueError(f"no portfolio keeps the caps with a turnover of {limits.turnover}; take `reachable` limits")
    return found


@njit(cache=True)
def filled(slope: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Weights (n,) with the largest slope'w between the bounds: the lower ones, and the rest where the slope is."""
    weights, left = lower.copy(), 1.0 - lower.sum()
    for asset in np.argsort(-slope, kind="mergesort"):  # which is stable
        bought = min(left, upper[asset] - lower[asset])
        weights[asset] += bought
        left -= bought
        if left <= 0.0:
            break
    return weights


def moves(limits: Limits, weights: FloatArray) -> FloatArray:
    """What leads to weights (n,): purchases and sales (m,) from what is held; without a limit on turnover from 0."""
    if limits.turnover == np.inf:
        return weights
    change = weights - limits.held
    return np.concatenate([np.where(change > ZERO, change, 0.0), np.where(change < -ZERO, -change, 0.0)])


def columns(limits: Limits, chosen: BoolArray | None = None) -> Columns:
    """The `chosen` moves (m,), by default all that are possible, between which all limits are linear."""
    if limits.turnover == np.inf:
        assets = limits.upper > 0.0 if chosen is None else chosen
        zeros, ones = np.zeros(np.count_nonzero(assets)), np.ones(np.count_nonzero(assets))
        own = limits.lower[assets], limits.upper[assets]
        return Columns(assets, zeros, np.eye(ones.size), *own, ones, 1.0, limits.members[:, assets], limits.caps)
    lower, upper, held = limits.lower, limits.upper, limits.held
    low = np.concatenate([np.maximum(lower - held, 0.0), np.maximum(held - upper, 0.0)])
    high = np.concatenate([np.maximum(upper - held, 0.0), np.maximum(held - lower, 0.0)])
    moving = high > 0.0 if chosen is None else chosen
    signs = np.repeat([1.0, -1.0], held.size)[moving]
    matrix = np.zeros((held.size, signs.size))
    matrix[np.flatnonzero(moving) % held.size, np.arange(signs.size)] = signs
    assets = (held > 0.0) | matrix.any(axis=1)
    rows = np.vstack([limits.members @ matrix, np.ones(signs.size)])
    room = np.append(limits.caps - limits.members @ held, 2.0 * (limits.turnover - limits.sold))
    total = 1.0 - float(held.sum())
    return Columns(assets, held[assets], matrix[assets], low[moving], high[moving], signs, total, rows, room)


def weights_at(split: Columns, x: FloatArray) -> FloatArray:
    """The weights (n,) that moves (c,) of the columns lead to."""
    weights = np.zeros(split.assets.size)
    weights[split.assets] = split.base + split.matrix @ x
    return weights


def _solve(cost: FloatArray, split: Columns) -> FloatArray | None:
    """Weights (n,) at the columns' minimum of cost'x; None if no x keeps to them."""
    result = linprog(
        cost,
        A_ub=split.rows if split.room.size else None,
        b_ub=split.room if split.room.size else None,
        A_eq=split.signs[None, :],
        b_eq=[split.total],
        bounds=np.column_stack([split.low, split.high]),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return None if result.x is None else weights_at(split, result.x)


def _holdings(held: FloatArray | None, n: int) -> FloatArray:
    """The weights held (n,), 0 where none are given."""
    if held is None:
        return np.zeros(n)
    if np.shape(held) != (n,) or not np.isfinite(held).all():
        raise ValueError(f"held has shape {np.shape(held)}; it must be ({n},) and finite, a weight for each asset")
    if min(held) < 0.0 or sum(held) > 1.0 + TOLERANCE:
        raise ValueError(
            f"held has weights from {min(held)} that sum to {sum(held)}; they must be at least 0 and sum to at most 1"
        )
    return np.asarray(held, np.float64)


def _sector_caps(config: ReturnDrawdownConfig, n: int, sectors: tuple[str, ...] | None) -> dict[str, float]:
    """The cap of each sector."""
    own = named_numbers(config.sector_caps)
    if sectors is None and (own or config.max_sector_weight < 1.0):
        raise ValueError(
            f"max_sector_weight is {config.max_sector_weight} and sector_caps {config.sector_caps!r}, but no sectors "
            "are known; give the sector of each asset, or take the caps away"
        )
    if sectors is not None and len(sectors) != n:
        raise ValueError(f"sectors names {len(sectors)} assets of {n}; give one name for each, '' for none")
    names = sorted(set(sectors or ()) - {""})
    for name, cap in own.items():
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.0)
            known = f"the nearest is {near[0]!r}" if near else "there are none"
            raise ValueError(f"sector_caps names {name!r}, a sector of no asset; {known}")
        if not 0.0 <= cap <= 1.0:
            raise ValueError(f"sector_caps gives {name} a cap of {cap}; it must be between 0 and 1")
    return {name: own.get(name, config.max_sector_weight) for name in names}


def _check_room(limits: Limits, config: ReturnDrawdownConfig) -> None:
    """Raise ValueError where no portfolio keeps the caps."""
    if config.min_weight > config.max_weight:
        raise ValueError(
            f"min_weight is {config.min_weight}, above max_weight, {config.max_weight}; lower it, or raise that"
        )
    room = limits.upper.sum()
    if limits.sectors:
        free = limits.upper[limits.members.sum(axis=0) == 0.0].sum()
        room = free + np.minimum(limits.caps, limits.members @ limits.upper).sum()
    if room < 1.0 - 1e-12:
        raise ValueError(
            f"the caps leave room for weights of {room:.6g} in {limits.upper.size} assets; raise max_weight or those "
            "of the sectors, so that weights can sum to 1"
        )
