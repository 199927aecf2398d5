"""Corporate actions: what a delivery adds, corrects and retracts, and what was known when."""

from datetime import datetime

import pandas as pd

from storage import actions


def frame(*rows):
    made = pd.DataFrame(rows, columns=["ticker", "ex_date", "kind", "value"])
    return made.assign(ex_date=pd.to_datetime(made["ex_date"]).astype("datetime64[s]"))


def since(**days):
    return pd.Series({ticker: pd.Timestamp(day) for ticker, day in days.items()})


def found(rows):
    return [(row.ticker, f"{row.ex_date:%m-%d}", row.kind, row.value, row.retracted) for row in rows.itertuples()]


KNOWN = frame(
    ("A", "2024-02-09", "dividend", 0.24), ("A", "2024-05-10", "dividend", 0.25), ("A", "2024-06-10", "split", 4.0)
)


def test_what_is_new_corrected_or_gone_is_news_and_nothing_else():
    given = frame(
        ("A", "2024-05-10", "dividend", 0.26), ("A", "2024-06-10", "split", 4.0), ("A", "2024-08-12", "dividend", 0.25)
    )
    assert found(actions.news(KNOWN, given, since(A="2024-03-01"))) == [
        ("A", "05-10", "dividend", 0.26, False),
        ("A", "08-12", "dividend", 0.25, False),
    ]


def test_an_action_that_a_delivery_covers_and_lacks_is_retracted():
    assert found(actions.news(KNOWN, frame(), since(A="2024-03-01"))) == [
        ("A", "05-10", "dividend", 0.25, True),
        ("A", "06-10", "split", 4.0, True),
    ]


def test_single_precision_is_no_correction():
    given = KNOWN.assign(value=KNOWN["value"] * (1 + 1e-6))
    assert actions.news(KNOWN, given, since(A="2000-01-01")).empty


def test_the_newest_row_counts_and_the_past_stays_readable(store):
    first, second = datetime(2024, 6, 1), datetime(2024, 9, 1)
    actions.append(store, "yahoo", KNOWN.assign(retracted=False), "yahoo", first)
    actions.append(store, "yahoo", KNOWN.iloc[[0]].assign(retracted=True), "yahoo", second)
    actions.append(store, "yahoo", KNOWN.iloc[[1]].assign(value=0.3, retracted=False), "yahoo", second)
    assert list(actions.latest(store, "yahoo")["value"]) == [0.3, 4.0]
    pd.testing.assert_frame_equal(actions.latest(store, "yahoo", first), KNOWN)
    assert actions.latest(store, "other").empty
