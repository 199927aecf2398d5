"""Training ahead of time, and ingesting alone."""

import pytest

from flows import parameters as forms
from flows.backfill import backfill
from flows.ingest import ingest_prices
from flows.train import train_forecaster
from storage import catalog, ledger, tables
from tests.artifacts import made

pytestmark = pytest.mark.flow


def test_a_backfill_uses_the_models_that_were_trained_ahead(store, light, csv):
    result = train_forecaster("2016-11", "2017-02", parameters=light, path=csv)
    assert len(result["models"]) == 2  # the blocks of 2016 and 2017
    assert ledger.read(store, "main") == []
    trained = tables.read(store, "models").to_pylist()
    assert {row["kind"] for row in trained} == {"trained"}
    backfill("2016-11", "2017-02", parameters=light, path=csv)
    refreshed = [row for row in tables.read(store, "models").to_pylist() if row["kind"] == "refreshed"]
    assert {row["parent"] for row in refreshed} <= set(result["models"])
    assert len(tables.read(store, "models")) == len(trained) + len(refreshed)


def artifacts(key):
    """Progress artifacts of a key, in order of their creation: of each, its newest state."""
    found = [each for each in made() if each.key == key]
    assert {each.type for each in found} <= {"progress"}
    return [(each.data, each.description) for each in found]


def test_a_training_shows_its_progress_where_the_runs_are_shown(store, light, csv):
    before = artifacts("training-2017-01")
    longer = forms.make(forms.merged(light.values(), {"training": {"epochs": 2, "ensemble": 2, "seed": 1}}))
    train_forecaster("2017-01", "2017-02", parameters=longer, path=csv)
    [(share, description)] = artifacts("training-2017-01")[len(before) :]
    assert share == 100
    assert description.startswith("training 2017-01: network 2 of 2, epoch 2 of 2, loss ")


def test_ingesting_alone_makes_bars_visible_and_decides_nothing(store, light, csv, prices):
    ingest_prices(parameters=light, path=csv)
    counted = catalog.query(store, "main", "SELECT ticker, count(*) AS bars FROM bars GROUP BY ticker").to_pylist()
    assert {row["ticker"]: row["bars"] for row in counted} == dict.fromkeys(prices.columns, len(prices))
    assert ledger.read(store, "main") == []
