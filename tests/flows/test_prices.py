"""Prices through Prefect: the artifact of an ingest, and the limit that lets one run at a time ask the source."""

import os
import threading

import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from flows import lines
from flows.backfill import backfill
from flows.ingest import ingest_prices
from flows.parameters import Parameters
from storage import universe
from storage.errors import InputError
from tasks import fetch
from tasks.fetch import live
from tests.artifacts import made

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def server():
    """A server that has an address, as in production."""
    with prefect_test_harness(server_startup_timeout=180):
        yield


def slots():
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name("yahoo").active_slots


def test_one_run_at_a_time_asks_the_source(server):
    order, second = [], threading.Thread(target=lambda: _enter(order))
    with live._alone():
        assert slots() == 1
        second.start()
        second.join(0.5)
        assert order == []
        order.append("first")
    second.join(60)
    assert order == ["first", "second"]
    assert slots() == 0


def _enter(order):
    with live._alone():
        order.append("second")


def test_an_ingest_leaves_an_artifact_that_says_what_was_not_taken(server, store, light, prices, tmp_path, written):
    flawed = prices.copy()
    flawed.iloc[-3, 1] = -1.0
    ingest_prices(parameters=light, path=written(flawed, tmp_path / "prices.csv"))
    found = [each for each in made() if each.key == "ingest-files-main"]
    text = found[-1].data
    assert "6 tickers: 5 ok, 1 rejected; 0 requests." in text
    assert "| AAA | rejected |  | non_positive_price: " in text
    assert os.environ["PRISM_STORE"] not in text


def test_what_an_amendment_drops_is_asked_for_until_it_could_be_sold(store, light, csv, tmp_path, monkeypatch):
    (tmp_path / "five.csv").write_text("ticker\nAAA\nBBB\nCCC\nDDD\nEEE\n")
    (tmp_path / "four.csv").write_text("ticker\nAAA\nBBB\nCCC\nDDD\n")
    asked = []

    def ingest(source, dataset, path, identity, accepted):
        asked.append(universe.load(store, identity).assets)
        return fetch.ingest.fn(source, dataset, path, identity, accepted)

    five = light.model_copy(update={"universe": str(tmp_path / "five.csv")})
    backfill("2016-12", "2016-12", parameters=five, path=csv)
    monkeypatch.setattr(lines, "ingest", ingest)
    four = light.model_copy(update={"universe": str(tmp_path / "four.csv")})
    line = lines.open_line("main", four, amend="one less")
    assert asked == [("AAA", "BBB", "CCC", "DDD", "EEE")]
    assert universe.load(store, line.newest.panel.universe).assets == ("AAA", "BBB", "CCC", "DDD")


def test_a_path_without_the_files_source_is_refused(store, csv):
    with pytest.raises(InputError, match="--path is for --source files, and the source is sample"):
        lines.open_line("main", Parameters(), csv)


def test_an_amendment_to_a_universe_in_another_currency_is_refused(store, light, csv, tmp_path):
    (tmp_path / "euro.csv").write_text("ticker,currency\nAAA,EUR\nBBB,EUR\n")
    backfill("2016-12", "2016-12", parameters=light, path=csv)
    euro = light.model_copy(update={"universe": str(tmp_path / "euro.csv"), "index": ""})
    with pytest.raises(InputError, match="main is kept in USD and this universe in EUR; add --set currency=USD"):
        lines.open_line("main", euro, amend="over to Frankfurt")
