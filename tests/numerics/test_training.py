"""Training: what it may see, what it repeats to the byte, and that its batches are the windows they claim to be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.numerics import training, vlstm, windows
from tasks.numerics.configs import FeatureConfig, Forecaster, TrainingConfig, VLSTMConfig
from tasks.numerics.windows import History

FEATURES = FeatureConfig(lookback=20, horizon=5)
NETWORK = VLSTMConfig(hidden=8, latent=3, likelihood="gaussian")
TRAINING = TrainingConfig(epochs=2, refresh_epochs=1, ensemble=2, chunk=16, batch=4)
CONFIG = Forecaster(features=FEATURES, network=NETWORK, training=TRAINING)
STAMP = 735_000
L, H = FEATURES.lookback, FEATURES.horizon


def make_history(lengths=(150, 150, 90), seed=0):
    """Ragged assets whose volatility is told by their first feature; rows before 5 have no feature."""
    rng = np.random.default_rng(seed)
    shape = len(lengths), max(lengths)
    known = np.arange(shape[1]) < np.array(lengths)[:, None]
    regime = np.sign(np.sin(np.arange(shape[1]) / 25)) * np.ones(shape)
    log_return = 0.01 * np.exp(regime) * rng.standard_normal(shape)
    values = np.stack([regime, rng.standard_normal(shape), np.ones(shape)], axis=2).astype(np.float32)
    values[:, :5] = np.nan
    values[~known] = np.nan
    return History(
        features=values,
        log_return=np.where(known & (np.arange(shape[1]) > 0), log_return, np.nan),
        ewma_variance=np.where(known, 0.0004, np.nan),
        session=np.where(known, np.arange(shape[1]), -1),
        last_session=shape[1] - 1,
    )


def copied(history):
    return History(*(value.copy() if isinstance(value, np.ndarray) else value for value in history))


def changed(config=CONFIG, **parts):
    """The config with some values of some of its parts replaced."""
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in parts.items()})


def fit(history, config=CONFIG, stamp=STAMP, **options):
    return training.train(history, config, stamp, **options)


def parameter_bytes(model):
    return [value.tobytes() for values in model.parameters for value in values.values()]


def units(model):
    """All but the parameters."""
    arrays = model.feature_mean, model.feature_std
    return [*(value.tobytes() for value in arrays), model.label_mean, model.tails]


def as_bytes(model):
    return parameter_bytes(model) + units(model)


def mean_loss(fits):
    return np.mean([fit.loss for fit in fits])


def test_training_twice_gives_the_same_bytes_and_leaves_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    (first, first_fits), (second, second_fits) = fit(make_history()), fit(make_history())
    assert as_bytes(first) == as_bytes(second)
    assert [fit.loss for fit in first_fits] == [fit.loss for fit in second_fits]
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tobytes() == numpy_state


@pytest.mark.parametrize("change", [{"stamp": STAMP + 1}, {"config": changed(training={"seed": 1})}])
def test_another_date_or_seed_gives_another_model(change):
    assert not set(parameter_bytes(fit(make_history())[0])) & set(parameter_bytes(fit(make_history(), **change)[0]))


def test_padding_does_not_change_a_byte():
    history = make_history()
    wide = copied(history)._replace(
        features=np.pad(history.features, ((0, 0), (0, 7), (0, 0)), constant_values=np.nan),
        log_return=np.pad(history.log_return, ((0, 0), (0, 7)), constant_values=np.nan),
        ewma_variance=np.pad(history.ewma_variance, ((0, 0), (0, 7)), constant_values=np.nan),
        session=np.pad(history.session, ((0, 0), (0, 7)), constant_values=-1),
    )
    assert as_bytes(fit(wide)[0]) == as_bytes(fit(history)[0])


@pytest.mark.parametrize("asset", [0, 2])
def test_features_after_the_last_training_window_are_not_used(asset):
    history = make_history()
    last = int((history.session[asset] >= 0).sum()) - 1
    other = copied(history)
    other.features[asset, last - H + 1 : last + 1] += 1.0
    assert as_bytes(fit(other)[0]) == as_bytes(fit(history)[0])
    other.features[asset, last - H] += 1.0
    assert as_bytes(fit(other)[0]) != as_bytes(fit(history)[0])


@pytest.mark.parametrize(("field", "t"), [("log_return", 149), ("log_return", 30), ("ewma_variance", 144)])
def test_whatever_training_may_use_matters(field, t):
    history = make_history()
    other = copied(history)
    getattr(other, field)[0, t] *= 1.5
    assert not set(parameter_bytes(fit(other)[0])) & set(parameter_bytes(fit(history)[0]))


def test_standardisation_and_label_mean_are_those_of_the_training_samples():
    history = make_history()
    model, _ = fit(history, changed(training={"epochs": 1}))
    samples = windows.training_samples(history, L, H)
    rows = history.features[windows.training_rows(samples, L)].astype(float)
    np.testing.assert_allclose(model.feature_mean, rows.mean(axis=0))
    np.testing.assert_allclose(model.feature_std, [*rows.std(axis=0)[:2], 1.0])
    labels = [history.log_return[i, t + 1 : t + H + 1].sum() for i, t in np.argwhere(samples)]
    assert model.label_mean == pytest.approx(np.mean(labels))


def test_standard_scores_are_clipped_and_keep_what_is_missing():
    scores = training.standardise(np.array([[0.0, 100.0], [np.nan, -100.0]], np.float32), np.zeros(2), np.ones(2))
    np.testing.assert_array_equal(scores, np.array([[0, 5], [np.nan, -5]], np.float32))


def test_a_refresh_of_no_epochs_returns_the_same_parameters():
    model, _ = fit(make_history())
    none = changed(training={"refresh_epochs": 0})
    same, fits = training.refresh(model, make_history(seed=1), none, STAMP + 30)
    assert as_bytes(same) == as_bytes(model)
    assert [(fit.epoch, fit.steps) for fit in fits] == [(0, 0)] * 2
    assert np.isnan(mean_loss(fits))


def test_a_refresh_moves_the_parameters_and_keeps_their_units():
    model, _ = fit(make_history())
    before = as_bytes(model)
    fresh, fits = training.refresh(model, make_history(seed=1), CONFIG, STAMP + 30)
    assert units(fresh) == units(model)
    assert not set(parameter_bytes(fresh)) & set(parameter_bytes(model))
    assert as_bytes(model) == before
    assert np.isfinite(mean_loss(fits))


def test_a_member_does_not_depend_on_the_size_of_the_ensemble():
    two, one = fit(make_history())[0], fit(make_history(), changed(training={"ensemble": 1}))[0]
    assert parameter_bytes(one) == parameter_bytes(two)[: len(one.parameters[0])]
    assert not set(parameter_bytes(one)) & set(parameter_bytes(two)[len(one.parameters[0]) :])


def test_watch_is_given_all_members_after_every_epoch():
    seen = []
    model, fits = fit(make_history(), watch=seen.append)
    assert [tuple(fit.epoch for fit in state) for state in seen] == [(1, 0), (2, 0), (2, 1), (2, 2)]
    assert [[fit.loss for fit in state] for state in seen[-1:]] == [[fit.loss for fit in fits]]
    assert parameter_bytes(model) == [value.tobytes() for fit in fits for value in fit.parameters.values()]


def test_the_first_loss_of_a_residual_head_is_the_baselines():
    history = make_history()
    still = changed(
        training={"learning_rate": 1e-12, "epochs": 1},
        loss={"kl_weight": 0.0, "direction_weight": 0.5, "recency": 2.0},
    )
    model, fits = fit(history, still)
    samples = windows.training_samples(history, L, H)
    age = history.last_session - history.session[samples]
    label = windows.targets(history.log_return, H)[samples]
    u = (label - model.label_mean) / np.sqrt(H * history.ewma_variance[samples])
    assert mean_loss(fits) == pytest.approx(np.mean(np.exp(-2 * age / age.max()) * u**2 / 2), rel=1e-5)


def test_the_first_loss_counts_the_code_of_every_window_once():
    history = make_history()
    still = changed(training={"learning_rate": 1e-12, "epochs": 1, "ensemble": 1})
    base, with_kl = (fit(history, changed(still, loss={"kl_weight": beta})) for beta in (0.0, 1.0))
    model = base[0]
    network = vlstm.from_parameters(model.parameters[0], 3, NETWORK)
    inputs = np.nan_to_num(training.standardise(history.features, model.feature_mean, model.feature_std))
    shuffle, _ = training.generators(TRAINING.seed, 0, STAMP, training.TRAIN)
    terms = []
    for asset, first, count in windows.chunks(windows.training_samples(history, L, H), TRAINING.chunk, shuffle):
        context = torch.from_numpy(inputs[asset, first - L + 1 : first + count])
        with torch.no_grad():
            m, v = network.code(network.encode(context[None])[0, L - 1 :])
        terms.extend((0.5 * (m**2 + v.exp() - v - 1)).sum(dim=1).tolist())
    assert mean_loss(with_kl[1]) - mean_loss(base[1]) == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("head", ["residual", "document"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_lowers_the_loss(head, precision):
    seen = []
    run = {"ensemble": 1, "epochs": 12, "learning_rate": 5e-3, "precision": precision}
    model, fits = fit(make_history(), changed(network={"head": head}, training=run), watch=seen.append)
    assert mean_loss(fits) < mean_loss(seen[0]) - 0.05
    assert all(np.isfinite(value).all() for value in model.parameters[0].values())


def test_a_chunk_gives_each_window_the_states_of_its_own_context():
    history = make_history()
    samples = windows.training_samples(history, L, H)
    panel = torch.from_numpy(np.nan_to_num(history.features).reshape(-1, 3))
    values = vlstm.initialise(3, NETWORK, torch.Generator().manual_seed(0))
    network = vlstm.from_parameters(values, 3, NETWORK)
    plan = windows.chunks(samples, TRAINING.chunk, np.random.default_rng(0))
    batch = windows.batch(plan, L, TRAINING.chunk, samples.shape[1])
    width = batch.rows.shape[1]
    with torch.no_grad():
        states = network.encode(panel[batch.rows]).flatten(0, 1)[batch.states]
        for n in range(0, batch.samples.size, 17):
            chunk, position = divmod(int(batch.states[n]), width)
            asset, t = divmod(int(batch.samples[n]), samples.shape[1])
            context = panel.reshape(*samples.shape, 3)[asset, t - position : t + 1]
            assert L <= len(context) <= width
            assert batch.rows[chunk, position] == batch.samples[n]
            torch.testing.assert_close(states[n], network.encode(context[None])[0, -1])


def test_generators_differ_by_each_of_their_names():
    draws = [
        training.generators(*key)[0].random()
        for key in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    ]
    assert len(set(draws)) == 5
    again = training.generators(0, 0, 0, 0)
    assert again[0].random() == draws[0]


def test_threads_are_those_of_the_config():
    before = torch.get_num_threads()
    fit(make_history((80,)), changed(training={"threads": 2, "ensemble": 1, "epochs": 1}))
    assert torch.get_num_threads() == 2
    training.set_threads(replace(TRAINING, threads=before))
    assert torch.get_num_threads() == before


def test_no_sample_is_refused_with_what_is_needed():
    with pytest.raises(ValueError, match="the longest asset has 24 of 45 own sessions"):
        fit(make_history((24, 10)))


def test_validation_needs_its_sessions_too():
    patient = changed(training={"patience": 1, "validation_sessions": 130})
    with pytest.raises(ValueError, match="validation takes the newest 130 sessions of all that may train; lower"):
        fit(make_history(), patient)
