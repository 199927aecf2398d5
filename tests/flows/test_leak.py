"""The leak gate: honest code passes it, and every planted look-ahead is caught and named."""

import shutil
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from flows import leak
from flows.backfill import backfill
from storage import bars, catalog, ledger
from storage.errors import LeakError
from tasks import allocate, features, followed, forecast, histories, learning, panels
from tasks import backtest as accounts
from tasks.numerics import windows

pytestmark = pytest.mark.flow
CHECKED = date(2017, 1, 3)  # decided on 2016-12-30
long = pytest.mark.long


def check(place, root, monkeypatch) -> str:
    """What the gate finds with the code as it is now, on both sides: no record of other code serves."""
    place(root)
    monkeypatch.setattr(leak, "_is_made_alike", lambda *_: False)
    return leak.leak_check("main", CHECKED)


def wrapped(monkeypatch, module, name, change) -> None:
    """Put `change(original, ...)` in the place of a function."""
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given, **named: change(original, *given, **named))


def shifted_features(monkeypatch):
    def change(original, ticker, panel, median, names, config):
        rows = original(ticker, panel, median, names, config)
        return rows.assign(**{name: rows[name].shift(-1) for name in names})

    wrapped(monkeypatch, features, "_of_asset", change)


def full_sample_scaling(monkeypatch):
    def change(original, ticker, panel, median, names, config):
        rows = original(ticker, panel, median, names, config)
        return rows.assign(**{name: rows[name] / rows[name].std() for name in names})

    wrapped(monkeypatch, features, "_of_asset", change)


def no_embargo(monkeypatch):
    """Windows up to the as-of date itself are labelled, by returns that follow it."""

    def everything(original, store, key, keys):
        known, panel = original(store, key, keys), panels.load(store, key)
        last, ahead = known.last_session, 21
        grown = known._replace(
            features=np.pad(known.features, ((0, 0), (0, ahead), (0, 0)), constant_values=np.nan),
            log_return=np.pad(known.log_return, ((0, 0), (0, ahead)), constant_values=np.nan),
            ewma_variance=np.pad(known.ewma_variance, ((0, 0), (0, ahead)), constant_values=np.nan),
            session=np.pad(known.session, ((0, 0), (0, ahead)), constant_values=-1),
        )
        for row, ticker in enumerate(panel.universe.assets):
            asset, own = panel.series[ticker], int((known.session[row] >= 0).sum())
            later = np.flatnonzero(asset.session > last)[:ahead]
            grown.log_return[row, own : own + later.size] = np.log1p(asset.simple_return[later])
            grown.session[row, own : own + later.size] = asset.session[later]
        return grown

    def learnt(original, store, month, past, forecaster):
        return original(store, month, seen_past[0], forecaster)

    seen_past = []

    def kept(original, known, last):
        seen_past[:] = [known._replace(last_session=last)]
        return original(known, last)

    wrapped(monkeypatch, histories, "load", everything)
    wrapped(monkeypatch, windows, "cut", kept)
    wrapped(monkeypatch, forecast, "_learned", learnt)


def calibrated_on_the_future(monkeypatch):
    def change(original, panel, month, rows, found, simple, forecaster):
        realised = 21 * np.nanvar(np.nan_to_num(panel.returns))
        return original(panel, month, rows, found._replace(variance=found.variance * realised), simple, forecaster)

    wrapped(monkeypatch, forecast, "_entries", change)


def correlation_of_tomorrow(monkeypatch):
    def change(original, panel, *others):
        return original(replace(panel, returns=np.roll(panel.returns, -1, axis=0)), *others)

    wrapped(monkeypatch, allocate, "_optimise", change)


def restatement_read_early(monkeypatch):
    def change(original, store, dataset, known_at=None, tickers=None):
        return original(store, dataset, None, tickers)

    wrapped(monkeypatch, bars, "latest", change)


def universe_of_today(monkeypatch):
    def change(original, chosen, ticker, sessions):
        inside = original(chosen, ticker, sessions)
        return np.full_like(inside, inside[-1])

    wrapped(monkeypatch, panels, "_held", change)


def survivors_only(monkeypatch):
    def change(original, asset, seen, count):
        return original(asset, seen, count) & (asset.own_day[-1] == seen[asset.exchange][-1])

    wrapped(monkeypatch, panels, "_eligible", change)


def delisting_known_early(monkeypatch):
    def change(original, chosen, series, declared, *others):
        return original(chosen, series, dict.fromkeys(declared, date.min), *others)

    wrapped(monkeypatch, panels, "_eligible_assets", change)


