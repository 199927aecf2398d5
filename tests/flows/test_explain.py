"""Why weights changed: parts that add up, retraining, restated prices, limits, and the chain that people read."""

import json
from datetime import date, datetime

import numpy as np
import pytest

from flows import explain
from flows import parameters as forms
from flows.backfill import backfill
from flows.monthly import monthly_rebalance
from storage import blobs, catalog, clock, ledger, tables
from storage.store import open_store

pytestmark = pytest.mark.flow
FEW = ("return_drawdown", "ogd_long_window", "equal_weight", "index")
LIMITS = {"max_weight": 0.35, "turnover_limit": 0.05}


def changed(parameters, **values):
    return forms.make(forms.merged(parameters.values(), values))


def view(store, scenario="main"):
    found = catalog.query(store, scenario, "SELECT * FROM changes").to_pandas()
    assert not found.duplicated(["rebalance_date", "strategy", "ticker", "part"]).any()
    return found.assign(month=found["rebalance_date"].astype(str).str[:7])


def size(rows, strategy, month, part):
    own = rows[(rows["strategy"] == strategy) & (rows["month"] == month) & (rows["part"] == part)]
    return float(own["change"].abs().sum()) if len(own) else None


def assert_sums_to_trades(store, scenario="main"):
    """The parts add up to the planned trades, ticker by ticker, and cash is what they leave."""
    rows = view(store, scenario)
    parts = rows[rows["part"] != "drift"].groupby(["rebalance_date", "strategy", "ticker"])["change"].sum()
    trades = catalog.query(store, scenario, "SELECT rebalance_date, strategy, ticker, trade FROM trades").to_pandas()
    trades = trades.set_index(["rebalance_date", "strategy", "ticker"])["trade"]
    explained = parts[parts.index.get_level_values("ticker") != "$CASH"]
    together = explained.to_frame("parts").join(trades.to_frame("trade"), how="outer").fillna(0.0)
    days = set(rows["rebalance_date"])
    together = together[[day in days for day in together.index.get_level_values("rebalance_date")]]
    np.testing.assert_allclose(together["parts"], together["trade"], rtol=0, atol=1e-12)
    assert parts.groupby(["rebalance_date", "strategy"]).sum().abs().max() < 1e-12
    assert len(together) > 5


@pytest.fixture(scope="module")
def explained(tmp_path_factory, prices, light):
    """Two networks a year, not refreshed; and the months that the run itself had explained."""
    folder = tmp_path_factory.mktemp("explained")
    prices.to_csv(folder / "prices.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", str(folder / "store"))
        store, path = open_store(), str(folder / "prices.csv")
        own = changed(light, training={"ensemble": 2, "refresh_epochs": 0}, strategies=FEW)
        backfill("2016-11", "2017-02", parameters=own, path=path)
        newest = set(view(store)["month"])
        explain.explain_dates("main", list(ledger.current(store, "main")))
        yield store, newest


@pytest.fixture
def here(explained, monkeypatch):
    store, _ = explained
    monkeypatch.setenv("PRISM_STORE", str(store.root))
    return store


def test_a_run_explains_its_newest_month(explained):
    assert explained[1] == {"2017-02"}


def test_the_parts_of_every_strategy_add_up_to_its_trades(here):
    assert_sums_to_trades(here)


def test_retraining_counts_where_the_model_is_another_and_nowhere_else(here):
    rows = view(here)
    for month in ("2016-12", "2017-02"):
        assert size(rows, "return_drawdown", month, "retraining") == 0.0
    assert size(rows, "return_drawdown", "2017-01", "retraining") > 1e-4
    for month in ("2016-12", "2017-01", "2017-02"):
        assert size(rows, "return_drawdown", month, "restated data") == 0.0
        assert size(rows, "return_drawdown", month, "new data") > 1e-4
        assert size(rows, "return_drawdown", month, "covariance") > 1e-4
        assert size(rows, "return_drawdown", month, "constraints") == 0.0  # solved again, to the last bit
        assert size(rows, "return_drawdown", month, "parameters") == 0.0


