"""The gate: forecasts that were worse than EWMA over the last 24 dates move to it, others stay as they are."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from storage import tables
from storage.schemas import TABLES
from storage.store import open_store
from tasks import gate, outcomes, panels

HORIZON, DATES = 5, 24
LABEL_MEAN, BASELINE = 0.002, HORIZON * (0.007**2 + 0.012**2)  # nearly what the market's bars are drawn from
GRID = np.linspace(0, 1, 11)


class Book:
    """Forecasts by hand of every month of a market's panel, and the gate over those before the last."""

    def __init__(self, market, bars=None, horizon=HORIZON):
        self.market, self.store, self.horizon = market, market.store, horizon
        self.panel = market.panel(market.bars(count=700) if bars is None else bars)
        self.loaded = panels.load(self.store, self.panel)
        self.moments = panels.moments(self.store, self.panel)

    @property
    def last(self):
        return self.moments[-1]

    def put(self, moments, mean, variance, tickers="ABCDE"):
        """Rows whose mean and variance are functions of the moment and the ticker; their keys with the moments."""
        rows = []
        for moment in moments:
            for ticker in tickers:
                said = {"mean": mean(moment, ticker), "variance": variance(moment, ticker), "degrees": 8.0}
                rows.append({"key": f"of {moment.month}", "as_of": moment.as_of, "ticker": ticker, "model": "m"} | said)
        frame = pd.DataFrame(rows).assign(baseline_variance=BASELINE, label_mean=LABEL_MEAN)
        frame = frame.assign(scale=0.9 * np.sqrt(frame["variance"]))
        frame = frame.assign(
            lower_90=frame["mean"] - 1.7 * frame["scale"], upper_90=frame["mean"] + 1.7 * frame["scale"]
        )
        schema = pa.schema([f for f in TABLES["forecasts"].schema if f.name in frame])
        missing = [f for f in TABLES["forecasts"].schema if f.name not in frame]
        table = pa.Table.from_pandas(frame, schema, preserve_index=False)
        for field in missing:
            table = table.append_column(field, pa.nulls(len(frame), field.type))
        tables.put(self.store, "forecasts", table)
        return [(moment, f"of {moment.month}") for moment in moments]

    def outcome(self, moment, ticker):
        return outcomes.after(self.loaded, moment.as_of, self.horizon, self.last.as_of).get(ticker, 0.0)

    def gated(self, before):
        return gate.gated(self.loaded, self.last, f"of {self.last.month}", before, self.horizon)

    def run(self, month):
        """The gate's row, and the forecasts before and after it."""
        gate.gate_forecasts.fn(self.panel, (month,), self.horizon)
        [row] = tables.read(self.store, "gates", key=month.key).to_pylist()
        return row, self.rows(month.forecast), self.rows(month.key)

    def rows(self, key):
        return tables.read(self.store, "forecasts", key=key).to_pandas().sort_values("ticker", ignore_index=True)


@pytest.fixture
def book(market):
    return Book(market)


def wild(moment, ticker):
    """A mean far from everything."""
    return 0.03 if ticker in "AC" else -0.04


def wide(moment, ticker):
    return 9 * BASELINE


def just(moment, ticker):
    return 0.8 * BASELINE


def brute(book, before, mean, variance):
    """Mean score of every share of the correction kept, over all outcomes of the dates before."""
    pairs = [(moment, ticker) for moment, _ in before for ticker in "ABCDE"]
    y = np.array([book.outcome(*pair) for pair in pairs])
    m = np.array([mean(*pair) for pair in pairs])
    v = np.array([variance(*pair) for pair in pairs])
    kept = [
        stats.norm(LABEL_MEAN + k * (m - LABEL_MEAN), np.exp((1 - k) * np.log(BASELINE) / 2 + k * np.log(v) / 2))
        for k in GRID
    ]
    return np.array([-each.logpdf(y).mean() for each in kept])


