"""The terminal's words on why weights are what they are: one weight down to the raw data, or a month's changes."""

import difflib
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import display
from flows.explain import explain_dates, panel_of
from storage import ledger, scenarios, universe
from storage.errors import InputError, NoDataError
from storage.keys import name_of
from storage.ledger import HELD, Decision
from storage.schemas import CASH
from storage.store import Store
from tasks import evidence
from tasks.numerics.causes import DRIFT, ORDER
from tasks.sights import OPTIMISER, Change

Row = dict[str, Any]
Line = tuple[str, str, str | None]  # label, text, hash
_MOST = 10  # changes that a month's table lists
_SHORT = 12  # digits of a hash for people
_WIDTH = 100


def month(store: Store, scenario: str, name: str, strategy: str | None, as_json: bool) -> None:
    """The parts of a month's largest changes."""
    decision = _decision(store, scenario, name)
    explain_dates(scenario, [decision.rebalance_date])
    chosen = _strategy(store, scenario, decision, strategy)
    rows = _parts(store, scenario, decision, chosen)
    size = {ticker: sum(value for part, value in parts.items() if part != DRIFT) for ticker, parts in rows.items()}
    largest = sorted(size, key=lambda ticker: (-abs(size[ticker]), ticker))[:_MOST]
    if as_json:
        changes = [{"ticker": ticker, "change": size[ticker], "parts": rows[ticker]} for ticker in largest]
        said = {"scenario": scenario, "rebalance_date": decision.rebalance_date, "as_of": decision.as_of}
        display.document(said | {"strategy": chosen, "changes": changes})
        return
    names = [part for part in ORDER if part != DRIFT and any(rows[ticker].get(part) for ticker in largest)]
    body = [[t, _signed(size[t]), *(_signed(rows[t].get(part)) for part in names)] for t in largest]
    title = f"Largest changes of {chosen} in {decision.month}, as of {decision.as_of}, from what was held"
    display.table(body, ["ticker", "change", *names], title)
    display.say_line("Percent of wealth; the parts of a row add up to its change.")


def weight(store: Store, scenario: str, name: str, ticker: str, strategy: str | None, as_json: bool) -> None:
    """One weight, and the chain from it down to the raw data."""
    decision = _decision(store, scenario, name)
    ticker = _ticker(store, decision, ticker)
    chosen = _strategy(store, scenario, decision, strategy)
    [change] = explain_dates(scenario, [decision.rebalance_date])
    found = _chain(store, scenario, decision, change, chosen, ticker)
    if as_json:
        display.document(found)
    else:
        _print(found)


def _decision(store: Store, scenario: str, name: str) -> Decision:
    """The decision of a month or a day, the last one where there are several; NoDataError for a held one."""
    decided = ledger.current(store, scenario)
    found = [entry for day, entry in decided.items() if f"{day}".startswith(name)]
    if not found:
        known = [entry.month for entry in decided.values()]
        near = f"; the nearest is {min(known, key=lambda other: _distance(other, name))}" if known else ""
        raise NoDataError(f"scenario {scenario} has not decided {name}{near}; `prism backfill` decides past months")
    if found[-1].kind == HELD:
        raise NoDataError(
            f"{found[-1].month} was held, so its weights were not chosen but are what was held before; explain the "
            "date whose weights stand, or see `prism weights`"
        )
    return found[-1]


def _distance(one: str, other: str) -> int:
    """How many months two names of months or days are apart."""
    years, months = ([int(name[:4]) for name in (one, other)], [int(name[5:7]) for name in (one, other)])
    return abs(12 * (years[0] - years[1]) + months[0] - months[1])


def _ticker(store: Store, decision: Decision, ticker: str) -> str:
    """The ticker as the universe writes it; InputError, with the nearest, for one that it does not have."""
    chosen = universe.load(store, decision.record["universe"])
    known = {name.upper(): name for name in (*chosen.assets, *([chosen.index] if chosen.index else []), CASH)}
    if ticker.upper() in known:
        return known[ticker.upper()]
    near = difflib.get_close_matches(ticker.upper(), known, n=1, cutoff=0.0)
    raise InputError(f"universe {chosen.name} of {decision.month} has no {ticker!r}; did you mean {known[near[0]]}?")


def _strategy(store: Store, scenario: str, decision: Decision, strategy: str | None) -> str:
    """The strategy asked for, or the published one."""
    if strategy is None:
        return display.published(store, scenario, decision.rebalance_date)
    sql = "SELECT DISTINCT strategy FROM weights WHERE rebalance_date = ? ORDER BY strategy"
    known = [row["strategy"] for row in display.select(store, scenario, sql, decision.rebalance_date)]
    if strategy not in known:
        near = difflib.get_close_matches(strategy, known, n=1, cutoff=0.0)
        raise InputError(f"{decision.month} was decided without strategy {strategy!r}; did you mean {near[0]}?")
    return strategy


