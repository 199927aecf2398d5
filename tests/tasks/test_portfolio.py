"""Portfolios' forecasts beside what followed, by hand from the closes."""

from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from storage import catalog, tables
from storage.schemas import TABLES
from tasks import covariances, decide, panels, portfolio
from tasks.numerics.configs import AccountingConfig, CovarianceConfig, ReturnDrawdownConfig

HORIZON = 21
PLANS = {
    "mixed": {"A": 0.5, "B": 0.3},  # the rest is cash
    "short": {"C": 1.3, "D": -0.3},
    "whole": {"E": 1.0},
    "cash": {"$CASH": 1.0},
    "beyond": {"A": 0.5, "I": 0.5},
}
MEAN, SIGMA = np.array([0.01, 0.02, 0.0, -0.01, 0.03]), np.array([0.05, 0.06, 0.07, 0.04, 0.1])


class Decided:
    """Every month of a market, decided by forecasts and weights by hand."""

    def __init__(self, market, lag=1, degrees=None, count=400, forecasts=True):
        self.store, self.config = market.store, AccountingConfig(lag=lag, cash_rate=0.05)
        self.bars = market.bars("ABCDE", count=count)
        self.panel = market.panel(pd.concat([self.bars, market.bars("I", count=count)]), "ABCDE")
        self.moments = panels.moments(self.store, self.panel)[8:]
        made = {"accounting": asdict(self.config), "covariance": asdict(CovarianceConfig())}
        made = {"parameters": made | {"return_drawdown": asdict(ReturnDrawdownConfig())}, "code": {}, "versions": {}}
        self.put("weights", [self.weights(moment, *entry) for moment in self.moments for entry in PLANS.items()])
        self.put("forecasts", [self.forecast(moment, degrees) for moment in self.moments[1:]])
        months = []
        for before, moment in pairwise(panels.moments(self.store, self.panel)[7:]):
            keys = tuple((strategy, f"{moment.prefix} {strategy}") for strategy in PLANS)
            forecast = moment.prefix if forecasts and moment is not self.moments[0] else None
            said = (moment, before.rebalance_date, "backfill", forecast, None, keys, self.config, made)
            months.append(decide.Month(*said))
        decide.decide.fn(self.panel, "main", tuple(months))

    def put(self, name, rows):
        flat = [row for part in rows for row in part]
        tables.put(self.store, name, pa.Table.from_pylist(flat, TABLES[name].schema))

    def weights(self, moment, strategy, weights):
        said = {"key": f"{moment.prefix} {strategy}", "as_of": moment.as_of, "strategy": strategy}
        return [said | {"ticker": ticker, "weight": weight} for ticker, weight in weights.items()]

    def forecast(self, moment, degrees):
        return [
            {"key": moment.prefix, "as_of": moment.as_of, "ticker": t, "mean": m, "variance": s**2, "degrees": degrees}
            | {"scale": 0.8 * s if degrees else s, "lower_90": m - s, "upper_90": m + s, "baseline_variance": s**2}
            for t, m, s in zip("ABCDE", MEAN.tolist(), SIGMA.tolist(), strict=True)
        ]

    def judge(self):
        """The key, and the rows by date and strategy."""
        key = portfolio.judge_portfolios.fn(self.panel, "main")
        rows = tables.read(self.store, "portfolio_forecasts", key=key).to_pylist()
        return key, {(row["rebalance_date"], row["strategy"]): row for row in rows}


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("degrees", [None, 6.0])
def test_predictions_and_what_followed_are_those_of_an_account_by_hand(market, lag, degrees):
    book = Decided(market, lag, degrees)
    _, rows = book.judge()
    close = book.bars.pivot(index="session", columns="ticker", values="close")
    loaded = panels.load(book.store, book.panel)
    for moment in book.moments[1:4]:
        matrix = covariances.of(loaded, moment.as_of, "ABCDE", SIGMA**2, CovarianceConfig())
        bought = close.index.get_loc(pd.Timestamp(moment.rebalance_date if lag else moment.as_of))
        path = close.iloc[bought : bought + HORIZON + 1] / close.iloc[bought]
        for strategy in ("mixed", "short", "whole"):
            w = np.array([PLANS[strategy].get(ticker, 0.0) for ticker in "ABCDE"])
            row = rows[moment.rebalance_date, strategy]
            cash, rate = 1 - w.sum(), 0.05 / 252
            assert row["mean"] == pytest.approx(w @ (MEAN + SIGMA**2 / 2) + cash * HORIZON * rate, abs=1e-14)
            sigma = np.sqrt(w @ matrix @ w)
            assert row["volatility"] == pytest.approx(sigma, rel=1e-12)
            assert row["scale"] == pytest.approx(sigma * (0.8 if degrees else 1), rel=1e-12)
            assert row["degrees"] == degrees
            value = path.to_numpy() @ w + cash * (1 + rate) ** np.arange(HORIZON + 1)
            assert row["realised"] == pytest.approx(value[-1] - 1, abs=1e-13)
            assert row["realised_drawdown"] == pytest.approx(
                (1 - value / np.maximum.accumulate(value)).max(), abs=1e-13
            )
            assert row["drawdown_proxy"] == pytest.approx(2 * np.sqrt(21) * sigma)
            assert row["drawdown_proxy_sane"] == pytest.approx(2 * sigma)
            assert (row["lower_90"] < row["realised"] < row["upper_90"]) == (0.05 < row["pit"] < 0.95)


