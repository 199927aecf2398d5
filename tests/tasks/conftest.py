"""Small deterministic markets: the same prices for a ticker and session, however many are asked for."""

import zlib
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from storage import snapshots, tables, universe
from storage.keys import Moment, PanelKey
from storage.schemas import TABLES
from storage.store import Store
from storage.universe import Member, Universe
from tasks import calendars, features, forecast, own_forecasts, panels
from tasks.numerics.configs import FeatureConfig, ForecastConfig, Forecaster, TrainingConfig, VLSTMConfig

LONGEST = 1300


@dataclass
class Market:
    """Bars, snapshots and universes in one store."""

    store: Store
    taken: list[str] = field(default_factory=list)

    def days(self, count=400, exchange="XNYS", first=date(2015, 3, 2)):
        return calendars.sessions(exchange, first, date(2021, 1, 1))[:count]

    def bars(self, tickers="ABCDE", count=400, exchange="XNYS", first=date(2015, 3, 2)):
        days = self.days(LONGEST, exchange, first)
        return pd.concat([self._of(ticker, days).head(count) for ticker in tickers], ignore_index=True)

    def _of(self, ticker, days):
        rng, common = np.random.default_rng(zlib.crc32(ticker.encode())), np.random.default_rng(1)
        moves = 4e-4 + 0.007 * common.standard_normal(LONGEST) + 0.012 * rng.standard_normal(LONGEST)
        close = (100 * np.cumprod(1 + moves))[: days.size]
        high, low = (np.abs(rng.normal(0, 0.005, (2, LONGEST))))[:, : days.size]
        volume = np.exp(rng.normal(13, 0.4, LONGEST))[: days.size]
        columns = {"ticker": ticker, "session": pd.to_datetime(days), "open": close, "high": close * (1 + high)}
        columns |= {"low": close * (1 - low), "close": close, "adj_close": close, "volume": volume}
        return pd.DataFrame(columns | {"dividend": np.nan, "split": np.nan, "basis": "adjusted"})

    def take(self, bars, delisted=None):
        """A snapshot, one day after the last."""
        known_at = datetime(2020, 1, 1) + timedelta(len(self.taken))
        rows = bars.sort_values(["ticker", "session"], ignore_index=True)
        taken = snapshots.take(self.store, "test", rows, known_at, str(len(self.taken)), delisted)
        self.taken.append(taken.snapshot)
        return self.taken[-1]

    def universe(self, members, currency=None):
        """Id of a universe of tickers or members, in the currency of the first asset where none is given."""
        rows = [member if isinstance(member, Member) else Member(member) for member in members]
        first = next(member for member in rows if member.role == "asset")
        rows.sort(key=lambda member: (member.ticker, member.first))
        made = universe.in_currency(Universe("test", tuple(rows), first.exchange), currency or first.currency)
        return universe.keep(self.store, made)

    def panel(self, bars=None, members="ABCDE", currency=None, delisted=None):
        return PanelKey(self.take(self.bars() if bars is None else bars, delisted), self.universe(members, currency))

    def load(self, bars=None, members="ABCDE", currency=None, delisted=None):
        return panels.load(self.store, self.panel(bars, members, currency, delisted))

    def decidable(self, panel) -> tuple[Moment, ...]:
        """Moments with an eligible asset."""
        loaded = panels.load(self.store, panel)
        return tuple(m for m in panels.moments(self.store, panel) if loaded.eligible[loaded.at(m.as_of)].any())

    def put_weights(self, key, moment, strategy, weights):
        rows = [{"key": key, "as_of": moment.as_of, "strategy": strategy, "ticker": t, "weight": w} for t, w in weights]
        tables.put(self.store, "weights", pa.Table.from_pylist(rows, TABLES["weights"].schema))


class Run:
    """The forecasts of a panel, month by month, as a plan would name them."""

    def __init__(self, market, panel, config, dataset="test"):
        self.market, self.store, self.panel, self.config, self.dataset = market, market.store, panel, config, dataset
        self.loaded = panels.load(self.store, panel)
        self.history = panels.moments(self.store, panel)
        self.features = features.compute_features.fn(panel, self.history, config.features).keys

    @property
    def own(self):
        return own_forecasts.of(self.store, self.dataset, self.loaded.universe.assets)

    def seen(self, moment):
        return self.features[: self.history.index(moment) + 1]

    def block(self, year):
        ready = forecast.possible(self.loaded, self.history, self.config, self.own)
        return [moment for moment in ready if moment.rebalance_date.year == year]

    def months(self, year):
        block, trained = self.block(year), None
        if self.config.forecast.forecaster == "vlstm":
            trained = forecast.Trained(block[0], forecast.trained_key(self.seen(block[0])[-1], self.config))
        return [forecast.month_keys(m, self.seen(m)[-1], trained, self.config, self.own) for m in block]

    def days(self, month):
        """The dates between a month's as-of date and the next one's."""
        first, config = month.moment, self.config
        until = self.history[self.history.index(first) + 1].as_of
        between = [m for m in panels.moments(self.store, self.panel, "D") if first.as_of < m.as_of < until]
        keys = [features.part_key(features.Part(moment, first.as_of), config.features) for moment in between]
        pairs = zip(between, keys, strict=True)
        return [forecast.day_keys(moment, key, first, month, config, self.own) for moment, key in pairs]

    def train(self, year):
        first = self.block(year)[0]
        key = forecast.trained_key(self.seen(first)[-1], self.config)
        forecast.train_blocks.fn(self.panel, (forecast.Trained(first, key),), self.seen(first), self.config)
        return key

    def forecast(self, months):
        last = months[-1]
        history = self.seen(last.learned)
        if last.moment != last.learned:
            part = features.Part(last.moment, last.learned.as_of)
            features.compute_features.fn(self.panel, self.history, self.config.features, (part,))
            history = (*history, features.part_key(part, self.config.features))
        return forecast.forecast_months.fn(self.panel, tuple(months), history, self.config, self.dataset).keys

    def rows(self, months):
        found = tables.read(self.store, "forecasts", key=[month.forecast for month in months]).to_pandas()
        return found.sort_values(["as_of", "ticker"], ignore_index=True)


@pytest.fixture
def forecasting():
    """Makes the forecasts of a market's panel."""
    return Run


@pytest.fixture
def market(store) -> Market:
    return Market(store)


@pytest.fixture
def small() -> Forecaster:
    return Forecaster(
        FeatureConfig(lookback=20, horizon=5),
        VLSTMConfig(hidden=4, latent=2),
        training=TrainingConfig(epochs=1, ensemble=1, minimum_sessions=60),
        forecast=ForecastConfig(draws=2),
    )


@pytest.fixture
def rows():
    """Rows of a table by key, in canonical order and without the keys."""

    def read(store, name, keys):
        frame = tables.read(store, name, key=list(keys)).to_pandas()
        shown = [column for column in frame if column not in ("blob", "seconds")]
        return frame[shown].sort_values([*TABLES[name].unique], ignore_index=True)

    return read
