"""Decisions: trades from drifted holdings, and a ledger that only ever grows, with reasons."""

from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from storage import ledger, tables
from storage.errors import InputError
from storage.keys import PanelKey
from storage.schemas import CASH
from storage.universe import Member
from tasks import decide, panels
from tasks.numerics.configs import AccountingConfig

FREE = AccountingConfig(cost=0.001, cash_rate=0.0)
MADE = {"parameters": {}, "code": {"tasks.one": "a", "tasks.two": "a"}, "versions": {"numpy": "1"}}


class Book:
    """Months of one scenario, decided from weights written by hand."""

    def __init__(self, market, panel=None):
        self.market, self.store = market, market.store
        self.panel = panel or market.panel()

    def moments(self, month):
        """The moment of a month or a day, and the one before it."""
        found = panels.moments(self.store, self.panel, "D" if len(month) > 7 else "M")
        return next((moment, before) for before, moment in pairwise(found) if moment.month == month)

    def moment(self, month):
        return self.moments(month)[0]

    def month(self, month, weights, **others):
        """A month as the flows would hand it on; weights of one strategy, or of several by name."""
        moment, before = self.moments(month)
        several = weights if isinstance(next(iter(weights.values())), dict) else {"hand": weights}
        keys = {}
        for name, held in several.items():
            keys[name] = f"{moment.prefix} {name} {sorted(held.items())}"
            self.market.put_weights(keys[name], moment, name, held.items())
        values = {"kind": "backfill", "accounting": FREE, "made_of": MADE, "follows": before.rebalance_date} | others
        return decide.Month(moment, forecasts=None, model=None, weights=tuple(sorted(keys.items())), **values)

    def decide(self, *months):
        self.decided = decide.decide.fn(self.panel, "main", months)
        return list(self.decided.new)

    def records(self, month=None):
        entries = ledger.read(self.store, "main")
        return [entry for entry in entries if month in (None, f"{entry.rebalance_date:%Y-%m}")]

    def trades(self, entry, strategy="hand"):
        rows = tables.read(self.store, "trades", key=entry.trades, strategy=strategy).to_pandas()
        return rows.set_index("ticker")["trade"].to_dict()

    def drifted(self, weights, begin, end, rate=0.0):
        """Weights of the close of `begin` at the close of `end`, from the bars."""
        loaded = panels.load(self.store, self.panel)
        rows = slice(loaded.at(begin) + 1, loaded.at(end) + 1)
        growth = dict(zip(loaded.universe.assets, np.prod(1 + loaded.returns[rows], axis=0), strict=True))
        sessions = rows.stop - rows.start
        held = {ticker: weight * growth[ticker] for ticker, weight in weights.items() if ticker != CASH}
        cash = (1 - sum(w for t, w in weights.items() if t != CASH)) * (1 + rate / 252) ** sessions
        return {ticker: value / (sum(held.values()) + cash) for ticker, value in held.items()}


@pytest.fixture
def book(market):
    return Book(market)


ONE = {"A": 0.5, "B": 0.3, CASH: 0.2}
TWO = {"B": 0.25, "C": 0.75}


def test_the_first_month_starts_from_cash(book):
    assert book.decide(book.month("2016-01", ONE)) == ["2016-01"]
    [entry] = book.records()
    assert book.trades(entry) == {"A": 0.5, "B": 0.3}
    assert (entry.revision, entry.kind, entry.advisory, entry.record["holdings"]) == (0, "backfill", False, [])
    rows = tables.read(book.store, "trades", key=entry.trades).to_pandas()
    np.testing.assert_allclose(rows["cost"], 0.001 * rows["trade"].abs(), rtol=1e-15)
    assert set(rows["rebalance_date"]) == {date(2016, 1, 4)}


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_trades_go_from_the_drifted_holdings_to_the_target(book, rate):
    costs = replace(FREE, cash_rate=rate)
    book.decide(book.month("2016-01", ONE, accounting=costs), book.month("2016-02", TWO, accounting=costs))
    drifted = book.drifted(ONE, date(2016, 1, 4), date(2016, 1, 29), rate)
    expected = {"A": -drifted["A"], "B": 0.25 - drifted["B"], "C": 0.75}
    assert book.trades(book.records()[1]) == pytest.approx(expected, abs=1e-13)


