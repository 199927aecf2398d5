"""What is recomputed and what is not; scenarios; decision records; and that nothing sees the future."""

import json
import re
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from flows import parameters as forms
from flows import status
from flows.backfill import backfill
from flows.monthly import monthly_rebalance
from flows.rebalance import rebalance
from storage import catalog, clock, ledger, partitions, scenarios, tables
from storage.errors import InputError
from tasks import caching
from tasks.numerics import dates
from tests.artifacts import made

pytestmark = pytest.mark.flow
START, END = "2016-11", "2017-02"


def computed(store) -> dict[str, int]:
    """Answers that the newest run computed, by stage."""
    newest = tables.read(store, "runs").sort_by("finished_at").to_pylist()[-1]
    return {name: count for name, (count, _) in json.loads(newest["stages"]).items() if count}


def changed(parameters, **values):
    return forms.make(forms.merged(parameters.values(), values))


def test_a_second_run_recomputes_nothing_and_decides_nothing(store, light, csv):
    first = monthly_rebalance(parameters=light, path=csv, months=3)
    assert first["decided"] == ["2017-11", "2017-12", "2018-01"]
    once = {name: tables.open_table(store, name).version() for name in ("forecasts", "weights", "decisions", "wealth")}
    again = monthly_rebalance(parameters=light, path=csv, months=3)
    assert again["decided"] == []
    assert set(computed(store)) <= {"publish", "decide"}
    assert {name: tables.open_table(store, name).version() for name in once} == once


def test_a_run_ends_with_a_report_and_what_the_ui_shows_of_it(store, quick, csv, monkeypatch):
    monkeypatch.setenv("PRISM_REPORT", "true")
    path = Path(backfill("2017-01", "2017-01", parameters=quick, path=csv)["report"])
    assert path.parent == store.root / "reports"
    shown = {artifact.key: artifact for artifact in made()}
    assert f"]({path.as_uri()})" in shown["report-main"].data
    assert shown["weights-main"].data
    assert shown["summary-main"].data.startswith("# Weights for 2017-01\n\nReturn drawdown")


@pytest.mark.long
def test_losing_prefects_records_loses_no_work(store, light, csv):
    monthly_rebalance(parameters=light, path=csv, months=2)
    for record in caching._RESULTS.iterdir():
        record.unlink()
    monthly_rebalance(months=2)
    assert set(computed(store)) <= {"publish", "decide"}


def test_another_alpha_recomputes_allocations_only_and_leaves_main_as_it_was(store, light, csv, content):
    backfill(START, END, parameters=light, path=csv)
    before, chain = content(store), ledger.read(store, "main")
    state = rebalance(parameters={"return_drawdown": {"alpha": 0.7}}, return_state=True)
    result = state.result()
    assert re.fullmatch(r"whatif-[0-9a-f]{10}", result["scenario"])
    assert computed(store) == {"return_drawdown": 4, "decide": 4}
    assert content(store) == before
    assert ledger.read(store, "main") == chain
    theirs = content(store, result["scenario"])
    assert theirs["forecasts"] == before["forecasts"]
    assert theirs["weights"] != before["weights"]
    said = (
        f"{result['scenario']}, {END}: 4 rebalance dates newly decided ({START} to {END}); computed return_drawdown 4; "
    )
    assert state.message.startswith(said + "from the cache features")
    assert forms.make(scenarios.read(store, result["scenario"])[0].parameters).network == light.network
    grid = status.status(result["scenario"], months=36)
    done = [row for row in grid if START <= row["month"] <= END]
    assert {row["state"] for row in done} == {"current"}
    assert {state for row in done for state in row["stages"].values()} == {"current"}
    assert grid[-1] == {"month": "2018-01", "kind": None, "state": "missing", "note": ""} | {
        "stages": grid[-1]["stages"]
    }


def test_a_flow_that_refuses_says_why_in_its_state(store, light, csv):
    state = rebalance(return_state=True)
    assert state.is_failed()
    assert state.message.startswith("main has decided no month yet, so there is nothing to compare with")


def test_an_edited_formula_recomputes_what_depends_on_it_and_nothing_else(store, light, csv, monkeypatch):
    backfill(START, END, parameters=light, path=csv)
    original = caching.source
    monkeypatch.setattr(
        caching, "source", lambda name: original(name) + "\n# edited" * (name == "tasks.numerics.online")
    )
    caching.fingerprint.cache_clear()
    try:
        backfill(START, END)
        assert computed(store) == {"ogd_long_window": 4, "ogd_conservative": 4, "decide": 4}
        assert ledger.read(store, "main")[-1].revision == 0  # the same numbers: no new revision
    finally:
        caching.fingerprint.cache_clear()


