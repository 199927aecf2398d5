"""Forecasts with their outcomes as rows of measures, for the store and the report.

A row of forecasts has `ticker, session, mean, variance, degrees, tail`, the simple forecasts beside them, and the
outcome `y` of the log return over the horizon. Every forecaster is judged on the same rows: those on which all of them
have a forecast and the outcome is known.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from tasks.numerics import judgement, statistics
from tasks.numerics.judgement import Candidate
from tasks.numerics.statistics import Estimate

OWN = "own"  # the forecaster that is judged; the others are what it must beat
WINDOW = 24  # calendar months of a rolling measure
ROLLING_AGAINST = ("ewma_zero_mean", "ewma", "calibrated_ewma")
_FEWEST = 30  # rows of a part (a year, an asset) that is judged by itself
Measure = dict[str, Any]

# names of the columns of mean and variance; None: zero
SIMPLE: dict[str, tuple[str | None, str]] = {
    "ewma_zero_mean": (None, "ewma"),
    "ewma": ("label_mean", "ewma"),
    "trailing_zero_mean": (None, "trailing"),
    "trailing": ("label_mean", "trailing"),
    "calibrated_ewma": ("label_mean", "calibrated"),
    "historical": ("historical_mean", "historical_variance"),
    "garch": ("label_mean", "garch"),
}


def judge(rows: pd.DataFrame, lags: int) -> list[Measure]:
    """Measures of every forecaster, whole, by year and asset, and rolling. Empty where no row can be judged.

    lags: sessions over which the errors of means allow for overlap, counted among the sessions that are judged.
    """
    names = [name for name, (_, variance) in SIMPLE.items() if variance in rows]
    needed = {column for name in names for column in SIMPLE[name] if column} | {"y", "mean", "variance"}
    rows = rows[np.isfinite(rows[sorted(needed)].to_numpy(float)).all(axis=1)]
    if not len(rows):
        return []
    rows = rows.sort_values(["session", "ticker"], ignore_index=True)
    candidates = {OWN: _own(rows)} | {name: _simple(rows, name) for name in names}
    return [*_whole(rows, candidates, lags), *_parts(rows, candidates), *_rolling(rows, candidates, lags)]


def _own(rows: pd.DataFrame) -> Candidate:
    degrees = rows["degrees"].to_numpy(float)
    degrees = np.where(np.isnan(degrees), np.inf, degrees)
    return Candidate(rows["mean"].to_numpy(), rows["variance"].to_numpy(), degrees, rows["tail"].to_numpy(float))


def _simple(rows: pd.DataFrame, name: str) -> Candidate:
    mean, variance = SIMPLE[name]
    return Candidate(rows[mean].to_numpy() if mean else np.zeros(len(rows)), rows[variance].to_numpy())


def _whole(rows: pd.DataFrame, candidates: dict[str, Candidate], lags: int) -> Iterator[Measure]:
    """Measures over all rows, calibration curves of the judged forecaster, and its differences to the others."""
    y, session = rows["y"].to_numpy(), _numbers(rows["session"])
    for name, candidate in candidates.items():
        for measure, value in judgement.measures(y, session, candidate, lags).items():
            yield _measure(name, measure, value, len(rows))
    for level, share in judgement.reliability(y, candidates[OWN]).items():
        yield _measure(OWN, f"level {level:.2f}", share, len(rows))
    for place, share in enumerate(judgement.histogram(y, candidates[OWN])):
        yield _measure(OWN, f"pit {place:02d}", share, len(rows))
    for name in list(candidates)[1:]:
        for score, function in _SCORES.items():
            found = judgement.paired(_difference(function, y, candidates, name), session, _quarters(rows), lags)
            for kind, estimate in zip(("", "_by_quarter"), found, strict=True):
                yield _measure(name, f"{score}_difference{kind}", estimate.mean, len(rows), estimate)


_SCORES: dict[str, Callable[..., np.ndarray]] = {"nll": judgement.gaussian_nll, "crps": judgement.gaussian_crps}


def _difference(
    score: Callable[..., np.ndarray], y: np.ndarray, candidates: dict[str, Candidate], name: str
) -> np.ndarray:
    """The judged forecaster's score less another's, by row: below 0 where it is better."""
    return score(y, candidates[OWN]) - score(y, candidates[name])


def _parts(rows: pd.DataFrame, candidates: dict[str, Candidate]) -> Iterator[Measure]:
    """Scores by year and by asset."""
    y = rows["y"].to_numpy()
    scored = {name: judgement.gaussian_nll(y, candidate) for name, candidate in candidates.items()}
    for kind, labels in (("year", rows["session"].dt.year.astype(str)), ("asset", rows["ticker"])):
        for label in sorted(labels.unique()):
            which = (labels == label).to_numpy()
            count = int(which.sum())
            if count < _FEWEST:
                continue
            for name, score in scored.items():
                yield _measure(name, "nll", score[which].mean(), count, kind=kind, label=label)
            covered = judgement.reliability(y[which], candidates[OWN].some(which))[0.9]
            yield _measure(OWN, "covers_90", covered, count, kind=kind, label=label)


def _rolling(rows: pd.DataFrame, candidates: dict[str, Candidate], lags: int) -> Iterator[Measure]:
    """Differences in NLL, with HAC intervals, and coverage over each WINDOW of calendar months, named by its last."""
    y, session = rows["y"].to_numpy(), _numbers(rows["session"])
    month = rows["session"].to_numpy("datetime64[M]").astype(np.int64)
    differences = {name: _difference(judgement.gaussian_nll, y, candidates, name) for name in ROLLING_AGAINST}
    inside = np.abs(judgement.pits(y, candidates[OWN]) - 0.5) <= 0.45
    for last in np.unique(month[month >= month.min() + WINDOW - 1]):
        which = (month > last - WINDOW) & (month <= last)
        place = {"kind": "rolling", "label": str(np.datetime64(int(last), "M"))}
        fewer = min(lags, np.unique(session[which]).size - 1)
        for name, difference in differences.items():
            found = statistics.paired(difference[which], session[which], fewer)
            yield _measure(name, "nll_difference", found.mean, int(which.sum()), found, **place)
        yield _measure(OWN, "covers_90", inside[which].mean(), int(which.sum()), **place)


def _measure(
    forecaster: str,
    name: str,
    value: float,
    rows: int,
    estimate: Estimate | None = None,
    kind: str = "all",
    label: str = "",
) -> Measure:
    ends = {"lower": estimate.lower, "upper": estimate.upper} if estimate else {"lower": None, "upper": None}
    found = {"forecaster": forecaster, "kind": kind, "label": label, "name": name, "value": float(value), **ends}
    known = {column: None if isinstance(v, float) and not np.isfinite(v) else v for column, v in found.items()}
    return known | {"rows": rows}


def _numbers(sessions: pd.Series) -> np.ndarray:
    return sessions.to_numpy("datetime64[D]").astype(np.int64)


def _quarters(rows: pd.DataFrame) -> np.ndarray:
    return (4 * rows["session"].dt.year + rows["session"].dt.quarter).to_numpy(np.int64)
