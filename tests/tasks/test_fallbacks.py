"""A model that cannot be had as asked is stood in for by a declared chain, and what stands in says why."""

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from storage import checkpoints, tables
from tasks import expectations, fallbacks, models
from tasks.numerics import loss, mixtures, training

HEADS = {"residual": "EWMA about the pooled mean", "document": "the labels' own mean and variance"}


@pytest.fixture(params=HEADS)
def run(market, small, forecasting, request):
    return forecasting(market, market.panel(), replace(small, network=replace(small.network, head=request.param)))


def not_a_number(monkeypatch):
    """From now on every loss is NaN."""
    original = loss.loss
    monkeypatch.setattr(loss, "loss", lambda *given: original(*given) * float("nan"))


def row(run, key):
    [found] = tables.read(run.store, "models", key=key).to_pylist()
    return found


def test_a_training_whose_loss_is_nan_leaves_the_baseline_and_says_so(run, monkeypatch, caplog):
    with monkeypatch.context() as planted:
        not_a_number(planted)
        trained = run.train(2016)
    said = row(run, trained)
    assert (said["kind"], said["loss"]) == ("trained", None)
    assert said["degraded"].startswith("the training diverged (the loss of epoch 1 is nan, and ")
    assert said["degraded"].endswith("so the baseline stands in for the network")
    assert said["degraded"] in caplog.text
    months = run.months(2016)[:2]
    run.forecast(months)
    found = run.rows(months)
    assert len(found) == 10
    if run.config.network.head == "residual":
        np.testing.assert_allclose(found["variance"], found["baseline_variance"], rtol=1e-5)
    else:
        assert found["variance"].std() < 1e-6 * found["variance"].mean()
    np.testing.assert_allclose(found["mean"], models.get(run.store, trained, run.config).label_mean, rtol=1e-4)
    # the block keeps it: a refreshed nothing is nothing
    assert row(run, months[1].model)["degraded"] == said["degraded"]
    assert expectations.degraded(run.store, [month.forecast for month in months]) == dict.fromkeys(
        [month.forecast for month in months], said["degraded"]
    )


def test_a_refresh_whose_loss_is_nan_leaves_the_blocks_model_as_it_was(run, monkeypatch):
    trained, months = run.train(2016), run.months(2016)[:3]
    run.forecast(months[:2])
    with monkeypatch.context() as planted:
        not_a_number(planted)
        run.forecast(months)
    assert [row(run, month.model)["degraded"] for month in months[:2]] == [None, None]
    broken = row(run, months[2].model)
    assert broken["degraded"].startswith("the refresh diverged (the loss of epoch 1 is nan")
    same, other = (models.get(run.store, key, run.config) for key in (trained, months[2].model))
    np.testing.assert_equal(other._asdict(), same._asdict())
    assert expectations.degraded(run.store, [month.forecast for month in months]).keys() == {months[2].forecast}


def test_numbers_that_leave_the_finite_ones_at_the_last_step_are_seen(run, monkeypatch):
    original = torch.optim.AdamW.step

    def step(optimiser, *given):
        original(optimiser, *given)
        with torch.no_grad():
            optimiser.param_groups[0]["params"][0][0] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    assert "is not finite" in row(run, run.train(2016))["degraded"]


@pytest.fixture
def small_gpu(monkeypatch):
    """A GPU whose memory is too small for anything."""
    monkeypatch.setenv("PRISM_DEVICE", "cuda")
    for module, name, place in ((training, "train", 3), (training, "refresh", 4), (mixtures, "vlstm", 4)):
        original = getattr(module, name)

        def too_small(*given, original=original, place=place, **named):
            if given[place] == "cuda":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return original(*given, **named)

        monkeypatch.setattr(module, name, too_small)


def test_a_gpu_without_memory_leaves_the_work_to_the_cpu_and_says_so(run, small_gpu, caplog):
    trained, months = run.train(2016), run.months(2016)[:2]
    run.forecast(months)
    said = "the memory of cuda was too small, so the CPU did it"
    for key in (trained, months[1].model):
        assert row(run, key)["degraded"] == said
        assert json.loads(row(run, key)["lineage"])["device"] == "cpu"
        assert checkpoints.lineage(run.store, row(run, key)["blob"])["machine"]["accelerator"] is None
    before, after = (models.get(run.store, key, run.config) for key in (trained, months[1].model))
    assert (
        before.parameters[0]["z_mean.weight"] != after.parameters[0]["z_mean.weight"]
    ).any()  # refreshed all the same
    assert (run.rows(months)["variance"] > 0).all()
    assert caplog.text.count(said) >= 3


@pytest.mark.parametrize(("device", "most"), [("cpu", 2), ("cuda", 1)])
def test_an_accelerator_serves_one_thread_at_a_time(monkeypatch, device, most):
    monkeypatch.setenv("PRISM_DEVICE", device)
    there, seen, both = [], [], threading.Barrier(2)

    def work(place):
        there.append(place)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=1)  # for the other thread, which an accelerator lets in afterwards
        seen.append(len(there))
        there.remove(place)

    with ThreadPoolExecutor() as pool:
        list(pool.map(fallbacks.on_device, [work, work]))
    assert max(seen) == most


def test_another_error_of_the_gpu_is_no_reason_to_go_on(monkeypatch):
    monkeypatch.setenv("PRISM_DEVICE", "cuda")

    def broken(device):
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        fallbacks.on_device(broken)


def test_the_cpu_has_nothing_to_fall_back_to():
    def starved(device):
        raise MemoryError("Unable to allocate")

    with pytest.raises(MemoryError):
        fallbacks.on_device(starved)
