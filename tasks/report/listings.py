"""The tables of the report as plain rows of text: positions, weights side by side, measures, years, facts."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from storage.keys import digest
from storage.schemas import CASH
from tasks.numerics.configs import (
    BASELINES,
    EXPONENTIATED_GRADIENT,
    HEDGE,
    MIRROR_DESCENT,
    OGD_CONSERVATIVE,
    OGD_LEVERAGED,
    OGD_LONG_SHORT,
    OGD_LONG_WINDOW,
    AccountingConfig,
    CovarianceConfig,
    ExpertsConfig,
    FeatureConfig,
    ForecastConfig,
    LossConfig,
    ReturnDrawdownConfig,
    SectorConfig,
    TrainingConfig,
    TunedConfig,
    VLSTMConfig,
)
from tasks.report.contents import Contents, Frame
from tasks.report.formats import DASH, change, day, percent

SHOWN = 5e-5  # of wealth: what is smaller reads 0.00%
_OF_STRATEGIES = {
    "return_drawdown": ReturnDrawdownConfig(),
    "ogd_long_window": OGD_LONG_WINDOW,
    "ogd_conservative": OGD_CONSERVATIVE,
    "ogd_leveraged": OGD_LEVERAGED,
    "ogd_long_short": OGD_LONG_SHORT,
    "exponentiated_gradient": EXPONENTIATED_GRADIENT,
    "mirror_descent": MIRROR_DESCENT,
    "hedge": HEDGE,
    "sector_ogd": SectorConfig(),
    "experts": ExpertsConfig(),
    "ogd_tuned": TunedConfig(),
}
_DEFAULTS = _OF_STRATEGIES | {
    "features": FeatureConfig(),
    "network": VLSTMConfig(),
    "loss": LossConfig(),
    "training": TrainingConfig(),
    "forecast": ForecastConfig(),
    "covariance": CovarianceConfig(),
    "accounting": AccountingConfig(),
}


@dataclass(frozen=True)
class Cell:
    """A number as shown, its exact value, and how strongly it is marked: a bar's length or a shade, 0 to 1."""

    text: str
    value: float | None = None
    strength: float = 0.0
    best: bool = False

    @property
    def negative(self) -> bool:
        """Whether the mark is drawn in the colour of what is short or sold."""
        return self.value is not None and self.value < 0


@dataclass(frozen=True)
class Position:
    """One asset of the published strategy."""

    ticker: str
    name: str
    sector: str
    weight: Cell
    trade: Cell
    mean: str
    volatility: str
    interval: str  # of 90 %

    @property
    def idle(self) -> bool:
        """Neither held nor traded, to the last digit shown."""
        return abs(self.weight.value or 0.0) < SHOWN and abs(self.trade.value or 0.0) < SHOWN


@dataclass(frozen=True)
class Row:
    """A named row of numbers, one a strategy."""

    name: str
    cells: list[Cell]


def positions(contents: Contents) -> list[Position]:
    """Every asset with a weight, a trade or a forecast, the largest weight first."""
    weights = contents.current[contents.published]
    trades = contents.tables["trades"].set_index("ticker")["trade"]
    forecasts = contents.forecasts
    table: Frame = pd.DataFrame({"weight": weights, "trade": trades, "mean": forecasts["mean"]})
    table["volatility"] = forecasts["variance"] ** 0.5
    table[["lower", "upper"]] = forecasts[["lower_90", "upper_90"]]
    table = table[table["mean"].notna() | table["weight"].fillna(0.0).ne(0.0) | table["trade"].notna()]
    table[["weight", "trade"]] = table[["weight", "trade"]].fillna(0.0)
    table = table.sort_values(["weight", "trade"], ascending=False, kind="stable")
    longest = table[["weight", "trade"]].abs().max().clip(lower=SHOWN)
    return [_position(contents, row, longest) for row in table.itertuples()]


