"""Section *growth*: what more assets, months, configs and constraints cost, and what twenty years hold in memory.

    online    `allocators.Online`: from equal weights through every session, a step each
    optimum   for every month the shrunk correlation of 60 sessions, and `return_drawdown.solve`

These are the functions that a run's tasks call, without the store. One size grows at a time; the others stay at 109
assets, 12 months, one config and no constraint. The baseline of a size is the cost of the smallest one, grown in
proportion: a ratio above 1 is better than that. A constraint comes to those before it, and its baseline is the cost
of none. An exponent is the slope of a line through the logarithms of cost and size; its baseline is 1.
"""
# Shapes: n = assets.

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tasks.numerics import covariance, return_drawdown
from tasks.numerics.allocators import Allocator, Market, Online, SectorFirst
from tasks.numerics.configs import OGD_LONG_WINDOW, RISK_FREE, TRADING_DAYS, OnlineConfig, ReturnDrawdownConfig
from tests.benchmarks import frame
from tests.benchmarks.allocators import MONTH, daily_returns
from tests.benchmarks.frame import Row, Section

FloatArray = NDArray[np.float64]
Work = Callable[[], object]

NAME = "growth"
N, MONTHS, YEARS = 109, 12, 20
ASSETS, LENGTHS, CONFIGS = (20, N, 500), (MONTHS, 60, 120, 240), (1, 64, 1024)
TURNS, RECENT = 3, 60
MEMORY = f"peak memory of both, {N} assets, {YEARS} years"
SECTORS, CAP = 10, 0.25

SHORTS = replace(OGD_LONG_WINDOW, fully_invested=False, gross_limit=1.6, short_each=0.05, short_total=0.3)
LIMITED = replace(SHORTS, drawdown_limit=0.1, volatility_limit=0.1)  # so that they bind
TAILED = replace(LIMITED, cvar_weight=1.0)
FACTORS = replace(TAILED, factor_weight=1.0, factor_targets="market=0.5")
CAPPED = ReturnDrawdownConfig(max_weight=0.1)
TRADING = replace(CAPPED, turnover_limit=0.2)
SECTORED = replace(TRADING, max_sector_weight=CAP)


def section() -> Section:
    """All rows, with what is asked of them."""
    rows = [
        *_grown("online", "assets", {n: online(n, MONTHS) for n in ASSETS}),
        *_grown("optimum", "assets", {n: optimum(n, MONTHS) for n in ASSETS}),
        *_grown("online", "months", {months: online(N, months) for months in LENGTHS}),
        *_grown("optimum", "months", {months: optimum(N, months) for months in LENGTHS}),
        *_grown("online", "configs", {count: online(N, MONTHS, Online(_rates(count))) for count in CONFIGS}),
        *_grown("optimum", "configs", {count: optimum(N, 1, *_alphas(count)) for count in CONFIGS}),
        *_constrained("online", _online_constraints()),
        *_constrained("optimum", _optimum_constraints()),
        frame.cost(NAME, MEMORY, _peak("period"), _peak("with_windows"), "MiB"),
    ]
    notes = (
        f"CPU time of all months; {N} assets, {MONTHS} months, one config, no constraint where not said otherwise",
        "baseline: the smallest size in proportion; no constraint; an exponent of 1",
        "the optimum is long only, and takes its configs one after another; online steps take them as lanes",
        "memory: a process of its own on generated returns, imports included; baseline: every session's window kept",
    )
    return Section(NAME, notes, tuple(rows), most={MEMORY: 2048})


def exponent(costs: Mapping[int, float]) -> float:
    """The power of its size that a cost grows with, by least squares of the logarithms."""
    return float(np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)[0])


def _grown(name: str, what: str, works: Mapping[int, Work]) -> list[Row]:
    """A row for each size, and one for the exponent."""
    seconds = frame.interleaved({str(size): work for size, work in works.items()}, TURNS)
    costs = {size: 1e3 * seconds[str(size)] for size in works}
    least = min(costs)
    rows = [
        frame.cost(NAME, f"{name}, {what} {size:,}", spent, costs[least] * size / least, "ms")
        for size, spent in costs.items()
    ]
    return [*rows, frame.cost(NAME, f"{name}, exponent of {what}", exponent(costs), 1.0, "power")]