def _parts(store: Store, scenario: str, decision: Decision, strategy: str) -> dict[str, dict[str, float]]:
    """By ticker the parts of its change, in the order in which they are made."""
    sql = "SELECT ticker, part, change FROM changes WHERE rebalance_date = ? AND strategy = ?"
    found: dict[str, dict[str, float]] = {}
    for row in display.select(store, scenario, sql, decision.rebalance_date, strategy):
        found.setdefault(row["ticker"], {})[row["part"]] = row["change"]
    return {ticker: {part: own[part] for part in ORDER if part in own} for ticker, own in found.items()}


def _chain(store: Store, scenario: str, decision: Decision, change: Change, strategy: str, ticker: str) -> Row:
    """Everything behind a weight, with whole hashes."""
    sql = "SELECT ticker, weight FROM weights WHERE rebalance_date = ? AND strategy = ? ORDER BY weight DESC, ticker"
    weights = {
        row["ticker"]: row["weight"] for row in display.select(store, scenario, sql, decision.rebalance_date, strategy)
    }
    parts = _parts(store, scenario, decision, strategy).get(ticker, {})
    sql = (
        "SELECT a.key, a.diagnostics FROM (SELECT unnest(weights) AS key FROM decisions WHERE rebalance_date = ?) "
        "JOIN raw.allocations a USING (key) WHERE a.strategy = ?"
    )
    [row] = display.select(store, scenario, sql, decision.rebalance_date, strategy)
    diagnosed = {"key": row["key"], **json.loads(row["diagnostics"])}
    sql = "SELECT lowest, highest, deviation FROM spread WHERE rebalance_date = ? AND strategy = ? AND ticker = ?"
    spread = display.select(store, scenario, sql, decision.rebalance_date, strategy, ticker)
    own = weights.get(ticker, 0.0)
    moved = sum(value for part, value in parts.items() if part != DRIFT)
    found: Row = {
        "scenario": scenario, "month": name_of(decision.rebalance_date, change.after.moment.daily),
        "rebalance_date": decision.rebalance_date, "as_of": decision.as_of, "strategy": strategy, "ticker": ticker,
        "record_hash": _record_hash(store, scenario, decision),
        "weight": own, "rank": list(weights).index(ticker) + 1 if ticker in weights else None, "held": len(weights),
        "key": diagnosed["key"], "change": moved, "parts": parts, "spread": spread[0] if spread else None,
    }  # fmt: skip
    if strategy == OPTIMISER:
        found |= _of_optimiser(store, decision, change, ticker, own, diagnosed)
    return found | _of_prices(store, scenario, decision, change, ticker)


def _record_hash(store: Store, scenario: str, decision: Decision) -> str:
    sql = "SELECT record_hash FROM decisions WHERE rebalance_date = ?"
    return display.select(store, scenario, sql, decision.rebalance_date)[0]["record_hash"]


def _of_optimiser(store: Store, decision: Decision, change: Change, ticker: str, weight: float, diagnosed: Row) -> Row:
    """What only the return-drawdown optimiser has: limits, certificate, forecast, model, features, sensitivities."""
    certificate = ("status", "gap", "kkt", "branch", "local_maxima", "binding", "reason")
    members = {entry.ticker: entry.sector for entry in universe.load(store, decision.record["universe"]).members}
    forecast = evidence.forecast(store, decision.forecasts, ticker) if decision.forecasts else None
    return {
        "limits": evidence.limits(weight, diagnosed, change.after.choice, members.get(ticker, "")),
        "certificate": {name: diagnosed[name] for name in certificate if name in diagnosed},
        "forecast": forecast,
        "model": evidence.model(store, forecast["model"]) if forecast and forecast["model"] else None,
        "features": evidence.features(store, change.own, ticker) if forecast else None,
        "sensitivities": evidence.what_moves(store, change, ticker) if forecast else [],
    }


def _of_prices(store: Store, scenario: str, decision: Decision, change: Change, ticker: str) -> Row:
    """Bars and the ingest that brought them."""
    from datetime import datetime

    panel = panel_of(decision)
    dataset = scenarios.at(scenarios.read(store, scenario), decision.rebalance_date).dataset
    known_at = datetime.fromisoformat(decision.record["known_at"])
    names = universe.load(store, panel.universe).names.get(ticker, (ticker,))
    said = {"snapshot": panel.snapshot, "known_at": decision.record["known_at"], "prefix": decision.record["prefix"]}
    bars = evidence.bars(store, panel, change.own, ticker, dataset, known_at)
    return {"bars": said | {"last": bars}, "payload": evidence.payload(store, dataset, names, known_at)}


def _print(found: Row) -> None:
    """The chain, a paragraph for each link, and beside it the beginning of the hash that names it."""
    display.say_line(f"{found['ticker']} in {found['strategy']} of {found['month']}, known at {found['as_of']}\n")
    grid = Table.grid(padding=(0, 2))
    for column in ("label", "text", "name"):
        grid.add_column(column, no_wrap=column != "text")
    rows = _weight_lines(found)
    if found["strategy"] == OPTIMISER:
        rows += _optimum_lines(found) + (_forecast_lines(found) if found["forecast"] else [])
    for label, text, name in rows + _price_lines(found):
        grid.add_row(label, text, (name or "")[:_SHORT])
    Console(width=_WIDTH, highlight=False, markup=False).print(grid)


