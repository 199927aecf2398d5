"""Correlation and covariance: definitions, the paper's sums written out, and edge cases."""

import numpy as np
import pytest

from tasks.numerics.covariance import correlation, covariance

SHRINKAGES = ["none", "ledoit_wolf", "ewma"]


def factor_returns(seed, sessions, n):
    rng = np.random.default_rng(seed)
    market = rng.normal(0, 0.01, (sessions, 1))
    return market * rng.uniform(0.5, 1.5, n) + rng.normal(0, 1, (sessions, n)) * rng.uniform(0.005, 0.03, n)


def paper_correlation(x):
    """Ledoit and Wolf 2004, appendix B, sum by sum."""
    sessions, n = x.shape
    y = x - x.mean(axis=0)
    s = y.T @ y / sessions
    r = s / np.sqrt(np.outer(np.diag(s), np.diag(s)))
    mean_r = sum(r[i, j] for i in range(n - 1) for j in range(i + 1, n)) * 2 / (n * (n - 1))
    f = np.array([[s[i, i] if i == j else mean_r * np.sqrt(s[i, i] * s[j, j]) for j in range(n)] for i in range(n)])
    pi = np.array([[np.mean((y[:, i] * y[:, j] - s[i, j]) ** 2) for j in range(n)] for i in range(n)])
    rho = np.trace(pi)
    for i in range(n):
        for j in range(n):
            if i != j:
                theta_ii = np.mean((y[:, i] ** 2 - s[i, i]) * (y[:, i] * y[:, j] - s[i, j]))
                theta_jj = np.mean((y[:, j] ** 2 - s[j, j]) * (y[:, i] * y[:, j] - s[i, j]))
                ratio = np.sqrt(s[j, j] / s[i, i])
                rho += mean_r / 2 * (ratio * theta_ii + theta_jj / ratio)
    delta = max(0.0, min(1.0, (pi.sum() - rho) / ((f - s) ** 2).sum() / sessions))
    shrunk = delta * f + (1 - delta) * s
    return delta, shrunk / np.sqrt(np.outer(np.diag(shrunk), np.diag(shrunk)))


def test_none_is_the_sample_correlation():
    x = factor_returns(0, 60, 20)
    np.testing.assert_allclose(correlation(x, "none"), np.corrcoef(x.T), atol=1e-14)


@pytest.mark.parametrize(("sessions", "n"), [(60, 8), (12, 15), (250, 5)])
def test_ledoit_wolf_is_the_papers_estimator(sessions, n):
    x = factor_returns(1, sessions, n)
    delta, expected = paper_correlation(x)
    assert 0 < delta < 1
    np.testing.assert_allclose(correlation(x, "ledoit_wolf"), expected, atol=1e-13)


def test_shrinkage_comes_closer_to_the_true_correlation_when_assets_outnumber_sessions():
    rng = np.random.default_rng(2)
    truth = np.full((109, 109), 0.4) + 0.6 * np.eye(109)
    x = rng.multivariate_normal(np.zeros(109), truth * 1e-4, size=60)
    sample, shrunk, weighted = (np.linalg.norm(correlation(x, shrinkage) - truth) for shrinkage in SHRINKAGES)
    assert shrunk < 0.6 * sample < 0.6 * weighted


@pytest.mark.parametrize("decay", [0.9, 0.97, 1.0])
def test_ewma_is_the_correlation_of_sessions_weighted_by_age(decay):
    x = factor_returns(11, 60, 12)
    weighted = np.cov(x.T, aweights=decay ** np.arange(59, -1, -1), ddof=0)
    sigma = np.sqrt(np.diag(weighted))
    np.testing.assert_allclose(correlation(x, "ewma", decay), weighted / np.outer(sigma, sigma), atol=1e-13)


def test_ewma_follows_what_is_recent_by_a_decay_of_0_97():
    x = factor_returns(12, 60, 2)
    x[:30, 1], x[30:, 1] = -x[:30, 0], x[30:, 0]
    assert abs(correlation(x, "none")[0, 1]) < 0.5
    assert correlation(x, "ewma")[0, 1] > correlation(x, "none")[0, 1] + 0.2
    assert correlation(x, "ewma", 0.5)[0, 1] > 0.99
    np.testing.assert_array_equal(correlation(x, "ewma"), correlation(x, "ewma", 0.97))
    np.testing.assert_array_equal(correlation(x, "none", 0.5), correlation(x, "none"))