@pytest.mark.long
def test_results_do_not_depend_on_where_a_run_began(tmp_path, light, csv, place, content):
    found = []
    for name, begin in (("long", "2016-03"), ("short", "2017-01")):
        store = place(tmp_path / name)
        backfill(begin, "2017-03", parameters=light, path=csv)
        found.append(content(store, names=("weights", "forecasts")))
    store = place(tmp_path / "single")
    monthly_rebalance(parameters=light, path=csv, as_of=date(2017, 3, 15), months=1)
    found.append(content(store, names=("weights", "forecasts")))
    month = [{name: [r for r in rows if "2017, 2, 28" in r] for name, rows in each.items()} for each in found]
    assert month[0]["weights"]
    assert month[0] == month[1] == month[2]


LEAKS = {  # other parameters, months decided, and the date after which prices are perturbed
    "plain": ({}, ("2016-11", "2017-04"), date(2017, 1, 31)),
    "gated student_t": (
        {"network": {"likelihood": "student_t"}, "features": {"lookback": 20}, "forecast": {"gate": True}}
        | {"training": {"minimum_sessions": 30, "refresh_epochs": 1}},
        ("2017-10", "2018-01"),
        date(2017, 10, 31),
    ),
    "gated allocation": (
        {"forecast": {"forecaster": "calibrated_ewma"}, "calibration": {"gate_allocation": True}},
        ("2017-10", "2018-01"),
        date(2017, 10, 31),
    ),
}


@pytest.mark.parametrize(
    "case", ["plain", *(pytest.param(name, marks=pytest.mark.long) for name in LEAKS if "gated" in name)]
)
def test_nothing_sees_the_future(tmp_path, light, prices, written, place, content, case):
    """Perturb every bar after d in a store of its own: all that was decided up to d is the same to the byte."""
    others, months, d = LEAKS[case]
    after = prices.index > str(d)
    later, earlier = prices.copy(), prices.copy()
    later.loc[after] *= 1 + 0.3 * abs(prices.loc[after] - prices.loc[after].mean()) / prices.loc[after].std()
    earlier.iloc[400, 2] *= 1.001
    seen = []
    for name, frame in (("truth", prices), ("later", later), ("earlier", earlier)):
        store = place(tmp_path / name)
        path = written(frame, tmp_path / f"{name}.csv")
        backfill(*months, parameters=changed(light, **others), path=path)
        features = tables.read(store, "features").to_pylist()
        rows = partitions.read(store, "features", [row["key"] for row in features if row["as_of"] <= d])[1]
        gates = [row for row in tables.read(store, "gates").sort_by("as_of").to_pylist() if row["as_of"] <= d]
        decided = content(store, names=("forecasts", "weights", "trades"), until=d + timedelta(days=1))
        seen.append((decided, rows.to_csv(float_format="%a"), gates, content(store, names=("weights",))))
    assert len(seen[0][0]["weights"]) > 25
    assert [row["months"] for row in seen[0][2]] == ([24, 24] if "gate" in case else [])
    assert seen[0][:3] == seen[1][:3]
    assert seen[0][3] != seen[1][3]  # the perturbation does change what comes after
    assert seen[0][0] != seen[2][0]
    assert seen[0][1] != seen[2][1]


@pytest.mark.long
def test_scenarios_in_one_store_leave_each_other_alone(store, tmp_path, light, csv, prices, written, content):
    backfill(START, END, parameters=light, path=csv)
    before, chain = content(store), ledger.read(store, "main")
    few = tmp_path / "few.csv"
    few.write_text("ticker,role\nAAA,asset\nCCC,asset\nIDX,index\n")
    backfill(START, END, scenario="alpha", parameters=changed(light, return_drawdown={"alpha": 0.7}), path=csv)
    backfill(START, END, scenario="few", parameters=changed(light, universe=str(few)), path=csv)
    backfill(START, END, scenario="mine", parameters=light, path=written(prices * 1.5 + 3, tmp_path / "other.csv"))
    assert content(store) == before
    assert ledger.read(store, "main") == chain
    assert {"CCC"} < {row["ticker"] for row in catalog.query(store, "few", "SELECT * FROM weights").to_pylist()}
    assert all("BBB" not in row for row in content(store, "few")["weights"])
    assert content(store, "mine")["bars"] != before["bars"]
    everyone = catalog.query(store, "main", "SELECT DISTINCT scenario FROM all_weights").to_pylist()
    assert {row["scenario"] for row in everyone} == {"main", "alpha", "few", "mine"}


