"""Degraded, never lying: what is second best or late says so on the weights, in the report and in the run's state."""

from datetime import date, datetime
from pathlib import Path

import pytest

from flows import parameters as forms
from flows import status
from flows.backfill import backfill
from flows.monthly import monthly_rebalance
from storage import catalog, clock, ledger
from tasks.numerics import loss

pytestmark = [pytest.mark.flow, pytest.mark.long]
JANUARY = date(2018, 1, 2)  # closes at 21:00 UTC
TWO = {"strategies": ["return_drawdown", "equal_weight"]}
SQL = "SELECT DISTINCT strategy, degraded FROM weights WHERE rebalance_date = DATE '2018-01-02' ORDER BY strategy"


@pytest.fixture
def at(monkeypatch):
    """Make it that moment."""
    return lambda *when: monkeypatch.setattr(clock, "now", lambda: datetime(*when))


def changed(parameters, **values):
    return forms.make(forms.merged(parameters.values(), values))


def test_a_model_that_diverges_is_said_wherever_its_weights_are_seen(store, light, csv, monkeypatch, at, prism):
    original = loss.loss
    monkeypatch.setattr(loss, "loss", lambda *given: original(*given) * float("nan"))
    monkeypatch.setenv("PRISM_REPORT", "true")
    at(2018, 1, 2, 15)
    state = monthly_rebalance(parameters=changed(light, **TWO), path=csv, months=1, return_state=True)
    said = "the training diverged (the loss of epoch 1 is nan, and "
    assert state.name == "Degraded"
    assert f"note: degraded because {said}" in state.message
    equal, optimised = catalog.query(store, "main", SQL).to_pylist()
    assert (equal["strategy"], equal["degraded"]) == ("equal_weight", None)
    assert optimised["degraded"].startswith(said)
    assert f"Degraded because {said}" in Path(state.result()["report"]).read_text()
    [row] = status.status("main", 1)
    assert (row["kind"], row["state"]) == ("published", "degraded")
    assert f"return_drawdown: degraded because {said}" in " ".join(prism("weights", "--store", store.root)[1].split())
    assert said in prism("weights", "--json", "--store", store.root)[1]


def test_what_comes_after_its_deadline_is_not_published_and_says_so(store, quick, csv, monkeypatch, at):
    monkeypatch.setenv("PRISM_PUBLISH_BY", "6")
    at(2018, 1, 2, 15, 1)
    parameters = changed(quick, **TWO)
    state = monthly_rebalance(parameters=parameters, path=csv, months=1, due=True, return_state=True)
    said = "2018-01 was decided at 2018-01-02 15:01 UTC, after its deadline of 2018-01-02 15:00 UTC, so it is not"
    assert state.name == "Degraded"
    assert f"note: {said}" in state.message
    entry = ledger.current(store, "main")[JANUARY]
    assert (entry.kind, entry.record["publication"]["answer"]) == ("backfill", None)
    [row] = catalog.query(store, "main", "SELECT note FROM decisions").to_pylist()
    assert row["note"].startswith(said)
    at(2018, 1, 2, 14, 59)
    state = monthly_rebalance(months=1, due=True, return_state=True)
    assert (state.name, ledger.current(store, "main")[JANUARY].kind) == ("Completed", "published")


def test_a_run_that_is_overtaken_by_its_deadline_publishes_nothing(store, quick, csv, monkeypatch):
    moments = iter([datetime(2018, 1, 2, 20, 59)] * 3)
    monkeypatch.setattr(clock, "now", lambda: next(moments, datetime(2018, 1, 2, 21, 1)))
    state = monthly_rebalance(parameters=changed(quick, **TWO), path=csv, months=1, due=True, return_state=True)
    assert state.name == "Degraded"
    assert ledger.current(store, "main")[JANUARY].kind == "backfill"


def test_late_prices_leave_an_advisory_beside_what_was_published(store, quick, csv, prices, written, tmp_path, at):
    at(2018, 1, 2, 15)
    monthly_rebalance(parameters=changed(quick, **TWO), path=csv, months=1)
    weights = catalog.query(store, "main", "FROM weights").to_pylist()
    late = prices.copy()
    late.loc["2017-12-29", "BBB"] *= 1.03
    at(2018, 1, 3, 15)
    backfill("2018-01", "2018-01", path=written(late, tmp_path / "late.csv"))
    first, advisory = ledger.read(store, "main")
    assert (first.kind, first.advisory, advisory.advisory) == ("published", False, True)
    assert advisory.reason.startswith("data: 1 bar restated from 2017-12")
    assert catalog.query(store, "main", "FROM weights").to_pylist() == weights


def test_a_renamed_ticker_is_resolved_and_a_lost_one_beyond_the_quorum_needs_a_person(
    store, quick, prices, written, tmp_path, monkeypatch, at
):
    names = prices.rename(columns={"AAA": "OLD"})
    names["AAA"] = names["OLD"].where(names.index > "2017-06-30")
    names["OLD"] = names["OLD"].where(names.index <= "2017-06-30")
    names["EEE"] = names["EEE"].where(names.index < "2017-12-15")  # lost
    chosen = tmp_path / "mine.csv"
    chosen.write_text("ticker,role,aliases\nIDX,index,\nAAA,,OLD\nBBB,,\nCCC,,\nDDD,,\nEEE,,\n")
    given = changed(quick, universe=str(chosen), **TWO)
    monkeypatch.setenv("PRISM_LIMIT_MISSING", "0.1")
    at(2018, 1, 2, 15)
    path = written(names, tmp_path / "names.csv")
    state = monthly_rebalance(parameters=given, path=path, months=1, return_state=True)
    assert state.is_failed()
    assert "the share of tickers left out is 20.0 %, above the limit of 10 %" in state.message
    assert JANUARY not in ledger.current(store, "main")
    monkeypatch.setenv("PRISM_LIMIT_MISSING", "0.2")
    monthly_rebalance(parameters=given, path=path, months=1)
    entry = ledger.current(store, "main")[JANUARY]
    assert entry.kind == "published"
    assert set(entry.record["left_out"]) == {"EEE"}
    held = catalog.query(store, "main", "SELECT DISTINCT ticker FROM weights WHERE strategy = 'equal_weight'")
    assert set(held["ticker"].to_pylist()) == {"AAA", "BBB", "CCC", "DDD"}
