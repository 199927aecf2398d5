"""Forecasts of every session: those of the months among them, nothing of the future in them, GARCH as arch has it."""

import builtins
from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from storage import partitions, tables
from storage.errors import InputError, NoDataError
from tasks import garch, judge, panels
from tasks.numerics.configs import ForecastConfig


@pytest.fixture
def judged(market, small, forecasting):
    """Makes the predictions of two spans of 2016 from bars; the run, its months and the rows."""

    def make(bars=None, config=small, year=2016):
        run = forecasting(market, market.panel(market.bars() if bars is None else bars), config)
        months = run.months(year)[:3]
        if months[0].trained:
            run.train(year)
            run.forecast(months)
        spans = tuple(
            judge.span(one.moment, two.moment, (run.seen(one.moment)[-1], run.seen(two.moment)[-1]), one.model, config)
            for one, two in pairwise(months)
        )
        judge.predict_sessions.fn(run.panel, spans, run.seen(months[-1].moment), config)
        return run, months, spans, partitions.read(run.store, "predictions", [part.key for part in spans])[1]

    return make


def test_every_session_between_the_as_of_dates_is_forecast_once_for_every_eligible_asset(judged):
    run, months, _, rows = judged()
    first, last = (run.loaded.at(months[place].moment.as_of) for place in (0, 2))
    assert sorted(set(rows["session"].dt.date)) == run.loaded.sessions[first:last].tolist()
    assert rows.groupby("session")["ticker"].apply("".join).unique().tolist() == ["ABCDE"]


def test_the_forecasts_of_the_as_of_dates_are_those_that_decide(judged):
    run, months, _, rows = judged()
    for month in months[:2]:
        own = run.rows([month]).set_index("ticker")
        same = rows[rows["session"] == pd.Timestamp(month.moment.as_of)].set_index("ticker")
        for ours, theirs in (("mean", "mean"), ("variance", "variance"), ("ewma", "baseline_variance")):
            np.testing.assert_allclose(same[ours], own[theirs], rtol=1e-6)
        np.testing.assert_allclose(same["calibrated"], own["calibrated_variance"], rtol=1e-12)
        np.testing.assert_allclose(same["tail"] * same["variance"] ** 0.5, own["scale"], rtol=1e-6)


def test_the_forecasts_between_two_months_are_those_of_whoever_trades_every_session(judged):
    run, months, _, rows = judged()
    days = run.days(months[0])
    run.forecast(days)
    own = run.rows(days).set_index(["as_of", "ticker"])
    same = rows.assign(as_of=rows["session"].dt.date).set_index(["as_of", "ticker"]).loc[own.index]
    assert len(own) == 5 * 18
    for ours, theirs in (("mean", "mean"), ("variance", "variance"), ("calibrated", "calibrated_variance")):
        np.testing.assert_allclose(same[ours], own[theirs], rtol=1e-6)


def test_nothing_after_a_session_is_in_its_forecast(judged, market):
    bars = market.bars()
    day = pd.Timestamp("2016-01-15")
    later = bars.copy()
    later.loc[later["session"] > day, ["open", "high", "low", "close", "adj_close"]] *= 1.3
    rows, others = (judged(frame)[3] for frame in (bars, later))
    seen = rows["session"] <= day
    assert seen.sum() > 50
    pd.testing.assert_frame_equal(rows[seen], others[seen], check_exact=True)
    assert (rows["variance"] != others["variance"])[~seen].any()


@pytest.mark.parametrize("forecaster", ["ewma", "calibrated_ewma", "historical"])
def test_a_simple_forecaster_is_predicted_without_a_model(judged, small, forecaster):
    run, _, _, rows = judged(config=replace(small, forecast=ForecastConfig(forecaster=forecaster)))
    beside = {"ewma": "ewma", "calibrated_ewma": "calibrated", "historical": "historical_variance"}[forecaster]
    np.testing.assert_array_equal(rows["variance"], rows[beside])
    assert (rows["degrees"] > 2).all()
    assert tables.read(run.store, "models").num_rows == 0


