"""The README's examples of code of one's own, run as they stand there."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks import learning, own_code
from tasks.numerics import online
from tasks.numerics.allocators import Market, Seen, checked
from tasks.numerics.configs import OnlineConfig

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", README, re.DOTALL))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the examples in which the program is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in EXAMPLES.items():
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path
    for name in EXAMPLES:
        sys.modules.pop(name, None)


def returns(sessions, n):
    return np.random.default_rng(0).normal(3e-4, 0.012, (sessions, n))


def test_the_examples_are_there():
    assert EXAMPLES.keys() == {"terms_of_mine", "momentum"}


def test_the_term_is_climbed_and_its_gradient_is_the_slope(folder):
    name = re.search(r'extra_terms="(terms_of_mine\.\w+)=(-?\d+)"', README)
    config = OnlineConfig(sortino_weight=0, drawdown_weight=0, turnover_weight=0, extra_terms=f"{name[1]}={name[2]}")
    recipe = learning.of_online("mine", config)
    assert recipe.source
    x, weights = returns(120, 5), np.full(5, 0.2)
    learner = learning.online_allocator(config)
    worst = (x @ weights).min()
    assert online.objective(weights, x, config) == pytest.approx(float(name[2]) * -worst)
    step = 1e-6 * np.eye(5)
    slope = [(online.objective(weights + s, x, config) - online.objective(weights - s, x, config)) / 2e-6 for s in step]
    np.testing.assert_allclose(online.gradient(weights, x, config), slope, rtol=1e-5)
    mask = np.ones((31, 5), bool)
    market = Market(x, mask, np.zeros(120), {})
    path = learner.run(learner.init(mask[0]), market)[1]
    assert (path[-1] != 0.2).any()


def test_the_strategy_holds_the_asset_that_rose_most(folder):
    x, mask = returns(252, 4), np.array([True, True, False, True])
    module = own_code.strategy("momentum")
    assert not own_code.is_stepped(module)
    weights = checked("momentum", module.allocate(Seen(x, mask, np.zeros(252), {})), mask)
    gains = np.where(mask, x[-120:].sum(axis=0), -np.inf)
    assert weights.argmax() == gains.argmax()
    assert weights.sum() == 1
