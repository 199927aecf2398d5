"""The critical line and the best point of it: brute force, bounds by an independent QP solver, and degenerate input."""

from itertools import pairwise

import clarabel
import numpy as np
import pytest
from scipy import sparse

from tasks.numerics import critical_line
from tasks.numerics.frontier import Terms, optimum

ROOT = np.sqrt(21)
DOCUMENT = Terms(0.2, 2 * ROOT, 1e-4, ROOT)
ALPHAS = [0.0, 0.2, 0.7, 5.0]
REGIMES = {  # location and scale of the forecast means; -inf: all of them below 0
    "mixed": (0.01, 0.03),
    "weak": (0.003, 0.01),
    "bear": (-0.05, 0.03),
    "falling": (-np.inf, 0.03),
    "ties": (-0.02, 0.02),
    "daily": (0.01, 0.03),
}


def instance(rng, n, regime="mixed"):
    """Means, and the factor Z of a covariance Z'Z whose correlation is that of 60 sessions."""
    sectors = max(1, n // 10)
    x = rng.normal(size=(60, 1)) * rng.uniform(0.5, 1.5, n)
    x += rng.normal(size=(60, sectors))[:, rng.integers(0, sectors, n)] * rng.uniform(0.3, 1, n)
    x += rng.standard_t(4, size=(60, n)) * rng.uniform(0.5, 1.5, n)
    x -= x.mean(axis=0)
    sigma = 0.09 * np.exp(0.35 * rng.normal(size=n)) / (ROOT if regime == "daily" else 1)
    location, scale = REGIMES[regime]
    mean = scale * rng.normal(size=n)
    mean = -np.abs(mean) if location == -np.inf else location + mean
    if regime == "ties":
        mean = np.round(mean, 2) if rng.random() < 0.5 else np.full(n, location)
    return mean, x / np.sqrt((x**2).sum(axis=0)) * sigma


def value(mean, variance, terms):
    drawdown = np.maximum(terms.floor, terms.c * np.sqrt(np.maximum(variance, 0)))
    return np.where(mean > 0, mean / drawdown + terms.alpha * mean, mean * terms.root * drawdown)


def ratio(weights, mean, covariance, terms=DOCUMENT):
    return float(value(weights @ mean, weights @ covariance @ weights, terms))


def grid_of_three(steps=200):
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1))
    inside = i + j <= steps
    return np.stack([i[inside], j[inside], (steps - i - j)[inside]], axis=1) / steps


def best_on(points, mean, covariance, terms):
    return value(points @ mean, ((points @ covariance) * points).sum(axis=1), terms).max()


def assert_certified(found, cap=1.0):
    assert (found.weights > -1e-12).all()
    assert (found.weights < cap + 1e-12).all()
    assert abs(found.weights.sum() - 1) < 1e-11
    assert found.residual < 1e-9
    assert found.local_maxima >= 1


class Quadratic:
    """w(lam) by an interior-point solver, with y = Z w beside w so that the problem is sparse."""

    def __init__(self, mean, z, cap=1.0):
        self.mean, self.z = mean, z
        sessions, n = z.shape
        identity = np.eye(n)
        self.p = sparse.csc_matrix(np.diag(np.repeat([0.0, 1.0], [n, sessions])))
        self.a = sparse.csc_matrix(
            np.block(
                [
                    [np.ones((1, n)), np.zeros((1, sessions))],
                    [z, -np.eye(sessions)],
                    [-identity, np.zeros((n, sessions))],
                    [identity, np.zeros((n, sessions))],
                ]
            )
        )
        self.b = np.concatenate([[1], np.zeros(sessions), np.zeros(n), np.full(n, cap)])
        self.cones = [clarabel.ZeroConeT(1 + sessions), clarabel.NonnegativeConeT(2 * n)]
        self.settings = clarabel.DefaultSettings()
        self.settings.verbose = False
        self.settings.tol_gap_abs = self.settings.tol_gap_rel = self.settings.tol_feas = 1e-11

    def solve(self, lam):
        """Weights, and a bound from below on 1/2 V - lam m over all portfolios."""
        scale = max(1.0, lam)
        q = np.concatenate([-lam * self.mean, np.zeros(self.z.shape[0])]) / scale
        solution = clarabel.DefaultSolver(self.p / scale, q, self.a, self.b, self.cones, self.settings).solve()
        weights = np.clip(solution.x[: self.mean.size], 0, None)
        return weights / weights.sum(), solution.obj_val_dual * scale


