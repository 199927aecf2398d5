"""Whether a delivery's prices fit those stored of the same sessions.

As-traded closes never change. Where a fetched close differs from the stored one by the same factor k on all sessions,
units or splits differ: a split that the source does not list, one that it lists but has not taken into its prices, or
pence for pounds. Where only some sessions differ, each by its own amount, the source revised them. A factor that
begins inside the overlap is a rescaling, too: appending after it would turn the factor into a return.
"""
# Shapes: T = sessions that both have a row for.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FEWEST = 3  # sessions with both prices, of which anything can be said
NEARLY_ALL = 0.9  # of the differing sessions share one factor where prices are rescaled


@dataclass(frozen=True)
class Overlap:
    """The verdict on one overlap."""

    kind: str  # ok | rescaled | revised_rows | no_overlap
    ratio: float  # fetched over known: the shared factor where rescaled, else the median; NaN where nothing overlaps
    differing: BoolArray  # (T,) sessions whose prices differ


def verdict(known: FloatArray, fetched: FloatArray, tolerance: float = 2e-4) -> Overlap:
    """Compare closes (T,) of the same sessions; NaN where one has none, `tolerance` relative.

    `no_overlap` with fewer than 3 prices on both sides; `ok` when all agree; `rescaled` when at least 3 differ and
    nearly all of these by one factor; else `revised_rows`. A known price that is not positive counts as absent.

    Raises ValueError where the two differ in length.
    """
    if known.shape != fetched.shape:
        raise ValueError(f"known has shape {known.shape} and fetched {fetched.shape}; pass closes of the same sessions")
    ratio = fetched / np.where(known > 0, known, np.nan)
    both = np.isfinite(ratio)
    differing = both & (np.abs(np.where(both, ratio, 1.0) - 1) > tolerance)
    if both.sum() < FEWEST:
        return Overlap("no_overlap", np.nan, differing)
    if not differing.any():
        return Overlap("ok", float(np.median(ratio[both])), differing)
    factor = float(np.median(ratio[differing]))
    sharing = np.abs(ratio[differing] - factor) <= tolerance * abs(factor)
    if differing.sum() >= FEWEST and sharing.mean() >= NEARLY_ALL:
        return Overlap("rescaled", factor, differing)
    return Overlap("revised_rows", float(np.median(ratio[both])), differing)
