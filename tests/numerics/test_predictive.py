"""Forecasts against the moments of their mixture, the baseline they start from, and real prices."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.numerics import features, predictive, training, vlstm
from tasks.numerics.configs import FeatureConfig, ForecastConfig, LossConfig, TrainingConfig, VLSTMConfig
from tasks.numerics.training import Model
from tasks.numerics.windows import History

FEATURES = FeatureConfig(lookback=20, horizon=5)
NETWORK = VLSTMConfig(hidden=8, latent=3)
TRAINING = TrainingConfig(ensemble=2)
DRAWS = ForecastConfig(draws=16)
ALL = np.ones(3, bool)
L, H, F, STAMP = FEATURES.lookback, FEATURES.horizon, 4, 735_000
BOTH_HEADS = pytest.mark.parametrize("network", [NETWORK, replace(NETWORK, head="document")])
PRICES = Path(__file__).parents[3] / "shared/data/close_only/pypfopt_20_1989_2018.parquet"


def make_history(lengths=(60, 60, 40), seed=0):
    rng = np.random.default_rng(seed)
    shape = len(lengths), max(lengths)
    known = np.arange(shape[1]) < np.array(lengths)[:, None]
    values = rng.standard_normal((*shape, F)).astype(np.float32)
    return History(
        features=np.where(known[..., None], values, np.nan).astype(np.float32),
        log_return=np.where(known & (np.arange(shape[1]) > 0), 0.01 * rng.standard_normal(shape), np.nan),
        ewma_variance=np.where(known, rng.uniform(1e-4, 5e-4, shape), np.nan),
        session=np.where(known, np.arange(shape[1]), -1),
        last_session=shape[1] - 1,
    )


def make_model(network, seed=0, scale=0.5):
    """Random parameters; `scale` 0 leaves the initial ones."""
    rng = np.random.default_rng(seed)
    members = []
    for member in range(2):
        values = vlstm.initialise(F, network, torch.Generator().manual_seed(member))
        members.append({k: (v + scale * rng.standard_normal(v.shape)).astype(np.float32) for k, v in values.items()})
    return Model(tuple(members), np.full(F, 0.1), np.full(F, 1.5), 0.004)


def forecast(model, history, network=NETWORK, eligible=ALL, config=DRAWS, stamp=STAMP):
    return predictive.vlstm(model, history, eligible, FEATURES, network, TRAINING, config, stamp)


def as_bytes(values):
    return [value.tobytes() for value in values]


def components(model, history, network):
    """Mean and variance of y for each member and draw, one window and one draw at a time: (members * M, A)."""
    means, variances = [], []
    baseline = H * np.array([row[np.isfinite(row)][-1] for row in history.ewma_variance])
    for member, values in enumerate(model.parameters):
        net = vlstm.from_parameters(values, F, network)
        generator = training.generators(TRAINING.seed, member, STAMP, training.FORECAST)[1]
        noise = torch.randn((DRAWS.draws, len(baseline), network.latent), generator=generator)
        mean, variance = np.empty((2, DRAWS.draws, len(baseline)))
        for asset, length in enumerate((history.session >= 0).sum(axis=1)):
            window = (history.features[asset, length - L : length] - model.feature_mean) / model.feature_std
            with torch.no_grad():
                h = net.encode(torch.tensor(window, dtype=torch.float32)[None])[0, -1]
                m, v = net.code(h)
                for draw in range(DRAWS.draws):
                    mu, s = net.decode((m + torch.exp(v / 2) * noise[draw, asset])[None], h[None])
                    residual = network.head == "residual"
                    b, centre = (baseline[asset], model.label_mean) if residual else (1.0, 0.0)
                    mean[draw, asset], variance[draw, asset] = centre + np.sqrt(b) * float(mu), b * np.exp(float(s))
        means.append(mean)
        variances.append(variance)
    return np.concatenate(means), np.concatenate(variances)


@BOTH_HEADS
def test_forecast_has_the_moments_of_the_mixture(network):
    model, history = make_model(network), make_history()
    mu, sigma2 = components(model, history, network)
    result = forecast(model, history, network)
    first, second = mu.mean(axis=0), (sigma2 + mu**2).mean(axis=0)
    np.testing.assert_allclose(result.mean, first, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(result.variance, second - first**2, rtol=1e-4)
    assert (result.variance > sigma2.mean(axis=0)).all()


def test_an_untrained_residual_head_is_the_ewma_baseline():
    history = make_history()
    result, baseline = forecast(make_model(NETWORK, scale=0), history), predictive.ewma(history, ALL, FEATURES)
    np.testing.assert_allclose(result.variance, baseline.variance, rtol=1e-12)
    np.testing.assert_array_equal(result.baseline_variance, baseline.baseline_variance)
    np.testing.assert_array_equal(result.mean, 0.004)


def test_ewma_is_the_horizon_times_the_variance_about_the_pooled_mean():
    history = make_history()
    result = predictive.ewma(history, np.array([True, False, True]), FEATURES)
    last = [history.ewma_variance[0, 59], np.nan, history.ewma_variance[2, 39]]
    np.testing.assert_allclose(result.variance, H * np.array(last))
    np.testing.assert_array_equal(result.baseline_variance, result.variance)
    labels = [row[t + 1 : t + 1 + H].sum() for row in history.log_return for t in range(len(row) - H)]
    np.testing.assert_allclose(result.mean[[0, 2]], np.nanmean(labels))
    assert np.isnan(result.mean[1])


@BOTH_HEADS
def test_an_assets_forecast_does_not_depend_on_who_else_is_eligible(network):
    model, history = make_model(network), make_history()
    eligible = np.array([False, True, False])
    everyone, alone = forecast(model, history, network), forecast(model, history, network, eligible)
    for all_values, values in zip(everyone, alone, strict=True):
        assert values[1] == all_values[1]
        assert np.isnan(values[[0, 2]]).all()


def test_only_the_last_window_is_read():
    model, history = make_model(NETWORK), make_history()
    reference = forecast(model, history)
    history.features[:, : 40 - L] += 1.0
    history.log_return[:] = 0
    assert as_bytes(forecast(model, history)) == as_bytes(reference)
    for column in (40 - L, 39):
        history.features[2, column] += 1.0
        changed = forecast(model, history)
        assert changed.variance[2] != reference.variance[2]
        assert as_bytes(value[:2] for value in changed) == as_bytes(value[:2] for value in reference)
        reference = changed


def test_an_asset_that_is_not_eligible_may_lack_everything():
    model, history = make_model(NETWORK), make_history((60, 60, 0))
    result = forecast(model, history, eligible=np.array([True, True, False]))
    assert np.isfinite(result.variance[:2]).all()
    assert np.isnan(result.variance[2])


def test_an_eligible_asset_without_its_data_is_refused():
    model, history = make_model(NETWORK), make_history()
    history.features[1, 50, 2] = np.nan
    with pytest.raises(ValueError, match=r"assets \[1\] lack data in their last 20"):
        forecast(model, history)
    history.ewma_variance[2, 39] = np.nan
    with pytest.raises(ValueError, match=r"assets \[2\] lack data"):
        predictive.ewma(history, ALL, FEATURES)


def test_ewma_without_a_known_label_is_refused():
    with pytest.raises(ValueError, match="no label of 5 sessions"):
        predictive.ewma(make_history((5, 4, 3)), ALL, FEATURES)


def test_draws_repeat_with_the_date_and_change_with_it():
    model, history = make_model(NETWORK), make_history()
    before = torch.get_rng_state()
    assert as_bytes(forecast(model, history)) == as_bytes(forecast(model, history))
    assert torch.equal(torch.get_rng_state(), before)
    assert (forecast(model, history, stamp=STAMP + 1).variance != forecast(model, history).variance).all()


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_mean_is_shrunk_towards_the_pooled_mean(share):
    model, history = make_model(NETWORK), make_history()
    whole, shrunk = forecast(model, history), forecast(model, history, config=replace(DRAWS, mean_shrink=share))
    np.testing.assert_allclose(shrunk.mean, 0.004 + share * (whole.mean - 0.004))
    np.testing.assert_array_equal(shrunk.variance, whole.variance)


def real_history(prices, session):
    """History of close-only prices at a session of their calendar; assets that start late have fewer rows."""
    config, assets = FeatureConfig(), []
    market = np.log1p(prices.pct_change(fill_method=None).mean(axis=1))
    for name in prices:
        log_return = np.log(prices[name].dropna()).diff()
        series = features.Series(log_return.to_numpy(), None, None, None, None, market[log_return.index].to_numpy())
        values = features.compute(series, features.names(config, False), config)
        own = prices.index.get_indexer(log_return.index)
        columns = (values, series.log_return, features.ewma_variance(series.log_return), own)
        assets.append([column[own <= session] for column in columns])
    length = max(len(asset[0]) for asset in assets)

    def stack(k, fill):
        widths = [((0, length - len(asset[k])),) + ((0, 0),) * (asset[k].ndim - 1) for asset in assets]
        padded = [np.pad(asset[k], width, constant_values=fill) for asset, width in zip(assets, widths, strict=True)]
        return np.stack(padded)

    return History(stack(0, np.nan), stack(1, np.nan), stack(2, np.nan), stack(3, -1), session)


def negative_log_density(y, mean, variance):
    return 0.5 * (np.log(2 * np.pi * variance) + (y - mean) ** 2 / variance)


@pytest.mark.skipif(not PRICES.exists(), reason="needs the developer market data")
def test_on_real_prices_the_residual_model_is_no_worse_than_ewma():
    prices = pd.read_parquet(PRICES)
    prices = prices.pivot(index="date", columns="ticker", values="adj_close")
    prices = prices[["AAPL", "GE", "AMD", "WMT", "BAC", "T", "XOM", "GOOG"]].loc[date(1995, 1, 1) :]
    config, network = FeatureConfig(), VLSTMConfig()
    run = TrainingConfig(ensemble=1)
    split = prices.index.searchsorted(date(2011, 1, 1))
    model, _ = training.train(real_history(prices, split - 1), config, network, LossConfig(), run, STAMP)
    differences = []
    for session in range(split, len(prices) - config.horizon, 42):
        history = real_history(prices, session)
        ours = predictive.vlstm(model, history, np.ones(8, bool), config, network, run, ForecastConfig(), STAMP)
        y = np.log(prices.iloc[session + config.horizon] / prices.iloc[session]).to_numpy()
        baseline = negative_log_density(y, 0.0, ours.baseline_variance)
        differences.append(negative_log_density(y, ours.mean, ours.variance) - baseline)
    assert np.mean(differences) < 0.01
