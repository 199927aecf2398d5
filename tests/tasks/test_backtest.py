"""The backtest: the newest stretch of decided months, accounted as an independent ledger does it."""

from dataclasses import asdict, replace
from datetime import date
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from flows.parameters import Parameters
from flows.strategies import of as strategies_of
from storage import tables
from storage.errors import InputError
from storage.keys import PanelKey
from storage.schemas import CASH
from storage.universe import Member
from tasks import decide, panels
from tasks.backtest import backtest
from tasks.followed import stretch
from tasks.numerics import regimes
from tasks.numerics.configs import AccountingConfig

COSTS = AccountingConfig(cost=0.002, cash_rate=0.03)
PLANS = [{"A": 0.6, "B": 0.2}, {"B": 0.5, "C": 0.5}, {"D": 0.9, "E": 0.1}, {"A": 1.2, "E": -0.4}]
MONTHS = ["2016-01", "2016-02", "2016-03", "2016-04"]


def put(market, panel, plans, scenario="main", config=COSTS, rebalance="M", follows=None, parameters=None, held=()):
    """Decide rebalance dates from plans: {name: {strategy: weights}}; the first follows what is given."""
    found = panels.moments(market.store, panel, rebalance)
    before = dict(zip(found[1:], [moment.rebalance_date for moment in found], strict=False)) | {found[0]: follows}
    by_name = {moment.month: moment for moment in found}
    months = []
    for name, books in plans.items():
        moment, keys = by_name[name], []
        for strategy, weights in books.items():
            key = f"{moment.prefix} {strategy} {sorted(weights.items())}"
            market.put_weights(key, moment, strategy, weights.items())
            keys.append((strategy, key))
        made = {"parameters": parameters or {"accounting": asdict(config)}, "code": {}, "versions": {}}
        kind = "held" if name in held else "backfill"
        months.append(decide.Month(moment, before[moment], kind, None, None, tuple(keys), config, made))
    decide.decide.fn(panel, scenario, tuple(months))


def result(market, panel, scenario="main"):
    """Wealth by strategy and session, executions, metrics, of the backtest's key."""
    key = backtest.fn(panel, scenario)
    read = {name: tables.read(market.store, name, key=key).to_pandas() for name in ("wealth", "executions", "metrics")}
    wealth = read["wealth"].sort_values("session").pivot(index="session", columns="strategy", values="wealth")
    return wealth, read["executions"], read["metrics"].set_index(["strategy", "name"])["value"], key


def ledger(bars, plans, config, last, gone=None, earned=None):
    """An account in currency, asset by asset, straight from the closes."""
    gone = gone or {}
    close = bars.pivot(index="session", columns="ticker", values="close").loc[:last].ffill()
    days, cash, shares, value, wealth = close.index, 1.0, {}, 1.0, {}
    for before, day in pairwise(days):
        if shares or cash != 1.0:
            short = sum(-n * close.loc[before, t] for t, n in shares.items() if n < 0)
            rate = config.cash_rate / 252 if earned is None else earned[day]
            cash += cash * (rate if cash > 0 else rate + config.borrow_spread / 252) - short * config.short_rate / 252
        for t in [t for t in shares if gone.get(t) == day]:
            amount = shares.pop(t) * close.loc[day, t]
            amount *= 1 - config.delisting_haircut if amount > 0 else 1
            cash += amount - config.cost * abs(amount)
        if day in plans:
            value = cash + sum(n * close.loc[day, t] for t, n in shares.items())
            plan = {t: w for t, w in plans[day].items() if day < gone.get(t, last + pd.Timedelta(1, "D"))}
            target = {t: w * value for t, w in plan.items()}
            names = target.keys() | shares.keys()
            traded = sum(abs(target.get(t, 0.0) - shares.get(t, 0.0) * close.loc[day, t]) for t in names)
            left = value - config.cost * traded
            shares = {t: w * left / close.loc[day, t] for t, w in plan.items()}
            cash = left * (1 - sum(plan.values()))
        if shares or wealth:
            wealth[day.date()] = cash + sum(n * close.loc[day, t] for t, n in shares.items())
    return pd.Series(wealth)


