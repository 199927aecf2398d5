"""How the Variational LSTM is fitted at an as-of date, and refreshed at later ones.

    theta = argmin over theta of the mean loss of all training samples at the date

by a fixed number of epochs of AdamW over chunks of windows. Without validation data: with daily data of a few assets
they are worth more as training data; where `patience` asks for them they are the newest sessions, a horizon apart.
Each member of the ensemble differs only by its random numbers. A refresh runs further epochs on all data up to its own
date, from the model's parameters; the standardisation and the pooled mean of labels stay the model's, so that
parameters keep their meaning.

All random numbers come from generators made of (seed, member, as-of date, purpose, epoch), on the CPU whatever the
device. The same machine and number of threads give the same bytes, stopped and continued or not.
"""
# Shapes: A = assets, T = own sessions, F = features.

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.numerics import abreast, fitting, tails, vlstm, windows
from tasks.numerics.abreast import Lane
from tasks.numerics.configs import Forecaster, TrainingConfig
from tasks.numerics.fitting import Data, Fit, Streams
from tasks.numerics.loss import recency_weights
from tasks.numerics.tails import GAUSSIAN, Tails
from tasks.numerics.windows import BoolArray, FloatArray, History

Watch = Callable[[tuple[Fit, ...]], None]  # called after every epoch with the fits of all members
WatchAll = Callable[[int, tuple[Fit, ...]], None]  # with a model's place and its fits

INPUT_LIMIT = 5.0  # standard deviations at which a standardised feature is clipped
INITIALISE, TRAIN, REFRESH, FORECAST = range(4)  # purposes of random numbers


class Model(NamedTuple):
    """A trained forecaster, in numpy only."""

    parameters: tuple[vlstm.Parameters, ...]  # one per member of the ensemble
    feature_mean: FloatArray  # (F,) of the training rows
    feature_std: FloatArray  # (F,)
    label_mean: float  # m0, pooled over the training labels
    tails: Tails = GAUSSIAN  # of (y - mean) / sigma, on the training samples


class Asked(NamedTuple):
    """A model that is wanted beside others."""

    history: History
    last_session: int  # to which it is known
    stamp: int  # ordinal of the as-of date
    parent: Model | None = None  # to be refreshed; without one a new model is trained
    begun: tuple[Fit, ...] | None = None  # what an interrupted training left


class _Job(NamedTuple):
    """What is fitted of a model."""

    data: Data
    fits: tuple[Fit, ...]  # before the next epoch
    stamp: int
    purpose: int

    def lane(self, member: int, config: Forecaster) -> Lane:
        streams = partial(generators, config.training.seed, member, self.stamp, self.purpose)
        return Lane(self.fits[member], self.data, streams)

    def epochs(self, training: TrainingConfig) -> int:
        return training.epochs if self.purpose == TRAIN else training.refresh_epochs


def set_threads(training: TrainingConfig) -> None:
    """Give torch the configured number of threads; another number gives other bytes. On a GPU, fp32 is fp32."""
    torch.backends.cudnn.allow_tf32 = False  # which would round what an LSTM multiplies to 10 bits
    if torch.get_num_threads() != training.threads:
        torch.set_num_threads(training.threads)


def generators(seed: int, member: int, stamp: int, purpose: int, epoch: int = 0) -> Streams:
    """Independent generators of numpy and torch for one member, as-of date, purpose and epoch."""
    sequence = np.random.SeedSequence((seed, member, stamp, purpose, epoch))
    state = int(sequence.generate_state(1, np.uint64)[0])
    return np.random.default_rng(sequence), torch.Generator().manual_seed(state)


def standardise(features: NDArray[np.float32], mean: FloatArray, std: FloatArray) -> NDArray[np.float32]:
    """Standard scores clipped at +-INPUT_LIMIT: (..., F), NaN stays NaN."""
    return np.clip((features - mean) / std, -INPUT_LIMIT, INPUT_LIMIT).astype(np.float32)


def train(
    history: History,
    config: Forecaster,
    stamp: int,
    device: str = "cpu",
    watch: Watch | None = None,
    resume: tuple[Fit, ...] | None = None,
) -> tuple[Model, tuple[Fit, ...]]:
    """A new model from all that `history` knows, and how the fit of each member ended.

    stamp: ordinal of the as-of date, for the random numbers. resume: fits that `watch` was given by a training of the
    same inputs that was stopped. Raises ValueError where no sample may train, and DivergedError.
    """
    fresh = _untrained(history, config, stamp)
    data = _data(fresh, history, config, device)
    fits = _fitted(_Job(data, _begun(fresh, resume), stamp, TRAIN), config, watch)
    model, parts = _of(fresh, fits), max(fit.parts for fit in fits)
    return model._replace(tails=tails.of(_residuals(model, data, config, parts))), fits


