"""Parts of a change: known splits by hand, the exact sum, and what is not computed at all."""

import numpy as np
import pytest

from tasks.numerics import causes
from tasks.numerics.causes import Step


def solve(given):
    """Two assets, the first by a sum and a product of what is given."""
    first = given["a"] + given["b"] * given["c"]
    return np.array([first, 1.0 - first])


def test_each_ingredient_is_charged_with_what_it_changes_given_those_before_it():
    start = {"a": 0.1, "b": 0.2, "c": 1.0}
    steps = [Step("one", {"a": 0.2}), Step("two", {"b": 0.3}), Step("three", {"c": 2.0})]
    before, held, after = np.array([0.3, 0.7]), np.array([0.35, 0.65]), np.array([0.6, 0.4])
    found = causes.parts(before, held, after, start, steps, solve)
    first = {name: values[0] for name, values in found.items()}
    assert first == pytest.approx(
        {"drift": 0.05, "rebalancing": -0.05, "one": 0.1, "two": 0.1, "three": 0.3, "constraints": -0.2}
    )
    for values in found.values():
        assert values.sum() == pytest.approx(0, abs=1e-15)


def test_limits_that_bound_before_and_bind_no_more_are_given_back():
    before = after = np.array([0.4, 0.6])  # the limit kept 0.4 where 0.5 was wanted, and then 0.4 was wanted
    steps = [Step("news", {"a": 0.4})]
    found = causes.parts(before, before, after, {"a": 0.5, "b": 0.0, "c": 0.0}, steps, solve)
    assert found["news"].tolist() == pytest.approx([-0.1, 0.1])
    assert found["constraints"].tolist() == pytest.approx([0.1, -0.1])


def test_the_parts_sum_to_the_change_whatever_the_solver_is():
    rng = np.random.default_rng(3)
    weights = [rng.dirichlet(np.ones(50)) for _ in range(9)]
    before, held, after, start, *others = weights
    names = ["a", "b", "a", "c", "b"]
    steps = [Step(name, {"w": found}) for name, found in zip(names, others, strict=True)]
    found = causes.parts(before, held, after, {"w": start}, steps, lambda given: given["w"])
    drift = found.pop("drift")
    np.testing.assert_array_equal(drift, held - before)
    assert set(found) == {"rebalancing", "a", "b", "c", "constraints"}
    np.testing.assert_allclose(sum(found.values()), after - held, rtol=0, atol=1e-12)


def test_a_step_that_changes_nothing_is_zero_and_never_solved():
    solved = []

    def counting(given):
        solved.append(dict(given))
        return given["w"] / given["w"].sum()

    w, half = np.array([1.0, 2.0]), np.array([0.5, 0.5])
    steps = [Step("same", {"w": w.copy()}), Step("none", {}), Step("other", {"w": np.array([1.0, 1.0])})]
    found = causes.parts(half, half, half, {"w": w}, steps, counting)
    assert len(solved) == 2
    assert found["same"].tolist() == found["none"].tolist() == [0.0, 0.0]
    assert found["other"].tolist() == pytest.approx([1 / 6, -1 / 6])


def test_arrays_of_other_shapes_are_other_ingredients():
    steps = [Step("fewer", {"w": np.array([1.0])})]
    found = causes.parts(*np.ones((3, 1)), {"w": np.array([1.0, 1.0])}, steps, lambda given: given["w"][:1] * 2)
    assert found["fewer"].tolist() == [0.0]
