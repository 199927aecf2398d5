"""A training that was interrupted goes on after its last epoch and ends in the same bytes as one that was not."""

import logging
from dataclasses import replace

import pytest

from storage import tables, unfinished
from storage.store import open_store
from tasks import forecast, models
from tasks.numerics import fitting

EPOCHS, MEMBERS = 3, 2


@pytest.fixture
def config(small):
    return replace(small, training=replace(small.training, epochs=EPOCHS, ensemble=MEMBERS))


@pytest.fixture
def elsewhere(market, forecasting, monkeypatch, tmp_path):
    """Makes the same forecasts in a store of their own."""
    bars = market.bars(count=240)

    def make(name, config):
        monkeypatch.setenv("PRISM_STORE", str(tmp_path / name))
        other = type(market)(open_store())
        return forecasting(other, other.panel(bars), config)

    return make


def blob(run):
    [row] = tables.read(run.store, "models").to_pylist()
    return row["blob"]


def epochs_run(monkeypatch):
    """Epochs as they are run, by what the fit was before."""
    run, original = [], fitting.epoch
    monkeypatch.setattr(fitting, "epoch", lambda fit, *others: run.append(fit.epoch) or original(fit, *others))
    return run


def stop_after(monkeypatch, count):
    """A power cut: the epoch's fits are kept, and nothing more happens."""
    kept, original = [], models.put_fits

    def put(*arguments):
        original(*arguments)
        kept.append(arguments)
        if len(kept) == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(models, "put_fits", put)


def test_stopped_after_any_epoch_and_gone_on_it_is_the_model_never_stopped(elsewhere, config, monkeypatch):
    undisturbed = elsewhere("undisturbed", config)
    undisturbed.train(2016)
    expected = blob(undisturbed)
    for count in range(1, EPOCHS * MEMBERS + 1):
        run = elsewhere(f"stopped after {count}", config)
        with monkeypatch.context() as patched:
            stop_after(patched, count)
            with pytest.raises(KeyboardInterrupt):
                run.train(2016)
        assert tables.read(run.store, "models").num_rows == 0
        with monkeypatch.context() as patched:
            done = epochs_run(patched)
            run.train(2016)
        assert done == (list(range(EPOCHS)) * MEMBERS)[count:]  # none of those done is done again
        assert blob(run) == expected
        assert not list((run.store.root / "unfinished").iterdir())


def test_stopped_after_every_single_epoch_it_is_the_model_never_stopped(elsewhere, config, monkeypatch):
    undisturbed = elsewhere("undisturbed", config)
    undisturbed.train(2016)
    run = elsewhere("stopped", config)
    for _ in range(EPOCHS * MEMBERS):
        with monkeypatch.context() as patched:
            stop_after(patched, 1)
            with pytest.raises(KeyboardInterrupt):
                run.train(2016)
    run.train(2016)
    assert blob(run) == blob(undisturbed)
    assert not list((run.store.root / "unfinished").iterdir())


@pytest.mark.parametrize("patience", [1, 2])
def test_a_validation_that_ends_the_training_early_is_remembered(elsewhere, config, monkeypatch, patience):
    early = replace(config.training, epochs=8, learning_rate=0.5, patience=patience, validation_sessions=40)
    config = replace(config, training=early)
    undisturbed = elsewhere("undisturbed", config)
    with monkeypatch.context() as patched:
        done = epochs_run(patched)
        undisturbed.train(2016)
    assert len(done) < 8 * MEMBERS
    for count in range(1, len(done) + 1, 2):
        run = elsewhere(f"stopped after {count}", config)
        with monkeypatch.context() as patched:
            stop_after(patched, count)
            with pytest.raises(KeyboardInterrupt):
                run.train(2016)
        run.train(2016)
        assert blob(run) == blob(undisturbed)


def test_a_damaged_beginning_is_begun_again(elsewhere, config, monkeypatch, caplog):
    undisturbed = elsewhere("undisturbed", config)
    undisturbed.train(2016)
    run = elsewhere("damaged", config)
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            run.train(2016)
    [file] = (run.store.root / "unfinished").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    with monkeypatch.context() as patched, caplog.at_level(logging.INFO, "prism"):
        done = epochs_run(patched)
        run.train(2016)
    assert done == list(range(EPOCHS)) * MEMBERS
    assert blob(run) == blob(undisturbed)
    assert "is damaged" in caplog.text
    assert "goes on where it was interrupted" not in caplog.text


def test_other_settings_do_not_go_on_from_a_beginning_that_is_not_theirs(elsewhere, config, monkeypatch, caplog):
    run = elsewhere("begun", config)
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            run.train(2016)
    run.config = replace(config, training=replace(config.training, seed=1))
    done = epochs_run(monkeypatch)
    run.train(2016)
    assert done == list(range(EPOCHS)) * MEMBERS
    run.config = config
    with caplog.at_level(logging.INFO, "prism.forecast"):
        run.train(2016)  # the first ones' beginning is still there
    assert len(done) == 2 * EPOCHS * MEMBERS - 2
    assert "training of 2016-01 goes on where it was interrupted" in caplog.text


def test_the_fits_are_kept_until_the_model_is_there(elsewhere, config, monkeypatch):
    run = elsewhere("torn", config)

    def refuse(*_):
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(models, "put", refuse)
        with pytest.raises(OSError, match="no space"):
            run.train(2016)
    key = forecast.trained_key(run.seen(run.block(2016)[0])[-1], config)
    assert unfinished.get(run.store, key) is not None
    with monkeypatch.context() as patched:
        done = epochs_run(patched)
        run.train(2016)
    assert done == []
    assert tables.read(run.store, "models").num_rows == 1