def rebalances(market, panel, lag=1):
    by_name = {moment.month: moment for moment in panels.moments(market.store, panel)}
    days = [by_name[name].rebalance_date if lag else by_name[name].as_of for name in MONTHS]
    return {pd.Timestamp(day): plan for day, plan in zip(days, PLANS, strict=True)}


@pytest.mark.parametrize("config", [COSTS, replace(COSTS, lag=0), AccountingConfig(cost=0.0, cash_rate=0.0)])
def test_wealth_is_that_of_an_independent_ledger(market, config):
    bars = market.bars()
    panel = market.panel(bars)
    put(market, panel, {name: {"hand": plan} for name, plan in zip(MONTHS, PLANS, strict=True)}, config=config)
    wealth, _, _, _ = result(market, panel)
    last = panels.load(market.store, panel).sessions[-1]
    expected = ledger(bars, rebalances(market, panel, config.lag), config, pd.Timestamp(last))
    found = wealth["hand"].iloc[1:]
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_held_date_costs_nothing_and_the_account_goes_on(market):
    bars = market.bars()
    panel = market.panel(bars)
    put(market, panel, {name: {"hand": plan} for name, plan in zip(MONTHS, PLANS, strict=True)}, held={"2016-02"})
    wealth, executions, measures, _ = result(market, panel)
    days = list(rebalances(market, panel, lag=1))
    plans = {day: plan for day, plan in zip(days, PLANS, strict=True) if day != days[1]}
    expected = ledger(bars, plans, COSTS, pd.Timestamp(panels.load(market.store, panel).sessions[-1]))
    np.testing.assert_allclose(wealth["hand"].iloc[1:], expected, rtol=1e-10)
    assert days[1].date() not in set(executions["rebalance_date"])
    assert measures["hand", "costs"] > 0


GONE = {"C": "2016-01-20", "B": "2016-02-17", "E": "2016-04-20"}  # before it is bought, held long, held short
SAID = [
    "hand: B was delisted on 2016-02-17 and sold at its last price less 30 %",
    "hand: E was delisted on 2016-04-20 and bought back at its last price",
    "hand: C was delisted on 2016-01-20; its weight of 2016-02-01 stayed in cash",
]


@pytest.fixture
def delisting(market):
    """A panel with a series of rates, three of whose assets have no bars for a week and then are delisted."""
    bars, days = market.bars(), market.days()
    for ticker, day in GONE.items():
        bars = bars[(bars["ticker"] != ticker) | (bars["session"] < pd.Timestamp(day) - pd.Timedelta(7, "D"))]
    rates = np.random.default_rng(0).normal(3e-4, 2e-4, days.size)
    cash = market.bars("A").assign(ticker="RF", close=rates, basis="rate")
    members = [*(Member(ticker) for ticker in "ABCDE"), Member("RF", role="risk_free")]
    said = {ticker: date.fromisoformat(day) for ticker, day in GONE.items()}
    return bars, pd.Series(rates, pd.to_datetime(days)), market.panel(pd.concat([bars, cash]), members, delisted=said)


def test_delistings_and_a_series_of_rates_are_those_of_the_ledger(market, delisting, caplog):
    bars, rates, panel = delisting
    config = replace(COSTS, delisting_haircut=0.3)
    plans = {name: {"hand": plan} for name, plan in zip(MONTHS, PLANS, strict=True)}
    put(market, panel, {MONTHS[0]: plans.pop(MONTHS[0])}, config=replace(config, delisting_haircut=0.9))
    put(market, panel, plans, config=config)
    with caplog.at_level("WARNING", "prism.backtest"):
        wealth, executions, measures, _ = result(market, panel)
    assert [record.message for record in caplog.records if record.name == "prism.backtest"] == SAID
    last = pd.Timestamp(panels.load(market.store, panel).sessions[-1])
    gone = {ticker: pd.Timestamp(day) for ticker, day in GONE.items()}
    expected = ledger(bars, rebalances(market, panel), config, last, gone, rates)
    np.testing.assert_allclose(wealth["hand"].iloc[1:], expected, rtol=1e-10)
    excess = wealth["hand"].pct_change().iloc[1:] - rates[pd.to_datetime(wealth.index[1:])].to_numpy()
    assert measures["hand", "sharpe"] == pytest.approx(252**0.5 * excess.mean() / excess.std(), rel=1e-9)
    below = excess.clip(upper=0).pow(2).mean() ** 0.5
    assert measures["hand", "sortino"] == pytest.approx(252**0.5 * excess.mean() / below, rel=1e-9)
    assert not set(executions["ticker"]) & {"C", CASH}
    assert list(executions.loc[executions["ticker"] == "B", "rebalance_date"]) == [date(2016, 1, 4), date(2016, 2, 1)]


