"""The fitness score: parts by hand, and their sum."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.numerics import fitness
from tasks.numerics.configs import FitnessConfig

MEASURED = {"sortino": 1.2, "worst_year_drawdown": 0.15, "turnover": 0.8, "hhi": 900.0}
ALL = FitnessConfig(
    return_weight=2.0, factor_weight=0.3, factor_targets="MKT=1, MOM=0.5", instability_weight=4.0, drawdown_weight=1.5
)


def daily(count=300):
    return np.random.default_rng(0).normal(0.0005, 0.01, count)


def test_the_default_weights_are_those_of_the_document():
    got = fitness.score(MEASURED, daily(), {}, FitnessConfig())
    assert got["fitness"] == pytest.approx(1.2 - 0.15 - 0.5 * 0.8 - 0.2 * 0.09, abs=1e-12)
    assert {name for name, value in got.items() if value == 0} == {
        "fitness_return",
        "fitness_factors",
        "fitness_instability",
    }


def test_every_part_by_hand_and_the_sum():
    returns = daily()
    got = fitness.score(MEASURED, returns, {"MKT": 0.9, "SIZE": -0.2}, ALL)
    rolling = [np.prod(1 + returns[t : t + 63]) - 1 for t in range(300 - 63 + 1)]
    assert got["fitness_sortino"] == 1.2
    assert got["fitness_return"] == pytest.approx(2 * 252 * returns.mean())
    assert got["fitness_drawdown"] == pytest.approx(-1.5 * 0.15)
    assert got["fitness_turnover"] == pytest.approx(-0.4)
    assert got["fitness_concentration"] == pytest.approx(-0.018)
    assert got["fitness_factors"] == pytest.approx(-0.3 * (0.1 + 0.2 + 0.5))
    assert got["fitness_instability"] == pytest.approx(-4 * np.std(rolling, ddof=1))
    assert set(got) == {"fitness", *(f"fitness_{part}" for part in fitness.PARTS)}
    assert abs(got["fitness"] - sum(got[f"fitness_{part}"] for part in fitness.PARTS)) <= 1e-12


def test_a_part_that_is_undefined_counts_only_with_a_weight():
    measured = MEASURED | {"sortino": np.nan}
    assert np.isnan(fitness.score(measured, daily(), {}, FitnessConfig())["fitness"])
    assert np.isfinite(fitness.score(measured, daily(), {}, FitnessConfig(sortino_weight=0.0))["fitness"])
    assert np.isnan(fitness.score(MEASURED, daily(64 - 1), {}, ALL)["fitness_instability"])
    assert np.isfinite(fitness.score(MEASURED, daily(64), {}, replace(ALL, factor_weight=0.0))["fitness"])


def test_betas_are_those_of_one_regression_on_all_factors():
    rng = np.random.default_rng(1)
    factors = {"a": rng.normal(size=200), "b": rng.normal(size=200)}
    excess = 0.1 + 0.7 * factors["a"] - 0.2 * factors["b"]
    factors["b"][:50] = np.nan
    assert fitness.betas(excess, factors) == pytest.approx({"a": 0.7, "b": -0.2})
    assert np.isnan([*fitness.betas(excess[:52], {name: f[:52] for name, f in factors.items()}).values()]).all()
