"""The covariance of the next horizon's returns that allocators use: forecast volatilities, recent correlation."""

from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from tasks import panels
from tasks.numerics import covariance
from tasks.numerics.configs import CovarianceConfig

FloatArray = NDArray[np.float64]


def correlation(panel: panels.Panel, as_of: date, tickers: Sequence[str], config: CovarianceConfig) -> FloatArray:
    """Correlation (n, n) of the last sessions up to `as_of`."""
    columns = [panel.universe.assets.index(ticker) for ticker in tickers]
    last = panel.at(as_of) + 1
    recent = np.log1p(panel.returns[last - config.sessions : last, columns])
    return covariance.correlation(recent, config.shrinkage, config.ewma_decay)


def of(
    panel: panels.Panel, as_of: date, tickers: Sequence[str], variance: FloatArray, config: CovarianceConfig
) -> FloatArray:
    """H = D S D of the tickers' forecast variances (n,) and the sessions up to `as_of`: (n, n)."""
    return covariance.covariance(np.sqrt(variance), correlation(panel, as_of, tickers, config))
