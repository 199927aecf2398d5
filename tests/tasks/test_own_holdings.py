"""Imported holdings: kept once, refused where they break a rule, and where the trades of a date start from."""

from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from storage import catalog, ledger, tables
from storage.errors import InputError, NoDataError
from storage.keys import PanelKey
from storage.universe import Member
from tasks import decide, own_holdings, panels
from tasks.numerics import impact
from tasks.numerics.configs import AccountingConfig

MADE = {"parameters": {}, "code": {}, "versions": {}}
FREE = AccountingConfig(cost=0.001, cash_rate=0.0)
DAY = date(2016, 1, 20)


@pytest.fixture
def take(market, tmp_path):
    """Imports a text as the holdings of a day."""

    def make(text, day=DAY, scenario="main"):
        path = tmp_path / "mine.csv"
        path.write_text("ticker,shares\n" + text)
        return own_holdings.take(market.store, scenario, path, day)

    return make


@pytest.fixture
def panel(market):
    return market.panel()


def test_an_import_is_kept_once_and_a_later_one_of_the_date_takes_its_place(market, panel, take):
    first, new = take("A,10.5\n$CASH,100\n")
    assert new
    assert first.shares == {"A": 10.5, "$CASH": 100.0}
    assert take("$CASH,100\nA,10.5\n") == (first, False)
    second, _ = take("A,11\n")
    other, _ = take("B,5\n", date(2016, 1, 4))
    known = own_holdings.history(market.store, "main")
    assert [entry.holdings for entry in known] == [first.holdings, second.holdings, other.holdings]
    assert own_holdings.newest(known) == known[1]
    again, new = take("A,10.5\n$CASH,100\n")  # back to the first
    assert (again.holdings, new) == (first.holdings, True)
    assert own_holdings.newest(own_holdings.history(market.store, "main")).holdings == first.holdings
    assert own_holdings.history(market.store, "other") == []
    rows = catalog.query(market.store, "main", "SELECT ticker, shares FROM holdings WHERE position = 0").to_pylist()
    assert rows == [{"ticker": "$CASH", "shares": 100.0}, {"ticker": "A", "shares": 10.5}]


