"""Weights of strategies that need one date: optimised, chained by a turnover limit, fixed, or a person's own."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from storage import tables
from storage.keys import PanelKey
from storage.schemas import CASH, TABLES
from storage.store import open_store
from storage.universe import Member
from tasks import allocate, holdings, own_code, panels
from tasks.allocate import Rule
from tasks.numerics import covariance, frontier, return_drawdown, risk_parity
from tasks.numerics.configs import AccountingConfig, CovarianceConfig, ReturnDrawdownConfig
from tasks.prices import prices_of

SIXTY, PLAIN = CovarianceConfig(), ReturnDrawdownConfig()


def weights(store, keys):
    found = tables.read(store, "weights", key=list(keys)).to_pandas().set_index(["key", "ticker"])["weight"]
    return {key: found[key].to_dict() for key in keys}


def diagnostics(store, key):
    return json.loads(tables.read(store, "allocations", key=key)["diagnostics"][0].as_py())


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

    def run(forecast="forecast", units="simple", matrix=SIXTY, config=PLAIN):
        rule = Rule(units, matrix, config, AccountingConfig())
        dates = allocate.return_drawdown_dates([(moment, forecast)], None, rule)
        keys = allocate.allocate_return_drawdown.fn(panel, dates, rule).keys
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
    assert run(forecast=None) == ({CASH: 1.0}, dict.fromkeys(("reason", "degraded"), allocate.NO_FORECAST))


def test_weights_without_a_certificate_say_so(optimised, monkeypatch):
    run, _ = optimised
    certified = run()
    assert "degraded" not in certified[1]
    monkeypatch.setattr(return_drawdown, "_CERTIFIED", -1.0)  # no sweep can meet it
    found, notes = run(units="log")
    assert (notes["status"], notes["degraded"]) == ("uncertified", allocate.UNCERTIFIED)
    assert sum(found.values()) == pytest.approx(1)


def failing(*_):
    raise FloatingPointError("the frontier was lost")


def test_where_the_optimiser_fails_risk_parity_stands_in_within_the_same_limits(optimised, monkeypatch):
    run, _ = optimised
    monkeypatch.setattr(frontier, "optimum", failing)
    found, notes = run(config=ReturnDrawdownConfig(max_weight=0.3))
    assert notes["status"] == allocate.RISK_PARITY
    assert notes["degraded"] == "the optimiser failed (the frontier was lost), so risk parity stands in"
    assert max(found.values()) <= 0.3 + 1e-9
    assert sum(found.values()) == pytest.approx(1)


def test_where_risk_parity_fails_too_equal_weights_stand_in(optimised, monkeypatch):
    run, _ = optimised
    monkeypatch.setattr(frontier, "optimum", failing)
    monkeypatch.setattr(risk_parity, "weights", failing)
    found, notes = run()
    assert {ticker: weight for ticker, weight in found.items() if weight} == pytest.approx(dict.fromkeys("ABCD", 0.25))
    assert notes["degraded"].endswith("and so did risk parity: equal weights stand in")


def test_limits_that_no_portfolio_keeps_are_an_error_and_no_fall_back(optimised):
    run, _ = optimised
    with pytest.raises(ValueError, match="max_weight"):
        run(config=ReturnDrawdownConfig(max_weight=0.2))


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


def forecasts(market, panel, seed=0):
    """Random forecasts of all assets at every month from the eighth on: the months with their keys."""
    rng, given = np.random.default_rng(seed), []
    for place, moment in enumerate(panels.moments(market.store, panel)):
        key = f"forecast {seed} {place}" if place >= 7 else None
        rows = [
            {"key": key, "as_of": moment.as_of, "ticker": ticker, "model": None, "baseline_variance": 1.0}
            | {"mean": rng.normal(0.01, 0.02), "variance": 0.004, "scale": 0.06, "lower_90": -0.1, "upper_90": 0.1}
            for ticker in "ABCDE"
        ]
        if key:
            tables.put(market.store, "forecasts", pa.Table.from_pylist(rows, TABLES["forecasts"].schema))
        given.append((moment, key))
    return given


def limited(limit):
    return Rule("simple", SIXTY, ReturnDrawdownConfig(turnover_limit=limit), AccountingConfig())


def test_a_turnover_limit_makes_a_chain_that_starts_from_what_was_held(market):
    panel = market.panel()
    given, rule = forecasts(market, panel), limited(0.1)
    dates = allocate.return_drawdown_dates(given, None, rule)
    assert [entry.before is None for entry in dates[:10]] == [True] * 8 + [False] * 2  # the eighth forecasts first
    allocate.allocate_return_drawdown.fn(panel, dates, rule)
    held = weights(market.store, [entry.key for entry in dates])
    prices = prices_of(market.store, panel.snapshot, [panel.universe])
    for before, entry in itertools.pairwise(dates[7:]):
        start = held[before.key]
        drifted = holdings.drifted(prices, start, before.moment.rebalance_date, entry.moment.as_of, rule.accounting)
        change = sum(abs(held[entry.key].get(ticker, 0.0) - drifted[ticker]) for ticker in "ABCDE") / 2
        assert change <= 0.1 + 1e-9
        notes = diagnostics(market.store, entry.key)
        assert notes["turnover"] == pytest.approx(change, abs=1e-9)
        assert notes["gap"] >= 0
    free = allocate.return_drawdown_dates(given, None, limited(1.0))
    assert all(entry.before is None for entry in free)
    allocate.allocate_return_drawdown.fn(panel, free, limited(1.0))
    assert weights(market.store, [free[-1].key])[free[-1].key] != held[dates[-1].key]


def test_a_chain_is_the_same_however_it_is_cut(market, tmp_path, monkeypatch):
    panel, rule = market.panel(), limited(0.05)
    dates = allocate.return_drawdown_dates(forecasts(market, panel), None, rule)
    for part in (dates[:9], dates[9:12], dates):
        allocate.allocate_return_drawdown.fn(panel, part, rule)
    ours = weights(market.store, [entry.key for entry in dates])
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    elsewhere = type(market)(open_store())
    again = elsewhere.panel()
    whole = allocate.return_drawdown_dates(forecasts(elsewhere, again), None, rule)
    allocate.allocate_return_drawdown.fn(again, whole, rule)
    assert weights(elsewhere.store, [entry.key for entry in whole]) == ours


def test_what_is_held_before_begin_does_not_count(market):
    panel, rule = market.panel(), limited(0.1)
    given = forecasts(market, panel)
    begin = given[10][0]
    dates = allocate.return_drawdown_dates(given, begin, rule)
    assert [entry.before is None for entry in dates[7:13]] == [True, True, True, True, False, False]
    assert allocate.return_drawdown_dates(given[10:], begin, rule) == dates[10:]


def test_sector_caps_take_the_sectors_of_the_universe(market):
    sectors = dict(zip("ABCDE", ("one", "one", "one", "two", "two"), strict=True))
    panel = market.panel(members=[Member(ticker, sector=name) for ticker, name in sectors.items()])
    config = ReturnDrawdownConfig(max_sector_weight=0.6, sector_caps="one=0.3")
    rule = Rule("simple", SIXTY, replace(config, max_sector_weight=0.7), AccountingConfig())
    dates = allocate.return_drawdown_dates(forecasts(market, panel)[-3:], None, rule)
    allocate.allocate_return_drawdown.fn(panel, dates, rule)
    for held in weights(market.store, [entry.key for entry in dates]).values():
        assert sum(held.get(ticker, 0.0) for ticker in "ABC") <= 0.3 + 1e-9
        assert sum(held.get(ticker, 0.0) for ticker in "DE") == pytest.approx(0.7, abs=1e-9)


def test_a_module_of_ones_own_sees_the_past_and_the_forecasts(market, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.py").write_text(
        "import numpy as np\n\n"
        "def allocate(seen):\n"
        "    score = seen.returns[-60:].sum(axis=0) if np.isnan(seen.mean).all() else seen.mean\n"
        "    return np.where(np.arange(seen.mask.size) == np.where(seen.mask, score, -np.inf).argmax(), 1.0, 0.0)\n"
    )
    panel = market.panel()
    given, source = forecasts(market, panel), own_code.source("best")
    moments, keys = (tuple(part) for part in zip(*given, strict=True))
    found = allocate.allocate_own.fn(panel, moments, keys, "best", "best", source).keys
    held = weights(market.store, found)
    assert held[found[0]] == {CASH: 1.0}
    loaded = panels.load(market.store, panel)
    for (moment, key), own in zip(given[6:], found[6:], strict=True):
        at = loaded.at(moment.as_of)
        score = np.nan_to_num(loaded.returns[at - 59 : at + 1]).sum(axis=0)
        if key:
            rows = tables.read(market.store, "forecasts", key=key).sort_by("ticker")
            score = np.array(rows["mean"].to_pylist())
        assert held[own] == {"ABCDE"[int(score.argmax())]: 1.0}
    assert allocate.own_key(moments[-1], keys[-1], "best", "best", "another source") != found[-1]
