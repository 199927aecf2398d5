"""Returns from a file: their unit, their names, and how a risk-free rate of one's own reaches the panel."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from storage import bars, universe
from storage.errors import InputError
from storage.keys import PanelKey
from tasks import fetch as stage
from tasks import panels
from tasks.fetch import rates

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "reference" / "ff3_daily_percent.parquet"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "factors.csv"
    path.write_text("date,SMB,RF\n2024-01-02,-1.25,0.02\n2024-01-03,0.5,0.0\n2024-01-04,,0.02\n")
    return str(path)


def test_percent_become_fractions_and_an_empty_cell_is_no_bar(table):
    read = rates.read(table, "percent").set_index(["ticker", "session"])["close"]
    assert read["SMB"].tolist() == [-0.0125, 0.005]
    assert read["RF"].tolist() == [0.0002, 0.0, 0.0002]
    assert set(rates.read(table, "percent")["basis"]) == {"rate"}


@pytest.mark.parametrize("unit", ["", "bp"])
def test_the_unit_must_be_named(table, unit):
    with pytest.raises(InputError, match="give --unit percent or --unit fraction"):
        rates.read(table, unit)


def test_a_return_that_no_session_earns_names_the_unit(table):
    with pytest.raises(InputError, match=r"SMB is -1\.25 fraction on 2024-01-02; .* give the other --unit"):
        rates.read(table, "fraction")


def test_a_long_table_is_refused(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("date,ticker,close\n2024-01-02,SMB,0.1\n")
    with pytest.raises(InputError, match="is a long table; rates are read from a date column"):
        rates.read(str(path), "percent")


def test_prices_and_rates_of_one_name_do_not_mix(store, table, tmp_path):
    prices = tmp_path / "prices.csv"
    prices.write_text("date,SMB\n2024-01-02,10\n2024-01-03,11\n")
    stage.ingest.fn("files", "files:main", str(prices))
    with pytest.raises(InputError, match="SMB has prices already; rename its column"):
        stage.ingest_rates.fn("files:main", table, "percent")


def test_a_second_file_adds_what_is_new(store, table):
    stage.ingest_rates.fn("files:main", table, "percent")
    Path(table).write_text(Path(table).read_text() + "2024-01-05,1.0,0.03\n")
    stage.ingest_rates.fn("files:main", table, "percent")
    assert len(bars.latest(store, "files:main")) == 7
    assert bars.rates(store, "files:main") == {"SMB", "RF"}


@pytest.mark.skipif(not SHARED.exists(), reason="the shared reference data is not beside the repository")
def test_the_fama_french_file_is_read_and_reaches_the_panel_as_published(store, market, tmp_path):
    published = pd.read_parquet(SHARED)
    stage.ingest_rates.fn("files:main", str(SHARED), "percent")
    days = market.days(300)
    closes = pd.DataFrame({"date": days.astype(str), "AAA": np.linspace(50, 60, days.size)})
    closes.to_csv(tmp_path / "aaa.csv", index=False)
    snapshot = stage.ingest.fn("files", "files:main", str(tmp_path / "aaa.csv"))
    chosen = universe.with_factors(universe.with_risk_free(universe.of_tickers("all", ["AAA"]), "rf"), ("smb", "hml"))
    panel = panels.load(store, PanelKey(snapshot, universe.keep(store, chosen)))
    source = published.set_index(pd.to_datetime(published["date"]))
    at = np.searchsorted(panel.sessions, np.datetime64("2015-06-10"))
    expected = source.loc["2015-06-10"]
    assert panel.risk_free[at] == pytest.approx(expected["rf"] / 100, abs=1e-15)
    assert panel.factors["smb"][at] == pytest.approx(expected["smb"] / 100, abs=1e-15)
    assert panel.factors["hml"][at] == pytest.approx(expected["hml"] / 100, abs=1e-15)
