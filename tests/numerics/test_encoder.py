"""The encoder learns: real prices reach every one of its weights, and raw ones would reach none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.fetch import sample
from tasks.numerics import features, loss, training, vlstm, windows
from tasks.numerics.configs import FeatureConfig, Forecaster, LossConfig, TrainingConfig, VLSTMConfig
from tasks.numerics.windows import History

STOCKS, SESSIONS, STAMP = ["AAPL", "JPM", "XOM"], 400, 735_000
CONFIG = Forecaster(
    features=FeatureConfig(lookback=66, horizon=21),
    network=VLSTMConfig(hidden=16, latent=4, likelihood="gaussian"),
    loss=LossConfig(kl_weight=0.02, direction_weight=0.5),
    training=TrainingConfig(epochs=1, ensemble=1, chunk=21, batch=8),
)
HEADS = pytest.mark.parametrize("head", ["residual", "document"])
SETS = pytest.mark.parametrize("feature_set", ["scaled", "document"])


@pytest.fixture(scope="module")
def closes():
    """The newest sessions of the embedded sample."""
    table = sample.read().pivot(index="session", columns="ticker", values="close")
    return table.dropna().iloc[-SESSIONS:]


def make_history(closes, config):
    """History of these prices; the sample has no volume."""
    log_return = np.log(closes).diff()
    market = log_return[[name for name in closes if name not in STOCKS]].mean(axis=1).to_numpy()
    chosen = features.names(config, has_volume=False)
    every = [features.Series(log_return[stock].to_numpy(), None, None, None, None, market) for stock in STOCKS]
    return History(
        features=np.stack([features.compute(series, chosen, config) for series in every]),
        log_return=np.stack([series.log_return for series in every]),
        ewma_variance=np.stack([features.ewma_variance(series.log_return) for series in every]),
        session=np.tile(np.arange(SESSIONS), (len(STOCKS), 1)),
        last_session=SESSIONS - 1,
    )


def encoder_gradients(values, inputs, target, config):
    """Gradients of one batch's loss for the encoder's weights, by name."""
    net = vlstm.from_parameters(values, inputs.shape[2], config.network)
    states = net.encode(torch.from_numpy(inputs))[:, -1]
    m, v = net.code(states)
    z = vlstm.reparameterise(m, v, torch.randn(m.shape, generator=torch.Generator().manual_seed(0)))
    mean, log_scale2 = net.decode(z, states)
    weight = torch.ones(len(inputs))
    loss.loss(
        torch.from_numpy(target), weight, mean, log_scale2, m, v, config.loss, config.network, config.loss.kl_weight
    ).backward()
    return {name: parameter.grad.numpy() for name, parameter in net.encoder.named_parameters()}


def real_batch(history, model, config):
    """Standardised windows of every fifth training sample, and their labels in the head's units."""
    asset, column = np.argwhere(windows.training_samples(history, 66, 21))[::5].T
    window = windows.windows_at(history, asset, column, 66)
    labels = windows.targets(history.log_return, 21)[asset, column]
    baseline = 21 * history.ewma_variance[asset, column]
    target = vlstm.to_head_units(labels, baseline, model.label_mean, config.network)
    return training.standardise(window, model.feature_mean, model.feature_std), target.astype(np.float32)


@HEADS
@SETS
@pytest.mark.parametrize("likelihood", ["gaussian", "student_t"])
def test_the_likelihood_of_real_prices_teaches_every_weight_of_the_encoder(closes, head, feature_set, likelihood):
    config = replace(
        CONFIG,
        features=replace(CONFIG.features, features=feature_set),
        network=replace(CONFIG.network, head=head, likelihood=likelihood),
    )
    history = make_history(closes, config.features)
    model, _ = training.train(history, config, STAMP)
    inputs, target = real_batch(history, model, config)
    assert np.isfinite(inputs).all()
    alone = replace(config, loss=LossConfig(kl_weight=0, direction_weight=0))
    for name, gradient in encoder_gradients(model.parameters[0], inputs, target, alone).items():
        assert np.count_nonzero(gradient) == gradient.size, name
        assert np.abs(gradient).max() > 1e-5, name


@HEADS
@SETS
def test_an_untrained_encoder_is_taught_from_the_first_step(closes, head, feature_set):
    config = replace(
        CONFIG,
        features=replace(CONFIG.features, features=feature_set),
        network=replace(CONFIG.network, head=head),
        training=replace(CONFIG.training, learning_rate=1e-12),
    )
    history = make_history(closes, config.features)
    model, _ = training.train(history, config, STAMP)
    for name, gradient in encoder_gradients(model.parameters[0], *real_batch(history, model, config), config).items():
        assert np.count_nonzero(gradient) == gradient.size, name


@HEADS
def test_raw_prices_and_volumes_teach_the_input_weights_nothing(head):
    config = replace(CONFIG, network=replace(CONFIG.network, head=head))
    rng = np.random.default_rng(0)
    price = 390 * np.exp(np.cumsum(0.01 * rng.standard_normal((40, 66)), axis=1))
    volume = 1e8 * np.exp(0.3 * rng.standard_normal((40, 66)))
    raw = np.stack([price, volume], axis=2).astype(np.float32)
    scaled = np.stack([np.log(price / price.mean()), np.log(volume / 1e8)], axis=2).astype(np.float32)
    values = vlstm.initialise(2, config.network, torch.Generator().manual_seed(0))
    target = rng.standard_normal(40).astype(np.float32)
    assert not encoder_gradients(values, raw, target, config)["weight_ih_l0"].any()
    assert encoder_gradients(values, scaled, target, config)["weight_ih_l0"].all()