def delisted_in(market, days, cash=None):
    """A panel in which assets are delisted on days, on which they have had no bars for a week, and cash earns rates."""
    bars, members = market.bars(), [Member(ticker) for ticker in "ABCDE"]
    for ticker, day in days.items():
        bars = bars[(bars["ticker"] != ticker) | (bars["session"] < pd.Timestamp(day) - pd.Timedelta(7, "D"))]
    if cash is not None:
        bars = pd.concat([bars, market.bars("A").assign(ticker="RF", close=cash, basis="rate")])
        members.append(Member("RF", role="risk_free"))
    return market.panel(bars, members, delisted=days)


def test_a_holding_whose_asset_was_delisted_has_become_cash(market):
    # that of A comes after the as-of date
    book = Book(market, delisted_in(market, {"B": date(2016, 1, 20), "A": date(2016, 2, 8)}))
    costs = AccountingConfig(cost=0.01, cash_rate=0.0, delisting_haircut=0.4)
    book.decide(book.month("2016-01", ONE, accounting=costs), book.month("2016-02", TWO, accounting=costs))
    kept = panels.load(market.store, book.panel)
    rows = slice(kept.at(date(2016, 1, 4)) + 1, kept.at(date(2016, 1, 29)) + 1)
    growth = np.prod(1 + kept.returns[rows], axis=0)
    a, b = 0.5 * growth[0], 0.3 * growth[1] * 0.6 * 0.99
    assert book.trades(book.records()[1]) == pytest.approx({"A": -a / (a + b + 0.2), "B": 0.25, "C": 0.75}, abs=1e-13)


def test_a_weight_of_an_asset_that_was_delisted_by_its_trade_is_cash(market):
    book = Book(market, delisted_in(market, {"B": date(2016, 1, 4)}))
    book.decide(book.month("2016-01", ONE), book.month("2016-02", {CASH: 1.0}))
    drifted = book.drifted({"A": 0.5, CASH: 0.5}, date(2016, 1, 4), date(2016, 1, 29))
    assert book.trades(book.records()[1]) == pytest.approx({"A": -drifted["A"]}, abs=1e-13)


def test_cash_earns_the_series_of_rates_between_two_months(market):
    days = pd.to_datetime(market.days())
    rates = np.where((days > "2016-01-04") & (days <= "2016-01-29"), 0.01, 0.5)
    book = Book(market, delisted_in(market, {}, rates))
    book.decide(book.month("2016-01", ONE), book.month("2016-02", TWO))
    drifted = book.drifted(ONE, date(2016, 1, 4), date(2016, 1, 29), 2.52)
    assert book.trades(book.records()[1])["A"] == pytest.approx(-drifted["A"], abs=1e-13)


def test_with_lag_0_holdings_drift_from_the_as_of_date_on(book):
    costs = replace(FREE, lag=0)
    book.decide(book.month("2016-01", ONE, accounting=costs), book.month("2016-02", TWO, accounting=costs))
    drifted = book.drifted(ONE, date(2015, 12, 31), date(2016, 1, 29))
    assert book.trades(book.records()[1])["A"] == pytest.approx(-drifted["A"], abs=1e-13)


def test_trades_are_the_same_whether_months_are_decided_together_or_one_by_one(book, market):
    months = [("2016-01", ONE), ("2016-02", TWO), ("2016-03", ONE)]
    for name, weights in months:
        book.decide(book.month(name, weights))
    apart = [entry.content_hash for entry in book.records()]
    decide.decide.fn(book.panel, "other", tuple(book.month(*month) for month in months))
    assert [entry.content_hash for entry in ledger.read(book.store, "other")] == apart
    assert ledger.broken(book.store, "main") is None


def test_every_strategy_drifts_by_itself(book):
    book.decide(book.month("2016-01", {"x": ONE, "y": TWO}), book.month("2016-02", {"x": ONE, "y": TWO, "z": ONE}))
    entry = book.records()[1]
    begin, end = date(2016, 1, 4), date(2016, 1, 29)
    assert book.trades(entry, "x")["A"] == pytest.approx(0.5 - book.drifted(ONE, begin, end)["A"], abs=1e-13)
    assert book.trades(entry, "y")["C"] == pytest.approx(0.75 - book.drifted(TWO, begin, end)["C"], abs=1e-13)
    assert book.trades(entry, "z") == {"A": 0.5, "B": 0.3}


