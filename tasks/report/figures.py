"""The figures as Plotly's JSON: wealth with drawdowns, and weights over time.

Colours are names of the style sheet's variables, `var(--accent)`; the page's script puts in their values, so
that one figure serves light, dark and print. Plotly reads a little HTML in names, so these are escaped. Figures are
written as plotly.js takes them: Plotly's own classes would look at each of their values, for seconds.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

from storage.schemas import CASH
from tasks.numerics.configs import BASELINES
from tasks.report.contents import Contents, Frame
from tasks.report.formats import label

Figure = dict[str, Any]
Trace = dict[str, Any]
_ROWS = 20_000  # sessions x strategies above which a figure keeps one session a week, to stay below 1 MB
_BARS = 130  # rebalance dates above which a weights figure keeps the last one of each month
_NAMES = 12  # names of a weights figure; the others are summed
AXIS = {
    "title": {"font": {"size": 12, "color": "var(--soft)"}},
    "automargin": True,
    "gridcolor": "var(--grid)",
    "linecolor": "var(--line)",
    "zeroline": False,
    "showline": False,
    "spikecolor": "var(--soft)",
    "spikethickness": 1,
    "tickfont": {"size": 12, "color": "var(--soft)"},
}
_DASHES = ("dash", "longdash", "dashdot", "longdashdot", "5px 2px", "dot")  # of the baselines
_OWN_LINE = {"color": "var(--accent)", "width": 2}
_IDEAL_LINE = {"color": "var(--soft)", "width": 1, "dash": "dot"}
_AT = "%{x:.0%} interval: %{y:.1%} inside<extra></extra>"
_LEGEND = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
_LAYOUT = {
    "paper_bgcolor": "var(--paper)",
    "plot_bgcolor": "var(--paper)",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "var(--ink)"},
    "hovermode": "x unified",
    "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
    "legend": _LEGEND,
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
}


def wealth(contents: Contents) -> Figure:
    """Wealth on a log scale above, drawdowns below, for every strategy; the published one drawn last, on top."""
    traces, thin = [], is_weekly(contents)
    for rank, name in enumerate(contents.measured):
        rows = contents.wealth_of(name)
        rows = weekly(rows) if thin else rows
        line = line_of(contents, name)
        shared = {"x": days(rows["session"]), "name": html.escape(label(name)), "legendgroup": name, "mode": "lines"}
        shared |= {"line": line, "legendrank": rank, "zorder": -rank}
        traces.append(scatter(y=rounded(rows["wealth"]), hovertemplate="%{y:.3f}", **shared))
        shared |= {"line": line | {"width": min(line["width"], 1.6)}}
        fill = {"fill": "tozeroy", "fillcolor": "var(--accent-soft)"} if name == contents.published else {}
        below = {"yaxis": "y2", "showlegend": False, "hovertemplate": "%{y:.1%}"}
        traces.append(scatter(y=rounded(-rows["drawdown"]), **below, **shared, **fill))
    return figure(
        traces,
        height=600,
        xaxis=dated(anchor="y2"),
        yaxis=axis(domain=[0.36, 1], type="log", tickformat=".3~f", nticks=8, fixedrange=True),
        yaxis2=axis(domain=[0, 0.29], tickformat=".0%", rangemode="tozero", nticks=5, fixedrange=True),
    )


def figure(traces: Sequence[Trace], **layout: Any) -> Figure:
    """A figure of traces, the first drawn below the others, laid out as all figures are and by what is said here."""
    return {"data": list(traces), "layout": _LAYOUT | layout}


def scatter(**values: Any) -> Trace:
    """A trace of points or lines."""
    return {"type": "scatter", **values}


def bar(**values: Any) -> Trace:
    """A trace of bars."""
    return {"type": "bar", **values}


def axis(title: str = "", **values: Any) -> dict[str, Any]:
    """An axis as all are, with its title, and by what is said here."""
    named = {"title": {**AXIS["title"], "text": title}} if title else {}
    return {**AXIS, **named, **values}


def dated(**values: Any) -> dict[str, Any]:
    """An axis of days, without a grid."""
    return axis(**{"type": "date", "hoverformat": "%d %b %Y", "showgrid": False, **values})


def is_weekly(contents: Contents) -> bool:
    """Whether the wealth figure is thinned."""
    return len(contents.tables["wealth"]) > _ROWS


def weekly(rows: Frame) -> Frame:
    """The last session of each week, and the first session of all."""
    last = rows["session"].dt.to_period("W").ne(rows["session"].dt.to_period("W").shift(-1))
    last.iloc[0] = True
    return rows[last]


def line_of(contents: Contents, name: str) -> dict[str, Any]:
    """How a strategy is drawn, in every figure alike."""
    if name == contents.published:
        return {"color": "var(--accent)", "width": 2.6}
    if name in BASELINES:
        return {"color": "var(--soft)", "width": 1.3, "dash": _DASHES[BASELINES.index(name)]}
    others = [other for other in contents.measured if other not in BASELINES and other != contents.published]
    return {"color": f"var(--other-{others.index(name) % 4 + 1})", "width": 1.4}


def weights(contents: Contents) -> dict[str, Figure]:
    """For each strategy of the newest decision its weights at every rebalance date drawn, as stacked bars."""
    rows = contents.tables["weights"]
    names = _bars(contents)
    rows = rows[rows["rebalance_date"].isin(names.index)]
    size = rows["weight"].abs().groupby(rows["ticker"]).sum().sort_values(ascending=False, kind="stable")
    colours = {
        ticker: f"var(--name-{place % _NAMES + 1})"
        for place, ticker in enumerate(size.index.drop(CASH, errors="ignore"))
    }
    found = {}
    for strategy in contents.current.columns:
        own = rows[rows["strategy"] == strategy]
        held = own.pivot(index="rebalance_date", columns="ticker", values="weight").reindex(names.index)
        found[strategy] = _stack(held.set_axis(names.tolist()), colours)
    return found


def is_monthly(contents: Contents) -> bool:
    """Whether the weights figures are thinned to one rebalance date a month."""
    days = contents.tables["weights"]["rebalance_date"].drop_duplicates()
    return len(days) > max(_BARS, days.dt.to_period("M").nunique())


def _bars(contents: Contents) -> Frame:
    """Names of the rebalance dates that are drawn, by date: their months, or their days where a month has several."""
    days = contents.tables["weights"]["rebalance_date"].drop_duplicates()
    if is_monthly(contents):
        days = days[~days.dt.to_period("M").duplicated(keep="last")]
    several = days.dt.to_period("M").duplicated().any()
    return days.dt.strftime("%Y-%m-%d" if several else "%Y-%m").set_axis(days)


def _stack(held: Frame, colours: dict[str, str]) -> Figure:
    """Bars of the largest names, the sum of the others, and cash; `held` is dates x tickers."""
    assets = held.drop(columns=CASH, errors="ignore")
    mean = assets.fillna(0.0).abs().mean()
    names = mean[mean > 0].sort_values(ascending=False, kind="stable").index
    shown = names if len(names) <= _NAMES + 1 else names[:_NAMES]
    shades = _distinct(list(shown), colours)
    bars = [(html.escape(name), held[name], shades[name]) for name in shown]
    if len(names) > len(shown):
        rest = assets[names[len(shown) :]].sum(axis=1, min_count=1)
        bars.append((f"{len(names) - len(shown)} others", rest, "var(--rest)"))
    if CASH in held:
        bars.append(("Cash", held[CASH], "var(--line)"))
    months = list(held.index)
    traces = [
        bar(x=months, y=rounded(values), name=name, marker=_filled(colour), hovertemplate="%{y:.1%}")
        for name, values, colour in bars
    ]
    return figure(traces, **_months_layout(months))


def _filled(colour: str) -> dict[str, Any]:
    return {"color": colour, "line": {"width": 0}}


def _months_layout(months: list[str]) -> dict[str, Any]:
    """Stacked bars; at most five dates are named, the newest among them, so that a phone has room."""
    named = months[::-1][:: math.ceil(len(months) / 5)]
    return {
        "height": 440,
        "barmode": "relative",
        "bargap": 0.06 if len(months) > 6 else 0.4,
        "showlegend": True,
        "legend": {**_LEGEND, "traceorder": "normal"},
        "xaxis": axis(type="category", tickvals=named, tickangle=0, showgrid=False),
        "yaxis": axis(tickformat=".0%", fixedrange=True, nticks=6),
    }


def _distinct(shown: list[str], colours: dict[str, str]) -> dict[str, str]:
    """Each name's own colour, or a free one where a larger name has it already."""
    free = [f"var(--name-{place + 1})" for place in range(_NAMES + 1)]
    taken: dict[str, str] = {}
    for name in shown:
        colour = colours[name] if colours[name] in free else free[0]
        free.remove(colour)
        taken[name] = colour
    return taken