def test_portfolios_that_no_forecast_speaks_of_have_no_row_and_open_horizons_no_outcome(market):
    book = Decided(market)
    _, rows = book.judge()
    assert {strategy for _, strategy in rows} == {"mixed", "short", "whole"}
    assert {day for day, _ in rows} == {moment.rebalance_date for moment in book.moments[1:]}
    last = panels.load(book.store, book.panel).sessions
    for (day, _), row in rows.items():
        over = np.searchsorted(last, np.datetime64(day)) + HORIZON < last.size
        assert (row["realised"] is not None) == (row["pit"] is not None) == over
        assert (row["realised_drawdown"] is not None) == over
    assert any(row["realised"] is None for row in rows.values())


def test_measures_are_views_of_the_scenario_whole_and_rolling(market):
    book = Decided(market, count=900)
    book.judge()
    found = catalog.query(book.store, "main", "SELECT * FROM portfolio_judgements").to_pandas()
    rows = catalog.query(book.store, "main", "SELECT * FROM portfolio_forecasts WHERE strategy = 'mixed'").to_pandas()
    over = rows[rows["realised"].notna()]
    whole = found[(found["strategy"] == "mixed") & (found["kind"] == "all")].set_index("name")
    assert set(whole["rows"]) == {len(over)}
    z = (over["realised"] - over["mean"]) / over["volatility"]
    assert whole.loc["z_deviation", "value"] == pytest.approx(z.std(), rel=1e-12)
    held = over["realised"].between(over["lower_90"], over["upper_90"])
    assert whole.loc["covers_90", "value"] == pytest.approx(held.mean())
    assert whole.loc["covers_90", "error"] == pytest.approx(held.std() / np.sqrt(len(over)))
    assert whole.loc["proxy_sane_held", "value"] == np.mean(over["realised_drawdown"] <= over["drawdown_proxy_sane"])
    rolling = found[(found["strategy"] == "mixed") & (found["kind"] == "rolling") & (found["name"] == "covers_90")]
    assert sorted(rolling["label"])[-1] == f"{over['rebalance_date'].max():%Y-%m}"
    assert len(rolling) == len(over) - 23
    assert rolling.sort_values("label")["value"].iloc[-1] == pytest.approx(held[-24:].mean())


def test_the_same_decisions_are_judged_once_and_new_prices_again(market, monkeypatch):
    book = Decided(market)
    key, _ = book.judge()
    monkeypatch.setattr(portfolio, "_predicted", lambda *_: pytest.fail("judged again"))
    assert book.judge()[0] == key
    assert tables.read(book.store, "portfolios").num_rows == 1


def test_without_forecasts_there_is_nothing_to_judge(market):
    book = Decided(market, forecasts=False)
    assert portfolio.judge_portfolios.fn(book.panel, "main") is None
    assert tables.read(book.store, "portfolio_forecasts").num_rows == 0