def _constrained(name: str, works: Mapping[str, Work]) -> list[Row]:
    """A row for each constraint, those before it included."""
    seconds = frame.interleaved(works, TURNS)
    free = seconds["none"]
    return [frame.cost(NAME, f"{name}, {said}", 1e3 * spent, 1e3 * free, "ms") for said, spent in seconds.items()]


# --- work


def market(n: int, months: int) -> Market:
    """Generated returns with those that the first step looks back on; the market's mean is a factor."""
    returns = daily_returns(n, MONTH * months + TRADING_DAYS - 1, n)
    cash = np.full(len(returns), RISK_FREE / TRADING_DAYS)
    return Market(returns, np.ones((MONTH * months, n), bool), cash, {"market": returns.mean(axis=1)})


def online(n: int, months: int, allocator: Allocator | None = None) -> Work:
    """Every session of so many months."""
    known, chosen = market(n, months), allocator or Online(OGD_LONG_WINDOW)
    return lambda: chosen.run(chosen.init(known.mask[0]), known)


def optimum(n: int, months: int, *configs: ReturnDrawdownConfig) -> Work:
    """Every month's covariance and optima, from the month before's weights on."""
    logs, rng = np.log1p(market(n, months).returns), np.random.default_rng(n)
    means, sigmas = rng.normal(0.01, 0.02, (months, n)), 0.09 * np.exp(0.35 * rng.standard_normal((months, n)))
    sectors = tuple(f"S{asset % SECTORS}" for asset in range(n))

    def work() -> None:
        held = {config: np.full(n, 1 / n) for config in configs or (ReturnDrawdownConfig(),)}
        for month in range(months):
            recent = logs[MONTH * month : MONTH * month + RECENT]
            known = covariance.covariance(sigmas[month], covariance.correlation(recent, "ledoit_wolf"))
            for config, before in held.items():
                held[config] = return_drawdown.solve(means[month], known, config, sectors, before).weights

    return work


def _rates(count: int) -> tuple[OnlineConfig, ...]:
    return tuple(replace(OGD_LONG_WINDOW, learning_rate=rate) for rate in np.geomspace(1e-3, 0.05, count).tolist())


def _alphas(count: int) -> tuple[ReturnDrawdownConfig, ...]:
    return tuple(ReturnDrawdownConfig(alpha=alpha) for alpha in np.geomspace(0.01, 2.0, count).tolist())


def _online_constraints() -> dict[str, Work]:
    sectors = tuple(f"S{asset % SECTORS}" for asset in range(N))
    allocators = {
        "none": Online(OGD_LONG_WINDOW),
        "+ leverage and shorts": Online(SHORTS),
        "+ limits": Online(LIMITED),
        "+ CVaR": Online(TAILED),
        "+ factor term": Online(FACTORS),
        "+ sector caps": SectorFirst(Online(FACTORS), Online(FACTORS), sectors, CAP),
    }
    return {said: online(N, MONTHS, allocator) for said, allocator in allocators.items()}


def _optimum_constraints() -> dict[str, Work]:
    configs = {
        "none": ReturnDrawdownConfig(),
        "+ cap on weights": CAPPED,
        "+ turnover limit": TRADING,
        "+ sector caps": SECTORED,
    }
    return {said: optimum(N, MONTHS, config) for said, config in configs.items()}


# --- memory, each in a process of its own


def period() -> None:
    """Both allocators through all years."""
    online(N, MONTHS * YEARS)()
    optimum(N, MONTHS * YEARS)()


def with_windows() -> None:
    """The same beside the window of every session, kept."""
    returns = market(N, MONTHS * YEARS).returns
    windows = np.lib.stride_tricks.sliding_window_view(returns, OGD_LONG_WINDOW.window, axis=0).copy()
    period()
    del windows


def _peak(function: str) -> float:
    return frame.peak_memory(__name__, function)
