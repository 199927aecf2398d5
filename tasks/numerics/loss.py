"""The training loss: how well a forecast, its latent code and its sign fit the labels.

    L = (1/N) sum_i w_i NLL_i + beta KL + gamma Dir,   w_i = exp(-lambda age_i / max_k age_k)

    NLL_i = s_i / 2 + (y_i - mu_i)^2 / (2 exp(s_i))                               gaussian
    NLL_i = s_i / 2 + (nu + 1)/2 ln(1 + (y_i - mu_i)^2 / (nu exp(s_i)))           student_t
    KL    = (1/N) sum_i sum_j -(1 + v_ij - m_ij^2 - exp(v_ij)) / 2    of N(m, exp(v)) from N(0, 1)
    Dir   = (1/N) sum_i max(0, -tanh(y_i) tanh(mu_i))

y and mu are in the units of the network's head; s is the log of the squared scale, which for a Gaussian is the
variance. Constants of the densities are left out. The Kullback-Leibler term sums over latent dimensions (Kingma and
Welling, Auto-Encoding Variational Bayes, ICLR 2014, appendix B); its weight beta may rise from 0 over the first
epochs (Bowman et al., Generating Sentences from a Continuous Space, CoNLL 2016, section 3.1).
"""
# Shapes: N = samples of a batch, J = latent dimensions.

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.numerics.configs import LossConfig, VLSTMConfig

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def recency_weights(age: IntArray, decay: float) -> FloatArray:
    """Weights exp(-decay age / max age) of the whole training set: age in sessions, all positive, any shape."""
    return np.exp(-decay * age / age.max())


def kl_weight(config: LossConfig, epoch: int) -> float:
    """The weight beta in an epoch, counted from 0: it reaches its full value after `kl_warmup` epochs."""
    return config.kl_weight * min(1.0, epoch / config.kl_warmup) if config.kl_warmup else config.kl_weight


def gaussian_nll(target: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log density of each target (N,), up to ln(2 pi)/2."""
    return 0.5 * (log_variance + (target - mean) ** 2 * torch.exp(-log_variance))


def student_t_nll(target: Tensor, mean: Tensor, log_scale2: Tensor, degrees: float) -> Tensor:
    """Negative log density of each target (N,) about a location and a log squared scale, up to a constant of nu."""
    square = (target - mean) ** 2 * torch.exp(-log_scale2)
    return 0.5 * (log_scale2 + (degrees + 1) * torch.log1p(square / degrees))


def nll(target: Tensor, mean: Tensor, log_scale2: Tensor, network: VLSTMConfig) -> Tensor:
    """Negative log density of each target (N,) by the configured likelihood."""
    if network.likelihood == "student_t":
        return student_t_nll(target, mean, log_scale2, network.degrees)
    return gaussian_nll(target, mean, log_scale2)


def kl_divergence(z_mean: Tensor, z_log_variance: Tensor) -> Tensor:
    """Divergence of each latent code (..., N, J) from a standard normal, summed over J: (..., N)."""
    return -0.5 * (1 + z_log_variance - z_mean**2 - torch.exp(z_log_variance)).sum(dim=-1)


def direction_penalty(target: Tensor, mean: Tensor) -> Tensor:
    """How firmly each forecast has the wrong sign, in [0, 1]: (..., N)."""
    return torch.relu(-torch.tanh(target) * torch.tanh(mean))


def loss(
    target: Tensor,
    weight: Tensor,
    mean: Tensor,
    log_scale2: Tensor,
    z_mean: Tensor,
    z_log_variance: Tensor,
    config: LossConfig,
    network: VLSTMConfig,
    kl: float | Tensor,
    averaged: Callable[[Tensor], Tensor] = torch.mean,
) -> Tensor:
    """L of one batch: target, weight, mean and log_scale2 (N,), latent code (N, J); a scalar.

    kl: the weight beta. averaged: the mean over N; another one takes several networks at once, (G, N) to (G,).
    """
    likelihood = averaged(weight * nll(target, mean, log_scale2, network))
    latent = kl * averaged(kl_divergence(z_mean, z_log_variance))
    return likelihood + latent + config.direction_weight * averaged(direction_penalty(target, mean))
