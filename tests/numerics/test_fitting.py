"""An epoch is a pure function: what it repeats to the byte, what memory may not change, and when training ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.numerics import fitting, loss, training, vlstm, windows
from tasks.numerics.configs import FeatureConfig, Forecaster, LossConfig, TrainingConfig, VLSTMConfig
from tasks.numerics.fitting import Data

L, F, CHUNK, BATCH = 20, 3, 7, 6
CONFIG = Forecaster(
    features=FeatureConfig(lookback=L, horizon=5),
    network=VLSTMConfig(hidden=8, latent=3, likelihood="gaussian"),
    loss=LossConfig(kl_weight=0.1, kl_warmup=2),
    training=TrainingConfig(chunk=CHUNK, batch=BATCH, learning_rate=0.01, weight_decay=0.02, clip_norm=0.5),
)
STAMP = 735_000


def make_data(seed=0, shape=(3, 70), validated=0):
    """Inputs of which the first tells the target's sign; the newest `validated` columns validate."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((*shape, F)).astype(np.float32)
    target = (0.5 * np.sign(inputs[..., 0]) + rng.standard_normal(shape)).astype(np.float32)
    samples = np.zeros(shape, bool)
    samples[:, L - 1 : shape[1] - validated] = True
    samples[1, 40:44] = False
    return Data(
        torch.from_numpy(inputs.reshape(-1, F)),
        torch.from_numpy(target.ravel()),
        torch.from_numpy(np.where(samples, rng.uniform(0.2, 1, shape), 0).astype(np.float32).ravel()),
        samples,
        np.broadcast_to(np.arange(shape[1]) >= shape[1] - validated, shape) if validated else np.zeros(shape, bool),
    )


def start(config=CONFIG, seed=0):
    """A fit whose output layer is not zero, so that all gradients are at work at once."""
    rng = np.random.default_rng(seed)
    values = vlstm.initialise(F, config.network, torch.Generator().manual_seed(seed))
    return fitting.started(
        {name: value + 0.3 * rng.standard_normal(value.shape).astype(np.float32) for name, value in values.items()}
    )


def streams(epoch):
    return training.generators(0, 0, STAMP, training.TRAIN, epoch)


def run(fit, data, epochs, config=CONFIG):
    for _ in range(epochs):
        fit = fitting.epoch(fit, data, config, config.training.epochs, streams(fit.epoch))
    return fit


def as_bytes(value):
    """All that a fit or data hold, to the byte."""
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {name: as_bytes(entry) for name, entry in value.items()}
    return [as_bytes(entry) for entry in value] if isinstance(value, tuple) else repr(value)


@pytest.mark.parametrize("validated", [0, 9])
def test_an_epoch_gives_the_same_bytes_twice_and_leaves_its_inputs_alone(validated):
    data, fit = make_data(validated=validated), run(start(), make_data(validated=validated), 1)
    before, torch_state = (as_bytes(fit), as_bytes(data)), torch.get_rng_state()
    first, second = (fitting.epoch(fit, data, CONFIG, CONFIG.training.epochs, streams(1)) for _ in range(2))
    assert as_bytes(first) == as_bytes(second)
    assert (as_bytes(fit), as_bytes(data)) == before
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(first.parameters[name].tobytes() != value.tobytes() for name, value in fit.parameters.items())
    assert (first.epoch, first.parts) == (2, 1)


def test_a_fit_does_not_share_memory_with_the_one_it_came_from():
    before = run(start(), make_data(), 1)
    after = run(before, make_data(), 1)
    for kind in ("parameters", "first_moment", "second_moment"):
        for name, value in getattr(before, kind).items():
            assert not np.shares_memory(value, getattr(after, kind)[name])
            assert getattr(after, kind)[name].dtype == np.float32