def test_what_a_delisting_costs_counts_among_costs_and_turnover(market, delisting):
    bars, _, panel = delisting
    put(market, panel, {"2016-02": {"hand": {"B": 0.5}}})
    wealth, executions, measures, _ = result(market, panel)
    assert executions["ticker"].tolist() == ["B"]
    close = bars[bars["ticker"] == "B"].set_index("session")["close"]
    before = wealth["hand"][date(2016, 2, 16)]
    held = 0.5 * wealth["hand"][date(2016, 2, 1)] * close.iloc[-1] / close[pd.Timestamp("2016-02-01")] / before
    years = (len(wealth) - 1) / 252
    # the sale is a fraction of the wealth at its close, which cash has raised since the day before
    assert measures["hand", "turnover"] * years == pytest.approx((0.5 + held) / 2, rel=1e-3)
    assert measures["hand", "costs"] * years == pytest.approx(0.002 * (0.5 + held), rel=1e-3)


def test_an_asset_without_a_bar_on_the_day_of_its_trade_is_named(market, caplog):
    bars = market.bars()
    panel = market.panel(bars[(bars["ticker"] != "B") | (bars["session"] != "2016-01-04")])
    put(market, panel, {"2016-01": {"hand": PLANS[0]}, "2016-02": {"hand": PLANS[2]}})
    with caplog.at_level("WARNING", "prism.backtest"):
        _, executions, _, _ = result(market, panel)
    assert [record.message for record in caplog.records if record.name == "prism.backtest"] == [
        "hand: B had no bar on 2016-01-04 and kept its holding"
    ]
    assert "B" not in set(executions["ticker"])


def test_an_asset_that_is_halted_keeps_its_last_price_and_is_named(market, caplog):
    bars = market.bars(count=240)
    panel = market.panel(bars[(bars["ticker"] != "B") | (bars["session"] < "2016-01-25")])
    put(market, panel, {"2016-01": {"hand": PLANS[0]}, "2016-02": {"hand": {"A": 0.5, "B": 0.1}}})
    with caplog.at_level("WARNING", "prism.backtest"):
        wealth, executions, _, _ = result(market, panel)
    assert [record.message for record in caplog.records if record.name == "prism.backtest"] == [
        "hand: B is halted, its last bar is of 2016-01-22, and kept its holding on 2016-02-01",
        "hand: B is halted and counts at its last price, of 2016-01-22, until it trades again or is declared delisted",
    ]
    last = pd.Timestamp(panels.load(market.store, panel).sessions[-1])
    expected = 1 - 0.002 * 0.8
    assert wealth["hand"].iloc[1] == pytest.approx(expected)
    assert "B" not in set(executions.loc[executions["rebalance_date"] == date(2016, 2, 1), "ticker"])
    assert last > pd.Timestamp("2016-02-01")


def test_trades_that_a_session_does_not_take_are_said_and_stored(market, caplog):
    panel, config = market.panel(), replace(COSTS, costs="impact", capital=3e7)
    put(market, panel, {name: {"hand": plan} for name, plan in zip(MONTHS, PLANS, strict=True)}, config=config)
    with caplog.at_level("WARNING", "prism.backtest"):
        _, executions, measures, _ = result(market, panel)
    said, left = [record.message for record in caplog.records if record.name == "prism.backtest"]
    carried, undone = (executions[name].abs() for name in ("carried", "undone"))
    assert said.startswith(f"hand: {(carried > 1e-12).sum()} trades on ")
    assert left.startswith(f"hand: {(undone > 1e-12).sum()} trades were not done by the next rebalance date, or ")
    assert left.endswith(f"; {100 * undone.max():.2f} % of wealth at most")
    assert (executions["carried"].abs() <= executions["trade"].abs()).all()
    assert measures["hand", "turnover"] > 0


