"""The predictive distribution of each asset's next H-session log return at the as-of date.

The network's forecast is a mixture of Gaussians over draws k of the latent code and members of the ensemble, here
given by its first two moments, the second by the law of total variance:

    mean = mean_k mu_k,   variance = mean_k sigma_k^2 + mean_k (mu_k - mean)^2

The EWMA forecast is the yardstick: H times the EWMA variance, about the pooled mean of past labels.
"""
# Shapes: A = assets, L = lookback, F = features, M = draws of a member, J = latent dimensions.

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.numerics import windows
from tasks.numerics.configs import FeatureConfig, ForecastConfig, TrainingConfig, VLSTMConfig
from tasks.numerics.training import FORECAST, Model, generators, set_threads, standardise
from tasks.numerics.vlstm import VLSTM, from_head_units, from_parameters, reparameterise
from tasks.numerics.windows import BoolArray, FloatArray, History


class Forecast(NamedTuple):
    """Moments of the horizon's log return; NaN for an asset that is not eligible."""

    mean: FloatArray  # (A,)
    variance: FloatArray  # (A,)
    baseline_variance: FloatArray  # (A,) of the EWMA alone


def vlstm(
    model: Model,
    history: History,
    eligible: BoolArray,
    features: FeatureConfig,
    network: VLSTMConfig,
    training: TrainingConfig,
    config: ForecastConfig,
    stamp: int,
    device: str = "cpu",
) -> Forecast:
    """The model's forecast from each asset's last `lookback` own sessions, in float32 whatever the training was.

    eligible: (A,). stamp: ordinal of the as-of date, for the draws, which all assets get whether eligible or not.
    Raises ValueError for an eligible asset whose window is not complete.
    """
    window = windows.forecast_windows(history, features.lookback)
    baseline = _baseline(history, features)
    _check(eligible, np.isfinite(window).all(axis=(1, 2)) & np.isfinite(baseline), features.lookback)
    set_threads(training)
    scores = standardise(window, model.feature_mean, model.feature_std)
    inputs = torch.from_numpy(np.nan_to_num(scores)).to(device)
    moments = []
    for member, values in enumerate(model.parameters):
        net = from_parameters(values, model.feature_mean.size, network, device)
        _, draws = generators(training.seed, member, stamp, FORECAST)
        noise = torch.randn((config.draws, eligible.size, network.latent), generator=draws)
        moments.append(_moments(net, inputs, noise.to(device)))
    mu, sigma2 = (np.concatenate(values) for values in zip(*moments, strict=True))
    total = sigma2.mean(axis=0) + mu.var(axis=0)
    mean, variance = from_head_units(mu.mean(axis=0), total, baseline, model.label_mean, network)
    shrunk = model.label_mean + config.mean_shrink * (mean - model.label_mean)
    return Forecast(*(np.where(eligible, value, np.nan) for value in (shrunk, variance, baseline)))


def ewma(history: History, eligible: BoolArray, features: FeatureConfig) -> Forecast:
    """The yardstick: variance H x EWMA, mean that of all labels known at the as-of date, all assets pooled.

    Raises ValueError where no label is known, or an eligible asset has no EWMA variance yet.
    """
    labels = windows.targets(history.log_return, features.horizon)
    known = labels[np.isfinite(labels)]
    if not known.size:
        raise ValueError(f"no label of {features.horizon} sessions is known; start later")
    baseline = _baseline(history, features)
    _check(eligible, np.isfinite(baseline), features.lookback)
    mean = np.where(eligible, known.mean(), np.nan)
    variance = np.where(eligible, baseline, np.nan)
    return Forecast(mean, variance, variance.copy())


def _baseline(history: History, features: FeatureConfig) -> FloatArray:
    """H times each asset's last EWMA variance: (A,)."""
    return features.horizon * windows.last_values(history.ewma_variance, history.session)


def _check(eligible: BoolArray, ready: BoolArray, lookback: int) -> None:
    """Refuse an eligible asset without the data of a forecast."""
    missing = np.flatnonzero(eligible & ~ready)
    if missing.size:
        rows = missing.tolist()
        raise ValueError(f"assets {rows} lack data in their last {lookback} own sessions; they cannot be eligible")


@torch.inference_mode()
def _moments(net: VLSTM, inputs: Tensor, noise: Tensor) -> tuple[FloatArray, FloatArray]:
    """Mean and variance in the head's units for each draw: inputs (A, L, F), noise (M, A, J), two (M, A)."""
    states = net.encode(inputs)[:, -1]
    z_mean, z_log_variance = net.code(states)
    mean, log_variance = net.decode(reparameterise(z_mean, z_log_variance, noise), states)
    return mean.double().cpu().numpy(), log_variance.double().exp().cpu().numpy()
