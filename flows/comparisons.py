"""The terminal's words on a comparison: readable in 100 columns."""

import json
from typing import Any

from flows import display

SHOWN = 15
_WIDEST = 26  # of a scenario's name, or a parameter's value, in a column
_MEASURES = {
    "annual_return": ("annual return", "%"),
    "annual_volatility": ("annual volatility", "%"),
    "sharpe": ("Sharpe", ""),
    "sortino": ("Sortino", ""),
    "max_drawdown": ("maximum drawdown", "%"),
    "cvar_95": ("CVaR 95 % a day", "%"),
    "turnover": ("turnover a year", ""),
    "costs": ("costs a year", "%"),
}
EXPECTED = {
    "expected_return": "expected return",
    "expected_volatility": "expected volatility",
    "not_forecast": "weight without a forecast",
    "turnover": "turnover of the trades",
    "cost": "their cost",
}
Row = dict[str, Any]


def comparison(found: Row, as_json: bool, as_csv: bool) -> None:
    """A comparison as one JSON document, as CSV with a row for each number, or in words."""
    if as_json:
        display.document(found)
    elif as_csv:
        display.show(_lines(found), False, True)
    else:
        _words(found)


def _lines(found: Row) -> list[Row]:
    """Every number as `section, name, a, b, difference, lower, upper`."""
    rows = [{"section": "parameters", **row, "difference": None} for row in found["parameters"]]
    for section in ("weights", "trades"):
        rows += [{"section": section, "name": row["ticker"]} | _numbers(row) for row in found[section]]
    rows += [{"section": "expected", "name": row["name"]} | _numbers(row) for row in found["expected"]]
    backtest = found["backtest"] or {"measures": []}
    ends = ("lower", "upper")
    measured = [{"section": "backtest", "name": row["name"]} | _numbers(row, ends) for row in backtest["measures"]]
    return [row | {name: row.get(name) for name in ends} for row in [*rows, *measured]]


def _numbers(row: Row, more: tuple[str, ...] = ()) -> Row:
    return {name: row[name] for name in ("a", "b", "difference", *more)}


def _words(found: Row) -> None:
    own, other = _names(found["a"], found["b"])
    columns = [own, other, "difference"]
    for letter in ("a", "b"):
        one = found[letter]
        display.say_line(
            f"{letter.upper()}: scenario {one['scenario']}, {one['month']}, {one['strategy']}, known at {one['as_of']}"
        )
    display.say_line("differences are those of B less A\n")
    _parameters(found["parameters"], own, other)
    _positions(found["weights"], ["weight", *columns])
    _positions([row for row in found["trades"] if row["a"] or row["b"]], ["trade", *columns])
    body = [[EXPECTED[row["name"]], *percents(row)] for row in found["expected"]]
    display.table(body, ["", *columns], f"Expected over the next {found['horizon']} sessions, as forecast")
    display.say_line("")
    _backtest(found["backtest"], columns)


def _names(a: Row, b: Row) -> tuple[str, str]:
    """Headings of the two columns: what tells the sides apart."""
    names = [one["month"] if a["scenario"] == b["scenario"] else one["scenario"] for one in (a, b)]
    return (f"A: {short(names[0])}", f"B: {short(names[1])}")


def short(text: str) -> str:
    """Text that fits into a column."""
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _parameters(rows: list[Row], own: str, other: str) -> None:
    if not rows:
        display.say_line("no parameter differs\n")
        return
    body = [[row["name"], *(short(json.dumps(row[letter])) for letter in ("a", "b"))] for row in rows]
    display.table(body, ["parameter", own, other])
    display.say_line("")


def _positions(rows: list[Row], columns: list[str]) -> None:
    """The largest positions or trades."""
    if not rows:
        display.say_line(f"no {columns[0]}\n")
        return
    display.table([[row["ticker"], *percents(row)] for row in rows[:SHOWN]], columns)
    rest = rows[SHOWN:]
    if rest:
        largest = max(abs(row["difference"]) for row in rest)
        display.say_line(f"and {len(rest)} smaller ones, which differ by {100 * largest:.2f} % at most; all: --csv")
    display.say_line("")


def percents(row: Row) -> list[str | None]:
    """Both sides of a row, and their difference, as percentages."""
    a, b, difference = (row[name] for name in ("a", "b", "difference"))
    return [_percent(a), _percent(b), _percent(difference, "+")]


def _percent(value: float | None, sign: str = "") -> str | None:
    return None if value is None else f"{100 * value:{sign}.2f} %"


def _backtest(found: Row | None, columns: list[str]) -> None:
    if found is None:
        display.say_line("there are no two backtests to compare: both are of one line, or share no session")
        return
    body = [measured(row) for row in found["measures"]]
    title = f"Backtests over {found['sessions']} common sessions, {found['start_date']} to {found['end_date']}"
    display.table(body, ["", *columns, "95 % interval"], f"{title}, after costs")
    display.say_line("")
    for sentence in doubts(found):
        display.say_line(sentence)


def doubts(found: Row) -> list[str]:
    """What the intervals are, and how long it takes to know more."""
    said = [f"intervals: {found['method']}"] if found["method"] else []
    if found["years_needed"] is not None:
        said.append(
            f"to tell the Sharpe ratios apart at 95 % takes {found['years_needed']:.1f} years, if the difference "
            f"stays; there are {found['years']:.1f}"
        )
    return said


def measured(row: Row) -> list[str | None]:
    """A measure of both backtests: its name, both values, their difference, its interval."""
    heading, unit = _MEASURES[row["name"]]
    signs = {"a": "", "b": "", "difference": "+", "lower": "+", "upper": "+"}
    shown = {name: _figure(row[name], unit, sign) for name, sign in signs.items()}
    interval = f"[{shown['lower']}, {shown['upper']}]" if row["lower"] is not None else None
    return [heading, shown["a"], shown["b"], shown["difference"], interval]


def _figure(value: float | None, unit: str, sign: str) -> str | None:
    if unit == "%" or value is None:
        return _percent(value, sign)
    return f"{value:{sign}.2f}"
