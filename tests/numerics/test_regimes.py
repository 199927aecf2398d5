"""Regimes: the same as one computed by pandas session by session, blind to the future, and records split by them."""

import numpy as np
import pandas as pd
import pytest

from tasks.numerics import regimes


def market(count=900, seed=0):
    rng = np.random.default_rng(seed)
    scale = np.repeat(rng.uniform(0.004, 0.02, count // 50 + 1), 50)[:count]
    return rng.normal(3e-4, scale)


def by_pandas(returns):
    """Regimes as the words say, one session after the other."""
    values = pd.Series(returns)
    volatility = values.rolling(63).std()
    level = pd.concat([pd.Series([1.0]), (1 + values).cumprod()], ignore_index=True)
    average = level.rolling(200).mean()
    found = []
    for t in range(values.size):
        seen = volatility[: t + 1].dropna()
        if seen.size < 252 or np.isnan(average[t + 1]):
            found.append(-1)
            continue
        tercile = int(seen.iloc[-1] > seen.quantile(1 / 3)) + int(seen.iloc[-1] > seen.quantile(2 / 3))
        found.append(2 * tercile + int(level[t + 1] > average[t + 1]))
    return found


def test_regimes_are_those_of_the_words():
    returns = market()
    found = regimes.at(returns, np.arange(returns.size))
    assert found.regime.tolist() == by_pandas(returns)
    assert set(found.regime) == {-1, *range(6)}
    assert (found.regime == -1).sum() == 62 + 251
    known = found.regime >= 0
    np.testing.assert_allclose(found.volatility[known], pd.Series(returns).rolling(63).std()[known], rtol=1e-9)
    assert (found.lower[known] <= found.upper[known]).all()
    assert np.isnan(found.volatility[~known]).all()


def test_nothing_depends_on_a_later_session():
    returns, day = market(), 600
    other = returns.copy()
    other[day + 1 :] = 0.1
    for one, two in zip(regimes.at(returns, np.array([day])), regimes.at(other, np.array([day])), strict=True):
        np.testing.assert_array_equal(one, two)
    other[day] = -0.2
    assert regimes.at(other, np.array([day])).volatility != regimes.at(returns, np.array([day])).volatility


def test_sessions_before_the_first_return_do_not_count():
    returns, places = market(), np.arange(400, 900)
    padded = np.concatenate([np.full(100, np.nan), returns])
    np.testing.assert_array_equal(regimes.at(padded, places + 100), regimes.at(returns, places))
    assert regimes.at(padded, np.array([-1, 50])).regime.tolist() == [-1, -1]
    assert regimes.at(np.full(50, np.nan), np.array([49])).regime.tolist() == [-1]


def test_what_cannot_be_labelled_is_refused():
    returns = market()
    with pytest.raises(ValueError, match="they must lie below 900"):
        regimes.at(returns, np.array([900]))
    returns[500] = np.nan
    with pytest.raises(ValueError, match="market has no return at 500"):
        regimes.at(returns, np.array([3]))


def test_a_return_has_the_regime_of_what_was_held_before_its_close():
    found = regimes.of_returns(np.array([10, 13, 15]), np.array([4, 1, 2]), 8)
    assert found.tolist() == [4, 4, 4, 4, 1, 1, 2, 2]


def test_parts_of_a_record_make_the_whole():
    returns, cash = market(), np.full(900, 1e-4)
    labels = regimes.at(returns, np.arange(900)).regime
    found = regimes.measured(labels, returns, cash)
    assert list(found) == list(regimes.NAMES)
    assert sum(part["sessions"] for part in found.values()) == (labels >= 0).sum()
    whole = np.prod([1 + part["return"] for part in found.values()])
    assert whole == pytest.approx(np.prod(1 + returns[labels >= 0]), rel=1e-12)
    own = returns[labels == 3] - cash[labels == 3]
    assert found["middle_above"]["sharpe"] == pytest.approx(own.mean() / own.std(ddof=1) * 252**0.5, rel=1e-12)


def test_a_regime_without_returns_is_left_out_and_one_return_has_no_ratio():
    found = regimes.measured(np.array([2, -1]), np.array([0.01, 0.02]), np.zeros(2))
    assert list(found) == ["middle_below"]
    assert np.isnan(found["middle_below"]["sharpe"])
