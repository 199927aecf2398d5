"""Stage *tuned*: a strategy whose setting is chosen anew each January, by what was known then, and kept for the year.

Every setting of a grid runs as a lane from the universe's inception and trades at the strategy's dates. At the first
date of a year the account of each, up to the as-of session and after costs, is rated by the fitness score; through the
year the strategy holds what the best one holds. Before there is enough to rate it holds what the base's config does.

Each choice is kept with the probability that it is overfitted (PBO), and with what all choices before it came to,
beside the one setting that, in hindsight, would have been best over the same sessions. Each setting is a trial of the
ledger, with one row for each year in which it was rated.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage import clock, tables
from storage.keys import Moment, PanelKey, Produced, digest, to_json
from storage.schemas import CASH, TABLES
from storage.store import Store, open_store
from tasks import accounts, allocations, lanes, learning, panels, trials
from tasks.allocations import Allocation
from tasks.caching import cached_task, keyed_by
from tasks.numerics import fitness, overfitting
from tasks.numerics.configs import TRADING_DAYS, AccountingConfig, FitnessConfig, OnlineConfig
from tasks.numerics.execution import Liquidity
from tasks.prices import Prices, prices_of

NAME = "ogd_tuned"
KEYED = keyed_by(
    __name__,
    "tasks.accounts",
    "tasks.allocations",
    "tasks.lanes",
    "tasks.learning",
    "tasks.panels",
    "tasks.prices",
    "tasks.trials",
    "tasks.numerics.fitness",
    "tasks.numerics.overfitting",
    packages=("numpy", "numba", "scipy", "exchange-calendars"),
)
_FOUND = ("fitness", "median_fitness", "overfitting", "followed_fitness", "followed_return")
_FOUND += ("hindsight_fitness", "hindsight_return", "hindsight")  # columns that are empty until there is a choice
TOO_FEW = "fewer than two assets are eligible yet"
log = logging.getLogger("prism.tuned")
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """What there is to choose from, and by what."""

    base: OnlineConfig
    grid: lanes.Grid
    years: int  # of 252 sessions of the record that count; 0: all
    minimum: int  # sessions of the record below which nothing is chosen
    fitness: FitnessConfig
    accounting: AccountingConfig
    rebalance: str
    source: str = ""  # hash of the source of terms of one's own

    @property
    def settings(self) -> list[OnlineConfig]:
        """Every combination of the grid's values."""
        return lanes.combinations(self.base, self.grid)

    def shown(self, number: int) -> dict[str, Any]:
        """The fields of a setting that the grid varies."""
        return {name: getattr(self.settings[number], name) for name, _ in self.grid}


def key(moment: Moment, rule: Rule) -> str:
    """Key of the strategy's weights at one date."""
    return KEYED.key("tuned", prefix=moment.prefix, rule=rule)


@cached_task(cache_policy=KEYED, task_run_name=NAME + " from {moments[0].month}")
def follow(panel: PanelKey, history: tuple[Moment, ...], moments: tuple[Moment, ...], rule: Rule) -> Produced:
    """Keep the weights at `moments`, and the choices of their years and of all years before.

    `history` holds all dates of the data up to the last of `moments`.
    """
    store, loaded = open_store(), panels.load(open_store(), panel)
    keys = {moment: key(moment, rule) for moment in moments}
    there = tables.existing(store, "allocations", keys.values())
    missing = [moment for moment in moments if keys[moment] not in there]
    if missing:
        chosen = _choices(store, panel, history, missing[-1].rebalance_date.year, rule)
        by_setting: dict[int | None, list[Moment]] = {}
        for moment in missing:
            by_setting.setdefault(chosen[moment.rebalance_date.year].number, []).append(moment)
        found = []
        for number, dates in by_setting.items():
            config = rule.base if number is None else rule.settings[number]
            for moment, standing in _standing(loaded, history, dates, config).items():
                choice = chosen[moment.rebalance_date.year]
                found.append(_allocation(loaded, keys[moment], moment, standing, choice, rule))
        allocations.keep(store, found)
        log.info("%s at %d dates", NAME, len(found))
    return Produced("allocations", tuple(keys.values()))


def _standing(
    panel: panels.Panel, history: tuple[Moment, ...], dates: list[Moment], config: OnlineConfig
) -> dict[Moment, learning.Standing | None]:
    """How one setting, run alone, stands at each of the dates."""
    upto = tuple(moment for moment in history if moment.as_of <= dates[-1].as_of)
    learner, wanted = learning.online_allocator(config), set(dates)
    steps = learning.fold(panel, learner, upto, max_trade=config.max_trade)
    return {moment: standing for moment, standing in steps if moment in wanted}


