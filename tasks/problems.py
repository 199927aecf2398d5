"""What the return-drawdown optimiser is given at a date, and what it makes of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks import covariances, panels
from tasks.numerics import covariance, return_drawdown
from tasks.numerics.configs import CovarianceConfig, ReturnDrawdownConfig, named_numbers

FloatArray = NDArray[np.float64]
Moments = dict[str, tuple[float, float]]  # forecast mean and variance by ticker, sorted


@dataclass(frozen=True)
class Choice:
    """The numbers that a person chose."""

    units: str  # of the mean
    matrix: CovarianceConfig
    config: ReturnDrawdownConfig

    @property
    def unlimited(self) -> "Choice":
        """The same without any limit on the weights."""
        free = ReturnDrawdownConfig()
        names = ("max_weight", "max_sector_weight", "sector_caps", "min_weight", "turnover_limit")
        return replace(self, config=replace(self.config, **{name: getattr(free, name) for name in names}))


class Problem(NamedTuple):
    """Forecasts and correlation of the assets that may be held."""

    tickers: tuple[str, ...]  # (n,) sorted
    mean: FloatArray  # (n,) of the log return
    variance: FloatArray  # (n,)
    correlation: FloatArray  # (n, n)


def of(panel: panels.Panel, day: date, forecasts: Moments, matrix: CovarianceConfig) -> Problem:
    """The problem of one date."""
    tickers = tuple(forecasts)
    mean, variance = np.array(list(forecasts.values()), float).reshape(-1, 2).T
    return Problem(tickers, mean, variance, covariances.correlation(panel, day, tickers, matrix))


def solve(
    problem: Problem, choice: Choice, sectors: Mapping[str, str], held: Mapping[str, float] | None = None
) -> return_drawdown.Allocation:
    """The weights; `sectors` by ticker, of the whole universe, and what is held where turnover is limited."""
    simple = choice.units == "simple"
    return return_drawdown.solve(
        problem.mean + problem.variance / 2 if simple else problem.mean,
        covariance.covariance(np.sqrt(problem.variance), problem.correlation),
        with_sectors_at_hand(choice.config, sectors, problem.tickers),
        tuple(sectors[ticker] for ticker in problem.tickers),
        None if held is None else np.array([held.get(ticker, 0.0) for ticker in problem.tickers]),
    )


def with_sectors_at_hand(
    config: ReturnDrawdownConfig, sectors: Mapping[str, str], tickers: Sequence[str]
) -> ReturnDrawdownConfig:
    """The config without caps of sectors that the universe has and none of the assets with a forecast is in."""
    there = {sectors[ticker] for ticker in tickers}
    caps = named_numbers(config.sector_caps)
    kept = {name: cap for name, cap in caps.items() if name in there or name not in sectors.values()}
    return replace(config, sector_caps=", ".join(f"{name}={cap!r}" for name, cap in kept.items()))