def test_sessions_of_a_weight_that_is_rounding_do_not_count():
    x = factor_returns(13, 200, 3)
    x[100:, 1] = 0.0  # moved only before the sessions that count with a decay of 0.5
    result = correlation(x, "ewma", 0.5)
    np.testing.assert_array_equal(result[1], [0, 1, 0])
    np.testing.assert_array_equal(result, correlation(x[100:], "ewma", 0.5))


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("n", [9, 20, 109, 500])
def test_correlation_and_covariance_are_semi_definite_up_to_rounding(n, shrinkage):
    x = factor_returns(n, 60, n)
    sigma = np.random.default_rng(n).uniform(0, 0.2, n)
    result = correlation(x, shrinkage)
    assert np.linalg.eigvalsh(result).min() > -1e-12
    assert np.linalg.eigvalsh(covariance(sigma, result)).min() > -1e-13


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
def test_the_result_is_semi_definite_symmetric_with_unit_diagonal_on_deficient_data(shrinkage):
    x = factor_returns(3, 60, 109)
    x[:, 5] = x[:, 4]
    x[:, 6] = -2 * x[:, 4]
    x[:, 7] = 0.001
    sigma = np.random.default_rng(4).uniform(0, 0.2, 109)
    result = correlation(x, shrinkage)
    assert (result == result.T).all()
    assert (np.diag(result) == 1).all()
    assert np.linalg.eigvalsh(result).min() > -1e-12
    assert np.linalg.eigvalsh(covariance(sigma, result)).min() > -1e-12 * sigma.max() ** 2


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("constant", [0.0, 0.1, 7e-5])
def test_a_column_without_variance_stands_alone_and_leaves_the_others_as_they_were(shrinkage, constant):
    x = factor_returns(5, 60, 6)
    x[:, 2] = constant
    result = correlation(x, shrinkage)
    np.testing.assert_array_equal(result[2], np.eye(6)[2])
    others = np.delete(np.delete(result, 2, axis=0), 2, axis=1)
    np.testing.assert_allclose(others, correlation(np.delete(x, 2, axis=1), shrinkage), atol=1e-15)


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
def test_all_columns_without_variance_give_the_identity(shrinkage):
    np.testing.assert_array_equal(correlation(np.zeros((60, 4)), shrinkage), np.eye(4))


def test_duplicates_alone_have_nothing_to_shrink():
    x = np.repeat(factor_returns(6, 60, 1), 5, axis=1)
    np.testing.assert_allclose(correlation(x, "ledoit_wolf"), np.ones((5, 5)), atol=1e-15)


def test_two_assets_are_their_own_target():
    x = factor_returns(7, 60, 2)
    np.testing.assert_array_equal(correlation(x, "ledoit_wolf"), correlation(x, "none"))


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
def test_a_view_of_a_longer_history_gives_the_same_bits(shrinkage):
    history = factor_returns(8, 300, 20)
    alone = np.array(history[100:160], order="F")
    np.testing.assert_array_equal(correlation(history[100:160], shrinkage), correlation(alone, shrinkage))


def test_covariance_scales_element_by_element():
    s = correlation(factor_returns(9, 60, 12), "none")
    sigma = np.random.default_rng(9).uniform(0, 0.3, 12)
    h = covariance(sigma, s)
    assert (h == h.T).all()
    np.testing.assert_allclose(h, np.diag(sigma) @ s @ np.diag(sigma), rtol=1e-14)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_their_column(value):
    x = factor_returns(10, 60, 5)
    x[7, 3] = value
    with pytest.raises(ValueError, match="log_returns is not finite in column 3"):
        correlation(x, "none")
    with pytest.raises(ValueError, match="sigma is not finite in column 1"):
        covariance(np.array([0.1, value]), np.eye(2))
    with pytest.raises(ValueError, match="correlation is not finite in column 0"):
        covariance(np.array([0.1, 0.1]), np.array([[value, 0], [0, 1]]))


def test_what_is_no_correlation_problem_is_refused():
    with pytest.raises(ValueError, match="'shrunk'"):
        correlation(np.zeros((60, 2)), "shrunk")
    for decay in (0.0, 1.01):
        with pytest.raises(ValueError, match=f"decay is {decay}; it must be above 0 and at most 1"):
            correlation(np.zeros((60, 2)), "ewma", decay)
    with pytest.raises(ValueError, match="decay is 1e-20, with which a single session counts"):
        correlation(np.zeros((60, 2)), "ewma", 1e-20)
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        correlation(np.zeros((1, 2)), "none")
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        covariance(np.ones(3), np.eye(2))
    with pytest.raises(ValueError, match="column 1"):
        covariance(np.array([0.1, -0.1]), np.eye(2))


def test_identity_is_no_correlation_whatever_the_returns():
    returns = np.random.default_rng(0).normal(size=(60, 4))
    np.testing.assert_array_equal(correlation(returns, "identity"), np.eye(4))
