"""What stands behind one weight, from the optimiser's inputs down to the source's raw answer; nothing is written."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from storage import partitions, tables
from storage.keys import PanelKey
from storage.store import Store
from tasks import panels, problems
from tasks.numerics import sensitivities
from tasks.numerics.sensitivities import Inputs
from tasks.numerics.windows import FloatArray
from tasks.problems import Choice, Problem
from tasks.sights import Change, Sight, stored

Row = dict[str, Any]
BARS, MOST = 5, 5  # bars and sensitivities that are listed


def forecast(store: Store, key: str, ticker: str) -> Row | None:
    """The asset's forecast; None where it has none."""
    rows = tables.read(store, "forecasts", key=key, ticker=ticker).to_pylist()
    return rows[0] if rows else None


def model(store: Store, key: str) -> Row:
    """A network's row without its lineage."""
    [row] = tables.read(store, "models", key=key).to_pylist()
    return {name: row[name] for name in ("key", "kind", "block", "as_of", "blob", "parent", "loss")}


def features(store: Store, sight: Sight, ticker: str) -> Row | None:
    """What the forecaster saw of the asset's last session: each value, and the part of its own past at or below it."""
    if not sight.features:
        return None
    names, rows = partitions.read(store, "features", sight.features)
    own = rows[rows["ticker"] == ticker]
    if own.empty:
        return None
    session = own["session"].iloc[-1].date()
    index = tables.read(store, "features", ["key", "as_of", "blob"], key=list(sight.features)).sort_by("as_of")
    part = next(row for row in index.to_pylist() if row["as_of"] >= session)
    values = [_against_past(name, own[name].to_numpy(float)) for name in names]
    return {"session": session, "key": part["key"], "blob": part["blob"], "values": values}


def _against_past(name: str, values: FloatArray) -> Row:
    past = values[np.isfinite(values)]
    share = float((past <= values[-1]).mean()) if np.isfinite(values[-1]) else None
    return {"name": name, "value": float(values[-1]) if share is not None else None, "share": share}


def bars(store: Store, panel: PanelKey, sight: Sight, ticker: str, dataset: str, known_at: datetime) -> list[Row]:
    """The asset's last bars that could be seen, as the source gave them and as they were known then."""
    asset = panels.load(store, panel).series.get(ticker)
    if asset is None:
        return []
    days = asset.own_day[asset.day <= np.datetime64(sight.day)][-BARS:].tolist()
    names = panels.load(store, panel).universe.names[ticker]
    rows = tables.read(store, "bars", dataset=dataset, ticker=names, session=days).sort_by("known_from").to_pylist()
    newest = {row["session"]: row for row in rows if row["known_from"] <= known_at}
    return [newest[day] for day in days if day in newest]


def payload(store: Store, dataset: str, names: Sequence[str], known_at: datetime) -> Row | None:
    """The newest ingest by then that brought bars of the asset; its `payload` is the source's raw answer, if kept."""
    rows = tables.read(store, "ingests", dataset=dataset, ticker=list(names), outcome="ok").to_pylist()
    known = [row for row in rows if row["created_at"] <= known_at]
    return max(known, key=lambda row: row["created_at"]) if known else None


def what_moves(store: Store, change: Change, ticker: str) -> list[Row]:
    """What would change the asset's weight most, the exact optimum found anew each time.

    That knows the cap on single weights; the limits on sectors, turnover and small positions are left out.
    """
    panel, after = panels.load(store, change.own.panel), change.after
    given = stored(store, after.forecasts)
    if ticker not in given:
        return []
    problem = problems.of(panel, change.own.day, given, after.choice.matrix)
    sectors = dict.fromkeys(problem.tickers, "")

    def solve(inputs: Inputs) -> FloatArray:
        moved = Problem(problem.tickers, inputs.mean, inputs.sigma**2, inputs.correlation)
        choice = Choice(after.choice.units, after.choice.matrix, inputs.config)
        return problems.solve(moved, choice, sectors).weights

    config = replace(after.choice.unlimited.config, method="exact", max_weight=after.choice.config.max_weight)
    inputs = Inputs(problem.mean, np.sqrt(problem.variance), problem.correlation, config)
    found = [entry for entry in sensitivities.of_weight(problem.tickers.index(ticker), inputs, solve) if entry.change]
    return [
        {"input": entry.kind, "ticker": None if entry.asset is None else problem.tickers[entry.asset]}
        | {"step": entry.step, "change": entry.change}
        for entry in found[:MOST]
    ]


def limits(weight: float, diagnosed: Row, choice: Choice, sector: str) -> list[str]:
    """The limits that hold this weight where it is, of those that bind."""
    config, binding, found = choice.config, diagnosed.get("binding", []), []
    if weight == 0.0:
        found.append("long only: the optimum would gain nothing by holding it")
    if "max_weight" in binding and weight >= config.max_weight - 1e-9:
        found.append(f"max_weight {config.max_weight:.4g}")
    if "min_weight" in binding and abs(weight - config.min_weight) < 1e-9:
        found.append(f"min_weight {config.min_weight:.4g}")
    found += [name for name in binding if name == f"sector {sector}"]
    if "turnover_limit" in binding:
        found.append(f"turnover_limit {config.turnover_limit:.4g}")
    return found