def test_a_month_after_a_gap_starts_from_cash(book):
    book.decide(book.month("2016-01", ONE), book.month("2016-03", TWO))
    assert book.trades(book.records("2016-03")[0]) == TWO


def test_january_follows_december(book):
    book.decide(book.month("2015-12", ONE), book.month("2016-01", ONE))
    assert book.trades(book.records()[1])["A"] != 0.5


def test_every_session_starts_from_the_one_before_it(book):
    book.decide(book.month("2016-01-28", ONE), book.month("2016-01-29", TWO))
    book.decide(book.month("2016-02-01", ONE), book.month("2016-02-03", TWO))
    first, second, third, fourth = book.records()
    drifted = book.drifted(ONE, date(2016, 1, 28), date(2016, 1, 28))
    assert book.trades(second)["A"] == pytest.approx(-drifted["A"], abs=1e-13)
    drifted = book.drifted(TWO, date(2016, 1, 29), date(2016, 1, 29))
    assert book.trades(third)["C"] == pytest.approx(-drifted["C"], abs=1e-13)
    assert [entry.record["follows"] for entry in book.records()[1:3]] == ["2016-01-28", "2016-01-29"]
    assert second.record["holdings"] == list(first.weights)
    assert book.trades(fourth) == TWO  # the session before it was not decided


def test_a_date_starts_from_the_one_that_it_follows_however_long_ago(book):
    book.decide(book.month("2016-01", ONE), book.month("2016-02", TWO))
    book.decide(book.month("2016-04", ONE, follows=date(2016, 1, 4)))
    drifted = book.drifted(ONE, date(2016, 1, 4), date(2016, 3, 31))
    assert book.trades(book.records("2016-04")[0])["A"] == pytest.approx(0.5 - drifted["A"], abs=1e-13)
    assert book.records("2016-04")[0].record["follows"] == "2016-01-04"


def test_the_first_date_of_all_follows_none(book):
    book.decide(book.month("2016-01", ONE, follows=None))
    assert book.records()[0].record["follows"] is None
    assert book.trades(book.records()[0]) == {"A": 0.5, "B": 0.3}


def test_a_strategy_that_no_longer_holds_anything_sells_what_it_held(book):
    book.decide(book.month("2016-01", {"x": ONE, "y": TWO}), book.month("2016-02", {"x": ONE, "y": {}}))
    drifted = book.drifted(TWO, date(2016, 1, 4), date(2016, 1, 29))
    expected = {ticker: -weight for ticker, weight in drifted.items()}
    assert book.trades(book.records()[1], "y") == pytest.approx(expected, abs=1e-13)


def test_a_month_in_cash_is_recorded_without_trades(book):
    assert book.decide(book.month("2016-01", {CASH: 1.0})) == ["2016-01"]
    assert book.trades(book.records()[0]) == {}


def test_an_unchanged_month_is_not_recorded_again(book):
    months = book.month("2016-01", ONE), book.month("2016-02", TWO)
    assert book.decide(*months) == ["2016-01", "2016-02"]
    assert book.decide(*months) == []
    assert len(book.records()) == 2


def first(monkeypatch, another):
    """Let another run decide after this one has looked at the ledger, and before it appends."""
    append = ledger.append

    def late(*arguments, **others):
        monkeypatch.setattr(ledger, "append", append)
        another()
        return append(*arguments, **others)

    monkeypatch.setattr(ledger, "append", late)


def test_two_runs_that_decide_a_month_at_once_record_it_once(book, monkeypatch):
    month = book.month("2016-03", ONE)
    first(monkeypatch, lambda: book.decide(month))
    assert book.decide(month) == []
    assert len(book.records()) == 1


def test_a_month_that_another_run_publishes_meanwhile_stays_published(book, monkeypatch):
    published = book.month("2016-03", ONE, kind="published")
    first(monkeypatch, lambda: book.decide(published))
    book.decide(book.month("2016-03", TWO))
    assert [(entry.kind, entry.advisory) for entry in book.records()] == [("published", False), ("backfill", True)]


