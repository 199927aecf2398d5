"""What a monthly run says when it ends."""

from dataclasses import replace

import pytest

from flows import notices
from storage import ledger


@pytest.fixture
def said(decided_quickly, place):
    """The state of the newest of two dates; CCC had no bar on its as-of date."""
    store = place(decided_quickly)
    day = max(ledger.current(store, "main"))
    return lambda: notices.state(store, "main", day)


def test_the_message_holds_weights_trades_and_no_note_where_nothing_is_wrong(said):
    found = said()
    first, weights, trades = found["message"].splitlines()
    assert found["name"] == "Completed"
    assert first == "2017-01 backfill: return_drawdown, as of 2016-12-30, rebalance date 2017-01-03"
    assert weights.startswith("weights: ")
    assert trades.startswith("trades: ")
    assert "%" in trades


@pytest.mark.parametrize(
    ("change", "name", "note"),
    [
        ({"kind": "held"}, "Held", "2017-01 is held, rejected"),
        ({"forecasts": None}, "Degraded", "there is no forecast"),
        ({"left_out": {"CCC": "too short"}}, "Degraded", "newly left out: CCC (too short)"),
    ],
)
def test_the_state_is_named_by_what_happened(said, monkeypatch, change, name, note):
    original = ledger.current

    def changed(*arguments):
        decided = original(*arguments)
        day, own = max(decided), dict(change)
        record = decided[day].record | {"publication": {"said": "2017-01 is held, rejected"}}
        record |= {"left_out": own.pop("left_out", {})}
        return decided | {day: replace(decided[day], record=record, **own)}

    monkeypatch.setattr(ledger, "current", changed)
    found = said()
    assert found["name"] == name
    assert f"note: {note}" in found["message"]
