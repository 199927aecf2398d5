"""Weights: fully invested or in cash, and for online strategies the same however a run was cut."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from storage import tables
from storage.keys import PanelKey
from storage.schemas import CASH, TABLES
from storage.store import open_store
from storage.universe import Member
from tasks import allocate, panels
from tasks.numerics import covariance, online, return_drawdown
from tasks.numerics.configs import CovarianceConfig, OnlineConfig, ReturnDrawdownConfig

FAST = OnlineConfig(window=20)
SIXTY = CovarianceConfig()


def weights(store, keys):
    found = tables.read(store, "weights", key=list(keys)).to_pandas().set_index(["key", "ticker"])["weight"]
    return {key: found[key].to_dict() for key in keys}


def diagnostics(store, key):
    return json.loads(tables.read(store, "allocations", key=key)["diagnostics"][0].as_py())


def fold(market, panel, moments=None, config=FAST, strategy="ogd"):
    history = panels.moments(market.store, panel)
    chosen = history if moments is None else tuple(moments)
    upto = tuple(m for m in history if m.rebalance_date <= max(c.rebalance_date for c in chosen))
    return allocate.allocate_online.fn(panel, upto, chosen, strategy, config).keys


def state(store, key):
    [row] = tables.read(store, "states", key=key).to_pylist()
    return row


def straight(panel, until, config):
    """The state at `until` in one pass over all sessions since the inception, cut at the Januaries only."""
    begin = int(np.flatnonzero(panel.eligible.sum(axis=1) >= 2)[0])
    end, masks = panel.at(until), panel.eligible.copy()
    for t in range(begin + 1, end + 1):
        masks[t] = masks[t] if masks[t].any() else masks[t - 1]
    returns = np.nan_to_num(panel.returns)
    found, years = online.init(panel.eligible[begin]), panel.sessions.astype("datetime64[Y]")
    cuts = [t for t in range(begin, end) if t > begin and years[t] != years[t + 1]]
    for start, stop in zip([begin, *cuts], [*cuts, end], strict=True):
        if start != begin and config.lr_reset == "block":
            found = online.with_reset(found)
        seen = slice(start + 2 - config.window, stop + 1)
        cash = None if panel.risk_free is None else panel.risk_free[seen]
        found, _, _ = online.run(found, returns[seen], masks[start + 1 : stop + 1], config, cash)
    return found


@pytest.mark.parametrize("config", [FAST, replace(FAST, lr_reset="never", window=90)])
def test_states_are_those_of_one_pass_over_all_sessions(market, config):
    panel = market.panel(market.bars(count=500))
    moments = panels.moments(market.store, panel)
    keys = fold(market, panel, config=config)
    loaded = panels.load(market.store, panel)
    for place in (7, 9, 10, 15, len(moments) - 1):
        expected, found = straight(loaded, moments[place].as_of, config), state(market.store, keys[place])
        assert (found["weights"], found["velocity"]) == (expected.weights.tolist(), expected.velocity.tolist())
        assert found["steps"] == expected.t
        held = weights(market.store, keys[place : place + 1])[keys[place]]
        kept = np.where(expected.weights > allocate.ZERO, expected.weights, 0.0)
        np.testing.assert_array_equal([held.get(ticker, 0.0) for ticker in "ABCDE"], kept)
        assert sum(held.values()) == pytest.approx(1, abs=1e-12)


def with_cash(market, rates, count=400):
    """A panel whose universe names a series of rates for cash."""
    bars = market.bars(count=count)
    cash = market.bars("A", count=count).assign(ticker="RF", close=rates, basis="rate")
    members = [*(Member(ticker) for ticker in "ABCDE"), Member("RF", role="risk_free")]
    return market.panel(pd.concat([bars, cash]), members)


def test_an_online_strategy_climbs_above_the_series_of_rates(market):
    rates = np.random.default_rng(0).normal(2e-3, 1e-3, 500)
    panel = with_cash(market, rates, 500)
    keys, moments = fold(market, panel), panels.moments(market.store, panel)
    loaded = panels.load(market.store, panel)
    constant = replace(loaded, risk_free=None)
    for place in (7, 9, 15, len(moments) - 1):
        expected, found = straight(loaded, moments[place].as_of, FAST), state(market.store, keys[place])
        assert (found["weights"], found["velocity"]) == (expected.weights.tolist(), expected.velocity.tolist())
        assert (expected.weights != straight(constant, moments[place].as_of, FAST).weights).any()


@pytest.mark.parametrize("window", [20, 200])
def test_a_series_of_the_constant_changes_no_weight(market, window):
    config = replace(FAST, window=window)
    one = fold(market, with_cash(market, 0.02 / 252), config=config)
    other = fold(market, market.panel(), config=config)
    assert one != other
    assert [state(market.store, key)["weights"] for key in one[7:]] == [
        state(market.store, key)["weights"] for key in other[7:]
    ]


def test_steps_begin_anew_each_january(market):
    panel = market.panel()
    moments, keys = panels.moments(market.store, panel), fold(market, panel)
    loaded = panels.load(market.store, panel)
    inception = int(np.flatnonzero(loaded.eligible.sum(axis=1) >= 2)[0])
    for moment, key in zip(moments, keys, strict=True):
        if moment.rebalance_date >= date(2015, 10, 1):
            january = loaded.at(date(2015, 12, 31))
            since = inception if moment.as_of <= date(2015, 12, 31) else january
            assert state(market.store, key)["steps"] == loaded.at(moment.as_of) - since
            assert diagnostics(market.store, key)["steps"] == state(market.store, key)["steps"]


def copy_of(store, keys):
    """Weights and states by key, exactly."""
    states = {
        row["key"]: (row["weights"], row["velocity"], row["steps"], row["binding"])
        for row in tables.read(store, "states", key=list(keys)).to_pylist()
    }
    return weights(store, keys), states, {key: diagnostics(store, key) for key in keys}


ORDERS = {
    "one by one": lambda months: [[month] for month in months],
    "backwards": lambda months: [[month] for month in reversed(months)],
    "late first": lambda months: [months[5:], months[:3], months],
    "every third": lambda months: [months[::3], months[1::3], months[2::3]],
}


@pytest.mark.parametrize("order", ORDERS)
def test_months_are_the_same_bytes_however_a_run_is_cut(market, order, tmp_path, monkeypatch):
    bars = market.bars(count=320)
    panel = market.panel(bars)
    months = panels.moments(market.store, panel)[6:]
    for part in ORDERS[order](months):
        fold(market, panel, part)
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    elsewhere = type(market)(open_store())
    keys = fold(elsewhere, elsewhere.panel(bars), months)
    assert copy_of(market.store, keys) == copy_of(elsewhere.store, keys)


def test_a_stored_state_is_resumed_and_not_folded_again(market, monkeypatch):
    panel = market.panel()
    months = panels.moments(market.store, panel)
    fold(market, panel, months[:12])
    begun = []
    run = online.run
    monkeypatch.setattr(online, "run", lambda state, *rest: begun.append(state.t) or run(state, *rest))
    fold(market, panel, months[12:13])
    assert len(begun) == 1
    fold(market, panel, months[:13])
    assert len(begun) == 1


def test_states_survive_later_data(market):
    short, long = market.panel(), market.panel(market.bars(count=460))
    keys = fold(market, short)
    assert fold(market, long)[: len(keys)] == keys


def test_another_config_or_strategy_has_states_of_its_own(market):
    panel = market.panel()
    moments = panels.moments(market.store, panel)[8:9]
    one = {fold(market, panel, moments), fold(market, panel, moments, strategy="other")}
    assert len(one | {fold(market, panel, moments, replace(FAST, momentum=0.5))}) == 3


def test_before_two_assets_are_eligible_an_online_strategy_holds_cash(market):
    bars = market.bars("AB")
    panel = market.panel(bars[(bars["ticker"] == "A") | (bars["session"] >= "2015-06-01")], "AB")
    months = panels.moments(market.store, panel)
    keys = fold(market, panel)
    held = weights(market.store, keys)
    loaded = panels.load(market.store, panel)
    for month, key in zip(months, keys, strict=True):
        ready = (loaded.eligible[: loaded.at(month.as_of) + 1].sum(axis=1) >= 2).any()
        assert (held[key] == {CASH: 1.0}) == (not ready)
        if not ready:
            assert diagnostics(market.store, key)["reason"] == "fewer than two assets are eligible yet"


def test_sessions_without_an_eligible_asset_keep_the_last_ones(market):
    gone, back = date(2015, 11, 12), date(2016, 2, 10)
    members = [Member(t, last=gone) for t in "ABC"] + [Member(t, first=back) for t in "DE"]
    panel = market.panel(members=members)
    loaded = panels.load(market.store, panel)
    empty = ~loaded.eligible[loaded.at(gone) + 1 : loaded.at(back)].any(axis=1)
    assert empty.all()
    months, keys = panels.moments(market.store, panel), fold(market, panel)
    for place in (8, 9, 10, 12, len(keys) - 1):
        expected = straight(loaded, months[place].as_of, FAST)
        assert state(market.store, keys[place])["weights"] == expected.weights.tolist()
    assert set(weights(market.store, keys[9:10])[keys[9]]) <= set("ABC")
    assert set(weights(market.store, keys[-1:])[keys[-1]]) <= set("DE")


@pytest.fixture
def optimised(market):
    """The optimiser's weights at the panel's last month, for a forecast of all but the last asset."""
    panel = market.panel()
    moment = panels.moments(market.store, panel)[-1]
    mean, variance = np.array([0.01, 0.004, -0.01, 0.006]), np.array([0.004, 0.003, 0.002, 0.003])
    rows = [
        {"key": "forecast", "as_of": moment.as_of, "ticker": t, "model": None, "baseline_variance": 1.0}
        | {"mean": m, "variance": v, "scale": v**0.5, "lower_90": m - 0.1, "upper_90": m + 0.1}
        for t, m, v in zip("ABCD", mean.tolist(), variance.tolist(), strict=True)
    ]
    tables.put(market.store, "forecasts", pa.Table.from_pylist(rows[::-1], TABLES["forecasts"].schema))

    def run(forecast="forecast", units="simple", matrix=SIXTY):
        keys = allocate.allocate_return_drawdown.fn(
            panel, (moment,), (forecast,), units, matrix, ReturnDrawdownConfig()
        ).keys
        return weights(market.store, keys)[keys[0]], diagnostics(market.store, keys[0])

    def expected(units, matrix):
        loaded = panels.load(market.store, panel)
        at = loaded.at(moment.as_of) + 1
        correlation = covariance.correlation(np.log1p(loaded.returns[at - matrix.sessions : at, :4]), matrix.shrinkage)
        used = mean + variance / 2 if units == "simple" else mean
        return return_drawdown.solve(
            used, covariance.covariance(np.sqrt(variance), correlation), ReturnDrawdownConfig()
        ).weights

    return run, expected


@pytest.mark.parametrize("units", ["simple", "log"])
@pytest.mark.parametrize("matrix", [SIXTY, CovarianceConfig(sessions=126, shrinkage="none")])
def test_the_optimiser_gets_the_forecast_the_recent_correlation_and_the_units(optimised, units, matrix):
    run, expected = optimised
    found, notes = run(units=units, matrix=matrix)
    wanted = expected(units, matrix)
    np.testing.assert_allclose([found.get(ticker, 0.0) for ticker in "ABCD"], wanted, atol=1e-12)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)
    assert "E" not in found
    assert "weights" not in notes
    assert notes


def test_units_of_the_mean_change_the_weights(optimised):
    run, _ = optimised
    assert run(units="simple")[0] != run(units="log")[0]


def test_without_a_forecast_the_optimiser_holds_cash_and_says_why(optimised):
    run, _ = optimised
    assert run(forecast=None) == ({CASH: 1.0}, {"reason": allocate.NO_FORECAST})


def test_stored_weights_are_not_computed_again(optimised, monkeypatch):
    run, _ = optimised
    first = run()
    monkeypatch.setattr(return_drawdown, "solve", lambda *_: pytest.fail("computed again"))
    assert run() == first


def test_equal_weight_holds_what_is_eligible_and_cash_before(market):
    bars = market.bars()
    panel = market.panel(bars[(bars["ticker"] != "C") | (bars["session"] >= "2015-06-01")])
    months = panels.moments(market.store, panel)
    keys = allocate.allocate_fixed.fn(panel, months, "equal_weight").keys
    held = weights(market.store, keys)
    assert held[keys[0]] == {CASH: 1.0}
    assert held[keys[6]] == dict.fromkeys("ABDE", 0.25)
    assert held[keys[-1]] == dict.fromkeys("ABCDE", 0.2)


def test_the_index_is_held_whole_once_it_has_prices(market):
    bars = pd.concat([market.bars("AB"), market.bars("I")])
    late = bars[(bars["ticker"] != "I") | (bars["session"] >= "2015-05-15")]
    panel = market.panel(late, ["A", "B", Member("I", role="index")])
    months = panels.moments(market.store, panel)
    keys = allocate.allocate_fixed.fn(panel, months, "index").keys
    held = weights(market.store, keys)
    assert [held[key] for key in keys[:4]] == [{CASH: 1.0}, {CASH: 1.0}, {"I": 1.0}, {"I": 1.0}]
    without = PanelKey(panel.snapshot, market.universe("AB"))
    months = panels.moments(market.store, without)
    keys = allocate.allocate_fixed.fn(without, months, "index").keys
    assert weights(market.store, keys[-1:])[keys[-1]] == {CASH: 1.0}
