"""Many networks fitted at once, for accelerators: what a single one gives them to do is over before it has begun.

The networks lie in lanes, each with its own data, random numbers, steps and moments of AdamW; none sees another. Every
sum and every step is the one of `fitting.epoch`, from the same random numbers: both differ by rounding alone. A batch
has the same shape whoever is in it: lanes that are not needed stay empty, and one that has seen all its samples waits
for the others. So a network's bytes do not depend on which others are fitted beside it. On CUDA a step is recorded once
and replayed, since its thousands of small kernels take longer to ask for than to run; while it is recorded no other
thread may use the device.

Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2 (AdamW).
"""
# Shapes: G = lanes, B = chunks of a batch, L = lookback, C = windows of a chunk, S = L - 1 + C sessions of a chunk,
# N = B * C samples of a batch, F = features, H = hidden units, J = latent dimensions, P = parameters of a network.

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.numerics import fitting, loss, recurrence, vlstm, windows
from tasks.numerics.configs import Forecaster, TrainingConfig
from tasks.numerics.fitting import Data, Fit, Streams
from tasks.numerics.windows import FloatArray, IntArray

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW, as torch has them
ROOM = 2**25  # hidden units x sessions of a batch in all lanes: some 3 GiB


class Lane(NamedTuple):
    """A network to be fitted."""

    fit: Fit
    data: Data
    streams: Callable[[int], Streams]  # random numbers of an epoch


class _Learning(NamedTuple):
    """What changes from step to step, in place."""

    parameters: Tensor  # (G, P)
    first_moment: Tensor  # (G, P)
    second_moment: Tensor  # (G, P)
    steps: Tensor  # (G,) float32
    total: Tensor  # (G,) float64, loss of the epoch's samples so far


class _Batch(NamedTuple):
    """What one step is made on; a lane without samples stays as it is."""

    plan: Tensor  # (G, B, 3) as `windows.chunks` gives it; chunks without samples fill it up
    rate: Tensor  # (G,) float32, the learning rate
    noise: Tensor  # (G, N, J) of the samples in order
    kl: Tensor  # (), weight of the Kullback-Leibler term


class _Panels(NamedTuple):
    """The data of all lanes, one after the other."""

    inputs: Tensor  # (R, F)
    target: Tensor  # (R,)
    weight: Tensor  # (R,)
    first: Tensor  # (G, 1) row of the first session of each lane's first asset
    sessions: Tensor  # (G, 1) columns of each lane's panel


