"""Calibration of allocations: sigma follows what past intervals were worth, and nothing later is looked at."""

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from storage import tables
from storage.schemas import TABLES
from storage.store import open_store
from tasks import allocate, calibrate, covariances, outcomes, panels
from tasks.allocate import Rule
from tasks.numerics import risk_parity
from tasks.numerics.configs import (
    AccountingConfig,
    CalibrationConfig,
    CovarianceConfig,
    ReturnDrawdownConfig,
)

HORIZON = 5
TRUE = HORIZON * (0.007**2 + 0.012**2)  # nearly what the market's bars are drawn from
CONFIG = CalibrationConfig(gate_allocation=True)
RULE = Rule("simple", CovarianceConfig(), ReturnDrawdownConfig(), AccountingConfig())


class Book:
    """Forecasts by hand of every month of a market's panel, and the calibration of the last."""

    def __init__(self, market, bars=None):
        self.store = market.store
        self.panel = market.panel(market.bars(count=700) if bars is None else bars)
        self.loaded = panels.load(self.store, self.panel)
        self.moments = panels.moments(self.store, self.panel)

    def put(self, mean=lambda moment, ticker: 0.0, sigma=lambda moment, ticker: TRUE**0.5, degrees=None):
        """Forecasts of all months; the months with their keys."""
        rows = []
        for moment in self.moments:
            for ticker in "ABCDE":
                m, s = mean(moment, ticker), sigma(moment, ticker)
                said = {"key": f"of {moment.month}", "as_of": moment.as_of, "ticker": ticker, "mean": m, "scale": s}
                said |= {"variance": s**2, "baseline_variance": TRUE, "label_mean": 0.0, "degrees": degrees}
                rows.append(said | {"lower_90": m - 1.7 * s, "upper_90": m + 1.7 * s})
        tables.put(self.store, "forecasts", pa.Table.from_pylist(rows, TABLES["forecasts"].schema))
        return [(moment, f"of {moment.month}") for moment in self.moments]

    def calibrated(self, dates, config=CONFIG):
        (last, key), before = dates[-1], dates[:-1]
        return calibrate.calibrated(self.loaded, last, key, before, HORIZON, config)

    def run(self, month, config=CONFIG):
        """The row of the verdict, and the forecasts before and after."""
        calibrate.calibrate_forecasts.fn(self.panel, (month,), HORIZON, config)
        [row] = tables.read(self.store, "gates", key=month.key).to_pylist()
        return row, self.rows(month.forecast), self.rows(month.key)

    def rows(self, key):
        return tables.read(self.store, "forecasts", key=key).to_pandas().sort_values("ticker", ignore_index=True)

    def outcomes(self, past, known_at):
        return [outcomes.after(self.loaded, m.as_of, HORIZON, known_at)[t] for m, _ in past for t in "ABCDE"]

    def allocate(self, forecast):
        dates = allocate.return_drawdown_dates([(self.moments[-1], forecast)], None, RULE)
        [key] = allocate.allocate_return_drawdown.fn(self.panel, dates, RULE).keys
        held = {row["ticker"]: row["weight"] for row in tables.read(self.store, "weights", key=key).to_pylist()}
        return held, json.loads(tables.read(self.store, "allocations", key=key)["diagnostics"][0].as_py())


@pytest.fixture
def book(market):
    return Book(market)


def test_a_halved_sigma_is_corrected_and_the_reason_says_so(book):
    dates = book.put(sigma=lambda moment, ticker: 0.5 * TRUE**0.5)
    month = book.calibrated(dates)
    row, old, new = book.run(month)
    assert len(month.past) == row["months"] == 24
    y = np.abs(book.outcomes(month.past, month.moment.as_of))
    asked = np.quantile(y, 0.9) / (1.6448536 * 0.5 * TRUE**0.5)
    assert 1.6 < asked < 2.4
    assert row["factor"] == pytest.approx(min(asked ** (24 / 30), 2.0), rel=1e-6)
    half = 1.6448536 * 0.5 * TRUE**0.5
    before, after = np.mean(y <= half), np.mean(y <= row["factor"] * half)
    assert row["covered"] == pytest.approx(before)
    assert before < 0.65
    assert after > 0.82
    assert row["fall_back"] is False
    assert row["reason"] == (
        f"sigma x {row['factor']:.2f}: {100 * row['covered']:.0f} % of 90 % intervals held over 24 dates"
    )
    np.testing.assert_allclose(new["variance"], row["factor"] ** 2 * old["variance"], rtol=1e-12)
    for name in ("scale", "lower_90", "upper_90"):
        np.testing.assert_allclose(new[name] - (name != "scale") * new["mean"], row["factor"] * (old[name]), rtol=1e-12)
    same = ["as_of", "ticker", "mean", "degrees", "baseline_variance", "label_mean"]
    pd.testing.assert_frame_equal(new[same], old[same])


def test_the_optimiser_says_by_what_its_forecasts_were_corrected(book):
    month = book.calibrated(book.put(sigma=lambda moment, ticker: 0.5 * TRUE**0.5))
    row, _, _ = book.run(month)
    held, said = book.allocate(month.key)
    assert said["reason"] == row["reason"]
    assert said["status"] == "global"
    _, without = book.allocate(month.forecast)
    assert "reason" not in without
    assert said["volatility"] > 1.2 * without["volatility"]
    assert sum(held.values()) == pytest.approx(1)