def test_impact_costs_of_prices_without_volume_are_refused_before_anything_is_decided(market):
    bars = market.bars()
    bars.loc[bars["ticker"] == "B", ["high", "volume"]] = np.nan
    loaded = panels.load(market.store, market.panel(bars))
    said = "accounting.costs is 'impact', but B has no high and low and no volume to tell its costs from; bring prices"
    wanted = Parameters(publish="equal_weight", strategies=("equal_weight",))
    strategies_of(loaded, wanted)
    with pytest.raises(InputError, match=said):
        strategies_of(loaded, wanted.model_copy(update={"accounting": replace(COSTS, costs="impact")}))


def test_impact_costs_of_an_asset_whose_volume_ends_name_it(market):
    bars = market.bars()
    bars.loc[(bars["ticker"] == "B") & (bars["session"] > "2015-12-01"), "volume"] = np.nan
    panel = market.panel(bars)
    put(market, panel, {"2016-01": {"hand": PLANS[0]}}, config=replace(COSTS, costs="impact"))
    with pytest.raises(InputError, match="B lacks high, low or volume on most of the 21 sessions up to 2016-01-04"):
        backtest.fn(panel, "main")


def test_wealth_is_1_on_the_session_before_the_first_trade(market):
    panel = market.panel()
    put(market, panel, {"2016-01": {"hand": PLANS[0]}})
    wealth, _, _, _ = result(market, panel)
    assert wealth["hand"].iloc[0] == 1.0
    assert wealth.index[0] == date(2015, 12, 31)
    assert wealth["hand"].iloc[1] == pytest.approx(1 - 0.002 * 0.8, abs=1e-15)
    rows = tables.read(market.store, "wealth").sort_by("session").to_pandas()
    np.testing.assert_allclose(rows["wealth"], (1 + rows["daily_return"]).cumprod(), rtol=1e-12)
    peak = rows["wealth"].cummax()
    np.testing.assert_allclose(rows["drawdown"], 1 - rows["wealth"] / peak, atol=1e-14)


def test_executions_start_from_drifted_holdings_and_sum_to_the_turnover(market):
    panel = market.panel()
    put(market, panel, {name: {"hand": plan} for name, plan in zip(MONTHS, PLANS, strict=True)})
    wealth, executions, measures, _ = result(market, panel)
    np.testing.assert_allclose(executions["cost"], 0.002 * executions["trade"].abs(), rtol=1e-12)
    sessions = len(wealth) - 1
    assert measures["hand", "turnover"] == pytest.approx(executions["trade"].abs().sum() / 2 * 252 / sessions)
    assert measures["hand", "costs"] == pytest.approx(executions["cost"].sum() * 252 / sessions)
    assert measures["hand", "cumulative_return"] == pytest.approx(wealth["hand"].iloc[-1] - 1, rel=1e-12)
    first = executions[executions["rebalance_date"] == date(2016, 1, 4)].set_index("ticker")["trade"]
    assert first.to_dict() == PLANS[0]


def test_the_stretch_is_the_newest_without_a_gap():
    days = [date(2015, 9, 1), date(2015, 11, 2), date(2015, 12, 1), date(2016, 1, 4)]
    decided = {day: SimpleNamespace(rebalance_date=day, record={}) for day in days}
    assert [month.rebalance_date for month in stretch(decided)] == days[1:]
    assert [month.rebalance_date for month in stretch(dict(list(decided.items())[:1]))] == days[:1]
    assert stretch({}) == []


def test_a_record_says_which_date_it_follows():
    days = [date(2015, 9, 1), date(2016, 1, 4), date(2016, 4, 1), date(2016, 4, 4), date(2016, 4, 6)]
    follows = [None, "2015-10-01", "2016-01-04", "2016-04-01", "2016-04-04"]
    decided = {
        day: SimpleNamespace(rebalance_date=day, record={"follows": before})
        for day, before in zip(days, follows, strict=True)
    }
    assert [entry.rebalance_date for entry in stretch(decided)] == days[1:]
    del decided[days[3]]
    assert [entry.rebalance_date for entry in stretch(decided)] == days[4:]
    del decided[days[4]]
    decided[days[2]].record["follows"] = None  # the first date of all
    assert [entry.rebalance_date for entry in stretch(decided)] == days[2:3]


