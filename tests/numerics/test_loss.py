"""The loss: four samples by hand, each term against its closed form, and weights that follow age and epoch."""

import numpy as np
import pytest
import torch
from scipy import stats

from tasks.numerics import loss as losses
from tasks.numerics.configs import LossConfig, VLSTMConfig

GAUSSIAN = VLSTMConfig(likelihood="gaussian")
STUDENT = VLSTMConfig(likelihood="student_t", degrees=4.0)
LOSS = LossConfig(kl_weight=0.4, direction_weight=0.7, recency=2.0, kl_warmup=4)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


# Four samples by hand. Squares (y - mu)^2 / sigma^2 are 1/4, 9/4, 2 and 2; log scales are 0, 2, -1 and 3 times ln 2.
LN2 = 0.6931471805599453
AGE = np.array([100, 50, 25, 10])
TARGET = exact([1.0, -2.0, 0.5, 3.0])
MEAN = exact([0.5, 1.0, 1.5, -1.0])
LOG_SCALE2 = exact([0.0, 2 * LN2, -LN2, 3 * LN2])
Z_MEAN = exact([[0.0, 1.0], [0.5, -1.0], [0.0, 0.0], [2.0, 0.0]])
Z_LOG_VARIANCE = exact([[0.0, 0.0], [LN2, 0.0], [-LN2, 0.0], [0.0, 2 * LN2]])

WEIGHT = [0.135335283236612692, 0.367879441171442322, 0.606530659712633424, 0.818730753077981859]  # e^-2, e^-1 ...
NLL = {
    # (0 + 1/4) / 2, (2 ln 2 + 9/4) / 2, (-ln 2 + 2) / 2, (3 ln 2 + 2) / 2
    GAUSSIAN: [0.125, 1.81814718055994531, 0.653426409720027345, 2.03972077083991796],
    # (0 + 5 ln 17/16) / 2, (2 ln 2 + 5 ln 25/16) / 2, (-ln 2 + 5 ln 3/2) / 2, (3 ln 2 + 5 ln 3/2) / 2
    STUDENT: [0.151561554541087106, 1.80886493713099409, 0.6670891799904383, 2.05338354111032892],
}
# a mean of m costs m^2 / 2: 0.5, 0.125 + 0.5, 0, 2; a variance of 2, 1/2 and 4: (1 - ln 2) / 2, (ln 2 - 1/2) / 2,
# (3 - 2 ln 2) / 2
KL = (0.5 + 0.778426409720027345 + 0.0965735902799726547 + 2.80685281944005469) / 4
# tanh 2 tanh 1 and tanh 3 tanh 1; the other two have the right sign
DIRECTION = (0.734197771165920308 + 0.757827885263817008) / 4
BOTH_LIKELIHOODS = pytest.mark.parametrize("network", [GAUSSIAN, STUDENT], ids=lambda network: network.likelihood)


def whole(network, epoch, config=LOSS):
    weight = torch.from_numpy(losses.recency_weights(AGE, config.recency))
    kl = losses.kl_weight(config, epoch)
    return float(losses.loss(TARGET, weight, MEAN, LOG_SCALE2, Z_MEAN, Z_LOG_VARIANCE, config, network, kl))


def test_recency_weights_are_those_by_hand():
    np.testing.assert_allclose(losses.recency_weights(AGE, 2.0), WEIGHT, rtol=1e-12)


@BOTH_LIKELIHOODS
def test_the_likelihood_of_each_sample_is_that_by_hand(network):
    found = losses.nll(TARGET, MEAN, LOG_SCALE2, network)
    np.testing.assert_allclose(found.numpy(), NLL[network], rtol=1e-12)


def test_the_divergence_and_the_penalty_are_those_by_hand():
    assert float(losses.kl_divergence(Z_MEAN, Z_LOG_VARIANCE).mean()) == pytest.approx(KL, rel=1e-12)
    assert float(losses.direction_penalty(TARGET, MEAN).mean()) == pytest.approx(DIRECTION, rel=1e-12)


@BOTH_LIKELIHOODS
@pytest.mark.parametrize(("epoch", "beta"), [(0, 0.0), (1, 0.1), (3, 0.3), (4, 0.4), (9, 0.4)])
def test_the_whole_loss_is_that_by_hand(network, epoch, beta):
    likelihood = sum(w * value for w, value in zip(WEIGHT, NLL[network], strict=True)) / 4
    assert whole(network, epoch) == pytest.approx(likelihood + beta * KL + 0.7 * DIRECTION, rel=1e-12)


