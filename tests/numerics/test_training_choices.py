"""What each choice of training does: stopped and continued, ended early, on fewer years, of another variance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.numerics import features, tails, training, vlstm, windows
from tasks.numerics.configs import FeatureConfig, Forecaster, LossConfig, TrainingConfig, VLSTMConfig
from tasks.numerics.fitting import Fit
from tasks.numerics.windows import History

L, H, STAMP = 20, 5, 735_000
CONFIG = Forecaster(
    features=FeatureConfig(lookback=L, horizon=H),
    network=VLSTMConfig(hidden=8, latent=3, likelihood="gaussian"),
    loss=LossConfig(recency=2.0, kl_warmup=0),
    training=TrainingConfig(epochs=2, ensemble=2, chunk=16, batch=4),
)


def make_history(lengths=(330, 330, 180), seed=0):
    """Heavy-tailed returns with slow volatility, which the first feature tells; no feature before session 5."""
    rng = np.random.default_rng(seed)
    shape = len(lengths), max(lengths)
    known = np.arange(shape[1]) < np.array(lengths)[:, None]
    regime = np.sign(np.sin(np.arange(shape[1]) / 25 + np.arange(shape[0])[:, None]))
    log_return = 0.01 * np.exp(0.5 * regime) * rng.standard_t(3, shape)
    log_return = np.where(known & (np.arange(shape[1]) > 0), log_return, np.nan)
    values = np.stack([regime, rng.standard_normal(shape)], axis=2).astype(np.float32)
    values[:, :5] = np.nan
    return History(
        features=np.where(known[..., None], values, np.float32(np.nan)),
        log_return=log_return,
        ewma_variance=np.stack([features.ewma_variance(row) for row in log_return]),
        session=np.where(known, np.arange(shape[1]), -1),
        last_session=shape[1] - 1,
    )


HISTORY = make_history()


def changed(config=CONFIG, **parts):
    """The config with some values of some of its parts replaced."""
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in parts.items()})


def train(history=HISTORY, config=CONFIG, **options):
    return training.train(history, config, STAMP, **options)


def parameter_bytes(model):
    return [value.tobytes() for values in model.parameters for value in values.values()]


def as_bytes(model):
    arrays = model.feature_mean, model.feature_std
    return [*parameter_bytes(model), *(value.tobytes() for value in arrays), model.label_mean, model.tails]


def fit_bytes(fit):
    """All of a fit, to the byte."""
    return [
        {name: array.tobytes() for name, array in value.items()} if isinstance(value, dict) else repr(value)
        for value in fit
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"loss": {"recency": 0.0}}, {"loss": {"recency": 2.0}}),
        ({"loss": {"kl_warmup": 0}}, {"loss": {"kl_warmup": 4}}),
        ({"loss": {"direction_weight": 0.0}}, {"loss": {"direction_weight": 0.5}}),
        ({"network": {"likelihood": "gaussian"}}, {"network": {"likelihood": "student_t"}}),
        (
            {"network": {"likelihood": "student_t", "degrees": 4.0}},
            {"network": {"likelihood": "student_t", "degrees": 6.0}},
        ),
        ({"training": {"years": 0}}, {"training": {"years": 1}}),
        ({"training": {"patience": 0}}, {"training": {"patience": 5, "validation_sessions": 40}}),
    ],
    ids=lambda parts: next(iter(next(iter(parts.values())))),
)
def test_every_choice_gives_other_parameters(one, other):
    first, second = (train(config=changed(**parts))[0] for parts in (one, other))
    assert not set(parameter_bytes(first)) & set(parameter_bytes(second))


@pytest.fixture(scope="module")
def unstopped():
    """A training that was never stopped, and the fits after each of its steps, by patience."""
    found = {}
    for patience in (0, 2):
        seen = []
        config = changed(training={"epochs": 3, "patience": patience, "validation_sessions": 40})
        model, fits = train(config=config, watch=seen.append)
        found[patience] = config, model, fits, seen
    return found


def stored(fit):
    """A fit that went through wider numbers and back, in memory of its own."""
    return Fit(
        *(
            {name: array.astype(np.float64).astype(np.float32) for name, array in value.items()}
            if isinstance(value, dict)
            else value
            for value in fit
        )
    )


@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("step", range(6))
def test_a_training_that_was_stopped_ends_with_the_same_bytes(unstopped, patience, step):
    config, model, fits, seen = unstopped[patience]
    assert len(seen) == 6
    rest = []
    again, ends = train(config=config, resume=tuple(stored(fit) for fit in seen[step]), watch=rest.append)
    assert as_bytes(again) == as_bytes(model)
    assert [fit_bytes(fit) for fit in ends] == [fit_bytes(fit) for fit in fits]
    assert [[fit_bytes(fit) for fit in state] for state in rest] == [
        [fit_bytes(fit) for fit in state] for state in seen[step + 1 :]
    ]


def test_every_epoch_has_random_numbers_of_its_own():
    still = changed(training={"epochs": 3, "learning_rate": 1e-12, "ensemble": 1})
    seen = []
    train(config=changed(still, network={"head": "document"}), watch=seen.append)
    losses = [state[0].loss for state in seen]
    assert len(set(losses)) == 3
    assert np.ptp(losses) < 0.1


def test_what_is_kept_for_validation_moves_no_parameter():
    config = changed(training={"patience": 100, "validation_sessions": 60})
    samples = windows.training_samples(HISTORY, L, H)
    first = HISTORY.session[windows.split(samples, HISTORY, H, 60)[1]].min()
    other = HISTORY._replace(log_return=np.where(HISTORY.session >= first, 3 * HISTORY.log_return, HISTORY.log_return))
    (model, before), (again, after) = (train(history, config) for history in (HISTORY, other))
    for ours, theirs in zip(after, before, strict=True):
        assert fit_bytes(ours)[:3] == fit_bytes(theirs)[:3]
        assert ours.loss == theirs.loss
        assert ours.score != theirs.score
    assert (again.label_mean, again.feature_std.tolist()) == (model.label_mean, model.feature_std.tolist())
    earlier = HISTORY.log_return.copy()
    earlier[0, np.flatnonzero(HISTORY.session[0] == first - 1)] *= 3
    moved = train(HISTORY._replace(log_return=earlier), config)[1]
    assert not set(fit_bytes(moved[0])[0].values()) & set(fit_bytes(before[0])[0].values())


def test_a_model_that_ended_early_has_the_best_parameters_of_each_member():
    config = changed(training={"epochs": 60, "patience": 2, "validation_sessions": 60, "learning_rate": 0.02})
    seen = []
    model, fits = train(config=config, watch=seen.append)
    for member, (fit, values) in enumerate(zip(fits, model.parameters, strict=True)):
        assert (fit.waited, fit.epoch < 60) == (2, True)
        states = {state[member].epoch: state[member] for state in seen}
        best = states[fit.epoch - 2]
        assert best.waited == 0
        assert [value.tobytes() for value in best.parameters.values()] == [value.tobytes() for value in values.values()]
        assert fit.score == min(state.score for state in states.values())


def test_nothing_before_the_newest_years_and_their_first_window_matters():
    config = changed(training={"years": 1})
    oldest = HISTORY.last_session - 252 + 1
    other = HISTORY._replace(features=HISTORY.features.copy(), log_return=HISTORY.log_return.copy())
    other.log_return[:, 1 : oldest + 1] *= 3
    other.features[:, : oldest - L + 1] += 1
    assert as_bytes(train(other, config)[0]) == as_bytes(train(config=config)[0])
    other.features[0, oldest - L + 1] += 1
    assert as_bytes(train(other, config)[0]) != as_bytes(train(config=config)[0])


STUDENT = {"likelihood": "student_t", "degrees": 6.0}


def test_the_tails_are_those_of_the_residuals_of_the_training_samples():
    # large steps, after which the two networks differ
    config = changed(training={"epochs": 3, "learning_rate": 0.1, "schedule": "constant"}, network=STUDENT)
    model, _ = train(config=config)
    inputs = np.nan_to_num(training.standardise(HISTORY.features, model.feature_mean, model.feature_std))
    samples = windows.training_samples(HISTORY, L, H)
    moments = np.full((2, 2, *samples.shape), np.nan)
    plan = windows.chunks(samples, config.training.chunk, np.random.default_rng(0))
    for member, values in enumerate(model.parameters):
        states = states_by_chunk(values, inputs, plan, config.network)
        for (asset, first, count), (mean, scale2) in zip(plan, states, strict=True):
            moments[:, member, asset, first : first + count] = mean, scale2 * 6 / 4
    mean, variance = moments[0].mean(axis=0), moments[1].mean(axis=0) + moments[0].var(axis=0)
    assert np.nanmean(moments[0].var(axis=0) / variance) > 0.001
    u = (windows.targets(HISTORY.log_return, H) - model.label_mean) / np.sqrt(H * HISTORY.ewma_variance)
    expected = tails.fit(((u - mean) / np.sqrt(variance))[samples])
    assert model.tails.degrees == pytest.approx(expected.degrees, rel=1e-4)
    assert model.tails.scale == pytest.approx(expected.scale, rel=1e-4)


def states_by_chunk(values, inputs, plan, network):
    """Mean and squared scale of every chunk's samples, each with the mean of its latent code."""
    net = vlstm.from_parameters(values, inputs.shape[2], network)
    for asset, first, count in plan:
        with torch.no_grad():
            states = net.encode(torch.from_numpy(inputs[asset, first - L + 1 : first + count])[None])[0, L - 1 :]
            mean, log_scale2 = net.decode(net.code(states)[0], states)
        yield mean.numpy(), np.exp(log_scale2.numpy())
