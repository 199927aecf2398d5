"""The scheduled run decides on the session that is due and over, and makes up for what was missed."""

from datetime import date, datetime, timedelta
from types import SimpleNamespace

import pytest

from flows import freshness
from flows import parameters as forms
from flows.lines import Line, Segment
from flows.monthly import monthly_rebalance
from storage import clock, ledger, universe
from storage.errors import InputError, SourceError
from storage.keys import Moment, PanelKey
from tasks import calendars


@pytest.mark.parametrize(
    ("now", "rebalance", "session"),
    [
        (datetime(2024, 5, 1, 10, 0), "M", date(2024, 4, 30)),  # in the morning of the first session
        (datetime(2024, 5, 31, 20, 29), "M", date(2024, 4, 30)),  # its bar is not final yet
        (datetime(2024, 5, 31, 20, 31), "M", date(2024, 5, 31)),  # a Friday
        (datetime(2027, 1, 1, 11, 0), "M", date(2026, 12, 31)),  # on a holiday
        (datetime(2024, 5, 20, 12, 0), "Q", date(2024, 3, 28)),  # the last before Good Friday
        (datetime(2024, 5, 20, 12, 0), "D", date(2024, 5, 17)),
        (datetime(2024, 5, 20, 12, 0), "M+12", date(2024, 5, 16)),
        (datetime(2024, 5, 20, 12, 0), "M+13", date(2024, 5, 17)),
        (datetime(2024, 5, 20, 12, 0), "M+14", date(2024, 4, 18)),
        (datetime(2024, 3, 5, 12, 0), "M+20", date(2024, 2, 28)),  # February has 20 sessions, and one after the 28th
        (datetime(2024, 4, 29, 12, 0), "Q+20", date(2024, 4, 26)),
    ],
)
def test_the_session_that_is_due(now, rebalance, session):
    assert calendars.due("XNYS", now, timedelta(minutes=30), rebalance) == session


@pytest.fixture
def line(monkeypatch, store):
    """A line of New York whose prices are whatever a test says."""

    monkeypatch.setattr(universe, "load", lambda *_: SimpleNamespace(exchange="XNYS"))
    return Line("main", (Segment(None, forms.make({}), PanelKey("", "")),), None)


def moment(as_of, day):
    return Moment(day, as_of, "prefix")


def test_an_open_session_is_refused_with_its_end(line, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: datetime(2024, 4, 30, 15, 0))
    with pytest.raises(InputError, match=r"2024-04-30 is not over, .* run it again after 2024-04-30 20:00 UTC"):
        freshness.check(line, moment(date(2024, 4, 30), date(2024, 5, 1)), False)
    monkeypatch.setattr(clock, "now", lambda: datetime(2024, 4, 30, 20, 0))
    freshness.check(line, moment(date(2024, 4, 30), date(2024, 5, 1)), True)


def test_prices_that_end_too_early_are_refused_where_it_matters(line, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: datetime(2024, 5, 1, 10, 0))
    late = moment(date(2024, 3, 28), date(2024, 4, 1))
    freshness.check(line, late, False)
    with pytest.raises(SourceError, match="decision on the session 2024-03-28, and one is due on 2024-04-30"):
        freshness.check(line, late, True)


@pytest.mark.flow
@pytest.mark.long
def test_a_run_a_month_late_fills_the_missed_month_and_publishes_the_newest(
    store, quick, prices, written, tmp_path, monkeypatch
):
    first = written(prices[:"2017-10-31"], tmp_path / "october.csv")
    monkeypatch.setattr(clock, "now", lambda: datetime(2017, 11, 1, 11, 0))
    monthly_rebalance(parameters=quick, path=first, months=1, due=True)
    later = written(prices, tmp_path / "december.csv")
    monkeypatch.setattr(clock, "now", lambda: datetime(2018, 1, 2, 11, 0))
    with pytest.raises(SourceError, match="one is due on 2017-12-29"):
        monthly_rebalance(path=first, due=True)
    assert monthly_rebalance(path=later, months=3, due=True)["decided"] == ["2017-12", "2018-01"]
    kinds = {day: entry.kind for day, entry in ledger.current(store, "main").items()}
    assert kinds == {
        date(2017, 11, 1): "published",
        date(2017, 12, 1): "backfill",
        date(2018, 1, 2): "published",
    }
