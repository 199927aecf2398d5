"""How much one weight moves when a single number that it was made of is another: finite differences.

Each number is moved by a fixed step, everything else stays, and the allocation is solved anew; the optimum may jump
from one local maximum to another, which derivatives would not see. A correlation cannot be moved alone, for the matrix
would stop being one. With z the standardised returns, asset i's are turned towards asset j's in the plane of the two,

    z_i' = a z_i + b z_j,   a = sin(t')/sin(t),   b = cos(t') - a cos(t),   cos(t) = rho_ij,   cos(t') = rho_ij + step,

which moves rho_ij by exactly the step, i's other correlations by what follows from it, and no other.
"""
# Shapes: n = assets.

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics.configs import ReturnDrawdownConfig

FloatArray = NDArray[np.float64]

SIGMA, MEAN, ALPHA, CORRELATION = 0.01, 0.001, 0.1, 0.01  # relative, absolute, relative, absolute
CLOSEST = 3  # correlations that are moved: those with the most correlated assets


class Inputs(NamedTuple):
    """What an allocation is made of."""

    mean: FloatArray  # (n,) of the log return
    sigma: FloatArray  # (n,)
    correlation: FloatArray  # (n, n)
    config: ReturnDrawdownConfig


class Sensitivity(NamedTuple):
    """What a step of one input does to the weight."""

    kind: str  # sigma, mean, alpha or correlation
    asset: int | None  # whose; None for alpha
    step: float  # of sigma and alpha relative
    change: float  # of the weight


def of_weight(asset: int, inputs: Inputs, solve: Callable[[Inputs], FloatArray]) -> list[Sensitivity]:
    """The sensitivities of the weight of `asset`, the largest change first; `solve` gives weights (n,)."""
    base = solve(inputs)[asset]
    found = [
        Sensitivity(kind, other, step, float(solve(moved)[asset] - base))
        for kind, other, step, moved in _moves(asset, inputs)
    ]
    return sorted(found, key=lambda entry: -abs(entry.change))


def _moves(asset: int, inputs: Inputs) -> Iterator[tuple[str, int | None, float, Inputs]]:
    """The inputs with one number moved, and which."""
    for other in range(inputs.mean.size):
        unit = np.eye(inputs.mean.size)[other]
        yield "sigma", other, SIGMA, inputs._replace(sigma=inputs.sigma * (1.0 + SIGMA * unit))
        yield "mean", other, MEAN, inputs._replace(mean=inputs.mean + MEAN * unit)
    if inputs.config.alpha:
        config = replace(inputs.config, alpha=inputs.config.alpha * (1.0 + ALPHA))
        yield "alpha", None, ALPHA, inputs._replace(config=config)
    for other in closest(asset, inputs.correlation):
        step = CORRELATION if inputs.correlation[asset, other] + CORRELATION < 1.0 else -CORRELATION
        turned = towards(inputs.correlation, asset, other, step)
        yield "correlation", other, step, inputs._replace(correlation=turned)


def closest(asset: int, correlation: FloatArray) -> list[int]:
    """The assets most correlated with one, in order; those that move exactly with or against it are left out."""
    order = np.argsort(-correlation[asset], kind="stable").tolist()
    return [other for other in order if other != asset and abs(correlation[asset, other]) < 1.0][:CLOSEST]


def towards(correlation: FloatArray, asset: int, other: int, step: float) -> FloatArray:
    """The correlation (n, n), still one, in which that of two assets has moved by a step: |rho| < 1 before and after.

    `asset` is the one that moves.
    """
    rho = float(correlation[asset, other])
    share = sqrt((1.0 - (rho + step) ** 2) / (1.0 - rho**2))
    row = share * correlation[asset] + (rho + step - share * rho) * correlation[other]
    row[asset] = 1.0
    moved = correlation.copy()
    moved[asset], moved[:, asset] = row, row
    return moved
