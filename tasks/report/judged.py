"""What the forecasts were worth: those of the decided dates, and those of every session where they were judged.

Both are rows of measures of the same kind (`tasks.judging`): the former are computed here from the forecasts and
what followed, the sessions' come from the newest `prism judge` of the scenario. Dates whose horizon is not over yet
are left out. What the numbers mean is said in a sentence each, good or bad.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.keys import PanelKey
from storage.store import Store
from tasks import judging, outcomes, panels
from tasks.judging import OWN
from tasks.report import figures
from tasks.report.contents import Contents, Frame
from tasks.report.formats import DASH, decimal, percent
from tasks.report.listings import Cell, Row, mark_best

NAMES = {
    "ewma_zero_mean": "EWMA 0.97, mean zero",
    "ewma": "EWMA 0.97, pooled mean",
    "trailing_zero_mean": "Trailing volatility, mean zero",
    "trailing": "Trailing volatility, pooled mean",
    "calibrated_ewma": "EWMA calibrated with the long run",
    "historical": "Each asset's own past",
    "garch": "GARCH(1,1)",
}
_OWN_NAMES = {
    "vlstm": "Variational LSTM",
    "ewma": "EWMA 0.97",
    "calibrated_ewma": "Calibrated EWMA",
    "historical": "Each asset's own past",
    "files": "Your own forecasts",
}
_EWMA = ("ewma", "ewma_zero_mean")
_OVERLAPS = 3  # horizons


@dataclass(frozen=True)
class Judged:
    """One judgement as the page shows it."""

    about: str  # what was judged
    scores: list[Row]  # a forecaster each
    parts: dict[str, list[Row]]  # by year, by asset
    sentences: list[str]
    figure: figures.Figure


def judge(store: Store, contents: Contents) -> list[Judged]:
    """The judgement of the decided dates, then that of every session; without what has no outcome yet."""
    own = _OWN_NAMES[contents.record["parameters"]["forecast"]["forecaster"]]
    rows = _with_outcomes(store, contents)
    found = [_judged(judging.judge(rows, _lags(rows, contents)), own, f"{rows['session'].nunique()} rebalance dates")]
    table = contents.tables["judgements"]
    if len(table):
        span = f"every session from {table['start_date'].iloc[0]:%Y-%m-%d} to {table['end_date'].iloc[0]:%Y-%m-%d}"
        found.append(_judged(table.astype(object).where(table.notna(), None).to_dict("records"), own, span))
    return [entry for entry in found if entry is not None]


def _lags(rows: Frame, contents: Contents) -> int:
    """Dates over which the errors allow for outcomes that overlap; those of whole months hardly do."""
    several = rows["session"].drop_duplicates().dt.to_period("M").duplicated().any()
    return _OVERLAPS * contents.record["parameters"]["features"]["horizon"] if several else 0


def _with_outcomes(store: Store, contents: Contents) -> Frame:
    """The decided forecasts as rows of `tasks.judging`, those with a known outcome."""
    panel = panels.load(store, PanelKey(contents.record["snapshot"], contents.record["universe"]))
    horizon, table = contents.record["parameters"]["features"]["horizon"], contents.tables["forecasts"]
    last = panel.sessions[-1].item()
    after = {day: outcomes.after(panel, day.date(), horizon, last) for day in table["as_of"].unique()}
    y = [after[day].get(name, math.nan) for day, name in zip(table["as_of"], table["ticker"], strict=True)]
    names = {"as_of": "session", "baseline_variance": "ewma", "calibrated_variance": "calibrated"}
    rows = table.rename(columns=names | {"trailing_variance": "trailing"})
    rows = rows.assign(y=np.array(y, float), tail=rows["scale"] / rows["variance"] ** 0.5)
    return rows[np.isfinite(rows["y"])]


def _judged(measures: list[dict[str, Any]], own: str, about: str) -> Judged | None:
    if not measures:
        return None
    whole = {(row["forecaster"], row["name"]): row for row in measures if row["kind"] == "all"}
    count = whole[OWN, "nll"]["rows"]
    return Judged(
        about=f"{about}, {count:,} forecasts",
        scores=_scores(whole, own),
        parts={kind: _parts(measures, kind) for kind in ("year", "asset")},
        sentences=[_against_ewma(whole), _against_calibrated(whole), _of_the_mean(whole)],
        figure=figures.calibration(_series(whole, "level"), _series(whole, "pit")),
    )


def _scores(whole: dict[tuple[str, str], dict[str, Any]], own: str) -> list[Row]:
    """A forecaster a row, the judged one first, then from the best to the worst."""
    others = sorted((name for name in NAMES if (name, "nll") in whole), key=lambda name: whole[name, "nll"]["value"])
    rows = [Row(own if name == OWN else NAMES[name], _cells(whole, name)) for name in (OWN, *others)]
    marked = [
        mark_best([row.cells[column] for row in rows], -1 if column < 2 else 0) for column in range(len(rows[0].cells))
    ]
    return [Row(row.name, [column[place] for column in marked]) for place, row in enumerate(rows)]


def _cells(whole: dict[tuple[str, str], dict[str, Any]], name: str) -> list[Cell]:
    def cell(measure: str, text: Any) -> Cell:
        value = whole[name, measure]["value"]
        return Cell(DASH if value is None else text(value), value)

    return [
        cell("nll", lambda value: decimal(value, 4)),
        cell("crps", lambda value: decimal(100 * value, 3)),
        *(cell(f"covers_{share}", lambda value: percent(value, 1)) for share in (50, 90, 95)),
        cell("pit_distance", lambda value: decimal(value, 3)),
        Cell(DASH if name == OWN else _interval(whole[name, "nll_difference"])),
    ]


def _interval(row: dict[str, Any], digits: int = 4) -> str:
    """A difference with its interval."""
    ends = ", ".join(decimal(row[end], digits) for end in ("lower", "upper"))
    return f"{decimal(row['value'], digits)} [{ends}]"


def _parts(measures: list[dict[str, Any]], kind: str) -> list[Row]:
    """By year or asset: the judged forecaster's NLL, that less EWMA's and less calibrated EWMA's, and its coverage."""
    found = {(r["label"], r["forecaster"], r["name"]): r["value"] for r in measures if r["kind"] == kind}
    rows = []
    for label in sorted({label for label, _, _ in found}):
        own = found[label, OWN, "nll"]
        less = [own - found[label, name, "nll"] for name in ("ewma", "calibrated_ewma")]
        cells = [Cell(decimal(own, 4), own), *(Cell(decimal(value, 4), value) for value in less)]
        rows.append(Row(label, [*cells, Cell(percent(found[label, OWN, "covers_90"], 1))]))
    return rows