def outer_approximation(mean, z, terms, cap=1.0, rounds=25):
    """The best f at the solver's portfolios, and a number that f exceeds nowhere.

    Each lam gives a line V >= 2 bound + 2 lam m that holds for all portfolios. As the lines rise, f is in each cell of
    means at most what the cell's largest mean and the least variance at its smallest one give.
    """
    solver, covariance = Quadratic(mean, z, cap), z.T @ z
    left, top = 1.0, 0.0
    for best in np.sort(mean)[::-1]:
        left, top = left - min(cap, left), top + min(cap, left) * best
    lams = list(np.diag(covariance).mean() / np.abs(mean).max() * np.geomspace(1e-3, 1e2, 11))
    found, attained = {}, -np.inf
    for _ in range(rounds):
        for lam in lams:
            weights, least = solver.solve(lam)
            found[lam] = (weights @ mean, 2 * least)
            attained = max(attained, ratio(weights, mean, covariance, terms))
        known = np.array(sorted(found))
        at, offset = np.array([found[lam] for lam in known]).T
        ends = np.maximum.accumulate([mean.min(), *np.minimum(at, top), top])
        cells = np.concatenate([np.linspace(a, b, 100) for a, b in pairwise(ends)])
        least = np.maximum((2 * known[:, None] * cells + offset[:, None]).max(axis=0), 0)
        above = value(np.append(cells[1:], top), least, terms)
        if above.max() - attained <= 2e-6 * abs(attained):
            break
        place = int(above.argmax()) // 100
        around = np.array([known[0] / 10, *known, known[-1] * 10])[place : place + 2]
        lams = [around[0] ** (1 - t) * around[1] ** t for t in (0.3, 0.7)]
    return attained, above.max()


def corners(mean, covariance, cap):
    """All corners of the frontier, with the portfolio at each."""
    system = critical_line.start(mean, covariance, cap if cap < 1 else np.inf, False)
    k, high, found = 1, np.inf, []
    while high > 0:
        line = critical_line.segment(system, k)
        low, asset, to = critical_line.next_corner(system, line, k, high)
        found.append((low, line.a + low * line.d))
        if asset >= 0:
            k = critical_line.turn(system, k, asset, to)
        high = low
    return found


@pytest.mark.parametrize("floor", [1e-4, 0.6])
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("regime", REGIMES)
def test_no_grid_point_of_three_assets_is_better(regime, alpha, floor):
    rng, grid, terms = np.random.default_rng(1), grid_of_three(), DOCUMENT._replace(alpha=alpha, floor=floor)
    for cap in (1.0, 1.0, 1.0, 1.0, 0.5, 0.35, 0.7, 0.9):
        mean, z = instance(rng, 3, regime)
        found = optimum(mean, z.T @ z, cap, terms)
        assert_certified(found, cap)
        best = best_on(grid[(grid <= cap + 1e-12).all(axis=1)], mean, z.T @ z, terms)
        attained = ratio(found.weights, mean, z.T @ z, terms)
        assert attained >= best - 1e-12 * abs(best)
        assert attained <= best + 0.05 * abs(best) + 1e-9  # the grid is that close


@pytest.mark.parametrize("cap", [1.0, 0.3, 0.12])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("n", [9, 20, 109])
def test_an_independent_bound_from_quadratic_programs_leaves_no_room_above(n, regime, cap):
    rng = np.random.default_rng(n)
    mean, z = instance(rng, n, regime)
    terms = DOCUMENT._replace(alpha=ALPHAS[rng.integers(4)])
    found = optimum(mean, z.T @ z, cap, terms)
    assert_certified(found, cap)
    attained, bound = outer_approximation(mean, z, terms, cap)
    best = ratio(found.weights, mean, z.T @ z, terms)
    assert best >= attained - 1e-8 * abs(attained)  # the solver's own precision
    assert best >= bound - 1e-5 * abs(bound)
    assert best <= bound + 1e-8 * abs(bound)


