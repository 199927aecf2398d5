"""What the terminal shows of trades, of orders in shares, and of what a person holds."""

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from flows.display import (
    Rows,
    at_once,
    dates,
    document,
    metrics,
    newest,
    published,
    rank,
    say_line,
    select,
    show,
    table,
    weights,
)
from flows.parameters import make
from storage import ledger, snapshots
from storage.errors import NoDataError
from storage.ledger import HELD, PUBLISHED, Decision
from storage.schemas import CASH
from storage.store import Store
from tasks import own_holdings
from tasks.own_holdings import Holdings

_TRADES = """
    SELECT rebalance_date, strategy, ticker, trade, cost, coalesce(weight, 0) AS target,
           coalesce(weight, 0) - trade AS held
    FROM trades LEFT JOIN weights USING (rebalance_date, strategy, ticker) WHERE rebalance_date = ? ORDER BY ticker"""
_WEIGHTS = "SELECT ticker, weight FROM weights WHERE rebalance_date = ? AND strategy = ?"


def trades(store: Store, scenario: str, month: str | None, as_json: bool, as_csv: bool) -> None:
    """Planned trades of a rebalance date, those of the published strategy first, and what they start from."""
    decision = newest(store, scenario, month)
    day = decision["rebalance_date"]
    rows = select(store, scenario, _TRADES, day)
    first = published(store, scenario, day)
    rows.sort(key=lambda row: (rank(row["strategy"], first), row["ticker"]))
    if as_json or as_csv:
        show(rows, as_json, as_csv)
        return
    mine = sorted((row for row in rows if row["strategy"] == first), key=lambda row: row["trade"])
    shown = ("held", "target", "trade")
    body = [
        [row["ticker"], *(_percent(row[name], "+" * (name == "trade")) for name in shown), f"{1e4 * row['cost']:.2f}"]
        for row in mine
    ]
    columns = ["ticker", *shown, "cost (bp)"]
    table(body, columns, f"Trades of {first} on {day}, as parts of wealth")
    turnover = sum(abs(row["trade"]) for row in mine) / 2
    say_line(f"turnover {100 * turnover:.1f} %; other strategies: prism trades --csv")
    say_line(start(store, scenario, day))


def start(store: Store, scenario: str, day: date) -> str:
    """What the trades of a rebalance date start from, in words; of a held one, why there are none."""
    decided = ledger.current(store, scenario)
    record = decided[day].record
    if decided[day].kind == HELD:
        return f"{decided[day].month} is held, nothing is traded: {(record.get('publication') or {}).get('said', '')}"
    imported = record.get("imported")
    if imported:
        known = own_holdings.history(store, scenario)
        entry = next(entry for entry in known if entry.holdings == imported["holdings"])
        return f"trades start from {_named(entry)}"
    if not record["holdings"]:
        return "trades start from cash"
    before = decided.get(date.fromisoformat(record["follows"]))
    if before is None:
        return f"trades start from the weights decided for {record['follows']}, drifted"
    if before.kind == HELD:
        return f"trades start from what was held through {before.month}, drifted"
    how = PUBLISHED if before.kind == PUBLISHED else "decided"
    return f"trades start from the weights {how} for {before.month}, drifted"


def _named(entry: Holdings) -> str:
    return f"holdings imported on {entry.imported_at:%Y-%m-%d}, those of {entry.date} ({entry.holdings[:12]})"


