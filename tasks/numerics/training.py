"""How the Variational LSTM is fitted at an as-of date, and refreshed at later ones.

    theta = argmin over theta of the mean loss of all training samples at the date

by a fixed number of epochs of AdamW over chunks of windows, without validation data: with daily data of a few
assets they are worth more as training data. Each member of the ensemble differs only by its random numbers.
A refresh runs further epochs on all data up to its own date, from the model's parameters; the standardisation and
the pooled mean of labels stay the model's, so that parameters keep their meaning.

All random numbers come from generators made of (seed, member, as-of date, purpose), on the CPU whatever the device.
The same machine and number of threads give the same bytes.

Sources: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019 (AdamW); Pascanu, Mikolov and
Bengio, On the difficulty of training recurrent neural networks, ICML 2013, section 3.2 (clipped gradients).
"""
# Shapes: A = assets, T = own sessions, F = features.

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.numerics import vlstm, windows
from tasks.numerics.configs import FeatureConfig, LossConfig, TrainingConfig, VLSTMConfig
from tasks.numerics.loss import loss as total_loss
from tasks.numerics.loss import recency_weights
from tasks.numerics.vlstm import VLSTM
from tasks.numerics.windows import Batch, BoolArray, FloatArray, History

Progress = Callable[[int, int, float], None]

INPUT_LIMIT = 5.0  # standard deviations at which a standardised feature is clipped
INITIALISE, TRAIN, REFRESH, FORECAST = range(4)  # purposes of random numbers


class Model(NamedTuple):
    """A trained forecaster, in numpy only."""

    parameters: tuple[vlstm.Parameters, ...]  # one per member of the ensemble
    feature_mean: FloatArray  # (F,) of the training rows
    feature_std: FloatArray  # (F,)
    label_mean: float  # m0, pooled over the training labels


class _Panel(NamedTuple):
    """What all members train on; the tensors lie on the device."""

    inputs: Tensor  # (A * T, F) standardised, 0 where undefined
    target: Tensor  # (A * T,) in the head's units, 0 where there is no sample
    weight: Tensor  # (A * T,) by recency
    samples: BoolArray  # (A, T)


def set_threads(training: TrainingConfig) -> None:
    """Give torch the configured number of threads; another number gives other bytes."""
    if torch.get_num_threads() != training.threads:
        torch.set_num_threads(training.threads)


def generators(seed: int, member: int, stamp: int, purpose: int) -> tuple[np.random.Generator, torch.Generator]:
    """Independent generators of numpy and torch for one member, as-of date and purpose."""
    sequence = np.random.SeedSequence((seed, member, stamp, purpose))
    state = int(sequence.generate_state(1, np.uint64)[0])
    return np.random.default_rng(sequence), torch.Generator().manual_seed(state)


def standardise(features: NDArray[np.float32], mean: FloatArray, std: FloatArray) -> NDArray[np.float32]:
    """Standard scores clipped at +-INPUT_LIMIT: (..., F), NaN stays NaN."""
    return np.clip((features - mean) / std, -INPUT_LIMIT, INPUT_LIMIT).astype(np.float32)