@dataclass(frozen=True)
class _Choice:
    """The setting of one year; None while the base's own config is followed."""

    key: str
    number: int | None


def _allocation(
    panel: panels.Panel, key: str, moment: Moment, standing: learning.Standing | None, choice: _Choice, rule: Rule
) -> Allocation:
    if standing is None:
        return Allocation(key, moment, NAME, {CASH: 1.0}, {"reason": TOO_FEW})
    said = standing.said | {"choice": choice.key}
    said |= {"setting": "base" if choice.number is None else rule.shown(choice.number)}
    return Allocation(key, moment, NAME, allocations.by_ticker(panel.universe.assets, standing.held), said)


def _choices(store: Store, panel: PanelKey, history: tuple[Moment, ...], until: int, rule: Rule) -> dict[int, _Choice]:
    """The choice of each year up to `until`; those that the store lacks are made and kept."""
    firsts: dict[int, Moment] = {}
    for moment in history:
        if moment.rebalance_date.year <= until:
            firsts.setdefault(moment.rebalance_date.year, moment)
    keys = {year: KEYED.key("choice", prefix=moment.prefix, rule=rule) for year, moment in firsts.items()}
    stored = tables.read(store, "tunings", ["key", "number"], key=list(keys.values())).to_pylist()
    known = {row["key"]: row["number"] for row in stored}
    chosen = {year: _Choice(key, known[key]) for year, key in keys.items() if key in known}
    if len(chosen) < len(keys):
        record = _Record(store, panel, history, firsts[until], rule)
        rows, rated = [], None
        for year, moment in firsts.items():
            if year not in chosen:
                before = {earlier: choice.number for earlier, choice in chosen.items() if earlier < year}
                row, found = record.choose(moment, before)
                rated = found or rated
                rows.append({"key": keys[year], "created_at": clock.now(), **row})
                chosen[year] = _Choice(keys[year], row["number"])
        if rated is not None:
            _record_trials(store, panel.universe, rule, rated)
        tables.put(store, "tunings", pa.Table.from_pylist(rows, TABLES["tunings"].schema))
    return chosen


@dataclass(frozen=True)
class _Rated:
    """The accounts of all settings over one span."""

    start: date  # as-of date of the first trade
    end: date
    lanes: list[lanes.Lane]
    fitness: FloatArray  # (B,)

    @property
    def best(self) -> int | None:
        """The first of the settings with the highest fitness; None where no setting has any."""
        return int(np.nanargmax(self.fitness)) if np.isfinite(self.fitness).any() else None


