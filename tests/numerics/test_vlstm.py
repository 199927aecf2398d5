"""The network against its formulas in numpy, its units, and what may not touch the global generator."""

import numpy as np
import pytest
import torch

from tasks.numerics import vlstm
from tasks.numerics.configs import VLSTMConfig

F = 4
DOCUMENT = VLSTMConfig(head="document", hidden=6, latent=3)
RESIDUAL = VLSTMConfig(head="residual", hidden=6, latent=3)
BOTH_HEADS = pytest.mark.parametrize("config", [DOCUMENT, RESIDUAL])


def fresh(config=DOCUMENT, seed=0):
    return vlstm.initialise(F, config, torch.Generator().manual_seed(seed))


def scrambled(config, seed=1):
    """Parameters of which none is zero."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(value.shape).astype(np.float32) for name, value in fresh(config).items()}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def states_by_hand(values, sequence):
    """States of one sequence by the gates' equations."""
    h = c = np.zeros(values["encoder.weight_hh_l0"].shape[1])
    states = []
    for x in sequence:
        gates = values["encoder.weight_ih_l0"] @ x + values["encoder.bias_ih_l0"]
        gates = gates + values["encoder.weight_hh_l0"] @ h + values["encoder.bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def linear(values, layer, x):
    return x @ values[f"{layer}.weight"].T + values.get(f"{layer}.bias", 0)


@BOTH_HEADS
def test_the_network_is_its_formulas(config):
    values, sequence, noise = scrambled(config), normal(9, F), normal(9, config.latent, seed=2)
    h = states_by_hand(values, sequence)
    m, v = linear(values, "z_mean", h), linear(values, "z_log_variance", h)
    inner = linear(values, "decoder", m + np.exp(v / 2) * noise)
    if config.head == "residual":
        inner = inner + linear(values, "direct", h)
    mu, s = linear(values, "output", np.maximum(inner, 0)).T

    network = vlstm.from_parameters(values, F, config)
    states = network.encode(torch.from_numpy(sequence)[None])[0]
    z_mean, z_log_variance = network.code(states)
    z = vlstm.reparameterise(z_mean, z_log_variance, torch.from_numpy(noise))
    mean, log_variance = network.decode(z, states)
    for ours, theirs in (
        (states, h),
        (z_mean, m),
        (z_log_variance, v),
        (mean, mu),
        (log_variance, np.clip(s, -10, 10)),
    ):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-3, atol=1e-4)


def test_draws_share_the_states_of_their_samples():
    network = vlstm.from_parameters(scrambled(RESIDUAL), F, RESIDUAL)
    states, z = torch.from_numpy(normal(5, 6)), torch.from_numpy(normal(7, 5, 3))
    together = torch.stack(network.decode(z, states))
    one_by_one = torch.stack([torch.stack(network.decode(draw, states)) for draw in z], dim=1)
    assert together.shape == (2, 7, 5)
    torch.testing.assert_close(together, one_by_one)


@pytest.mark.parametrize(("bias", "limit"), [(50.0, 10.0), (-50.0, -10.0)])
def test_log_variance_is_clipped(bias, limit):
    values = fresh()
    values["output.bias"][1] = bias
    network = vlstm.from_parameters(values, F, DOCUMENT)
    assert network.decode(torch.zeros(2, 3), torch.zeros(2, 6))[1].tolist() == [limit, limit]


@BOTH_HEADS
def test_parameters_survive_the_round_trip_to_the_byte(config):
    values = scrambled(config)
    back = vlstm.parameters(vlstm.from_parameters(values, F, config))
    assert list(back) == list(fresh(config))
    for name, value in back.items():
        assert value.dtype == np.float32
        assert value.flags["C_CONTIGUOUS"]
        assert value.tobytes() == values[name].tobytes()


def test_a_network_does_not_share_memory_with_the_parameters_it_came_from():
    values = scrambled(DOCUMENT)
    before = values["output.weight"].copy()
    network = vlstm.from_parameters(values, F, DOCUMENT)
    with torch.no_grad():
        network.output.weight.add_(1.0)
    np.testing.assert_array_equal(values["output.weight"], before)
    taken = vlstm.parameters(network)["output.weight"]
    with torch.no_grad():
        network.output.weight.add_(1.0)
    np.testing.assert_allclose(taken, before + 1, rtol=1e-6)


def test_parameters_of_another_shape_are_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        vlstm.from_parameters(fresh(), F + 1, DOCUMENT)
    with pytest.raises(RuntimeError, match="direct"):
        vlstm.from_parameters(fresh(), F, RESIDUAL)


@BOTH_HEADS
def test_initialisation_follows_its_generator_and_leaves_the_global_one_alone(config):
    before = torch.get_rng_state()
    first, again, other = fresh(config, 3), fresh(config, 3), fresh(config, 4)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.items():
        assert value.tobytes() == again[name].tobytes()
        zero = config.head == "residual" and name.startswith("output")
        assert (value == 0).all() == zero
        assert zero or value.tobytes() != other[name].tobytes()


def test_initial_parameters_fill_their_bounds():
    values = vlstm.initialise(9, VLSTMConfig(head="document", hidden=64, latent=16), torch.Generator().manual_seed(0))
    for name, value in values.items():
        bound = 1 / np.sqrt(16 if name.startswith("decoder") else 64)
        assert np.abs(value).max() <= bound
        assert value.size < 500 or value.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)


def test_an_untrained_residual_head_forecasts_a_standard_normal():
    network = vlstm.from_parameters(fresh(RESIDUAL), F, RESIDUAL)
    mean, log_variance = network.decode(torch.from_numpy(normal(5, 3)), torch.from_numpy(normal(5, 6)))
    assert mean.tolist() == log_variance.tolist() == [0.0] * 5


@BOTH_HEADS
def test_head_units_are_inverted(config):
    label, baseline = 0.1 * normal(6).astype(float), np.full(6, 0.004)
    mean, variance = vlstm.from_head_units(
        vlstm.to_head_units(label, baseline, 0.01, config), np.ones(6), baseline, 0.01, config
    )
    np.testing.assert_allclose(mean, label, rtol=1e-12)
    np.testing.assert_allclose(variance, baseline if config.head == "residual" else 1.0)


@pytest.mark.parametrize(("degrees", "expected"), [(3.0, 3.0), (6.0, 1.5), (102.0, 1.02)])
def test_a_student_t_has_more_variance_than_its_squared_scale(degrees, expected):
    assert vlstm.variance_of_scale(VLSTMConfig(likelihood="student_t", degrees=degrees)) == pytest.approx(expected)
    assert vlstm.variance_of_scale(VLSTMConfig(likelihood="gaussian", degrees=degrees)) == 1
