"""Trading each month, each quarter or every session: what is shared, what follows what, and what a person sees."""

import json
from datetime import date, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import lines, planning
from flows import parameters as forms
from flows.backfill import backfill
from flows.monthly import monthly_rebalance
from flows.rebalance import _parts, rebalance
from storage import catalog, clock, ledger, tables
from storage.errors import InputError
from storage.keys import Moment
from storage.store import open_store
from tasks import panels

pytestmark = pytest.mark.flow
START, END = "2016-12", "2017-01"  # the turn of a year among them
SESSIONS = 21 + 20


def changed(parameters, **values):
    return forms.make(forms.merged(parameters.values(), values))


def computed(store) -> dict[str, int]:
    """Answers that the newest run computed, by stage."""
    newest = tables.read(store, "runs").sort_by("finished_at").to_pylist()[-1]
    return {name: count for name, (count, _) in json.loads(newest["stages"]).items() if count}


@pytest.fixture(scope="module")
def three(tmp_path_factory, prices, light):
    """One store with the same parameters each month (main), each quarter (quarters) and every session (days)."""
    folder = tmp_path_factory.mktemp("three")
    prices.to_csv(folder / "prices.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", str(folder / "store"))
        path, store, counts = str(folder / "prices.csv"), open_store(), {}
        backfill("2016-10", "2017-04", parameters=light, path=path)
        for name, how, months in (("quarters", "Q", ("2016-10", "2017-04")), ("days", "D", (START, END))):
            backfill(*months, scenario=name, parameters=changed(light, rebalance=how), path=path)
            counts[name] = computed(store)
        yield store, counts


@pytest.fixture
def here(three, monkeypatch):
    """The store of all three, for tests that only look."""
    store, _ = three
    monkeypatch.setenv("PRISM_STORE", str(store.root))
    return store


@pytest.mark.long
def test_quarters_recompute_nothing_that_the_months_have(three):
    store, counts = three
    assert counts["quarters"] == {"decide": 3}
    months, quarters = ledger.current(store, "main"), ledger.current(store, "quarters")
    assert list(quarters) == [date(2016, 10, 3), date(2017, 1, 3), date(2017, 4, 3)]
    for day, entry in quarters.items():
        assert (entry.forecasts, entry.weights, entry.as_of) == (
            months[day].forecasts,
            months[day].weights,
            months[day].as_of,
        )
    first, second, third = quarters.values()
    assert first.record["follows"] == "2016-07-01"
    assert third.record["holdings"] == list(second.weights)
    assert [entry.trades == months[day].trades for day, entry in quarters.items()] == [True, False, False]
    assert [entry.month for entry in quarters.values()] == ["2016-10", "2017-01", "2017-04"]


@pytest.mark.long
def test_every_session_is_one_record_that_starts_from_the_session_before(three):
    store, counts = three
    decided = list(ledger.current(store, "days").values())
    sessions = panels.load(store, lines.open_line("days", fetch=False).newest.panel).sessions
    first, last = (sessions.tolist().index(day) for day in (date(2016, 12, 1), date(2017, 1, 31)))
    assert [entry.rebalance_date for entry in decided] == sessions[first : last + 1].tolist()
    assert [entry.as_of for entry in decided] == sessions[first - 1 : last].tolist()
    assert len(ledger.read(store, "days")) == len(decided) == SESSIONS
    for before, entry in pairwise(decided):
        assert entry.record["follows"] == f"{before.rebalance_date}"
        assert entry.record["holdings"] == list(before.weights)
    assert decided[0].record["holdings"] == []
    assert [entry.month for entry in decided[:2]] == ["2016-12-01", "2016-12-02"]
    assert ledger.broken(store, "days") is None
    assert counts["days"]["decide"] == SESSIONS
    assert len({entry.forecasts for entry in decided}) == SESSIONS