def refresh(
    model: Model,
    history: History,
    config: Forecaster,
    stamp: int,
    device: str = "cpu",
    resume: tuple[Fit, ...] | None = None,
) -> tuple[Model, tuple[Fit, ...]]:
    """The model after `refresh_epochs` more epochs on all that `history` knows, its tails as they were; as `train`."""
    fits, training = _begun(model, resume), config.training
    if not all(fitting.is_over(fit, training.refresh_epochs, training.patience) for fit in fits):
        fits = _fitted(_Job(_data(model, history, config, device), fits, stamp, REFRESH), config)
    return _of(model, fits), fits


def ahead(
    asked: Sequence[Asked], config: Forecaster, device: str, watch: WatchAll | None = None
) -> list[tuple[Fit, ...]]:
    """Fits of several models at once, to the end or as far as they come: `train` or `refresh` goes on from there.

    All are trained, or all refreshed; the bytes are those of each alone. Raises ValueError where no sample may train.
    """
    size, found = max(1, abreast.lanes(config, device) // config.training.ensemble), []
    with ThreadPoolExecutor() as pool:
        for begin in range(0, len(asked), size):
            jobs = list(pool.map(partial(_job, config=config, device=device), asked[begin : begin + size]))
            told = None if watch is None else lambda place, fits, begin=begin: watch(begin + place, fits)
            found += _abreast(jobs, config, told)
    return found


def baseline(history: History, config: Forecaster, stamp: int) -> Model:
    """What the network corrects, as a model of one network that says nothing else; its tails are fitted.

    With the residual head that is the EWMA variance about the pooled mean of the labels, with the document's head the
    labels' own mean and variance. Raises ValueError where no sample may train.
    """
    fresh = _untrained(history, config, stamp)
    data = _data(fresh, history, config, "cpu")
    known = data.target[torch.from_numpy(data.samples.ravel())].double()
    mean, variance = (0.0, 1.0) if config.network.head == "residual" else (float(known.mean()), float(known.var()))
    model = fresh._replace(parameters=(vlstm.constant(fresh.parameters[0], mean, variance, config.network),))
    return model._replace(tails=tails.of(_residuals(model, data, config, 1)))


def is_baseline(model: Model) -> bool:
    """Whether no network of the model says anything of its own: all outputs are constants."""
    return not any(values["output.weight"].any() for values in model.parameters)


def _samples(history: History, config: Forecaster) -> tuple[BoolArray, BoolArray]:
    """Samples that train, of which there must be one, and samples that validate: two (A, T)."""
    lookback, horizon, training = config.features.lookback, config.features.horizon, config.training
    samples = windows.newest(windows.training_samples(history, lookback, horizon), history, training.years)
    none = np.zeros_like(samples)
    used = windows.split(samples, history, horizon, training.validation_sessions) if training.patience else None
    samples, validation = used or (samples, none)
    if not samples.any():
        longest, needed = windows.lengths(history.session).max(initial=0), 2 * lookback + horizon
        if longest < needed or used is None:
            raise ValueError(
                f"no training sample: the longest asset has {longest} of {needed} own sessions; start later"
            )
        raise ValueError(
            f"no training sample: validation takes the newest {training.validation_sessions} sessions of all that may "
            "train; lower validation_sessions, or raise years"
        )
    return samples, validation


def _untrained(history: History, config: Forecaster, stamp: int) -> Model:
    """Fresh parameters, with the standardisation and the pooled mean of the training samples."""
    samples, _ = _samples(history, config)
    rows = history.features[windows.training_rows(samples, config.features.lookback)].astype(np.float64)
    labels = windows.targets(history.log_return, config.features.horizon)[samples]
    streams = (generators(config.training.seed, k, stamp, INITIALISE) for k in range(config.training.ensemble))
    parameters = tuple(vlstm.initialise(rows.shape[1], config.network, stream) for _, stream in streams)
    std = rows.std(axis=0)
    # a feature that never varies is left at 0 instead of divided by 0
    return Model(parameters, rows.mean(axis=0), np.where(std > 0, std, 1.0), float(labels.mean()))


def _data(model: Model, history: History, config: Forecaster, device: str) -> Data:
    """Standardised inputs, labels and weights of all samples, on the device."""
    samples, validation = _samples(history, config)
    labelled = samples | validation
    labels = windows.targets(history.log_return, config.features.horizon)[labelled]
    baseline = config.features.horizon * history.ewma_variance[labelled]
    target, weight = np.zeros(samples.shape, np.float32), np.zeros(samples.shape, np.float32)
    target[labelled] = vlstm.to_head_units(labels, baseline, model.label_mean, config.network)
    weight[samples] = recency_weights(history.last_session - history.session[samples], config.loss.recency)
    # undefined rows are read by short chunks only, whose states there are not used
    inputs = np.nan_to_num(standardise(history.features, model.feature_mean, model.feature_std))
    return Data(
        torch.from_numpy(inputs.reshape(-1, inputs.shape[2])).to(device),
        torch.from_numpy(target.ravel()).to(device),
        torch.from_numpy(weight.ravel()).to(device),
        samples,
        validation,
    )


def _job(asked: Asked, config: Forecaster, device: str) -> _Job:
    """What is fitted of a model that is asked for."""
    past = windows.cut(asked.history, asked.last_session)
    model = asked.parent or _untrained(past, config, asked.stamp)
    purpose = TRAIN if asked.parent is None else REFRESH
    return _Job(_data(model, past, config, device), _begun(model, asked.begun), asked.stamp, purpose)


def _begun(model: Model, resume: tuple[Fit, ...] | None) -> tuple[Fit, ...]:
    return resume or tuple(map(fitting.started, model.parameters))


def _of(model: Model, fits: tuple[Fit, ...]) -> Model:
    """The model with what its networks have become."""
    return model._replace(parameters=tuple(map(fitting.outcome, fits)))


def _fitted(job: _Job, config: Forecaster, watch: Watch | None = None) -> tuple[Fit, ...]:
    """The fits after all their epochs."""
    set_threads(config.training)
    fits, epochs = job.fits, job.epochs(config.training)
    if abreast.lanes(config, job.data.inputs.device.type) > 1:
        (fits,) = _abreast([job], config, None if watch is None else lambda _, fits: watch(fits))
    for member in range(len(fits)):
        lane = job.lane(member, config)
        while not fitting.is_over(fits[member], epochs, config.training.patience):
            fit = fitting.epoch(fits[member], job.data, config, epochs, lane.streams(fits[member].epoch))
            fits = (*fits[:member], fit, *fits[member + 1 :])
            if watch is not None:
                watch(fits)
    return fits


def _abreast(jobs: Sequence[_Job], config: Forecaster, watch: WatchAll | None) -> list[tuple[Fit, ...]]:
    """The fits of all jobs as far as they come, each network in a lane of its own."""
    set_threads(config.training)
    places = [(number, member) for number, job in enumerate(jobs) for member in range(len(job.fits))]
    found = [list(job.fits) for job in jobs]

    def after(fits: dict[int, Fit]) -> None:
        for place, fit in fits.items():
            number, member = places[place]
            found[number][member] = fit
        for number in {places[place][0] for place in fits} if watch is not None else ():
            watch(number, tuple(found[number]))

    lanes = [jobs[number].lane(member, config) for number, member in places]
    count = abreast.lanes(config, jobs[0].data.inputs.device.type)
    abreast.fit(lanes, config, jobs[0].epochs(config.training), count, after)
    return [tuple(fits) for fits in found]


def _residuals(model: Model, data: Data, config: Forecaster, parts: int) -> FloatArray:
    """(y - mean) / sigma of every training sample, by the pooled networks: (N,)."""
    found, samples = [], torch.empty(0)
    for values in model.parameters:
        net = vlstm.from_parameters(values, model.feature_mean.size, config.network, str(data.inputs.device))
        samples, mean, log_scale2 = fitting.seen(net, data, data.samples, config, parts)
        found.append((mean.double(), log_scale2.double().exp() * vlstm.variance_of_scale(config.network)))
    means, squares = (torch.stack(values) for values in zip(*found, strict=True))
    sigma = (squares.mean(dim=0) + means.var(dim=0, correction=0)).sqrt()
    return ((data.target[samples].double() - means.mean(dim=0)) / sigma).cpu().numpy()
