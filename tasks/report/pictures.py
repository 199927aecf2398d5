"""Small pictures for places that run no script, such as Prefect's artifacts: PNG as a data URI."""

import base64
import io
from collections.abc import Mapping

from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from storage.schemas import CASH
from tasks.numerics.configs import BASELINES
from tasks.report.contents import Contents, Frame
from tasks.report.formats import label
from tasks.report.studied import Bars

_ACCENT, _SOFT, _FILL, _GRID = "#0b6b63", "#6a6f76", "#0b6b6322", "#ebe8e1"
_OTHERS = ("#b07d2b", "#5a6fa8", "#8c5a7d", "#7a8f3a")
_LARGEST = 12  # positions in a picture of weights


def wealth(contents: Contents) -> str:
    """Wealth on a log scale, and drawdowns of the leading strategy, as a data URI."""
    figure = Figure(figsize=(8, 4.4), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    others = [name for name in contents.measured if name not in BASELINES and name != contents.leading]
    for name in contents.measured[::-1]:
        rows = contents.wealth_of(name)
        colour = _SOFT if name in BASELINES else _ACCENT
        colour = _OTHERS[others.index(name) % len(_OTHERS)] if name in others else colour
        style = {"color": colour, "linestyle": ":" if name == "index" else "--" if name in BASELINES else "-"}
        width = 2 if name == contents.leading else 1
        above.plot(rows["session"].to_numpy(), rows["wealth"], linewidth=width, label=label(name), **style)
    own = contents.wealth_of(contents.leading)
    days, lost = own["session"].to_numpy(), -own["drawdown"]
    below.fill_between(days, lost, 0, color=_FILL)
    below.plot(days, lost, color=_ACCENT, linewidth=0.8)
    above.set_yscale("log")
    above.yaxis.set_major_formatter("{x:g}")
    above.yaxis.set_minor_formatter("{x:g}")
    above.legend(*(part[::-1] for part in above.get_legend_handles_labels()), frameon=False, fontsize=8, ncols=3)
    below.yaxis.set_major_formatter(PercentFormatter(1, 0))
    below.xaxis.set_major_formatter(ConciseDateFormatter(AutoDateLocator()))
    return _data_uri(figure)


def weights(contents: Contents) -> str:
    """The largest weights of the published strategy as bars, as a data URI."""
    held = contents.current[contents.published]
    held = held[held != 0].sort_values(key=abs, ascending=False).head(_LARGEST)[::-1]
    figure = Figure(figsize=(8, 0.9 + 0.26 * len(held)), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = ["cash" if ticker == CASH else _literal(ticker) for ticker in held.index]
    axes.barh(names, held, color=[_ACCENT if weight > 0 else _OTHERS[0] for weight in held], height=0.62)
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    return _data_uri(figure)


def differences(drawn: Bars) -> str:
    """A study's differences in the Sharpe ratio with their intervals, as a data URI."""
    figure = Figure(figsize=(8, 1.0 + 0.3 * len(drawn.labels)), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = [_literal(label) for label in drawn.labels]
    axes.errorbar(drawn.values, names, xerr=[drawn.below, drawn.above], fmt="o", color=_ACCENT, linewidth=1.4)
    axes.axvline(0, color=_SOFT, linewidth=1, linestyle=":")
    axes.set_xlabel("difference in the Sharpe ratio, 95% interval", fontsize=8, color=_SOFT)
    return _data_uri(figure)


def bands(drawn: Mapping[str, Frame]) -> str:
    """Wealth and the rolling Sharpe ratio of a study's bands, edges and median, as a data URI."""
    figure = Figure(figsize=(8, 4.4), dpi=110, layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    colours = (_SOFT, *_OTHERS[:2], _ACCENT)[-len(drawn) :]
    for axes, of, title in zip(panels, ("wealth", "sharpe"), ("wealth", "Sharpe ratio, 252 sessions"), strict=True):
        for colour, (name, rows) in zip(colours, drawn.items(), strict=True):
            lowest, median, highest = (rows[f"{of}_{edge}"].astype(float) for edge in ("lowest", "median", "highest"))
            axes.fill_between(rows.index, lowest, highest, color=colour, alpha=0.25, linewidth=0)
            axes.plot(rows.index, median, color=colour, linewidth=1.2, label=_literal(name))
        axes.set_ylabel(title, fontsize=8, color=_SOFT)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].yaxis.set_minor_formatter("{x:g}")
    panels[0].legend(frameon=False, fontsize=8, ncols=4)
    panels[1].xaxis.set_major_formatter(ConciseDateFormatter(AutoDateLocator()))
    return _data_uri(figure)


def _literal(name: str) -> str:
    """A name in which no dollar sign begins a formula."""
    return name.replace("$", r"\$")


def _data_uri(figure: Figure) -> str:
    for axes in figure.axes:
        axes.tick_params(colors=_SOFT, labelsize=8, which="both", length=0)
        axes.grid(color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    held = io.BytesIO()
    figure.savefig(held, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