@pytest.mark.long
def test_what_ewma_learns_anew_is_retraining_and_limits_take_the_rest(store, light, csv, prism):
    parameters = changed(light, forecast={"forecaster": "ewma"}, return_drawdown=LIMITS, strategies=FEW[:1])
    backfill("2017-01", "2017-03", parameters=parameters, path=csv)
    explain.explain_dates("main", list(ledger.current(store, "main")))
    rows = view(store)
    for month in ("2017-02", "2017-03"):
        assert size(rows, "return_drawdown", month, "constraints") > 1e-3
        retrained = size(rows, "return_drawdown", month, "retraining")
        assert 0.0 < retrained < size(rows, "return_drawdown", month, "new data")
    assert_sums_to_trades(store)
    assert catalog.query(store, "main", "SELECT * FROM spread").num_rows == 0
    assert "turnover_limit 0.05" in prism("explain", "2017-03", "BBB", "--store", store.root)[1]


def test_other_strategies_change_with_new_data_or_with_their_universe_only(here):
    rows = view(here)
    for strategy, part in (("ogd_long_window", "new data"), ("equal_weight", "universe"), ("index", "universe")):
        own = rows[(rows["strategy"] == strategy) & (rows["month"] == "2017-01")]
        moving = set(own[own["change"] != 0.0]["part"]) - {"drift", "rebalancing"}
        assert moving == ({part} if strategy == "ogd_long_window" else set())
        assert part in set(own["part"])


@pytest.mark.long
def test_an_asset_that_enters_changes_the_universe(store, tmp_path, light, prices, written):
    late = prices.assign(AAA=prices["AAA"].where(prices.index >= "2016-06-15"))  # 132 sessions before 2017-01
    few = ("return_drawdown", "equal_weight")
    parameters = changed(light, forecast={"forecaster": "ewma"}, strategies=few)
    backfill("2016-12", "2017-02", parameters=parameters, path=written(late, tmp_path / "late.csv"))
    explain.explain_dates("main", list(ledger.current(store, "main")))
    universe = (
        view(store).query("month == '2017-01' and part == 'universe'").set_index(["strategy", "ticker"])["change"]
    )
    equal = universe["equal_weight"]
    assert equal["AAA"] == pytest.approx(1 / 5)
    assert equal[["BBB", "CCC", "DDD", "EEE"]].tolist() == pytest.approx([-1 / 20] * 4)
    weights = catalog.query(store, "main", "SELECT * FROM weights WHERE ticker = 'AAA'").to_pandas()
    own = weights[(weights["strategy"] == "return_drawdown") & (weights["rebalance_date"].astype(str) == "2017-01-03")][
        "weight"
    ]
    assert universe["return_drawdown", "AAA"] == pytest.approx(own.sum(), abs=1e-12)  # nothing else gives it a weight
    assert own.sum() > 0.1
    assert size(view(store), "return_drawdown", "2017-02", "universe") == 0.0
    assert_sums_to_trades(store)


def test_a_first_decision_is_a_purchase_from_cash(here):
    rows = view(here)
    first = rows[rows["month"] == "2016-11"]
    assert set(first["part"]) == {"drift", "first purchase"}
    assert set(first[first["strategy"] == "equal_weight"]["ticker"]) == {"AAA", "BBB", "CCC", "DDD", "EEE", "$CASH"}


def test_the_spread_over_the_networks_holds_what_each_alone_would_buy(here):
    found = catalog.query(here, "main", "SELECT * FROM spread").to_pandas()
    assert list(found["strategy"].unique()) == ["return_drawdown"]
    assert found["rebalance_date"].nunique() == 4
    assert ((found["lowest"] >= 0) & (found["lowest"] <= found["highest"]) & (found["highest"] <= 1)).all()
    # two members: the standard deviation is their distance over the root of two
    np.testing.assert_allclose(found["deviation"], (found["highest"] - found["lowest"]) / 2**0.5, atol=1e-15)
    assert found["deviation"].max() > 1e-3


def test_a_second_explanation_writes_nothing(here):
    version = tables.open_table(here, "changes").version()
    explain.explain_dates("main", list(ledger.current(here, "main")))
    assert tables.open_table(here, "changes").version() == version


