"""The training loss: how well a Gaussian forecast, its latent code and its sign fit the labels.

    L = (1/N) sum_i w_i NLL_i + beta KL + gamma Dir,   w_i = exp(-lambda age_i / max_k age_k)

    NLL_i = s_i / 2 + (y_i - mu_i)^2 / (2 exp(s_i))
    KL    = (1/N) sum_i sum_j -(1 + v_ij - m_ij^2 - exp(v_ij)) / 2    of N(m, exp(v)) from N(0, 1)
    Dir   = (1/N) sum_i max(0, -tanh(y_i) tanh(mu_i))

y and mu are in the units of the network's head, s is a log variance. The constant ln(2 pi)/2 is left out.
The Kullback-Leibler term sums over latent dimensions (Kingma and Welling, Auto-Encoding Variational Bayes,
ICLR 2014, appendix B).
"""
# Shapes: N = samples of a batch, J = latent dimensions.

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.numerics.configs import LossConfig

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def recency_weights(age: IntArray, decay: float) -> FloatArray:
    """Weights exp(-decay age / max age) of the whole training set: age in sessions, all positive, any shape."""
    return np.exp(-decay * age / age.max())


def gaussian_nll(target: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log density of each target (N,), up to ln(2 pi)/2."""
    return 0.5 * (log_variance + (target - mean) ** 2 * torch.exp(-log_variance))


def kl_divergence(z_mean: Tensor, z_log_variance: Tensor) -> Tensor:
    """Divergence of the latent codes (N, J) from a standard normal, summed over J, averaged over N."""
    return -0.5 * (1 + z_log_variance - z_mean**2 - torch.exp(z_log_variance)).sum(dim=1).mean()


def direction_penalty(target: Tensor, mean: Tensor) -> Tensor:
    """Mean over N of how firmly the forecast has the wrong sign, in [0, 1]."""
    return torch.relu(-torch.tanh(target) * torch.tanh(mean)).mean()


def loss(
    target: Tensor,
    weight: Tensor,
    mean: Tensor,
    log_variance: Tensor,
    z_mean: Tensor,
    z_log_variance: Tensor,
    config: LossConfig,
) -> Tensor:
    """L of one batch: target, weight, mean and log_variance (N,), latent code (N, J); a scalar."""
    likelihood = (weight * gaussian_nll(target, mean, log_variance)).mean()
    latent = config.kl_weight * kl_divergence(z_mean, z_log_variance)
    return likelihood + latent + config.direction_weight * direction_penalty(target, mean)
