"""Forecasts against the moments of their mixture, the baseline they start from, and real prices."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.numerics import features, mixtures, predictive, training, vlstm
from tasks.numerics.configs import FeatureConfig, ForecastConfig, Forecaster, TrainingConfig, VLSTMConfig
from tasks.numerics.predictive import Rows
from tasks.numerics.tails import Tails
from tasks.numerics.training import Model
from tasks.numerics.windows import History

L, H, F, STAMP = 20, 5, 4, 735_000
NETWORK = VLSTMConfig(hidden=8, latent=3, likelihood="gaussian")
CONFIG = Forecaster(
    features=FeatureConfig(lookback=L, horizon=H),
    network=NETWORK,
    training=TrainingConfig(ensemble=2),
    forecast=ForecastConfig(draws=16),
)
ALL = np.ones(3, bool)
TAILS = Tails(4.0, 0.8)
NETWORKS = pytest.mark.parametrize(
    "network",
    [
        NETWORK,
        replace(NETWORK, head="document"),
        replace(NETWORK, likelihood="student_t", degrees=5.0),
        replace(NETWORK, head="document", likelihood="student_t", degrees=3.0),
    ],
    ids=lambda network: f"{network.head}-{network.likelihood}",
)
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


def make_model(network=NETWORK, seed=0, scale=0.5):
    """Random parameters; `scale` 0 leaves the initial ones."""
    rng = np.random.default_rng(seed)
    members = []
    for member in range(2):
        values = vlstm.initialise(F, network, torch.Generator().manual_seed(member))
        members.append({k: (v + scale * rng.standard_normal(v.shape)).astype(np.float32) for k, v in values.items()})
    return Model(tuple(members), np.full(F, 0.1), np.full(F, 1.5), 0.004, TAILS)


def last_rows(history, wanted=ALL, stamp=STAMP):
    return predictive.rows_at(history, history.last_session, wanted, stamp)


def forecast(model, history, rows=None, network=NETWORK, **options):
    config = replace(CONFIG, network=network)
    return mixtures.vlstm(model, history, last_rows(history) if rows is None else rows, config, **options)


def as_bytes(found):
    return [found.mean.tobytes(), found.variance.tobytes(), found.tails]


def components(model, history, network):
    """Mean and variance of y for each member and draw, one window and one draw at a time: (members * M, A)."""
    means, variances, draws = [], [], CONFIG.forecast.draws
    baseline = H * np.array([row[np.isfinite(row)][-1] for row in history.ewma_variance])
    factor = network.degrees / (network.degrees - 2) if network.likelihood == "student_t" else 1
    for member, values in enumerate(model.parameters):
        net = vlstm.from_parameters(values, F, network)
        generator = training.generators(CONFIG.training.seed, member, STAMP, training.FORECAST)[1]
        noise = torch.randn((draws, len(baseline), network.latent), generator=generator)
        mean, variance = np.empty((2, draws, len(baseline)))
        for asset, length in enumerate((history.session >= 0).sum(axis=1)):
            window = (history.features[asset, length - L : length] - model.feature_mean) / model.feature_std
            with torch.no_grad():
                h = net.encode(torch.tensor(window, dtype=torch.float32)[None])[0, -1]
                m, v = net.code(h)
                for draw in range(draws):
                    mu, s = net.decode((m + torch.exp(v / 2) * noise[draw, asset])[None], h[None])
                    residual = network.head == "residual"
                    b, centre = (baseline[asset], model.label_mean) if residual else (1.0, 0.0)
                    mean[draw, asset] = centre + np.sqrt(b) * float(mu)
                    variance[draw, asset] = factor * b * np.exp(float(s))
        means.append(mean)
        variances.append(variance)
    return np.concatenate(means), np.concatenate(variances)


@NETWORKS
def test_forecast_has_the_moments_of_the_mixture(network):
    model, history = make_model(network), make_history()
    mu, sigma2 = components(model, history, network)
    result = forecast(model, history, network=network)
    first, second = mu.mean(axis=0), (sigma2 + mu**2).mean(axis=0)
    np.testing.assert_allclose(result.mean, first, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(result.variance, second - first**2, rtol=1e-4)
    assert (result.variance > sigma2.mean(axis=0)).all()
    assert result.tails == TAILS


def test_an_untrained_residual_head_is_the_ewma_baseline():
    history = make_history()
    result = forecast(make_model(scale=0), history)
    last = [history.ewma_variance[0, 59], history.ewma_variance[1, 59], history.ewma_variance[2, 39]]
    np.testing.assert_allclose(result.variance, H * np.array(last), rtol=1e-12)
    np.testing.assert_array_equal(result.mean, 0.004)


@NETWORKS
def test_an_assets_forecast_does_not_depend_on_who_else_is_wanted(network):
    model, history = make_model(network), make_history()
    alone = forecast(model, history, last_rows(history, np.array([False, True, False])), network)
    everyone = forecast(model, history, network=network)
    np.testing.assert_allclose(alone.mean, everyone.mean[1:2], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(alone.variance, everyone.variance[1:2], rtol=1e-6)


def all_rows(history, sessions=range(25, 60)):
    """Rows of several sessions, each with a stamp of its own; the newest session first."""
    return predictive.joined([predictive.rows_at(history, s, ALL, STAMP + s) for s in reversed(sessions)])


@NETWORKS
@pytest.mark.parametrize("together", [4096, 10])
def test_several_sessions_at_once_are_one_session_at_a_time(network, together, monkeypatch):
    monkeypatch.setattr(mixtures, "ROWS", together)
    model, history = make_model(network), make_history()
    rows = all_rows(history)
    found = forecast(model, history, rows, network)
    assert found.mean.shape == found.variance.shape == (105,)
    for session in range(25, 60):
        here = rows.stamp == STAMP + session
        alone = forecast(model, history, predictive.chosen(rows, here), network)
        np.testing.assert_array_less(np.abs(found.mean[here] - alone.mean), 1e-6 * np.sqrt(alone.variance))
        np.testing.assert_allclose(found.variance[here], alone.variance, rtol=1e-6)


def test_the_draws_of_a_row_are_those_of_its_day_and_its_asset():
    model, history = make_model(), make_history()
    one = forecast(model, history, Rows(np.array([0, 0, 1]), np.array([30, 30, 30]), np.array([1, 1, 1]) + STAMP))
    assert one.variance[0] == one.variance[1]
    history.features[1], history.ewma_variance[1] = history.features[0], history.ewma_variance[0]
    same_data = forecast(model, history, Rows(np.array([0, 1, 0]), np.array([30] * 3), np.array([1, 1, 2]) + STAMP))
    assert len(set(same_data.variance.tolist())) == 3
    np.testing.assert_allclose(same_data.variance, same_data.variance[0], rtol=0.5)


def test_nothing_after_a_rows_own_session_is_used():
    model, history = make_model(), make_history((90, 90, 80))
    rows = Rows(np.array([0, 1, 2]), np.array([70, 75, 66]), np.full(3, STAMP))
    before = forecast(model, history, rows)
    assert np.isfinite(before.variance).all()
    for asset, column in zip(rows.asset, rows.column, strict=True):
        for values in history[:3]:
            values[asset, column + 1 :] = 7 * values[asset, column + 1 :] + 1
    assert as_bytes(forecast(model, history, rows)) == as_bytes(before)
    for values in (history.features, history.ewma_variance):
        values[1, 75] += 0.5
        after = forecast(model, history, rows)
        assert [after.variance[k] == before.variance[k] for k in range(3)] == [True, False, True]
        before = after


def test_only_the_last_window_is_read():
    model, history = make_model(), make_history()
    reference = forecast(model, history)
    history.features[:, : 40 - L] += 1.0
    history.log_return[:] = 0
    assert as_bytes(forecast(model, history)) == as_bytes(reference)
    for column in (40 - L, 39):
        history.features[2, column] += 1.0
        changed = forecast(model, history)
        assert changed.variance[2] != reference.variance[2]
        assert changed.mean[:2].tobytes() == reference.mean[:2].tobytes()
        assert changed.variance[:2].tobytes() == reference.variance[:2].tobytes()
        reference = changed


def test_rows_are_those_of_wanted_assets_at_their_last_session():
    history = make_history((60, 60, 0))
    history.session[1] += 30  # begins later
    rows = predictive.rows_at(history, 29, ALL, STAMP)
    assert [values.tolist() for values in rows] == [[0], [29], [STAMP]]
    rows = predictive.rows_at(history, 75, ALL, STAMP)
    assert [values.tolist() for values in rows] == [[0, 1], [59, 45], [STAMP] * 2]
    rows = predictive.rows_at(history, 75, np.array([False, True, True]), STAMP)
    assert [values.tolist() for values in rows] == [[1], [45], [STAMP]]


def test_rows_are_joined_and_chosen_in_order():
    history = make_history()
    parts = [predictive.rows_at(history, session, ALL, session) for session in (10, 50)]
    rows = predictive.joined(parts)
    assert [values.tolist() for values in rows] == [[0, 1, 2] * 2, [10] * 3 + [50, 50, 39], [10] * 3 + [50] * 3]
    some = predictive.chosen(rows, rows.column > 39)
    assert [values.tolist() for values in some] == [[0, 1], [50, 50], [50, 50]]


def test_a_row_is_complete_where_its_window_and_its_variance_are():
    history = make_history()
    history.features[1, 30, 2] = np.nan
    history.ewma_variance[0, 33] = np.nan
    asset, column = (index.ravel() for index in np.indices(history.session.shape))
    found = predictive.complete(history, Rows(asset, column, np.zeros_like(asset)), L)
    for row, i, t in zip(found, asset, column, strict=True):
        window = history.features[i, t - L + 1 : t + 1] if t >= L - 1 else np.array(np.nan)
        assert row == (np.isfinite(window).all() and np.isfinite(history.ewma_variance[i, t]))
    assert 0 < found.sum() < found.size


def test_an_asset_that_is_not_wanted_may_lack_everything():
    model, history = make_model(), make_history((60, 60, 0))
    result = forecast(model, history)
    assert result.variance.shape == (2,)
    assert np.isfinite(result.variance).all()


def test_a_row_without_its_data_is_refused():
    model, history = make_model(), make_history()
    history.features[1, 50, 2] = np.nan
    with pytest.raises(ValueError, match=r"assets \[1\] lack features, or an EWMA variance, in their last own"):
        forecast(model, history)
    history.ewma_variance[2, 39] = np.nan
    with pytest.raises(ValueError, match=r"assets \[1, 2\] lack features"):
        forecast(model, history)
    with pytest.raises(ValueError, match=r"assets \[0\] lack features"):
        forecast(model, history, Rows(np.array([0]), np.array([L - 2]), np.array([STAMP])))


def test_draws_repeat_with_the_date_and_change_with_it():
    model, history = make_model(), make_history()
    before = torch.get_rng_state()
    assert as_bytes(forecast(model, history)) == as_bytes(forecast(model, history))
    assert torch.equal(torch.get_rng_state(), before)
    other = forecast(model, history, last_rows(history, stamp=STAMP + 1))
    assert (other.variance != forecast(model, history).variance).all()


def test_without_draws_the_forecast_is_that_of_the_latent_mean():
    model, history = make_model(), make_history()
    still = replace(CONFIG, forecast=replace(CONFIG.forecast, draws=0))
    found = mixtures.vlstm(model, history, last_rows(history), still)
    again = mixtures.vlstm(model, history, last_rows(history, stamp=STAMP + 1), still)
    assert as_bytes(found) == as_bytes(again)
    many = replace(CONFIG, forecast=replace(CONFIG.forecast, draws=4000))
    drawn = mixtures.vlstm(model, history, last_rows(history), many)
    assert (found.variance < drawn.variance).all()


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_mean_is_shrunk_towards_the_pooled_mean(share):
    model, history = make_model(), make_history()
    whole, shrunk = forecast(model, history), forecast(model, history, mean_shrink=share)
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
    config = Forecaster(network=VLSTMConfig(likelihood="gaussian"), training=TrainingConfig(ensemble=1, epochs=4))
    horizon, split = config.features.horizon, int(prices.index.searchsorted(date(2011, 1, 1)))
    model, _ = training.train(real_history(prices, split - 1), config, STAMP)
    history = real_history(prices, len(prices) - 1)
    differences = []
    for session in range(split, len(prices) - horizon, 42):
        rows = predictive.rows_at(history, session, np.ones(8, bool), STAMP)
        ours = mixtures.vlstm(model, history, rows, config)
        y = np.log(prices.iloc[session + horizon] / prices.iloc[session]).to_numpy()
        baseline = negative_log_density(y, 0.0, horizon * history.ewma_variance[rows.asset, rows.column])
        differences.append(negative_log_density(y, ours.mean, ours.variance) - baseline)
    assert np.mean(differences) < 0.01
