"""Orders in shares: from what a person holds to the weights decided for a month, and what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from storage.errors import InputError
from storage.keys import PanelKey
from storage.ledger import Decision
from storage.schemas import CASH
from storage.store import Store
from tasks import valuation
from tasks.accounts import Costs
from tasks.numerics.configs import AccountingConfig
from tasks.numerics.orders import Charge, Orders, in_shares, tracking_error
from tasks.prices import prices_of

RETURNS = 252  # sessions up to the as-of date whose returns say what rounding does


@dataclass(frozen=True)
class Sheet:
    """Orders with the tickers and prices they are in."""

    tickers: list[str]
    held: np.ndarray  # (n,) shares
    price: np.ndarray  # (n,) in currency
    weights: np.ndarray  # (n,) wanted, fractions of wealth
    wealth: float  # before the orders
    orders: Orders
    tracking_error: float  # of the orders' rounding to whole shares, a year
    sessions: list[int] | None  # that each order takes at the largest participation; None where costs are flat
    flat: list[str]  # tickers at a flat cost for want of high, low or volume, where costs are not


def sheet(
    store: Store,
    decision: Decision,
    weights: Mapping[str, float],
    holdings: Mapping[str, float],
    capital: float | None,
    config: AccountingConfig,
    whole: bool = True,
) -> Sheet:
    """Orders at the closes of the decision's as-of date.

    `capital`: the account's whole value; what the shares held are not worth is cash. Without it the cash is the
    holdings' own. `config` says what trades cost.
    """
    panel = PanelKey(decision.record["snapshot"], decision.record["universe"])
    tickers = sorted((weights.keys() | holdings.keys()) - {CASH})
    closes = valuation.quotes(store, panel.snapshot, panel.universe, tickers).closes(decision.as_of)
    unknown = [ticker for ticker in tickers if ticker not in closes.index]
    if unknown:
        raise InputError(f"{unknown[0]} has no price up to {decision.as_of}; take it out of the holdings file")
    price = closes.loc[tickers].to_numpy(np.float64)
    held = np.array([holdings.get(ticker, 0.0) for ticker in tickers])
    cash = holdings.get(CASH, 0.0) if capital is None else capital - float(held @ price)
    wanted = np.array([weights.get(ticker, 0.0) for ticker in tickers])
    known = Costs(store, panel, [config]).at(decision.as_of)
    try:
        made = in_shares(wanted, price, held, cash, _charge(tickers, known, config), whole)
    except ValueError as error:
        raise InputError(f"{error}; give --capital, or a $CASH line in the holdings file") from error
    sessions = flat = None
    if config.costs == "impact":
        flat = [ticker for ticker in tickers if ticker not in known]
        takes = [config.max_participation * known[t][2] if t in known else np.inf for t in tickers]
        sessions = np.ceil(np.abs(made.order) * price / takes).astype(int).tolist()
    missed = _missed(store, panel, decision, tickers, wanted, made)
    wealth = float(held @ price) + cash
    return Sheet(tickers, held, price, wanted, wealth, made, missed, sessions, flat or [])


def _charge(tickers: list[str], known: Mapping[str, tuple[float, float, float]], config: AccountingConfig) -> Charge:
    """Costs of trades of `tickers` in currency: flat where nothing is `known` of how one trades."""
    flat = np.array([ticker not in known for ticker in tickers])
    spread, volatility, volume = np.array([known.get(ticker, (0.0, 0.0, 1.0)) for ticker in tickers]).T

    def charge(values: np.ndarray) -> np.ndarray:
        size = np.abs(values)
        return size * np.where(flat, config.cost, spread + config.impact * volatility * np.sqrt(size / volume))

    return charge


def _missed(
    store: Store, panel: PanelKey, decision: Decision, tickers: list[str], wanted: np.ndarray, made: Orders
) -> float:
    """The tracking error of what is held after the orders, by the returns of the last sessions to the as-of date."""
    prices = prices_of(store, panel.snapshot, [panel.universe])
    end = int(np.searchsorted(prices.sessions, np.datetime64(decision.as_of), side="right"))
    places = [place for place, ticker in enumerate(tickers) if ticker in prices.tickers]
    columns = [prices.tickers.index(tickers[place]) for place in places]
    returns = prices.returns[max(end - RETURNS, 0) : end, columns]
    return tracking_error(wanted[places], made.weights[places], returns)
