"""The stage of optimised baselines: what a date sees, what falls back and why, and what its keys hold."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from storage import tables
from storage.keys import PanelKey
from storage.schemas import CASH
from storage.universe import Member
from tasks import baselines, panels, portfolios
from tasks.baselines import Rule
from tasks.numerics.configs import OPTIMISED_BASELINES, BaselineConfig

CONFIG = BaselineConfig()


def rising(bars, rate=0.002):
    """The bars with prices that grow by a further rate a session."""
    growth = np.exp(rate * bars.groupby("ticker").cumcount())
    return bars.assign(close=bars["close"] * growth, adj_close=bars["close"] * growth)


@pytest.fixture
def decide(market):
    """Weights and what is said of them, of a strategy on the last month's date of some bars."""

    def run(bars=None, strategy="minimum_variance", config=CONFIG, members="ABCDE", moment=None):
        panel = market.panel(rising(market.bars()) if bars is None else bars, members)
        moment = moment or panels.moments(market.store, panel)[-1]
        rule = Rule(strategy, config, 0.02)
        [key] = baselines.allocate_baseline.fn(panel, (moment,), rule).keys
        weights = {row["ticker"]: row["weight"] for row in tables.read(market.store, "weights", key=key).to_pylist()}
        return weights, json.loads(tables.read(market.store, "allocations", key=key)["diagnostics"][0].as_py()), moment

    return run


@pytest.mark.parametrize("strategy", OPTIMISED_BASELINES)
def test_each_baseline_is_the_portfolio_of_the_last_sessions(market, decide, strategy):
    config = BaselineConfig(sessions=100, shrinkage="none")
    found, notes, moment = decide(strategy=strategy, config=config)
    close = rising(market.bars()).pivot(index="session", columns="ticker", values="close")
    last = close.pct_change().loc[: str(moment.as_of)].iloc[-100:]
    expected = portfolios.solve(strategy, 252 * last.mean().to_numpy(), 252 * last.cov().to_numpy(), 0.02).weights
    np.testing.assert_allclose([found.get(ticker, 0.0) for ticker in "ABCDE"], expected, atol=1e-6)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)
    assert (notes["sessions"], notes["without_risk"]) == (100, [])
    assert "reason" not in notes


def test_choices_of_the_config_change_the_weights(decide):
    usual = decide(strategy="maximum_sharpe")[0]
    for values in ({"shrinkage": "none"}, {"mean": "shrunk"}, {"sessions": 60}):
        assert decide(strategy="maximum_sharpe", config=replace(CONFIG, **values))[0] != usual, values


@pytest.mark.parametrize("strategy", OPTIMISED_BASELINES)
def test_what_comes_after_the_date_changes_nothing(market, decide, strategy):
    bars = rising(market.bars())
    moment = panels.moments(market.store, market.panel(bars))[-4]
    before, _, _ = decide(bars, strategy, moment=moment)
    later = bars["session"] > pd.Timestamp(moment.as_of)
    bars.loc[later, "close"] *= 1 + 0.3 * np.random.default_rng(0).random(later.sum())
    bars["adj_close"] = bars["close"]
    panel = market.panel(bars)
    again = next(one for one in panels.moments(market.store, panel) if one.as_of == moment.as_of)
    assert baselines.key(again, Rule(strategy, CONFIG, 0.02)) == baselines.key(moment, Rule(strategy, CONFIG, 0.02))
    weights, _ = baselines._decide(
        panels.load(market.store, panel),
        panels.load(market.store, panel).at(moment.as_of),
        Rule(strategy, CONFIG, 0.02),
    )
    assert {ticker: weight for ticker, weight in weights.items() if abs(weight) > 1e-12} == before


def test_nothing_eligible_is_cash_and_one_asset_is_held_whole(market, decide):
    first = panels.moments(market.store, market.panel())[0]
    assert decide(moment=first)[:2] == ({CASH: 1.0}, {"reason": baselines.NO_ASSET})
    for strategy in OPTIMISED_BASELINES:
        assert decide(strategy=strategy, members="A")[0] == {"A": 1.0}