def test_a_published_month_is_never_rewritten_and_gets_one_advisory(book):
    book.decide(book.month("2016-01", ONE, kind="published"))
    for _ in range(2):
        book.decide(book.month("2016-01", TWO))
    book.decide(book.month("2016-01", ONE, kind="published"))
    first, advisory = book.records()
    assert (first.kind, first.advisory, advisory.advisory, advisory.revision) == ("published", False, True, 0)
    assert ledger.current(book.store, "main")[date(2016, 1, 4)] == first
    # the next month starts from what was published
    book.decide(book.month("2016-01", TWO), book.month("2016-02", ONE))
    drifted = book.drifted(ONE, date(2016, 1, 4), date(2016, 1, 29))
    assert book.trades(book.records("2016-02")[0])["A"] == pytest.approx(0.5 - drifted["A"], abs=1e-13)


def test_each_published_month_is_said_to_be_identical_or_why_it_is_not(book):
    book.decide(book.month("2016-01", ONE, kind="published"), book.month("2016-02", TWO))
    assert book.decided.published == ()
    book.decide(book.month("2016-01", ONE), book.month("2016-02", TWO))
    assert book.decided.published == (("2016-01", "identical"),)
    for _ in range(2):  # the advisory is kept once and said each time
        book.decide(book.month("2016-01", TWO, made_of=MADE_OF["libraries: numpy"]))
        assert book.decided.published == (("2016-01", "libraries: numpy"),)
    book.decide(book.month("2016-01", ONE))
    assert book.decided.published == (("2016-01", "identical"),)
    assert [entry.advisory for entry in book.records()] == [False, False, True]


def test_an_amended_month_is_published_anew_for_what_changed_and_the_reason_given(book):
    book.decide(book.month("2016-01", ONE, kind="published"), book.month("2016-02", ONE))
    other = {"made_of": MADE_OF["libraries: numpy"], "kind": "published"}
    book.decide(book.month("2016-01", TWO, made_of=MADE_OF["libraries: numpy"]))  # an advisory
    amended = book.month("2016-01", TWO, amend="a mistake", **other)
    assert book.decide(amended, book.month("2016-02", ONE)) == ["2016-01", "2016-02"]
    first, _, _, made, after = book.records()
    assert (made.kind, made.revision, made.advisory) == ("published", 1, False)
    assert made.reason == "libraries: numpy; amended: a mistake"
    assert (after.revision, after.record["holdings"]) == (1, list(made.weights))
    drifted = book.drifted(TWO, date(2016, 1, 4), date(2016, 1, 29))
    assert book.trades(after)["C"] == pytest.approx(-drifted["C"], abs=1e-13)
    assert ledger.current(book.store, "main")[date(2016, 1, 4)] == made
    assert ledger.broken(book.store, "main") is None
    assert book.records()[0] == first


@pytest.mark.parametrize("kind", ["backfill", "published"])
def test_an_amendment_that_changes_nothing_is_refused_and_appends_nothing(book, kind):
    book.decide(book.month("2016-01", ONE, kind=kind))
    with pytest.raises(InputError, match="2016-01 would be decided as it stands"):
        book.decide(book.month("2016-01", ONE, amend="why"), book.month("2016-02", TWO))
    assert len(book.records()) == 1


def test_a_backfilled_month_that_is_amended_is_published(book):
    book.decide(book.month("2016-01", ONE))
    book.decide(book.month("2016-01", TWO, amend="why"))
    assert [(entry.kind, entry.revision) for entry in book.records()] == [("backfill", 0), ("published", 1)]


def test_a_backfilled_month_can_be_published_once(book):
    book.decide(book.month("2016-01", ONE))
    assert book.decide(book.month("2016-01", ONE, kind="published")) == ["2016-01"]
    assert book.decide(book.month("2016-01", ONE, kind="published")) == []
    assert [(entry.kind, entry.revision, entry.reason) for entry in book.records()] == [
        ("backfill", 0, None),
        ("published", 0, "published"),
    ]