def orders(
    store: Store,
    scenario: str,
    month: str | None,
    holdings: Path | None,
    capital: float | None,
    fractional: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Orders in shares, from what a person holds to the published weights of a rebalance date."""
    from tasks.orders import RETURNS, sheet

    shown = newest(store, scenario, month)
    day = shown["rebalance_date"]
    decision = ledger.current(store, scenario)[day]
    first = published(store, scenario, day)
    wanted = {row["ticker"]: row["weight"] for row in select(store, scenario, _WEIGHTS, day, first)}
    held, said = _held(store, scenario, decision, holdings, None if month is None else day)
    config = make(decision.record["parameters"]).accounting
    found = sheet(store, decision, wanted, held, capital, config, not fractional)
    columns = ["ticker", "price", "held", "target", "order", "cost"]
    made = found.orders
    lists = [found.tickers, *(v.tolist() for v in (found.price, found.held, made.target, made.order, made.cost))]
    if found.sessions is not None:
        columns, lists = [*columns, "sessions"], [*lists, found.sessions]
    rows = [dict(zip(columns, entry, strict=True)) for entry in zip(*lists, strict=True)]
    total = float(made.cost.sum())
    summary = {"total_cost": total, "cash": made.cash, "tracking_error": found.tracking_error}
    if as_json:
        head = {"scenario": scenario, "rebalance_date": day, "strategy": first, "from": said, "costs": config.costs}
        document({**head, "orders": rows, "value": found.wealth, **summary})
    elif as_csv:
        show([row | summary for row in rows], False, True)
    else:
        body = [[row["ticker"], *(_number(row[name]) for name in columns[1:])] for row in rows]
        table(body, columns, f"Orders to {first}, {shown['name']}, in shares at the closes of {decision.as_of}")
        say_line(f"from {said}")
        say_line(f"estimated cost ({config.costs}): {total:,.2f}, {1e4 * total / found.wealth:.2f} bp of the account")
        say_line(f"cash left: {made.cash:,.2f}")
        words = f"tracking error of rounding: {100 * found.tracking_error:.3f} % a year"
        say_line(f"{words}, by the covariance of the last {RETURNS} sessions")
        if found.flat:
            say_line(f"at the flat cost, having no high, low or volume: {', '.join(found.flat)}")


def _percent(part: float, sign: str = "") -> str:
    return f"{round(100 * part, 2) + 0.0:{sign}.2f} %"  # + 0.0: no minus zero


def _number(value: float) -> str:
    return f"{value:,.4f}".rstrip("0").rstrip(".") if abs(value) < 1e15 else f"{value:.6g}"


def _held(
    store: Store, scenario: str, decision: Decision, path: Path | None, until: date | None
) -> tuple[dict[str, float], str]:
    """Shares held by ticker, and where that is known from: a file, the newest import, or nothing."""
    if path is not None:
        return own_holdings.read_file(path), f"the holdings of {path}"
    entry = own_holdings.newest(own_holdings.history(store, scenario), until or date.max)
    if entry is None:
        return {}, "cash: no holdings were given or imported"
    worth = own_holdings.valued(store, decision.record["snapshot"], decision.record["universe"], decision.as_of, entry)
    return worth.shares, _named(entry)


def imported(store: Store, scenario: str, as_json: bool, as_csv: bool) -> None:
    """The newest import, and the list of all."""
    known = own_holdings.history(store, scenario)
    current = own_holdings.newest(known)
    if current is None:
        raise NoDataError(
            f"scenario {scenario} has no holdings; import what you hold: prism holdings import FILE --date 2024-04-30"
        )
    standing = {entry.date: entry for entry in known}  # the last of a date
    entries = [
        {"holdings": entry.holdings, "date": entry.date, "imported_at": entry.imported_at}
        | {"rows": len(entry.shares), "superseded": standing[entry.date] is not entry}
        for entry in known
    ]
    if as_json:
        document({"scenario": scenario, "newest": asdict(current), "imports": entries})
    elif as_csv:
        head = {"holdings": current.holdings, "date": current.date}
        show([head | {"ticker": t, "shares": count} for t, count in current.shares.items()], False, True)
    else:
        rows = [[ticker, _number(count)] for ticker, count in current.shares.items()]
        table(rows, ["ticker", "shares"], f"Held on {current.date} ({current.holdings[:12]})")
        say_line("")
        rows = [
            [e["date"], f"{e['imported_at']:%Y-%m-%d %H:%M}", e["rows"], e["holdings"][:12], _state(e)] for e in entries
        ]
        table(
            rows, ["date", "imported at", "rows", "holdings", ""], "All imports, in the order in which they were made"
        )


def _state(entry: dict[str, Any]) -> str:
    return "superseded by a later one" if entry["superseded"] else ""


def against(store: Store, scenario: str, month: str | None, as_json: bool, as_csv: bool) -> None:
    """The newest import beside the published weights: held, target, and what is held too much or too little."""
    entry = own_holdings.newest(own_holdings.history(store, scenario))
    if entry is None:
        imported(store, scenario, as_json, as_csv)
        return
    shown = newest(store, scenario, month)
    decision = ledger.current(store, scenario)[shown["rebalance_date"]]
    first = published(store, scenario, decision.rebalance_date)
    goal = {row["ticker"]: row["weight"] for row in select(store, scenario, _WEIGHTS, decision.rebalance_date, first)}
    dataset, universe = own_holdings.market(store, scenario)
    day = max(entry.date, decision.as_of)
    worth = own_holdings.valued(store, snapshots.newest(store, dataset).snapshot, universe, day, entry)
    goal[CASH] = 1.0 - sum(weight for ticker, weight in goal.items() if ticker != CASH)
    held = worth.weights | {CASH: 1.0 - sum(worth.weights.values())}
    rows: Rows = [
        {"ticker": t, "shares": worth.shares.get(t, 0.0), "held": held.get(t, 0.0), "target": goal.get(t, 0.0)}
        | {"difference": held.get(t, 0.0) - goal.get(t, 0.0)}
        for t in sorted(held.keys() | goal.keys(), key=lambda ticker: (ticker == CASH, ticker))
    ]
    if as_json:
        head = {"scenario": scenario, "holdings": entry.holdings, "date": entry.date, "valued_on": day}
        head |= {"rebalance_date": decision.rebalance_date, "strategy": first, "value": worth.wealth}
        document({**head, "positions": rows})
    elif as_csv:
        show(rows, False, True)
    else:
        shares = ("held", "target", "difference")
        body = [
            [row["ticker"], _number(row["shares"]), *(_percent(row[n], "+" * (n == "difference")) for n in shares)]
            for row in rows
        ]
        title = f"Held on {entry.date}, at closes up to {day}, against {first} for {shown['name']}"
        table(body, ["ticker", "shares", *shares], title)
        apart = sum(abs(row["difference"]) for row in rows if row["ticker"] != CASH) / 2
        say_line(f"value {worth.wealth:,.2f}; half the sum of absolute differences: {100 * apart:.1f} %")


def outcome(store: Store, scenario: str, result: dict[str, Any], month: str, as_json: bool) -> None:
    """What a run ends with: weights, trades, backtest, and where the report is."""
    if as_json:
        document(
            result | {"trades_start_from": start(store, scenario, newest(store, scenario, month)["rebalance_date"])}
        )
        return
    with at_once(store, scenario):
        weights(store, scenario, month, False, False)
        say_line("")
        trades(store, scenario, month, False, False)
        say_line("")
        try:
            metrics(store, scenario, False, False)
        except NoDataError as error:
            say_line(str(error))
        say_line("")
    for name, verdict in result["published"].items():
        same = verdict == "identical"
        say_line(f"{name}, published before: {verdict if same else f'would differ, an advisory is kept ({verdict})'}")
    report = result["report"] or f"none (PRISM_REPORT=false), `prism report --scenario {scenario}` writes it"
    say_line(f"{dates(len(result['decided']))} newly decided; report: {report}")