def test_main_refuses_other_parameters_and_takes_an_amendment_for_later_months(store, light, csv):
    backfill(START, END, parameters=light, path=csv)
    other = changed(light, return_drawdown={"alpha": 0.7})
    with pytest.raises(InputError, match=r"return_drawdown.alpha 0.2 -> 0.7.*--scenario NAME"):
        backfill("2017-03", "2017-03", parameters=other)
    assert len(ledger.current(store, "main")) == 4
    backfill("2016-10", "2017-03", parameters=other, amend="a test of alpha")
    alphas = {
        day: entry.record["parameters"]["return_drawdown"]["alpha"]
        for day, entry in ledger.current(store, "main").items()
    }
    assert [alphas[day] for day in sorted(alphas)] == [0.2] * 5 + [0.7]  # filled months keep what held at their date
    assert scenarios.read(store, "main")[-1].reason == "a test of alpha"
    backfill("2017-03", "2017-04")
    assert ledger.current(store, "main")[date(2017, 4, 3)].record["parameters"]["return_drawdown"]["alpha"] == 0.7


def test_a_run_that_fails_before_its_first_decision_fixes_nothing(store, light, csv, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "append", broken)
        with pytest.raises(RuntimeError, match="the power went"):
            backfill(START, START, parameters=light, path=csv)
    assert scenarios.read(store, "main") == []
    backfill(START, START, parameters=changed(light, return_drawdown={"alpha": 0.7}), path=csv)
    assert scenarios.read(store, "main")[0].parameters["return_drawdown"]["alpha"] == 0.7


def test_a_month_is_published_only_before_its_close_and_never_rewritten(store, light, csv, monkeypatch, content):
    monkeypatch.setattr(clock, "now", lambda: datetime(2018, 1, 2, 20, 59))
    monthly_rebalance(parameters=light, path=csv, months=2)
    kinds = {day: entry.kind for day, entry in ledger.current(store, "main").items()}
    assert kinds == {date(2017, 12, 1): "backfill", date(2018, 1, 2): "published"}
    before = content(store, names=("weights", "decisions"))
    monkeypatch.setattr(dates, "REQUIRED", 140)  # a change of the mathematics: other code, other eligibility
    original = caching.source
    monkeypatch.setattr(caching, "source", lambda name: original(name) + "#" * (name == "tasks.numerics.dates"))
    caching.fingerprint.cache_clear()
    try:
        backfill("2017-12", "2018-01")
    finally:
        caching.fingerprint.cache_clear()
    assert content(store, names=("weights", "decisions"))["decisions"][-1] == before["decisions"][-1]
    assert ledger.broken(store, "main") is None


def test_after_the_close_the_newest_month_is_a_backfill(store, light, csv, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: datetime(2018, 1, 2, 21, 1))
    monthly_rebalance(parameters=light, path=csv, months=1)
    assert [entry.kind for entry in ledger.current(store, "main").values()] == ["backfill"]


def test_restated_prices_make_months_from_theirs_on_stale_and_say_why(store, light, csv, prices, written, tmp_path):
    backfill(START, END, parameters=light, path=csv)
    restated = prices.copy()
    restated.loc["2016-12-15", "BBB"] *= 1.05
    backfill(START, END, path=written(restated, tmp_path / "restated.csv"))
    newest = ledger.current(store, "main")
    assert [newest[day].revision for day in sorted(newest)] == [0, 0, 1, 1]
    assert newest[date(2017, 1, 3)].reason == "data: 1 bar restated from 2016-12"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"as_of": date(2100, 1, 1)}, "lies in the future; give a date from 2015-"),
        ({"as_of": date(2014, 1, 1)}, "lies outside the stored prices; give a date from 2015-"),
    ],
)
def test_an_impossible_date_is_refused_with_the_possible_ones(store, light, csv, given, sentence):
    with pytest.raises(InputError, match=sentence):
        monthly_rebalance(parameters=light, path=csv, **given)
    assert ledger.read(store, "main") == []


def test_a_month_filled_before_a_decided_one_changes_where_its_trades_start(store, light, csv):
    backfill("2017-01", "2017-02", parameters=light, path=csv)
    backfill("2016-12", "2016-12")
    newest = ledger.current(store, "main")
    assert newest[date(2017, 1, 3)].revision == 1
    assert newest[date(2017, 1, 3)].reason == "the rebalance date before is decided now"
    assert newest[date(2017, 2, 1)].revision == 0
