"""Section *allocators*: our solvers beside plain transcriptions of the founding documents' methods.

    return-drawdown   ours: `return_drawdown.solve`, exact and with SLSQP on top of the certified optimum
                      baseline: scipy's SLSQP from equal weights with a numeric gradient, as the first document says
    online step       ours: `online.run`, a session of it
                      baseline: one step of the second document's objective by torch autograd, projected by sorting
    sweep             ours: 1,024 configs as lanes of one run; baseline: that step, once for each config

Both see the same instances: a market, sectors and heavy-tailed noise, correlations of 60 sessions, forecast
volatilities around 9 % in 21 sessions, and means of either sign or all negative.
"""
# Shapes: n = assets.

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from tasks.numerics import covariance, online, return_drawdown
from tasks.numerics.configs import OGD_LONG_WINDOW, OnlineConfig, ReturnDrawdownConfig
from tests.benchmarks import frame
from tests.benchmarks.frame import Row, Section

FloatArray = NDArray[np.float64]

NAME, MICROSECONDS = "allocators", "us"
SIZES = (9, 20, 109, 500)
TURNS = 5
EXACT, POLISHED = ReturnDrawdownConfig(method="exact"), ReturnDrawdownConfig()
LANES, MONTHS, MONTH = 1024, 120, 21
SWEEP = f"sweep of {LANES:,} configs, a step of one, n = 109"
DECADE = f"{MONTHS} months of both allocators, n = 109"
WITH_INPUTS = f"{DECADE}, with covariances"
LEAST = {
    "return-drawdown, exact, n = 109": 250,
    "return-drawdown, with SLSQP, n = 109": 60,
    "return-drawdown, exact, n = 500": 700,
    "online step, n = 109": 60,
    SWEEP: 200,
}


class Instance(NamedTuple):
    """What the return-drawdown optimiser is given."""

    mean: FloatArray
    covariance: FloatArray


def daily_returns(n: int, sessions: int, seed: int) -> FloatArray:
    """A market, a sector for ten assets, and noise of four degrees of freedom."""
    rng = np.random.default_rng(seed)
    sectors = rng.normal(0, 0.006, (sessions, n // 10 + 1))[:, rng.integers(0, n // 10 + 1, n)]
    return rng.normal(3e-4, 0.008, (sessions, 1)) + sectors + 0.008 * rng.standard_t(4, (sessions, n))


def instance(n: int, regime: str, seed: int) -> Instance:
    """Forecast means of either sign ("mixed") or all negative, with the covariance of 60 sessions' correlation."""
    rng = np.random.default_rng(seed)
    sigma = 0.09 * np.exp(0.35 * rng.standard_normal(n))
    mean = rng.normal(0.01, 0.02, n)
    if regime == "all negative":
        mean = -np.abs(mean) - 1e-3
    return Instance(mean, covariance.covariance(sigma, covariance.correlation(daily_returns(n, 60, seed), "none")))


# --- the documents' methods


def document_ratio(weights: FloatArray, given: Instance, alpha: float = 0.2) -> float:
    """Minus the first document's objective."""
    drawdown = max(1e-4, 2 * np.sqrt(21) * np.sqrt(weights @ given.covariance @ weights))
    mean = weights @ given.mean
    return -(mean / drawdown + alpha * mean if mean > 0 else mean * np.sqrt(21) * drawdown)


def document_weights(given: Instance) -> FloatArray:
    """The first document's optimiser."""
    n = given.mean.size
    found = minimize(
        document_ratio,
        np.full(n, 1 / n),
        args=(given,),
        method="SLSQP",
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    return found.x


class DocumentStep:
    """The second document's strategy: a step is an autograd gradient, momentum and a projection by sorting."""

    def __init__(self, n: int, window: FloatArray) -> None:
        self.see(window)
        self.weights = self._before = torch.full((n,), 1 / n, dtype=torch.float64)
        self._velocity = torch.zeros(n, dtype=torch.float64)

    def see(self, window: FloatArray) -> None:
        """Take these as the last sessions' returns."""
        self._window = torch.tensor(window)

    def __call__(self) -> None:
        """One session."""
        weights = self.weights.clone().requires_grad_(True)
        objective = self._objective(weights)
        (slope,) = torch.autograd.grad(objective, weights)
        self._velocity = 0.8 * self._velocity + 0.01 * slope
        self._before, self.weights = self.weights, _onto_simplex(self.weights + self._velocity)

    def _objective(self, weights: torch.Tensor) -> torch.Tensor:
        returns = self._window @ weights
        excess = returns - 0.02 / 252
        downside = torch.sqrt((torch.clamp(excess, max=0) ** 2).mean() + 1e-8)
        wealth = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 + returns, 0)])
        drawdown = (1 - wealth / torch.cummax(wealth, 0).values).max()
        turnover = (weights - self._before).abs().sum()
        return excess.mean() / downside - drawdown - 0.1 * turnover - 0.05 * weights.abs().sum()


def _onto_simplex(point: torch.Tensor) -> torch.Tensor:
    ordered = torch.sort(point, descending=True).values
    excess = torch.cumsum(ordered, 0) - 1
    held = int((ordered > excess / torch.arange(1, point.numel() + 1)).sum())
    return torch.clamp(point - excess[held - 1] / held, min=0)


# --- measurements


