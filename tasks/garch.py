"""GARCH(1,1) of each asset's own returns, fitted by the `arch` package: a forecaster to compare with, nothing more."""

from datetime import date

import numpy as np
import pandas as pd

from storage.errors import InputError, NoDataError
from tasks import panels
from tasks.numerics import baselines
from tasks.numerics.windows import FloatArray

_FEWEST = 252  # returns of a fit
_PERCENT = 100.0  # arch's optimiser wants returns of about 1


def check_installed() -> None:
    """Raise InputError where the optional package is missing."""
    try:
        import arch  # noqa: F401
    except ImportError as error:
        raise InputError(
            "GARCH needs the package arch, which is optional; run .venv/bin/pip install 'arch>=8', or leave --garch out"
        ) from error


def variances(panel: panels.Panel, first: date, last: date, horizon: int) -> pd.DataFrame:
    """Variance of the next `horizon` returns at every session from `first` up to before `last`, fitted at `first`.

    Columns ticker, session, garch; an asset with fewer than 252 returns at `first` is left out.

    Raises NoDataError where that leaves none.
    """
    parts = []
    for ticker in panel.universe.assets:
        asset = panel.series.get(ticker)
        if asset is None:
            continue
        known, upto = (int(np.searchsorted(asset.day, np.datetime64(day), side="right")) for day in (first, last))
        returns = np.log1p(asset.simple_return[:upto])
        if known <= _FEWEST or not np.isfinite(returns[1:]).all():
            continue
        forecast = baselines.garch_variance(returns, *_fitted(returns[1:known]), horizon)
        days = asset.day[:upto].astype("datetime64[s]")
        rows = pd.DataFrame({"ticker": ticker, "session": days, "garch": forecast})
        parts.append(rows[(asset.day[:upto] >= np.datetime64(first)) & (asset.day[:upto] < np.datetime64(last))])
    if not parts:
        raise NoDataError(f"no asset has {_FEWEST} returns on {first} to fit a GARCH to; start later, or leave it out")
    return pd.concat(parts, ignore_index=True)


def _fitted(returns: FloatArray) -> tuple[float, float, float]:
    """omega, alpha, beta of zero-mean returns, by maximum likelihood."""
    from arch import arch_model

    found = arch_model(_PERCENT * returns, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(
        disp="off", show_warning=False
    )
    omega, alpha, beta = (float(found.params[name]) for name in ("omega", "alpha[1]", "beta[1]"))
    return omega / _PERCENT**2, alpha, beta
