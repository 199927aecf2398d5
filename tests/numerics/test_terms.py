"""Every term of the online objective: value and gradient against autograd, by hand, and as a registry."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from tasks.numerics import terms
from tasks.numerics.configs import OnlineConfig
from tasks.numerics.online import gradient, objective

OFF = OnlineConfig(sortino_weight=0, drawdown_weight=0)
RF = 0.02 / 252


def market(seed, sessions=90, n=12, size=1.0):
    rng = np.random.default_rng(seed)
    return size * (rng.normal(3e-4, 0.008, (sessions, 1)) + rng.normal(0, 0.012, (sessions, n)))


def sessions_of(x, w, cash):
    """Returns of the portfolio, what is not invested in cash."""
    return x @ w + (1 - w.sum()) * cash


def expectation(values, half_life):
    if half_life is None:
        return values.mean()
    ages = torch.arange(len(values) - 1, -1, -1, dtype=torch.float64)
    weights = 0.5 ** (ages / half_life)
    return (weights * values).sum() / weights.sum()


def torch_sortino(r, cash, half_life=None):
    downside = torch.sqrt((torch.clamp(r - cash, max=0) ** 2).mean() + 1e-8)
    return expectation(r - cash, half_life) / downside


def torch_wealth(r):
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(torch.clamp(1 + r, min=1e-6), 0)])


def torch_depths(r):
    wealth = torch_wealth(r)
    return 1 - wealth / torch.cummax(wealth, 0).values


def torch_worst(values, share):
    """Mean of the largest share of the values, the last of them in part."""
    ordered, count = torch.sort(values, descending=True).values, share * len(values)
    whole = int(count)
    return (ordered[:whole].sum() + (count - whole) * ordered[whole]) / count


def torch_betas(r, factors):
    design = torch.cat([torch.ones((len(r), 1), dtype=torch.float64), factors], 1)
    return torch.linalg.solve(design.T @ design, design.T @ r)[1:]


def torch_effective(w):
    return w.abs().sum() ** 2 / (w**2).sum()


FACTORS = {"value": market(901, n=1)[:, 0], "size": market(902, n=1)[:, 0]}
STACKED = torch.tensor(np.column_stack(list(FACTORS.values())))
CASES = {
    "sortino": (replace(OFF, sortino_weight=1.5), lambda r, c, w: 1.5 * torch_sortino(r, c)),
    "exponential sortino": (
        replace(OFF, sortino_weight=2, expected_return="exponential", half_life=20),
        lambda r, c, w: 2 * torch_sortino(r, c, 20),
    ),
    "drawdown": (replace(OFF, drawdown_weight=3), lambda r, c, w: -3 * torch_depths(r).max()),
    "return": (replace(OFF, return_weight=7), lambda r, c, w: 7 * r.mean()),
    "exponential return": (
        replace(OFF, return_weight=7, expected_return="exponential"),
        lambda r, c, w: 7 * expectation(r, 63),
    ),
    "cvar": (replace(OFF, cvar_weight=5), lambda r, c, w: -5 * torch_worst(-r, 0.05)),
    "cvar in whole sessions": (replace(OFF, cvar_weight=5, cvar_level=0.9), lambda r, c, w: -5 * torch_worst(-r, 0.1)),
    "factors": (
        replace(OFF, factor_weight=2, factor_targets="size=0.5"),
        lambda r, c, w: -2 * ((torch_betas(r, STACKED) - torch.tensor([0.0, 0.5])) ** 2).sum(),
    ),
    "too few positions": (
        replace(OFF, concentration_weight=0.3, effective_minimum=11.9),
        lambda r, c, w: -0.3 * (11.9 - torch_effective(w)),
    ),
    "too many positions": (
        replace(OFF, concentration_weight=0.3, effective_maximum=1.5),
        lambda r, c, w: -0.3 * (torch_effective(w) - 1.5),
    ),
    "volatility": (replace(OFF, volatility_weight=2), lambda r, c, w: -2 * 252**0.5 * r.std()),
    "variance": (replace(OFF, extra_terms="variance=-4"), lambda r, c, w: -4 * 252 * r.var()),
    "semivariance": (
        replace(OFF, extra_terms="semivariance=-4"),
        lambda r, c, w: -4 * 252 * (torch.clamp(r - c, max=0) ** 2).mean(),
    ),
    "cdar": (replace(OFF, extra_terms="cdar=-2"), lambda r, c, w: -2 * torch_worst(torch_depths(r)[1:], 0.05)),
    "all at once": (
        OnlineConfig(cvar_weight=1, volatility_weight=0.5, return_weight=2, extra_terms="cdar=-1"),
        lambda r, c, w: (
            torch_sortino(r, c)
            - torch_depths(r).max()
            - torch_worst(-r, 0.05)
            - 0.5 * 252**0.5 * r.std()
            + 2 * r.mean()
            - torch_worst(torch_depths(r)[1:], 0.05)
        ),
    ),
}
BOOKS = {
    "long": lambda rng: rng.dirichlet(np.ones(12)),
    "with cash": lambda rng: 0.6 * rng.dirichlet(np.ones(12)),
    "long and short": lambda rng: 1.3 * rng.dirichlet(np.ones(12)) - 0.3 * rng.dirichlet(np.ones(12)),
}


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_of_every_term_are_those_of_autograd(case, book):
    config, expected = CASES[case]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, w, cash = market(seed, size=1 + seed), BOOKS[book](rng), rng.normal(RF, 1e-4, 90)
        variable = torch.tensor(w, requires_grad=True)
        series = torch.tensor(cash)
        value = expected(sessions_of(torch.tensor(x), variable, series), series, variable)
        value.backward()
        slope = variable.grad.numpy()
        assert objective(w, x, config, cash, FACTORS) == pytest.approx(value.item(), rel=1e-12, abs=1e-13)
        assert np.abs(gradient(w, x, config, cash, FACTORS) - slope).max() <= 1e-12 * max(np.abs(slope).max(), 1.0)


def test_every_registered_term_was_compared_with_autograd():
    covered = {term.name for config, _ in CASES.values() for term in terms.chosen(config, tuple(FACTORS))}
    assert covered == {name for name in terms.TERMS if "." not in name}


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_the_slope_of_the_objective(case):
    config, x = CASES[case][0], market(5)
    w = np.random.default_rng(5).dirichlet(np.ones(12))
    slope = approx_fprime(w, lambda v: objective(v, x, config, None, FACTORS), 1e-8)
    np.testing.assert_allclose(gradient(w, x, config, None, FACTORS), slope, rtol=2e-4, atol=2e-5)


def test_conditional_value_at_risk_by_hand():
    x = np.array([[-0.04], [0.01], [-0.02], [0.03], [0.0]])
    config = OnlineConfig(sortino_weight=0, drawdown_weight=0, cvar_weight=1, cvar_level=0.7)
    assert objective(np.ones(1), x, config) == pytest.approx(-(0.04 + 0.5 * 0.02) / 1.5, rel=1e-13)


def test_the_effective_number_within_its_range_costs_nothing():
    config = replace(OFF, concentration_weight=1, effective_minimum=2, effective_maximum=4)
    w = np.full(3, 1 / 3)
    assert objective(w, market(1, n=3), config) == 0
    assert (gradient(w, market(1, n=3), config) == 0).all()


def test_the_lone_market_has_a_target_of_one():
    x = market(2, n=4)
    config = replace(OFF, factor_weight=1)
    assert objective(np.full(4, 0.25), x, config, None, {"market": x.mean(axis=1)}) == pytest.approx(0, abs=1e-25)
    assert objective(np.full(4, 0.25), x, config, None, {"size": x.mean(axis=1)}) == pytest.approx(-1, rel=1e-12)


@pytest.mark.parametrize("spoilt", ["unknown", "constant", "twice"])
def test_factors_that_have_no_betas_are_left_alone(spoilt):
    x, config = market(3, n=4), replace(OFF, factor_weight=1)
    first = x.mean(axis=1)
    series = {"unknown": np.where(np.arange(90) < 5, np.nan, first), "constant": np.full(90, 1e-3), "twice": first}
    factors = {"one": first, "other": series[spoilt]}
    value, slope = (
        objective(np.full(4, 0.25), x, config, None, factors),
        gradient(np.full(4, 0.25), x, config, None, factors),
    )
    assert value == 0
    assert (slope == 0).all()


def test_a_term_of_ones_own_is_one_function():
    module = types.ModuleType("mine")
    code = '''
from tasks.numerics.terms import term

@term
def best_day(returns, cash, weights, factors, settings, scale, by_return, by_weight):
    """Largest return."""
    k = returns.argmax()
    by_return[k] += scale
    return returns[k]
'''
    sys.modules["mine"] = module
    try:
        exec(compile(code, "mine.py", "exec"), module.__dict__)
        x, w = market(4, n=3), np.array([0.2, 0.3, 0.5])
        config = replace(OFF, extra_terms="mine.best_day=2")
        day = (x @ w).argmax()
        assert objective(w, x, config) == pytest.approx(2 * (x @ w)[day], rel=1e-13)
        np.testing.assert_allclose(gradient(w, x, config), 2 * (x[day] - RF), rtol=1e-13)
    finally:
        del sys.modules["mine"], terms.TERMS["mine.best_day"]


@pytest.mark.parametrize(
    ("config", "factors", "said"),
    [
        (replace(OFF, extra_terms="cdaf=1"), {}, "extra_terms names 'cdaf', which is no term; did you mean cdar?"),
        (replace(OFF, factor_weight=1), {}, "factor_weight is 1, and the factors at hand are none"),
        (
            replace(OFF, factor_weight=1, factor_targets="momentum=1"),
            FACTORS,
            "factor_targets names 'momentum', and the factors at hand are value, size",
        ),
    ],
)
def test_what_is_not_at_hand_is_refused(config, factors, said):
    with pytest.raises(ValueError, match=said):
        objective(np.full(12, 1 / 12), market(6), config, None, factors)


def test_more_terms_than_the_kernel_holds_are_refused():
    names = [f"mine.term{k}" for k in range(13)]
    for name in names:
        terms.TERMS[name] = terms.nothing
    try:
        config = replace(OFF, extra_terms=", ".join(f"{name}=1" for name in names))
        with pytest.raises(ValueError, match="13 terms have a weight; at most 12"):
            objective(np.full(12, 1 / 12), market(7), config)
    finally:
        for name in names:
            del terms.TERMS[name]


def test_lanes_that_seek_the_same_differ_in_nothing_that_choosing_reads():
    read, config = set(), replace(OFF, sortino_weight=1, expected_return="exponential", extra_terms="variance=-1")

    class Watched:
        def __getattr__(self, name):
            read.add(name)
            return getattr(config, name)

    assert [term.name for term in terms.chosen(Watched(), ())] == ["sortino", "variance"]
    assert read == set(terms.SOUGHT)
