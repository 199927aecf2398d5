"""How far apart variants of a study lie that differ by luck alone: sentences, and the figure of their bands."""

import html
import statistics
from collections.abc import Mapping
from typing import Any

import pandas as pd

from storage import tables
from storage.store import Store
from tasks.report import figures, over_time
from tasks.report.contents import Frame
from tasks.report.figures import Figure, Trace, axis, dated, scatter
from tasks.report.formats import decimal
from tasks.studies import Study

# of the bands' lines and of what is filled; each band lies in the one before
_LINES = ("var(--soft)", "var(--other-1)", "var(--other-2)", "var(--accent)")
_FILLS = ("var(--band-1)", "var(--band-2)", "var(--band-3)", "var(--accent-soft)")
_PANELS = {"wealth": ("y", "%{y:.3f}"), "sharpe": ("y2", "%{y:.2f}")}


def read(store: Store, key: str) -> dict[str, Frame]:
    """The bands of a study's key by name, in order: a row a session."""
    rows = tables.read(store, "bands", key=key).to_pandas().sort_values(["number", "session"])
    return {name: own.set_index(pd.DatetimeIndex(own["session"])) for name, own in rows.groupby("band", sort=False)}


def sentences(study: Study, measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each band of several variants, from what was measured of them by label."""
    said = []
    for name, labels in study.bands.items():
        ratios, grown = (
            [measured[label][of]["value"] for label in labels if measured[label][of]["value"] is not None]
            for of in ("sharpe", "cumulative_return")
        )
        if len(ratios) > 1:
            said.append(
                f"{name.capitalize()}: {len(labels)} portfolios that differ by luck alone have Sharpe ratios from "
                f"{decimal(min(ratios))} to {decimal(max(ratios))}, with a standard deviation of "
                f"{decimal(statistics.stdev(ratios))}, and turned 1 into {decimal(1 + min(grown))} to "
                f"{decimal(1 + max(grown))}."
            )
    return said


def figure(bands: Mapping[str, Frame]) -> Figure | None:
    """Wealth on a log scale above, the Sharpe ratio of the last 252 sessions below, each as bands; None without any.

    Of every band the edges, filled, and the median; of a single one money that is divided among its accounts, too.
    """
    if not bands:
        return None
    traces: list[Trace] = []
    colours = list(zip(_LINES, _FILLS, strict=True))[-len(bands) :]
    for (line, fill), (name, rows) in zip(colours, bands.items(), strict=True):
        thin = over_time.thinned(rows)
        for of in _PANELS:
            traces += _band(thin, of, name, line, fill)
            if len(bands) == 1:
                traces.append(_line(thin, of, "divided", {"color": "var(--soft)", "width": 1, "dash": "dot"}))
    return figures.figure(
        traces,
        height=460,
        xaxis=dated(anchor="y2"),
        yaxis=axis("wealth", domain=[0.42, 1], type="log", tickformat=".3~f", nticks=8, fixedrange=True),
        yaxis2=axis("Sharpe ratio", domain=[0, 0.33], tickformat=".1f", nticks=6, fixedrange=True),
    )


def _band(rows: Frame, of: str, name: str, colour: str, filling: str) -> list[Trace]:
    """The filled space between the edges, and the median."""
    panel = {"x": figures.days(rows.index.to_series()), "yaxis": _PANELS[of][0]}
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "legendgroup": name}
    upper = {"fill": "tonexty", "fillcolor": filling}
    return [
        scatter(y=figures.rounded(rows[f"{of}_lowest"]), **panel, **edge),
        scatter(y=figures.rounded(rows[f"{of}_highest"]), **panel, **edge, **upper),
        _line(rows, of, "median", {"color": colour, "width": 1.6}, name),
    ]


def _line(rows: Frame, of: str, edge: str, line: dict[str, Any], name: str = "") -> Trace:
    """A line of a band, called as the band or, where that has no name here, as the line."""
    panel, hover = _PANELS[of]
    return scatter(
        x=figures.days(rows.index.to_series()),
        y=figures.rounded(rows[f"{of}_{edge}"]),
        yaxis=panel,
        name=html.escape(name or edge),
        legendgroup=name or edge,
        showlegend=of == "wealth",
        mode="lines",
        line=line,
        hovertemplate=hover,
    )
