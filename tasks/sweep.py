"""Stage *sweep*: many configs of one online strategy in one batched run, each of them a trial of the ledger.

All lanes are folded from the universe's inception, as one strategy is, and trade at the same dates. Their accounts give
daily returns after costs, out of sample: what a config decided with data up to a date earns from then on. To choose the
best of many is another matter; the ledger keeps them all so that a choice can be discounted.
"""

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import tables
from storage.errors import InputError
from storage.keys import Moment, PanelKey, canonical, digest, to_json
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import accounts, lanes, panels
from tasks import trials as ledger
from tasks.caching import keyed_by, versions
from tasks.numerics.configs import AccountingConfig, OnlineConfig
from tasks.prices import prices_of

KEYED = keyed_by(
    __name__,
    "tasks.accounts",
    "tasks.lanes",
    "tasks.panels",
    "tasks.prices",
    "tasks.trials",
    packages=("numpy", "numba", "exchange-calendars"),
)
_AT_ONCE = 256  # lanes whose weights are in memory together
_MOST = 100_000
log = logging.getLogger("prism.sweep")
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Sweep:
    """What its trials have in common, and what tells them apart."""

    name: str
    strategy: str
    base: OnlineConfig
    grid: lanes.Grid
    accounting: AccountingConfig
    universe: str
    rebalance: str

    @property
    def configs(self) -> list[OnlineConfig]:
        """Every combination of the grid's values, the last field's changing fastest."""
        return lanes.combinations(self.base, self.grid)


def checked_grid(base: OnlineConfig, grid: dict[str, Sequence[Any]]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """The grid, if each of its combinations is a config. InputError with the first that is none, or for too many."""
    known = asdict(base)
    unknown = [name for name in grid if name not in known]
    if unknown or not grid:
        wrong = f"grid names {unknown[0]!r}" if unknown else "grid is empty"
        raise InputError(f"{wrong}; name one or more of {', '.join(known)}")
    count = int(np.prod([len(values) for values in grid.values()]))
    if not 1 <= count <= _MOST:
        raise InputError(f"grid has {count} combinations; it must have 1 to {_MOST}")
    found = tuple((name, tuple(_typed(name, known[name], value) for value in values)) for name, values in grid.items())
    for values in itertools.product(*(values for _, values in found)):
        try:
            replace(base, **dict(zip(grid, values, strict=True)))
        except (TypeError, ValueError) as error:
            raise InputError(f"grid has a combination that is no config: {error}") from error
    return found


def _typed(name: str, default: Any, value: Any) -> Any:
    """The value as the field's type. InputError for a fraction where whole numbers count."""
    if isinstance(default, (bool, str)) or not isinstance(value, (int, float)) or isinstance(value, bool):
        return value
    if isinstance(default, int) and not float(value).is_integer():
        raise InputError(f"grid gives {name} the value {value}; it must be a whole number")
    return type(default)(value)


@task(cache_policy=NO_CACHE, task_run_name="sweep {sweep.name}")
def run_sweep(panel: PanelKey, history: tuple[Moment, ...], moments: tuple[Moment, ...], sweep: Sweep) -> int:
    """Account every config over `moments` and record it, where its name has no trials yet; how many there are.

    `history` holds all dates of the data up to the last of `moments`. InputError where the name has trials of other
    terms.
    """
    store, terms = open_store(), _terms(sweep, moments)
    before = tables.read(store, "trials", ["terms"], study=sweep.name)["terms"].to_pylist()
    if any(json.loads(entry) != canonical(terms) for entry in before):
        raise InputError(f"{sweep.name} has trials of other terms; give another --name")
    if len(before) != len(sweep.configs):
        trials = list(_trials(store, panel, history, moments, sweep))
        _record(store, sweep, terms, moments, trials)
    return len(sweep.configs)


def _terms(sweep: Sweep, moments: tuple[Moment, ...]) -> dict[str, Any]:
    """What trials would not compare without."""
    named = {"strategy": sweep.strategy, "base": sweep.base, "grid": sweep.grid, "accounting": sweep.accounting}
    span = {"start": moments[0].month, "end": moments[-1].month, "rebalance": sweep.rebalance}
    return named | span | {"prices": moments[-1].prefix[:16], "code": KEYED.code, "versions": versions(KEYED.packages)}


def _trials(
    store: Store, panel: PanelKey, history: tuple[Moment, ...], moments: tuple[Moment, ...], sweep: Sweep
) -> Iterator[lanes.Lane]:
    """The accounts, in the order of the configs."""
    everything = panels.load(store, panel)
    prices = prices_of(store, panel.snapshot, [panel.universe])
    when = lanes.traded(prices, moments, sweep.accounting)
    configs, market = sweep.configs, accounts.liquidity(prices, [sweep.accounting])
    for first in range(0, len(configs), _AT_ONCE):
        some = tuple(configs[first : first + _AT_ONCE])
        held = lanes.weights(everything, history, moments, some)
        for lane in range(len(some)):
            targets = lanes.targets(everything, prices, held[:, lane])
            yield lanes.account(prices, market, when, targets, sweep.accounting)
        log.info("%d of %d configs", first + len(some), len(configs))


def _record(
    store: Store, sweep: Sweep, terms: dict[str, Any], moments: tuple[Moment, ...], trials: Sequence[lanes.Lane]
) -> None:
    """Write all trials, their daily returns as columns of one blob."""
    blob = ledger.keep_returns(store, [trial.days for trial in trials])
    dates = {"start_date": moments[0].as_of, "end_date": moments[-1].as_of}
    shared = {"study": sweep.name, "family": sweep.strategy, "terms": to_json(terms), "universe": sweep.universe}
    shared |= {"code": digest(KEYED.code)[:16]}
    rows = [
        {"key": digest(["trial", sweep.name, number]), "number": number, **shared, **dates}
        | ledger.of_lane(trial.days, trial.measures)
        | {"config": to_json({sweep.strategy: config}), "returns": blob}
        | {"configuration": _configuration(sweep, config, moments[0].as_of)}
        for number, (config, trial) in enumerate(zip(sweep.configs, trials, strict=True))
    ]
    tables.put(store, "trials", pa.Table.from_pylist(rows, TABLES["trials"].schema))


def _configuration(sweep: Sweep, config: OnlineConfig, start: date) -> str:
    """The same as that of a scenario that runs this config from the same date on."""
    made = {"rebalance": sweep.rebalance, sweep.strategy: config}
    return ledger.configuration(sweep.strategy, [(made, sweep.universe)], start)
