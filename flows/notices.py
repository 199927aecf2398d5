"""What a monthly run says when it ends, in its state's name and message: what an automation sends on."""

from datetime import date

from flows.display import at_once, published, select
from storage import ledger, tables
from storage.ledger import BACKFILL, HELD, Decision
from storage.store import Store
from tasks import allocations

_TRADES = "SELECT ticker, trade FROM trades WHERE rebalance_date = ? AND strategy = ? ORDER BY abs(trade) DESC, ticker"
_WEIGHTS = "SELECT ticker, weight FROM weights WHERE rebalance_date = ? AND strategy = ? ORDER BY weight DESC, ticker"


def state(store: Store, scenario: str, day: date) -> dict[str, str]:
    """Name and message of the state of a run that decided `day`.

    Held; Degraded where the weights are second best, nothing was forecast, assets were left out that were not at the
    date before, or it came too late to be published; Completed.
    """
    decided = ledger.current(store, scenario)
    decision, follows = decided[day], decided[day].record["follows"]
    before = decided.get(date.fromisoformat(follows)) if follows else None
    with at_once(store, scenario):
        troubles, shown = _troubles(store, decision, before), _lines(store, decision)
    late = decision.kind == BACKFILL and decision.record.get("publication")
    name = "Held" if decision.kind == HELD else "Degraded" if troubles or late else "Completed"
    said = (decision.record.get("publication") or {}).get("said")
    lines = [*shown, *(f"note: {text}" for text in [*([said] if said else []), *troubles])]
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


def _troubles(store: Store, decision: Decision, before: Decision | None) -> list[str]:
    """What made the result worse than it should be, or than the one before it."""
    said = allocations.degraded(store, decision.weights)
    first = published(store, decision.scenario, decision.rebalance_date)
    own = {row["key"]: row["strategy"] for row in tables.read(store, "allocations", key=list(said)).to_pylist()}
    found = [f"degraded because {text}" for key, text in said.items() if own[key] == first]
    if not decision.forecasts and not found:
        found = ["there is no forecast, so strategies that need one hold cash"]
    known = before.record["left_out"] if before else decision.record["left_out"]
    newly = sorted(f"{ticker} ({why})" for ticker, why in decision.record["left_out"].items() if ticker not in known)
    return [*found, f"newly left out: {', '.join(newly)}"] if newly else found
