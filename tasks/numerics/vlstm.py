"""The Variational LSTM: a window of features to a forecast distribution through a random latent code.

    h = LSTM(x_{t-L+1} ... x_t),   m = z_mean(h),   v = z_log_variance(h),   z = m + exp(v/2) eps,  eps ~ N(0, I)
    (mu, s) = output(relu(decoder(z))),   s = ln sigma^2 clipped to [-10, 10], in training and in forecasts alike

sigma is the scale of the configured likelihood: the variance is sigma^2 for a Gaussian, sigma^2 nu / (nu - 2) for a
Student-t. With the head "document", mu and s forecast the label y itself. With "residual" they forecast it in units of
the asset's own volatility, from the baseline variance B = H x EWMA variance, about the pooled mean m0 of the labels:

    u = (y - m0) / sqrt(B),   mean of y = m0 + sqrt(B) mu,   variance of y = B sigma^2

The residual head's output layer starts at zero: the untrained network is its baseline. There is less to say about u
than the Kullback-Leibler term charges for saying it through z: with beta 0.02 the code falls silent and the network
stays a constant. So this head's decoder also sees the state, relu(decoder(z) + direct(h)).

Source: Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014, section 2.4 (the reparameterised draw).
"""
# Shapes: B = sequences, L = sessions of a sequence, F = features, N = samples, J = latent dimensions,
# units = the config's `hidden`.

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.numerics.configs import VLSTMConfig

FloatArray = NDArray[np.float64]
Parameters = dict[str, NDArray[np.float32]]

LOG_SCALE_LIMIT = 10.0  # the document's clip of s


class _LSTM(nn.LSTM):
    """Torch's own, its memory not yet filled: torch's initialisation would advance its global generator."""

    def reset_parameters(self) -> None:
        """Leave the parameters to `initialise` and `from_parameters`."""


class _Linear(nn.Linear):
    """Likewise."""

    def reset_parameters(self) -> None:
        """Leave the parameters to `initialise` and `from_parameters`."""


class VLSTM(nn.Module):
    """Encoder, latent code and decoder; it holds no state and draws nothing itself."""

    def __init__(self, n_features: int, config: VLSTMConfig) -> None:
        super().__init__()
        self.encoder = _LSTM(n_features, config.hidden, batch_first=True)
        self.z_mean = _Linear(config.hidden, config.latent)
        self.z_log_variance = _Linear(config.hidden, config.latent)
        self.decoder = _Linear(config.latent, config.hidden)
        self.direct = _Linear(config.hidden, config.hidden, bias=False) if config.head == "residual" else None
        self.output = _Linear(config.hidden, 2)

    def encode(self, sequences: Tensor) -> Tensor:
        """States after each session: (B, L, F) to (B, L, units), from a zero state."""
        return self.encoder(sequences)[0]

    def code(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent code: (N, units) to twice (N, J)."""
        return self.z_mean(states), self.z_log_variance(states)

    def decode(self, z: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast in the head's units: latent codes (..., N, J), states (N, units); mean and log scale^2 (..., N)."""
        inner = self.decoder(z) if self.direct is None else self.decoder(z) + self.direct(states)
        mean, log_scale2 = self.output(torch.relu(inner)).unbind(-1)
        return mean, log_scale2.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)


def reparameterise(z_mean: Tensor, z_log_variance: Tensor, noise: Tensor) -> Tensor:
    """Draws of the latent code, z = m + exp(v/2) eps; noise (..., N, J) broadcasts over its leading axes."""
    return z_mean + torch.exp(0.5 * z_log_variance) * noise


def initialise(n_features: int, config: VLSTMConfig, generator: torch.Generator) -> Parameters:
    """Fresh parameters, uniform on +-1/sqrt(inputs of the layer), the residual head's output layer zero."""
    network = VLSTM(n_features, config)
    with torch.no_grad():
        for name, value in network.named_parameters():
            # all gates of the LSTM feed `hidden` units; a linear layer's bound counts its inputs
            inputs = config.latent if name.startswith("decoder") else config.hidden
            bound = 1 / math.sqrt(inputs)
            value.uniform_(-bound, bound, generator=generator)
        if config.head == "residual":
            network.output.weight.zero_()
            network.output.bias.zero_()
    return parameters(network)


def parameters(network: VLSTM) -> Parameters:
    """Copies of the network's parameters by name: contiguous float32 arrays, as safetensors wants them."""
    values = network.state_dict().items()
    return {name: np.array(value.cpu().numpy(), np.float32, order="C") for name, value in values}


def from_parameters(values: Parameters, n_features: int, config: VLSTMConfig, device: str = "cpu") -> VLSTM:
    """The network with these parameters. Raises RuntimeError, with names and shapes, where they do not fit."""
    network = VLSTM(n_features, config)
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in values.items()})
    return network.to(device)


def constant(values: Parameters, mean: float, variance: float, config: VLSTMConfig) -> Parameters:
    """The parameters with an output layer that gives the same mean and variance, in the head's units, for any input."""
    bias = np.float32([mean, math.log(variance / variance_of_scale(config))])
    return values | {"output.weight": np.zeros_like(values["output.weight"]), "output.bias": bias}


def shapes(n_features: int, config: VLSTMConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter by name, without memory for any of them."""
    with torch.device("meta"):
        network = VLSTM(n_features, config)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def variance_of_scale(config: VLSTMConfig) -> float:
    """What the squared scale is multiplied by to give the variance."""
    return config.degrees / (config.degrees - 2) if config.likelihood == "student_t" else 1.0


def to_head_units(label: FloatArray, baseline: FloatArray, label_mean: float, config: VLSTMConfig) -> FloatArray:
    """What the network is trained on: u = (y - m0) / sqrt(baseline) for the residual head, else y; any shape."""
    return (label - label_mean) / np.sqrt(baseline) if config.head == "residual" else label


def from_head_units(
    mean: FloatArray, variance: FloatArray, baseline: FloatArray, label_mean: float, config: VLSTMConfig
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of y from those in the head's units: the inverse of `to_head_units`."""
    if config.head == "document":
        return mean, variance
    return label_mean + np.sqrt(baseline) * mean, baseline * variance