CONSTANT = {"A": 0.5, "B": 0.3, "C": 0.4, "D": -0.25}


@pytest.mark.parametrize("rebalance", [pytest.param("D", marks=pytest.mark.long), "M", "Q"])
@pytest.mark.parametrize("lag", [0, 1])
def test_constant_weights_are_traded_as_often_as_the_scenario_says(market, rebalance, lag):
    bars, config = market.bars(), replace(COSTS, lag=lag)
    panel = market.panel(bars)
    moments = [m for m in panels.moments(market.store, panel, rebalance) if date(2015, 12, 1) < m.as_of]
    ends = date(2016, 9, 1)
    moments = [moment for moment in moments if moment.rebalance_date < ends]
    put(market, panel, {moment.month: {"hand": CONSTANT} for moment in moments}, config=config, rebalance=rebalance)
    wealth, executions, metrics, _ = result(market, panel)
    days = [moment.rebalance_date if lag else moment.as_of for moment in moments]
    last = pd.Timestamp(panels.load(market.store, panel).sessions[-1])
    expected = ledger(bars, {pd.Timestamp(day): CONSTANT for day in days}, config, last)
    np.testing.assert_allclose(wealth["hand"].iloc[1:], expected, rtol=1e-10)
    assert sorted(set(executions["rebalance_date"])) == [moment.rebalance_date for moment in moments]
    assert len(moments) == {"D": 188, "M": 8, "Q": 3}[rebalance]
    assert metrics["hand", "turnover"] > 0


def test_months_before_a_gap_are_not_accounted(market):
    panel = market.panel()
    put(market, panel, {"2015-11": {"hand": PLANS[0]}, "2016-01": {"hand": PLANS[1]}, "2016-02": {"hand": PLANS[2]}})
    wealth, executions, _, key = result(market, panel)
    assert wealth.index[0] == date(2015, 12, 31)
    assert set(executions["rebalance_date"]) == {date(2016, 1, 4), date(2016, 2, 1)}
    [row] = tables.read(market.store, "backtests").to_pylist()
    assert (row["key"], row["first_month"], row["last_month"]) == (key, "2016-01", "2016-02")


def test_each_month_pays_what_its_own_parameters_say(market):
    panel = market.panel()
    plans = {name: {"hand": plan} for name, plan in zip(MONTHS, PLANS, strict=True)}
    first, later = dict(list(plans.items())[:1]), dict(list(plans.items())[1:])
    put(market, panel, first, config=COSTS)
    put(market, panel, later, config=replace(COSTS, cost=0.01))
    _, executions, _, _ = result(market, panel)
    ratio = (executions["cost"] / executions["trade"].abs()).groupby(executions["rebalance_date"]).mean()
    assert list(ratio.sort_index().round(12)) == [0.002] + [0.01] * len(later)


def test_a_month_that_has_not_traded_yet_is_left_out(market):
    bars = market.bars()
    panel = market.panel(bars[bars["session"] <= "2016-04-29"])
    put(market, panel, {"2016-05": {"hand": PLANS[0]}})
    assert backtest.fn(panel, "main") is None
    assert tables.read(market.store, "backtests").num_rows == 0
    # with lag 0 it trades on the data's last session
    put(market, panel, {"2016-05": {"hand": PLANS[0]}}, "at once", replace(COSTS, lag=0))
    wealth, _, _, _ = result(market, panel, "at once")
    assert list(wealth.index) == [date(2016, 4, 28), date(2016, 4, 29)]
    put(market, panel, {"2016-04": {"hand": PLANS[1]}})
    wealth, executions, _, _ = result(market, panel)
    assert set(executions["rebalance_date"]) == {date(2016, 4, 1)}


def test_a_scenario_without_decisions_has_no_result(market):
    assert backtest.fn(market.panel(), "main") is None


