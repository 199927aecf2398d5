"""What the strategies of a scenario are made of, and the keys of their weights at each date.

Most strategies need nothing but what is known at a date. Two kinds form a chain instead: return-drawdown with a limit
on its turnover starts from what it held, and experts follow what the others earned. Their first date is the scenario's
`begin`, by default the first that has a forecast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flows.grids import grid_of
from flows.parameters import FIXED, Parameters
from storage.errors import InputError
from storage.keys import Moment
from tasks import accounts, allocate, baselines, experts, learn, learning, own_code, panels, sweep, tuned
from tasks.allocate import Rule
from tasks.learning import Recipe
from tasks.numerics.configs import OPTIMISED_BASELINES


@dataclass(frozen=True)
class Strategies:
    """What is run: recipes of those that learn, modules that allocate date by date, and the rest by name."""

    names: tuple[str, ...]
    rule: Rule
    recipes: dict[str, Recipe] = field(default_factory=dict)
    modules: dict[str, tuple[str, str]] = field(default_factory=dict)  # path, and hash of its source
    optimised: dict[str, baselines.Rule] = field(default_factory=dict)
    choosing: tuned.Rule | None = None

    @property
    def is_chained(self) -> bool:
        """Whether some strategy needs every date from the first of the chain on."""
        return experts.NAME in self.names or ("return_drawdown" in self.names and self.rule.is_chained)

    @property
    def code(self) -> dict[str, str]:
        """Hash of the source of each module of one's own, for the record."""
        found = {f"own.{name}": source for name, (_, source) in self.modules.items()}
        found |= {f"own.{tuned.NAME}": self.choosing.source} if self.choosing and self.choosing.source else {}
        return found | {f"own.{name}": recipe.source for name, recipe in self.recipes.items() if recipe.source}


def of(panel: panels.Panel, parameters: Parameters) -> Strategies:
    """The strategies that these prices allow: `index` needs an index, and is left out without one.

    InputError where that leaves out the published one, where sectors are needed and the universe names none, where
    costs need what an asset's prices lack, where a module of one's own cannot be used, and where a grid is none.
    """
    names = [name for name in parameters.strategies if name != "index" or panel.index_returns is not None]
    names += parameters.own
    if parameters.publish not in names:
        raise InputError("publish is 'index' and the universe has no index; name one with --index TICKER")
    index = (panel.universe.index,) if "index" in names and panel.universe.index else ()
    accounts.check_liquidity(panel.series, (*panel.universe.assets, *index), parameters.accounting)
    recipes = {name: _recipe(name, parameters) for name in names if name in parameters.online}
    modules = {}
    for name, path in parameters.own.items():
        if own_code.is_stepped(own_code.strategy(path)):
            recipes[name] = learning.of_own(name, path)
        else:
            modules[name] = path, own_code.source(path)
    if "sector_ogd" in names:
        recipes["sector_ogd"] = _sector_recipe(parameters)
        learning.allocator(recipes["sector_ogd"], panel)
    units, costs = parameters.forecast.mean_units, parameters.accounting
    rule = Rule(units, parameters.covariance, parameters.return_drawdown, costs)
    known = [name for name in names if name in OPTIMISED_BASELINES]
    optimised = {name: baselines.Rule(name, parameters.baselines, costs.cash_rate) for name in known}
    choosing = _tuned_rule(parameters) if tuned.NAME in names else None
    return Strategies(tuple(names), rule, recipes, modules, optimised, choosing)


def own_source(parameters: Parameters) -> dict[str, str]:
    """Hash of the source of one's own that the parameters name, by strategy: modules and terms."""
    found = {name: own_code.source(path) for name, path in parameters.own.items()}
    return found | {name: learning.of_online(name, config).source for name, config in parameters.online.items()}


def _recipe(name: str, parameters: Parameters) -> Recipe:
    """An online strategy, one of one's own that steps, or equal weights."""
    if name in parameters.online:
        return learning.of_online(name, parameters.online[name])
    if name in parameters.own:
        return learning.of_own(name, parameters.own[name])
    return Recipe(name)


def _sector_recipe(parameters: Parameters) -> Recipe:
    config = parameters.sector_ogd
    outer, inner = (_recipe(level, parameters) for level in (config.outer, config.inner))
    return Recipe("sector_ogd", outer=outer, inner=inner, cap=config.max_sector_weight)


def _tuned_rule(parameters: Parameters) -> tuned.Rule:
    """What `ogd_tuned` chooses from. InputError for a grid with a combination that is no config."""
    config, base = parameters.ogd_tuned, parameters.online[parameters.ogd_tuned.base]
    grid = sweep.checked_grid(base, grid_of(config.grid.split(";")))
    source = learning.of_online(tuned.NAME, base).source
    terms = parameters.fitness, parameters.accounting, parameters.schedule
    return tuned.Rule(base, grid, config.years, config.minimum_sessions, *terms, source)


@dataclass(frozen=True)
class Keys:
    """Keys of weights: by date and strategy, and what the chained strategies know of each date."""

    weights: dict[Moment, dict[str, str]]
    return_drawdown: tuple[allocate.Date, ...]
    experts: tuple[experts.Date, ...]


def keys(
    strategies: Strategies, dates: Sequence[tuple[Moment, str | None]], parameters: Parameters, begin: Moment | None
) -> Keys:
    """Keys at each of the dates, given in order with their forecasts: all dates up to the last where one is chained."""
    weights = {moment: _apart(strategies, moment, forecast, parameters) for moment, forecast in dates}
    optimised: tuple[allocate.Date, ...] = ()
    if "return_drawdown" in strategies.names:
        optimised = allocate.return_drawdown_dates(dates, begin, strategies.rule)
        for date in optimised:
            weights[date.moment]["return_drawdown"] = date.key
    followed: tuple[experts.Date, ...] = ()
    if experts.NAME in strategies.names:
        given = [(moment, _followed(weights[moment])) for moment, _ in dates]
        followed = experts.dates(given, begin, parameters.experts, parameters.accounting)
        for date in followed:
            weights[date.moment][experts.NAME] = date.key
    return Keys({at: dict(sorted(own.items())) for at, own in weights.items()}, optimised, followed)


def _followed(weights: Mapping[str, str]) -> dict[str, str]:
    """What experts follow: every other strategy but the index."""
    return {name: key for name, key in weights.items() if name not in (experts.NAME, "index")}


def _apart(strategies: Strategies, moment: Moment, forecast: str | None, parameters: Parameters) -> dict[str, str]:
    """Keys of the strategies whose dates do not depend on each other."""
    found = {name: learn.key(moment, recipe, parameters.schedule) for name, recipe in strategies.recipes.items()}
    found |= {name: allocate.fixed_key(moment, name) for name in strategies.names if name in FIXED}
    found |= {tuned.NAME: tuned.key(moment, strategies.choosing)} if strategies.choosing else {}
    found |= {name: baselines.key(moment, rule) for name, rule in strategies.optimised.items()}
    return found | {
        name: allocate.own_key(moment, forecast, name, path, source)
        for name, (path, source) in strategies.modules.items()
    }
