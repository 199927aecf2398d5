"""What a monthly run says when it ends, in its state's name and message: what an automation sends on."""

from datetime import date

from flows.display import published, select
from storage import ledger
from storage.ledger import HELD, Decision
from storage.store import Store

_TRADES = "SELECT ticker, trade FROM trades WHERE rebalance_date = ? AND strategy = ? ORDER BY abs(trade) DESC, ticker"
_WEIGHTS = "SELECT ticker, weight FROM weights WHERE rebalance_date = ? AND strategy = ? ORDER BY weight DESC, ticker"


def state(store: Store, scenario: str, day: date) -> dict[str, str]:
    """Name and message of the state of a run that decided `day`.

    Held; Degraded where nothing was forecast, or assets were left out that were not at the date before; Completed.
    """
    decided = ledger.current(store, scenario)
    decision, follows = decided[day], decided[day].record["follows"]
    before = decided.get(date.fromisoformat(follows)) if follows else None
    troubles = _troubles(decision, before)
    name = "Held" if decision.kind == HELD else "Degraded" if troubles else "Completed"
    said = (decision.record.get("publication") or {}).get("said")
    lines = [*_lines(store, decision), *(f"note: {text}" for text in [*([said] if said else []), *troubles])]
    return {"name": name, "message": "\n".join(lines)}


def _lines(store: Store, decision: Decision) -> list[str]:
    """A sentence, then weights and trades, a line each."""
    day, scenario = decision.rebalance_date, decision.scenario
    first = published(store, scenario, day)
    weights = [f"{r['ticker']} {100 * r['weight']:.1f} %" for r in select(store, scenario, _WEIGHTS, day, first)]
    trades = [f"{r['ticker']} {100 * r['trade']:+.1f} %" for r in select(store, scenario, _TRADES, day, first)]
    return [
        f"{decision.month} {decision.kind}: {first}, as of {decision.as_of}, rebalance date {day}",
        f"weights: {', '.join(weights)}",
        f"trades: {', '.join(trades) or 'none'}",
    ]


def _troubles(decision: Decision, before: Decision | None) -> list[str]:
    """What made the result worse than the one before it."""
    found = [] if decision.forecasts else ["there is no forecast, so strategies that need one hold cash"]
    known = before.record["left_out"] if before else decision.record["left_out"]
    newly = sorted(f"{ticker} ({why})" for ticker, why in decision.record["left_out"].items() if ticker not in known)
    return [*found, f"newly left out: {', '.join(newly)}"] if newly else found