def never_rebuilt(fit, data, epochs, config, fused):
    """One network and one AdamW through all epochs, as one would write it first."""
    settings = config.training
    net = vlstm.from_parameters(fit.parameters, F, config.network)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=fused
    )
    for epoch in range(epochs):
        shuffle, draws = streams(epoch)
        plan, values, counts = windows.chunks(data.samples, settings.chunk, shuffle), [], []
        for begin in range(0, len(plan), settings.batch):
            falling = 0.5 * (1 + np.cos(np.pi * (epoch + begin / len(plan)) / settings.epochs))
            rate = settings.learning_rate * (falling if settings.schedule == "cosine" else 1)
            optimiser.param_groups[0]["lr"] = rate
            batch = windows.batch(plan[begin : begin + settings.batch], L, settings.chunk, data.samples.shape[1])
            states = net.encode(data.inputs[batch.rows]).flatten(0, 1)[batch.states]
            m, v = net.code(states)
            noise = torch.randn(m.shape, generator=draws)
            mean, log_scale2 = net.decode(m + torch.exp(v / 2) * noise, states)
            target, weight = data.target[batch.samples], data.weight[batch.samples]
            value = loss.loss(
                target, weight, mean, log_scale2, m, v, config.loss, config.network, loss.kl_weight(config.loss, epoch)
            )
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), settings.clip_norm)
            optimiser.step()
            values.append(float(value.detach()))
            counts.append(len(noise))
    return net, optimiser, np.average(values, weights=counts)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize(("fused", "tolerance"), [(True, 0), (False, 1e-5)])
def test_restored_moments_go_on_as_an_optimiser_that_was_never_rebuilt(fused, tolerance, schedule):
    data, config = make_data(), replace(CONFIG, training=replace(CONFIG.training, schedule=schedule))
    fit = run(start(), data, 4, config)
    net, optimiser, value = never_rebuilt(start(), data, 4, config, fused)
    for name, parameter in net.named_parameters():
        state = optimiser.state[parameter]
        assert int(state["step"]) == fit.steps
        for ours, theirs in (
            (fit.parameters, parameter.detach()),
            (fit.first_moment, state["exp_avg"]),
            (fit.second_moment, state["exp_avg_sq"]),
        ):
            np.testing.assert_allclose(ours[name], theirs.numpy(), rtol=tolerance, atol=tolerance)
    assert fit.loss == pytest.approx(value, rel=1e-6)
    assert fit.epoch == 4


def test_the_learning_rate_falls_along_half_a_cosine_or_stays():
    rates = [fitting.learning_rate(TrainingConfig(learning_rate=0.8), done) for done in (0, 1 / 3, 0.5, 1)]
    np.testing.assert_allclose(rates, [0.8, 0.6, 0.4, 0], atol=1e-15)
    assert fitting.learning_rate(TrainingConfig(learning_rate=0.8, schedule="constant"), 0.9) == 0.8


def test_losing_the_moments_changes_the_next_epoch():
    data = make_data()
    fit = run(start(), data, 1)
    kept, lost = run(fit, data, 1), run(fit._replace(first_moment={}, second_moment={}, steps=0), data, 1)
    assert max(np.abs(kept.parameters[k] - lost.parameters[k]).max() for k in kept.parameters) > 1e-3


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")
NUMPY = MemoryError("Unable to allocate 20.0 GiB for an array")
ERRORS = pytest.mark.parametrize("error", [CUDA, CPU, NUMPY], ids=["cuda", "cpu", "numpy"])


@pytest.fixture
def memory(monkeypatch):
    """Lets memory hold at most some chunks at once; returns the sizes that were tried."""
    original, tried = fitting._outputs, []

    def limit(chunks, error):
        def outputs(net, data, plan, noise, config):
            tried.append(len(plan))
            if len(plan) > chunks:
                raise error
            return original(net, data, plan, noise, config)

        monkeypatch.setattr(fitting, "_outputs", outputs)
        return tried

    return limit


@ERRORS
@pytest.mark.parametrize(("chunks", "parts"), [(5, 2), (3, 2), (2, 4), (1, 8)])
def test_training_goes_on_in_as_many_parts_as_memory_needs(memory, error, chunks, parts):
    data = make_data()
    whole = run(start(), data, 2)
    tried = memory(chunks, error)
    cut = run(start(), data, 2)
    assert (whole.parts, cut.parts) == (1, parts)
    assert max(tried) == BATCH
    # once found, the size is kept: only the first batch is tried in vain
    assert sum(size > chunks for size in tried) == np.log2(parts)
    assert (cut.steps, cut.epoch) == (whole.steps, whole.epoch)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
    for name, value in whole.parameters.items():
        np.testing.assert_allclose(cut.parameters[name], value, rtol=1e-5, atol=1e-5)


def test_the_number_of_parts_is_kept_by_the_next_epoch(memory):
    data = make_data()
    tried = memory(2, CUDA)
    fit = run(start(), data, 1)
    tried.clear()
    assert run(fit, data, 1).parts == 4
    assert max(tried) == 2