@pytest.mark.long
def test_every_session_shares_models_features_and_dates_with_the_months(three):
    store, counts = three
    months, days = ledger.current(store, "main"), ledger.current(store, "days")
    for day in (date(2016, 12, 1), date(2017, 1, 3)):
        assert (days[day].forecasts, days[day].weights) == (months[day].forecasts, months[day].weights)
    assert counts["days"]["forecast"] == SESSIONS - 2
    assert "train" not in counts["days"]
    assert counts["days"]["features"] == 2  # the part of a month at the end of each of the two years
    models = {entry.record["model"] for entry in days.values()}
    assert models == {months[day].record["model"] for day in (date(2016, 12, 1), date(2017, 1, 3))}
    kinds = tables.read(store, "models").to_pandas()["kind"]
    assert kinds.value_counts().to_dict() == {"trained": 2, "refreshed": 6}  # of the seven months, January's trained


@pytest.mark.long
def test_the_backtest_trades_as_often_as_the_scenario_says(three):
    store, _ = three
    for name in ("main", "quarters", "days"):
        decided = list(ledger.current(store, name))
        sql = "SELECT DISTINCT rebalance_date AS day FROM executions WHERE strategy = 'equal_weight' ORDER BY 1"
        assert [row["day"] for row in catalog.query(store, name, sql).to_pylist()] == decided
        first = catalog.query(store, name, "SELECT min(session) AS day FROM wealth").to_pylist()[0]["day"]
        assert first == ledger.current(store, name)[decided[0]].as_of  # bought at the close of the next session
        [span] = tables.read(store, "backtests", scenario=name).to_pylist()
        assert (span["first_month"], span["last_month"]) == tuple(
            ledger.current(store, name)[decided[place]].month for place in (0, -1)
        )


@pytest.mark.long
def test_months_that_trade_later_decide_as_every_session_does_on_that_day(three, light, monkeypatch):
    store, _ = three
    monkeypatch.setenv("PRISM_STORE", str(store.root))
    later = changed(light, rebalance_offset=4)
    backfill(START, END, scenario="later", parameters=later, path=str(store.root.parent / "prices.csv"))
    assert set(computed(store)) == {"features", "decide"}  # parts of months of its own; all else is what the days have
    decided, days = ledger.current(store, "later"), ledger.current(store, "days")
    assert list(decided) == [date(2016, 12, 7), date(2017, 1, 9)]
    for day, entry in decided.items():
        assert (entry.forecasts, entry.weights, entry.as_of) == (
            days[day].forecasts,
            days[day].weights,
            days[day].as_of,
        )
    assert [entry.month for entry in decided.values()] == ["2016-12", "2017-01"]
    assert decided[date(2017, 1, 9)].record["follows"] == "2016-12-07"
    rows = catalog.query(store, "later", "SELECT min(session) AS day FROM wealth").to_pylist()
    assert rows[0]["day"] == date(2016, 12, 6)


@pytest.mark.long
def test_a_second_run_decides_nothing_and_leaves_no_date_out(here):
    for name in ("quarters", "days"):
        assert backfill(START, END, scenario=name)["decided"] == []
        assert set(computed(here)) <= {"decide"}


