"""Single stocks: what each would have earned alone, and the share of them that is beaten."""

import numpy as np
import pytest

from tasks.numerics import metrics, singles
from tasks.numerics.configs import AccountingConfig

FREE = AccountingConfig(cost=0.0, cash_rate=0.0)
NEVER = np.full(3, 99)


def test_two_stocks_by_hand():
    returns = np.array([[9.0, 9.0], [0.5, 0.5], [0.1, -0.2], [-0.5, 0.25]])
    daily = singles.hold_each(returns, np.ones((4, 2), bool), 1, AccountingConfig(cost=0.01, cash_rate=0.0), NEVER[:2])
    np.testing.assert_allclose(daily, [[-0.01, -0.01], [0.1, -0.2], [-0.5, 0.25]], rtol=1e-12)
    found = singles.measured(daily, 0.0)
    np.testing.assert_allclose(found.cumulative_return, [0.99 * 1.1 * 0.5 - 1, 0.99 * 0.8 * 1.25 - 1])
    np.testing.assert_allclose(found.max_drawdown, [0.5, 1 - 0.99 * 0.8])


@pytest.mark.parametrize("series", [False, True])
def test_measures_are_those_of_a_strategy(series):
    rng = np.random.default_rng(4)
    returns, cash = rng.normal(4e-4, 0.02, (300, 3)), rng.normal(1e-4, 1e-5, 300)
    rate = cash[20:] if series else 1e-4
    daily = singles.hold_each(returns, np.ones((300, 3), bool), 20, AccountingConfig(), NEVER * 99)
    found = singles.measured(daily, rate)
    for place in range(3):
        nothing = np.zeros(1)
        expected = metrics.measures(daily[:, place], np.ones((1, 1)), nothing, nothing, np.zeros(280, np.int64), rate)
        for name, values in found._asdict().items():
            assert values[place] == pytest.approx(expected[name], rel=1e-12), name


def test_a_delisted_stock_is_sold_and_earns_what_cash_does():
    returns, tradable = np.full((5, 1), 0.1), np.ones((5, 1), bool)
    config = AccountingConfig(cost=0.01, cash_rate=0.252, delisting_haircut=0.5)
    daily = singles.hold_each(returns, tradable, 1, config, np.array([3]))
    np.testing.assert_allclose(daily[:, 0], [-0.01, 0.1, 1.1 * 0.5 * 0.99 - 1, 0.001], rtol=1e-12)


def test_a_stock_that_never_moves_has_no_sharpe_ratio_and_no_stock_has_no_measures():
    found = singles.measured(np.zeros((5, 1)), 0.0)
    assert (found.cumulative_return[0], found.annual_volatility[0], found.max_drawdown[0]) == (0, 0, 0)
    assert np.isnan(found.sharpe[0])
    none = singles.hold_each(np.zeros((5, 0)), np.zeros((5, 0), bool), 1, FREE, NEVER[:0])
    assert none.shape == (4, 0)
    assert singles.measured(none, 0.0).sharpe.size == 0


@pytest.mark.parametrize(
    ("value", "others", "share"),
    [
        (0.5, [0.1, 0.5, 0.9, 0.2], 0.5),  # a draw is not beaten
        (0.5, [0.1, np.nan, 0.9], 0.5),
        (0.5, [], np.nan),
        (0.5, [np.nan], np.nan),
        (np.nan, [0.1], np.nan),
    ],
)
def test_the_share_beaten_counts_what_lies_below(value, others, share):
    assert singles.share_beaten(value, np.array(others)) == pytest.approx(share, nan_ok=True)
