"""One epoch of training as a pure function from what was before it to what is after it.

A `Fit` is a network between two epochs: its parameters and AdamW's moments, as arrays. Every random number of an
epoch comes from generators made for it alone, so a fit that was stored and read back goes on to the same bytes as one
that was never stopped.

A batch that does not fit into memory is cut into parts whose gradients add up to the whole batch's: the loss is a mean
over samples, and the latent draws are made before it is cut. Only the rounding differs.

Sources: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019 (AdamW); Pascanu, Mikolov and
Bengio, On the difficulty of training recurrent neural networks, ICML 2013, section 3.2 (clipped gradients).
"""
# Shapes: A = assets, T = own sessions, F = features, N = samples of a batch, J = latent dimensions.

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.numerics import loss, vlstm, windows
from tasks.numerics.configs import Forecaster, TrainingConfig
from tasks.numerics.vlstm import VLSTM, Parameters
from tasks.numerics.windows import BoolArray, IntArray

Streams = tuple[np.random.Generator, torch.Generator]

WIDER = 16  # times as many chunks at once on an accelerator where no derivative is wanted, which takes most memory
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # CUDA's and the CPU's words


class DivergedError(ArithmeticError):
    """A fit left the finite numbers; no further epoch brings it back."""


class Fit(NamedTuple):
    """A network between two epochs."""

    parameters: Parameters
    first_moment: Parameters  # AdamW's running mean of gradients, empty before the first step
    second_moment: Parameters  # and of their squares
    steps: int = 0  # of the optimiser
    epoch: int = 0  # epochs done
    loss: float = math.nan  # mean loss of the samples in the last one
    best: Parameters = {}  # noqa: RUF012 - never changed; parameters of the best validation, where there is one
    score: float = math.inf  # their validation loss
    waited: int = 0  # epochs since
    parts: int = 1  # into which each batch is cut


class Data(NamedTuple):
    """What all networks of a model train on; the tensors lie on the device."""

    inputs: Tensor  # (A * T, F) standardised, 0 where undefined
    target: Tensor  # (A * T,) in the head's units, 0 where there is no sample
    weight: Tensor  # (A * T,) by recency
    samples: BoolArray  # (A, T) that train
    validation: BoolArray  # (A, T) that judge, none where training never ends early


def started(parameters: Parameters) -> Fit:
    """A fit before its first epoch."""
    return Fit(parameters, {}, {})


def is_over(fit: Fit, epochs: int, patience: int) -> bool:
    """Whether all epochs are done, or `patience` of them brought no better validation."""
    return fit.epoch >= epochs or 0 < patience <= fit.waited


def outcome(fit: Fit) -> Parameters:
    """The parameters to keep: those of the best validation, or the last ones where nothing is validated."""
    return fit.best or fit.parameters


def epoch(fit: Fit, data: Data, config: Forecaster, epochs: int, streams: Streams) -> Fit:
    """The fit after one more of its `epochs` passes over all samples.

    streams: what orders the chunks and draws the latent codes. Raises DivergedError where the loss or a parameter is no
    finite number any more.
    """
    shuffle, draws = streams
    net = vlstm.from_parameters(fit.parameters, data.inputs.shape[1], config.network, str(data.inputs.device))
    optimiser = _optimiser(net, fit, config)
    plan = windows.chunks(data.samples, config.training.chunk, shuffle)
    total = torch.zeros((), dtype=torch.float64, device=data.inputs.device)
    for start in range(0, len(plan), config.training.batch):
        part = plan[start : start + config.training.batch]
        noise = torch.randn((int(part[:, 2].sum()), config.network.latent), generator=draws)
        optimiser.param_groups[0]["lr"] = learning_rate(config.training, (fit.epoch + start / len(plan)) / epochs)
        value, fit = _step(net, optimiser, data, part, noise, config, fit)
        total += value * len(noise)
    taken = _taken(fit, net, optimiser, float(total) / int(data.samples.sum()))
    if not is_finite(taken):
        broken = _broken(taken)
        what = f"and {broken[0]} is not finite" if broken else "and no step leads on from there"
        raise DivergedError(f"the loss of epoch {taken.epoch} is {taken.loss:g}, {what}")
    return validated(taken, data, config)


def is_finite(fit: Fit) -> bool:
    """Whether the loss and all parameters are finite numbers."""
    return math.isfinite(fit.loss) and not _broken(fit)


def _broken(fit: Fit) -> list[str]:
    """Names of parameters that are not."""
    return sorted(name for name, values in fit.parameters.items() if not np.isfinite(values).all())


def learning_rate(training: TrainingConfig, done: float) -> float:
    """Rate of a step when the share `done` of all epochs is over: half a cosine from the full rate to 0, or constant.

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, equation 5.
    """
    share = 0.5 * (1 + math.cos(math.pi * done)) if training.schedule == "cosine" else 1.0
    return training.learning_rate * share


def _optimiser(net: VLSTM, fit: Fit, config: Forecaster) -> torch.optim.Optimizer:
    """AdamW as it was after the last epoch."""
    training = config.training
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    for name, parameter in net.named_parameters() if fit.steps else ():
        optimiser.state[parameter] = {
            "step": torch.tensor(float(fit.steps), device=parameter.device),
            "exp_avg": torch.tensor(fit.first_moment[name], device=parameter.device),
            "exp_avg_sq": torch.tensor(fit.second_moment[name], device=parameter.device),
        }
    return optimiser


