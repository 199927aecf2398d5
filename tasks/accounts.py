"""The account of one strategy over the prices of its universes, whoever asks for it: backtest, sweep or experts."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError
from tasks import panels
from tasks.numerics import accounting, impact, returns
from tasks.numerics.accounting import Account
from tasks.numerics.configs import AccountingConfig
from tasks.numerics.execution import IlliquidError, Liquidity

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

WINDOW = 21  # sessions of its own over which an asset's spread, volatility and volume are averaged


def liquidity(prices: panels.Prices, configs: Iterable[AccountingConfig]) -> Liquidity | None:
    """How the tickers trade at each session, by their bars up to it; None where no costs depend on it."""
    if all(config.costs == "flat" for config in configs):
        return None
    columns = [_estimates(prices.series[ticker], prices.sessions.size) for ticker in prices.tickers]
    return Liquidity(*(np.column_stack(parts) for parts in zip(*columns, strict=True)))


def _estimates(asset: panels.Asset, count: int) -> list[FloatArray]:
    """Half-spread, volatility and traded value of one asset, each (count,)."""
    own = (
        impact.half_spread(asset.spread, WINDOW),
        impact.trailing_volatility(asset.simple_return, WINDOW),
        impact.trailing_mean(asset.traded_value, WINDOW),
    )
    return [returns.last_known(values, asset.session, count) for values in own]


def check_liquidity(series: dict[str, panels.Asset], tickers: Iterable[str], config: AccountingConfig) -> None:
    """Raise InputError where costs depend on high, low and volume, and a ticker has prices without them."""
    if config.costs == "flat":
        return
    for ticker in sorted(series.keys() & set(tickers)):
        lacking = {"high and low": series[ticker].spread, "volume": series[ticker].traded_value}
        names = [name for name, values in lacking.items() if not np.isfinite(values).any()]
        if names:
            raise InputError(
                f"accounting.costs is 'impact', but {ticker} has no {' and no '.join(names)} to tell its costs from; "
                "bring prices that have them, or set accounting.costs=flat"
            )


def simulate(
    prices: panels.Prices,
    when: IntArray,
    targets: FloatArray,
    config: AccountingConfig | Sequence[AccountingConfig],
    market: Liquidity | None,
) -> Account:
    """The account that follows `targets` (K, n) at the sessions `when` (K,) of the prices; `market` is their liquidity.

    InputError where a trade needs the liquidity of an asset that has none on its session.
    """
    try:
        return accounting.simulate(
            prices.returns, prices.traded, when, targets, config, prices.delisted, prices.risk_free, market
        )
    except IlliquidError as error:
        raise InputError(
            f"accounting.costs is 'impact', but {prices.tickers[error.asset]} lacks high, low or volume on most of the "
            f"{WINDOW} sessions up to {prices.sessions[error.session]}; bring prices that have them, or set "
            "accounting.costs=flat"
        ) from error