MADE_OF = {
    "code: tasks.two": {**MADE, "code": {"tasks.one": "a", "tasks.two": "b"}},
    "libraries: numpy": {**MADE, "versions": {"numpy": "2"}},
    "the rebalance date before was decided differently": MADE,
    "code: tasks.one, tasks.new; libraries: torch": {
        **MADE, "code": {"tasks.one": "b", "tasks.new": "a"}, "versions": {"numpy": "1", "torch": "1"},
    },
}  # fmt: skip


@pytest.mark.parametrize("reason", MADE_OF)
def test_a_changed_backfill_gets_a_revision_with_its_cause(book, reason):
    book.decide(book.month("2016-01", ONE))
    assert book.decide(book.month("2016-01", TWO, made_of=MADE_OF[reason])) == ["2016-01"]
    assert [(entry.revision, entry.reason) for entry in book.records()] == [(0, None), (1, reason)]
    assert ledger.current(book.store, "main")[date(2016, 1, 4)].revision == 1


def test_new_code_that_changes_nothing_appends_nothing(book):
    book.decide(book.month("2016-01", ONE))
    assert book.decide(book.month("2016-01", ONE, made_of=MADE_OF["code: tasks.two"])) == []


def test_restated_data_change_the_trades_and_are_named(book, market):
    book.decide(book.month("2016-01", ONE), book.month("2016-02", TWO))
    bars = market.bars()
    bars.loc[bars.index[(bars["ticker"] == "A") & (bars["session"] >= "2016-01-14")], ["close", "adj_close"]] *= 1.05
    later = Book(market, PanelKey(market.take(bars), book.panel.universe))
    assert later.decide(later.month("2016-01", ONE), later.month("2016-02", TWO)) == ["2016-02"]
    entry = later.records("2016-02")[-1]
    assert entry.revision == 1
    assert entry.reason.startswith("data: ")
    assert entry.reason.endswith("restated from 2016-01")
    drifted = later.drifted(ONE, date(2016, 1, 4), date(2016, 1, 29))
    assert later.trades(entry)["A"] == pytest.approx(-drifted["A"], abs=1e-13)


def test_a_delisting_that_is_learned_later_is_named(market):
    bars = market.bars()
    book = Book(market, market.panel(bars[(bars["ticker"] != "B") | (bars["session"] < "2016-01-14")]))
    book.decide(book.month("2016-01", ONE), book.month("2016-02", TWO))
    later = Book(market, delisted_in(market, {"B": date(2016, 1, 21), "A": date(2016, 2, 9)}))
    assert later.decide(later.month("2016-01", ONE), later.month("2016-02", TWO)) == ["2016-02"]
    assert later.records("2016-02")[-1].reason == "data: delisting of B"


def test_after_a_change_of_universe_the_old_holdings_drift_by_their_own_prices(book, market):
    bars = pd.concat([market.bars(), market.bars("YZ")])
    old = Book(market, PanelKey(market.take(bars), book.panel.universe))
    old.decide(old.month("2016-01", ONE))
    new = Book(market, replace(old.panel, universe=market.universe("YZ")))
    new.decide(new.month("2016-02", {"Y": 0.5, "Z": 0.5}))
    drifted = old.drifted(ONE, date(2016, 1, 4), date(2016, 1, 29))
    entry = new.records("2016-02")[0]
    expected = {"A": -drifted["A"], "B": -drifted["B"], "Y": 0.5, "Z": 0.5}
    assert new.trades(entry) == pytest.approx(expected, abs=1e-13)
    assert entry.record["universe"] == new.panel.universe


def test_a_record_says_what_the_month_was_made_from(book):
    book.decide(book.month("2016-01", ONE), book.month("2016-02", TWO))
    entry = book.records()[1]
    assert entry.record["prefix"] == book.moment("2016-02").prefix
    assert entry.record["holdings"] == list(book.records()[0].weights)
    assert entry.record["known_at"] == "2020-01-01T00:00:00"
    assert entry.record["left_out"] == {}
    assert entry.record["code"] == MADE["code"]
    assert entry.record["machine"]["processor"]


def standing(book, entry, strategy="hand"):
    """Weights that a record says, without cash."""
    rows = tables.read(book.store, "weights", key=list(entry.weights), strategy=strategy).to_pylist()
    return {row["ticker"]: row["weight"] for row in rows if row["ticker"] != CASH}


