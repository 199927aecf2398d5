"""A what-if beside the scenario it starts from, for Prefect's UI: what differs, with which its summary begins."""

import json
from typing import Any

from flows.artifacts import table
from flows.comparisons import EXPECTED, SHOWN, doubts, measured, percents, short
from tasks.report.artifacts import escaped

_NO_TRADE = {"a": 0.0, "b": 0.0, "difference": 0.0}
Row = dict[str, Any]


def markdown(found: Row) -> str:
    """A comparison of scenario A, where the what-if starts from, and B, the what-if."""
    names = [found["a"]["scenario"], found["b"]["scenario"]]
    columns = [*names, "difference"]
    parts = [f"# {escaped(names[1])} beside {escaped(names[0])}, {found['b']['month']}", _parameters(found, names)]
    body = [[EXPECTED[row["name"]], *percents(row)] for row in found["expected"]]
    parts += [f"## Expected over the next {found['horizon']} sessions", table(["", *columns], body)]
    return "\n\n".join([*parts, *_positions(found, columns), *_backtest(found["backtest"], columns), "---"])


def _parameters(found: Row, names: list[str]) -> str:
    rows = [[row["name"], *(short(json.dumps(row[letter])) for letter in ("a", "b"))] for row in found["parameters"]]
    return table(["parameter", *names], rows) if rows else "No parameter differs."


def _positions(found: Row, columns: list[str]) -> list[str]:
    """Weights and trades, the largest differences of weights first."""
    trades = {row["ticker"]: row for row in found["trades"]}
    rows = sorted(found["weights"], key=lambda row: -abs(row["difference"]))[:SHOWN]
    body = [[row["ticker"], *percents(row), *percents(trades.get(row["ticker"], _NO_TRADE))] for row in rows]
    heads = ["", *(f"{what}, {name}" for what in ("weight", "trade") for name in columns)]
    return ["## Weights and trades", table(heads, body)]


def _backtest(found: Row | None, columns: list[str]) -> list[str]:
    if found is None:
        return ["There are no two backtests to compare: they share no session."]
    title = f"## Backtests over {found['sessions']} common sessions, {found['start_date']} to {found['end_date']}"
    body = [measured(row) for row in found["measures"]]
    heads = ["", *columns, "95 % interval"]
    return [f"{title}, after costs", table(heads, body), *(escaped(sentence) for sentence in doubts(found))]
