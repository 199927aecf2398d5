"""Models made at once are those made one by one: the same rows and bytes, killed and resumed or not."""

import json
from types import SimpleNamespace

import pytest

from flows import train
from storage import blobs, tables, unfinished
from tasks import fallbacks, forecast, models
from tasks.numerics import abreast, training

COUNT = 7  # lanes: two models of two networks, and some that stay empty


@pytest.fixture
def runs(market, small, forecasting, monkeypatch, tmp_path):
    """Two stores of the same prices, where the processor takes many networks at once."""
    monkeypatch.setattr(abreast, "lanes", lambda *_: COUNT)
    made = []
    for name in ("at once", "one by one"):
        monkeypatch.setenv("PRISM_STORE", str(tmp_path / name))
        own = type(market)(forecast.open_store())
        made.append(forecasting(own, own.panel(own.bars(count=700)), small))
    return made


@pytest.fixture
def use(monkeypatch, tmp_path):
    def use(run):
        monkeypatch.setenv("PRISM_STORE", str(run.store.root))
        return run

    return use


def blocks_of(run):
    trained = [run.months(year)[0].trained for year in (2016, 2017)]
    return tuple(trained), run.seen(trained[-1].moment)


def stored(run):
    """The models of a store by key: checkpoint, kind, and what the lineage says but for the time."""
    rows = tables.read(run.store, "models").to_pylist()
    return {
        row["key"]: (
            blobs.get(run.store, row["blob"]),
            row["kind"],
            row["parent"],
            json.loads(row["lineage"])["epochs"],
        )
        for row in rows
    }


def test_models_made_at_once_are_those_made_one_by_one(runs, use):
    at_once, one_by_one = runs
    blocks, history = blocks_of(use(at_once))
    months = tuple(at_once.months(2016)[:3] + at_once.months(2017)[:2])
    assert forecast.train_blocks.fn(at_once.panel, blocks, history, at_once.config).keys == tuple(b.key for b in blocks)
    made = forecast.refresh_models.fn(at_once.panel, months, at_once.seen(months[-1].moment), at_once.config)
    assert made.keys == tuple(month.model for month in months if month.model != month.trained.key)
    known = stored(at_once)
    at_once.forecast(list(months))
    assert stored(at_once) == known  # the forecasts find every model
    use(one_by_one)
    for year, number in ((2016, 3), (2017, 2)):
        one_by_one.train(year)
        one_by_one.forecast(one_by_one.months(year)[:number])
    assert stored(one_by_one) == known
    assert at_once.rows(list(months)).equals(one_by_one.rows(list(months)))


def test_only_what_the_store_lacks_is_made(runs, use, monkeypatch):
    run = use(runs[0])
    run.train(2016)
    asked = []
    ahead = training.ahead
    monkeypatch.setattr(training, "ahead", lambda wanted, *given: asked.append(len(wanted)) or ahead(wanted, *given))
    blocks, history = blocks_of(run)
    forecast.train_blocks.fn(run.panel, blocks, history, run.config)
    months = tuple(run.months(2016)[:4])
    for _ in range(2):
        forecast.refresh_models.fn(run.panel, months, run.seen(months[-1].moment), run.config)
    assert asked == [3]  # a single training goes its usual way; then three refreshes, once
    assert len(stored(run)) == 5


def test_trainings_that_are_killed_go_on_to_the_same_bytes(runs, use, monkeypatch):
    at_once, one_by_one = runs
    blocks, history = blocks_of(use(at_once))
    put = models.put_fits

    def killed(store, key, fits):
        put(store, key, fits)
        if key == blocks[1].key:
            raise KeyboardInterrupt

    monkeypatch.setattr(models, "put_fits", killed)
    with pytest.raises(KeyboardInterrupt):
        forecast.train_blocks.fn(at_once.panel, blocks, history, at_once.config)
    monkeypatch.setattr(models, "put_fits", put)
    assert not stored(at_once)
    begun = [models.get_fits(at_once.store, block.key, at_once.config) for block in blocks]
    assert [fit.epoch for fit in begun[1]] == [1]
    forecast.train_blocks.fn(at_once.panel, blocks, history, at_once.config)
    assert not any(unfinished.get(at_once.store, block.key) for block in blocks)
    use(one_by_one)
    for year in (2016, 2017):
        one_by_one.train(year)
    assert stored(at_once) == stored(one_by_one)


def test_too_little_memory_for_many_leaves_them_to_follow_one_another(runs, use, monkeypatch, caplog):
    run = use(runs[0])
    blocks, history = blocks_of(run)
    monkeypatch.setattr(training, "ahead", lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory.")))
    forecast.train_blocks.fn(run.panel, blocks, history, run.config)
    assert "too small for many models at once" in caplog.text
    assert [row["degraded"] for row in tables.read(run.store, "models").to_pylist()] == [None, None]


def test_another_failure_is_not_taken_for_it(runs, use, monkeypatch):
    run = use(runs[0])
    blocks, history = blocks_of(run)
    monkeypatch.setattr(training, "ahead", lambda *_: (_ for _ in ()).throw(RuntimeError("device-side assert")))
    with pytest.raises(RuntimeError, match="device-side assert"):
        forecast.train_blocks.fn(run.panel, blocks, history, run.config)


def test_a_refresh_of_a_baseline_is_left_out(runs, use, monkeypatch):
    run = use(runs[0])
    parent = models.get(run.store, run.train(2016), run.config)
    silent = training.baseline(forecast.histories.load(run.store, run.panel, run.features), run.config, 735_000)
    asked = [training.Asked(None, 0, 0, of) for of in (silent, parent, silent, parent)]
    monkeypatch.setattr(training, "ahead", lambda wanted, *_: [own.parent for own in wanted])
    assert fallbacks.ahead(asked, run.config) == [None, parent, None, parent]


@pytest.mark.parametrize(("device", "parts"), [("cpu", [("a",), ("b",)]), ("cuda", [("a", "b")])])
def test_a_plan_trains_in_one_task_where_the_device_takes_many(monkeypatch, device, parts):
    monkeypatch.setenv("PRISM_DEVICE", device)
    submitted, refreshed = [], []
    future = SimpleNamespace(result=lambda: None)
    made = {name: forecast.Trained(f"moment of {name}", name) for name in "ab"}

    def submit(panel, blocks, history, config):
        submitted.append((tuple(block.key for block in blocks), history))
        return future

    monkeypatch.setattr(forecast.train_blocks, "submit", submit)
    monkeypatch.setattr(forecast, "refresh_models", lambda panel, months, history, config: refreshed.append(months))
    months = tuple(SimpleNamespace(model="m", trained=one, moment=one.moment) for one in made.values())
    segment = SimpleNamespace(panel="panel", parameters=SimpleNamespace(forecaster="config"))
    plan = SimpleNamespace(segment=segment, forecasts=months, features_to=lambda moment: f"to {moment}")
    train.make_models(plan)
    assert submitted == [(part, f"to moment of {part[-1]}") for part in parts]
    assert refreshed == ([months] if device == "cuda" else [])
