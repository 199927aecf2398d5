"""Section *training*: chunks of one panel against windows copied out of it, which is how the model is usually written.

    ours      `fitting.epoch` on the data that `training.train` makes: all of it, from parameters to parameters
    baseline  a plain torch transcription of the founding document's model: every window an array of its own, batches
              of 1,024 shuffled windows, LSTM, last state, one draw, decoder, the same loss, Adam
    peer      an LSTM of a library, where it is installed: `peers.py`
    floor     share of this machine's fp32 matrix product that ours reaches; of what it multiplies, 3 x the forward pass

Both see the same synthetic returns through the real features, in float32 and one thread, and train the same model: the
document's. The rows "default head" are the head and likelihood that PRISM has unless told otherwise, which do more for
each window, against the same baseline.
"""
# Shapes: A = assets, T = sessions, F = features, L = lookback, N = windows, J = latent dimensions.

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tasks.numerics import features, fitting, training, windows
from tasks.numerics.configs import Forecaster, LossConfig, TrainingConfig, VLSTMConfig
from tasks.numerics.fitting import Data
from tasks.numerics.windows import History
from tests.benchmarks import frame, peers
from tests.benchmarks.frame import Row, Section

NAME, UNIT = "training", "windows/CPU-s"
SMALL, LARGE = (9, 978), (109, 4000)  # (A, T)
WINDOWS = 1024  # in a batch of the baseline
STAMP = 735_000  # ordinal of an as-of date
GEMM = (128, 128, 512)  # the matrix product that stands for the machine's speed
GEMMS = 300  # of them in a turn
DOCUMENT = {"head": "document", "likelihood": "gaussian"}
MEMORY = "peak memory, 109 assets x 4,000 sessions"


class Size(NamedTuple):
    """One size of the network, and how long a turn of it is."""

    hidden: int
    latent: int
    least: float  # ratio wanted
    epochs: int  # of ours in a turn
    batches: int  # of the baseline in a turn
    turns: int


SIZES = (Size(32, 8, 30, 5, 4, 15), Size(128, 64, 20, 2, 2, 5), Size(256, 128, 20, 1, 2, 3))


# --- the same input for both


def history(shape: tuple[int, int], seed: int = 0) -> History:
    """Assets with a common factor, fat tails and slowly moving volatility, through the real features without volume."""
    rng, config = np.random.default_rng(seed), Forecaster().features
    level = 0.01 * np.exp(0.3 * np.sin(np.arange(shape[1]) / 60))
    market = 3e-4 + level * rng.standard_normal(shape[1])
    log_return = rng.uniform(0.5, 1.5, (shape[0], 1)) * market + level * rng.standard_t(5, shape)
    log_return[:, 0] = market[0] = np.nan
    names = features.names(config, has_volume=False)
    values = np.empty((*shape, len(names)), np.float32)
    for asset, own in enumerate(log_return):
        values[asset] = features.compute(features.Series(own, None, None, None, None, market), names, config)
    return History(
        features=values,
        log_return=log_return,
        ewma_variance=np.stack([features.ewma_variance(own) for own in log_return]),
        session=np.tile(np.arange(shape[1]), (shape[0], 1)),
        last_session=shape[1] - 1,
    )


def configured(hidden: int, latent: int, batch: int = TrainingConfig().batch, **network: str) -> Forecaster:
    """The default configs, with one network of this size."""
    shape = VLSTMConfig(hidden=hidden, latent=latent, **network)
    return Forecaster(network=shape, training=TrainingConfig(ensemble=1, batch=batch))


def started(known: History, config: Forecaster, device: str = "cpu") -> tuple[fitting.Fit, Data]:
    """A fit before its first epoch, and what it trains on."""
    model = training._untrained(known, config, STAMP)
    return fitting.started(model.parameters[0]), training._data(model, known, config, device)


# --- the baseline