@pytest.mark.parametrize("mean", [wild, lambda moment, ticker: LABEL_MEAN])
def test_forecasts_that_were_worse_than_ewma_move_to_it_and_the_reason_says_so(book, mean):
    before = book.put(book.moments[-1 - DATES : -1], mean, wide)
    book.put([book.last], wild, just)
    month = book.gated(before)
    row, old, new = book.run(month)
    scores = brute(book, before, mean, wide)
    kept = GRID[scores.argmin()]
    assert kept < 0.5
    assert row["kept"] == pytest.approx(kept, abs=1e-15)
    assert (row["score"], row["baseline_score"]) == pytest.approx((scores[-1], scores[0]), rel=1e-9)
    assert (row["months"], row["as_of"]) == (DATES, book.last.as_of)
    assert row["reason"] == (
        f"over 24 dates the forecasts scored {scores[-1]:.4f}, EWMA {scores[0]:.4f}: "
        f"{100 * kept:.0f} % of the correction is kept"
    )
    np.testing.assert_allclose(new["mean"], LABEL_MEAN + kept * (old["mean"] - LABEL_MEAN), rtol=1e-12)
    log_variance = (1 - kept) * np.log(BASELINE) + kept * np.log(old["variance"])
    np.testing.assert_allclose(new["variance"], np.exp(log_variance), rtol=1e-12)
    # the interval keeps its shape about the mean
    for end in ("lower_90", "upper_90"):
        np.testing.assert_allclose((new[end] - new["mean"]) / new["scale"], (old[end] - old["mean"]) / old["scale"])
    np.testing.assert_allclose(new["scale"] ** 2 / new["variance"], 0.81, rtol=1e-12)
    same = ["as_of", "ticker", "model", "degrees", "baseline_variance", "label_mean", "historical_mean"]
    pd.testing.assert_frame_equal(new[same], old[same])


def test_forecasts_that_were_better_stay_as_they_are(book):
    before = book.put(book.moments[-1 - DATES : -1], lambda *pair: 0.9 * book.outcome(*pair), just)
    book.put([book.last], wild, wide)
    row, old, new = book.run(book.gated(before))
    assert row["score"] < row["baseline_score"]
    assert (row["kept"], row["months"]) == (1.0, DATES)
    assert row["reason"].endswith(": 100 % of the correction is kept")
    values = [name for name in old if name not in ("key", "lower_90", "upper_90")]
    np.testing.assert_allclose(new["mean"], old["mean"], rtol=1e-15)
    pd.testing.assert_frame_equal(new[values], old[values], rtol=1e-14)
    pd.testing.assert_frame_equal(new[["lower_90", "upper_90"]], old[["lower_90", "upper_90"]], rtol=1e-14)
    assert set(new["key"]) != set(old["key"])


@pytest.mark.parametrize("count", [0, 1, DATES - 1])
def test_with_fewer_dates_nothing_is_judged_and_the_reason_says_so(book, count):
    before = book.put(book.moments[-1 - count : -1], wild, wide) if count else []
    book.put([book.last], wild, wide)
    row, old, new = book.run(book.gated(before))
    assert row["reason"] == f"only {count} of 24 past dates have outcomes; the forecasts stay as they are"
    assert (row["kept"], row["months"], row["score"], row["baseline_score"]) == (1.0, count, None, None)
    pd.testing.assert_frame_equal(new.drop(columns="key"), old.drop(columns="key"), rtol=1e-14)


@pytest.mark.parametrize("horizon", [HORIZON, 21, 30])
def test_the_gate_looks_at_exactly_the_24_newest_dates_whose_horizon_is_over(market, horizon):
    book = Book(market, horizon=horizon)
    before = [(moment, f"of {moment.month}") for moment in book.moments[:-1]]
    past = book.gated(before).past
    sessions = book.loaded.sessions
    at = {moment: np.searchsorted(sessions, np.datetime64(moment.as_of)) for moment in book.moments}
    over = [pair for pair in before if at[pair[0]] + horizon <= at[book.last]]
    assert past == tuple(over[-DATES:])
    assert len(past) == DATES
    assert past[-1] == before[{HORIZON: -1, 21: -1, 30: -2}[horizon]]


def test_dates_before_the_24_newest_change_neither_key_nor_gate(book):
    before = book.put(book.moments[-1 - DATES : -1], wild, wide)
    early = book.put(book.moments[: -1 - DATES], book.outcome, just)
    assert book.gated(early + before) == book.gated(before)
    assert book.gated(early[-1:] + before[1:]).key != book.gated(before).key


