"""Constant mixes, buy and hold, the best mix in hindsight, and the published results of online portfolio selection."""

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.numerics.configs import EXPONENTIATED_GRADIENT, OnlineConfig
from tasks.numerics.mixes import best_constant_mix, buy_and_hold, constant_mix
from tasks.numerics.online import init, run

OLPS = Path(__file__).parents[3] / "shared" / "data" / "olps"
needs_data = pytest.mark.skipif(not OLPS.exists(), reason="the shared market data are not here")


def returns(seed, periods, n):
    return np.random.default_rng(seed).normal(1e-3, 0.02, (periods, n))


def test_wealth_by_hand():
    x = np.array([[1.0, -0.5], [-0.5, 1.0]])
    assert constant_mix(x, np.array([0.5, 0.5])) == pytest.approx(1.25**2)
    assert buy_and_hold(x, np.array([0.5, 0.5])) == pytest.approx(1.0)
    np.testing.assert_allclose(best_constant_mix(x), [0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_mix_ends_with_more(seed):
    x = returns(seed, 200, 3)
    best = np.log(constant_mix(x, best_constant_mix(x)))
    steps = np.linspace(0, 1, 41)
    grid = [np.array([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1]
    others = max(np.log(constant_mix(x, weights)) for weights in grid)
    assert best >= others
    assert best <= others + 1e-2


def test_the_best_mix_of_many_assets_is_certain():
    x = returns(9, 400, 60)
    weights = best_constant_mix(x)
    gains = ((1 + x) / ((1 + x) @ weights)[:, None]).mean(axis=0)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert weights.min() == 0
    assert 400 * np.log(gains.max()) <= 1e-9


def test_an_asset_that_dominates_is_all_of_it():
    x = returns(3, 50, 4)
    x[:, 2] = x.max(axis=1) + 1e-3
    np.testing.assert_allclose(best_constant_mix(x), [0, 0, 1, 0], atol=1e-12)


def test_a_loss_of_everything_is_refused():
    x = returns(4, 5, 2)
    x[3, 1] = -1
    with pytest.raises(ValueError, match=r"returns is -1\.0 in row 3, column 1; it must be above -1"):
        best_constant_mix(x)


@needs_data
@pytest.mark.parametrize("market", ["nyse-o", "tse", "djia"])
def test_published_results_are_reproduced_to_the_printed_digit(market):
    pd = pytest.importorskip("pandas")
    expected = json.loads((OLPS / "expected.json").read_text())[market]["reproduced"]
    x = pd.read_parquet(OLPS / f"{market}.parquet").to_numpy(float) - 1
    uniform = np.full(x.shape[1], 1 / x.shape[1])
    mask = np.ones(x.shape, bool)
    _, path = run(init(mask[0], EXPONENTIATED_GRADIENT), x, mask, EXPONENTIATED_GRADIENT)
    held = np.vstack([uniform, path.weights[:-1]])  # decided with all periods before
    found = {
        "eg": np.prod((held * (1 + x)).sum(axis=1)),
        "ucrp": constant_mix(x, uniform),
        "bcrp": constant_mix(x, best_constant_mix(x)),
        "ubah": buy_and_hold(x, uniform),
        "best_stock": max(buy_and_hold(x, single) for single in np.eye(x.shape[1])),
    }
    for name, wealth in found.items():
        assert float(f"{wealth:.8g}") == expected[name], name


def test_exponentiated_gradient_is_close_to_the_uniform_mix_at_a_small_rate():
    x, mask = returns(5, 300, 6), np.ones((300, 6), bool)
    config = OnlineConfig(
        objective="log_wealth",
        geometry="entropy",
        learning_rate=1e-9,
        momentum=0,
        decay=1,
        turnover_weight=0,
        l1_weight=0,
    )
    _, path = run(init(mask[0], config), x, mask, config)
    np.testing.assert_allclose(path.weights, 1 / 6, atol=1e-7)