def test_what_is_predicted_is_not_predicted_again(judged, monkeypatch):
    run, months, spans, _ = judged()
    monkeypatch.setattr(judge, "_predicted", lambda *_: pytest.fail("predicted again"))
    judge.predict_sessions.fn(run.panel, spans, run.seen(months[-1].moment), run.config)


def test_a_judgement_is_kept_by_what_it_judged_and_says_from_when_to_when(judged):
    run, _, spans, _ = judged()
    produced = judge.judge_forecasts.fn(run.panel, "mine", spans, (), 5, "p")
    rows = tables.read(run.store, "judgements", key=list(produced.keys)).to_pylist()
    assert {(row["scenario"], row["start_date"], row["end_date"]) for row in rows} == {
        ("mine", spans[0].moment.as_of, spans[-1].until.as_of)
    }
    whole = [row for row in rows if (row["forecaster"], row["kind"], row["name"]) == ("own", "all", "nll")]
    assert whole[0]["rows"] == 5 * (run.loaded.at(spans[-1].until.as_of) - run.loaded.at(spans[0].moment.as_of))
    assert judge.judge_forecasts.fn(run.panel, "mine", spans, (), 5, "p") == produced
    assert tables.read(run.store, "judgements").num_rows == len(rows)


def test_forecasts_without_outcomes_cannot_be_judged(judged, market):
    bars = market.bars()
    run, _, spans, _ = judged(bars[bars["session"] <= "2016-03-01"])
    with pytest.raises(NoDataError, match="no forecast of these months has an outcome"):
        judge.judge_forecasts.fn(run.panel, "mine", spans, (), 100, "p")


def test_garch_forecasts_are_those_of_arch(judged, market):
    arch = pytest.importorskip("arch")
    run, _, spans, rows = judged(market.bars(count=600), year=2017)
    (key,) = judge.garch_sessions.fn(run.panel, spans, run.config.features).keys
    _, found = partitions.read(run.store, "predictions", [key])
    assert found.groupby("ticker").size().to_dict() == rows.groupby("ticker").size().to_dict()
    asset = run.loaded.series["B"]
    first = int(np.searchsorted(asset.day, np.datetime64(spans[0].moment.as_of), side="right"))
    returns = 100 * np.log1p(asset.simple_return[1:])
    model = arch.arch_model(returns[: first - 1], mean="Zero", p=1, q=1, rescale=False)
    fitted = model.fit(disp="off")
    whole = arch.arch_model(returns, mean="Zero", p=1, q=1, rescale=False).fix(fitted.params)
    at = first + 8  # own session of the ninth day
    ahead = whole.forecast(horizon=5, start=at - 1, reindex=False).variance.to_numpy()[0].sum() / 100**2
    ours = found[found["ticker"] == "B"].sort_values("session")["garch"].iloc[9]
    assert ours == pytest.approx(ahead, rel=1e-3)  # arch starts its recursion elsewhere


def test_an_asset_of_less_than_a_year_has_no_garch(judged, market):
    bars = market.bars(count=600)
    young = bars[(bars["ticker"] != "C") | (bars["session"] >= "2016-02-01")]
    run, _, spans, _ = judged(young, year=2017)
    panel = panels.load(run.store, run.panel)
    rows = garch.variances(panel, spans[0].moment.as_of, spans[-1].until.as_of, 5)
    assert set(rows["ticker"]) == set("ABDE")
    assert np.isfinite(rows["garch"]).all()
    with pytest.raises(NoDataError, match="no asset has 252 returns on 2015-12-31 to fit a GARCH to; start later"):
        garch.variances(panel, date(2015, 12, 31), date(2016, 1, 29), 5)


def test_a_missing_package_is_a_sentence_with_the_way_to_install_it(monkeypatch):
    original = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "arch":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"GARCH needs the package arch.*pip install 'arch>=8'.*leave --garch out"):
        garch.check_installed()
