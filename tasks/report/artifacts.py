"""The report as Prefect's artifacts: a summary with pictures, tables of weights, trades and measures, and the link.

Keys are named by the scenario, so that Prefect's page of an artifact shows its versions month after month. Nothing is
made where no run of Prefect's is under way.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.context import TaskRunContext

from storage.files import Place
from storage.settings import Settings
from tasks.report import measures
from tasks.report.contents import Contents
from tasks.report.formats import change, day, decimal, label, percent
from tasks.report.listings import Position

log = logging.getLogger("prism.report")
_ROWS = 20  # positions in the summary
_MEASURES: dict[str, measures.Format] = {
    "annual_return": lambda value: change(value, 1),
    "annual_volatility": lambda value: percent(value, 1),
    "sharpe": decimal,
    "max_drawdown": lambda value: percent(value, 1),
    "turnover": lambda value: percent(value, 0),
}


@dataclass(frozen=True)
class Artifact:
    """One artifact: Markdown, a table of rows, or the link of a report."""

    kind: Literal["markdown", "table", "link"]
    content: Any  # text, rows, address
    key: str
    description: str


def of(
    contents: Contents, opening: str, lead: Sequence[str], positions: Sequence[Position], path: Place
) -> list[Artifact]:
    """All artifacts of a report. opening: Markdown that the summary begins with; lead: its first sentences."""
    # matplotlib takes a second to load, and only a run of Prefect's needs it
    from tasks.report import pictures

    drawn = [("Weights", pictures.weights(contents))]
    drawn += [("Wealth and drawdown", pictures.wealth(contents))] if contents.traded else []
    text = f"{opening}\n\n{summary(contents, lead, positions, drawn, link(path))}".strip()
    scenario, name = contents.scenario, f"{contents.scenario}, {contents.month}"
    made = [Artifact("markdown", text, key_of("summary", scenario), f"Summary of {name}")]
    rows = {"weights": (_weights(contents), "Weights of every strategy")}
    rows |= {"trades": (_trades(contents), f"Trades of {label(contents.published)}")}
    rows |= {"measures": (_measures(contents), "Measures of the backtest")} if contents.traded else {}
    made += [Artifact("table", table, key_of(k, scenario), f"{title}, {name}") for k, (table, title) in rows.items()]
    return [*made, Artifact("link", link(path), key_of("report", scenario), f"Report of {name}")]


def are_wanted() -> bool:
    """Whether a run of Prefect's is under way."""
    return TaskRunContext.get() is not None


def publish(artifacts: Sequence[Artifact]) -> None:
    """Make the artifacts of the run that is under way."""
    try:
        for made in artifacts:
            _CREATE[made.kind](made)
    except Exception as error:  # a server that does not answer must not end the run whose report is written
        log.warning("Prefect was not given the report: %s", error)


_CREATE: dict[str, Callable[[Artifact], Any]] = {
    "markdown": lambda made: create_markdown_artifact(made.content, made.key, made.description),
    "table": lambda made: create_table_artifact(made.content, made.key, made.description),
    "link": lambda made: create_link_artifact(made.content, made.description, made.key, made.description),
}


def link(path: Place) -> str:
    """Where the report opens: under PRISM_REPORT_URL, if reports are served, else the file itself."""
    base = Settings().report_url
    return f"{base.rstrip('/')}/{path.name}" if base else path.as_uri()


def summary(
    contents: Contents, lead: Sequence[str], positions: Sequence[Position], drawn: Sequence[tuple[str, str]], url: str
) -> str:
    """The summary as Markdown."""
    held = [row for row in positions if not row.idle]
    rows = [
        [escaped(row.ticker), escaped(row.name), row.weight.text, row.trade.text, row.mean, row.volatility]
        for row in held
    ]
    heads = ["Ticker", "Name", "Weight", "Trade", "Forecast mean", "Forecast volatility"]
    parts = [
        f"# Weights for {contents.month}",
        f"{label(contents.published)}, scenario {escaped(contents.scenario)}, as of {day(contents.newest.as_of)}, "
        f"traded at the close of {day(contents.newest.rebalance_date)}; {contents.newest.kind}.",
        *map(escaped, lead),
        _markdown(heads, rows[:_ROWS]),
        f"{len(held) - _ROWS} more in the table of weights." if len(held) > _ROWS else "",
        *(f"**{title}**\n\n![{title}]({picture})" for title, picture in drawn),
    ]
    if contents.traded:
        heads = ["Strategy", *(measures.KNOWN[name][0] for name in _MEASURES)]
        parts.append(_markdown(heads, [[str(cell) for cell in row.values()] for row in _measures(contents)]))
    return "\n\n".join(part for part in [*parts, f"[The whole report]({url})"] if part)


def escaped(text: str) -> str:
    """Text of which Markdown and HTML make nothing else."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$&])", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text, and the others numbers."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def key_of(kind: str, scenario: str) -> str:
    """Key of an artifact: lower-case letters, digits and dashes, as Prefect wants."""
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{scenario}".lower()).strip("-")


def _weights(contents: Contents) -> list[dict[str, Any]]:
    table = contents.current.sort_values(contents.published, ascending=False, kind="stable")
    return [
        {"ticker": ticker} | {label(name): percent(value) for name, value in zip(table.columns, row, strict=True)}
        for ticker, row in zip(table.index, table.to_numpy(), strict=True)
    ]


def _trades(contents: Contents) -> list[dict[str, Any]]:
    trades = contents.tables["trades"].sort_values("trade", key=abs, ascending=False)
    return [
        {"ticker": row.ticker, "trade": change(row.trade), "cost": percent(row.cost, 3)} for row in trades.itertuples()
    ]


def _measures(contents: Contents) -> list[dict[str, Any]]:
    return [
        {"Strategy": label(name)}
        | {measures.KNOWN[key][0]: form(contents.measures_of(name).get(key)) for key, form in _MEASURES.items()}
        for name in contents.measured
    ]
