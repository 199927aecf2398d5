"""Strategies that learn: the same states and weights however a run was cut, sectors, and modules of one's own."""

import itertools
import json
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from storage import tables
from storage.errors import InputError
from storage.schemas import CASH
from storage.store import open_store
from storage.universe import Member
from tasks import allocations, carried, learn, learning, panels
from tasks.learning import Recipe
from tasks.numerics import online
from tasks.numerics.configs import EXPONENTIATED_GRADIENT, OnlineConfig

FAST = OnlineConfig(window=20)


def weights(store, keys):
    found = tables.read(store, "weights", key=list(keys)).to_pandas().set_index(["key", "ticker"])["weight"]
    return {key: found[key].to_dict() for key in keys}


def diagnostics(store, key):
    return json.loads(tables.read(store, "allocations", key=key)["diagnostics"][0].as_py())


def fold(market, panel, moments=None, config=FAST, strategy="ogd"):
    history = panels.moments(market.store, panel)
    chosen = history if moments is None else tuple(moments)
    upto = tuple(m for m in history if m.rebalance_date <= max(c.rebalance_date for c in chosen))
    return learn.learn.fn(panel, upto, chosen, learning.of_online(strategy, config), "M").keys


def state(store, key):
    return carried.newest(store, [key])[1]["state"]


def straight(panel, until, config):
    """The state at `until` in one pass over all sessions since the inception, cut at the Januaries only."""
    begin = int(np.flatnonzero(panel.eligible.sum(axis=1) >= 2)[0])
    end, masks = panel.at(until), panel.eligible.copy()
    for t in range(begin + 1, end + 1):
        masks[t] = masks[t] if masks[t].any() else masks[t - 1]
    returns = np.nan_to_num(panel.returns)
    found, years = online.init(panel.eligible[begin], config), panel.sessions.astype("datetime64[Y]")
    cuts = [t for t in range(begin, end) if t > begin and years[t] != years[t + 1]]
    for start, stop in zip([begin, *cuts], [*cuts, end], strict=True):
        if start != begin:
            found = online.with_reset(found, config)
        seen = slice(start + 2 - config.window, stop + 1)
        cash = None if panel.risk_free is None else panel.risk_free[seen]
        found, _ = online.run(found, returns[seen], masks[start + 1 : stop + 1], config, cash)
    return found


@pytest.mark.parametrize("config", [FAST, replace(FAST, lr_reset="never", window=90)])
def test_states_are_those_of_one_pass_over_all_sessions(market, config):
    panel = market.panel(market.bars(count=500))
    moments = panels.moments(market.store, panel)
    keys = fold(market, panel, config=config)
    loaded = panels.load(market.store, panel)
    for place in (7, 9, 10, 15, len(moments) - 1):
        expected, found = straight(loaded, moments[place].as_of, config), state(market.store, keys[place])
        for part, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part, wanted)
        held = weights(market.store, keys[place : place + 1])[keys[place]]
        kept = np.where(expected.weights > allocations.ZERO, expected.weights, 0.0)
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
        np.testing.assert_array_equal(found.weights, expected.weights)
        assert (expected.weights != straight(constant, moments[place].as_of, FAST).weights).any()


@pytest.mark.parametrize("window", [20, 200])
def test_a_series_of_the_constant_changes_no_weight(market, window):
    config = replace(FAST, window=window)
    one = fold(market, with_cash(market, 0.02 / 252), config=config)
    other = fold(market, market.panel(), config=config)
    assert one != other
    for first, second in zip(one[7:], other[7:], strict=True):
        np.testing.assert_array_equal(state(market.store, first).weights, state(market.store, second).weights)


def test_steps_begin_anew_each_january(market):
    panel = market.panel()
    moments, keys = panels.moments(market.store, panel), fold(market, panel)
    loaded = panels.load(market.store, panel)
    inception = int(np.flatnonzero(loaded.eligible.sum(axis=1) >= 2)[0])
    for moment, key in zip(moments, keys, strict=True):
        if moment.rebalance_date >= date(2015, 10, 1):
            january = loaded.at(date(2015, 12, 31))
            since = inception if moment.as_of <= date(2015, 12, 31) else january
            assert state(market.store, key).t == loaded.at(moment.as_of) - since
            assert diagnostics(market.store, key)["steps"] == state(market.store, key).t


def copy_of(store, keys):
    """Weights and states by key, exactly."""
    states = {row["key"]: row["state"] for row in tables.read(store, "carried", key=list(keys)).to_pylist()}
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
    monkeypatch.setattr(online, "run", lambda state, *rest: begun.append(int(state.t)) or run(state, *rest))
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
        np.testing.assert_array_equal(state(market.store, keys[place]).weights, expected.weights)
    assert set(weights(market.store, keys[9:10])[keys[9]]) <= set("ABC")
    assert set(weights(market.store, keys[-1:])[keys[-1]]) <= set("DE")


def run(market, panel, recipe, moments=None, rebalance="M"):
    history = panels.moments(market.store, panel, rebalance)
    chosen = history if moments is None else tuple(moments)
    upto = tuple(moment for moment in history if moment.as_of <= chosen[-1].as_of)
    return learn.learn.fn(panel, upto, chosen, recipe, rebalance).keys


def test_a_daily_strategy_stands_where_the_monthly_one_does(market):
    panel, recipe = market.panel(), learning.of_online("ogd", FAST)
    monthly, daily = (panels.moments(market.store, panel, rebalance) for rebalance in ("M", "D"))
    ours, theirs = run(market, panel, recipe), run(market, panel, recipe, rebalance="D")
    by_day = dict(zip([moment.as_of for moment in daily], theirs, strict=True))
    assert [by_day[moment.as_of] for moment in monthly] == list(ours)  # one key, so one answer


