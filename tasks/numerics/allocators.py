"""One interface for all that learns from session to session, and the allocators that are made of others.

An allocator has `init(mask) -> state` and `run(state, market) -> (state, weights, notes)`: weights (T, n) after each
session of a `Market`, and what is to say of these sessions. `new_block` begins a year; `sessions` says how many of them
a step may look at. A state is a NamedTuple or dictionary of arrays, numbers and further states. Resuming a state is the
same, bit for bit, as having gone on.

`Stepped` makes an allocator of a module with `init` and `step`, or `allocate`. `SectorFirst` runs one allocator among
sectors, whose returns are the window's times today's weights within them, and one within each sector; weights
multiply.
"""
# Shapes: T = sessions of a run, P = sessions before it, n = assets, G = sectors.

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from tasks.numerics import online
from tasks.numerics.climbing import portfolio
from tasks.numerics.configs import OnlineConfig
from tasks.numerics.steps import BoolArray, FloatArray

State = Any
Notes = dict[str, Any]
COUNTS = "counts"  # of notes: numbers of sessions, to be added up over several runs
_BISECTIONS = 60
LOOKBACK = 252  # sessions that an allocator of one's own is shown


class Market(NamedTuple):
    """T sessions to step through, with those before them."""

    returns: FloatArray  # (P + T, n) simple, 0 where there is none
    mask: BoolArray  # (T, n) True where an asset may be held
    risk_free: FloatArray  # (P + T,) simple return of cash
    factors: Mapping[str, FloatArray]  # (P + T,) by name, NaN where unknown


class Allocator(Protocol):
    """What learns."""

    @property
    def sessions(self) -> int:
        """Sessions, the newest included, that a step may look at."""

    def init(self, mask: BoolArray) -> State:
        """The state before the first session, on the assets (n,) allowed."""

    def new_block(self, state: State) -> State:
        """The state at the start of another calendar year."""

    def run(self, state: State, market: Market) -> tuple[State, FloatArray, Notes]:
        """The state after all sessions, the weights (T, n) after each, and notes on them."""


@dataclass(frozen=True)
class Online:
    """Online gradient descent and its siblings: one config, or several as lanes."""

    config: OnlineConfig | tuple[OnlineConfig, ...]

    @property
    def sessions(self) -> int:
        """The longest window of the config."""
        return online.sessions_needed(self.config)

    def init(self, mask: BoolArray) -> online.State:
        """Equal weights."""
        return online.init(mask, self.config)

    def new_block(self, state: online.State) -> online.State:
        """The learning rate starts again, unless the config says never."""
        return online.with_reset(state, self.config)

    def run(self, state: online.State, market: Market) -> tuple[online.State, FloatArray, Notes]:
        """See `online.run`; notes are shares of the sessions, and the last one's exposure."""
        after, path = online.run(state, market.returns, market.mask, self.config, market.risk_free, market.factors)
        return after, path.weights, _notes(self.config, after, path) if isinstance(self.config, OnlineConfig) else {}


def _notes(config: OnlineConfig, after: online.State, path: online.Path) -> Notes:
    """What is to say of some sessions of one config: how it stands, and counts of sessions."""
    notes: Notes = {"steps": int(after.t)}
    if config.guard_limit:
        notes["exposure"] = float(path.exposure[-1])
    counts = {"sessions": len(path.weights), "ceiling_binding": int(path.at_ceiling.sum())}
    if config.drawdown_limit or config.volatility_limit:
        counts["limit_infeasible"] = int(path.infeasible.sum())
    return notes | {COUNTS: counts}


class Equal:
    """The same weight in every asset that may be held."""

    sessions = 1

    def init(self, mask: BoolArray) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def new_block(self, state: dict[str, Any]) -> dict[str, Any]:
        """Nothing begins."""
        return state

    def run(self, state: dict[str, Any], market: Market) -> tuple[dict[str, Any], FloatArray, Notes]:
        """Equal weights of each session."""
        return state, market.mask / market.mask.sum(axis=1, keepdims=True), {}


@dataclass(frozen=True)
class Seen:
    """What an allocator of one's own is shown: up to 252 sessions, the newest last; `allocate` also sees forecasts."""

    returns: FloatArray  # (m, n)
    mask: BoolArray  # (n,)
    risk_free: FloatArray  # (m,)
    factors: Mapping[str, FloatArray]  # (m,) by name
    tickers: tuple[str, ...] = ()  # (n,) where `allocate` is asked
    mean: FloatArray | None = None  # (n,) of the next 21 sessions' log return, NaN without a forecast
    variance: FloatArray | None = None  # (n,)


@dataclass(frozen=True)
class Stepped:
    """An allocator of `init(mask) -> state` and `step(state, seen) -> state`, whose state has the key "weights"."""

    name: str
    begin: Callable[[BoolArray], dict[str, Any]]
    step: Callable[[dict[str, Any], Seen], dict[str, Any]]
    sessions: int = LOOKBACK

    def init(self, mask: BoolArray) -> dict[str, Any]:
        """The state that the module begins with."""
        return self.begin(mask)

    def new_block(self, state: dict[str, Any]) -> dict[str, Any]:
        """A module counts for itself."""
        return state

    def run(self, state: dict[str, Any], market: Market) -> tuple[dict[str, Any], FloatArray, Notes]:
        """One step after the other. ValueError where weights are no numbers, or on an asset that is masked out."""
        path = np.zeros(market.mask.shape)
        for t, mask in enumerate(market.mask):
            state = self.step(state, _seen(market, t, self.sessions))
            path[t] = checked(self.name, state["weights"], mask)
        return state, path, {}


