"""Forecasts: trained, refreshed and drawn from what is known at a month, in any order to the same bytes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from storage import checkpoints, tables
from storage.errors import NoDataError
from tasks import forecast, models, own_forecasts, panels
from tasks.numerics import training
from tasks.numerics.configs import FeatureConfig, ForecastConfig

WITH_VOLUME = FeatureConfig("document", lookback=20, horizon=5)


@pytest.fixture
def run(market, small, forecasting):
    return forecasting(market, market.panel(), small)


def test_a_block_is_trained_once_refreshed_from_its_model_and_forecast(run):
    months = run.months(2016)[:3]
    trained = run.train(2016)
    run.forecast(months)
    models = tables.read(run.store, "models").to_pandas().set_index("key")
    assert models["kind"].to_dict() == {
        trained: "trained", months[1].model: "refreshed", months[2].model: "refreshed",
    }  # fmt: skip
    assert months[0].model == trained
    assert pd.isna(models.loc[trained, "parent"])
    # never from another refresh
    assert {models.loc[month.model, "parent"] for month in months[1:]} == {trained}
    assert set(models["block"]) == {2016}
    found = run.rows(months)
    assert found.groupby("as_of")["ticker"].apply("".join).tolist() == ["ABCDE"] * 3
    assert (found["variance"] > 0).all()
    assert found.groupby("as_of")["model"].unique().map(list).tolist() == [[month.model] for month in months]


def test_the_lineage_of_a_model_says_what_it_was_made_of(run, small):
    trained = run.train(2016)
    [row] = tables.read(run.store, "models", key=trained).to_pylist()
    lineage = json.loads(row["lineage"])
    assert checkpoints.lineage(run.store, row["blob"]) == lineage
    assert lineage["moment"]["as_of"] == "2015-12-31" == str(row["as_of"])
    assert lineage["configs"]["training"]["epochs"] == 1
    assert lineage["code"] == forecast.KEYED.code
    assert set(lineage["versions"]) == set(forecast.KEYED.packages)


def test_a_model_comes_back_from_the_store_as_it_was_trained(run, monkeypatch):
    kept = []
    train = training.train
    monkeypatch.setattr(training, "train", lambda *a, **k: kept.append(train(*a, **k)) or kept[-1])
    model = models.get(run.store, run.train(2016), run.config)
    np.testing.assert_equal(model._asdict(), kept[0][0]._asdict())


def test_what_is_stored_is_not_computed_again(run, monkeypatch):
    months = run.months(2016)[:2]
    key = run.train(2016)
    keys = run.forecast(months)
    for name in ("train", "refresh"):
        monkeypatch.setattr(training, name, lambda *_, **__: pytest.fail("computed again"))
    monkeypatch.setattr(forecast, "_forecasts", lambda *_: pytest.fail("computed again"))
    assert run.train(2016) == key
    assert run.forecast(months) == keys


def test_months_are_the_same_bytes_alone_and_in_any_order(
    run, market, small, store, monkeypatch, tmp_path, forecasting
):
    months = run.months(2016)[:4]
    run.train(2016)
    for month in (months[2], months[0]):
        run.forecast([month])
    run.forecast(months[1:])
    one = run.rows(months)
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    elsewhere = type(market)(forecast.open_store())
    other = forecasting(elsewhere, elsewhere.panel(market.bars(count=460)), small)
    other.train(2016)
    other.forecast(other.months(2016))
    pd.testing.assert_frame_equal(one, other.rows(months), check_exact=True)
    blobs = [
        tables.read(where, "models", key=[m.model for m in months]).to_pandas().set_index("key")["blob"].sort_index()
        for where in (store, elsewhere.store)
    ]
    pd.testing.assert_series_equal(*blobs)


@pytest.mark.parametrize("kind", ["vlstm", "calibrated_ewma", "historical"])
def test_dates_between_months_are_the_same_bytes_alone_together_and_with_more_data(
    market, small, forecasting, kind, tmp_path, monkeypatch
):
    config = replace(small, forecast=ForecastConfig(kind, draws=2))
    run = forecasting(market, market.panel(market.bars(count=260)), config)
    [first, second, *_] = run.months(2016)
    days = run.days(second)
    if kind == "vlstm":
        run.train(2016)
    run.forecast([days[7]])
    run.forecast(days[3:5])
    run.forecast([first, second, *days])
    one = run.rows([first, second, *days])
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "another"))
    elsewhere = type(market)(forecast.open_store())
    other = forecasting(elsewhere, elsewhere.panel(market.bars()), config)
    if kind == "vlstm":
        other.train(2016)
    other.forecast(other.months(2016)[:2])
    for part in (days[-3:], days[:-3]):
        other.forecast(part)
    pd.testing.assert_frame_equal(one, other.rows([first, second, *days]), check_exact=True)
    assert one["as_of"].nunique() == 2 + len(days) == 21
    assert len(one.groupby(["ticker", "variance"])) == 5 * 21
    models = tables.read(elsewhere.store, "models").to_pandas()
    assert sorted(models["as_of"].astype(str)) == (["2015-12-31", "2016-01-29"] if kind == "vlstm" else [])


def test_a_date_between_months_is_named_by_its_model_and_by_what_is_seen(run):
    first, second = run.months(2016)[:2]
    days = run.days(second)
    assert {day.model for day in days} == {second.model}
    assert {day.learned for day in days} == {second.moment}
    assert len({day.forecast for day in (first, second, *days, *run.days(first))}) == 2 + len(days) + 18
    assert days[0].moment.month == "2016-02-02"


def test_keys_follow_what_a_forecast_depends_on(run, small):
    first, second = run.months(2016)[:2]
    changed = {
        "training": replace(small.training, seed=1),
        "loss": replace(small.loss, recency=1.0),
        "network": replace(small.network, hidden=5),
        "forecast": replace(small.forecast, draws=3),
    }
    for name, value in changed.items():
        run.config = replace(small, **{name: value})
        other = run.months(2016)[1]
        assert other.forecast != second.forecast
        assert (other.model == second.model) == (name == "forecast")
    run.config = replace(small, training=replace(small.training, refresh_epochs=0))
    assert {month.model for month in run.months(2016)} == {run.months(2016)[0].trained.key}
    assert first.forecast != second.forecast


def test_the_device_is_in_the_keys_of_models_and_forecasts(run, monkeypatch):
    cpu = run.months(2016)[1]
    monkeypatch.setenv("PRISM_DEVICE", "cuda")
    cuda = run.months(2016)[1]
    assert len({cpu.trained.key, cuda.trained.key, cpu.model, cuda.model, cpu.forecast, cuda.forecast}) == 6


def test_ewma_needs_no_model_and_forecasts_its_own_variance(market, small, forecasting):
    config = replace(small, forecast=ForecastConfig("ewma"))
    run = forecasting(market, market.panel(), config)
    months = run.months(2016)[:2]
    run.forecast(months)
    assert tables.read(run.store, "models").num_rows == 0
    found = run.rows(months)
    assert found["model"].isna().all()
    np.testing.assert_array_equal(found["variance"], found["baseline_variance"])
    moment = months[0].moment
    at = run.loaded.at(moment.as_of)
    logs = np.log1p(run.loaded.returns[1 : at + 1])
    level = (logs[:66] ** 2).mean(axis=0)
    for row in logs[66:]:
        level = 0.97 * level + 0.03 * row**2
    np.testing.assert_allclose(found["variance"][:5], 5 * level, rtol=1e-10)
    labels = [logs[k + 1 : k + 6].sum(axis=0) for k in range(-1, at - 5)]
    np.testing.assert_allclose(found["mean"][:5], np.mean(labels), rtol=1e-9)


def test_assets_that_are_not_ready_or_not_eligible_are_left_out(market, small, forecasting):
    bars = market.bars()
    late = (bars["ticker"] == "C") & (bars["session"] < "2015-11-02")
    gap = (bars["ticker"] == "D") & (bars["session"] == "2015-12-21")
    bars = bars.assign(volume=bars["volume"].mask(gap))[~late]
    run = forecasting(market, market.panel(bars), replace(small, features=WITH_VOLUME))
    months = run.months(2016)
    run.train(2016)
    run.forecast(months[:1] + months[-1:])
    found = run.rows(months).groupby("as_of")["ticker"].apply("".join)
    assert found.tolist() == ["ABE", "ABCDE"]  # C is too young, D's windows hold a gap


def test_a_month_without_any_ready_asset_says_so(market, small, forecasting):
    bars = market.bars()
    bars = bars.assign(volume=bars["volume"].mask(bars["session"] == "2015-12-21"))
    run = forecasting(market, market.panel(bars), replace(small, features=WITH_VOLUME))
    run.train(2016)
    with pytest.raises(NoDataError, match="2016-01: no eligible asset has a past without a gap"):
        run.forecast(run.months(2016)[:1])


@pytest.mark.parametrize(("needed", "first"), [(60, "2015-10"), (100, "2015-10"), (200, "2016-03")])
def test_a_month_is_possible_from_the_minimum_of_labelled_sessions_on(market, small, needed, first):
    panel = market.load()
    moments = panels.moments(market.store, market.panel())
    config = replace(small, training=replace(small.training, minimum_sessions=needed))
    found = forecast.possible(panel, moments, config, own_forecasts.Own())
    assert found[0].month == first
    assert found == list(moments[moments.index(found[0]) :])
    # windows reach back 20, features another 20, labels 5 ahead
    counts = [panel.at(moment.as_of) + 1 - 39 - 5 for moment in found[:1]]
    assert counts[0] >= needed


def test_ewma_is_possible_from_the_first_eligible_asset_on(market, small):
    panel, moments = market.load(), panels.moments(market.store, market.panel())
    config = replace(small, forecast=ForecastConfig("ewma"), training=replace(small.training, minimum_sessions=10_000))
    assert forecast.possible(panel, moments, config, own_forecasts.Own())[0] == market.decidable(market.panel())[0]
    longer = replace(config, features=FeatureConfig(lookback=100, horizon=21))
    assert forecast.possible(panel, moments, longer, own_forecasts.Own())[0].as_of >= panel.sessions[199 + 21].item()


def test_ewma_may_stand_in_for_the_networks_variance_alone(market, small, forecasting):
    panel = market.panel()
    own = forecasting(market, panel, small)
    own.train(2016)
    own.forecast(own.months(2016)[:1])
    network = own.rows(own.months(2016)[:1])
    mixed = forecasting(market, panel, replace(small, forecast=replace(small.forecast, volatility="ewma")))
    months = mixed.months(2016)[:1]
    mixed.forecast(months)
    rows = mixed.rows(months)
    np.testing.assert_array_equal(rows["mean"], network["mean"])
    np.testing.assert_array_equal(rows["variance"], rows["baseline_variance"])
    assert (rows["variance"] != network["variance"]).all()
