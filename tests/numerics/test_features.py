"""Features against closed forms, pandas, and the rule that nothing after a session may change it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.numerics import features
from tasks.numerics.configs import FeatureConfig
from tasks.numerics.features import Series

SCALED, DOCUMENT = FeatureConfig(features="scaled"), FeatureConfig(features="document")
L = SCALED.lookback


def make_series(sessions=300, seed=0, **changes):
    rng = np.random.default_rng(seed)
    market = 0.01 * rng.standard_normal(sessions)
    log_return = 0.8 * market + 0.015 * rng.standard_normal(sessions)
    log_return[0] = market[0] = np.nan
    series = Series(
        log_return=log_return,
        high_ratio=1 + 0.01 * rng.random(sessions),
        low_ratio=1 - 0.01 * rng.random(sessions),
        volume=np.exp(14 + 0.3 * rng.standard_normal(sessions)),
        median_log_volume=np.full(sessions, 13.0),
        market_log_return=market,
    )
    return series._replace(**changes)


def column(series, config, name):
    return features.compute(series, (name,), config)[:, 0]


def first(series, sessions):
    return Series(*(None if values is None else values[:sessions].copy() for values in series))


def replaced_after(series, session, value):
    changed = Series(*(values.copy() for values in series))
    for values in changed:
        values[session + 1 :] = value
    return changed


@pytest.mark.parametrize("config", [SCALED, DOCUMENT])
@pytest.mark.parametrize("sessions", [67, 100, 131, 257])
def test_features_are_the_same_bytes_when_a_future_follows(config, sessions):
    series, chosen = make_series(), features.names(config, True)
    whole = features.compute(series, chosen, config)
    assert features.compute(first(series, sessions), chosen, config).tobytes() == whole[:sessions].tobytes()


@pytest.mark.parametrize("config", [SCALED, DOCUMENT])
def test_features_do_not_see_what_comes_after_them(config):
    series, chosen = make_series(), features.names(config, True)
    whole = features.compute(series, chosen, config)
    other = features.compute(replaced_after(series, 200, 3.0), chosen, config)
    assert other[:201].tobytes() == whole[:201].tobytes()
    assert (other[201:] != whole[201:]).any(axis=0).all()


@pytest.mark.parametrize("config", [SCALED, DOCUMENT])
def test_the_first_row_is_at_the_lookback_and_all_later_ones_are_finite(config):
    values = features.compute(make_series(), features.names(config, True), config)
    assert values.dtype == np.float32
    assert np.isnan(values[:L]).all()
    assert np.isfinite(values[L:]).all()


@given(st.floats(0.01, 3), st.floats(0.1, 1e3))
@settings(max_examples=25, deadline=None)
def test_scaled_features_are_free_of_scale(returns_scale, volume_scale):
    series = make_series()
    other = series._replace(
        log_return=returns_scale * series.log_return,
        market_log_return=returns_scale * series.market_log_return,
        volume=volume_scale * (1 + series.volume) - 1,
    )
    for name in ("position", "shock", "variance_ratio", "beta"):
        np.testing.assert_allclose(column(other, SCALED, name), column(series, SCALED, name), atol=1e-4, err_msg=name)
    np.testing.assert_allclose(column(other, DOCUMENT, "volume"), column(series, DOCUMENT, "volume"), atol=1e-4)


def test_ewma_variance_is_the_weighted_sum_of_squares():
    log_return = make_series().log_return
    t, start, decay = 250, 66, 0.97
    weights = (1 - decay) * decay ** np.arange(t - start)
    recent = log_return[start + 1 : t + 1][::-1] ** 2
    expected = weights @ recent + decay ** (t - start) * np.mean(log_return[1 : start + 1] ** 2)
    variance = features.ewma_variance(log_return)
    assert np.isnan(variance[:start]).all()
    assert variance[start] == pytest.approx(np.mean(log_return[1 : start + 1] ** 2), rel=1e-12)
    assert variance[t] == pytest.approx(expected, rel=1e-12)


def test_ewma_variance_of_a_still_price_is_its_floor():
    assert features.ewma_variance(np.zeros(100))[-1] == features.VARIANCE_FLOOR


def test_ewma_variance_starts_anew_after_a_gap():
    log_return = make_series().log_return
    gap = log_return.copy()
    gap[100] = np.nan
    fresh = features.ewma_variance(gap[100:])
    assert np.isnan(fresh[:66]).all()
    assert features.ewma_variance(gap)[100:].tobytes() == fresh.tobytes()
    assert features.ewma_variance(gap)[:100].tobytes() == features.ewma_variance(log_return)[:100].tobytes()


def test_trailing_statistics_agree_with_pandas():
    series = make_series()
    returns, market = pd.Series(series.log_return), pd.Series(series.market_log_return)
    log_price, log_volume = returns.fillna(0).cumsum(), pd.Series(np.log1p(series.volume))
    expected = {
        "price": log_price - log_price.rolling(L).mean(),
        "volume": (log_volume - log_volume.rolling(L).mean()) / log_volume.rolling(L).std(),
        "log_return": returns,
        "volatility": returns.rolling(L).std() * np.sqrt(252),
        "ema20": log_price - np.log(np.exp(log_price).ewm(span=20, adjust=False).mean()),
        "ema50": log_price - np.log(np.exp(log_price).ewm(span=50, adjust=False).mean()),
        "beta": returns.rolling(L).cov(market) / market.rolling(L).var(),
        "log_volume": log_volume - 13.0,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(column(series, DOCUMENT, name)[L:], values[L:], rtol=1e-5, atol=1e-6, err_msg=name)


def test_scaled_features_are_the_document_ones_in_units_of_volatility():
    series = make_series()
    sigma = np.sqrt(features.ewma_variance(series.log_return, 0.94, L))
    squares = pd.Series(series.log_return**2)
    expected = {
        "position": column(series, DOCUMENT, "price") / (sigma * np.sqrt(L)),
        "shock": series.log_return / sigma,
        "variance_ratio": 0.5 * np.log(squares.rolling(L).mean() / squares.expanding().mean()),
        "volatility": np.log(sigma * np.sqrt(252)),
        "ema20": column(series, DOCUMENT, "ema20") / (sigma * np.sqrt(20)),
        "ema50": column(series, DOCUMENT, "ema50") / (sigma * np.sqrt(50)),
        "beta": column(series, DOCUMENT, "beta") - 1,
        "market_volatility": np.log(252 * features.ewma_variance(series.market_log_return, 0.94, L)) / 2,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(column(series, SCALED, name)[L:], values[L:], rtol=1e-5, atol=1e-6, err_msg=name)


def test_momentum_index_agrees_with_pandas():
    series = make_series()
    close = np.exp(pd.Series(series.log_return).fillna(0).cumsum())
    top = (close * series.high_ratio).rolling(10, min_periods=1).max()
    bottom = (close * series.low_ratio).rolling(10, min_periods=1).min()

    def smooth(values):
        return values.ewm(span=5, adjust=False).mean().ewm(span=10, adjust=False).mean()

    expected = smooth(close - (top + bottom) / 2) / (smooth(top - bottom) / 2)
    np.testing.assert_allclose(column(series, SCALED, "smi")[L:], expected[L:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("drift", "limit"), [(0.01, 1.0), (-0.01, -1.0)])
def test_momentum_index_of_a_steady_trend_of_closes_is_its_bound(drift, limit):
    series = make_series(log_return=np.full(400, drift), high_ratio=None, low_ratio=None)
    series = series._replace(market_log_return=np.zeros(400))
    assert column(series, SCALED, "smi")[-1] == pytest.approx(limit, abs=1e-3)


@given(st.integers(0, 1000), st.floats(0.5, 1.5))
@settings(max_examples=25, deadline=None)
def test_momentum_index_stays_in_its_bounds_whatever_the_highs_and_lows(seed, factor):
    series = make_series(200, seed)
    series = series._replace(high_ratio=factor * series.high_ratio, low_ratio=factor * series.low_ratio)
    assert np.abs(column(series, SCALED, "smi")[L:]).max() <= 1 + 1e-6


def test_a_missing_high_counts_as_the_close():
    series = make_series()
    series.high_ratio[150] = np.nan
    as_close = make_series()
    as_close.high_ratio[150] = 1.0
    np.testing.assert_array_equal(column(series, SCALED, "smi"), column(as_close, SCALED, "smi"))


def test_an_asset_that_is_the_market_has_beta_one():
    series = make_series()
    series = series._replace(market_log_return=series.log_return)
    np.testing.assert_allclose(column(series, DOCUMENT, "beta")[L:], 1, rtol=1e-6)
    np.testing.assert_allclose(column(series, SCALED, "beta")[L:], 0, atol=1e-6)


def test_extremes_are_clipped():
    series = make_series()
    series.log_return[250] = 2.0
    assert column(series, SCALED, "shock")[250] == pytest.approx(1 / np.sqrt(0.06), rel=1e-3)
    series.log_return[251:] = 0.5
    assert np.abs(column(series, SCALED, "ema20")[L:]).max() <= 4
    assert np.abs(column(series, SCALED, "beta")[L:]).max() <= 3


def test_a_still_price_and_volume_give_finite_features():
    still = make_series(
        log_return=np.r_[np.nan, np.zeros(199)],
        market_log_return=np.r_[np.nan, np.zeros(199)],
        high_ratio=None,
        low_ratio=None,
        volume=np.zeros(200),
        median_log_volume=np.zeros(200),
    )
    for config in (SCALED, DOCUMENT):
        assert np.isfinite(features.compute(still, features.names(config, True), config)[L:]).all()


def test_a_missing_volume_is_missing_for_a_lookback_and_no_longer():
    series = make_series()
    series.volume[150] = np.nan
    assert np.flatnonzero(np.isnan(column(series, DOCUMENT, "volume")[L:])).tolist() == list(range(150 - L, 150))


def test_features_of_volume_are_left_out_by_name():
    assert features.names(SCALED, True) == features.names(SCALED, False)
    assert set(features.names(DOCUMENT, True)) - set(features.names(DOCUMENT, False)) == {"volume", "log_volume"}
    assert len(features.names(SCALED, False)) == len(features.names(DOCUMENT, True)) == 9


def test_a_series_shorter_than_the_lookback_has_no_feature():
    values = features.compute(make_series(30), features.names(SCALED, True), SCALED)
    assert values.shape == (30, 9)
    assert np.isnan(values).all()


def test_refusals_name_the_value_and_the_remedy():
    series = make_series()
    with pytest.raises(ValueError, match=r"'rsi'.*choose from position"):
        features.compute(series, ("rsi",), SCALED)
    with pytest.raises(ValueError, match=r"volume is None.*has_volume=False"):
        features.compute(series._replace(volume=None), ("volume",), DOCUMENT)
    series.log_return[17] = np.inf
    with pytest.raises(ValueError, match=r"log_return\[17\] is inf"):
        features.compute(series, ("shock",), SCALED)