def calibration(levels: dict[str, float], pits: dict[str, float]) -> Figure:
    """Left: share of outcomes within the central interval of each level. Right: where in their forecasts they fell.

    Forecasts that are right lie on the diagonal, and their histogram is flat.
    """
    flat, hover = 1 / len(pits), "%{y:.1%}<extra></extra>"
    ideal = {"x": [0, 1], "mode": "lines", "line": _IDEAL_LINE, "hoverinfo": "skip"}
    right = {"xaxis": "x2", "yaxis": "y2"}
    nominal, inside = [0.0, *map(float, levels), 1.0], [0.0, *levels.values(), 1.0]
    places = [flat * (place + 0.5) for place in range(len(pits))]
    width, marker = 0.9 * flat, {"color": "var(--accent)"}
    share = {"tickformat": ".0%", "fixedrange": True, "rangemode": "tozero"}
    return figure(
        [
            scatter(y=[0, 1], **ideal),
            scatter(x=nominal, y=inside, mode="lines+markers", line=_OWN_LINE, hovertemplate=_AT),
            bar(x=places, y=list(pits.values()), width=width, marker=marker, hovertemplate=hover, **right),
            scatter(y=[flat, flat], **ideal, **right),
        ],
        height=320,
        showlegend=False,
        hovermode="closest",
        xaxis=axis("interval's level", **share, domain=[0, 0.45], anchor="y"),
        yaxis=axis("share of outcomes inside", **share),
        xaxis2=axis("place in the forecast distribution", **share, domain=[0.57, 1], anchor="y2"),
        yaxis2=axis("share of outcomes", **share, anchor="x2"),
    )


def days(sessions: Frame) -> list[str]:
    """Dates as Plotly reads them."""
    return sessions.dt.strftime("%Y-%m-%d").tolist()


def rounded(values: Frame) -> list[float | None]:
    """Five decimals, and a gap for nothing held."""
    return [None if math.isnan(value) or (abs(value) < 5e-6 and value) else round(value, 5) for value in values]
