"""What a monthly run says when it ends, in its state's name and message: what an automation sends on."""

from flows.display import published, select
from storage.ledger import HELD, Decision
from storage.store import Store

_TRADES = "SELECT ticker, trade FROM trades WHERE rebalance_date = ? AND strategy = ? ORDER BY abs(trade) DESC, ticker"
_WEIGHTS = "SELECT ticker, weight FROM weights WHERE rebalance_date = ? AND strategy = ? ORDER BY weight DESC, ticker"


def name(decision: Decision) -> str:
    """Of the state: Held, Degraded where assets were left out or nothing was forecast, Completed."""
    if decision.kind == HELD:
        return "Held"
    return "Degraded" if decision.record["left_out"] or decision.forecasts is None else "Completed"


def message(store: Store, decision: Decision) -> str:
    """First a sentence, then weights, trades and notes, a line each."""
    day, scenario = decision.rebalance_date, decision.scenario
    first = published(store, scenario, day)
    weights = [f"{r['ticker']} {100 * r['weight']:.1f} %" for r in select(store, scenario, _WEIGHTS, day, first)]
    trades = [f"{r['ticker']} {100 * r['trade']:+.1f} %" for r in select(store, scenario, _TRADES, day, first)]
    lines = [
        f"{decision.month} {decision.kind}: {first}, as of {decision.as_of}, to be traded at the close of {day}",
        f"weights: {', '.join(weights)}",
        f"trades: {', '.join(trades) or 'none'}",
    ]
    return "\n".join([*lines, *(f"note: {text}" for text in notes(decision))])


def notes(decision: Decision) -> list[str]:
    """What a person should know beside the numbers."""
    said = (decision.record.get("publication") or {}).get("said")
    found = [said] if said else []
    if decision.forecasts is None:
        found.append("there is no forecast, so strategies that need one hold cash")
    left_out = decision.record["left_out"]
    return [*found, f"left out: {', '.join(sorted(left_out))}"] if left_out else found
