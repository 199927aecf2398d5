"""Where a strategy's returns came from: factors, baselines, times of stress, regimes, sectors and assets."""

import html
import math

from storage.schemas import CASH
from tasks.numerics import regimes as kinds
from tasks.report import figures
from tasks.report.contents import Contents, Frame
from tasks.report.figures import Figure, Trace
from tasks.report.formats import DASH, change, decimal, label, percent
from tasks.report.listings import Cell, Row

_ASSETS = 12  # that contributed most, either way


def exposures(contents: Contents) -> tuple[list[str], list[Row]]:
    """Heads and a row for each strategy: alpha a year with its t-value, betas, R squared."""
    rows: Frame = contents.tables["exposures"]
    rows = rows[rows["kind"] == "whole"]
    # the richest model that there is
    rows = rows[rows["model"] == ("factors" if (rows["model"] == "factors").any() else "capm")]
    factors = list(rows["factor"].drop_duplicates())
    found = []
    for name in contents.measured:
        own = rows[rows["strategy"] == name].set_index("factor")
        if len(own) and name != "index":  # which would be explained by itself
            first = own.iloc[0]
            cells = [Cell(_with_t(change(first["alpha"], 1), first["alpha_t"]))]
            cells += [Cell(decimal(own["beta"].get(f))) for f in factors]
            found.append(Row(label(name), [*cells, Cell(percent(first["r2"], 0))]))
    return ["Alpha a year", *(f"Beta to {factor}" for factor in factors), "R\u00b2"], found


def _with_t(text: str, t: float) -> str:
    return text if text == DASH or t is None or math.isnan(t) else f"{text} (t {decimal(t, 1)})"


def betas(contents: Contents) -> Figure | None:
    """Beta to the index over the year before, at the end of each month; None for fewer than two."""
    rows: Frame = contents.tables["exposures"]
    rows = rows[(rows["kind"] == "rolling") & (rows["model"] == "capm")].dropna(subset="beta")
    if rows["session"].nunique() < 2:
        return None
    traces = [
        _beta(contents, name, rank, rows[rows["strategy"] == name]) for rank, name in enumerate(contents.measured)
    ]
    axis = figures.axis(tickformat=".1f", nticks=6, fixedrange=True)
    return figures.figure(traces, height=320, xaxis=figures.dated(hoverformat="%b %Y"), yaxis=axis)


def _beta(contents: Contents, name: str, rank: int, rows: Frame) -> Trace:
    """The line of one strategy's betas."""
    return figures.scatter(
        x=figures.days(rows["session"]),
        y=figures.rounded(rows["beta"]),
        name=html.escape(label(name)),
        mode="lines",
        line=figures.line_of(contents, name),
        legendrank=rank,
        zorder=-rank,
        hovertemplate="%{y:.2f}",
    )


def baselines(contents: Contents) -> list[Row]:
    """The leading strategy against each baseline: excess return, information ratio, beta, alpha with its t-value."""
    rows: Frame = contents.tables["against"]
    return [
        Row(
            label(row["baseline"]),
            [
                Cell(change(row["excess_return"], 1), row["excess_return"]),
                Cell(decimal(row["information_ratio"])),
                Cell(decimal(row["beta"])),
                Cell(_with_t(change(row["alpha"], 1), row["alpha_t"])),
            ],
        )
        for _, row in rows[rows["strategy"] == contents.leading].iterrows()
    ]


def singles(contents: Contents) -> str | None:
    """How many of the single stocks did worse, as a sentence; None where that was not measured."""
    measured = contents.measures_of(contents.leading)
    wealth, sharpe = (measured.get(f"single_stocks_beaten_{name}", math.nan) for name in ("wealth", "sharpe"))
    if math.isnan(wealth):
        return None
    count = len(contents.tables["singles"])
    return (
        f"{label(contents.leading)} earned more than {percent(wealth, 0)} of the {count} single stocks that could be "
        f"bought and held instead, and had a higher Sharpe ratio than {percent(sharpe, 0)} of them."
    )


def stress(contents: Contents) -> dict[str, list[Row]]:
    """By time of stress that the results reach: return and maximum drawdown of every strategy."""
    rows: Frame = contents.tables["periods"]
    rows = rows[rows["kind"] == "stress"]
    found = {}
    for period, part in rows.groupby("period", sort=False):
        values = {(row["strategy"], row["name"]): row["value"] for _, row in part.iterrows()}
        first, in_part = part.iloc[0], "" if part["whole"].all() else ", in part"
        name = f"{label(str(period))}, {first['start_date']:%d %b %Y} to {first['end_date']:%d %b %Y}{in_part}"
        found[name] = [
            Row(words, [Cell(form(value), value) for value in (values.get((own, key)) for own in contents.measured)])
            for key, words, form in (("return", "Return", change), ("max_drawdown", "Maximum drawdown", percent))
        ]
    return found


def regimes(contents: Contents) -> dict[str, list[Row]]:
    """By regime, the calmest first: return and Sharpe ratio of every strategy, with the leading one's sessions."""
    rows: Frame = contents.tables["periods"]
    rows = rows[rows["kind"] == "regime"].set_index(["period", "strategy", "name"])["value"]
    found = {}
    for regime in kinds.NAMES:
        sessions = rows.get((regime, contents.leading, "sessions"), 0.0)
        if sessions:
            volatility, _, trend = regime.partition("_")
            name = f"{volatility.capitalize()} volatility, {trend} its mean level, {sessions:.0f} sessions"
            found[name] = [
                Row(
                    words,
                    [Cell(form(value), value) for value in (rows.get((regime, own, key)) for own in contents.measured)],
                )
                for key, words, form in (("return", "Return", change), ("sharpe", "Sharpe ratio a year", decimal))
            ]
    return found


def contributions(contents: Contents) -> dict[str, list[Row]]:
    """Of the leading strategy, by sector and by asset: contribution to return, to risk, and the mean weight."""
    rows: Frame = contents.tables["contributions"]
    rows = rows[rows["strategy"] == contents.leading]
    if not len(rows):
        return {}
    sums = ["return_contribution", "risk_contribution", "average_weight"]
    sectors = rows[rows["ticker"] != CASH].assign(sector=lambda own: own["sector"].replace("", "No sector named"))
    by_sector = sectors.groupby("sector")[sums].sum().sort_values("return_contribution", ascending=False)
    order = rows["return_contribution"].abs().sort_values(ascending=False, kind="stable").index[:_ASSETS]
    by_asset = rows.loc[order].sort_values("return_contribution", ascending=False).set_index("ticker")[sums]
    return {"Sector": _contributed(by_sector), "Asset": _contributed(by_asset.rename(index={CASH: "Cash"}))}


def _contributed(table: Frame) -> list[Row]:
    longest = table.abs().max()
    return [
        Row(
            str(name),
            [
                Cell(
                    change(row[column], 1) if column.startswith("return") else percent(row[column], 1),
                    row[column],
                    part,
                )
                for column in table
                for part in [abs(row[column]) / longest[column] if longest[column] > 0 else 0.0]
            ],
        )
        for name, row in table.iterrows()
    ]