def checked(name: str, weights: Any, mask: BoolArray) -> FloatArray:
    """The weights (n,) of an allocator of one's own; ValueError for what cannot be held."""
    found = np.asarray(weights, np.float64)
    if found.shape != mask.shape or not np.isfinite(found).all():
        raise ValueError(f"{name} gave weights of shape {found.shape}; it must give {mask.size} finite numbers")
    if (found[~mask] != 0).any():
        asset = int(np.flatnonzero(~mask & (found != 0))[0])
        raise ValueError(f"{name} gave asset {asset} the weight {found[asset]}, and its mask is False; give it 0")
    return found


def _seen(market: Market, t: int, sessions: int) -> Seen:
    end = len(market.returns) - len(market.mask) + t + 1
    seen = slice(max(0, end - sessions), end)
    factors = {name: values[seen] for name, values in market.factors.items()}
    return Seen(market.returns[seen], market.mask[t], market.risk_free[seen], factors)


class SectorState(NamedTuple):
    """States of both levels; None before a level's first asset."""

    outer: State | None
    inner: dict[str, State | None]
    held: FloatArray  # (n,) newest weights within the sectors


@dataclass(frozen=True)
class SectorFirst:
    """One allocator among sectors, one within each, and a cap on each sector's weight.

    `sectors` (n,) names the sector of each asset. What a cap takes from a sector goes to the others in equal parts, as
    far as theirs allow; the rest is cash.
    """

    outer: Allocator
    inner: Allocator
    sectors: tuple[str, ...]
    cap: float = 1.0

    @property
    def sessions(self) -> int:
        """The longer of both levels' windows."""
        return max(self.outer.sessions, self.inner.sessions)

    @property
    def groups(self) -> dict[str, FloatArray]:
        """Columns of each sector, by name, sorted."""
        return {name: np.flatnonzero(np.array(self.sectors) == name) for name in sorted(set(self.sectors))}

    def init(self, mask: BoolArray) -> SectorState:
        """Both levels begin with their first asset."""
        return SectorState(None, dict.fromkeys(self.groups), np.zeros(mask.size))

    def new_block(self, state: SectorState) -> SectorState:
        """On both levels."""
        inner = {name: own if own is None else self.inner.new_block(own) for name, own in state.inner.items()}
        outer = state.outer if state.outer is None else self.outer.new_block(state.outer)
        return state._replace(outer=outer, inner=inner)

    def run(self, state: SectorState, market: Market) -> tuple[SectorState, FloatArray, Notes]:
        """Within the sectors first, all sessions at once; then among them, session by session."""
        count, groups = len(market.mask), list(self.groups.values())
        within, inner = np.tile(state.held, (count, 1)), {}
        for name, columns in self.groups.items():
            inner[name], within[:, columns] = _within(self.inner, state.inner[name], market, columns, state.held)
        open_sectors = np.column_stack([market.mask[:, columns].any(axis=1) for columns in groups])
        outer, path = state.outer, np.zeros(market.mask.shape)
        for t in range(count):
            seen = _seen(market, t, self.sessions)
            returns = np.column_stack(
                [portfolio(within[t, c], np.ascontiguousarray(seen.returns[:, c])) for c in groups]
            )
            among = Market(returns, open_sectors[t : t + 1], seen.risk_free, seen.factors)
            outer, found, _ = self.outer.run(outer if outer is not None else self.outer.init(open_sectors[t]), among)
            shares = capped(found[-1], self.cap, open_sectors[t])
            for share, columns in zip(shares, groups, strict=True):
                path[t, columns] = share * within[t, columns]
        return (
            SectorState(outer, inner, within[-1]),
            path,
            {"sectors": dict(zip(self.groups, shares.tolist(), strict=True))},
        )


def _within(
    allocator: Allocator, state: State | None, market: Market, columns: FloatArray, held: FloatArray
) -> tuple[State | None, FloatArray]:
    """One sector's state and weights (T, its assets); where no asset may be held, what was held stays as it was."""
    path, mask = np.tile(held[columns], (len(market.mask), 1)), market.mask[:, columns]
    ready = np.flatnonzero(mask.any(axis=1))
    if not ready.size:
        return state, path
    first = int(ready[0])
    allowed = mask[ready[np.searchsorted(ready, np.arange(first, len(mask)), side="right") - 1]]
    own = Market(market.returns[:, columns], allowed, market.risk_free, market.factors)
    after, path[first:], _ = allocator.run(state if state is not None else allocator.init(allowed[0]), own)
    return after, path


def capped(weights: FloatArray, cap: float, mask: BoolArray) -> FloatArray:
    """The nearest weights with the same sum and none above the cap, of the sectors allowed; less where all reach it.

    Each is min(w + theta, cap), with the one theta that makes the sum right.
    """
    if not (weights > cap).any():
        return weights
    low, high, total = 0.0, 1.0, weights.sum()
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if np.where(mask, np.minimum(weights + middle, cap), 0.0).sum() < total:
            low = middle
        else:
            high = middle
    return np.where(mask, np.minimum(weights + high, cap), 0.0)
