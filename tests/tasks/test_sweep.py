"""Sweeps: every config of a grid as a lane of one run, each a trial, and the same as if it were run alone."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from storage import blobs, tables
from storage.errors import InputError
from tasks import learn, learning, panels, sweep
from tasks.numerics import accounting
from tasks.numerics.configs import AccountingConfig, OnlineConfig
from tasks.prices import prices_of

BASE = OnlineConfig(window=20)
GRID = {"learning_rate": [0.01, 0.1, 1], "momentum": [0.0, 0.8], "max_trade": [0.0, 0.3]}


def make(panel, name="mine", grid=GRID, **more):
    return sweep.Sweep(
        name, "ogd", BASE, sweep.checked_grid(BASE, grid), AccountingConfig(), panel.universe, "M", **more
    )


def run(market, panel, asked):
    history = panels.moments(market.store, panel)
    return sweep.run_sweep.fn(panel, history, history[8:-1], asked)


def trials(market, name="mine"):
    return tables.read(market.store, "trials", study=name).sort_by("number").to_pylist()


def test_every_lane_is_the_strategy_run_alone(market):
    panel = market.panel()
    asked = make(panel)
    assert run(market, panel, asked) == 12
    rows = trials(market)
    assert [row["number"] for row in rows] == list(range(12))
    days = pd.read_parquet(io.BytesIO(blobs.get(market.store, rows[0]["returns"])))
    history = panels.moments(market.store, panel)
    prices = prices_of(market.store, panel.snapshot, [panel.universe])
    for number, config in enumerate(asked.configs):
        keys = learn.learn.fn(panel, history, history[8:-1], learning.of_online(f"lane {number}", config), "M").keys
        held = tables.read(market.store, "weights", key=list(keys)).to_pandas()
        table = held[held["ticker"] != "$CASH"].pivot(index="key", columns="ticker", values="weight").fillna(0.0)
        targets = table.reindex(index=keys, columns=prices.tickers, fill_value=0.0).fillna(0.0).to_numpy()
        when = np.searchsorted(prices.sessions, np.array([m.rebalance_date for m in history[8:-1]], "datetime64[D]"))
        account = accounting.simulate(
            prices.returns, prices.traded, when, targets, AccountingConfig(), prices.delisted, prices.risk_free
        )
        np.testing.assert_allclose(days[str(number)], account.daily_return, atol=1e-11)
        row = rows[number]
        excess = account.daily_return - 0.02 / 252
        assert row["daily_sharpe"] == pytest.approx(excess.mean() / excess.std(ddof=1), rel=1e-8)
        assert row["value"] == pytest.approx(row["daily_sharpe"] * np.sqrt(252))
        assert row["sessions"] == len(excess)
        assert json.loads(row["config"])["ogd"]["learning_rate"] == config.learning_rate
        assert json.loads(row["measures"])["sharpe"] == row["value"]
    assert len({row["configuration"] for row in rows}) == 12


def test_a_sweep_that_is_recorded_is_not_run_again(market, monkeypatch):
    panel = market.panel()
    run(market, panel, make(panel))
    before = trials(market)
    monkeypatch.setattr(learning, "fold", lambda *_, **__: pytest.fail("computed again"))
    assert run(market, panel, make(panel)) == 12
    assert trials(market) == before


def test_a_name_belongs_to_one_grid(market):
    panel = market.panel()
    run(market, panel, make(panel, grid={"momentum": [0.1]}))
    with pytest.raises(InputError, match="mine has trials of other terms"):
        run(market, panel, make(panel, grid={"momentum": [0.2]}))
    assert len(trials(market)) == 1


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({}, "grid is empty; name one or more of"),
        ({"learning": [1]}, "grid names 'learning'; name one or more of objective"),
        ({"momentum": []}, "grid has 0 combinations"),
        ({"momentum": [0.5, 1.0]}, "grid has a combination that is no config: momentum is 1.0; it must be below 1"),
        ({"window": [20.5]}, "grid gives window the value 20.5; it must be a whole number"),
    ],
)
def test_a_grid_that_is_none_is_refused(grid, said):
    with pytest.raises(InputError, match=said):
        sweep.checked_grid(BASE, grid)


def test_values_take_the_types_of_their_fields():
    found = dict(sweep.checked_grid(BASE, {"window": [20.0], "momentum": [0], "fully_invested": [True, False]}))
    assert found == {"window": (20,), "momentum": (0.0,), "fully_invested": (True, False)}
    assert isinstance(found["window"][0], int)