REFUSED = {
    "": r"names nothing; give each ticker a line, and cash the ticker \$CASH",
    "A,1e13\n": "gives 1e\\+13 shares of A; 1e\\+12 is the most",
    "A,nan\n": "gives nan shares of A; give a number",
    "A,-3\n": r"are worth -[\d,.]+ on 2016-01-20; they must be worth more than 0",
    "A,0\n": "are worth 0.00 on 2016-01-20",
    "a,3\n": "names a, which has no prices in dataset test; did you mean A?",
    "QQQQ,3\n": "names QQQQ, which has no prices in dataset test; take it out",
    "Y,3\n": "names Y, which has no price up to 2016-01-20; take it out",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_holdings_that_cannot_be_are_refused_and_nothing_is_kept(market, take, text):
    young = market.bars("Y")
    market.take(pd.concat([market.bars(), young[young["session"] > "2016-02-01"]]))
    with pytest.raises(InputError, match=REFUSED[text]):
        take(text)
    assert tables.read(market.store, "holdings").num_rows == 0


def test_a_date_in_the_future_or_before_the_prices_is_refused(market, panel, take, monkeypatch):
    monkeypatch.setattr("storage.clock.now", lambda: datetime(2016, 2, 1, 12))
    for day, where in ((date(2016, 2, 2), "lies in the future"), (date(2015, 3, 1), "lies before the stored prices")):
        with pytest.raises(InputError, match=f"--date {day} {where}; give a date from 2015-03-02 to 2016-02-01"):
            take("A,1\n", day)


def test_without_prices_there_is_nothing_to_check_against(take):
    with pytest.raises(NoDataError, match="there are no prices to check holdings against"):
        take("A,1\n")


def entry(day, name="x"):
    return own_holdings.Holdings(name, day, {"A": 1.0}, datetime(2020, 1, 1))


def test_a_date_starts_from_the_newest_import_since_the_date_before_it():
    follows, as_of = date(2016, 2, 1), date(2016, 2, 29)
    start = own_holdings.start_of
    assert start([entry(follows)], follows, as_of) is None
    assert start([entry(date(2016, 3, 1))], follows, as_of) is None
    first, last = entry(date(2016, 2, 2)), entry(as_of)
    assert start([last, first], follows, as_of) is last
    assert start([first, last, entry(date(2016, 3, 1))], follows, as_of) is last
    assert start([first, replace(first, holdings="y")], follows, as_of).holdings == "y"
    assert start([first], None, as_of) is first
    assert start([entry(as_of)], as_of, as_of).date == as_of  # every session is traded


class Book:
    """Decides months of two strategies, of which `mine` is published."""

    def __init__(self, market, panel):
        self.market, self.store, self.panel = market, market.store, panel
        self.moments = list(panels.moments(market.store, panel))

    def decide(self, *names, kind="backfill", config=FREE):
        months = []
        for name in names:
            place = next(n for n, moment in enumerate(self.moments) if moment.month == name)
            moment, before = self.moments[place], self.moments[place - 1]
            keys = []
            for strategy, weights in (("mine", {"A": 0.5, "B": 0.5}), ("other", {"C": 1.0})):
                keys.append((strategy, f"{moment.prefix} {strategy}"))
                self.market.put_weights(keys[-1][1], moment, strategy, weights.items())
            values = {"kind": kind, "accounting": config, "made_of": MADE, "publish": "mine"}
            months.append(
                decide.Month(moment, before.rebalance_date, forecasts=None, model=None, weights=tuple(keys), **values)
            )
        return list(decide.decide.fn(self.panel, "main", tuple(months)).new)

    def trades(self, entry, strategy):
        rows = tables.read(self.store, "trades", key=entry.trades, strategy=strategy).to_pylist()
        return {row["ticker"]: row["trade"] for row in rows}

    def last(self):
        return ledger.read(self.store, "main")[-1]


def test_the_published_strategy_trades_from_what_is_held_the_others_from_their_own(market, panel, take):
    book = Book(market, panel)
    book.decide("2016-01", "2016-02")
    drifted = book.last()
    assert drifted.record["imported"] is None
    held, _ = take("A,30\nD,20\n$CASH,500\n")
    assert book.decide("2016-02") == ["2016-02"]
    made = book.last()
    close = market.bars().set_index(["ticker", "session"])["close"]
    day = pd.Timestamp("2016-01-29")
    value = {"A": 30 * close["A", day], "D": 20 * close["D", day]}
    wealth = sum(value.values()) + 500
    expected = {"A": 0.5 - value["A"] / wealth, "B": 0.5, "D": -value["D"] / wealth}
    assert book.trades(made, "mine") == pytest.approx(expected, abs=1e-14)
    assert book.trades(made, "other") == book.trades(drifted, "other")
    assert made.record["holdings"] == [held.holdings, *drifted.record["holdings"]]
    assert made.record["imported"] == {"holdings": held.holdings, "date": "2016-01-20"}
    assert (made.reason, made.revision) == ("holdings imported for 2016-01-20", 1)
    assert book.decide("2016-02") == []
    rows = catalog.query(market.store, "main", "SELECT holdings, holdings_date FROM decisions").to_pylist()
    assert rows == [{"holdings": None, "holdings_date": None}, {"holdings": held.holdings, "holdings_date": DAY}]


def test_the_month_after_starts_from_the_published_weights_again(market, panel, take):
    book = Book(market, panel)
    take("A,30\n")
    book.decide("2016-01", "2016-02", "2016-03")
    assert [bool(e.record["imported"]) for e in ledger.read(market.store, "main")] == [False, True, False]


def test_the_first_month_starts_from_what_is_held_too(market, panel, take):
    book = Book(market, panel)
    take("A,30\n")
    book.decide("2016-02")
    assert book.trades(book.last(), "mine") == {"A": -0.5, "B": 0.5}
    assert book.trades(book.last(), "other") == {"C": 1.0}


def test_a_published_month_keeps_the_start_it_was_decided_with(market, panel, take):
    book = Book(market, panel)
    take("A,30\n")
    book.decide("2016-02", kind="published")
    before = ledger.read(market.store, "main")
    take("B,30\n", date(2016, 1, 25))
    assert book.decide("2016-02", kind="published") == []
    assert ledger.read(market.store, "main") == before


def test_shares_are_counted_in_those_of_after_a_split(market, take):
    """Two for one on 2016-01-25, in as-traded closes: ten shares have become twenty."""
    bars = market.bars().assign(basis="traded")
    later = (bars["ticker"] == "A") & (bars["session"] >= "2016-01-25")
    bars.loc[later, "close"] /= 2
    bars.loc[(bars["ticker"] == "A") & (bars["session"] == "2016-01-25"), "split"] = 2.0
    panel = market.panel(bars)
    held, _ = take("A,10\n$CASH,1000\n")
    worth = own_holdings.valued(market.store, panel.snapshot, panel.universe, date(2016, 1, 29), held)
    close = bars.set_index(["ticker", "session"])["close"]["A"]
    assert worth.shares == {"A": 20.0, "$CASH": 1000.0}
    assert worth.wealth == pytest.approx(20 * close[pd.Timestamp("2016-01-29")] + 1000)
    after, _ = take("A,20\n", date(2016, 1, 26))
    assert own_holdings.valued(market.store, panel.snapshot, panel.universe, date(2016, 1, 29), after).shares == {
        "A": 20.0
    }
    before = own_holdings.valued(market.store, panel.snapshot, panel.universe, DAY, held)
    assert before.shares == {"A": 10.0, "$CASH": 1000.0}


def test_planned_trades_cost_what_their_size_says(market, panel, take):
    config = replace(FREE, costs="impact", capital=1e7)
    book = Book(market, panel)
    book.decide("2016-01", config=config)
    rows = tables.read(market.store, "trades", key=book.last().trades, strategy="mine").to_pylist()
    own = market.bars("A")
    own = own[own["session"] <= "2015-12-31"].reset_index(drop=True)
    change = own["close"].pct_change().to_numpy()
    high, low = (own[name].to_numpy() / own["close"].to_numpy() for name in ("high", "low"))
    half = impact.half_spread(impact.corwin_schultz(high, low, change), 21)[-1]
    volume = (own["close"] * own["volume"]).iloc[-21:].mean()
    expected = 0.5 * (half + change[-21:].std(ddof=1) * np.sqrt(5e6 / volume))
    assert next(row["cost"] for row in rows if row["ticker"] == "A") == pytest.approx(expected, rel=1e-9)


def test_holdings_are_valued_by_the_bars_of_an_alias(market):
    bars = market.bars("AB")
    members = [Member("NEW", aliases=("A",)), Member("B")]
    panel = PanelKey(market.take(bars), market.universe(members))
    worth = own_holdings.valued(
        market.store, panel.snapshot, panel.universe, DAY, replace(entry(DAY), shares={"NEW": 2.0})
    )
    assert worth.weights == {"NEW": 1.0}