def section() -> Section:
    """All rows, with what is asked of them."""
    torch.set_num_threads(1)
    rows = [row for n in SIZES for row in _return_drawdown(n)]
    rows += [_step(n) for n in SIZES]
    rows += [_sweep(), *_decade()]
    notes = (
        "CPU time of one solve or step, medians of interleaved runs; means of either sign unless said otherwise",
        "baseline: SLSQP from equal weights with a numeric gradient; a torch autograd step",
        "floor: share of the time that the two matrix products with the window take by themselves",
    )
    return Section(NAME, notes, tuple(rows), LEAST, {DECADE: 100})


def _return_drawdown(n: int) -> list[Row]:
    rows = []
    for regime in ("mixed", "all negative"):
        given = [instance(n, regime, seed) for seed in range(4 if n < 500 else 1)]
        repeated = max(1, 200 // n)
        seconds = frame.interleaved(
            {
                "document": lambda given=given: [document_weights(entry) for entry in given],
                "exact": partial(_solved, given, EXACT, repeated),
                "with SLSQP": partial(_solved, given, POLISHED, repeated),
            },
            TURNS if n < 500 else 1,
        )
        said = "" if regime == "mixed" else f", {regime}"
        for method in ("exact", "with SLSQP"):
            ours, baseline = seconds[method] / repeated, seconds["document"]
            case = f"return-drawdown, {method}{said}, n = {n}"
            rows.append(frame.cost(NAME, case, 1e6 * ours / len(given), 1e6 * baseline / len(given), MICROSECONDS))
    return rows


def _solved(given: list[Instance], config: ReturnDrawdownConfig, repeated: int) -> None:
    for _ in range(repeated):
        for entry in given:
            return_drawdown.solve(entry.mean, entry.covariance, config)


def _step(n: int) -> Row:
    sessions, steps = 1000, 100
    returns = daily_returns(n, sessions + OGD_LONG_WINDOW.window - 1, n)
    document = DocumentStep(n, returns[: OGD_LONG_WINDOW.window])
    seconds = frame.interleaved(
        {"ours": _run(returns, sessions, OGD_LONG_WINDOW), "document": lambda: [document() for _ in range(steps)]},
        TURNS,
    )
    ours, baseline = 1e6 * seconds["ours"] / sessions, 1e6 * seconds["document"] / steps
    return frame.cost(NAME, f"online step, n = {n}", ours, baseline, MICROSECONDS)


def _run(returns: FloatArray, sessions: int, config: online.Configs) -> Callable[[], object]:
    """A run over the last sessions of the returns, from its beginning."""
    mask = np.ones((sessions, returns.shape[1]), bool)
    begun = online.init(mask[0], config)
    return lambda: online.run(begun, returns, mask, config)


def _lanes() -> tuple[OnlineConfig, ...]:
    rates, momenta = np.geomspace(1e-3, 0.05, 32).tolist(), np.linspace(0, 0.9, LANES // 32).tolist()
    return tuple(replace(OGD_LONG_WINDOW, learning_rate=rate, momentum=m) for rate in rates for m in momenta)


def _sweep() -> Row:
    sessions, steps = MONTH, 100
    returns = daily_returns(109, sessions + OGD_LONG_WINDOW.window - 1, 0)
    document = DocumentStep(109, returns[: OGD_LONG_WINDOW.window])
    window, lanes = returns[: OGD_LONG_WINDOW.window], np.random.default_rng(0).dirichlet(np.ones(109), LANES)
    seconds = frame.interleaved(
        {
            "ours": _run(returns, sessions, _lanes()),
            "document": lambda: [document() for _ in range(steps)],
            "products": lambda: [(lanes @ window.T) @ window for _ in range(sessions)],
        },
        3 * TURNS,  # of a few hundredths of a second each
    )
    ours, baseline = 1e6 * seconds["ours"] / sessions / LANES, 1e6 * seconds["document"] / steps
    return frame.cost(NAME, SWEEP, ours, baseline, MICROSECONDS, seconds["products"] / seconds["ours"])


def _decade() -> list[Row]:
    """Both allocators over ten years: a polished optimum a month, a step a session; then with shrunk covariances."""
    sessions = MONTHS * MONTH
    returns = daily_returns(109, sessions + OGD_LONG_WINDOW.window - 1, 1)
    logs, rng = np.log1p(returns), np.random.default_rng(2)
    means, sigmas = rng.normal(0.01, 0.02, (MONTHS, 109)), 0.09 * np.exp(0.35 * rng.standard_normal((MONTHS, 109)))
    document, share = DocumentStep(109, returns[: OGD_LONG_WINDOW.window]), 10

    def given(month: int) -> Instance:
        recent = logs[MONTH * month + 30 : MONTH * month + 90]
        correlation = covariance.correlation(recent, "ledoit_wolf")
        return Instance(means[month], covariance.covariance(sigmas[month], correlation))

    known, steps = [given(month) for month in range(MONTHS)], _run(returns, sessions, OGD_LONG_WINDOW)

    def documents() -> None:  # a tenth of the months and sessions
        for entry in known[::share]:
            document_weights(entry)
        for _ in range(sessions // share):
            document()

    seconds = frame.interleaved(
        {
            "steps": steps,
            "optima": lambda: _solved(known, POLISHED, 1),
            "inputs": lambda: [given(month) for month in range(MONTHS)],
            "documents": documents,
        },
        3,
    )
    ours, theirs = seconds["steps"] + seconds["optima"], share * seconds["documents"]
    rows = {DECADE: ours, WITH_INPUTS: ours + seconds["inputs"]}
    return [frame.cost(NAME, case, 1e3 * spent, 1e3 * theirs, "ms") for case, spent in rows.items()]
