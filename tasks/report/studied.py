"""Studies in words: a table, a picture and plain sentences of each, the same in terminal, artifact and report."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from storage import ledger, tables, universe
from storage.store import Store
from tasks import trials
from tasks.numerics import inference
from tasks.report import figures, luck
from tasks.report.contents import Frame
from tasks.report.figures import Figure, axis, scatter
from tasks.report.formats import DASH, change, decimal, percent, whole
from tasks.report.listings import Cell, Row
from tasks.studies import ALL, NONE, STUDIES, Study

Values = dict[str, Any]
HEADS = (
    "Sharpe", "Difference, 95%", "Return", "Volatility", "Drawdown", "Turnover", "Costs", "Positions", "HHI", "Fitness",
    "P(above luck)",
)  # fmt: skip
CLAIM_HEADS = ("The document", "Measured", "Ours, 95%", "Verdict")
_ZERO = {"type": "line", "x0": 0, "x1": 0, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
_ZERO |= {"line": {"color": "var(--soft)", "width": 1, "dash": "dot"}}
_SHARES = ("share", "annual_return", "top10")


@dataclass(frozen=True)
class Shown:
    """A study as people see it."""

    name: str
    title: str
    question: str
    span: str
    heads: tuple[str, ...]
    rows: list[Row]
    claims: list[Row]
    sentences: list[str]
    bars: "Bars"
    figure: Figure
    bands: dict[str, Frame]  # of luck, if the study has some
    band: Figure | None


class Bars(NamedTuple):
    """Differences in the Sharpe ratio with their intervals, the last variant first, as it is drawn from below."""

    labels: list[str]
    values: list[float]
    above: list[float]  # how far the interval reaches beyond the value
    below: list[float]


def newest(store: Store) -> list[Shown]:
    """Every study that was run, as it was last computed, in the registry's order."""
    rows = tables.read(store, "studies", ["study", "key", "created_at"]).to_pylist()
    last = {row["study"]: row["key"] for row in sorted(rows, key=lambda row: (row["created_at"], row["key"]))}
    return [one(store, name, last[name]) for name in STUDIES if name in last]


def one(store: Store, name: str, key: str) -> Shown:
    """The study of a key."""
    study, rows = STUDIES[name], _read(store, key)
    parts = sorted({*rows["part"]} - {ALL})
    first, last, drawn = rows["start_date"].iloc[0], rows["end_date"].iloc[0], _bars(rows, study)
    bands = luck.read(store, key)
    return Shown(
        name=name,
        title=name.replace("_", " ").capitalize(),
        question=study.question,
        span=f"{first:%Y-%m} to {last:%Y-%m}",
        heads=HEADS + tuple(parts),
        rows=_rows(store, rows, study, parts),
        claims=[_claim(row) for row in tables.read(store, "claims", key=key).sort_by("number").to_pylist()],
        sentences=sentences(study, rows) + _hindsight(store, rows),
        bars=drawn,
        figure=_figure(drawn),
        bands=bands,
        band=luck.figure(bands),
    )


def _read(store: Store, key: str) -> pd.DataFrame:
    """The rows of a key, variant by variant."""
    rows = tables.read(store, "studies", key=key).to_pandas()
    return rows.sort_values(["number", "part", "name"]).reset_index(drop=True)


def _variants(rows: pd.DataFrame, part: str) -> list[tuple[str, str, Values]]:
    """Label, strategy and rows by measure of each variant in a part."""
    own = rows[(rows["part"] == part) & (rows["number"] != NONE)]
    return [
        (label, found["strategy"].iloc[0], {row["name"]: _plain(row) for row in found.to_dict("records")})
        for label, found in own.groupby("variant", sort=False)
    ]


def _plain(row: Values) -> Values:
    """Numbers of a row, None for what is undefined."""
    found = {name: row[name] for name in ("value", "difference", "lower", "upper")}
    return {name: None if value is None or math.isnan(value) else float(value) for name, value in found.items()}


def _rows(store: Store, rows: pd.DataFrame, study: Study, parts: Sequence[str]) -> list[Row]:
    """A row of text for each variant, the default marked."""
    later = {part: {label: found for label, _, found in _variants(rows, part)} for part in parts}
    known = trials.families(store, {strategy for _, strategy, _ in _variants(rows, ALL)})
    shown = []
    for label, strategy, found in _variants(rows, ALL):
        cells = _cells(found, known.get(strategy))
        cells += [Cell(gap(later[part][label]["sharpe"])) for part in parts]
        shown.append(Row(f"{label} (default)" if label == study.default else label, cells))
    return shown


def _cells(found: Values, family: trials.Family | None) -> list[Cell]:
    value = {name: row["value"] for name, row in found.items()}
    return [
        Cell(decimal(value["sharpe"])),
        Cell(gap(found["sharpe"])),
        Cell(change(value["annual_return"], 1)),
        Cell(percent(value["annual_volatility"], 1)),
        Cell(percent(value["max_drawdown"], 1)),
        Cell(decimal(value["turnover"])),
        Cell(percent(value["costs"])),
        Cell(decimal(value["active_positions"], 1)),
        Cell(whole(value["hhi"])),
        Cell(decimal(value["fitness"])),
        Cell(percent(_deflated(value, family), 1)),
    ]


def _deflated(value: Values, family: trials.Family | None) -> float | None:
    """The probability that the true Sharpe ratio is above what luck makes of all trials of its strategy."""
    if family is None or value["sharpe"] is None or value["sharpe_error_iid"] is None:
        return None
    return inference.probabilistic(value["sharpe"], value["sharpe_error_iid"], family.hurdle)