def _taken(fit: Fit, net: VLSTM, optimiser: torch.optim.Optimizer, mean_loss: float) -> Fit:
    """The fit with what the network and the optimiser have become."""
    moments = {
        kind: {
            name: np.array(optimiser.state[value][kind].cpu().numpy(), np.float32, order="C")
            for name, value in net.named_parameters()
        }
        for kind in ("exp_avg", "exp_avg_sq")
    }
    steps = int(next(iter(optimiser.state.values()))["step"])
    changed = {"parameters": vlstm.parameters(net), "steps": steps, "epoch": fit.epoch + 1, "loss": mean_loss}
    return fit._replace(first_moment=moments["exp_avg"], second_moment=moments["exp_avg_sq"], **changed)


def validated(fit: Fit, data: Data, config: Forecaster) -> Fit:
    """The fit with its validation, where there are samples for one."""
    if not data.validation.any():
        return fit
    net = vlstm.from_parameters(fit.parameters, data.inputs.shape[1], config.network, str(data.inputs.device))
    score = _score(net, data, config, fit.parts)
    if score < fit.score:
        return fit._replace(best=fit.parameters, score=score, waited=0)
    return fit._replace(waited=fit.waited + 1)


def _score(net: VLSTM, data: Data, config: Forecaster, parts: int) -> float:
    """Mean negative log density of the validation samples."""
    samples, mean, log_scale2 = seen(net, data, data.validation, config, parts)
    return float(loss.nll(data.target[samples], mean, log_scale2, config.network).double().mean())


@torch.inference_mode()
def seen(net: VLSTM, data: Data, which: BoolArray, config: Forecaster, parts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flat index, mean and log scale^2 of the samples in `which` (A, T), each with the mean of its latent code.

    parts: into which a batch is cut to fit into memory, as for training.
    """
    plan, found = windows.chunks(which, config.training.chunk, np.random.default_rng(0)), []
    size = max(1, config.training.batch * (1 if data.inputs.device.type == "cpu" else WIDER) // parts)
    for start in range(0, len(plan), size):
        part = plan[start : start + size]
        noise = torch.zeros((int(part[:, 2].sum()), config.network.latent))
        found.append(_outputs(net, data, part, noise, config)[:3])
    samples, mean, log_scale2 = (torch.cat(values) for values in zip(*found, strict=True))
    return samples, mean, log_scale2


def _step(
    net: VLSTM,
    optimiser: torch.optim.Optimizer,
    data: Data,
    plan: IntArray,
    noise: Tensor,
    config: Forecaster,
    fit: Fit,
) -> tuple[Tensor, Fit]:
    """One step on a batch of chunks: its loss, and the fit with as many parts as memory made necessary."""
    while True:
        optimiser.zero_grad()
        try:
            value = _gradients(net, data, plan, noise, config, fit)
            break
        except (RuntimeError, MemoryError) as error:
            if fit.parts >= len(plan) or not is_out_of_memory(error):
                raise
        fit = fit._replace(parts=2 * fit.parts)
    torch.nn.utils.clip_grad_norm_(net.parameters(), config.training.clip_norm)
    optimiser.step()
    return value, fit


def has_bf16(device: torch.device) -> bool:
    """Whether a network can be computed in bf16 there; torch's LSTM cannot on a processor without AVX-512."""
    return device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or numpy found too little memory, on the CPU or on the GPU."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _gradients(net: VLSTM, data: Data, plan: IntArray, noise: Tensor, config: Forecaster, fit: Fit) -> Tensor:
    """Loss of the batch, its gradients added up over the parts."""
    total, done = torch.zeros((), device=data.inputs.device), 0
    kl = loss.kl_weight(config.loss, fit.epoch)
    for part in np.array_split(plan, min(fit.parts, len(plan))):
        count = int(part[:, 2].sum())
        samples, *outputs = _outputs(net, data, part, noise[done : done + count], config)
        target, weight = data.target[samples], data.weight[samples]
        value = loss.loss(target, weight, *outputs, config.loss, config.network, kl) * (count / len(noise))
        value.backward()
        total += value.detach()
        done += count
    return total


def _outputs(
    net: VLSTM, data: Data, plan: IntArray, noise: Tensor, config: Forecaster
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Samples of the chunks, then mean, log scale^2 and the latent code's mean and log variance of each, in float32."""
    device = data.inputs.device
    batch = windows.batch(plan, config.features.lookback, config.training.chunk, data.samples.shape[1])
    rows, states, samples = (torch.from_numpy(index).to(device) for index in batch)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.training.precision == "bf16" and has_bf16(device)):
        encoded = net.encode(data.inputs[rows]).flatten(0, 1).index_select(0, states)
        z_mean, z_log_variance = net.code(encoded)
        mean, log_scale2 = net.decode(vlstm.reparameterise(z_mean, z_log_variance, noise.to(device)), encoded)
    return samples, mean.float(), log_scale2.float(), z_mean.float(), z_log_variance.float()