def _position(contents: Contents, row: Any, longest: Frame) -> Position:
    member = contents.member(row.Index)
    untraded = row.Index == CASH or not row.trade  # cash is what the trades leave over
    return Position(
        ticker=row.Index,
        name=member.name,
        sector=member.sector,
        weight=Cell(percent(row.weight), row.weight, _part(row.weight, longest["weight"])),
        trade=Cell(DASH if untraded else change(row.trade), row.trade, _part(row.trade, longest["trade"])),
        mean=change(row.mean),
        volatility=percent(row.volatility),
        interval=DASH if math.isnan(row.lower) else f"{change(row.lower, 1)} to {change(row.upper, 1)}",
    )


def _part(value: float, longest: float) -> float:
    """The length of a bar, 0 where the number reads 0.00%."""
    return abs(value) / longest if abs(value) >= SHOWN else 0.0


def totals(contents: Contents) -> dict[str, Cell]:
    """Sums over the published strategy's positions: weight, half the trades (turnover), and their cost."""
    trades = contents.tables["trades"]
    sums = {
        "weight": contents.current[contents.published].sum(),
        "turnover": trades["trade"].abs().sum() / 2,
        "cost": trades["cost"].sum(),
    }
    return {name: Cell(percent(value, 3 if name == "cost" else 2), float(value)) for name, value in sums.items()}


def matrix(contents: Contents) -> list[Row]:
    """Weights of all strategies, tickers down; shaded against the largest weight outside the baselines."""
    table = contents.current
    # the index holds 100% of one ticker, against which all other shades would be pale
    own = [name for name in table if name not in BASELINES] or list(table)
    largest = max(float(table[own].abs().max(axis=None)), SHOWN)
    order = table.assign(most=table[own].abs().max(axis=1), any=table.abs().max(axis=1))
    order = order.sort_values([contents.published, "most", "any"], ascending=False, kind="stable").index
    return [Row(ticker, [_shaded(value, largest) for value in table.loc[ticker]]) for ticker in order]


def _shaded(value: float, largest: float) -> Cell:
    if abs(value) < 10 * SHOWN:
        return Cell("", value)
    return Cell(percent(value, 1), value, round(min(abs(value) / largest, 1.0), 4))


def is_small(row: Row) -> bool:
    """Whether no strategy holds one percent in the row's ticker, so that a long table may fold it."""
    return all(abs(cell.value or 0.0) < 0.01 for cell in row.cells)


def years(contents: Contents) -> list[Row]:
    """Returns of the calendar years, as far as there are sessions; the newest year last."""
    found: dict[int, list[Cell]] = {}
    ends = {name: _year_ends(contents.wealth_of(name)) for name in contents.measured}
    for year in sorted({year for own in ends.values() for year in own}):
        values = [ends[name].get(year) for name in contents.measured]
        found[year] = mark_best([Cell(percent(value, 1), value) for value in values], int(contents.comparable))
    return [Row(_year_name(contents, year), cells) for year, cells in found.items()]


def _year_ends(rows: Frame) -> dict[int, float]:
    """The growth of each year with a trade: from the last session before it, or from the start."""
    last = rows.groupby(rows["session"].dt.year)["wealth"].last()
    growth = last / last.shift(fill_value=1.0) - 1.0
    traded = rows["session"].iloc[1:].dt.year.unique()
    return {int(year): float(growth[year]) for year in traded}


def _year_name(contents: Contents, year: int) -> str:
    """The year, and from or to which day where it is not whole for the leading strategy."""
    first, last = contents.span_of(contents.leading)
    limits = [f"from {first:%d %b}"] if first.year == year else []
    limits += [f"to {last:%d %b}"] if last.year == year else []
    return f"{year} ({' '.join(limits)})" if limits else str(year)


def mark_best(cells: list[Cell], direction: int) -> list[Cell]:
    """The cells with the best marked, the largest (1) or smallest (-1); none where fewer than two have a value."""
    values = [direction * cell.value for cell in cells if cell.value is not None and math.isfinite(cell.value)]
    if len(values) < 2 or not direction:
        return cells
    top = max(values)
    return [replace(cell, best=cell.value is not None and direction * cell.value == top) for cell in cells]


