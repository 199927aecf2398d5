"""How risk, reward and concentration changed over time, as Plotly's figures."""

import html
import math

import numpy as np

from storage.keys import PanelKey
from storage.store import Store
from tasks import panels
from tasks.numerics.configs import TRADING_DAYS
from tasks.report import figures
from tasks.report.contents import Contents, Frame
from tasks.report.figures import Figure, Trace, axis, dated, scatter
from tasks.report.formats import label

WINDOW = TRADING_DAYS  # sessions of a rolling measure


def rolling(store: Store, contents: Contents) -> Figure | None:
    """Sharpe ratio (above) and volatility (below) of the last 252 sessions; None where no strategy has so many."""
    cash, lines = _cash(store, contents), {}
    for name in contents.measured:
        own = contents.wealth_of(name).iloc[1:].set_index("session")["daily_return"]
        excess = own - (cash if isinstance(cash, float) else cash.reindex(own.index))
        spread = excess.rolling(WINDOW).std()
        ratio = math.sqrt(TRADING_DAYS) * excess.rolling(WINDOW).mean() / spread.where(spread > 0)
        lines[name] = {"y": ratio, "y2": math.sqrt(TRADING_DAYS) * own.rolling(WINDOW).std()}
    if all(line["y2"].notna().sum() < 2 for line in lines.values()):
        return None
    return _two_panels(
        contents, lines, {"y": ("Sharpe ratio", ".1f", "%{y:.2f}"), "y2": ("volatility a year", ".0%", "%{y:.1%}")}
    )


def live(contents: Contents) -> Figure:
    """Wealth of the live record on the cone of its forecasts; a gap where there was none."""
    rows = contents.tables["live"]
    days, middle = figures.days(rows["session"]), {"color": "var(--soft)", "width": 1, "dash": "dot"}
    traces = _between(days, rows["lower_90"].astype(float), rows["upper_90"].astype(float))
    for name, column, line in (("expected", "expected", middle), ("live", "wealth", {"color": "var(--accent)"})):
        said = {"name": name, "mode": "lines", "line": line, "hovertemplate": "%{y:.3f}"}
        traces.append(scatter(x=days, y=figures.rounded(rows[column].astype(float)), **said))
    return figures.figure(traces, height=320, xaxis=axis(type="date"), yaxis=axis(fixedrange=True))


def _between(days: list[str], lower: Frame, upper: Frame) -> list[Trace]:
    """The filled space between two lines that are not drawn themselves."""
    edge = {"x": days, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    filled = {"fill": "tonexty", "fillcolor": "var(--grid)"}
    return [scatter(y=figures.rounded(lower), **edge), scatter(y=figures.rounded(upper), **edge, **filled)]


def _cash(store: Store, contents: Contents) -> "float | Frame":
    """The return of cash a session: a series where the universe names one, else the constant."""
    if not contents.universe.risk_free:
        return contents.record["parameters"]["accounting"]["cash_rate"] / TRADING_DAYS
    panel = panels.load(store, PanelKey(contents.record["snapshot"], contents.record["universe"]))
    index = contents.tables["wealth"]["session"].drop_duplicates()
    places = np.searchsorted(panel.sessions, index.to_numpy().astype("datetime64[D]"))
    return index.set_axis(index).map(dict(zip(index, panel.risk_free[places], strict=True)))


def concentration(contents: Contents) -> Figure | None:
    """Effective positions (above) and turnover (below) at each rebalance date; None for fewer than two."""
    weights, executed = contents.tables["weights"], contents.tables["executions"]
    lines: dict[str, dict[str, Frame]] = {}
    for name in contents.measured:
        held = weights[(weights["strategy"] == name) & (weights["ticker"] != "$CASH")]
        sizes = held["weight"].abs().groupby(held["rebalance_date"])
        squares = held["weight"].pow(2).groupby(held["rebalance_date"]).sum()
        effective = sizes.sum() ** 2 / squares.where(squares > 0)
        trades = executed[executed["strategy"] == name]
        turnover = trades["trade"].abs().groupby(trades["rebalance_date"]).sum() / 2
        lines[name] = {"y": effective, "y2": turnover.iloc[1:]}  # the first purchase would dwarf the others
    if max(len(line["y"]) for line in lines.values()) < 2:
        return None
    return _two_panels(
        contents, lines, {"y": ("effective positions", ",.0f", "%{y:.1f}"), "y2": ("turnover", ".0%", "%{y:.1%}")}
    )


def _two_panels(
    contents: Contents, lines: dict[str, dict[str, Frame]], panels_of: dict[str, tuple[str, str, str]]
) -> Figure:
    """Lines of every strategy in two panels over the same dates, the published one on top."""
    traces = [
        _line(contents, name, rank, panel, thinned(own[panel].dropna()), hover)
        for rank, (name, own) in enumerate(lines.items())
        for panel, (_, _, hover) in panels_of.items()
    ]
    (above, form, _), (below, form2, _) = panels_of["y"], panels_of["y2"]
    shared = {"nticks": 6, "fixedrange": True}
    return figures.figure(
        traces,
        height=460,
        xaxis=dated(anchor="y2"),
        yaxis=axis(above, tickformat=form, domain=[0.42, 1], **shared),
        yaxis2=axis(below, tickformat=form2, domain=[0, 0.33], rangemode="tozero", **shared),
    )


def _line(contents: Contents, name: str, rank: int, panel: str, values: Frame, hover: str) -> Trace:
    """A strategy's line in one panel."""
    return scatter(
        x=figures.days(values.index.to_series()),
        y=figures.rounded(values),
        yaxis=panel,
        name=html.escape(label(name)),
        legendgroup=name,
        showlegend=panel == "y",
        mode="lines",
        line=figures.line_of(contents, name),
        legendrank=rank,
        zorder=-rank,
        hovertemplate=hover,
    )


def thinned(values: Frame) -> Frame:
    """One value a week where there is one a session."""
    if len(values) < WINDOW:
        return values
    weeks = values.index.to_series().dt.to_period("W")
    return values[weeks.ne(weeks.shift(-1)).to_numpy()]
