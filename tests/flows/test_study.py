"""Studies from end to end on a small market: what is decided, compared, looked up again, and shown."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows import parameters as forms
from flows import studied as on_pages
from flows.study import study
from storage import catalog, ledger, tables
from storage.errors import InputError
from tasks import comparing, records, studies
from tasks.claims import Claim
from tasks.report import studied, write_report
from tasks.studies import Study, Variant

OGD = "ogd_long_window"
SMALL = Study(
    "What does a penalty do?",
    OGD,
    "as it is",
    (
        Variant("as it is"),
        Variant("none", {f"{OGD}.turnover_weight": 0.0}),
        Variant("the same", {f"{OGD}.turnover_weight": 0.1}),
        Variant("costly", {"accounting.cost": 0.01}),
        Variant("equal", strategy="equal_weight"),
    ),
    candidates=("none", "equal"),
    claims=(
        Claim("it costs less", "less", "difference", "costs", "as it is", "costly", below=0.0),
        Claim("the best is above most", "most", "singles", "share", above=0.5),
        Claim("all of it is in ten", "70-90 %", "mean", "top10", above=0.7, below=0.9),
    ),
)
KINDS = Study("In which market?", OGD, "as it is", SMALL.variants[:2], by_regime=True)
SPLIT = Study(
    "How much is luck of the day?",
    "equal_weight",
    "day 0",
    (
        *(Variant(f"day {day}", {"rebalance_offset": day}, band="one day") for day in (0, 10)),
        Variant("both", offsets=(0, 10), band="2 tranches"),
        Variant("one", offsets=(10,)),
    ),
)
MONTHS = {"start": "2016-03", "end": "2017-02", "split": "2016-10"}

pytestmark = pytest.mark.long  # whole flows


@pytest.fixture(scope="module")
def registered():
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(studies.STUDIES, "small", SMALL)
        patched.setitem(studies.STUDIES, "kinds", KINDS)
        patched.setitem(studies.STUDIES, "split", SPLIT)
        patched.setattr("flows.study.named", lambda name: [name])
        yield


@pytest.fixture(scope="module")
def ran(registered, tmp_path_factory, quick, prices):
    folder = tmp_path_factory.mktemp("studied")
    prices.to_csv(folder / "prices.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", str(folder / "store"))
        result = study("small", **MONTHS, parameters=quick, path=str(folder / "prices.csv"))
        yield folder, result["studies"]["small"]


@pytest.fixture
def store(ran, place):
    return place(ran[0] / "store")


def test_a_study_run_again_decides_and_computes_nothing(ran, store, quick):
    before = {name: tables.read(store, name).num_rows for name in ("decisions", "allocations", "trials", "studies")}
    runs = len(catalog.query(store, "main", "SELECT * FROM runs"))
    again = study("small", **MONTHS, parameters=quick, path=str(ran[0] / "prices.csv"))
    assert again["studies"]["small"] == ran[1]
    assert {name: tables.read(store, name).num_rows for name in before} == before
    stages = json.loads(
        tables.read(store, "runs", ["started_at", "stages"]).sort_by("started_at")["stages"][-1].as_py()
    )
    assert len(catalog.query(store, "main", "SELECT * FROM runs")) == runs + 1
    assert list(stages) == ["ingest"]  # nothing is even planned


def test_main_is_left_alone_and_equal_changes_share_a_scenario(ran, store):
    rows = tables.read(store, "studies", key=ran[1]).to_pandas()
    named = rows[rows["part"] == "all"].groupby("variant")["scenario"].first()
    assert not ledger.current(store, "main")
    assert named["as it is"] == named["equal"]
    assert len({named["as it is"], named["none"], named["costly"]}) == 3
    assert sorted(comparing.names(store)) == sorted(set(named.dropna()))


def test_differences_are_those_that_compare_shows(ran, store):
    rows = tables.read(store, "studies", key=ran[1], part="all").to_pandas()
    own = rows[(rows["variant"] == "none") & (rows["name"] == "sharpe")].iloc[0]
    default = rows[rows["variant"] == "as it is"]["scenario"].iloc[0]
    sides = [comparing.side(store, comparing.decision(store, name, None), OGD) for name in (default, own["scenario"])]
    wealth = [
        tables.read(store, "wealth", ["session", "daily_return"], key=_backtest(store, one), strategy=OGD)
        .to_pandas().sort_values("session")[1:]
        for one in (default, own["scenario"])
    ]  # fmt: skip
    until = [one[one["session"] <= date(2017, 2, 28)]["daily_return"].to_numpy() - 0.02 / 252 for one in wealth]
    ratios = [np.sqrt(252) * excess.mean() / excess.std(ddof=1) for excess in until]
    assert own["value"] == pytest.approx(ratios[1])
    assert own["difference"] == pytest.approx(ratios[1] - ratios[0])
    assert own["lower"] < own["difference"] < own["upper"]
    # to the end of the prices, as compare has them
    whole = comparing.backtests(store, *sides)
    assert whole["sessions"] > until[0].size


def _backtest(store, scenario):
    return tables.read(store, "backtests", scenario=scenario).sort_by("position")["key"][-1].as_py()


def test_what_changes_nothing_differs_by_nothing_and_what_costs_more_is_no_further_trial(ran, store):
    rows = tables.read(store, "studies", key=ran[1], part="all").to_pandas()
    same = rows[(rows["variant"] == "the same") & rows["name"].isin(["sharpe", "turnover", "annual_return"])]
    assert (same[["difference", "lower", "upper"]] == 0).all(axis=None)
    (trials,) = rows[rows["name"] == "trials"]["value"]
    assert trials == 2
    costs = rows[rows["name"] == "costs"].set_index("variant")["value"]
    assert costs["costly"] > 10 * costs["as it is"]


def test_parts_make_up_the_record_and_claims_are_held_to_the_later_one(ran, store):
    rows = tables.read(store, "studies", key=ran[1]).to_pandas()
    assert set(rows["part"]) == {"all", "2016-03 to 2016-09", "2016-10 to 2017-02"}
    growth = rows[(rows["name"] == "cumulative_return") & (rows["variant"] == "as it is")].set_index("part")["value"]
    parts = (1 + growth["2016-03 to 2016-09"]) * (1 + growth["2016-10 to 2017-02"])
    assert 1 + growth["all"] == pytest.approx(parts)
    fitness = rows[(rows["name"] == "fitness") & (rows["part"] == "2016-03 to 2016-09")].set_index("variant")["value"]
    best = max(SMALL.candidates, key=lambda label: fitness[label])
    claims = tables.read(store, "claims", key=ran[1]).sort_by("number").to_pylist()
    assert {row["part"] for row in claims} == {"2016-10 to 2017-02"}
    assert [row["verdict"] for row in claims[::2]] == ["holds", "does not hold"]
    assert claims[1]["measured"] == f"share of single stocks below {best}"
    assert claims[1]["lower"] <= claims[1]["value"] <= claims[1]["upper"]


def test_kinds_of_market_are_those_known_when_it_was_decided(ran, store, quick, prices):
    key = study("kinds", "2016-03", "2017-02", parameters=quick, path=str(ran[0] / "prices.csv"))["studies"]["kinds"]
    rows = tables.read(store, "studies", key=key, variant="none").to_pandas()
    rows = rows[rows["name"] == "cumulative_return"]
    scenario, found = rows["scenario"].iloc[0], rows.set_index("part")["value"].drop("all")
    volatility = prices["IDX"].pct_change().rolling(63).std()
    terciles = [volatility.expanding(252).quantile(share) for share in (1 / 3, 2 / 3)]
    names = np.array(["low", "middle", "high"])[sum((volatility > tercile).astype(int) for tercile in terciles)]
    side = np.where(prices["IDX"] > prices["IDX"].rolling(200).mean(), "_above", "_below")
    kinds = pd.Series(np.char.add(names, side), prices.index).where(terciles[0].notna())
    made = ledger.current(store, scenario)
    decided = pd.Series({pd.Timestamp(day): kinds[pd.Timestamp(entry.as_of)] for day, entry in made.items()})
    wealth = tables.read(store, "wealth", ["session", "daily_return"], key=_backtest(store, scenario), strategy=OGD)
    daily = wealth.to_pandas().astype({"session": "datetime64[ns]"}).set_index("session")["daily_return"].sort_index()
    daily = daily[1:][:"2017-02-28"]
    assert found.size
    for kind, value in found.items():
        assert value == pytest.approx((1 + daily[_held(decided, daily.index) == kind]).prod() - 1)


def _held(decided, sessions):
    """For each session the kind at the last date before it, for the first one its own."""
    place = np.searchsorted(decided.index, sessions, side="left") - 1
    return decided.to_numpy()[np.maximum(place, 0)]


def test_tranches_are_one_account_of_what_their_parts_hold(ran, store, quick, prism):
    key = study("split", "2016-03", "2017-02", parameters=quick, path=str(ran[0] / "prices.csv"))["studies"]["split"]
    rows = tables.read(store, "studies", key=key, part="all").to_pandas()
    named = rows[rows["name"] == "sharpe"].set_index("variant")
    pd.testing.assert_series_equal(
        named.loc["one"].drop("number"), named.loc["day 10"].drop("number"), check_names=False
    )
    assert named["scenario"].isna().tolist() == [False, False, True, False]
    assert np.isfinite(named.loc["both", "upper"])  # all are compared on the same sessions
    single = [named.loc[name, "scenario"] for name in ("day 0", "day 10")]
    span = date(2016, 3, 1), date(2017, 2, 28)
    of_day = [records.read(store, one, _backtest(store, one), "equal_weight", *span) for one in single]
    alone = records.in_tranches(store, single[1:], "equal_weight", span[1])
    for name in ("sessions", "daily", "cash", "dates"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(of_day[1], name), err_msg=name)
    for name in ("turnover", "cost"):  # which are summed in another order
        np.testing.assert_allclose(getattr(alone, name), getattr(of_day[1], name), rtol=1e-14, err_msg=name)
    np.testing.assert_array_equal(alone.weights[:, alone.weights.any(axis=0)], of_day[1].weights)
    both = records.in_tranches(store, single, "equal_weight", span[1])
    assert both.sessions[0] == both.dates[0] == of_day[1].dates[0]  # when the later part has traded, too
    days = np.concatenate([one.dates for one in of_day])
    np.testing.assert_array_equal(both.dates, np.sort(days[days >= both.dates[0]]))
    # between two trades equal parts of the money are in each of the two portfolios
    begin, end = (np.datetime64(day) for day in both.dates[4:6])
    grown = [np.prod(1 + one.daily[(one.sessions > begin) & (one.sessions < end)]) for one in (*of_day, both)]
    assert grown[2] == pytest.approx((grown[0] + grown[1]) / 2, rel=1e-12)
    assert both.turnover[1:].mean() < of_day[0].turnover[1:].mean()


def test_bands_lie_between_the_accounts_that_differ_by_luck(ran, store, quick):
    key = study("split", "2016-03", "2017-02", parameters=quick, path=str(ran[0] / "prices.csv"))["studies"]["split"]
    found = tables.read(store, "bands", key=key).to_pandas()
    one, both = (found[found["band"] == name].sort_values("session") for name in ("one day", "2 tranches"))
    assert (one["accounts"].unique(), both["accounts"].unique()) == ([2], [1])
    assert (one["wealth_lowest"] <= one["wealth_median"]).all()
    assert (one["wealth_median"] < one["wealth_highest"]).mean() > 0.9
    rows = tables.read(store, "studies", key=key, part="all").to_pandas()
    ends = 1 + rows[rows["name"] == "cumulative_return"].set_index("variant")["value"]
    assert one["wealth_lowest"].iloc[-1] == pytest.approx(ends[["day 0", "day 10"]].min())
    assert one["wealth_highest"].iloc[-1] == pytest.approx(ends[["day 0", "day 10"]].max())
    assert both["wealth_median"].iloc[-1] == pytest.approx(ends["both"])
    shown = catalog.query(store, "main", "SELECT DISTINCT band FROM bands ORDER BY 1")
    assert shown["band"].to_pylist() == ["2 tranches", "one day"]
    text = on_pages.markdown(store, "split", key)
    assert text.count("data:image/png;base64,") == 2
    assert "One day: 2 portfolios that differ by luck alone" in text


def test_terminal_artifact_and_report_show_it(ran, store, prism):
    code, out, _ = prism("study", "--list")
    assert code == 0
    assert "ablations" in out
    shown = studied.one(store, "small", ran[1])
    scenario = tables.read(store, "studies", key=ran[1], variant="as it is")["scenario"][0].as_py()
    page = Path(write_report.fn(scenario, OGD)).read_text()
    assert 'id="studies"' in page
    assert all(row.name in page for row in shown.rows)
    assert catalog.query(store, "main", "SELECT DISTINCT study FROM studies ORDER BY 1")["study"].to_pylist() == [
        "kinds",
        "small",
        "split",
    ]
    assert 'id="band-2"' in page


def test_edited_code_answers_a_study_anew_and_finds_what_was_found(ran, store, quick, monkeypatch):
    before = tables.read(store, "decisions").num_rows
    monkeypatch.setattr("tasks.caching.project", lambda: "edited")
    key = study("small", **MONTHS, parameters=quick, path=str(ran[0] / "prices.csv"))["studies"]["small"]
    assert key != ran[1]
    assert tables.read(store, "decisions").num_rows == before
    found = [
        tables.read(store, "studies", key=one).drop_columns(["key", "created_at"]).sort_by(
            [("part", "ascending"), ("number", "ascending"), ("name", "ascending")]
        )
        for one in (ran[1], key)
    ]  # fmt: skip
    assert found[0].equals(found[1])


def test_what_cannot_be_asked_is_refused_in_a_sentence(ran, store, quick):
    with pytest.raises(InputError, match=r"tested on later months; give their --split"):
        study("small", "2016-03", "2017-02", parameters=quick)
    with pytest.raises(InputError, match=r"split 2018-01 leaves one part of 2016-03 to 2017-02 empty"):
        study("small", "2016-03", "2017-02", "2018-01", parameters=quick)
    with pytest.raises(InputError, match="there is no parameter"):
        study("small", **MONTHS, parameters=forms.merged(quick.values(), {"no": 1}))