def test_a_held_month_trades_nothing_and_what_was_held_stands(book):
    book.decide(book.month("2016-01", ONE, kind="published"))
    book.decide(book.month("2016-02", TWO, kind="held", publication={"said": "rejected"}))
    entry = book.records()[1]
    drifted = book.drifted(ONE, date(2016, 1, 4), date(2016, 1, 29))
    assert standing(book, entry) == pytest.approx(drifted, abs=1e-13)
    assert book.trades(entry) == {}
    assert (entry.kind, entry.is_final, entry.record["publication"]) == ("held", True, {"said": "rejected"})
    assert entry.record["holdings"] == list(book.records()[0].weights)


def test_trades_after_held_months_start_from_what_was_held_through_them(book):
    months = [book.month("2016-01", ONE), *(book.month(name, TWO, kind="held") for name in ("2016-02", "2016-03"))]
    book.decide(*months, book.month("2016-04", TWO))
    drifted = book.drifted(ONE, date(2016, 1, 4), date(2016, 3, 31))
    expected = {"A": -drifted["A"], "B": 0.25 - drifted["B"], "C": 0.75}
    assert book.trades(book.records()[3]) == pytest.approx(expected, abs=1e-13)
    assert book.records()[3].record["follows"] == "2016-03-01"


def test_a_first_month_that_is_held_stays_in_cash(book):
    book.decide(book.month("2016-01", ONE, kind="held"), book.month("2016-02", ONE))
    assert standing(book, book.records()[0]) == {}
    assert book.trades(book.records()[1]) == {"A": 0.5, "B": 0.3}


def test_a_held_month_is_never_rewritten_whoever_decides_it_again(book, market):
    book.decide(book.month("2016-01", ONE, kind="published"), book.month("2016-02", TWO, kind="held"))
    assert book.decide(book.month("2016-01", ONE), book.month("2016-02", TWO)) == []
    assert dict(book.decided.published) == {"2016-01": "identical", "2016-02": "identical"}
    bars = market.bars()
    bars.loc[bars.index[(bars["ticker"] == "A") & (bars["session"] >= "2016-01-14")], ["close", "adj_close"]] *= 1.05
    later = Book(market, PanelKey(market.take(bars), book.panel.universe))
    assert later.decide(later.month("2016-02", TWO, kind="published")) == ["2016-02"]
    held, advisory = later.records("2016-02")
    assert (held.kind, held.advisory, advisory.kind, advisory.advisory) == ("held", False, "held", True)
    assert ledger.current(book.store, "main")[date(2016, 2, 1)] == held


def test_a_person_may_publish_a_held_month_after_all(book):
    book.decide(book.month("2016-01", ONE, kind="published"), book.month("2016-02", TWO, kind="held"))
    assert book.decide(book.month("2016-02", TWO, amend="looked at it")) == ["2016-02"]
    made = book.records("2016-02")[-1]
    assert (made.kind, made.revision, made.reason.endswith("amended: looked at it")) == ("published", 1, True)
    assert standing(book, made) == {"B": 0.25, "C": 0.75}


def test_a_backfilled_month_that_is_held_before_its_close_is_held(book):
    book.decide(book.month("2016-01", ONE), book.month("2016-02", TWO))
    assert book.decide(book.month("2016-02", TWO, kind="held")) == ["2016-02"]
    assert [entry.kind for entry in book.records("2016-02")] == ["backfill", "held"]


def test_holdings_of_an_older_universe_are_held_and_sold_by_their_own_prices(book, market):
    bars = pd.concat([market.bars(), market.bars("YZ")])
    old = Book(market, PanelKey(market.take(bars), book.panel.universe))
    old.decide(old.month("2016-01", ONE))
    new = Book(market, replace(old.panel, universe=market.universe("YZ")))
    new.decide(new.month("2016-02", {"Y": 1.0}, kind="held"))
    new.decide(new.month("2016-03", {"Y": 1.0}))
    drifted = old.drifted(ONE, date(2016, 1, 4), date(2016, 2, 29))
    assert standing(old, new.records("2016-02")[0]).keys() == {"A", "B"}
    expected = {"A": -drifted["A"], "B": -drifted["B"], "Y": 1.0}
    assert new.trades(new.records("2016-03")[0]) == pytest.approx(expected, abs=1e-13)