def gap(row: Values) -> str:
    """A difference in the Sharpe ratio with its interval; a dash where there is none."""
    if row["difference"] is None:
        return DASH
    return _with_ends(row["difference"], row["lower"], row["upper"], _signed)


def _with_ends(value: float, lower: float | None, upper: float | None, form: Callable[[float | None], str]) -> str:
    ends = f" [{form(lower)}, {form(upper)}]" if lower is not None else ""
    return f"{form(value)}{ends}"


def _signed(value: float | None) -> str:
    text = decimal(value)
    return f"+{text}" if value is not None and value > 0 and any(digit in text for digit in "123456789") else text


def _claim(row: Values) -> Row:
    """A claim, its number as a percentage where it is one, and with a sign where it is a difference."""
    is_share = any(name.replace("_", " ") in row["measured"] for name in _SHARES)
    forms = (percent, change) if is_share else (decimal, _signed)
    form = forms[" less that of " in row["measured"]]
    ours = DASH if row["value"] is None else _with_ends(row["value"], row["lower"], row["upper"], form)
    cells = [Cell(row["document"]), Cell(row["measured"]), Cell(ours), Cell(row["verdict"])]
    return Row(row["claim"], cells)


def sentences(study: Study, rows: pd.DataFrame) -> list[str]:
    """What the study says, and how much it was looked for."""
    measured = {label: own for label, _, own in _variants(rows, ALL)}
    found = {label: own["sharpe"] for label, own in measured.items()}
    said = [_compared(study.default, {label: row for label, row in found.items() if label != study.default})]
    said += luck.sentences(study, measured)
    part, without = study.worth
    if without in found and found[without]["difference"] is not None:
        said.append(_worth(part, found[without]))
    counted = {row["name"]: row["value"] for row in rows[rows["number"] == NONE].to_dict("records")}
    said.append(_looked(counted["trials"], counted.get("overfitting")))
    return said


def _hindsight(store: Store, rows: pd.DataFrame) -> list[str]:
    """How the choice of the universe bears on the results, if it does."""
    decided = [entry for name in rows["scenario"].dropna()[:1] for entry in ledger.current(store, name).values()]
    used = [universe.load(store, entry.record["universe"]) for entry in decided[-1:]]
    said = [universe.hindsight(each, rows["start_date"].iloc[0]) for each in used]
    return [sentence for sentence in said if sentence]


def _compared(default: str, others: dict[str, Values]) -> str:
    """Which variants are told from the default, and to which side."""
    above = [label for label, row in others.items() if row["lower"] is not None and row["lower"] > 0]
    below = [label for label, row in others.items() if row["upper"] is not None and row["upper"] < 0]
    told = len(above) + len(below)
    count = f"{told or 'None'} of {len(others)} variants {'are' if told > 1 else 'is'}"
    sides = [f"{side} {', '.join(names)}" for side, names in (("above", above), ("below", below)) if names]
    return f"{count} told from {default} by the Sharpe ratio at 95%" + (f": {'; '.join(sides)}." if sides else ".")


def _worth(part: str, without: Values) -> str:
    """What a part adds, from the difference of the variant that lacks it."""
    turned = {"difference": -without["difference"], "lower": None, "upper": None}
    if without["lower"] is not None:
        turned |= {"lower": -without["upper"], "upper": -without["lower"]}
    is_told = turned["lower"] is not None and (turned["lower"] > 0 or turned["upper"] < 0)
    verdict = "which is told from nothing at 95%" if is_told else "which cannot be told from nothing"
    return f"{part.capitalize()} adds {gap(turned)} to the Sharpe ratio, {verdict}."


def _looked(count: float, overfitting: float | None) -> str:
    said = f"{whole(count)} trial{'' if count == 1 else 's'} of the ledger"
    if overfitting is None:
        return f"{said}."
    return (
        f"{said}; the best variant of one half of the sessions is no better than the middle of all in the other half "
        f"in {percent(overfitting, 0)} of the ways to halve them."
    )


def _bars(rows: pd.DataFrame, study: Study) -> Bars:
    found = [(label, each["sharpe"]) for label, _, each in _variants(rows, ALL) if label != study.default][::-1]
    known = [(label, row) for label, row in found if row["lower"] is not None]
    return Bars(
        [label for label, _ in known],
        [row["difference"] for _, row in known],
        [row["upper"] - row["difference"] for _, row in known],
        [row["difference"] - row["lower"] for _, row in known],
    )


def _figure(drawn: Bars) -> Figure:
    """The differences as points with their intervals."""
    ends = {"type": "data", "symmetric": False, "array": drawn.above, "arrayminus": drawn.below}
    points = scatter(
        x=drawn.values,
        y=[html.escape(label) for label in drawn.labels],
        error_x=ends | {"color": "var(--accent)"},
        mode="markers",
        marker={"color": "var(--accent)", "size": 9},
        hovertemplate="%{x:+.2f}<extra></extra>",
    )
    return figures.figure(
        [points],
        height=90 + 34 * len(drawn.labels),
        showlegend=False,
        hovermode="closest",
        xaxis=axis("difference in the Sharpe ratio", fixedrange=True, tickformat="+.1f"),
        yaxis=axis(fixedrange=True, type="category", showgrid=False),
        shapes=[_ZERO],
    )