def test_daily_dates_give_monthly_weights_to_the_last_bit_and_say_the_same(market, tmp_path, monkeypatch):
    bars, recipe = market.bars(), learning.of_online("ogd", replace(FAST, learning_rate=0.5))
    panel = market.panel(bars)
    keys = run(market, panel, recipe)
    ours, said = weights(market.store, keys), [diagnostics(market.store, key) for key in keys]
    assert 0 < said[-1]["ceiling_binding"] < 1
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "daily"))
    elsewhere = type(market)(open_store())
    run(elsewhere, elsewhere.panel(bars), recipe, rebalance="D")
    assert weights(elsewhere.store, list(ours)) == ours
    assert [diagnostics(elsewhere.store, key) for key in keys] == said


def test_a_limit_on_trades_moves_only_so_far_from_date_to_date(market):
    panel = market.panel()
    recipe = learning.of_online("ogd", replace(FAST, learning_rate=1.0, max_trade=0.05))
    keys = run(market, panel, recipe)
    held = weights(market.store, keys)
    books = [np.array([held[key].get(ticker, 0.0) for ticker in "ABCDE"]) for key in keys[8:]]
    changes = [np.abs(now - then).sum() for then, now in itertools.pairwise(books)]
    assert max(changes) == pytest.approx(0.05)
    again = run(market, panel, replace(recipe, name="other"), panels.moments(market.store, panel)[:12])
    resumed = run(market, panel, replace(recipe, name="other"))
    assert resumed[:12] == again
    assert list(weights(market.store, resumed).values()) == list(held.values())
    assert learn.key(panels.moments(market.store, panel)[-1], recipe, "Q") != keys[-1]


def in_sectors(market):
    sectors = dict(zip("ABCDE", ("one", "two", "one", "two", "two"), strict=True))
    return market.panel(members=[Member(ticker, sector=name) for ticker, name in sectors.items()])


def test_sector_first_weights_are_stored_and_resumed(market, tmp_path, monkeypatch):
    recipe = Recipe(
        "sector_ogd",
        outer=learning.of_online("ogd", FAST),
        inner=learning.of_online("exponentiated_gradient", EXPONENTIATED_GRADIENT),
        cap=0.6,
    )
    panel = in_sectors(market)
    months = panels.moments(market.store, panel)
    run(market, panel, recipe, months[:10])
    keys = run(market, panel, recipe)
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    elsewhere = type(market)(open_store())
    straight_keys = run(elsewhere, in_sectors(elsewhere), recipe)
    assert weights(elsewhere.store, straight_keys) == weights(market.store, keys)
    held = weights(market.store, keys)[keys[-1]]
    sums = {"one": held.get("A", 0) + held.get("C", 0), "two": held.get("B", 0) + held.get("D", 0) + held.get("E", 0)}
    assert max(sums.values()) <= 0.6 + 1e-12
    assert diagnostics(market.store, keys[-1])["sectors"] == pytest.approx(sums)


def test_sectors_that_nobody_named_are_refused(market):
    recipe = Recipe("sector_ogd", outer=Recipe("equal_weight"), inner=Recipe("equal_weight"))
    with pytest.raises(InputError, match=r"sector_ogd needs sectors, and universe .* names none"):
        run(market, market.panel(), recipe)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module where `prism` is started; gives its dotted path."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine"):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


STEPS = """
import numpy as np

def init(mask):
    return {"weights": mask / mask.sum(), "seen": np.zeros(0), "said": "begun", "count": 0}

def step(state, seen):
    gains = np.where(seen.mask, np.exp(RATE * seen.returns[-1]), 0)
    weights = np.where(seen.mask, np.maximum(state["weights"], 1e-3), 0) * gains
    last = np.append(state["seen"], seen.returns[-1].sum())[-3:]
    return {"weights": weights / weights.sum(), "seen": last, "said": "stepped", "count": state["count"] + 1}
"""


def test_a_module_of_ones_own_is_resumed_to_the_last_bit_and_keyed_by_its_source(market, module, tmp_path, monkeypatch):
    path = module(STEPS.replace("RATE", "5"))
    recipe, panel = learning.of_own("mine", path), market.panel()
    months = panels.moments(market.store, panel)
    run(market, panel, recipe, months[:10])
    keys = run(market, panel, recipe)
    carried_on = state(market.store, keys[-1])
    assert carried_on["said"] == "stepped"
    loaded = panels.load(market.store, panel)
    begin = int(np.flatnonzero(loaded.eligible.sum(axis=1) >= 2)[0])
    assert carried_on["count"] == loaded.at(months[-1].as_of) - begin
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    elsewhere = type(market)(open_store())
    straight_keys = run(elsewhere, elsewhere.panel(), recipe)
    assert weights(elsewhere.store, straight_keys) == weights(market.store, keys)
    module(STEPS.replace("RATE", "50"))
    edited = learning.of_own("mine", path)
    assert edited.source != recipe.source
    changed = run(elsewhere, elsewhere.panel(), edited)
    assert not set(changed) & set(keys)
    assert weights(elsewhere.store, changed[-1:]).values() != weights(elsewhere.store, keys[-1:]).values()


def test_terms_of_ones_own_enter_the_key(module):
    term = """
from tasks.numerics.terms import term

@term
def best_day(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    by_return[returns.argmax()] += SIGN * scale
    return SIGN * returns.max()
"""
    path = module(term.replace("SIGN", "1.0"), "terms_of_mine")
    config = replace(FAST, extra_terms=f"{path}.best_day=1")
    one = learning.of_online("ogd", config)
    module(term.replace("SIGN", "-1.0"), "terms_of_mine")
    assert learning.of_online("ogd", config).source != one.source
    assert learning.of_online("ogd", FAST).source == ""