def wild(moment, ticker):
    """A mean far from everything, to another side each month."""
    return 0.15 * (1 if ticker in "AC" else -1) * (-1) ** moment.rebalance_date.month


def test_a_forecaster_worse_than_ewma_makes_the_optimiser_hold_risk_parity(book):
    month = book.calibrated(book.put(mean=wild))
    row, _, new = book.run(month)
    assert row["fall_back"] is True
    worse = row["score"] - row["baseline_score"]
    assert worse > 0.1
    start = f"risk parity: the forecaster was worse than EWMA by {worse:.2g} nats over 24 dates; sigma x "
    assert row["reason"].startswith(start)
    held, said = book.allocate(month.key)
    reason = row["reason"]
    assert said == {"status": "risk_parity", "reason": reason, "degraded": reason, "without_forecast": []}
    matrix = covariances.of(book.loaded, month.moment.as_of, "ABCDE", new["variance"].to_numpy(), RULE.matrix)
    weights = np.array([held[ticker] for ticker in "ABCDE"])
    np.testing.assert_allclose(5 * risk_parity.contributions(weights, matrix), 1, atol=1e-9)
    assert book.allocate(month.forecast)[0] != held


def test_with_too_few_dates_nothing_changes(book):
    dates = book.put(mean=wild)
    for count in (0, 11):
        month = book.calibrated(dates[-1 - count :])
        row, old, new = book.run(month)
        assert row["reason"] == f"sigma stays as it is: {count} past dates have outcomes, fewer than 12"
        assert (row["factor"], row["fall_back"], row["covered"]) == (1.0, False, None)
        pd.testing.assert_frame_equal(new.drop(columns="key"), old.drop(columns="key"), check_exact=True)
    assert book.run(book.calibrated(dates[-13:]))[0]["fall_back"]


def test_past_forecasts_without_a_baseline_do_not_count(book):
    dates = book.put(mean=wild)
    bare = pa.Table.from_pandas(
        pd.concat([book.rows(key) for _, key in dates[:-1]]).assign(label_mean=None), TABLES["forecasts"].schema
    )
    tables.put(book.store, "forecasts", bare)
    row, _, _ = book.run(book.calibrated(dates))
    assert row["reason"] == "sigma stays as it is: too few assets had a forecast on them"


def test_only_what_is_known_at_the_as_of_date_is_looked_at(market, tmp_path, monkeypatch):
    bars, seen = market.bars(count=700), []
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, len(bars)))
    end = pd.Timestamp(Book(market, bars).moments[-1].as_of)
    assert bars["session"].max() > end + timedelta(days=5)
    for name, since in (("truth", None), ("later", end + timedelta(days=1)), ("before", end - timedelta(days=40))):
        monkeypatch.setenv("PRISM_STORE", str(tmp_path / name))
        changed = bars["session"] >= since if since is not None else bars["session"] < "1900"
        close = bars["close"].where(~changed, noise * bars["close"])
        book = Book(type(market)(open_store()), bars.assign(close=close, adj_close=close))
        dates = book.put(sigma=lambda moment, ticker: 0.5 * TRUE**0.5)
        month = book.calibrated(dates)
        row, _, new = book.run(month)
        seen.append((row, new, book.allocate(month.key)))
    assert seen[0][0] == seen[1][0]
    assert seen[0][2] == seen[1][2]
    pd.testing.assert_frame_equal(seen[0][1], seen[1][1], check_exact=True)
    assert seen[0][0]["score"] != seen[2][0]["score"]


def test_what_is_stored_is_not_judged_again_and_what_was_lost_is(book, monkeypatch):
    month = book.calibrated(book.put())
    first = book.run(month)
    tables.open_table(book.store, "forecasts").delete(f"key = '{month.key}'")
    again = book.run(month)
    assert again[0] == first[0]
    pd.testing.assert_frame_equal(again[2], first[2])
    monkeypatch.setattr(calibrate, "_verdict", lambda *_: pytest.fail("judged again"))
    book.run(month)


def test_keys_follow_the_forecast_the_past_the_horizon_and_the_config(book):
    dates = [(moment, f"of {moment.month}") for moment in book.moments]
    month, (last, _) = book.calibrated(dates), dates[-1]
    others = [
        calibrate.calibrated(book.loaded, last, "another", dates[:-1], HORIZON, CONFIG),
        calibrate.calibrated(book.loaded, last, month.forecast, [*dates[:-2], (dates[-2][0], "x")], HORIZON, CONFIG),
        calibrate.calibrated(book.loaded, last, month.forecast, dates[:-1], HORIZON + 1, CONFIG),
        book.calibrated(dates, CalibrationConfig(gate_allocation=True, prior=7.0)),
        book.calibrated(dates, CalibrationConfig(gate_allocation=True, window=12)),
    ]
    assert len({month.key, *(other.key for other in others)}) == 6
    assert [len(other.past) for other in others] == [24, 24, 24, 24, 12]
    assert book.calibrated(dates) == month
