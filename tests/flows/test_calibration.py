"""Calibrated allocations in a scenario: by which forecasts dates are decided, why, and how often it is computed."""

import json

import pytest

from flows import parameters as forms
from flows.backfill import backfill
from storage import catalog, ledger, tables
from storage.errors import InputError

GATED = {"forecast": {"forecaster": "calibrated_ewma"}, "calibration": {"gate_allocation": True}}
GATED |= {"strategies": ["return_drawdown", "equal_weight"]}


@pytest.fixture
def gated(light):
    return forms.make(forms.merged(light.values(), GATED))


def computed(store):
    """Answers that the newest run computed, by stage."""
    newest = tables.read(store, "runs").sort_by("finished_at").to_pylist()[-1]
    return {name: count for name, (count, _) in json.loads(newest["stages"]).items() if count}


@pytest.mark.flow
@pytest.mark.long
def test_dates_are_decided_by_corrected_forecasts_once_and_the_reasons_are_shown(store, gated, csv, prism):
    backfill("2017-11", "2017-12", parameters=gated, path=csv)
    assert computed(store)["calibrate"] == computed(store)["return_drawdown"] == 2
    found = {row["key"]: row for row in tables.read(store, "gates").to_pylist()}
    assert len(found) == 2
    for entry in ledger.current(store, "main").values():
        row = found[entry.forecasts]
        assert row["months"] == 24
        assert (row["fall_back"], row["score"] > row["baseline_score"] + 1e-9) in ((True, True), (False, False))
    sql = "SELECT as_of, factor, covered, fall_back, reason FROM gates ORDER BY as_of DESC"
    newest = catalog.query(store, "main", sql).to_pylist()[0]
    assert f"sigma x {newest['factor']:.2f}: {100 * newest['covered']:.0f} % of 90 % intervals" in newest["reason"]
    _, said, _ = prism("weights", "--json")
    assert json.loads(said)["strategies"]["return_drawdown"]["reason"] == newest["reason"]
    _, said, _ = prism("weights")
    why = "degraded because " if newest["fall_back"] else ""  # another forecaster stands in
    assert f"return_drawdown: {why}{newest['reason']}" in said
    _, said, _ = prism("metrics")
    assert "within 90 % interval" in said
    backfill("2017-11", "2017-12")
    assert set(computed(store)) <= {"decide"}


def test_two_corrections_by_the_same_dates_are_refused(gated):
    both = forms.merged(gated.values(), {"forecast": {"gate": True}})
    with pytest.raises(InputError, match=r"forecast\.gate and calibration\.gate_allocation are both true"):
        forms.make(both)