class _Record:
    """What every setting holds at each trade up to a date, and its accounts up to any day before. D = dates."""

    def __init__(self, store: Store, panel: PanelKey, history: tuple[Moment, ...], last: Moment, rule: Rule) -> None:
        self._panel, self._rule = panels.load(store, panel), rule
        self._prices = prices_of(store, panel.snapshot, [panel.universe])
        self._market = accounts.liquidity(self._prices, [rule.accounting])
        dates = {moment.as_of for moment in panels.moments(store, panel, rule.rebalance)}
        self._dates = [moment for moment in history if moment.as_of in dates and moment.as_of < last.as_of]
        self._when = lanes.traded(self._prices, self._dates, rule.accounting)
        upto = tuple(moment for moment in history if moment.as_of < last.as_of)
        held = lanes.weights(self._panel, upto, self._dates, tuple(rule.settings))
        self._targets = lanes.targets(self._panel, self._prices, held)  # (D, B, n)
        self._begun = int(np.argmax(np.append(held.any(axis=(1, 2)), True)))  # the first date after the inception

    def choose(self, january: Moment, before: dict[int, int | None]) -> tuple[dict[str, Any], _Rated | None]:
        """The columns of a year's choice, by the sessions up to its as-of date, and the accounts that decided it.

        `before` holds the choices of earlier years: the newest of them stands where nothing can be chosen.
        """
        rule, end = self._rule, self._end(january)
        begun = self._begun < self._since(end)
        sessions = end - int(self._when[self._begun]) if begun else 0
        row: dict[str, Any] = {"strategy": NAME, "year": january.rebalance_date.year, "as_of": january.as_of}
        row |= {"settings": len(rule.settings), "sessions": sessions, **dict.fromkeys(_FOUND)}
        number, rated = next((n for _, n in sorted(before.items(), reverse=True) if n is not None), None), None
        if sessions >= rule.minimum:
            window = self._since(end - TRADING_DAYS * rule.years) if rule.years else 0
            rated = self._rated(max(self._begun, window), end)
        if rated is not None and rated.best is not None:
            number = rated.best
            row |= {"fitness": float(rated.fitness[number]), "median_fitness": float(np.nanmedian(rated.fitness))}
            row |= {"overfitting": _overfitting(rated.lanes), **self._past(end, before)}
        return row | {"number": number, "setting": None if number is None else to_json(rule.shown(number))}, rated

    def _end(self, moment: Moment) -> int:
        """Number of the prices' sessions up to the as-of session."""
        return int(np.searchsorted(self._prices.sessions, np.datetime64(moment.as_of), side="right"))

    def _since(self, session: int) -> int:
        """The first date that trades at that session or later."""
        return int(np.searchsorted(self._when, session))

    def _cut(self, end: int) -> tuple[Prices, Liquidity | None]:
        """What was known of the prices when `end` sessions were over."""
        market = self._market
        return self._prices.until(end), market and Liquidity(*(part[:end] for part in market))

    def _account(self, first: int, end: int, targets: FloatArray) -> lanes.Lane:
        """The account, up to session `end`, that opens at a date and follows targets (D, n)."""
        span = slice(first, self._since(end))
        return lanes.account(*self._cut(end), self._when[span], targets[span], self._rule.accounting)

    def _rated(self, first: int, end: int) -> _Rated:
        """The accounts of all settings from a date up to session `end`."""
        found = [self._account(first, end, self._targets[:, lane]) for lane in range(self._targets.shape[1])]
        last = self._prices.sessions[end - 1].item()
        return _Rated(self._dates[first].as_of, last, found, np.array([self._fitness(lane, end) for lane in found]))

    def _fitness(self, lane: lanes.Lane, end: int) -> float:
        config, betas = self._rule.fitness, {}
        if config.factor_weight:
            factors = self._panel.factors or {"market": self._panel.market}
            known = self._panel.at(self._prices.sessions[end - 1].item()) + 1
            common = min(known, lane.days.size)
            seen = {name: values[known - common : known] for name, values in factors.items()}
            betas = fitness.betas((lane.days - lane.cash)[-common:], seen)
        return fitness.score(lane.measures, lane.days, betas, config)["fitness"]

    def _past(self, end: int, before: dict[int, int | None]) -> dict[str, Any]:
        """What the choices so far came to, and the best one setting over the same sessions; nothing at the first."""
        numbers = [before.get(moment.rebalance_date.year) for moment in self._dates[: self._since(end)]]
        first = next((place for place, number in enumerate(numbers) if number is not None), None)
        if first is None:
            return {}
        chosen = np.zeros((len(self._dates), self._targets.shape[2]))
        for place, number in enumerate(numbers):
            if number is not None:
                chosen[place] = self._targets[place, number]
        own, fixed = self._account(first, end, chosen), self._rated(first, end)
        found = {"followed_fitness": self._fitness(own, end), "followed_return": own.measures["annual_return"]}
        if fixed.best is not None:
            found |= {"hindsight_fitness": fixed.fitness[fixed.best]}
            found |= {"hindsight_return": fixed.lanes[fixed.best].measures["annual_return"]}
        shown = {name: float(value) for name, value in found.items() if np.isfinite(value)}
        return shown | ({} if fixed.best is None else {"hindsight": to_json(self._rule.shown(fixed.best))})


def _overfitting(found: Sequence[lanes.Lane]) -> float | None:
    """PBO of the settings' returns over cash; None for a single one, or too short a record."""
    if len(found) < 2 or found[0].days.size < 2 * overfitting.BLOCKS:
        return None
    return overfitting.backtest_overfitting(np.column_stack([lane.days - lane.cash for lane in found]))


def _record_trials(store: Store, universe: str, rule: Rule, rated: _Rated) -> None:
    """Every setting as a trial of the ledger, its daily returns a column of one blob."""
    configs = rule.settings
    named = [
        trials.configuration(NAME, [({"rebalance": rule.rebalance, NAME: config}, universe)], rated.start)
        for config in configs
    ]
    keys = [digest(["trial", configuration, rated.end.year]) for configuration in named]
    if len(tables.existing(store, "trials", keys)) == len(keys):
        return
    shared = {"study": f"{NAME}:{rated.start}", "family": NAME, "universe": universe, "code": digest(KEYED.code)[:16]}
    shared |= {"terms": to_json({"rebalance": rule.rebalance}), "start_date": rated.start, "end_date": rated.end}
    shared["returns"] = trials.keep_returns(store, [lane.days for lane in rated.lanes])
    rows = [
        {"key": keys[number], "number": number, "configuration": named[number], **shared}
        | {"config": to_json({NAME: config}), **trials.of_lane(lane.days, lane.measures)}
        for number, (config, lane) in enumerate(zip(configs, rated.lanes, strict=True))
    ]
    tables.put(store, "trials", pa.Table.from_pylist(rows, TABLES["trials"].schema))