@pytest.mark.long
def test_names_of_months_and_of_days_find_what_was_decided(here, prism):
    place = ["--json", "--scenario", "days", "--store", here.root]
    shown = {name: prism("weights", "--month", name, *place) for name in ("2016-12", "2016-12-05", "2017-01-31")}
    found = {name: json.loads(out)["rebalance_date"] for name, (_, out, _) in shown.items()}
    assert found == {"2016-12": "2016-12-30", "2016-12-05": "2016-12-05", "2017-01-31": "2017-01-31"}
    assert json.loads(prism("weights", *place)[1])["rebalance_date"] == "2017-01-31"
    code, _, err = prism("trades", "--month", "2016-12-04", *place)
    assert code == 2
    assert "scenario days has not decided day 2016-12-04" in err
    code, _, err = prism("trades", "--month", "2016-13", *place)
    assert code == 2
    assert "--month '2016-13' is neither a month nor a day; write it as 2016-12 or" not in err
    assert "write it as 2019-12 or 2019-12-31" in err
    _, table, _ = prism("weights", "--month", "2016-12-05", "--scenario", "days", "--store", here.root)
    assert "Weights for 2016-12-05, known at 2016-12-02" in table
    _, table, _ = prism("weights", "--scenario", "quarters", "--store", here.root)
    assert "Weights for 2017-04, known at 2017-03-31" in table
    trades = json.loads(prism("trades", "--month", "2016-12-05", *place)[1])
    assert {row["rebalance_date"] for row in trades} == {"2016-12-05"}
    assert set(json.loads(prism("metrics", *place)[1])["strategies"]) > {"return_drawdown", "ogd_long_window"}


@pytest.mark.long
def test_a_plan_counts_in_months_whatever_the_frequency(here, prism):
    def planned(scenario, *arguments):
        code, out, err = prism("plan", *arguments, "--json", "--scenario", scenario, "--store", here.root)
        assert code == 0, err
        return [row["month"] for row in json.loads(out)["months"]]

    assert planned("quarters") == [  # of 36 months up to 2018-01
        f"{year}-{month}" for year in (2015, 2016, 2017, 2018) for month in ("01", "04", "07", "10")
        if "2015-09" < f"{year}-{month}" < "2018-02" and f"{year}-{month}" not in ("2016-10", "2017-01", "2017-04")
    ]  # fmt: skip
    assert planned("quarters", "--months", "3") == ["2018-01"]
    assert planned("days", "--start", "2017-01", "--end", "2017-02")[:2] == ["2017-02-01", "2017-02-02"]
    assert len(planned("days", "--start", "2016-12", "--end", "2017-02")) == 19
    assert len(planned("days", "--months", "2")) == 20 + 1
    _, out, _ = prism("plan", "--start", "2017-02", "--end", "2017-02", "--scenario", "days", "--store", here.root)
    assert "19 rebalance dates (2017-02-01 to 2017-02-28): not decided yet" in out


@pytest.mark.long
def test_months_without_a_rebalance_date_are_refused_with_those_that_have_one(here):
    with pytest.raises(InputError, match=r"months 2017-05 to 2017-06 hold no rebalance date of scenario quarters"):
        backfill("2017-05", "2017-06", scenario="quarters")
    with pytest.raises(InputError, match="months 2017-11 to 2018-02 cannot all be decided; the prices allow 2015-10"):
        backfill("2017-11", "2018-02", scenario="quarters")


@pytest.mark.long
@pytest.mark.parametrize(("scenario", "words"), [("days", "session"), ("quarters", "quarter"), ("main", "month")])
def test_the_report_speaks_of_what_lies_between_two_dates(here, prism, scenario, words):
    code, out, err = prism("report", "--json", "--scenario", scenario, "--store", here.root)
    assert code == 0, err
    path = Path(json.loads(out)["report"])
    page = path.read_text()
    newest = {"days": "2017-01-31", "quarters": "2017-04", "main": "2017-04"}[scenario]
    assert f"<h1>Weights for {newest}</h1>" in page
    assert path.name.startswith(newest)
    assert f"this {words} was computed after the fact" in page
    assert "the weights of the rebalance date before" in page
    assert f"{len(ledger.current(here, scenario))} rebalance dates in scenario {scenario}" in page
    assert path.stat().st_size < 8_000_000


def test_the_last_months_are_those_of_the_calendar():
    days = [date(2015, 12, 31), date(2016, 1, 4), date(2016, 1, 5), date(2016, 4, 1)]
    moments = [Moment(day, day, "p") for day in days]
    assert planning.last_months(moments, 1) == (moments[3],)
    assert planning.last_months(moments, 3) == (moments[3],)
    assert planning.last_months(moments, 4) == tuple(moments[1:])
    assert planning.last_months(moments, 5) == tuple(moments)
    assert planning.last_months([], 5) == ()


