"""How far rounding carries an online strategy: `python -m tests.benchmarks.rounding STORE SCENARIO FIRST LAST`.

Steps follow from one another, session after session, so that one other last digit, by another version of the code or
another processor, may grow. Each variant of the studies of online strategies is decided on the prices of the scenario's
newest date as they are, then 20 times with each return changed by about one part in 10^14, and accounted over the
months from FIRST to LAST. A line of JSON each: how far weights part, the Sharpe ratios, and in how many of the 20 the
interval of the difference to the study's default, as it is, misses 0.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import flows  # noqa: F401 - prepares the environment as every entry point does, before numba is imported
from flows.parameters import Parameters
from storage import ledger
from storage.keys import Moment, PanelKey
from storage.store import Store, open_store
from tasks import lanes, panels
from tasks.numerics import differences, inference
from tasks.numerics.configs import TRADING_DAYS, AccountingConfig, OnlineConfig
from tasks.prices import Prices, prices_of
from tasks.studies import STUDIES, Study, Variant

FloatArray = NDArray[np.float64]
PART, TIMES = 1e-14, 20
ONLINE = Parameters().online


@dataclass(frozen=True)
class Months:
    """The months that are accounted, and the prices behind them."""

    panel: panels.Panel
    prices: Prices
    moments: tuple[Moment, ...]  # all that the data can decide
    chosen: list[int]  # places of the accounted ones

    def weights(self, config: OnlineConfig, seed: int | None = None) -> FloatArray:
        """What a strategy holds after each accounted date (K, A): on the prices, or on changed ones."""
        panel = self.panel if seed is None else changed(self.panel, seed)
        return lanes.weights(panel, self.moments, self.moments, (config,))[self.chosen, 0]

    def account(self, held: FloatArray) -> lanes.Lane:
        """What these weights earned on the prices as they are."""
        terms, targets = AccountingConfig(), lanes.targets(self.panel, self.prices, held)
        when = lanes.traded(self.prices, [self.moments[place] for place in self.chosen], terms)
        return lanes.account(self.prices, None, when, targets, terms)


def changed(panel: panels.Panel, seed: int) -> panels.Panel:
    """The panel with each return another in its last digits."""
    noise = np.random.default_rng(seed).standard_normal(panel.returns.shape)
    return replace(panel, returns=panel.returns * (1 + PART * noise))


def read(store: Store, scenario: str, first: str, last: str) -> Months:
    """The months from `first` to `last`, like 2017-01, at the newest date of a scenario."""
    newest = list(ledger.current(store, scenario).values())[-1]
    key = PanelKey(newest.record["snapshot"], newest.record["universe"])
    panel, moments = panels.load(store, key), panels.moments(store, key)
    chosen = [place for place, moment in enumerate(moments) if first <= moment.month <= last]
    prices = prices_of(store, key.snapshot, [key.universe])
    end = np.searchsorted(prices.sessions, np.datetime64(last, "M") + 1)
    return Months(panel, prices.until(int(end)), moments, chosen)


def asked() -> dict[str, Study]:
    """The studies whose variants change nothing but an online strategy."""
    return {name: study for name, study in STUDIES.items() if all(_only_online(study, one) for one in study.variants)}


def _only_online(study: Study, variant: Variant) -> bool:
    name = study.strategy_of(variant)
    return name in ONLINE and all(field.startswith(f"{name}.") for field in variant.changes)


def config_of(study: Study, variant: Variant) -> OnlineConfig:
    """The online config that a variant stands for."""
    name = study.strategy_of(variant)
    return replace(ONLINE[name], **{field.removeprefix(f"{name}."): value for field, value in variant.changes.items()})


def look(months: Months, study: Study, times: int = TIMES) -> Iterator[dict[str, Any]]:
    """What the changes do to each variant of a study."""
    found = {variant.label: config_of(study, variant) for variant in study.variants}
    default = months.account(months.weights(found[study.default]))
    for label, config in found.items():
        held = months.weights(config)
        others = [months.weights(config, seed) for seed in range(1, times + 1)]
        records = [months.account(weights) for weights in others]
        gaps = [differences.paired(one.days, default.days, one.cash)[0] for one in records if label != study.default]
        yield {
            "variant": label,
            "parted": float(max(np.abs(weights - held).sum(axis=1).max() for weights in others)),
            "sharpe": _sharpe(months.account(held)),
            "sharpes": sorted(_sharpe(one) for one in records),
            "told": sum(gap.lower > 0 or gap.upper < 0 for gap in gaps),
        }


def _sharpe(lane: lanes.Lane) -> float:
    return float(np.sqrt(TRADING_DAYS) * inference.sharpe(lane.days - lane.cash))


def main() -> None:
    """Look at the studies that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("store", "scenario", "first", "last"):
        parser.add_argument(name)
    parser.add_argument("--study", action="append", choices=sorted(asked()), dest="studies")
    given = parser.parse_args()
    os.environ["PRISM_STORE"] = given.store
    months = read(open_store(), given.scenario, given.first, given.last)
    for name in given.studies or asked():
        for row in look(months, STUDIES[name]):
            print(json.dumps({"study": name} | row), flush=True)


if __name__ == "__main__":
    main()