def backward_fill(monkeypatch):
    def change(original, asset, count):
        found = original(asset, count)
        lacking = ~np.isin(np.arange(count), asset.session)
        return pd.Series(np.where(lacking, np.nan, found)).bfill().to_numpy()

    wrapped(monkeypatch, panels, "returns_of", change)


def one_session_too_many(monkeypatch):
    def change(original, panel, begin, end, sessions):
        return original(panel, begin, min(end + 1, panel.sessions.size - 1), sessions)

    wrapped(monkeypatch, learning, "_market", change)


def tuned_on_the_whole_sample(monkeypatch):
    def change(original, recipe, panel):
        best = 0.1 + abs(np.nanmean(panel.returns))
        online = None if recipe.online is None else replace(recipe.online, learning_rate=best)
        return original(replace(recipe, online=online), panel)

    wrapped(monkeypatch, learning, "allocator", change)


def same_close(monkeypatch):
    wrapped(monkeypatch, followed, "trade_date", lambda original, month: month.as_of)


def account_one_session_ahead(monkeypatch):
    def change(original, strategy, prices, *others):
        ahead = replace(prices, returns=np.nan_to_num(np.roll(prices.returns, -1, axis=0)))
        return original(strategy, ahead, *others)

    wrapped(monkeypatch, accounts, "_kept", change)


PLANTED = {
    shifted_features: "features 2016-",
    full_sample_scaling: "features 20",
    restatement_read_early: "features 2016-12-2",
    no_embargo: "forecasts 2016-12-30 ",
    calibrated_on_the_future: "forecasts 2016-12-30 ",
    universe_of_today: "forecasts 2016-12-30 ",
    survivors_only: "forecasts 2016-12-30 ",
    delisting_known_early: "forecasts 2016-12-30 ",
    correlation_of_tomorrow: "weights of return_drawdown, 2016-12-30 ",
    backward_fill: "weights of ogd_",
    one_session_too_many: "weights of ogd_",
    tuned_on_the_whole_sample: "weights of ogd_",
    account_one_session_ahead: "wealth of ",
    same_close: "executions of equal_weight, 2017-01-03: the trade does not depend on the prices of its own close",
}
QUICK = (same_close,)


@pytest.mark.parametrize(
    "plant",
    [pytest.param(plant, id=plant.__name__, marks=() if plant in QUICK else long) for plant in PLANTED],
)
def test_a_planted_look_ahead_is_caught_and_named(decided_quickly, place, monkeypatch, plant):
    plant(monkeypatch)
    assert check(place, decided_quickly, monkeypatch).startswith(PLANTED[plant])


@long
def test_honest_code_passes(decided_quickly, place, monkeypatch):
    place(decided_quickly)
    assert leak.leak_check("main", CHECKED) == ""  # the record itself serves
    assert check(place, decided_quickly, monkeypatch) == ""


def test_a_new_newest_date_is_recorded_after_the_gate_passed_and_not_where_it_failed(
    tmp_path, decided_quickly, place, monkeypatch
):
    store = place(shutil.copytree(decided_quickly, tmp_path / "store"))
    monkeypatch.setenv("PRISM_LEAK_GATE", "true")
    with monkeypatch.context() as patched:
        shifted_features(patched)
        with pytest.raises(LeakError, match=r"2016-12 comes out differently .* 2017-02 was not recorded"):
            backfill("2017-02", "2017-02")
    assert max(ledger.current(store, "main")) == CHECKED
    backfill("2017-02", "2017-02")
    assert max(ledger.current(store, "main")) == date(2017, 2, 1)
    backfill("2017-01", "2017-02")  # no new newest date
    rows = catalog.query(store, "main", "SELECT * FROM leak_checks").to_pylist()
    assert [row["verdict"] for row in rows] == ["failed", "passed"]
    assert {(row["as_of"], row["rebalance_date"]) for row in rows} == {(date(2017, 1, 31), date(2016, 12, 1))}
    assert rows[0]["detail"].startswith("features ")
    assert rows[1]["detail"] == ""


@long
def test_the_first_dates_of_a_scenario_are_checked_as_soon_as_there_is_a_past(store, quick, csv, monkeypatch):
    monkeypatch.setenv("PRISM_LEAK_GATE", "true")
    backfill("2016-12", "2016-12", parameters=quick, path=csv)
    assert catalog.query(store, "main", "SELECT * FROM leak_checks").num_rows == 0
    monkeypatch.setattr(leak, "leak_check", lambda scenario, day: "")
    backfill("2017-01", "2017-03")
    rows = catalog.query(store, "main", "SELECT as_of, rebalance_date FROM leak_checks").to_pylist()
    assert [row["as_of"] for row in rows] == [date(2017, 2, 28)]
    assert rows[0]["rebalance_date"] in {date(2016, 12, 1), CHECKED, date(2017, 2, 1)}