@pytest.mark.parametrize(("network", "value"), [(GAUSSIAN, 1.36731006014323852), (STUDENT, 1.37222330720318913)])
def test_the_whole_loss_is_one_number(network, value):
    assert whole(network, 4) == pytest.approx(value, rel=1e-12)


def test_the_weight_of_the_divergence_rises_from_nothing_to_its_value():
    assert [losses.kl_weight(LOSS, epoch) for epoch in range(7)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert [losses.kl_weight(LossConfig(kl_weight=0.4, kl_warmup=1), epoch) for epoch in (0, 1, 2)] == [0, 0.4, 0.4]
    assert [losses.kl_weight(LossConfig(kl_weight=0.4, kl_warmup=0), epoch) for epoch in (0, 1)] == [0.4, 0.4]


def test_loss_agrees_with_the_formula_in_numpy():
    y, w, mu, s = normal(4, 50)
    w = np.abs(w)
    m, v = normal(2, 50, 3, seed=1)
    config = LossConfig(kl_weight=0.3, direction_weight=0.7)
    nll = s / 2 + (y - mu) ** 2 / (2 * np.exp(s))
    kl = sum(-(1 + v[i, j] - m[i, j] ** 2 - np.exp(v[i, j])) / 2 for i in range(50) for j in range(3)) / 50
    direction = np.mean([max(0.0, -np.tanh(a) * np.tanh(b)) for a, b in zip(y, mu, strict=True)])
    expected = np.mean(w * nll) + 0.3 * kl + 0.7 * direction
    tensors = (torch.from_numpy(value) for value in (y, w, mu, s, m, v))
    assert float(losses.loss(*tensors, config, GAUSSIAN, 0.3)) == pytest.approx(expected, rel=1e-5)


def test_nll_is_that_of_the_normal_distribution():
    y, mu, s = torch.from_numpy(normal(3, 20))
    density = torch.distributions.Normal(mu, torch.exp(s / 2)).log_prob(y)
    torch.testing.assert_close(losses.gaussian_nll(y, mu, s), -density - 0.5 * np.log(2 * np.pi))


@pytest.mark.parametrize("degrees", [2.5, 6.0, 150.0])
def test_student_t_nll_is_that_of_scipy_up_to_a_constant_of_the_degrees(degrees):
    y, mu, s = normal(3, 20).astype(float)
    density = stats.t.logpdf(y, degrees, loc=mu, scale=np.exp(s / 2))
    found = losses.student_t_nll(exact(y), exact(mu), exact(s), degrees).numpy()
    constant = stats.t.logpdf(0.0, degrees)
    np.testing.assert_allclose(found, constant - density, rtol=1e-12, atol=1e-12)


def test_many_degrees_are_a_normal_distribution():
    y, mu, s = (exact(values.astype(float)) for values in normal(3, 20))
    close = losses.student_t_nll(y, mu, s, 1e9)
    torch.testing.assert_close(close, losses.gaussian_nll(y, mu, s), rtol=1e-6, atol=1e-6)


def test_kl_is_that_of_two_normals_summed_over_dimensions():
    m, v = torch.from_numpy(normal(2, 20, 3))
    one, prior = torch.distributions.Normal(m, torch.exp(v / 2)), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(one, prior).sum(dim=1)
    torch.testing.assert_close(losses.kl_divergence(m, v), expected)
    assert not losses.kl_divergence(torch.zeros(4, 3), torch.zeros(4, 3)).any()


def test_direction_penalises_the_wrong_sign_only():
    y = torch.tensor([1.0, -2.0, 3.0])
    assert not losses.direction_penalty(y, y).any()
    assert float(losses.direction_penalty(y, -y).mean()) == pytest.approx(np.mean(np.tanh([1, 2, 3]) ** 2))


def test_recency_weights_fall_from_the_newest_to_the_oldest():
    age = np.array([1, 50, 100])
    np.testing.assert_allclose(losses.recency_weights(age, 2.0), np.exp([-0.02, -1, -2]))
    np.testing.assert_array_equal(losses.recency_weights(age, 0.0), 1.0)
