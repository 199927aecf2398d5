"""What the terminal shows: tables for people, one JSON document or CSV for programs."""

import csv
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from flows import parameters as forms
from flows.parameters import STRATEGIES
from storage import catalog, ledger, scenarios, universe
from storage.errors import NoDataError
from storage.keys import name_of
from storage.store import Store

if TYPE_CHECKING:
    from flows.outlook import Outlook

_FORMULA = re.compile(r"\s*[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-]")  # how one begins, full-width signs too
_SESSIONS = 21  # of the live record that the terminal shows
Rows = list[dict[str, Any]]
_MEASURES = {
    "cumulative_return": "%", "annual_return": "%", "annual_volatility": "%", "sharpe": "", "sortino": "",
    "max_drawdown": "%", "cvar_95": "%", "turnover": "", "costs": "%", "effective_positions": "",
    "fitness": "", "sharpe_error": "", "psr": "%", "dsr": "%", "trials": "n",
}  # fmt: skip


def show(rows: Rows, as_json: bool, as_csv: bool, title: str = "") -> None:
    """Rows as one JSON document, as CSV, or as a table."""
    if as_json:
        document(rows)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([list(rows[0]) if rows else [], *([_cell(value) for value in row.values()] for row in rows)])
    else:
        table([list(row.values()) for row in rows], list(rows[0]) if rows else [], title)