@pytest.mark.long
def test_restated_prices_of_a_published_month_are_a_part_of_their_own(
    store, tmp_path, light, prices, written, monkeypatch
):
    quick = changed(light, forecast={"forecaster": "ewma"}, strategies=FEW[:2])
    monkeypatch.setattr(clock, "now", lambda: datetime(2017, 12, 1, 12))
    monthly_rebalance(parameters=quick, path=written(prices.loc[:"2017-11-30"], tmp_path / "then.csv"), months=2)
    restated = prices.copy()
    restated.loc["2017-11-06":, "BBB"] *= 1.1
    monkeypatch.setattr(clock, "now", lambda: datetime(2018, 1, 2, 12))
    monthly_rebalance(path=written(restated, tmp_path / "now.csv"), months=1)
    assert ledger.current(store, "main")[date(2017, 12, 1)].kind == "published"
    rows = view(store)
    assert set(rows["month"]) == {"2017-12", "2018-01"}
    assert size(rows, "return_drawdown", "2017-12", "restated data") == 0.0
    assert size(rows, "return_drawdown", "2018-01", "restated data") > 1e-4
    assert size(rows, "ogd_long_window", "2018-01", "restated data") > 1e-6
    assert size(rows, "return_drawdown", "2018-01", "constraints") == 0.0
    assert catalog.query(store, "main", "SELECT * FROM spread").num_rows == 0  # no network
    assert_sums_to_trades(store)


def test_the_chain_reaches_from_the_weight_to_the_bars(here, prism):
    code, out, _ = prism("explain", "2017-01", "bbb", "--json", "--store", here.root)
    found = json.loads(out)
    assert code == 0
    record = ledger.current(here, "main")[date(2017, 1, 3)]
    assert found["key"] in record.weights
    assert found["forecast"]["key"] == record.forecasts
    assert found["model"]["key"] == record.record["model"] == found["forecast"]["model"]
    assert found["bars"]["prefix"] == record.record["prefix"]
    assert found["features"]["session"] == found["bars"]["last"][-1]["session"] == "2016-12-30"
    for blob in (found["model"]["blob"], found["features"]["blob"]):
        assert blobs.get(here, blob)
    assert all(0 < each["share"] <= 1 for each in found["features"]["values"])
    moved = sum(value for part, value in found["parts"].items() if part != "drift")
    assert found["change"] == moved
    changes = [abs(each["change"]) for each in found["sensitivities"]]
    assert 0 < len(changes) <= 5
    assert changes == sorted(changes, reverse=True)
    assert found["payload"]["outcome"] == "ok"
    assert found["certificate"]["status"] == "global"


def test_the_terminal_shows_the_chain_in_100_columns_without_whole_hashes(here, prism):
    for arguments in (("2017-01", "AAA"), ("2017-02", "EEE", "--strategy", "ogd_long_window")):
        code, out, _ = prism("explain", *arguments, "--store", here.root)
        assert code == 0
        assert max(map(len, out.splitlines())) <= 100
        assert not [word for word in out.split() if len(word) >= 64]
        assert "weight" in out
        assert "2016-12-30" in out or "2017-01-31" in out


def test_a_months_table_lists_the_largest_changes_with_their_parts(here, prism):
    code, out, _ = prism("explain", "2017-02", "--store", here.root)
    assert code == 0
    assert "Largest changes of return_drawdown in 2017-02, as of 2017-01-31" in out
    assert "covariance" in out
    found = json.loads(prism("explain", "2017-02", "--json", "--store", here.root)[1])
    sizes = [abs(row["change"]) for row in found["changes"]]
    assert sizes == sorted(sizes, reverse=True)
    for row in found["changes"]:
        assert row["change"] == pytest.approx(sum(v for part, v in row["parts"].items() if part != "drift"), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("2017-01", "BBA"), "of 2017-01 has no 'BBA'; did you mean BBB?"),
        (("2019-01", "BBB"), "has not decided 2019-01; the nearest is 2017-02"),
        (("May", "BBB"), "month 'May' is neither a month nor a day"),
        (("2017-01", "BBB", "--strategy", "ogd_long"), "did you mean ogd_long_window?"),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest_name(here, prism, arguments, sentence):
    code, out, err = prism("explain", *arguments, "--store", here.root)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
