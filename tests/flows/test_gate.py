"""The gate in a scenario: decided months, the forecasts that judge them, and why each was kept or not."""

from datetime import date

import pytest

from flows import parameters as forms
from flows.backfill import backfill
from flows.monthly import monthly_rebalance
from storage import catalog, ledger, tables

pytestmark = pytest.mark.flow
# short windows, so that 24 dates have outcomes within the three years of prices
SHORT = {"features": {"lookback": 20}, "training": {"minimum_sessions": 30}, "forecast": {"gate": True}}


@pytest.fixture
def gated(light):
    return forms.make(forms.merged(light.values(), SHORT))


def gates(store):
    return {f"{row['as_of']}": row for row in tables.read(store, "gates").sort_by("as_of").to_pylist()}


def month(content, as_of):
    """The rows of one as-of date, exactly."""
    shown = repr(as_of)
    return {name: [row for row in rows if shown in row] for name, rows in content.items()}


@pytest.mark.long
def test_months_are_decided_by_gated_forecasts_and_the_reasons_are_kept(store, gated, csv):
    result = backfill("2017-12", "2018-01", parameters=gated, path=csv)
    assert result["decided"] == ["2017-12", "2018-01"]
    found = gates(store)
    assert list(found) == ["2017-11-30", "2017-12-29"]
    for row in found.values():
        assert row["months"] == 24
        assert row["reason"].startswith(f"over 24 dates the forecasts scored {row['score']:.4f}, EWMA ")
        assert (row["kept"] == 1) == (row["score"] <= row["baseline_score"])
    shown = catalog.query(store, "main", "SELECT as_of, kept, reason FROM gates ORDER BY 1").to_pylist()
    assert shown == [{name: row[name] for name in ("as_of", "kept", "reason")} for row in found.values()]
    for entry in ledger.current(store, "main").values():
        assert entry.forecasts == found[str(entry.as_of)]["key"]
    # forecasts of the dates that judge were made too, and nothing else was decided
    dates = {row["as_of"] for row in tables.read(store, "forecasts").to_pylist()}
    assert len(dates) > 24
    assert len(ledger.current(store, "main")) == 2
    assert monthly_rebalance(months=1)["decided"] == []


@pytest.mark.long
def test_gated_weights_do_not_depend_on_where_a_run_began(tmp_path, gated, csv, place, content):
    found = []
    for name, begin in (("early", "2017-06"), ("late", "2017-12")):
        store = place(tmp_path / name)
        backfill(begin, "2017-12", parameters=gated, path=csv)
        found.append((content(store, names=("weights", "forecasts")), gates(store)["2017-11-30"]))
    single = place(tmp_path / "single")
    monthly_rebalance(parameters=gated, path=csv, as_of=date(2017, 12, 15), months=1)
    found.append((content(single, names=("weights", "forecasts")), gates(single)["2017-11-30"]))
    rows = [month(each, date(2017, 11, 30)) for each, _ in found]
    assert rows[0]["weights"]
    assert rows[0]["forecasts"]
    assert rows[0] == rows[1] == rows[2]
    assert found[0][1] == found[1][1] == found[2][1]


@pytest.mark.long
def test_with_too_few_dates_the_forecasts_stay_as_they_are(store, gated, csv):
    backfill("2016-11", "2016-11", parameters=gated, path=csv)
    [row] = gates(store).values()
    assert row["reason"] == f"only {row['months']} of 24 past dates have outcomes; the forecasts stay as they are"
    assert 5 < row["months"] < 24
    assert row["kept"] == 1.0
    rows = [row for row in tables.read(store, "forecasts").to_pylist() if row["as_of"] == date(2016, 10, 31)]
    means = {(r["ticker"], r["mean"]) for r in rows}
    assert len(rows) == 10  # before and after the gate
    assert len(means) == 5


@pytest.mark.long
def test_without_a_gate_none_is_kept(store, light, csv):
    backfill("2016-11", "2016-11", parameters=light, path=csv)
    assert gates(store) == {}