def test_a_young_asset_shortens_what_all_are_judged_by(market, decide):
    bars = market.bars()
    young = bars[(bars["ticker"] != "C") | (bars["session"] >= "2016-01-04")]
    found, notes, _ = decide(young, "risk_parity")
    assert set(found) == set("ABCDE")
    assert 130 < notes["sessions"] < 252


def flat(bars, tickers):
    """The bars with the prices of some tickers standing still."""
    return bars.assign(
        **{name: bars[name].mask(bars["ticker"].isin(list(tickers)), 50.0) for name in ("close", "adj_close")}
    )


@pytest.mark.parametrize("strategy", OPTIMISED_BASELINES)
def test_assets_that_stand_still_are_left_out_by_name(market, decide, strategy):
    found, notes, _ = decide(flat(rising(market.bars()), "BD"), strategy)
    assert notes["without_risk"] == ["B", "D"]
    assert not {"B", "D"} & set(found)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)


def test_what_cannot_be_computed_is_an_equal_weight_with_its_reason(market, decide, monkeypatch):
    equal = dict.fromkeys("ABCDE", 0.2)
    found, notes, _ = decide(flat(market.bars(), "ABCDE"))
    assert (found, notes["reason"]) == (equal, baselines.NO_MOVE)
    found, notes, _ = decide(rising(market.bars(), -0.002), "maximum_sharpe")
    assert found == equal
    assert notes["reason"].startswith("the largest mean, -")
    monkeypatch.setattr(portfolios, "_attempt", lambda *_: portfolios.Portfolio(np.full(5, np.nan), np.inf))
    found, notes, _ = decide(strategy="risk_parity")
    assert (found, notes["reason"]) == (equal, "risk_parity was not solved: its answer is inf from the optimum")
    monkeypatch.setattr(baselines, "FEWEST", 300)
    found, notes, _ = decide(strategy="minimum_variance")
    assert (found, notes["reason"]) == (equal, "252 sessions of the 300 needed")


def test_the_rate_of_cash_is_the_universes_own(market):
    days = market.days()
    cash = market.bars("A").assign(ticker="RF", close=np.full(days.size, 4e-4), basis="rate")
    members = [*(Member(ticker) for ticker in "ABCDE"), Member("RF", role="risk_free")]
    panel = market.load(pd.concat([rising(market.bars()), cash]), members)
    rule = Rule("maximum_sharpe", CONFIG, 0.02)
    found, _ = baselines._decide(panel, 390, rule)
    constant, _ = baselines._decide(replace(panel, risk_free=None), 390, rule)
    same, _ = baselines._decide(replace(panel, risk_free=None), 390, replace(rule, cash_rate=252 * 4e-4))
    assert found != constant
    assert found == pytest.approx(same, abs=1e-9)


def test_stored_weights_are_not_computed_again(market, monkeypatch):
    panel = market.panel()
    months, rule = market.decidable(panel)[-3:], Rule("minimum_variance", CONFIG, 0.02)
    keys = baselines.allocate_baseline.fn(panel, months, rule).keys
    monkeypatch.setattr(baselines, "_decide", lambda *_: pytest.fail("computed again"))
    assert baselines.allocate_baseline.fn(panel, months, rule).keys == keys
    assert len(set(keys)) == 3


def test_keys_hold_what_the_weights_depend_on_and_no_more(market):
    moment = panels.moments(market.store, PanelKey(market.take(market.bars()), market.universe("ABCDE")))[-1]

    def keys(**values):
        rate = values.pop("cash_rate", 0.02)
        config = replace(CONFIG, **values)
        return {name: baselines.key(moment, Rule(name, config, rate)) for name in OPTIMISED_BASELINES}

    usual = keys()
    assert len(set(usual.values())) == 4
    for values in ({"sessions": 100}, {"shrinkage": "none"}):
        assert not set(keys(**values).values()) & set(usual.values())
    for values in ({"mean": "shrunk"}, {"cash_rate": 0.03}):
        changed = {name for name, key in keys(**values).items() if key != usual[name]}
        assert changed == {"maximum_sharpe"}
    assert {"skfolio", "cvxpy-base", "clarabel"} <= set(baselines.KEYED.packages)
    assert {"tasks.portfolios", "tasks.numerics.covariance"} <= set(baselines.KEYED.code)