def train(
    history: History,
    features: FeatureConfig,
    network: VLSTMConfig,
    loss: LossConfig,
    training: TrainingConfig,
    stamp: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[Model, float]:
    """A new model from all that `history` knows, and its mean loss in the last epoch.

    stamp: ordinal of the as-of date, for the random numbers. progress: called with member, epoch and its loss.
    Raises ValueError where no sample may train.
    """
    fresh = _untrained(history, features, network, training, stamp)
    panel = _panel(fresh, history, features, network, loss, device)
    return _fit(fresh, panel, features, network, loss, training, training.epochs, stamp, TRAIN, progress)


def refresh(
    model: Model,
    history: History,
    features: FeatureConfig,
    network: VLSTMConfig,
    loss: LossConfig,
    training: TrainingConfig,
    stamp: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[Model, float]:
    """The model after `refresh_epochs` more epochs on all that `history` knows; as `train`, loss NaN for none."""
    panel = _panel(model, history, features, network, loss, device)
    return _fit(model, panel, features, network, loss, training, training.refresh_epochs, stamp, REFRESH, progress)


def _samples(history: History, features: FeatureConfig) -> BoolArray:
    """Training samples (A, T), of which there must be one."""
    samples = windows.training_samples(history, features.lookback, features.horizon)
    if not samples.any():
        longest = windows.lengths(history.session).max(initial=0)
        needed = 2 * features.lookback + features.horizon
        raise ValueError(f"no training sample: the longest asset has {longest} of {needed} own sessions; start later")
    return samples


def _untrained(
    history: History, features: FeatureConfig, network: VLSTMConfig, training: TrainingConfig, stamp: int
) -> Model:
    """Fresh parameters, with the standardisation and the pooled mean of the training samples."""
    samples = _samples(history, features)
    rows = history.features[windows.training_rows(samples, features.lookback)].astype(np.float64)
    labels = windows.targets(history.log_return, features.horizon)[samples]
    streams = (generators(training.seed, member, stamp, INITIALISE) for member in range(training.ensemble))
    parameters = tuple(vlstm.initialise(rows.shape[1], network, stream) for _, stream in streams)
    std = rows.std(axis=0)
    # a feature that never varies is left at 0 instead of divided by 0
    return Model(parameters, rows.mean(axis=0), np.where(std > 0, std, 1.0), float(labels.mean()))


def _panel(
    model: Model, history: History, features: FeatureConfig, network: VLSTMConfig, loss: LossConfig, device: str
) -> _Panel:
    """Standardised inputs, labels and weights of all samples, on the device."""
    samples = _samples(history, features)
    labels = windows.targets(history.log_return, features.horizon)[samples]
    baseline = features.horizon * history.ewma_variance[samples]
    target, weight = np.zeros(samples.shape, np.float32), np.zeros(samples.shape, np.float32)
    target[samples] = vlstm.to_head_units(labels, baseline, model.label_mean, network)
    weight[samples] = recency_weights(history.last_session - history.session[samples], loss.recency)
    # undefined rows are read by short chunks only, whose states there are not used
    inputs = np.nan_to_num(standardise(history.features, model.feature_mean, model.feature_std))
    return _Panel(
        torch.from_numpy(inputs.reshape(-1, inputs.shape[2])).to(device),
        torch.from_numpy(target.ravel()).to(device),
        torch.from_numpy(weight.ravel()).to(device),
        samples,
    )


def _fit(
    model: Model,
    panel: _Panel,
    features: FeatureConfig,
    network: VLSTMConfig,
    loss: LossConfig,
    training: TrainingConfig,
    epochs: int,
    stamp: int,
    purpose: int,
    progress: Progress | None,
) -> tuple[Model, float]:
    """The model with every member trained `epochs` further on the panel, and their mean loss in the last one."""
    set_threads(training)
    fitted, last = [], np.full(len(model.parameters), np.nan)
    for member, values in enumerate(model.parameters):
        net = vlstm.from_parameters(values, model.feature_mean.size, network, str(panel.inputs.device))
        optimiser = torch.optim.AdamW(
            net.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        shuffle, draws = generators(training.seed, member, stamp, purpose)
        for epoch in range(epochs):
            last[member] = _epoch(net, optimiser, panel, features, loss, training, shuffle, draws)
            if progress is not None:
                progress(member, epoch, float(last[member]))
        fitted.append(vlstm.parameters(net))
    return model._replace(parameters=tuple(fitted)), float(last.mean())


def _epoch(
    net: VLSTM,
    optimiser: torch.optim.Optimizer,
    panel: _Panel,
    features: FeatureConfig,
    loss: LossConfig,
    training: TrainingConfig,
    shuffle: np.random.Generator,
    draws: torch.Generator,
) -> float:
    """One step of the optimiser for each batch of chunks; the mean loss of the samples on the way."""
    plan = windows.chunks(panel.samples, training.chunk, shuffle)
    total = torch.zeros((), dtype=torch.float64, device=panel.inputs.device)
    for start in range(0, len(plan), training.batch):
        part = plan[start : start + training.batch]
        batch = windows.batch(part, features.lookback, training.chunk, panel.samples.shape[1])
        value = _batch_loss(net, panel, batch, loss, training, draws)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), training.clip_norm)
        optimiser.step()
        total += value.detach() * batch.samples.size
    return float(total) / int(panel.samples.sum())


def _batch_loss(
    net: VLSTM, panel: _Panel, batch: Batch, loss: LossConfig, training: TrainingConfig, draws: torch.Generator
) -> Tensor:
    """Loss of one batch, with one draw of the latent code for each sample."""
    device = panel.inputs.device
    rows, states, samples = (torch.from_numpy(index).to(device) for index in batch)
    with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        encoded = net.encode(panel.inputs[rows]).flatten(0, 1).index_select(0, states)
        z_mean, z_log_variance = net.code(encoded)
        noise = torch.randn(z_mean.shape, generator=draws).to(device)
        mean, log_variance = net.decode(vlstm.reparameterise(z_mean, z_log_variance, noise), encoded)
    # the loss is summed in float32 also where the network is not
    mean, log_variance, z_mean, z_log_variance = (v.float() for v in (mean, log_variance, z_mean, z_log_variance))
    return total_loss(panel.target[samples], panel.weight[samples], mean, log_variance, z_mean, z_log_variance, loss)