def _against_ewma(whole: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Whether the forecaster is ready: it must beat EWMA volatility, about the better of the two means."""
    row = max((whole[name, "nll_difference"] for name in _EWMA), key=lambda row: row["value"])
    said = f"its negative log likelihood less that of EWMA volatility is {_interval(row)}"
    if row["value"] >= 0:
        return f"It does not beat EWMA volatility here, so it is not ready: {said}."
    if row["upper"] is None or row["upper"] >= 0:
        return f"It is better than EWMA volatility here, but that may be luck: {said}, and the interval holds 0."
    return f"It beats EWMA volatility: {said}."


def _against_calibrated(whole: dict[tuple[str, str], dict[str, Any]]) -> str:
    """The honest comparison."""
    row = whole["calibrated_ewma", "nll_difference"]
    surely = row["lower"] is not None and (row["lower"] > 0 or row["upper"] < 0)
    verdict = ("better" if row["value"] < 0 else "worse") + ("" if surely else ", but the interval holds 0")
    return (
        f"Against the strongest simple forecaster, EWMA calibrated with the long-run variance, the difference is "
        f"{_interval(row)}: {verdict}."
    )


def _of_the_mean(whole: dict[tuple[str, str], dict[str, Any]]) -> str:
    """What the means are worth."""
    skill, error = (whole[OWN, name]["value"] for name in ("rank_ic", "rank_ic_error"))
    if skill is None:
        return "The forecast mean is the same for all assets, so it does not rank them at all."
    said = f"The rank correlation of the forecast means with what followed is {decimal(skill, 3)}"
    if error is None:
        return f"{said}, on one date only."
    verdict = "no different from none" if abs(skill) < 2 * error else "more than luck explains"
    return f"{said}, with a standard error of {decimal(error, 3)}: {verdict}."


def _series(whole: dict[tuple[str, str], dict[str, Any]], start: str) -> dict[str, float]:
    """A curve of the judged forecaster: values by what follows `start` in their names."""
    names = [name for forecaster, name in whole if forecaster == OWN and name.startswith(f"{start} ")]
    return {name.removeprefix(f"{start} "): whole[OWN, name]["value"] for name in sorted(names)}
