"""What the forecasts were worth: each decided month's against what followed over their horizon.

For a month with forecasts m_i, v_i of the log return over H sessions, and outcomes y_i summed over the H sessions
after its as-of date, the rank correlation of m with y says whether the means order the assets, and the share of
|y_i - m_i| <= 1.96 sqrt(v_i), which is 95% for a Gaussian that is right, whether the volatilities are honest.
Months whose horizon is not over yet are left out.
"""

import math
from dataclasses import dataclass
from datetime import date

import numpy as np

from storage.keys import PanelKey
from storage.store import Store
from tasks import panels
from tasks.report.contents import Contents, Frame

TWO_SIDED_95 = 1.959964  # quantile of the standard normal distribution


@dataclass(frozen=True)
class Judgement:
    """Skill of the means and honesty of the volatilities, over the months with an outcome."""

    months: int
    ranked: int  # of these, months whose means differ between assets
    correlation: float  # mean over the ranked months; NaN where there is none
    error: float  # its standard error; NaN below two months
    covered: float  # share of outcomes within the 95 % interval


def judge(store: Store, contents: Contents) -> Judgement | None:
    """The forecasts of all decided months judged; None while none of them has an outcome."""
    panel = panels.load(store, PanelKey(contents.record["snapshot"], contents.record["universe"]))
    horizon = contents.record["parameters"]["features"]["horizon"]
    table = contents.tables["forecasts"]
    after = {as_of: _outcomes(panel, as_of.date(), horizon) for as_of in table["as_of"].unique()}
    outcomes = [after[as_of].get(name, math.nan) for as_of, name in zip(table["as_of"], table["ticker"], strict=True)]
    table = table.assign(outcome=np.array(outcomes, float))
    table = table[np.isfinite(table["outcome"])]
    if not len(table):
        return None
    correlations = table.groupby("as_of")[["mean", "outcome"]].apply(_correlation).dropna()
    miss = (table["outcome"] - table["mean"]).abs()
    return Judgement(
        months=table["as_of"].nunique(),
        ranked=len(correlations),
        correlation=float(correlations.mean()),
        error=float(correlations.sem()),
        covered=float((miss <= TWO_SIDED_95 * table["variance"] ** 0.5).mean()),
    )


def _outcomes(panel: panels.Panel, as_of: date, horizon: int) -> dict[str, float]:
    """Log returns of the assets over the horizon after `as_of`; empty while it is not over."""
    after = panel.at(as_of) + 1
    if after + horizon > panel.sessions.size:
        return {}
    with np.errstate(divide="ignore", invalid="ignore"):  # a total loss has no log return
        sums = np.log1p(panel.returns[after : after + horizon]).sum(axis=0)
    return dict(zip(panel.universe.assets, sums.tolist(), strict=True))


def _correlation(rows: Frame) -> float:
    """Spearman's correlation of a month; NaN with fewer than three assets or equal means."""
    if len(rows) < 3 or rows["mean"].nunique() < 2:
        return math.nan
    return float(rows["mean"].rank().corr(rows["outcome"].rank()))