def _weight_lines(found: Row) -> list[Line]:
    place = f"rank {found['rank']} of {found['held']}" if found["rank"] else "not held"
    rows = [("weight", f"{_percent(found['weight'])}, {place}, changed by {_signed(found['change'])} %", found["key"])]
    for part, value in found["parts"].items():
        note = ", before the decision and none of its parts" if part == DRIFT else ""
        if value:
            rows.append(("", f"{_signed(value):>7} %  {part}{note}", ""))
    if found["spread"]:
        spread = found["spread"]
        ends = f"{_percent(spread['lowest'])} to {_percent(spread['highest'])}"
        rows.append(("networks", f"each alone {ends}, standard deviation {_percent(spread['deviation'])}", ""))
    return rows


def _optimum_lines(found: Row) -> list[Line]:
    said = found["certificate"]
    names = {"status": "", "gap": "gap ", "kkt": "kkt ", "branch": "branch ", "local_maxima": "local maxima "}
    shown = [f"{label}{_number(said[name])}" for name, label in names.items() if said.get(name) is not None]
    rows = [("limits", "; ".join(found["limits"]) or "none binds on this weight", "")]
    rows.append(("optimum", ", ".join(shown) or said.get("reason", ""), ""))
    if not found["forecast"]:
        return [*rows, ("forecast", "none for it", "")]
    moves = [f"{_signed(each['change']):>7} %  {_move(each, found['ticker'])}" for each in found["sensitivities"]]
    moves = moves or ["no step of an input that was tried"]
    rows += [("" if place else "moved by", text, "") for place, text in enumerate(moves)]
    if set(said.get("binding", [])) - {"max_weight"}:
        rows.append(("", "(of the optimum without limits on turnover, sectors and small positions)", ""))
    return rows


def _move(entry: Row, ticker: str) -> str:
    """A step of an input, in words."""
    if entry["input"] == "alpha":
        return f"alpha {100 * entry['step']:+.0f} %"
    if entry["input"] == "correlation":
        return f"correlation with {entry['ticker']} {entry['step']:+.2f}"
    size = f"{100 * entry['step']:+.0f} %" if entry["input"] == "sigma" else f"{1e4 * entry['step']:+.0f} bp"
    return f"{'its own' if entry['ticker'] == ticker else entry['ticker']} {entry['input']} {size}"


def _forecast_lines(found: Row) -> list[Line]:
    forecast, model, features = (found[name] for name in ("forecast", "model", "features"))
    sigma, baseline = (forecast[name] ** 0.5 for name in ("variance", "baseline_variance"))
    ends = " to ".join(f"{100 * forecast[name]:+.1f} %" for name in ("lower_90", "upper_90"))
    words = f"mean {100 * forecast['mean']:+.2f} %, sigma {_percent(sigma)} (EWMA {_percent(baseline)}), 90 % {ends}"
    rows = [("forecast", words, forecast["key"])]
    if model:
        parent = f", from {model['parent'][:_SHORT]}" if model["parent"] else ""
        rows.append(("model", f"{model['kind']} at {model['as_of']}, block {model['block']}{parent}", model["blob"]))
    else:
        rows.append(("model", "no network", ""))
    if features:
        words = f"of {features['session']}, and which part of its own past lies at or below"
        rows.append(("features", words, features["blob"]))
        cells = [f"{each['name']} {_number(each['value'])} ({_whole(each['share'])})" for each in features["values"]]
        cells = [f"{cell:<33}" for cell in cells]
        rows += [("", "".join(cells[start : start + 2]).rstrip(), "") for start in range(0, len(cells), 2)]
    return rows


def _price_lines(found: Row) -> list[Line]:
    bars, payload = found["bars"], found["payload"]
    known = bars["known_at"][:16].replace("T", " ")
    rows = [("bars", f"known at {known}, in snapshot {bars['snapshot'][:_SHORT]}", bars["prefix"])]
    for row in bars["last"]:
        more = "".join(f", {name} {row[name]:g}" for name in ("dividend", "split") if row[name])
        close = row["adj_close"] if row["close"] is None else row["close"]
        shown = "no close" if close is None else f"close {close:,.2f}"
        rows.append(("", f"{row['session']}  {shown}{more}  ({row['basis']}, {row['source']})", ""))
    if payload is None:
        return [*rows, ("raw data", "no ingest of it is recorded", "")]
    kept = "its raw answer is kept" if payload["payload"] else "this source keeps no raw answer"
    words = f"taken on {payload['created_at']:%Y-%m-%d %H:%M}, {payload['rows']} rows; {kept}"
    return [*rows, ("raw data", words, payload["payload"])]


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.2f}"


def _whole(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.0f} %"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "?" if value is None else str(value)
