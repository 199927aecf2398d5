"""Networks fitted at once: they come to what each comes to alone, and none sees another."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tasks.numerics import abreast, fitting, recurrence, training, windows
from tasks.numerics.abreast import Lane
from tasks.numerics.configs import Forecaster, TrainingConfig, VLSTMConfig
from tests.numerics.test_fitting import BATCH, CONFIG, as_bytes, make_data, start
from tests.numerics.test_training import CONFIG as SMALL
from tests.numerics.test_training import STAMP, changed, make_history
from tests.numerics.test_training import as_bytes as model_bytes

COUNT, EPOCHS = 5, 4
ALL, FEWER, JUDGED = make_data(), make_data(seed=1, shape=(2, 60)), make_data(seed=2, validated=15)
DEVICE = "cpu"


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"], autouse=True)
def device(request, monkeypatch):
    """Where the networks are fitted."""
    monkeypatch.setitem(globals(), "DEVICE", request.param)
    training.set_threads(CONFIG.training)
    return request.param


def lane(member, data, config=CONFIG, fit=None):
    streams = partial(training.generators, 0, member, STAMP, training.TRAIN)
    return Lane(start(config, member) if fit is None else fit, _on(data), streams)


def _on(data, moved={}):  # noqa: B006 - what is shared on the processor is shared on the device
    if DEVICE == "cpu":
        return data
    if id(data) not in moved:
        tensors = {name: getattr(data, name).to(DEVICE) for name in ("inputs", "target", "weight")}
        moved[id(data)] = data, data._replace(**tensors)
    return moved[id(data)][1]


def fitted(asked, config=CONFIG, epochs=EPOCHS, count=COUNT):
    """The fits of all lanes in the end, and how many epochs were told of each."""
    found, told = [lane.fit for lane in asked], [0] * len(asked)

    def after(fits):
        for place, fit in fits.items():
            found[place] = fit
            told[place] += 1

    abreast.fit(asked, config, epochs, count, after)
    return found, told


def alone(lane, config=CONFIG, epochs=EPOCHS):
    fit = lane.fit
    while not fitting.is_over(fit, epochs, config.training.patience):
        fit = fitting.epoch(fit, lane.data, config, epochs, lane.streams(fit.epoch))
    return fit


def assert_close(one, other):
    """The same but for rounding, which a kink of the loss may make 2 % of a moment."""
    assert (one.steps, one.epoch, one.waited) == (other.steps, other.epoch, other.waited)
    assert one.loss == pytest.approx(other.loss, rel=2e-4)
    for kind, most in (("parameters", 2e-3), ("first_moment", 3e-2), ("second_moment", 3e-2), ("best", 2e-3)):
        assert getattr(one, kind).keys() == getattr(other, kind).keys()
        for name, value in getattr(other, kind).items():
            assert np.linalg.norm(getattr(one, kind)[name] - value) <= most * np.linalg.norm(value), f"{kind} {name}"


# --- the recurrence


def test_states_and_derivatives_are_those_of_torchs_lstm():
    torch.manual_seed(0)
    networks = [nn.LSTM(3, 4, batch_first=True, dtype=torch.float64) for _ in range(2)]
    inputs = torch.randn(2, 5, 6, 3, dtype=torch.float64)  # networks, sequences, sessions, features
    wanted = [network(own)[0] for network, own in zip(networks, inputs, strict=True)]
    weigh = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    for own, weight in zip(wanted, weigh, strict=True):
        (own * weight).sum().backward()
    gates = torch.stack(
        [x @ n.weight_ih_l0.T + n.bias_ih_l0 + n.bias_hh_l0 for x, n in zip(inputs, networks, strict=True)]
    )
    gates = gates.transpose(1, 2).detach().requires_grad_()
    across = torch.stack([n.weight_hh_l0 for n in networks]).detach().requires_grad_()
    states = recurrence.states(gates, across).transpose(1, 2)
    (states * weigh).sum().backward()
    torch.testing.assert_close(states, torch.stack(wanted))
    torch.testing.assert_close(across.grad, torch.stack([n.weight_hh_l0.grad for n in networks]))
    torch.testing.assert_close(gates.grad.sum((1, 2)), torch.stack([n.bias_hh_l0.grad for n in networks]))


def test_the_recurrences_derivative_is_its_difference_quotient():
    torch.manual_seed(1)
    gates, across = torch.randn(2, 3, 2, 8, dtype=torch.float64), torch.randn(2, 8, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(recurrence.states, (gates.requires_grad_(), across.requires_grad_()))


# --- many networks


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        changed(CONFIG, network={"head": "document"}),
        changed(CONFIG, network={"likelihood": "student_t"}),
        changed(CONFIG, training={"schedule": "constant", "clip_norm": 0.01}),
    ],
    ids=["residual", "document", "student_t", "clipped"],
)
def test_each_comes_to_what_it_comes_to_alone(config):
    asked = [lane(member, data, config) for member, data in enumerate([ALL, FEWER, ALL, JUDGED])]
    found, told = fitted(asked, config)
    assert told == [EPOCHS] * 4
    for fit, own in zip(found, asked, strict=True):
        assert_close(fit, alone(own, config))


def test_a_network_has_the_same_bytes_whoever_is_beside_it():
    asked = [lane(member, data) for member, data in enumerate([ALL, FEWER, JUDGED])]
    together, _ = fitted(asked)
    for place, own in enumerate(asked):
        assert as_bytes(fitted([own])[0][0]) == as_bytes(together[place])
    assert [as_bytes(fit) for fit in fitted(asked[::-1])[0]] == [as_bytes(fit) for fit in together[::-1]]


def test_the_order_in_which_a_fits_arrays_are_read_is_no_matter():
    own = lane(0, ALL)
    turned = own.fit._replace(parameters=dict(reversed(own.fit.parameters.items())))
    (found,), (wanted,) = (fitted([one], epochs=1)[0] for one in (own._replace(fit=turned), own))
    for name, value in wanted.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], value)


def test_more_networks_than_lanes_follow_one_another():
    asked = [lane(member, data) for member, data in enumerate([ALL, FEWER, JUDGED])]
    wanted, _ = fitted(asked)
    found, told = fitted(asked + asked, count=COUNT)
    assert told == [EPOCHS] * 6
    assert [as_bytes(fit) for fit in found] == 2 * [as_bytes(fit) for fit in wanted]


def test_fits_that_were_stopped_apart_go_on_to_the_same_bytes():
    asked = [lane(0, ALL), lane(1, FEWER), lane(2, ALL)]
    wanted, _ = fitted(asked)
    kept = {}
    abreast.fit(
        asked, CONFIG, EPOCHS, COUNT, lambda fits: kept.update({(k, fit.epoch): fit for k, fit in fits.items()})
    )
    asked = [asked[0]._replace(fit=kept[0, 1]), asked[1], asked[2]._replace(fit=kept[2, 3])]
    assert [own.fit.epoch for own in asked] == [1, 0, 3]
    found, told = fitted(asked)
    assert told == [3, 4, 1]
    assert [as_bytes(fit) for fit in found] == [as_bytes(fit) for fit in wanted]


def test_one_that_leaves_the_finite_numbers_stays_before_that_and_disturbs_none():
    bad = start(seed=1)
    bad.parameters["decoder.weight"][0, 0] = np.inf
    asked = [lane(0, ALL), lane(1, ALL, fit=bad), lane(2, FEWER)]
    found, told = fitted(asked)
    assert told == [EPOCHS, 0, EPOCHS]
    assert found[1] is bad
    for place in (0, 2):
        assert as_bytes(found[place]) == as_bytes(fitted([asked[place]])[0][0])


def test_each_ends_when_its_own_validation_says_so():
    config = changed(CONFIG, training={"patience": 1, "learning_rate": 0.05})
    asked = [lane(member, make_data(seed=member, validated=15), config) for member in range(4)]
    found, told = fitted(asked, config, epochs=12)
    assert told == [fit.epoch for fit in found]
    assert len(set(told)) > 1
    for fit, own in zip(found, asked, strict=True):
        assert_close(fit, alone(own, config, epochs=12))


def test_too_little_memory_leaves_the_fits_where_they_were(monkeypatch, device):
    if device != "cpu":
        pytest.skip("a recorded step calls nothing that could fail")
    taken = []

    def step(*given):
        taken.append(None)
        if len(taken) > first:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(*given)

    real = abreast._step
    monkeypatch.setattr(abreast, "_step", step)
    first = -(-len(windows.chunks(ALL.samples, CONFIG.training.chunk, np.random.default_rng(0))) // BATCH) + 2
    found, told = fitted([lane(0, ALL), lane(1, FEWER)])
    assert told == [1, 1]
    assert [fit.epoch for fit in found] == [1, 1]


def test_another_failure_is_no_lack_of_memory(monkeypatch):
    monkeypatch.setattr(abreast, "_step", lambda *_: (_ for _ in ()).throw(RuntimeError("device-side assert")))
    with pytest.raises(RuntimeError, match="device-side assert"):
        fitted([lane(0, ALL)])


@pytest.mark.parametrize(
    ("place", "training_config", "network", "count"),
    [
        ("cpu", {}, {}, 1),
        ("cuda", {}, {}, 128),
        ("cuda", {}, {"hidden": 128}, 32),
        ("cuda", {"batch": 1024}, {}, 8),
        ("cuda", {"batch": 8192}, {"hidden": 1024}, 1),
        ("cuda", {"precision": "bf16"}, {}, 1),
    ],
)
def test_lanes_are_as_many_as_there_is_room_for(place, training_config, network, count):
    config = Forecaster(training=TrainingConfig(**training_config), network=VLSTMConfig(**network))
    assert abreast.lanes(config, place) == count


# --- many models


@pytest.fixture
def lanes(monkeypatch):
    """A processor that takes several networks at once."""
    monkeypatch.setattr(abreast, "lanes", lambda *_: 7)


def asked_of(history):
    return [training.Asked(history, session, STAMP + session) for session in (149, 120, 130)]


def test_a_model_in_lanes_is_the_one_without_but_for_rounding(monkeypatch):
    monkeypatch.setattr(abreast, "lanes", lambda *_: 1)
    plain, plain_fits = training.train(make_history(), SMALL, STAMP, DEVICE)
    monkeypatch.setattr(abreast, "lanes", lambda *_: 7)
    model, fits = training.train(make_history(), SMALL, STAMP, DEVICE)
    for one, other in zip(fits, plain_fits, strict=True):
        assert_close(one, other)
    assert model_bytes(model) != model_bytes(plain)  # it did go another way
    np.testing.assert_allclose(model.tails, plain.tails, rtol=1e-3)


def test_models_asked_for_together_are_those_asked_for_alone(lanes):
    history, told = make_history(), []
    ahead = training.ahead(asked_of(history), SMALL, DEVICE, lambda place, fits: told.append((place, fits[0].epoch)))
    assert sorted(told) == [(place, epoch) for place in range(3) for epoch in (1, 2)]
    for own, fits in zip(asked_of(history), ahead, strict=True):
        past = windows.cut(history, own.last_session)
        alone, _ = training.train(past, SMALL, own.stamp, DEVICE)
        after, _ = training.train(past, SMALL, own.stamp, DEVICE, resume=fits)
        assert model_bytes(after) == model_bytes(alone)
        refreshed = training.ahead([own._replace(parent=alone, stamp=own.stamp + 1)], SMALL, DEVICE)[0]
        wanted, _ = training.refresh(alone, past, SMALL, own.stamp + 1, DEVICE)
        again, _ = training.refresh(alone, past, SMALL, own.stamp + 1, DEVICE, resume=refreshed)
        assert model_bytes(again) == model_bytes(wanted)
        assert model_bytes(wanted) != model_bytes(alone)


def test_a_model_that_diverged_together_diverges_alone(lanes):
    history = make_history()
    broken = history._replace(ewma_variance=np.where(np.isfinite(history.ewma_variance), 1e-60, np.nan))
    (fits,) = training.ahead([training.Asked(broken, 149, STAMP)], SMALL, DEVICE)
    assert [fit.epoch for fit in fits] == [0, 0]
    with pytest.raises(fitting.DivergedError, match="epoch 1 "):
        training.train(broken, SMALL, STAMP, DEVICE, resume=fits)