def parameters(contents: Contents) -> list[tuple[str, Any, bool]]:
    """Every parameter by dotted name, its value, and whether it differs from this version's default.

    Those of strategies that were not run are left out.
    """
    rows: list[tuple[str, Any, bool]] = []
    values = contents.record["parameters"]
    idle = _OF_STRATEGIES.keys() - set(values["strategies"]) - set(values.get("sector_ogd", {}).values())
    idle -= {values.get("ogd_tuned", {}).get("base")}
    for group, value in sorted(values.items()):
        if group in idle:
            continue
        if not isinstance(value, dict):
            rows.append((group, ", ".join(value) if isinstance(value, list) else value, False))
            continue
        standard = _DEFAULTS.get(group)
        rows += [
            (f"{group}.{name}", entry, standard is not None and getattr(standard, name, entry) != entry)
            for name, entry in sorted(value.items())
        ]
    return rows


def facts(contents: Contents) -> list[tuple[str, str]]:
    """What the newest decision was made of, by name."""
    newest, hashes = contents.newest, contents.tables["hashes"].iloc[0]
    note = (newest.record.get("publication") or {}).get("said") or newest.reason
    because = f" ({note})" if note else ""
    return [
        ("As-of date", f"{day(newest.as_of)}: the last session whose data the decision used"),
        ("Rebalance date", f"{day(newest.rebalance_date)}: traded at its close"),
        ("Kind", f"{newest.kind}, revision {newest.revision}{because}"),
        ("Decided at", f"{hashes['created_at']:%Y-%m-%d %H:%M:%S} UTC"),
        ("Decided", f"{contents.dates} rebalance dates in scenario {contents.scenario}"),
        ("Universe", f"{contents.universe.name}, {len(contents.universe.assets)} assets"),
        *_lineage(contents),
        ("Leak gate", _leak_gate(contents)),
        ("Content hash", hashes["content_hash"]),
        ("Record hash", hashes["record_hash"]),
    ]


def live(contents: Contents) -> str | None:
    """The live record in a sentence; None while there is none."""
    rows = contents.tables["live"]
    if not len(rows):
        return None
    first, last = rows.iloc[0], rows.iloc[-1]
    said = f"{len(rows)} sessions from {first['session']:%Y-%m-%d} to {last['session']:%Y-%m-%d}, "
    said += f"wealth {last['wealth']:.4f}."
    return f"{said} Outside the band for {last['outside']} sessions in a row." if last["outside"] else said


def _leak_gate(contents: Contents) -> str:
    """What deciding a past date again with another future came to."""
    rows = contents.tables["leaks"]
    if not len(rows):
        return "not run for this date: nothing was decided before, it is a backfill, or PRISM_LEAK_GATE is false"
    row = rows.iloc[0]
    same = "the same weights, to the byte" if row["verdict"] == "passed" else "other weights: something sees the future"
    return (
        f"{row['rebalance_date']:%Y-%m-%d} decided again with all later prices changed: {same} ({row['seconds']:.0f} s)"
    )


def _lineage(contents: Contents) -> list[tuple[str, str]]:
    """Data, model, code and machine; twelve digits of a hash find it in the store."""
    record = contents.record
    changed = [f"{name} = {value}" for name, value, differs in parameters(contents) if differs]
    versions = [f"{name} {version}" for name, version in sorted(record["versions"].items())]
    return [
        ("Data known at", f"{record['known_at'].replace('T', ' ')[:19]} UTC"),
        ("Snapshot", record["snapshot"][:12]),
        ("Prefix", record["prefix"][:12]),
        ("Model", record["model"][:12] if record["model"] else "none: this forecast needs no network"),
        ("Code", digest(record["code"])[:12]),
        ("Libraries", ", ".join(versions)),
        ("Machine", f"{record['machine']['processor']}, {record['machine']['system']}"),
        ("Not at the default", ", ".join(changed) or "none of the numbers"),
    ]