def test_a_strategy_is_accounted_from_where_it_is_decided_without_a_gap(market):
    panel = market.panel()
    old, new = {"old": PLANS[0]}, {"new": PLANS[1]}
    put(market, panel, {
        "2015-12": old, "2016-01": old | new | {"gone": PLANS[2]}, "2016-02": old,
        "2016-03": old | new, "2016-04": old | new,
    })  # fmt: skip
    wealth, executions, _, _ = result(market, panel)
    starts = wealth.apply(lambda column: column.first_valid_index())
    assert starts.to_dict() == {"old": date(2015, 11, 30), "new": date(2016, 2, 29)}
    assert set(executions.loc[executions["strategy"] == "new", "rebalance_date"]) == {
        date(2016, 3, 1),
        date(2016, 4, 1),
    }
    spans = tables.read(market.store, "metrics").to_pandas().groupby("strategy")["start_date"].unique().str[0]
    assert spans.to_dict() == starts.to_dict()
    assert "gone" not in wealth


def test_cash_earns_the_cash_rate(market):
    panel = market.panel()
    put(market, panel, {"2016-01": {"hand": {CASH: 1.0}}})
    wealth, executions, _, _ = result(market, panel)
    growth = (1 + 0.03 / 252) ** np.arange(len(wealth) - 1)
    np.testing.assert_allclose(wealth["hand"].iloc[1:], growth, rtol=1e-12)
    assert executions.empty


def test_the_same_result_is_neither_computed_nor_said_again(market, monkeypatch):
    panel = market.panel()
    put(market, panel, {"2016-01": {"hand": PLANS[0]}})
    key = backtest.fn(panel, "main")
    monkeypatch.setattr("tasks.backtest._accounts", lambda *_: pytest.fail("computed again"))
    assert backtest.fn(panel, "main") == key
    assert tables.read(market.store, "backtests").num_rows == 1
    monkeypatch.undo()
    monkeypatch.setenv("PRISM_STORE", str(market.store.root))
    put(market, panel, {"2016-02": {"hand": PLANS[1]}})
    later = backtest.fn(panel, "main")
    rows = tables.read(market.store, "backtests").sort_by("position").to_pylist()
    assert [row["key"] for row in rows] == [key, later]


def test_more_sessions_leave_earlier_wealth_as_it_was_to_the_bit(market):
    short, long = market.panel(), market.panel(market.bars(count=460))
    plans = {name: {"hand": plan} for name, plan in zip(MONTHS, PLANS, strict=True)}
    put(market, short, plans)
    put(market, long, plans, "longer")
    one, two = result(market, short)[0], result(market, long, scenario="longer")[0]
    assert len(two) == len(one) + 60
    assert one["hand"].tolist() == two["hand"].tolist()[: len(one)]


def test_a_later_universe_with_shorter_prices_keeps_the_account_of_the_older_one(market):
    bars = market.bars()
    young = market.bars("YZ")
    bars = pd.concat([bars, young[young["session"] >= "2016-02-08"]])
    old = market.panel(bars)
    new = PanelKey(old.snapshot, market.universe("YZ"))
    put(market, old, {"2016-01": {"hand": PLANS[0]}, "2016-02": {"hand": PLANS[1]}})
    before = result(market, old)[0]
    put(market, new, {"2016-03": {"hand": {"Y": 0.5, "Z": 0.5}}}, follows=date(2016, 2, 1))
    after = result(market, new)[0]
    march = list(before.index).index(date(2016, 3, 1))
    assert after.index.tolist() == before.index.tolist()
    np.testing.assert_array_equal(after["hand"].iloc[:march], before["hand"].iloc[:march])
    close = bars.pivot(index="session", columns="ticker", values="close")
    growth = (close.iloc[-1] / close.loc["2016-03-01"])[["Y", "Z"]].mean()
    assert after["hand"].iloc[-1] / after["hand"].iloc[march] == pytest.approx(growth, rel=1e-12)


def test_a_result_is_written_with_its_measures_last(market, monkeypatch):
    panel = market.panel()
    put(market, panel, {name: {"hand": plan} for name, plan in zip(MONTHS, PLANS, strict=True)})
    written, usual = [], tables.put
    monkeypatch.setattr(tables, "put", lambda store, name, rows: written.append(name) or usual(store, name, rows))
    key = backtest.fn(panel, "main")
    assert written[-1] == "metrics"
    expected = {"executions", "wealth", "singles", "exposures", "against", "contributions", "metrics"}
    expected |= {"periods", "comparisons"}
    assert sorted(written) == sorted(expected | {"trials"})
    filled = {name for name in expected if tables.read(market.store, name, key=key).num_rows}
    assert filled == expected - {"against", "comparisons"}  # no baseline was run


