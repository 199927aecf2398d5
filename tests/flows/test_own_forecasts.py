"""Forecasts of a person's own: brought by the flow of prices, used where there are any, cash elsewhere."""

import pandas as pd
import pytest

from flows import parameters as forms
from flows.backfill import backfill
from flows.ingest import ingest_prices
from storage import catalog, ledger, tables
from storage.errors import InputError
from tasks import allocate, own_forecasts

pytestmark = pytest.mark.flow
START, END = "2016-11", "2017-02"


@pytest.fixture
def mine(light):
    return forms.make(forms.merged(light.values(), {"forecast": {"forecaster": "files"}}))


@pytest.fixture
def give(mine, tmp_path):
    """Brings forecasts of days; how many were new."""

    def bring(*days, **others):
        rows = [
            (day, ticker, 0.01 - 0.004 * place, 0.002, f"{day}T21:00:00")
            for day in days
            for place, ticker in enumerate(("AAA", "BBB", "CCC", "DDD"))
        ]
        path = tmp_path / "own.csv"
        pd.DataFrame(rows, columns=own_forecasts.COLUMNS).assign(**others).to_csv(path, index=False)
        return ingest_prices(parameters=mine, forecasts=str(path))["new"]

    return bring


def held(store):
    """Weights of the optimiser by as-of date."""
    rows = catalog.query(
        store, "main", "SELECT as_of, ticker, weight FROM weights WHERE strategy = 'return_drawdown'"
    ).to_pandas()
    return {str(day): dict(zip(part["ticker"], part["weight"], strict=True)) for day, part in rows.groupby("as_of")}


def forecasts(store):
    return {entry.as_of.isoformat(): entry.forecasts for entry in ledger.current(store, "main").values()}


def test_months_with_own_forecasts_use_them_and_the_others_hold_cash_and_say_why(store, mine, give, csv):
    ingest_prices(parameters=mine, path=csv)
    assert give("2016-10-31", "2016-12-30") == 8
    assert give("2016-10-31") == 0
    backfill(START, END, parameters=mine, path=csv)
    weights, keys = held(store), forecasts(store)
    assert weights["2016-11-30"] == weights["2017-01-31"] == {"$CASH": 1.0}
    assert keys["2016-11-30"] is None
    assert {"AAA"} <= set(weights["2016-10-31"]) <= {"AAA", "BBB", "CCC", "DDD", "$CASH"}
    assert any(allocate.NO_FORECAST in row["diagnostics"] for row in tables.read(store, "allocations").to_pylist())
    assert tables.read(store, "models").num_rows == 0
    shown = catalog.query(store, "main", "SELECT as_of, ticker, mean, model FROM forecasts").to_pylist()
    assert {(str(row["as_of"]), row["model"]) for row in shown} == {("2016-10-31", None), ("2016-12-30", None)}
    assert sorted({row["mean"] for row in shown}) == pytest.approx([-0.002, 0.002, 0.006, 0.01])


@pytest.mark.long
def test_later_forecasts_change_their_own_months_only(store, mine, give, csv):
    ingest_prices(parameters=mine, path=csv)
    give("2016-10-31", "2016-12-30")
    backfill(START, END, parameters=mine, path=csv)
    before, weights = forecasts(store), held(store)
    give("2016-11-30")
    backfill(START, END)
    after = forecasts(store)
    assert {day for day in after if after[day] != before[day]} == {"2016-11-30"}
    assert {day for day, now in held(store).items() if now != weights[day]} == {"2016-11-30"}


def test_forecasts_that_would_see_the_future_stop_the_flow_and_store_nothing(store, mine, give, csv):
    ingest_prices(parameters=mine, path=csv)
    with pytest.raises(InputError, match="it was known only after its as-of date"):
        give("2016-10-31", known_at="2016-11-01")
    assert tables.read(store, "own_forecasts").num_rows == 0


@pytest.mark.long
def test_a_gate_over_own_forecasts_leaves_out_days_before_any_asset_could_be_held(store, mine, give, csv):
    ingest_prices(parameters=mine, path=csv)
    give("2015-02-27", "2016-09-30", "2016-10-31")
    gated = forms.make(forms.merged(mine.values(), {"forecast": {"gate": True}}))
    backfill("2016-11", "2016-11", parameters=gated, path=csv)
    [row] = tables.read(store, "gates").to_pylist()
    assert row["months"] == 1