def dated(*days):
    return [SimpleNamespace(moment=Moment(day, day, "prefix")) for day in days]


def test_tasks_are_given_whole_years_of_enough_dates():
    monthly = dated(*(date(year, month, 1) for year in range(2011, 2022) for month in range(1, 13)))
    assert [len(part) for part in planning.by_years(monthly, 60)] == [60, 60, 12]
    daily = dated(*(date(2011, 1, 1) + timedelta(days) for days in range(500)))
    assert [len(part) for part in planning.by_years(daily, 60)] == [365, 135]
    assert [*chain(*planning.by_years(monthly, 60))] == monthly
    assert planning.by_years([], 60) == []


def test_the_date_that_is_apart_is_decided_by_itself_and_no_task_has_too_many():
    months = dated(*(date(2011, 1, 1) + timedelta(days) for days in range(600)))
    plan = SimpleNamespace(months=months)
    assert [len(part) for part in _parts(plan, None)] == [256, 256, 88]
    assert [len(part) for part in _parts(plan, months[-1].moment)] == [256, 256, 87, 1]


@pytest.mark.long
def test_gates_look_at_months_however_often_one_trades(here, light):
    gated = {"features": {"lookback": 20}, "training": {"minimum_sessions": 30}, "forecast": {"gate": True}}
    plans = {}
    for name in ("days", "quarters", "main"):
        own = lines.own_parameters(here, name)
        line = lines.open_line(f"gated-{name}", changed(own, **gated), dataset="files:main", fetch=False)
        [plan] = planning.make(line, planning.between(line, "2017-10", "2017-11"))
        plans[name] = plan
    panel = plans["days"].segment.panel
    months, sessions = panels.moments(here, panel), panels.load(here, panel).sessions.tolist()
    for month in plans["days"].months:
        known = sessions[sessions.index(month.moment.as_of) - 21]
        over = [moment for moment in months if moment.as_of <= known]
        assert [moment for moment, _ in month.gate.past] == over[-24:]
    shared = [plans[name].months[0].gate for name in ("days", "quarters", "main")]
    assert len({gate.key for gate in shared}) == 1
    assert len({month.gate.key for month in plans["days"].months}) == 22 + 21


@pytest.mark.long
def test_days_are_the_same_in_one_run_in_pieces_and_beside_the_months(
    tmp_path, light, csv, place, content, monkeypatch
):
    daily = changed(light, rebalance="D")
    store = place(tmp_path / "straight")
    backfill(START, END, parameters=daily, path=csv)
    straight = content(store)
    store = place(tmp_path / "pieces")
    with monkeypatch.context() as patched:  # the power goes between the records of two stretches of dates
        appended = []
        append = ledger.append

        def once(*given, **named):
            appended.append(given)
            return append(*given, **named) if len(appended) < 2 else 1 / 0

        patched.setattr("flows.rebalance._AT_ONCE", 21)
        patched.setattr(ledger, "append", once)
        with pytest.raises(ZeroDivisionError):
            backfill(START, END, parameters=daily, path=csv)
    assert len(ledger.current(store, "main")) == 21
    backfill(START, END)
    assert content(store) == straight
    store = place(tmp_path / "later first")
    monthly_rebalance(parameters=daily, path=csv, as_of=date(2017, 1, 17), months=1)
    assert [f"{day}" for day in ledger.current(store, "main")][-2:] == ["2017-01-17", "2017-01-18"]
    backfill(START, END)
    found = content(store)
    assert {name: rows for name, rows in found.items() if name != "decisions"} == {
        name: rows for name, rows in straight.items() if name != "decisions"
    }
    [again] = [entry for entry in ledger.current(store, "main").values() if entry.revision]
    assert (again.month, again.reason) == ("2017-01-03", "the rebalance date before is decided now")
    store = place(tmp_path / "straight")
    assert monthly_rebalance(as_of=date(2017, 1, 31), months=1)["decided"] == ["2017-02-01"]
    days = content(store, names=("weights", "forecasts"))
    store = place(tmp_path / "months")
    backfill("2016-12", "2017-02", parameters=light, path=csv)
    months = content(store, names=("weights", "forecasts"))
    assert {len(months[name]) > 10 and set(months[name]) < set(days[name]) for name in months} == {True}