def test_only_what_is_known_at_the_as_of_date_is_looked_at(market, tmp_path, monkeypatch):
    whole = market.bars(count=700)
    book, seen = Book(market, whole), []
    end = pd.Timestamp(book.last.as_of)
    # B's newest outcome is known only two sessions after the date
    missed = book.loaded.sessions[book.loaded.at(book.last.as_of) - 9 :][:2]
    bars = whole[(whole["ticker"] != "B") | ~whole["session"].isin(missed)]
    assert bars["session"].max() > end + timedelta(days=5)
    # the newest outcome ends on the as-of date itself
    horizon = book.loaded.at(book.last.as_of) - book.loaded.at(book.moments[-2].as_of)
    for name, since in (("truth", None), ("later", end + timedelta(days=1)), ("that day", end)):
        monkeypatch.setenv("PRISM_STORE", str(tmp_path / name))
        other = type(market)(open_store())
        changed = bars["session"] >= since if since is not None else bars["session"] < "1900"
        close = bars["close"].where(~changed, 1.4 * bars["close"])
        book = Book(other, bars.assign(close=close, adj_close=close), horizon=horizon)
        month = book.moments[-1]
        assert pd.Timestamp(month.as_of) == end
        before = book.put(book.moments[-1 - DATES : -1], wild, wide)
        book.put([month], wild, just)
        row, _, new = book.run(book.gated(before))
        seen.append((row, new))
    assert seen[0][0] == seen[1][0]
    pd.testing.assert_frame_equal(seen[0][1], seen[1][1], check_exact=True)
    assert seen[0][0]["score"] != seen[2][0]["score"]  # a price of the as-of date itself is known


def test_forecasts_without_an_outcome_do_not_count(market):
    bars = market.bars(count=700)
    gone = bars[(bars["ticker"] != "E") | (bars["session"] <= "2016-06-10")]
    book = Book(market, gone)
    before = book.put(book.moments[-1 - DATES : -1], wild, wide)
    book.put([book.last], wild, just, "ABCD")
    row, _, _ = book.run(book.gated(before))
    known = outcomes_known(book, before)
    assert 0 < sum(ticker == "E" for _, ticker in known) < DATES
    y = np.array([book.outcome(*pair) for pair in known])
    m = np.array([wild(*pair) for pair in known])
    assert row["score"] == pytest.approx(-stats.norm(m, 3 * np.sqrt(BASELINE)).logpdf(y).mean(), rel=1e-9)


def outcomes_known(book, before):
    found = []
    for moment, _ in before:
        after = outcomes.after(book.loaded, moment.as_of, book.horizon, book.last.as_of)
        found += [(moment, ticker) for ticker in after]
    return found


def test_a_gate_that_is_stored_is_not_passed_again(book, monkeypatch):
    before = book.put(book.moments[-1 - DATES : -1], wild, wide)
    book.put([book.last], wild, just)
    month = book.gated(before)
    first = book.run(month)
    monkeypatch.setattr(gate, "_gate", lambda *_: pytest.fail("passed again"))
    again = book.run(month)
    assert again[0] == first[0]
    pd.testing.assert_frame_equal(again[2], first[2])


def test_a_gate_whose_forecasts_were_not_written_is_passed_again(book):
    before = book.put(book.moments[-1 - DATES : -1], wild, wide)
    book.put([book.last], wild, just)
    month = book.gated(before)
    row, _, new = book.run(month)
    tables.open_table(book.store, "forecasts").delete(f"key = '{month.key}'")
    assert book.rows(month.key).empty
    again = book.run(month)
    assert again[0] == row
    pd.testing.assert_frame_equal(again[2], new)


def test_keys_follow_the_forecast_the_past_and_the_horizon(book):
    before = [(moment, f"of {moment.month}") for moment in book.moments[:-1]]
    month = book.gated(before)
    others = [
        gate.gated(book.loaded, book.last, "another", before, HORIZON),
        gate.gated(book.loaded, book.last, month.forecast, [*before[:-1], (before[-1][0], "another")], HORIZON),
        gate.gated(book.loaded, book.last, month.forecast, before, HORIZON + 1),
    ]
    assert len({month.key, *(other.key for other in others)}) == 4
    assert gate.gated(book.loaded, book.last, month.forecast, before, HORIZON) == month