def test_what_is_read_after_training_is_cut_into_as_many_parts(memory):
    data = make_data()
    net = vlstm.from_parameters(start().parameters, F, CONFIG.network)
    whole = fitting.seen(net, data, data.samples, CONFIG, 1)
    tried = memory(1, CUDA)
    for ours, theirs in zip(fitting.seen(net, data, data.samples, CONFIG, 4), whole, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert set(tried) == {1}


@ERRORS
def test_a_chunk_that_does_not_fit_alone_is_an_error(memory, error):
    tried = memory(0, error)
    with pytest.raises(type(error), match="allocate"):
        run(start(), make_data(), 1)
    assert tried == [6, 3, 2, 1]


def test_any_other_error_is_raised_at_once(memory):
    tried = memory(5, RuntimeError("mat1 and mat2 shapes cannot be multiplied (6x8 and 7x3)"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(start(), make_data(), 1)
    assert tried == [BATCH]


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_gradients_of_parts_add_up_to_those_of_the_batch(parts):
    data, fit = make_data(), start()
    plan = windows.chunks(data.samples, CHUNK, np.random.default_rng(0))[:BATCH]
    assert len(set(plan[:, 2])) > 1
    noise = torch.randn((plan[:, 2].sum(), 3), generator=torch.Generator().manual_seed(0))
    found = []
    for number in (1, parts):
        net = vlstm.from_parameters(fit.parameters, F, CONFIG.network)
        value = fitting._gradients(net, data, plan, noise, CONFIG, fit._replace(parts=number))
        found.append((value, [parameter.grad.numpy() for parameter in net.parameters()]))
    (whole, gradients), (summed, sums) = found
    assert float(summed) == pytest.approx(float(whole), rel=1e-6)
    for ours, theirs in zip(sums, gradients, strict=True):
        assert np.abs(theirs).max() > 1e-4
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def validation_loss(values, data, config=CONFIG):
    """Mean negative log density of the validating samples, chunk by chunk with the mean of the latent code."""
    net, terms = vlstm.from_parameters(values, F, config.network), []
    inputs, target = data.inputs.reshape(*data.samples.shape, F), data.target.reshape(data.samples.shape)
    for asset, first, count in windows.chunks(data.validation, CHUNK, np.random.default_rng(0)):
        with torch.no_grad():
            states = net.encode(inputs[asset, first - L + 1 : first + count][None])[0, L - 1 :]
            mean, s = net.decode(net.code(states)[0], states)
        terms.extend((0.5 * (s + (target[asset, first : first + count] - mean) ** 2 / s.exp())).tolist())
    return np.mean(terms)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_ends_after_the_epochs_of_patience_and_keeps_the_best(patience):
    data, fits = make_data(validated=9), [start()]
    while not fitting.is_over(fits[-1], 200, patience):
        fits.append(run(fits[-1], data, 1))
    scores = [validation_loss(fit.parameters, data) for fit in fits[1:]]
    best = int(np.argmin(scores))
    assert len(scores) == best + 1 + patience < 200
    # the rule had no earlier occasion to stop
    lowest = np.minimum.accumulate(scores)
    waits = [epoch - int(np.argmax(scores[: epoch + 1] == lowest[epoch])) for epoch in range(len(scores) - 1)]
    assert max(waits) < patience
    assert fits[-1].score == pytest.approx(scores[best], rel=1e-5)
    assert as_bytes(fitting.outcome(fits[-1])) == as_bytes(fits[best + 1].parameters)
    assert as_bytes(fitting.outcome(fits[-1])) != as_bytes(fits[-1].parameters)


def test_without_patience_all_epochs_are_run_and_the_last_parameters_kept():
    data, fit = make_data(), start()
    assert [fitting.is_over(fit._replace(epoch=n, waited=n), 5, 0) for n in range(6)] == [False] * 5 + [True]
    fit = run(fit, data, 3)
    assert as_bytes(fitting.outcome(fit)) == as_bytes(fit.parameters)
    assert (fit.best, fit.score, fit.waited) == ({}, float("inf"), 0)


def test_validation_changes_no_step():
    judged, alone = make_data(validated=9), make_data(validated=9)
    alone = alone._replace(validation=np.zeros_like(alone.validation))
    first, second = run(start(), judged, 3), run(start(), alone, 3)
    assert as_bytes(first.parameters) == as_bytes(second.parameters)
    assert np.isfinite(first.score)
    assert np.isinf(second.score)
