"""The tuned strategy: each January the best of the past, followed to the last bit, however a run was cut."""

import json
from datetime import date

import numpy as np
import pytest

from flows import parameters as forms
from flows.strategies import of as strategies_of
from storage import tables
from storage.errors import InputError
from storage.store import open_store
from tasks import learn, learning, panels, tuned
from tasks.numerics import accounting, fitness, metrics, overfitting
from tasks.numerics.configs import HEDGE, RISK_FREE, TRADING_DAYS, AccountingConfig, FitnessConfig, OnlineConfig

BASE = OnlineConfig(window=20)
GRID = (("learning_rate", (0.001, 0.05, 0.5)), ("momentum", (0.0, 0.8)))
COSTS = AccountingConfig(cost=0.002)
CASH = RISK_FREE / TRADING_DAYS


def rule(**changes):
    values = {"base": BASE, "grid": GRID, "years": 0, "minimum": 120, "fitness": FitnessConfig()}
    return tuned.Rule(**values | {"accounting": COSTS, "rebalance": "M"} | changes)


def follow(market, panel, wanted, moments=None):
    history = panels.moments(market.store, panel)
    chosen = history if moments is None else tuple(moments)
    upto = tuple(moment for moment in history if moment.as_of <= chosen[-1].as_of)
    return tuned.follow.fn(panel, upto, chosen, wanted).keys


def choices(market):
    rows = tables.read(market.store, "tunings").sort_by("year").drop_columns(["key", "created_at"])
    return {row["year"]: row for row in rows.to_pylist()}


def books(market, keys):
    found = {key: {} for key in keys}
    for row in tables.read(market.store, "weights", key=list(keys)).to_pylist():
        found[row["key"]][row["ticker"]] = row["weight"]
    return list(found.values())


def alone(market, panel, config):
    """The weights of a setting at every date, as the strategy gives them that has this config."""
    history = panels.moments(market.store, panel)
    return books(market, learn.learn.fn(panel, history, history, learning.of_online("alone", config), "M").keys)


def by_hand(market, panel, held, first, until):
    """The account that follows the weights from the date number `first` on, up to a day."""
    loaded, history = panels.load(market.store, panel), panels.moments(market.store, panel)
    end = loaded.at(until) + 1
    places = [k for k, m in enumerate(history) if k >= first and m.rebalance_date <= until]
    when = np.array([loaded.at(history[k].rebalance_date) for k in places])
    targets = np.array([[held[k].get(ticker, 0.0) for ticker in "ABCDE"] for k in places])
    account = accounting.simulate(loaded.returns[:end], loaded.traded[:end], when, targets, COSTS)
    month = loaded.sessions[when[0] : end].astype("datetime64[M]").astype(int)
    measured = metrics.measures(account.daily_return, targets, account.turnover, account.costs.sum(axis=1), month)
    return account.daily_return, measured, fitness.score(measured, account.daily_return, {}, FitnessConfig())["fitness"]


@pytest.fixture
def long(market):
    return market.panel(market.bars(count=760))


def test_each_january_the_best_of_the_past_is_chosen(market, long):
    follow(market, long, rule())
    history, settings = panels.moments(market.store, long), rule().settings
    lanes = [alone(market, long, config) for config in settings]
    first = next(k for k, book in enumerate(lanes[0]) if set(book) - {"$CASH"})
    found, numbers = choices(market), {}
    assert [found[year]["number"] is None for year in range(2015, 2019)] == [True, True, False, False]
    for year in (2017, 2018):
        january = next(m for m in history if m.rebalance_date.year == year)
        accounts = [by_hand(market, long, lane, first, january.as_of) for lane in lanes]
        scores = [score for _, _, score in accounts]
        row, numbers[year] = found[year], int(np.argmax(scores))
        assert row["number"] == numbers[year]
        assert json.loads(row["setting"])["momentum"] == settings[numbers[year]].momentum
        assert row["fitness"] == pytest.approx(max(scores), rel=1e-9)
        assert row["median_fitness"] == pytest.approx(np.median(scores), rel=1e-9)
        days = np.column_stack([daily for daily, _, _ in accounts])
        assert row["overfitting"] == overfitting.backtest_overfitting(days - CASH)
        assert row["sessions"] == len(days)
    assert found[2017]["followed_fitness"] is None
    begin = next(k for k, m in enumerate(history) if m.rebalance_date.year == 2017)
    path = [lanes[numbers.get(m.rebalance_date.year, 0)][k] for k, m in enumerate(history)]
    _, measured, score = by_hand(market, long, path, begin, found[2018]["as_of"])
    fixed = [by_hand(market, long, lane, begin, found[2018]["as_of"]) for lane in lanes]
    best = int(np.argmax([other for _, _, other in fixed]))
    assert found[2018]["followed_fitness"] == pytest.approx(score, rel=1e-9)
    assert found[2018]["followed_return"] == pytest.approx(measured["annual_return"], rel=1e-9)
    assert found[2018]["hindsight_fitness"] == pytest.approx(fixed[best][2], rel=1e-9)
    assert found[2018]["hindsight_return"] == pytest.approx(fixed[best][1]["annual_return"], rel=1e-9)
    assert json.loads(found[2018]["hindsight"])["learning_rate"] == settings[best].learning_rate


