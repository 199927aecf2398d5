"""How a strategy that learns is made from values, and folded from one date to the next.

It begins at the universe's inception, the first session with two eligible assets, with equal weights, and steps every
session from then on, whatever the dates on which it trades.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError
from storage.keys import Moment
from tasks import own_code, panels
from tasks.numerics import allocators
from tasks.numerics.allocators import Allocator, Market
from tasks.numerics.configs import RISK_FREE, TRADING_DAYS, OnlineConfig, named_numbers

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Recipe:
    """What a learning strategy is made of, as values: all of them enter its key.

    An online config, a module of one's own, or one recipe among sectors and one within them; equal weights where none.
    """

    name: str
    online: OnlineConfig | None = None
    own: str = ""  # dotted path
    source: str = ""  # hash of the source of one's own module or terms
    outer: "Recipe | None" = None
    inner: "Recipe | None" = None
    cap: float = 1.0  # of a sector

    @property
    def max_trade(self) -> float:
        """Largest sum of absolute changes from one rebalance date to the next; 0: any."""
        return self.online.max_trade if self.online is not None else 0.0


def of_online(name: str, config: OnlineConfig) -> Recipe:
    """The recipe of an online config, with the source of terms of one's own."""
    return Recipe(name, online=config, source=" ".join(own_code.source(module) for module in _term_modules(config)))


def of_own(name: str, path: str) -> Recipe:
    """The recipe of a module of one's own."""
    return Recipe(name, own=path, source=own_code.source(path))


def _term_modules(config: OnlineConfig) -> list[str]:
    """Modules of the terms that are not PRISM's."""
    return sorted({term.rpartition(".")[0] for term in named_numbers(config.extra_terms)} - {""})


def allocator(recipe: Recipe, panel: panels.Panel) -> Allocator:
    """The allocator of a recipe. InputError where its code cannot be used, or where it needs sectors and has none."""
    if recipe.online is not None:
        return online_allocator(recipe.online)
    if recipe.own:
        module = own_code.strategy(recipe.own)
        return allocators.Stepped(recipe.own, module.init, module.step)
    if recipe.outer is not None and recipe.inner is not None:
        among, within = allocator(recipe.outer, panel), allocator(recipe.inner, panel)
        return allocators.SectorFirst(among, within, _sectors(recipe.name, panel), recipe.cap)
    return allocators.Equal()


def online_allocator(config: OnlineConfig | tuple[OnlineConfig, ...]) -> allocators.Online:
    """The allocator of one online config, or of several as lanes, with the terms of one's own that they name."""
    configs = (config,) if isinstance(config, OnlineConfig) else config
    for module in {module for entry in configs for module in _term_modules(entry)}:
        own_code.load(module)
    return allocators.Online(config)


def _sectors(name: str, panel: panels.Panel) -> tuple[str, ...]:
    """The sector of each asset; those without one are one together."""
    found = panels.sectors(panel)
    if not any(found):
        raise InputError(
            f"strategy {name} needs sectors, and universe {panel.universe.name} names none; add a column sector to it"
        )
    return found


@dataclass
class Standing:
    """A strategy at one date: its state, what it holds after that date's trade, what is to say; lanes come first."""

    state: Any
    held: FloatArray  # (n,)
    notes: dict[str, Any]
    counts: dict[str, int]  # of sessions since the inception

    @property
    def said(self) -> dict[str, Any]:
        """The notes, with counts as shares of all sessions since the inception: the same wherever a fold stopped."""
        sessions = self.counts.get("sessions", 0)
        shares = {name: count / sessions for name, count in self.counts.items() if name != "sessions"}
        return self.notes | shares


def _after(learner: Allocator, state: Any, market: Market, counts: dict[str, int]) -> Standing:
    """How a strategy stands after a run, if it holds what it wishes for."""
    state, path, notes = learner.run(state, market)
    new = notes.pop(allocators.COUNTS, {})
    return Standing(state, path[-1], notes, {name: counts.get(name, 0) + count for name, count in new.items()})


def fold(
    panel: panels.Panel,
    learner: Allocator,
    history: tuple[Moment, ...],
    since: Moment | None = None,
    standing: Standing | None = None,
    max_trade: FloatArray | float = 0.0,
) -> Iterator[tuple[Moment, Standing | None]]:
    """The strategy at each date of `history` after `since`, where it stood so; None before the inception.

    A year begins after a date whose as-of session is the last of the year before.
    """
    for moment in history:
        if since is not None and moment.as_of <= since.as_of:
            continue
        if since is not None and standing is not None:
            standing = _advanced(panel, learner, since, standing, moment, max_trade)
        else:
            standing = _begun(panel, learner, moment)
        since = moment
        yield moment, standing


def _begun(panel: panels.Panel, learner: Allocator, until: Moment) -> Standing | None:
    """The strategy at `until` from its inception on, if that is over by then."""
    end = panel.at(until.as_of)
    ready = np.flatnonzero(panel.eligible[: end + 1].sum(axis=1) >= 2)
    if not ready.size:
        return None
    mask = panel.eligible[ready[0]]
    state, equal = learner.init(mask), mask / mask.sum()
    if ready[0] == end:
        return Standing(state, equal, {}, {})
    return _after(learner, state, _market(panel, int(ready[0]), end, learner.sessions), {})


def _advanced(
    panel: panels.Panel,
    learner: Allocator,
    since: Moment,
    standing: Standing,
    until: Moment,
    max_trade: FloatArray | float,
) -> Standing:
    """The strategy at `until`, from where it stood at `since`."""
    begins_year = since.as_of.year != since.rebalance_date.year
    state = learner.new_block(standing.state) if begins_year else standing.state
    market = _market(panel, panel.at(since.as_of), panel.at(until.as_of), learner.sessions)
    after = _after(learner, state, market, standing.counts)
    return replace(after, held=_traded(standing.held, after.held, max_trade))


def _traded(held: FloatArray, wish: FloatArray, max_trade: FloatArray | float) -> FloatArray:
    """What is held after a trade towards `wish` that changes no more than `max_trade` (0: any), a number or (B,)."""
    change = np.abs(wish - held).sum(axis=-1)
    limit = np.where(np.asarray(max_trade) > 0, max_trade, np.inf)
    share = np.where(change > limit, limit / np.where(change > 0, change, 1.0), 1.0)[..., None]
    return np.where(share < 1, held + np.minimum(share, 1.0) * (wish - held), wish)


def _market(panel: panels.Panel, begin: int, end: int, sessions: int) -> Market:
    """The sessions after `begin` up to `end`, and as many before them as the first step looks at."""
    first = max(0, begin + 2 - sessions)
    seen = slice(first, end + 1)
    cash = np.full(end + 1 - first, RISK_FREE / TRADING_DAYS) if panel.risk_free is None else panel.risk_free[seen]
    factors = panel.factors or {"market": panel.market}
    return Market(
        np.nan_to_num(panel.returns[seen]),
        _masks(panel, begin, end),
        cash,
        {name: values[seen] for name, values in factors.items()},
    )


def _masks(panel: panels.Panel, begin: int, end: int) -> BoolArray:
    """Eligible assets of the sessions after `begin`; a session without any keeps those of the last one with some."""
    some = panel.eligible[: end + 1].any(axis=1)
    last_with_some = np.maximum.accumulate(np.where(some, np.arange(end + 1), 0))
    return panel.eligible[last_with_some[begin + 1 :]]
