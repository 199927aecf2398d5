"""What followed a forecast, in the asset's own sessions, and only where it was known."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from storage.universe import Member
from tasks import outcomes

HORIZON = 5


@pytest.fixture
def bars(market):
    """B has missed sessions, C begins late, D ends early."""
    rows = market.bars(count=200)
    missed = (rows["ticker"] == "B") & rows["session"].isin(pd.to_datetime(["2015-09-11", "2015-09-15", "2015-09-16"]))
    young = (rows["ticker"] == "C") & (rows["session"] < "2015-09-11")
    gone = (rows["ticker"] == "D") & (rows["session"] > "2015-09-16")
    return rows[~(missed | young | gone)]


def straight(bars, day, horizon, known_at):
    """The same by looking at each ticker's closes."""
    found = {}
    for ticker, own in bars.groupby("ticker"):
        closes = own.set_index("session")["close"]
        before, later = closes[closes.index <= str(day)], closes[closes.index > str(day)].head(horizon)
        if len(before) and len(later) == horizon and later.index[-1] <= pd.Timestamp(known_at):
            found[ticker] = np.log(later.iloc[-1] / before.iloc[-1])
    return found


@pytest.mark.parametrize("known_at", [date(2015, 9, 16), date(2015, 9, 17), date(2015, 9, 21), date(2015, 12, 1)])
@pytest.mark.parametrize("day", [date(2015, 9, 9), date(2015, 9, 10), date(2015, 9, 11), date(2015, 9, 13)])
@pytest.mark.parametrize("horizon", [1, HORIZON])
def test_outcomes_are_the_growth_of_the_close_over_the_next_own_sessions(market, bars, day, horizon, known_at):
    found = outcomes.after(market.load(bars), day, horizon, known_at)
    expected = straight(bars, day, horizon, known_at)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_an_asset_that_missed_sessions_is_waited_for_and_one_that_has_none_is_absent(market, bars):
    panel, day = market.load(bars), date(2015, 9, 10)
    assert set(outcomes.after(panel, day, HORIZON, date(2015, 9, 16))) == set()
    # C had no bar on the day and D none after four; B is three sessions behind
    assert set(outcomes.after(panel, day, HORIZON, date(2015, 9, 17))) == {"A", "E"}
    assert set(outcomes.after(panel, day, HORIZON, date(2015, 9, 21))) == {"A", "E"}
    assert set(outcomes.after(panel, day, HORIZON, date(2015, 9, 22))) == {"A", "B", "E"}
    assert set(outcomes.after(panel, day, 4, date(2015, 12, 1))) == {"A", "B", "D", "E"}


def test_what_comes_after_it_was_known_changes_nothing(market, bars):
    day, known_at = date(2015, 9, 10), date(2015, 9, 18)
    later = bars.assign(close=bars["close"].where(bars["session"] <= str(known_at), bars["close"] * 1.5))
    later = later.assign(adj_close=later["close"])
    one, other = market.load(bars), market.load(later)
    assert outcomes.after(one, day, HORIZON, known_at) == outcomes.after(other, day, HORIZON, known_at)
    assert outcomes.after(one, day, HORIZON, date(2015, 9, 22)) != outcomes.after(
        other, day, HORIZON, date(2015, 9, 22)
    )


def test_every_row_has_the_outcome_that_follows_its_asset_s_last_bar(market, bars):
    panel, known_at = market.load(bars), date(2015, 11, 2)
    sessions = panel.sessions[140:175].astype("datetime64[s]")
    rows = pd.DataFrame([(t, day) for day in sessions for t in "DAB"], columns=["ticker", "session"])
    found = outcomes.of_rows(panel, rows, HORIZON, known_at)
    expected = [
        straight(bars, row.session.date(), HORIZON, known_at).get(row.ticker, np.nan) for row in rows.itertuples()
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)
    assert 0 < np.isnan(expected).sum() < len(rows) / 2


def test_two_bars_that_become_known_in_one_session_are_both_behind_it(market):
    tokyo = market.bars("T", 200, "XTKS")
    both = pd.concat([market.bars("A", 200), tokyo], ignore_index=True)
    panel = market.load(both, [Member("A"), Member("T", exchange="XTKS")])
    days = panel.series["T"].day
    doubled = days[1:][days[1:] == days[:-1]]
    assert doubled.size  # a holiday in New York
    rows = pd.DataFrame({"ticker": "T", "session": doubled.astype("datetime64[s]")})
    closes = np.log(tokyo["close"].to_numpy())
    for day, found in zip(doubled, outcomes.of_rows(panel, rows, HORIZON, date(2016, 1, 4)), strict=True):
        last = int(np.searchsorted(days, day, side="right")) - 1
        if last + HORIZON < len(closes) and np.isfinite(found):
            assert found == pytest.approx(closes[last + HORIZON] - closes[last], rel=1e-9)
            break
    else:
        pytest.fail("no outcome was known")
