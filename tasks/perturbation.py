"""Bars of a future that did not happen: what a decision made before it must not depend on.

Every price is multiplied by exp(0.2 z) and every volume by exp(z), z standard normal, one for each bar: open, high, low
and close keep their proportions, and the bars stay as valid as they were. Early in it each asset pays a dividend of 1 %
and, where closes are as traded, is split two for one: closes adjusted for splits would have to be others before it too.
"""

import numpy as np
import pandas as pd

PRICES = ["open", "high", "low", "close", "adj_close"]
_SPREAD = 0.2
_EVENT = 2  # of its bars, the one with the dividend and the split


def perturbed(bars: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """The bars (N rows, sorted by ticker and session) with every value changed."""
    z = generator.standard_normal((2, len(bars)))
    found = bars.copy()
    found[PRICES] = bars[PRICES].mul(np.exp(_SPREAD * z[0]), axis=0)
    found["volume"] = bars["volume"] * np.exp(z[1])
    place = bars.groupby("ticker").cumcount().to_numpy()
    event = (place == _EVENT) & ~bars["basis"].isin(["rate", "yield"]).to_numpy()
    found.loc[event, "dividend"] = 0.01 * found.loc[event, "close"]
    found.loc[event & (bars["basis"] == "traded").to_numpy(), "split"] = 2.0
    return found


def restated(bars: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """The bars with prices as a later correction might have them."""
    factors = np.exp(_SPREAD * generator.standard_normal(len(bars)))
    return bars.assign(**{name: bars[name] * factors for name in PRICES})
