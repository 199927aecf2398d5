"""The diary of ingests: a ticker's last answer, and when a name counts as gone."""

from datetime import date, datetime

import pyarrow as pa
import pytest

from storage import ingests, tables
from storage.schemas import TABLES


@pytest.fixture
def note(store):
    """Write a row: ticker, outcome, day, hour."""

    def write(ticker, outcome, day, hour=12, full=None):
        row = {
            "run": f"{day}-{hour}",
            "dataset": "yahoo",
            "ticker": ticker,
            "outcome": outcome,
            "rows": 0,
            "detail": "",
        }
        row |= {"created_at": datetime(2024, 5, day, hour), "full": full}
        row |= dict.fromkeys(("verdict", "attempts", "requests", "first_session", "last_session", "payload"))
        tables.append(store, "ingests", pa.Table.from_pylist([row], TABLES["ingests"].schema))

    return write


def test_the_last_answer_counts_and_the_whole_history_is_remembered(store, note):
    note("A", "ok", 2, full=True)
    note("A", "network", 3)
    note("A", "up_to_date", 4)
    asked = ingests.newest(store, "yahoo")["A"]
    assert (asked.outcome, asked.at, asked.full_month) == ("network", datetime(2024, 5, 3, 12), "2024-05")


@pytest.mark.parametrize(
    ("outcomes", "gone"),
    [
        (["not_found"] * 2, {}),
        (["not_found"] * 3, {"A": date(2024, 5, 1)}),
        (["not_found", "network", "not_found", "rate_limited", "not_found"], {"A": date(2024, 5, 1)}),
        (["not_found", "not_found", "ok", "not_found", "not_found"], {}),
        (["not_found", "not_found", "not_found", "not_found"], {"A": date(2024, 5, 1)}),
        (["network"] * 5, {}),
    ],
)
def test_three_days_unknown_in_a_row_retire_a_ticker(store, note, outcomes, gone):
    for day, outcome in enumerate(outcomes, start=1):
        note("A", outcome, day)
    assert ingests.retired(store, "yahoo", 3) == gone


def test_several_tries_on_one_day_are_one_day(store, note):
    for hour in range(5):
        note("A", "not_found", 1, hour)
    assert ingests.retired(store, "yahoo", 3) == {}
