"""What weights become until a later date, by ticker."""

from collections.abc import Mapping
from datetime import date

import numpy as np

from tasks.numerics import accounting
from tasks.numerics.configs import AccountingConfig
from tasks.prices import Prices


def drifted(
    prices: Prices, weights: Mapping[str, float], traded: date, until: date, config: AccountingConfig
) -> dict[str, float]:
    """Fractions of wealth at the close of `until`, of weights traded at the close of `traded`; cash is the rest."""
    begin, end = (int(np.searchsorted(prices.sessions, np.datetime64(day), side="right")) for day in (traded, until))
    cash = None if prices.risk_free is None else prices.risk_free[begin:end]
    start = np.array([weights.get(ticker, 0.0) for ticker in prices.tickers])
    after = accounting.drift(start, prices.returns[begin:end], config, prices.delisted - begin, cash)
    return dict(zip(prices.tickers, after.tolist(), strict=True))