@pytest.mark.long
def test_no_session_sees_the_future(tmp_path, light, prices, written, place, content):
    """Perturb every bar after d: all that was decided up to d is the same to the byte, and what follows is not."""
    d, seen = date(2017, 1, 12), []
    later = prices.copy()
    after = prices.index > str(d)
    later.loc[after] *= 1 + 0.3 * abs(prices.loc[after] - prices.loc[after].mean()) / prices.loc[after].std()
    for name, frame in (("truth", prices), ("later", later)):
        store = place(tmp_path / name)
        path = written(frame, tmp_path / f"{name}.csv")
        backfill("2017-01", "2017-01", parameters=changed(light, rebalance="D"), path=path)
        seen.append(content(store, names=("forecasts", "weights", "trades", "decisions"), until=d))
        seen.append(content(store, names=("forecasts", "weights", "trades")))
    assert len(seen[0]["decisions"]) == 9
    assert seen[0] == seen[2]
    assert all(seen[1][name] != seen[3][name] for name in seen[1])


@pytest.mark.long
def test_a_scenario_may_change_how_often_it_trades(store, light, csv):
    backfill("2016-11", "2016-12", parameters=light, path=csv)
    daily = changed(light, rebalance="D")
    monthly_rebalance(parameters=daily, as_of=date(2017, 1, 5), months=3, amend="every session from now on")
    monthly_rebalance(parameters=changed(light, rebalance="Q"), as_of=date(2017, 4, 10), months=1, amend="too much")
    decided = ledger.current(store, "main")
    days = [date(2016, 11, 1), date(2016, 12, 1), *(date(2017, 1, day) for day in (3, 4, 5, 6)), date(2017, 4, 3)]
    assert list(decided) == days
    names = ["2016-11", "2016-12", "2017-01-03", "2017-01-04", "2017-01-05", "2017-01-06", "2017-04"]
    assert [entry.month for entry in decided.values()] == names
    follows = [entry.record["follows"] for entry in decided.values()]
    assert follows == ["2016-10-03", *(f"{day}" for day in days[:-1])]
    assert [bool(entry.record["holdings"]) for entry in decided.values()] == [False] + [True] * 6
    newest = tables.read(store, "backtests", scenario="main").sort_by("position").to_pylist()[-1]
    assert (newest["first_month"], newest["last_month"]) == ("2016-11", "2017-04")
    assert backfill("2016-11", "2017-04")["decided"] == []


def test_the_newest_session_is_published_before_its_close(store, light, csv, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: datetime(2018, 1, 2, 20, 59))
    result = monthly_rebalance(parameters=changed(light, rebalance="D"), path=csv, months=1)
    assert result["decided"] == [result["asked"]] == [result["month"]] == ["2018-01-02"]
    assert [entry.kind for entry in ledger.current(store, "main").values()] == ["published"]


@pytest.mark.long
def test_what_if_one_traded_more_or_less_often(store, light, csv):
    backfill("2016-12", "2017-01", parameters=light, path=csv)
    daily = rebalance(parameters=changed(light, rebalance="D"))
    assert len(daily["decided"]) == SESSIONS
    quarterly = rebalance(parameters=changed(light, rebalance="Q"))
    assert quarterly["decided"] == ["2017-01"]
    assert ledger.current(store, daily["scenario"])[date(2017, 1, 3)].forecasts is not None
