"""Why the newest weights are what they are: what moved them, how far the networks agree, and what is certified."""

import json
import math
from typing import Any

import pandas as pd

from storage.schemas import CASH
from tasks.numerics import causes
from tasks.report.contents import Contents, Frame
from tasks.report.formats import DASH, change, decimal, label, percent
from tasks.report.listings import SHOWN, Cell, Row

_LARGEST = 12  # changes that are shown
_DRIFT = "drift"  # stands beside the parts, and is none of them


def changes(contents: Contents) -> tuple[list[str], list[Row]]:
    """Parts that moved any weight, and a row for each of the largest changes of the published strategy."""
    rows: Frame = contents.tables["changes"]
    rows = rows[(rows["strategy"] == contents.published) & (rows["part"] != _DRIFT)]
    if not len(rows):
        return [], []
    order = sorted(set(rows["part"]), key=causes.ORDER.index)
    table = rows.pivot(index="ticker", columns="part", values="change")[order].fillna(0.0)
    parts = [part for part in order if (table[part].abs() >= SHOWN).any()]
    total = table.sum(axis=1)
    largest = total.abs().sort_values(ascending=False, kind="stable").index[:_LARGEST]
    shown = [ticker for ticker in largest if abs(total[ticker]) >= SHOWN]
    spread = _spread(contents)
    found = []
    for ticker in shown:
        cells = [Cell(change(total[ticker]), total[ticker])]
        cells += [
            Cell(change(table.loc[ticker, part]) if abs(table.loc[ticker, part]) >= SHOWN else "") for part in parts
        ]
        found.append(
            Row("Cash" if ticker == CASH else ticker, [*cells, *([Cell(spread.get(ticker, DASH))] if spread else [])])
        )
    heads = ["Change", *(part[:1].upper() + part[1:] for part in parts), *(["Each network alone"] if spread else [])]
    return heads if found else [], found


def _spread(contents: Contents) -> dict[str, str]:
    """Lowest and highest weight over the networks, by ticker."""
    rows: Frame = contents.tables["spread"]
    rows = rows[rows["strategy"] == contents.published]
    return {row.ticker: f"{percent(row.lowest, 1)} to {percent(row.highest, 1)}" for row in rows.itertuples()}


def diagnostics(contents: Contents) -> dict[str, Any]:
    """What the published strategy's allocator said of its weights."""
    rows: Frame = contents.tables["allocations"]
    found = rows.loc[rows["strategy"] == contents.published, "diagnostics"]
    return json.loads(found.iloc[0]) if len(found) else {}


def certificate(contents: Contents) -> str | None:
    """How far the published weights are from the best there are, as a sentence; None where nothing says so."""
    said = diagnostics(contents)
    if said.get("status") == "global":
        maxima = said["local_maxima"]
        others = f" of {maxima} local maxima" if maxima > 1 else ""
        return (
            f"These weights are the proven global optimum{others}: the gap to the best possible is "
            f"{_tiny(said['gap'])}, the residual of stationarity {_tiny(said['kkt'])}."
        )
    if said.get("status") == "constrained":
        return (
            f"Within the limits on sectors, turnover or size these are the best weights found; without these limits "
            f"the objective could be {percent(said['gap'], 1)} better at most."
        )
    if said.get("status") == "local":
        return (
            f"SLSQP from equal weights ended here, as the document runs it; the objective could be "
            f"{percent(said['gap'], 1)} better."
        )
    if said.get("status") == "uncertified":
        return "The optimiser could not prove these weights to be the best; they are the best that it found."
    return None


def _tiny(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def notes(contents: Contents) -> list[str]:
    """Reasons that were recorded: a gate, a fall-back, an amendment, holdings that a person brought."""
    own = diagnostics(contents)
    degraded = f"degraded because {own['degraded']}" if own.get("degraded") else None
    said = [degraded or own.get("reason"), contents.newest.reason]
    imported = contents.record.get("imported")
    if imported:
        said.append(f"trades start from the holdings imported for {imported['date']} ({imported['holdings'][:12]})")
    return [f"{text[:1].upper()}{text[1:]}." for text in said if text]


def outlook(contents: Contents) -> str | None:
    """What the forecasts say of the published portfolio as a whole, as a sentence; None where they do not."""
    rows: Frame = contents.tables["portfolio_forecasts"]
    rows = rows[
        (rows["strategy"] == contents.published)
        & (rows["rebalance_date"] == pd.Timestamp(contents.newest.rebalance_date))
    ]
    if not len(rows):
        return None
    row, horizon = rows.iloc[0], contents.record["parameters"]["features"]["horizon"]
    return (
        f"As a whole the portfolio is expected to return {change(row['mean'], 1)} over {horizon} sessions, with nine "
        f"of ten outcomes between {change(row['lower_90'], 1)} and {change(row['upper_90'], 1)}."
    )


def judged(contents: Contents) -> list[Row]:
    """How the portfolios' own forecasts fared: coverage, spread of z, drawdown proxies; a row for each strategy."""
    rows: Frame = contents.tables["portfolio_judgements"]
    found = []
    for name in contents.measured:
        own = rows[rows["strategy"] == name].set_index("name")
        if not len(own):
            continue
        cells = [_with_error(own, f"covers_{share}") for share in (50, 90, 95)]
        cells.append(Cell(decimal(_value(own, "z_deviation"))))
        cells += [Cell(percent(_value(own, f"{proxy}_held"), 0)) for proxy in ("proxy", "proxy_sane")]
        cells += [Cell(decimal(_value(own, f"{proxy}_ratio"))) for proxy in ("proxy", "proxy_sane")]
        found.append(Row(label(name), cells))
    return found


def _value(own: Frame, name: str) -> float | None:
    value = own["value"].get(name)
    return None if value is None or math.isnan(value) else float(value)


def _with_error(own: Frame, name: str) -> Cell:
    value, error = _value(own, name), own["error"].get(name)
    if value is None:
        return Cell(DASH)
    return Cell(
        f"{percent(value, 1)} \u00b1 {percent(error, 1)}" if error and not math.isnan(error) else percent(value, 1)
    )
