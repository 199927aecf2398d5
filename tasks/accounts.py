"""The account of one strategy over the prices of its universes, whoever asks for it: backtest, sweep or experts."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError
from storage.keys import PanelKey
from storage.store import Store
from tasks import panels
from tasks.numerics import accounting, impact, returns
from tasks.numerics.accounting import Account
from tasks.numerics.configs import AccountingConfig
from tasks.numerics.execution import IlliquidError, Liquidity
from tasks.prices import Prices, prices_of

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

WINDOW = 21  # sessions of its own over which an asset's spread, volatility and volume are averaged


class Kept(NamedTuple):
    """One strategy's account, and what it was told to do: see `accounting.simulate`. K = trades, n = tickers."""

    name: str
    when: IntArray  # (K,)
    targets: FloatArray  # (K, n)
    configs: list[AccountingConfig]
    account: Account

    @property
    def start(self) -> int:
        """The session of the first trade."""
        return int(self.when[0])


def liquidity(prices: Prices, configs: Iterable[AccountingConfig]) -> Liquidity | None:
    """How the tickers trade at each session, by their bars up to it; None where no costs depend on it."""
    if all(config.costs == "flat" for config in configs):
        return None
    columns = [_estimates(prices.series[ticker], prices.sessions.size) for ticker in prices.tickers]
    return Liquidity(*(np.column_stack(parts) for parts in zip(*columns, strict=True)))


class Costs:
    """Estimates of what trades cost, at the closes of the dates on which they are decided."""

    def __init__(self, store: Store, panel: PanelKey, configs: Iterable[AccountingConfig]) -> None:
        self._prices: Prices | None = None
        if any(config.costs == "impact" for config in configs):
            self._prices = prices_of(store, panel.snapshot, [panel.universe])
            self._market = liquidity(self._prices, configs)

    def of(self, trades: Mapping[str, float], wealth: float, as_of: date, config: AccountingConfig) -> dict[str, float]:
        """Costs of `trades`, fractions of `wealth` by ticker, likewise; flat where liquidity is not known."""
        known = {} if config.costs == "flat" else self.at(as_of)
        found = {}
        for ticker, trade in trades.items():
            if ticker in known:
                found[ticker] = impact.cost(trade * wealth, *known[ticker], config.impact) / wealth
            else:
                found[ticker] = config.cost * abs(trade)
        return found

    def at(self, as_of: date) -> dict[str, tuple[float, float, float]]:
        """Half-spread, volatility and average volume of each ticker that has them and is traded."""
        if self._prices is None or self._market is None:
            return {}
        place = int(np.searchsorted(self._prices.sessions, np.datetime64(as_of), side="right")) - 1
        rows = np.column_stack([part[place] for part in self._market])
        pairs = zip(self._prices.tickers, rows.tolist(), strict=True)
        return {ticker: (row[0], row[1], row[2]) for ticker, row in pairs if np.isfinite(row).all() and row[2] > 0}


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
    prices: Prices,
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