class Transcription(nn.Module):
    """The founding document's model: whole windows in, the forecast of their last state out."""

    def __init__(self, n_features: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)
        self.z_mean = nn.Linear(hidden, latent)
        self.z_log_variance = nn.Linear(hidden, latent)
        self.decoder = nn.Linear(latent, hidden)
        self.output = nn.Linear(hidden, 2)

    def forward(self, inputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Windows (N, L, F) and noise (N, J) to mean and log variance (N,), and those of the code (N, J)."""
        state = self.lstm(inputs)[1][0][-1]
        z_mean, z_log_variance = self.z_mean(state), self.z_log_variance(state)
        z = z_mean + torch.exp(z_log_variance / 2) * noise
        output = self.output(torch.relu(self.decoder(z)))
        return output[:, 0], output[:, 1].clamp(-10, 10), z_mean, z_log_variance


def plain_loss(outputs: tuple[Tensor, ...], target: Tensor, weight: Tensor, config: LossConfig) -> Tensor:
    """The document's loss of a batch, written out."""
    mean, log_variance, z_mean, z_log_variance = outputs
    likelihood = weight * (log_variance / 2 + (target - mean) ** 2 / (2 * torch.exp(log_variance)))
    latent = -(1 + z_log_variance - z_mean**2 - torch.exp(z_log_variance)).sum(dim=1) / 2
    direction = torch.clamp(-torch.tanh(target) * torch.tanh(mean), min=0)
    return (likelihood + config.kl_weight * latent + config.direction_weight * direction).mean()


def materialised(data: Data, lookback: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every training window as an array of its own (N, L, F), with its target and weight (N,)."""
    panel = data.inputs.numpy().reshape(*data.samples.shape, -1)
    asset, last = np.nonzero(data.samples)
    # from a view of all windows, so that each is copied once and nothing else of that size is made
    every = np.lib.stride_tricks.sliding_window_view(panel, lookback, axis=1).swapaxes(2, 3)
    chosen = torch.from_numpy(np.ascontiguousarray(every[asset, last - lookback + 1]))
    samples = torch.from_numpy(np.flatnonzero(data.samples))
    return chosen, data.target[samples], data.weight[samples]


def plainly(config: Forecaster, data: Data, batches: int) -> Callable[[], None]:
    """Training of the transcription, `batches` batches at a call."""
    inputs, target, weight = materialised(data, config.features.lookback)
    net = Transcription(inputs.shape[2], config.network.hidden, config.network.latent)
    optimiser = torch.optim.Adam(net.parameters(), lr=config.training.learning_rate)

    def work() -> None:
        for chosen in torch.randperm(len(inputs))[: batches * WINDOWS].split(WINDOWS):
            optimiser.zero_grad()
            noise = torch.randn(len(chosen), config.network.latent)
            plain_loss(net(inputs[chosen], noise), target[chosen], weight[chosen], config.loss).backward()
            optimiser.step()

    return work


# --- ours, and the floor


def streams(epoch: int) -> fitting.Streams:
    """The random numbers of an epoch, the same in every turn."""
    return training.generators(0, 0, STAMP, training.TRAIN, epoch)


def by_chunks(config: Forecaster, known: History, epochs: int, device: str = "cpu") -> tuple[Callable[[], None], Data]:
    """Training of a fresh network, `epochs` epochs at a call, and what it trains on."""
    first, data = started(known, config, device)

    def work() -> None:
        fit = first
        for epoch in range(epochs):
            fit = fitting.epoch(fit, data, config, config.training.epochs, streams(epoch))

    return work, data


def products(rows: int, inner: int, columns: int) -> Callable[[], None]:
    """`GEMMS` matrix products of fp32."""
    left, right, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)

    def work() -> None:
        for _ in range(GEMMS):
            torch.mm(left, right, out=out)

    return work


def operations(config: Forecaster, samples: windows.BoolArray, n_features: int, epochs: int) -> float:
    """Multiplications and additions of the matrix products in `epochs` epochs, forward and twice that backward."""
    hidden, latent, chunk = config.network.hidden, config.network.latent, config.training.chunk
    sequences = sum(len(windows.chunks(samples, chunk, streams(epoch)[0])) for epoch in range(epochs))
    steps = sequences * (config.features.lookback - 1 + chunk)
    direct = hidden * hidden if config.network.head == "residual" else 0
    heads = 3 * hidden * latent + 2 * hidden + direct
    forward = 2 * (steps * 4 * hidden * (n_features + hidden) + epochs * int(samples.sum()) * heads)
    return 3.0 * forward


# --- memory, each in a process of its own


def train_by_chunks() -> None:
    """A whole training with the default configs but one member and one epoch."""
    config = replace(Forecaster(), training=TrainingConfig(epochs=1, ensemble=1))
    training.train(history(LARGE), config, STAMP)


def train_plainly() -> None:
    """One batch of the transcription, after all windows were made."""
    config = configured(VLSTMConfig().hidden, VLSTMConfig().latent, **DOCUMENT)
    torch.set_num_threads(config.training.threads)
    _, data = started(history(LARGE), config)
    plainly(config, data, batches=1)()


def nothing() -> None:
    """What the imports alone take."""


# --- the section


def section() -> Section:
    """Speed for three sizes of network, and the peak memory of a large panel."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    known = history(SMALL)
    found = [_of_size(size, known) for size in SIZES]
    memory, note = _memory()
    least = {row.case: size.least for size, (rows, _) in zip(SIZES, found, strict=True) for row in rows}
    return Section(
        NAME,
        (
            "chunks of one panel (ours) against materialised windows, batches of 1,024 (baseline); fp32, one thread, "
            f"{SMALL[0]} assets x {SMALL[1]} sessions; floor is the share of the GEMM speed that ours reaches",
            *(text for _, text in found),
            peers.note(
                "the peer sees as many windows in a batch, of the same features, sessions and width, beside ours "
                "with the default head"
            ),
            note,
        ),
        (*(row for rows, _ in found for row in rows), *(row for size in SIZES for row in _peer(size, known)), memory),
        least,
        {MEMORY: 700},
    )


def _of_size(size: Size, known: History) -> tuple[tuple[Row, ...], str]:
    """The rows of one size of network, and the speeds of the matrix product."""
    document = configured(size.hidden, size.latent, **DOCUMENT)
    variants = {
        f"hidden {size.hidden}": document,
        f"hidden {size.hidden}, 128 chunks": configured(size.hidden, size.latent, batch=128, **DOCUMENT),
        f"hidden {size.hidden}, default head": configured(size.hidden, size.latent),
    }
    _, data = started(known, document)
    own = (document.training.batch, size.hidden, 4 * size.hidden)
    seconds = frame.interleaved(
        {"baseline": plainly(document, data, size.batches), "gemm": products(*GEMM), "own": products(*own)}
        | {case: by_chunks(config, known, size.epochs)[0] for case, config in variants.items()},
        size.turns,
    )
    gemm, gemm_own = (2 * GEMMS * np.prod(shape) / seconds[name] for shape, name in ((GEMM, "gemm"), (own, "own")))
    plain, count = size.batches * WINDOWS / seconds["baseline"], size.epochs * int(data.samples.sum())
    rows = tuple(
        frame.speed(
            NAME,
            case,
            count / seconds[case],
            plain,
            UNIT,
            operations(config, data.samples, data.inputs.shape[1], size.epochs) / seconds[case] / gemm,
        )
        for case, config in variants.items()
    )
    return rows, (
        f"hidden {size.hidden}: GEMM {gemm / 1e9:.0f} GFLOP/s at {_product(GEMM)}, "
        f"{gemm_own / 1e9:.0f} at the network's own {_product(own)}"
    )


def _peer(size: Size, known: History) -> list[Row]:
    """Ours with the default head beside the library's network of this size, where it is installed."""
    config = configured(size.hidden, size.latent)
    theirs = peers.training(known, config, size.batches)
    if not theirs:
        return []
    work, data = by_chunks(config, known, size.epochs)
    seconds = frame.interleaved({"ours": work} | theirs, size.turns)
    ours = size.epochs * int(data.samples.sum()) / seconds["ours"]
    plain = size.batches * peers.WINDOWS / seconds[peers.NAME]
    return [frame.speed(NAME, f"hidden {size.hidden}, {peers.NAME}", ours, plain, UNIT)]


def _product(shape: tuple[int, int, int]) -> str:
    """A matrix product in words."""
    return f"({shape[0]}, {shape[1]}) @ ({shape[1]}, {shape[2]})"


def _memory() -> tuple[Row, str]:
    """Peak memory of a large panel, and what of it the imports and the windows alone are."""
    ours, plain, base = (frame.peak_memory(__name__, name) for name in ("train_by_chunks", "train_plainly", "nothing"))
    n_features = len(features.names(Forecaster().features, has_volume=False))
    alone = np.prod(LARGE) * Forecaster().features.lookback * n_features * 4 / 2**20
    note = f"memory: of both, {base:.0f} MiB are imports; all materialised windows alone are {alone:.0f} MiB"
    return frame.cost(NAME, MEMORY, ours, plain, "MiB"), note
