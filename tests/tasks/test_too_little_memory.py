"""Memory that is really too small: an allocation inside a training fails, and the declared chain goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
STARVED = """
import json, resource, sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

@contextmanager
def at_most(megabytes):
    # more address space than it has now: whatever takes more fails as it does where the memory is used up
    before, size = resource.getrlimit(resource.RLIMIT_AS), resource.getpagesize()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * size
    resource.setrlimit(resource.RLIMIT_AS, (used + int(megabytes * 2**20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
"""
IN_PARTS = """
import numpy as np
from tests.numerics.test_fitting import CONFIG, make_data, run, start

config = replace(CONFIG, network=replace(CONFIG.network, hidden=64), training=replace(CONFIG.training, batch=64))
data = make_data(shape=(24, 200))
whole = run(start(config), data, 1, config)
with at_most(float(sys.argv[1])):
    cut = run(start(config), data, 1, config)
apart = max(np.abs(cut.parameters[name] - values).max() for name, values in whole.parameters.items())
print(json.dumps([whole.parts, cut.parts, float(apart)]))
"""
ON_THE_CPU = """
import flows
from storage import tables
from storage.store import open_store
from tasks.numerics import training
from tasks.numerics.configs import FeatureConfig, ForecastConfig, Forecaster, TrainingConfig, VLSTMConfig
from tests.tasks.conftest import Market, Run

train, failures = training.train, []

def on(history, config, stamp, device, watch=None, resume=None):
    # the device named cuda is this machine with hardly any memory
    if device == "cpu":
        return train(history, config, stamp, device, watch, resume)
    train(history, config, stamp, "cpu")  # oneDNN makes its code at the first call, and never again where that fails
    try:
        with at_most(0.5):
            return train(history, config, stamp, "cpu", watch, resume)
    except Exception as error:
        failures.append(f"{type(error).__name__}: {error}")
        raise

training.train = on
forecaster = Forecaster(
    FeatureConfig(lookback=20, horizon=5),
    VLSTMConfig(hidden=128, latent=2),
    training=TrainingConfig(epochs=1, ensemble=1, minimum_sessions=60, chunk=300),
    forecast=ForecastConfig(draws=2),
)
market = Market(open_store())
trained = Run(market, market.panel(), forecaster).train(2016)
[row] = tables.read(market.store, "models", key=trained).to_pylist()
print(json.dumps({"failures": failures, "degraded": row["degraded"], "device": json.loads(row["lineage"])["device"]}))
"""


def said_by(script, *arguments, **environment):
    """What a process prints in which every larger array is memory of its own, so that none is found in what is free."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"} | environment
    command = [sys.executable, "-c", STARVED + script, *map(str, arguments)]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-3000:]
    return json.loads(told.stdout.splitlines()[-1])


def test_a_batch_that_does_not_fit_is_trained_in_parts_with_the_same_result():
    whole, cut, apart = said_by(IN_PARTS, 6)
    assert (whole, cut > 1) == (1, True)
    assert apart < 1e-4


def test_a_device_that_holds_not_even_one_chunk_leaves_the_training_to_the_cpu_and_says_so(tmp_path):
    said = said_by(ON_THE_CPU, PRISM_STORE=str(tmp_path / "store"), PRISM_DEVICE="cuda")
    [failure] = said["failures"]
    assert "allocate" in failure, "torch's own words, or numpy's"
    assert said["degraded"] == "the memory of cuda was too small, so the CPU did it"
    assert said["device"] == "cpu"