@pytest.mark.parametrize("regime", ["mixed", "falling"])
def test_so_it_is_with_500_assets(regime):
    mean, z = instance(np.random.default_rng(500), 500, regime)
    found = optimum(mean, z.T @ z, 1.0, DOCUMENT)
    assert_certified(found)
    attained, bound = outer_approximation(mean, z, DOCUMENT)
    best = ratio(found.weights, mean, z.T @ z)
    assert best >= max(attained - 1e-8 * abs(attained), bound - 1e-5 * abs(bound))


@pytest.mark.parametrize("cap", [1.0, 0.4, 0.25, 0.1, 1 / 30])
@pytest.mark.parametrize("n", [30, 100])
def test_the_whole_frontier_is_that_of_a_quadratic_program_at_each_multiplier(n, cap):
    mean, z = instance(np.random.default_rng(n), n)
    visited, solver = corners(mean, z.T @ z, cap), Quadratic(mean, z, cap)
    lams = np.array([lam for lam, _ in visited])
    assert (np.diff(lams) <= 0).all()
    assert lams[-1] == 0
    for place in range(1, len(visited), max(1, len(visited) // 12)):
        (above, upper), (below, lower) = visited[place - 1], visited[place]
        lam, weights = (above + below) / 2, (upper + lower) / 2  # w is affine between corners
        solution, least = solver.solve(lam)
        reached = 0.5 * weights @ z.T @ z @ weights - lam * weights @ mean
        assert reached == pytest.approx(least, abs=1e-7 * (1e-3 + lam * np.abs(mean).max()))
        assert weights.min() > -1e-12
        assert weights.max() < cap + 1e-12
        np.testing.assert_allclose(z @ weights, z @ solution, atol=1e-4)


def instances(count):
    """The regimes in turn, for each number of assets the given number of times."""
    rng = np.random.default_rng(10)
    for n, times in count.items():
        for place in range(times):
            yield n, *instance(rng, n, list(REGIMES)[place % 6])


def assert_all_certified(count):
    for n, mean, z in instances(count):
        covariance = z.T @ z
        found = optimum(mean, covariance, 1.0, DOCUMENT)
        assert_certified(found)
        assert found.corners < 3 * n + 3
        best, worst = ratio(found.weights, mean, covariance), -np.inf
        for rival in (mean.argmax(), np.diag(covariance).argmin(), (mean / np.sqrt(np.diag(covariance))).argmax()):
            for share in (1.0, 0.5, 1e-3):
                mixed = (1 - share) * found.weights
                mixed[rival] += share
                worst = max(worst, ratio(mixed, mean, covariance))
        assert best >= worst - 1e-12 * abs(best)


def test_ten_thousand_instances_are_certified():
    assert_all_certified({3: 2500, 9: 2500, 20: 2500, 109: 2400, 500: 100})


@pytest.mark.long
def test_ten_thousand_instances_are_certified_as_many_of_500_assets_as_of_3():
    assert_all_certified({3: 2000, 9: 2000, 20: 2000, 109: 2000, 500: 2000})


def test_of_two_local_maxima_the_higher_is_found_and_both_are_counted():
    mean, covariance = np.array([0.005, 0.05]), np.diag([0.02, 0.1]) ** 2
    found = optimum(mean, covariance, 1.0, DOCUMENT)
    assert found.local_maxima == 2
    assert found.weights @ mean == pytest.approx(0.0205, abs=1e-4)
    assert ratio(found.weights, mean, covariance) == pytest.approx(0.06479, abs=1e-5)
    assert ratio(np.array([0.0, 1.0]), mean, covariance) == pytest.approx(0.06455, abs=1e-5)


@pytest.mark.parametrize("floor", [1e-4, 0.8])
@pytest.mark.parametrize("falling", [False, True])
def test_local_maxima_are_counted_as_along_the_line_between_two_assets(falling, floor):
    rng, share, seen = np.random.default_rng(2), np.linspace(0, 1, 20001), set()
    terms = DOCUMENT._replace(floor=floor)
    for _ in range(400):
        sigma, rho = 0.02 + 0.2 * rng.random(2), rng.uniform(-0.9, 0.9)
        mean = np.array([0.002, 0.05]) * rng.random(2) if not falling else -np.array([0.05, 0.3]) * rng.random(2)
        covariance = np.array([[1, rho], [rho, 1]]) * np.outer(sigma, sigma)
        line = share * mean[1] + (1 - share) * mean[0]
        variance = (share * sigma[1]) ** 2 + ((1 - share) * sigma[0]) ** 2
        variance += 2 * rho * share * (1 - share) * sigma.prod()
        f = np.concatenate([[-np.inf], value(line, variance, terms), [-np.inf]])
        peaks = (f[1:-1] > f[:-2]) & (f[1:-1] > f[2:])
        found = optimum(mean, covariance, 1.0, terms)
        assert found.local_maxima == peaks.sum()
        assert ratio(found.weights, mean, covariance, terms) >= f.max() - 1e-14
        seen.add(int(peaks.sum()))
    assert {1, 2} <= seen


DEGENERATE = ["duplicates", "no volatility", "perfect hedges", "rank 10"]
DEGENERATE += ["few means", "best mean is 0", "nearly constant", "scales"]


def degenerate(rng, kind, n):
    """A problem with ties, singular or badly scaled."""
    mean, z = instance(rng, n, list(REGIMES)[rng.integers(6)])
    covariance = z.T @ z
    if kind == "duplicates":
        chosen = rng.integers(0, max(1, n // 3), n)
        return mean[chosen], covariance[np.ix_(chosen, chosen)]
    if kind == "no volatility":
        still = rng.integers(0, n, max(1, n // 8))
        covariance[still] = covariance[:, still] = 0
        mean[still] = rng.choice([1e-3, -1e-3, 0.0, 0.02, -1e-5], still.size)
    elif kind == "perfect hedges":
        factor = rng.normal(size=(n, 3))
        covariance = 0.003 * factor @ factor.T
    elif kind == "rank 10":
        factor = rng.normal(size=(10, n))
        factor /= np.sqrt((factor**2).sum(axis=0))
        covariance = 0.01 * factor.T @ factor
    elif kind == "few means":
        mean = np.round(50 * mean) / 50
    elif kind == "best mean is 0":
        mean = np.minimum(mean, 0)
    elif kind == "nearly constant":
        mean = -0.02 + rng.normal(size=n) * 10.0 ** rng.integers(-14, -5)
    elif kind == "scales":
        scale = 10.0 ** rng.uniform(-3, 1, n)
        covariance = covariance * np.outer(scale, scale)
    return mean, covariance


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_problems_are_certified_with_and_without_caps(kind):
    rng = np.random.default_rng(3)
    for n in (2, 3, 5, 9, 20, 60, 109):
        for _ in range(24 if n < 60 else 6):
            mean, covariance = degenerate(rng, kind, n)
            terms = DOCUMENT._replace(alpha=rng.choice(ALPHAS), floor=rng.choice([1e-4, 1e-2]))
            cap = rng.choice([1.0, 1 / rng.integers(1, n + 1), max(1 / n, rng.random())])
            found = optimum(mean, covariance, cap, terms)
            assert_certified(found, cap)
            best = ratio(found.weights, mean, covariance, terms)
            if cap == 1.0:
                vertices = value(mean, np.diag(covariance), terms)
                assert best >= vertices.max() - 1e-9 * max(abs(best), abs(vertices.max()))


def test_duplicates_are_worth_no_more_than_one_of_them():
    rng = np.random.default_rng(4)
    for n in (3, 12, 40):
        mean, z = instance(rng, n)
        twice = np.repeat(np.arange(n), 2)
        once = optimum(mean, z.T @ z, 1.0, DOCUMENT)
        both = optimum(mean[twice], (z.T @ z)[np.ix_(twice, twice)], 1.0, DOCUMENT)
        np.testing.assert_allclose(both.weights.reshape(n, 2).sum(axis=1), once.weights, atol=1e-9)


@pytest.mark.parametrize("n", [4, 9, 40])
def test_caps_that_just_reach_one_leave_equal_weights_and_may_start_full(n):
    mean, z = instance(np.random.default_rng(n), n)
    np.testing.assert_allclose(optimum(mean, z.T @ z, 1 / n, DOCUMENT).weights, 1 / n, atol=1e-15)
    cap = 1 / (n // 2)  # the largest means fill exactly
    found = optimum(mean, z.T @ z, cap, DOCUMENT)
    assert_certified(found, cap)
    _, least = Quadratic(mean, z, cap).solve(found.multiplier)
    reached = 0.5 * found.weights @ z.T @ z @ found.weights - found.multiplier * found.weights @ mean
    assert reached == pytest.approx(least, rel=1e-6)


def test_an_asset_without_volatility_is_held_as_far_as_the_floor_makes_it_pay():
    mean, covariance = np.array([0.001, 0.02, 0.03]), np.diag([0.0, 0.01, 0.02])
    found = optimum(mean, covariance, 1.0, DOCUMENT)
    assert_certified(found)
    assert found.weights[0] > 0.999
    drawdown = 2 * ROOT * np.sqrt(found.weights @ covariance @ found.weights)
    assert drawdown == pytest.approx(1e-4, rel=1e-9)  # f rises up to where the floor ends


def test_means_that_are_all_the_same_leave_the_least_variance():
    _, z = instance(np.random.default_rng(5), 30)
    found = optimum(np.full(30, -0.02), z.T @ z, 1.0, DOCUMENT)
    least, _ = Quadratic(np.ones(30), z).solve(0.0)
    assert_certified(found)
    np.testing.assert_allclose(found.weights, least, atol=1e-5)
    np.testing.assert_allclose(optimum(np.zeros(4), np.eye(4), 1.0, DOCUMENT).weights, 0.25, rtol=1e-12)


def test_no_volatility_at_all_leaves_the_best_mean():
    found = optimum(np.array([0.01, 0.03, 0.02]), np.zeros((3, 3)), 1.0, DOCUMENT)
    np.testing.assert_array_equal(found.weights, [0, 1, 0])
    found = optimum(np.array([0.01, 0.03, 0.02]), np.zeros((3, 3)), 0.5, DOCUMENT)
    np.testing.assert_allclose(found.weights, [0, 0.5, 0.5])


def test_a_sweep_on_no_covariance_is_not_certified():
    rng = np.random.default_rng(6)
    a = rng.normal(size=(20, 20))
    indefinite = (a + a.T) / 20 + np.eye(20) * 0.02
    assert np.linalg.eigvalsh(indefinite).min() < -0.1
    assert optimum(0.01 + 0.03 * rng.normal(size=20), indefinite, 1.0, DOCUMENT).residual > 1e-9


def test_the_layout_of_the_input_does_not_matter_and_it_is_left_as_it_was():
    mean, z = instance(np.random.default_rng(7), 20)
    covariance = z.T @ z
    kept = covariance.copy()
    expected = optimum(mean, covariance, 1.0, DOCUMENT)
    mean.flags.writeable = covariance.flags.writeable = False
    found = optimum(mean, np.asfortranarray(covariance), 1.0, DOCUMENT)
    np.testing.assert_array_equal(found.weights, expected.weights)
    np.testing.assert_array_equal(optimum(mean, covariance, 1.0, DOCUMENT).weights, expected.weights)
    np.testing.assert_array_equal(covariance, kept)


def test_caps_that_do_not_reach_one_are_refused():
    with pytest.raises(ValueError, match=r"max_weight is 0.2 and 4 assets may be held; raise it to at least 1 / 4"):
        optimum(np.zeros(4), np.eye(4), 0.2, DOCUMENT)
