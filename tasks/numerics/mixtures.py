"""The network's predictive distribution: a mixture over draws k of the latent code and members of the ensemble.

It is given by its first two moments, the second by the law of total variance:

    mean = mean_k mu_k,   variance = mean_k var_k + mean_k (mu_k - mean)^2
"""
# Shapes: N = rows (an asset at a session), L = lookback, F = features, M = draws of a member, J = latent dimensions.

import numpy as np
import torch
from torch import Tensor

from tasks.numerics import windows
from tasks.numerics.configs import Forecaster
from tasks.numerics.predictive import Forecast, Rows, complete
from tasks.numerics.training import FORECAST, Model, generators, set_threads, standardise
from tasks.numerics.vlstm import VLSTM, from_head_units, from_parameters, reparameterise, variance_of_scale
from tasks.numerics.windows import FloatArray, History

ROWS = 4096  # rows that pass through a network at once


def vlstm(
    model: Model, history: History, rows: Rows, config: Forecaster, device: str = "cpu", mean_shrink: float = 1.0
) -> Forecast:
    """The model's forecast of each row from exactly `lookback` own sessions, in float32 whatever the training was.

    mean_shrink: weight of the forecast mean against the pooled mean of the model's labels. Raises ValueError for a
    row whose window is not complete.
    """
    return _pooled(model, history, rows, config, device, mean_shrink, 1)[0]


def members(
    model: Model, history: History, rows: Rows, config: Forecaster, device: str = "cpu", mean_shrink: float = 1.0
) -> list[Forecast]:
    """The forecast of each network of the ensemble alone, from the draws that it has in `vlstm`."""
    return _pooled(model, history, rows, config, device, mean_shrink, len(model.parameters))


def _pooled(
    model: Model, history: History, rows: Rows, config: Forecaster, device: str, mean_shrink: float, parts: int
) -> list[Forecast]:
    """The forecasts of the model's networks in equal `parts`, each pooled."""
    if not complete(history, rows, config.features.lookback).all():
        bad = rows.asset[~complete(history, rows, config.features.lookback)]
        raise ValueError(f"assets {bad.tolist()} lack features, or an EWMA variance, in their last own sessions")
    if not rows.asset.size:
        return [Forecast(np.empty(0), np.empty(0), model.tails)] * parts
    set_threads(config.training)
    baseline = config.features.horizon * history.ewma_variance[rows.asset, rows.column]
    mixture = _mixture(model, history, rows, config, device)
    found = []
    for mu, sigma2 in zip(*(np.split(values, parts) for values in mixture), strict=True):
        variance = variance_of_scale(config.network) * sigma2.mean(axis=0) + mu.var(axis=0)
        mean, variance = from_head_units(mu.mean(axis=0), variance, baseline, model.label_mean, config.network)
        mean = model.label_mean + mean_shrink * (mean - model.label_mean)
        variance = baseline if config.forecast.volatility == "ewma" else variance
        found.append(Forecast(mean, variance, model.tails))
    return found


def _mixture(
    model: Model, history: History, rows: Rows, config: Forecaster, device: str
) -> tuple[FloatArray, FloatArray]:
    """Means and squared scales in the head's units by member and draw, and by row: two (members x M, N)."""
    parts = []
    networks = [from_parameters(p, model.feature_mean.size, config.network, device) for p in model.parameters]
    for start in range(0, rows.asset.size, ROWS):
        part = Rows(*(values[start : start + ROWS] for values in rows))
        scores = standardise(
            windows.windows_at(history, part.asset, part.column, config.features.lookback),
            model.feature_mean,
            model.feature_std,
        )
        inputs = torch.from_numpy(scores).to(device)
        noise = [_noise(part, len(history.session), member, config) for member in range(len(networks))]
        found = [_moments(net, inputs, draws.to(device)) for net, draws in zip(networks, noise, strict=True)]
        parts.append([np.concatenate(values) for values in zip(*found, strict=True)])
    mu, sigma2 = (np.concatenate(values, axis=1) for values in zip(*parts, strict=True))
    return mu, sigma2


def _noise(rows: Rows, assets: int, member: int, config: Forecaster) -> Tensor:
    """Latent draws of each row: (M, N, J). A day's draws are made for all assets, whichever of them are wanted.

    Without draws there is one of noise 0, the mean of the latent code.
    """
    if not config.forecast.draws:
        return torch.zeros((1, rows.asset.size, config.network.latent))
    draws = {}
    for stamp in np.unique(rows.stamp).tolist():
        _, generator = generators(config.training.seed, member, stamp, FORECAST)
        draws[stamp] = torch.randn((config.forecast.draws, assets, config.network.latent), generator=generator)
    pairs = zip(rows.stamp.tolist(), rows.asset.tolist(), strict=True)
    return torch.stack([draws[stamp][:, asset] for stamp, asset in pairs], dim=1)


@torch.inference_mode()
def _moments(net: VLSTM, inputs: Tensor, noise: Tensor) -> tuple[FloatArray, FloatArray]:
    """Mean and squared scale in the head's units for each draw: inputs (N, L, F), noise (M, N, J), two (M, N)."""
    states = net.encode(inputs)[:, -1]
    z_mean, z_log_variance = net.code(states)
    mean, log_scale2 = net.decode(reparameterise(z_mean, z_log_variance, noise), states)
    return mean.double().cpu().numpy(), log_scale2.double().exp().cpu().numpy()