def lanes(config: Forecaster, device: str) -> int:
    """How many networks are fitted at once on a device: 1 where that does not pay, as on a processor."""
    training = config.training
    if device == "cpu" or training.precision != "fp32":
        return 1
    return max(1, ROOM // (config.network.hidden * training.batch * (config.features.lookback - 1 + training.chunk)))


def fit(
    asked: Sequence[Lane], config: Forecaster, epochs: int, count: int, after: Callable[[dict[int, Fit]], None]
) -> None:
    """Fit all to the end of their epochs, or as far as they come: before one leaves the finite numbers, or all memory.

    count: lanes, as `lanes` gives them. after: is given the fits of an epoch by their places in `asked`.
    """
    order = sorted(range(len(asked)), key=lambda place: asked[place].fit.epoch)
    for _, same in groupby(order, key=lambda place: asked[place].fit.epoch):
        places = list(same)
        for begin in range(0, len(places), count):
            part = places[begin : begin + count]
            try:
                for fits in _epochs([asked[place] for place in part], config, epochs, count):
                    after({part[place]: fit for place, fit in fits.items()})
            except (RuntimeError, MemoryError) as error:
                if not fitting.is_out_of_memory(error):
                    raise
                return


def _epochs(asked: Sequence[Lane], config: Forecaster, epochs: int, count: int) -> Iterator[dict[int, Fit]]:
    """The fits, by place, after each epoch that they end with finite numbers; all have done as many before."""
    work, active = _Work(asked, config, count), {place: lane.fit for place, lane in enumerate(asked)}
    while True:
        active = {k: fit for k, fit in active.items() if not fitting.is_over(fit, epochs, config.training.patience)}
        if not active:
            return
        active = {place: fit for place, fit in work.epoch(active, epochs).items() if fitting.is_finite(fit)}
        yield active


class _Work:
    """Lanes of one shape, and the step that all of them take."""

    def __init__(self, asked: Sequence[Lane], config: Forecaster, count: int) -> None:
        training, device = config.training, asked[0].data.inputs.device
        self._asked, self._config, self._device = asked, config, device
        self._runs = {id(lane.data): windows.runs(lane.data.samples) for lane in asked}
        self._shapes = vlstm.shapes(asked[0].data.inputs.shape[1], config.network)
        self._learning = _learning([lane.fit for lane in asked], tuple(self._shapes), count, device)
        self._batch = _Batch(
            torch.zeros((count, training.batch, 3), dtype=torch.int64, device=device),
            torch.zeros(count, device=device),
            torch.zeros((count, training.batch * training.chunk, config.network.latent), device=device),
            torch.zeros((), device=device),
        )
        self._panels = _panels([lane.data for lane in asked], count)  # kept: a recorded step holds addresses only
        self._steps = _steps(partial(_step, self._learning, self._panels, self._batch, config), device)

    def epoch(self, active: dict[int, Fit], epochs: int) -> dict[int, Fit]:
        """The fits after one more epoch, by place; the lanes that are not active stay as they are."""
        training, done = self._config.training, next(iter(active.values())).epoch
        streams = {place: self._asked[place].streams(done) for place in active}
        plans = {
            place: windows.chunks_of(self._runs[id(self._asked[place].data)], training.chunk, shuffle)
            for place, (shuffle, _) in streams.items()
        }
        self._learning.total.zero_()
        self._batch.kl.fill_(loss.kl_weight(self._config.loss, done))
        schedule = _schedule(plans, len(self._batch.rate), training, done, epochs)
        with ThreadPoolExecutor() as pool:
            for at, (plan, rate) in enumerate(zip(*(values.to(self._device) for values in schedule), strict=True)):
                self._batch.plan.copy_(plan)
                self._batch.rate.copy_(rate)
                self._batch.noise.copy_(self._noise(pool, at * training.batch, plans, streams), non_blocking=True)
                next(self._steps)
        return self._taken(active)

    def _noise(
        self, pool: ThreadPoolExecutor, begin: int, plans: dict[int, IntArray], streams: dict[int, Streams]
    ) -> Tensor:
        """Latent draws of a batch, of each lane from its own generator: (G, N, J), arbitrary where there are none."""
        noise = torch.empty(self._batch.noise.shape, pin_memory=self._device.type == "cuda")

        def draw(place: int) -> None:
            number = int(plans[place][begin : begin + self._config.training.batch, 2].sum())
            if number:
                torch.randn((number, noise.shape[2]), generator=streams[place][1], out=noise[place, :number])

        list(pool.map(draw, plans))
        return noise

    def _taken(self, active: dict[int, Fit]) -> dict[int, Fit]:
        """The active fits with what their lanes have become."""
        *rows, steps, total = (values.cpu().numpy() for values in self._learning)
        found = {}
        for place, fit in active.items():
            data, known = self._asked[place].data, {"steps": int(steps[place]), "epoch": fit.epoch + 1}
            for kind, values in zip(("parameters", "first_moment", "second_moment"), rows, strict=True):
                known[kind] = _named(self._shapes, values[place])
            known["loss"] = float(total[place]) / int(data.samples.sum())
            found[place] = fitting.validated(fit._replace(**known), data, self._config)
        return found


def _steps(step: Callable[[], None], device: torch.device) -> Iterator[None]:
    """Takes a step each time it is asked: on CUDA the first as it is written, the others as they were recorded."""
    if device.type == "cuda":
        before, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(before)
        with torch.cuda.stream(beside):  # where torch wants what comes before a recording
            step()
        before.wait_stream(beside)
        yield
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        step = graph.replay
    while True:
        step()
        yield


def _learning(fits: Sequence[Fit], names: Sequence[str], count: int, device: torch.device) -> _Learning:
    """The fits in the first lanes, their arrays in the order of `names`; zeros in the others."""

    def stacked(kind: str) -> Tensor:
        rows = np.zeros((count, sum(value.size for value in fits[0].parameters.values())), np.float32)
        for row, fit in zip(rows, fits, strict=False):
            values = getattr(fit, kind)
            row[:] = np.concatenate([values[name].ravel() for name in names]) if values else 0.0
        return torch.from_numpy(rows).to(device)

    steps = torch.zeros(count, device=device)
    steps[: len(fits)] = torch.tensor([float(fit.steps) for fit in fits])
    total = torch.zeros(count, dtype=torch.float64, device=device)
    return _Learning(stacked("parameters"), stacked("first_moment"), stacked("second_moment"), steps, total)


def _named(shapes: dict[str, tuple[int, ...]], row: FloatArray) -> vlstm.Parameters:
    """A row of parameters, or of their moments, by name."""
    parts = np.split(row, np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
    return {name: part.reshape(shape).copy() for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _panels(data: Sequence[Data], count: int) -> _Panels:
    """The data of the lanes, those that several share once; a lane that is not needed has the first's."""
    apart = list({id(own): own for own in data}.values())
    inputs, target, weight = (torch.cat([own[k] for own in apart]) for k in range(3))
    begins = np.cumsum([0, *(own.samples.size for own in apart)])
    begin = {id(own): int(first) for own, first in zip(apart, begins, strict=False)}
    everyone = [*data, *[data[0]] * (count - len(data))]
    place = torch.tensor([[begin[id(own)], own.samples.shape[1]] for own in everyone], device=inputs.device)
    return _Panels(inputs, target, weight, place[:, :1], place[:, 1:])


def _schedule(
    plans: dict[int, IntArray], count: int, training: TrainingConfig, done: int, epochs: int
) -> tuple[Tensor, Tensor]:
    """The plans in batches (steps, G, B, 3), and learning rates (steps, G), of an epoch after `done` others."""
    size = training.batch
    number = max(-(-len(plan) // size) for plan in plans.values())
    cut, rate = np.zeros((number * size, count, 3), np.int64), np.zeros((number, count), np.float32)
    for place, plan in plans.items():
        cut[: len(plan), place] = plan
        for start in range(0, len(plan), size):
            rate[start // size, place] = fitting.learning_rate(training, (done + start / len(plan)) / epochs)
    cut = cut.reshape(number, size, count, 3).swapaxes(1, 2)
    return torch.from_numpy(np.ascontiguousarray(cut)), torch.from_numpy(rate)


def _step(learning: _Learning, panels: _Panels, batch: _Batch, config: Forecaster) -> None:
    """One step of every lane that has samples in the batch."""
    flat = learning.parameters.detach().requires_grad_()
    count = batch.plan[..., 2].sum(dim=1)
    value = _loss(flat, panels, batch, count, config)
    (gradient,) = torch.autograd.grad(value.sum(), flat)
    learning.total.add_(value.detach() * count)
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    clipped = gradient * (config.training.clip_norm / (norm + 1e-6)).clamp(max=1.0)
    _adamw(learning, clipped, batch.rate[:, None], (count > 0)[:, None], config.training.weight_decay)


def _adamw(learning: _Learning, gradient: Tensor, rate: Tensor, taking: Tensor, decay: float) -> None:
    """One step of AdamW in the lanes that take one: gradient (G, P), rate and taking (G, 1)."""
    parameters, first, second, steps, _ = learning
    steps.add_(taking[:, 0])
    taken = steps.clamp(min=1)[:, None]  # an empty lane takes none, and is divided by no zero
    first.copy_(torch.where(taking, first.lerp(gradient, 1 - BETAS[0]), first))
    second.copy_(torch.where(taking, BETAS[1] * second + (1 - BETAS[1]) * gradient**2, second))
    root = (second / (1 - BETAS[1] ** taken)).sqrt() + EPSILON
    # the rate of a lane that takes no step is 0
    parameters.mul_(1 - rate * decay).sub_(rate / (1 - BETAS[0] ** taken) * first / root)


def _loss(flat: Tensor, panels: _Panels, batch: _Batch, count: Tensor, config: Forecaster) -> Tensor:
    """Loss of the samples of each lane (G,), 0 where it has none: parameters (G, P), samples in all (G,)."""
    chunk, lookback = config.training.chunk, config.features.lookback
    asset, first, samples = batch.plan.unbind(-1)  # (G, B) each
    columns = first[:, None] + torch.arange(1 - lookback, chunk, device=flat.device)[:, None]  # (G, S, B)
    begin = (panels.first + asset * panels.sessions)[:, None]
    rows = begin + columns.clamp(min=0).minimum(panels.sessions[..., None] - 1)
    values = _values(flat, panels.inputs.shape[1], config)
    states = _states(values, panels.inputs[rows])[:, lookback - 1 :].flatten(1, 2)
    within = torch.arange(chunk, device=flat.device)[:, None]
    used = (within < samples[:, None]).flatten(1)  # (G, C * B), as all below
    drawn = (within + (samples.cumsum(1) - samples)[:, None]).flatten(1).clamp(max=batch.noise.shape[1] - 1)
    noise = batch.noise.gather(1, drawn[..., None].expand(-1, -1, batch.noise.shape[2]))
    outputs = _outputs(values, states, torch.where(used[..., None], noise, 0.0))
    own, share = rows[:, lookback - 1 :].flatten(1), used / count.clamp(min=1)[:, None]
    target, weight = panels.target[own], panels.weight[own]
    shapes = config.loss, config.network, batch.kl
    return loss.loss(target, weight, *outputs, *shapes, averaged=lambda each: (each * share).sum(dim=1))


def _values(flat: Tensor, n_features: int, config: Forecaster) -> dict[str, Tensor]:
    """The parameters by name, each with the lanes as its first axis."""
    shapes = vlstm.shapes(n_features, config.network)
    parts = flat.split([math.prod(shape) for shape in shapes.values()], dim=1)
    return {name: part.unflatten(1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _states(values: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """States after each session: (G, S, B, F) to (G, S, B, H), from a zero state."""
    bias = values["encoder.bias_ih_l0"] + values["encoder.bias_hh_l0"]
    gates = torch.baddbmm(bias[:, None], inputs.flatten(1, 2), values["encoder.weight_ih_l0"].transpose(1, 2))
    return recurrence.states(gates.unflatten(1, inputs.shape[1:3]), values["encoder.weight_hh_l0"])


def _outputs(values: dict[str, Tensor], states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, log scale^2, and mean and log variance of the latent code: states (G, N, H), noise (G, N, J)."""

    def linear(name: str, inputs: Tensor) -> Tensor:
        return torch.baddbmm(values[f"{name}.bias"][:, None], inputs, values[f"{name}.weight"].transpose(1, 2))

    z_mean, z_log_variance = linear("z_mean", states), linear("z_log_variance", states)
    inner = linear("decoder", vlstm.reparameterise(z_mean, z_log_variance, noise))
    if "direct.weight" in values:
        inner = torch.baddbmm(inner, states, values["direct.weight"].transpose(1, 2))
    mean, log_scale2 = linear("output", torch.relu(inner)).unbind(-1)
    return mean, log_scale2.clamp(-vlstm.LOG_SCALE_LIMIT, vlstm.LOG_SCALE_LIMIT), z_mean, z_log_variance