def _cell(value: Any) -> Any:
    """A cell of CSV: text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def document(content: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """JSON values of what a query may return; a number that JSON cannot hold is null."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str], title: str = "") -> None:
    """A table, numbers to the right; as wide as it needs to be where the output is no terminal."""
    if title:
        say_line(f"{title}\n")
    made = Table(header_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        numeric = all(isinstance(row[place], (int, float)) or _looks_numeric(row[place]) for row in rows)
        made.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        made.add_row(*("" if value is None else _text(value) for value in row))
    width = None if sys.stdout.isatty() else 240
    Console(width=width, highlight=False, markup=False).print(made)


def _looks_numeric(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip("+-% ").replace(".", "").replace(",", "").isdigit())


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_AT_ONCE: ContextVar[catalog.Connection | None] = ContextVar("_AT_ONCE", default=None)


@contextmanager
def at_once(store: Store, scenario: str) -> Iterator[None]:
    """Let all queries of a block, which are of one scenario, see one state of the store, through one connection."""
    with catalog.connect(store, scenario) as connection:
        token = _AT_ONCE.set(connection)
        try:
            yield
        finally:
            _AT_ONCE.reset(token)


def select(store: Store, scenario: str, sql: str, *values: Any) -> Rows:
    """Rows of a fixed query over a scenario's views, its values as parameters."""
    shared = _AT_ONCE.get()
    with nullcontext(shared) if shared else catalog.connect(store, scenario) as connection:
        return connection.sql(sql, params=list(values)).to_arrow_table().to_pylist()


def newest(store: Store, scenario: str, month: str | None) -> dict[str, Any]:
    """The newest decision, or that of a month or a day, with its name; raises NoDataError where there is none."""
    rows = select(
        store,
        scenario,
        "SELECT * FROM decisions WHERE starts_with(strftime(rebalance_date, '%Y-%m-%d'), ?) ORDER BY rebalance_date",
        month or "",
    )
    if not rows:
        when = f"{'day' if len(month) > len('2019-12') else 'month'} {month}" if month else "any month"
        raise NoDataError(f"scenario {scenario} has not decided {when}; run `prism run` or `prism backfill` first")
    return rows[-1] | {"name": _named(store, scenario, rows[-1]["rebalance_date"])}


def _named(store: Store, scenario: str, day: date) -> str:
    """A decision's name: its month, or its day where every session is decided."""
    return name_of(day, _parameters(store, scenario, day).get("rebalance") == "D")


def published(store: Store, scenario: str, day: date) -> str:
    """The published strategy of a rebalance date."""
    return str(_parameters(store, scenario, day)["publish"])


def _parameters(store: Store, scenario: str, day: date) -> dict[str, Any]:
    return scenarios.at(scenarios.read(store, scenario), day).parameters


def weights(store: Store, scenario: str, month: str | None, as_json: bool, as_csv: bool) -> None:
    """Weights of every strategy at a rebalance date, the published one first."""
    decision = newest(store, scenario, month)
    rows = select(
        store,
        scenario,
        "SELECT as_of, rebalance_date, strategy, ticker, weight FROM weights WHERE rebalance_date = ? "
        "ORDER BY strategy, ticker",
        decision["rebalance_date"],
    )
    first = published(store, scenario, decision["rebalance_date"])
    if as_json:
        document(_weights_document(store, scenario, decision, rows, first))
    elif as_csv:
        show(rows, False, True)
    else:
        _weights_table(rows, first, f"Weights for {decision['name']}, known at {decision['as_of']}")
        for row in _allocations(store, scenario, decision, first):
            said = json.loads(row["diagnostics"])
            if said.get("degraded"):
                say_line(f"{row['strategy']}: degraded because {said['degraded']}")
            elif said.get("reason"):
                say_line(f"{row['strategy']}: {said['reason']}")


def _weights_document(store: Store, scenario: str, decision: dict[str, Any], rows: Rows, first: str) -> dict[str, Any]:
    strategies: dict[str, Any] = {}
    for row in _allocations(store, scenario, decision, first):
        held = {entry["ticker"]: entry["weight"] for entry in rows if entry["strategy"] == row["strategy"]}
        strategies[row["strategy"]] = {"weights": held, **json.loads(row["diagnostics"])}
    return {
        "scenario": scenario,
        "as_of": decision["as_of"],
        "rebalance_date": decision["rebalance_date"],
        "published": first,
        "strategies": strategies,
    }


def _allocations(store: Store, scenario: str, decision: dict[str, Any], first: str) -> Rows:
    """What each strategy's allocator said of itself at a decision, the published one first."""
    sql = (
        "SELECT a.strategy, a.diagnostics FROM (SELECT unnest(weights) AS key FROM decisions WHERE rebalance_date = ?) "
        "JOIN raw.allocations a USING (key)"
    )
    said = select(store, scenario, sql, decision["rebalance_date"])
    return sorted(said, key=lambda row: rank(row["strategy"], first))


def rank(strategy: str, first: str) -> tuple[bool, int]:
    """The place of a strategy in a list: the published one `first`, then as `prism params` names them."""
    return strategy != first, list(STRATEGIES).index(strategy) if strategy in STRATEGIES else len(STRATEGIES)


def _weights_table(rows: Rows, first: str, title: str) -> None:
    names = sorted({row["strategy"] for row in rows}, key=lambda name: rank(name, first))
    held = {(row["ticker"], row["strategy"]): row["weight"] for row in rows}
    tickers = sorted({row["ticker"] for row in rows}, key=lambda ticker: (-held.get((ticker, first), 0), ticker))
    body = [[t, *(f"{100 * held[t, n]:.2f} %" if (t, n) in held else None for n in names)] for t in tickers]
    table(body, ["ticker", *names], title)


def metrics(store: Store, scenario: str, as_json: bool, as_csv: bool) -> None:
    """Measures of the backtest, by strategy, the published one first."""
    rows = select(store, scenario, "SELECT strategy, name, value, start_date, end_date FROM metrics")
    if not rows:
        raise NoDataError(f"scenario {scenario} has no backtest yet: nothing decided has traded in the data so far")
    if as_csv:
        show(rows, False, True)
        return
    span = {"start": min(row["start_date"] for row in rows), "end": max(row["end_date"] for row in rows)}
    values: dict[str, dict[str, float]] = {}
    newest_day = newest(store, scenario, None)["rebalance_date"]
    first = published(store, scenario, newest_day)
    for row in sorted(rows, key=lambda row: rank(row["strategy"], first)):
        values.setdefault(row["strategy"], {})[row["name"]] = row["value"]
    for name, found in _deflated(store, values).items():
        values[name] |= found
    chosen = universe.load(store, ledger.current(store, scenario)[newest_day].record["universe"])
    said = universe.hindsight(chosen, span["start"])
    if as_json:
        document({"scenario": scenario, **span, "hindsight": said, "strategies": values})
        return
    body = [[name, *(_measure(found.get(name), unit) for found in values.values())] for name, unit in _MEASURES.items()]
    table(body, ["", *values], f"Backtest, out of sample and after costs, {span['start']} to {span['end']}")
    if said:
        say_line(said)


def live(store: Store, as_json: bool, as_csv: bool) -> None:
    """The live track record of `main`, the newest sessions in the terminal."""
    rows = select(store, "main", "SELECT * FROM live")
    if not rows:
        raise NoDataError("nothing that was published has been marked yet; run `prism live --mark` after a session")
    if as_json:
        document({"scenario": "main", "start": rows[0]["session"], "end": rows[-1]["session"], "sessions": rows})
    elif as_csv:
        show(rows, False, True)
    else:
        shown = ("wealth", "lower_90", "expected", "upper_90")
        body = [
            [row["session"], row["rebalance_date"], *(None if row[n] is None else f"{row[n]:.4f}" for n in shown)]
            for row in rows[-_SESSIONS:]
        ]
        title = f"Live since {rows[0]['session']}, after costs: {rows[-1]['strategy']}"
        table(body, ["session", "weights of", *shown], title)
        if rows[-1]["outside"]:
            say_line(f"outside the 90 % cone of its forecasts for {rows[-1]['outside']} sessions in a row")


def _measure(value: float | None, unit: str) -> str | None:
    if value is None:
        return None
    shown = {"%": f"{100 * value:.1f} %", "n": f"{value:.0f}", "": f"{value:.2f}"}
    return shown[unit]


def _deflated(store: Store, values: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """By strategy what the ledger of trials makes of its Sharpe ratio, as it stands now."""
    from tasks import trials

    return trials.deflated(store, values)


def plan(outlook: "Outlook", as_json: bool) -> None:
    """What would be computed, and why."""
    if as_json:
        document({"stages": outlook.stages, "months": outlook.months})
        return
    table(outlook.rows(), outlook.HEADS, "Answers that the store lacks")
    for sentence in outlook.sentences():
        say_line(sentence)


def status(heads: Sequence[str], body: Sequence[Sequence[str]], rows: Rows, as_json: bool) -> None:
    """How far each rebalance date has come: `rows` for programs, `body` under `heads` for people."""
    if as_json:
        document(rows)
        return
    table(body, heads)


def dates(count: int) -> str:
    """So many rebalance dates, in words."""
    return f"{count} rebalance date{'' if count == 1 else 's'}"


def params(as_json: bool) -> None:
    """Every parameter: name, default, range, help."""
    rows = forms.described()
    if as_json:
        document(rows)
        return
    table(
        [[row["name"], str(row["default"]), row["range"], row["help"]] for row in rows],
        ["name", "default", "range", "help"],
    )


def say(result: dict[str, Any], as_json: bool) -> None:
    """A flow's result, name by name."""
    if as_json:
        document(result)
        return
    for name, value in result.items():
        say_line(f"{name}: {value}")


def say_line(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")