def test_years_differences_and_trials_stand_beside_the_measures(market):
    panel = market.panel()
    plans = {"hand": PLANS[0], "equal_weight": dict.fromkeys("ABCDE", 0.2)}
    put(market, panel, dict.fromkeys(MONTHS, plans))
    wealth, _, measured, key = result(market, panel)
    read = {name: tables.read(market.store, name, key=key).to_pandas() for name in ("periods", "comparisons")}
    daily = wealth.pct_change().iloc[1:]
    year = read["periods"].query("kind == 'year' and period == '2016'").set_index(["strategy", "name"])["value"]
    assert year["hand", "return"] == pytest.approx(wealth["hand"].iloc[-1] - 1, rel=1e-12)
    assert year["hand", "turnover"] * 252 / len(daily) == pytest.approx(measured["hand", "turnover"], rel=1e-12)
    found = read["comparisons"].set_index(["strategy", "baseline", "name"])["value"]
    assert set(found.index.droplevel("name")) == {("hand", "equal_weight")}
    excess = daily - COSTS.cash_rate / 252
    ratio = excess.mean() / excess.std() * 252**0.5
    gap = ratio["hand"] - ratio["equal_weight"]
    assert found["hand", "equal_weight", "sharpe_difference"] == pytest.approx(gap, rel=1e-9)
    parts = [value for (name, part), value in measured.items() if name == "hand" and part.startswith("fitness_")]
    assert len(parts) == 7
    assert abs(sum(parts) - measured["hand", "fitness"]) <= 1e-12
    (trial,) = tables.read(market.store, "trials").to_pylist()
    assert (trial["family"], trial["start_date"]) == ("hand", wealth.index[0])
    assert trial["daily_sharpe"] == pytest.approx(ratio["hand"] / 252**0.5, rel=1e-9)


@pytest.mark.parametrize("lag", [0, 1])
def test_returns_are_split_by_the_regime_in_which_they_were_decided(market, lag):
    panel = market.panel(market.bars(count=700))
    config = replace(COSTS, lag=lag)
    months = [f"2017-{month:02}" for month in range(1, 10)]
    put(market, panel, {name: {"hand": PLANS[0]} for name in months}, config=config)
    wealth, _, _, key = result(market, panel)
    read = tables.read(market.store, "periods", key=key, kind="regime").to_pandas()
    loaded, daily = panels.load(market.store, panel), wealth["hand"].pct_change().iloc[1:]
    moments = [m for m in panels.moments(market.store, panel) if m.month in months]
    known = regimes.at(loaded.market, np.array([loaded.at(m.as_of) for m in moments])).regime
    traded = [m.rebalance_date if lag else m.as_of for m in moments]
    own = [known[max(sum(day < session for day in traded) - 1, 0)] for session in daily.index]
    expected = (1 + daily).groupby(own).prod() - 1
    found = read[read["name"] == "return"].set_index("period")["value"]
    assert len(found) > 1
    for place, value in expected.items():
        assert found[regimes.NAMES[place]] == pytest.approx(value, rel=1e-12)
    assert set(read["name"]) == {"sessions", "return", "volatility", "sharpe"}


def test_the_weights_of_the_fitness_score_are_those_of_the_newest_parameters(market):
    panel = market.panel()
    made = {"accounting": asdict(COSTS), "fitness": {"factor_weight": 2.0, "factor_targets": "market=1"}}
    put(market, panel, {"2016-01": {"hand": PLANS[0]}}, parameters=made)
    _, _, measured, _ = result(market, panel)
    loaded = panels.load(market.store, panel)
    wealth = tables.read(market.store, "wealth").sort_by("session").to_pandas()["wealth"].to_numpy()
    excess = np.diff(wealth) / wealth[:-1] - COSTS.cash_rate / 252
    beta = np.polyfit(loaded.market[-excess.size :], excess, 1)[0]
    assert measured["hand", "fitness_factors"] == pytest.approx(-2 * abs(beta - 1), rel=1e-6)