def test_weights_are_those_of_the_chosen_setting_alone_to_the_last_bit(market, long):
    held = books(market, follow(market, long, rule()))
    history, found = panels.moments(market.store, long), choices(market)
    numbers = [found[moment.rebalance_date.year]["number"] for moment in history]
    assert numbers[-1] is not None
    for number in set(numbers):
        own = alone(market, long, BASE if number is None else rule().settings[number])
        assert all(held[k] == own[k] for k, other in enumerate(numbers) if other == number)
    keys = tables.read(market.store, "allocations", strategy=tuned.NAME).sort_by("as_of").to_pylist()
    said = [json.loads(row["diagnostics"]).get("setting") for row in keys]
    assert said[-1] == json.loads(found[2018]["setting"])
    assert "base" in said


def test_nothing_that_came_later_changes_a_choice_or_a_weight(market, long):
    before, rows = books(market, follow(market, long, rule())), choices(market)
    bars = market.bars(count=760)
    late = bars["session"] > "2016-12-30"
    rng = np.random.default_rng(0)
    for name in ("open", "high", "low", "close", "adj_close"):
        bars.loc[late, name] *= np.exp(rng.normal(0, 0.3, late.sum()))
    other = market.panel(bars)
    history = panels.moments(market.store, other)
    known = sum(moment.as_of <= date(2016, 12, 30) for moment in history)
    tables.forget(market.store, "tunings", tables.read(market.store, "tunings")["key"].to_pylist())
    changed = rule(minimum=121)  # keys of their own, or all would come from the store
    keys = follow(market, other, changed)
    assert books(market, keys)[:known] == before[:known]
    again = choices(market)
    for year in (2015, 2016, 2017):
        assert again[year] == rows[year]
    assert again[2018]["fitness"] != rows[2018]["fitness"]


def test_choices_and_weights_are_the_same_bytes_however_a_run_is_cut(market, long, tmp_path, monkeypatch):
    dates = [m for m in panels.moments(market.store, long) if m.rebalance_date.year > 2015]
    for part in (dates[-2:], dates[:10], dates):
        follow(market, long, rule(), part)
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    elsewhere = type(market)(open_store())
    panel = elsewhere.panel(market.bars(count=760))
    follow(elsewhere, panel, rule(), dates[:13])
    keys = follow(elsewhere, panel, rule(), dates)
    assert choices(elsewhere) == choices(market)
    assert books(elsewhere, keys) == books(market, keys)


def test_what_is_stored_is_not_chosen_again(market, long, monkeypatch):
    dates = panels.moments(market.store, long)
    follow(market, long, rule(), dates[:-1])
    monkeypatch.setattr(tuned, "_Record", lambda *_: pytest.fail("chosen again"))
    follow(market, long, rule(), dates)


def test_every_setting_is_a_trial_with_a_row_for_each_year_it_was_rated_in(market, long):
    dates = panels.moments(market.store, long)
    follow(market, long, rule(), [m for m in dates if m.rebalance_date.year < 2018])
    first = tables.read(market.store, "trials", family=tuned.NAME).to_pylist()
    assert len(first) == len({row["configuration"] for row in first}) == 6
    assert {row["end_date"] for row in first} == {date(2016, 12, 30)}
    follow(market, long, rule(), dates)
    rows = tables.read(market.store, "trials", family=tuned.NAME).to_pylist()
    assert len(rows) == 12
    assert {row["configuration"] for row in rows} == {row["configuration"] for row in first}
    follow(market, long, rule(minimum=130), dates)
    assert len(tables.read(market.store, "trials", family=tuned.NAME)) == 12


def test_a_window_of_years_rates_the_newest_sessions_only(market, long):
    follow(market, long, rule(years=1))
    recent = choices(market)[2018]
    lanes = [alone(market, long, config) for config in rule().settings]
    loaded, history = panels.load(market.store, long), panels.moments(market.store, long)
    begin = loaded.at(recent["as_of"]) + 1 - TRADING_DAYS
    first = next(k for k, m in enumerate(history) if loaded.at(m.rebalance_date) >= begin)
    scores = [by_hand(market, long, lane, first, recent["as_of"])[2] for lane in lanes]
    assert recent["fitness"] == pytest.approx(max(scores), rel=1e-9)
    assert recent["number"] == int(np.argmax(scores))


@pytest.mark.parametrize(("rebalance", "costs"), [("Q", "impact"), ("D", "flat")])
def test_it_trades_at_its_own_dates_and_at_costs_that_depend_on_size(market, rebalance, costs):
    panel = market.panel(market.bars(count=600))
    terms = AccountingConfig(costs=costs, capital=1e9)
    wanted = rule(rebalance=rebalance, accounting=terms, fitness=FitnessConfig(factor_weight=0.1))
    months = panels.moments(market.store, panel)
    dates = {m.as_of: m for m in (*months, *panels.moments(market.store, panel, rebalance))}
    history = tuple(dates[day] for day in sorted(dates))
    tuned.follow.fn(panel, history, panels.moments(market.store, panel, rebalance)[-8:], wanted)
    row = choices(market)[2017]
    assert row["number"] is not None
    assert np.isfinite(row["fitness"])


@pytest.mark.parametrize(
    ("grid", "said"), [("momentum=0,2", "momentum is 2.0; it must be below 1"), ("magic=1", "'magic'")]
)
def test_a_grid_with_a_setting_that_is_none_is_refused_before_anything_is_decided(market, grid, said):
    values = {"strategies": ["ogd_tuned"], "publish": "ogd_tuned", "ogd_tuned": {"grid": grid}}
    with pytest.raises(InputError, match=said):
        strategies_of(market.load(), forms.make(values))
    assert strategies_of(market.load(), forms.make(values | {"ogd_tuned": {"base": "hedge"}})).choosing.base == HEDGE
