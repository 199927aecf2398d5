"""A training whose process is killed again and again ends in the same bytes as one that nobody disturbed."""

import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from storage import blobs, tables
from storage.store import open_store

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
KILLS, EPOCHS, MEMBERS = 3, 10, 2
TRAINING = f"""
import sys
from dataclasses import replace
import flows
from storage.keys import PanelKey
from storage.store import open_store
from tasks import features, forecast, panels
from tasks.numerics.configs import FeatureConfig, Forecaster, TrainingConfig, VLSTMConfig

config = Forecaster(
    FeatureConfig(lookback=20, horizon=5),
    VLSTMConfig(hidden=16, latent=2),
    training=TrainingConfig(epochs={EPOCHS}, ensemble={MEMBERS}, minimum_sessions=60),
)
panel, store = PanelKey(*sys.argv[1:]), open_store()
months = panels.moments(store, panel)
months = months[: next(place for place, moment in enumerate(months) if moment.month == "2016-01") + 1]
history = features.compute_features.fn(panel, months, config.features).keys
block = forecast.Trained(months[-1], forecast.trained_key(history[-1], config))
forecast.train_blocks.fn(panel, (block,), history, config)
"""


def kept(store):
    """When fits were last kept, by file."""
    return {path.name: path.stat().st_mtime_ns for path in (store.root / "unfinished").glob("*.safetensors")}


def kill_after_progress(panel, store, wait):
    """Kill the training at some moment after it has kept one more epoch than was there before."""
    arguments = [sys.executable, "-c", TRAINING, panel.snapshot, panel.universe]
    before, running = kept(store), subprocess.Popen(arguments, cwd=ROOT)
    while kept(store) in ({}, before):
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    time.sleep(wait)
    running.kill()
    assert running.wait() == -9, "it ended before it could be killed"


def test_a_training_killed_several_times_ends_in_the_bytes_of_one_never_killed(
    market, small, forecasting, monkeypatch, tmp_path
):
    bars, moments = market.bars(), random.Random(7)
    training = replace(small.training, epochs=EPOCHS, ensemble=MEMBERS)
    config = replace(small, network=replace(small.network, hidden=16), training=training)
    undisturbed = forecasting(market, market.panel(bars), config)
    undisturbed.train(2016)
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "killed"))
    store = open_store()
    other = type(market)(store)
    panel = other.panel(bars)
    for _ in range(KILLS):
        kill_after_progress(panel, store, moments.uniform(0, 0.1))
    assert tables.read(store, "models").num_rows == 0
    forecasting(other, panel, config).train(2016)
    [expected] = tables.read(market.store, "models").to_pylist()
    [found] = tables.read(store, "models").to_pylist()
    assert found["key"] == expected["key"]
    assert blobs.get(store, found["blob"]) == blobs.get(market.store, expected["blob"])
    assert kept(store) == {}
