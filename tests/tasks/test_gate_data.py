"""The quality gate on real files: every defect known of them is found by its rule, and sound prices are left alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks import calendars
from tasks.fetch.files import read_prices
from tasks.fetch.gate import Context, judge
from tasks.fetch.thresholds import Thresholds

SHARED = Path(__file__).parents[2].parent / "shared/data"
MESSY = SHARED / "messy"
pytestmark = pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is not on this machine")
LIMITS = Thresholds()
NO_ACTIONS = pd.DataFrame({"ex_date": pd.Series(dtype="datetime64[s]"), "kind": pd.Series(dtype=str), "value": []})
PRICES = ["open", "high", "low", "close"]


def names(verdict):
    return set(verdict.findings["check_name"])


def finding(verdict, name):
    return verdict.findings.set_index("check_name").loc[name]


def real(path, exchange="XNYS", basis=None, accepted=False):
    """Verdicts on a file's tickers, with its days that disagree."""
    parsed, verdicts = read_prices(path), {}
    for ticker, rows in parsed.bars.groupby("ticker"):
        bars = rows.drop(columns="ticker").assign(basis=basis or parsed.basis)
        days = bars["session"].to_numpy().astype("datetime64[D]")
        clash = parsed.conflicts.loc[parsed.conflicts["ticker"] == ticker, "session"]
        given = Context(
            exchange, calendars.sessions(exchange, days[0] - 14, days[-1]), bars.iloc[:0], NO_ACTIONS, {}, {},
            expects_last=False, accepted=accepted, conflicts=tuple(clash.dt.date),
        )  # fmt: skip
        verdicts[ticker] = judge(ticker, bars, given, LIMITS)
    return verdicts


@pytest.fixture(scope="module")
def defects():
    return real(MESSY / "yahoo_defects_to_2020.parquet")


@pytest.mark.parametrize(("ticker", "rows"), [("USAS", 1073), ("CPG", 603), ("AGI", 565), ("KIQ", 162)])
def test_opens_of_zero_are_quarantined(defects, ticker, rows):
    assert finding(defects[ticker], "non_positive_price")[["value", "action"]].tolist() == [rows, "quarantined"]


@pytest.mark.parametrize(("ticker", "between", "last"), [("EAI", 1405, 959), ("EMP", 135, 382)])
def test_rows_without_prices_are_counted_between_others_and_at_the_end(defects, ticker, between, last):
    assert finding(defects[ticker], "nan_price")["value"] == between
    assert finding(defects[ticker], "nan_last")["value"] == last


def test_a_sparse_series_keeps_the_bars_it_has(defects):
    assert (defects["EAI"].outcome, len(defects["EAI"].bars)) == ("ok", 3284 - 2364)


def test_prices_that_flip_between_two_scales_are_an_error_of_units(defects):
    assert finding(defects["EMP"], "unit_error")["action"] == "quarantined"


def test_negative_adjusted_closes_are_quarantined(defects):
    assert finding(defects["VATE"], "adj_close_not_positive")["value"] == 2729


@pytest.mark.parametrize(("ticker", "share"), [("QUBT", 0.48), ("RCAT", 0.78)])
def test_huge_jumps_between_sessions_without_volume_are_found(defects, ticker, share):
    verdict = defects[ticker]
    assert abs(finding(verdict, "jump")["value"]) > 2
    assert finding(verdict, "thin_volume")["value"] == pytest.approx(share, abs=0.01)
    assert verdict.outcome == "rejected"


def test_prices_of_zero_before_a_listing_are_quarantined(defects):
    assert finding(defects["PRTA"], "non_positive_price")["value"] == 3


def test_closes_just_outside_of_their_range_are_reported(defects):
    assert finding(defects["SHEL"], "close_off_range")["value"] == 2
    assert defects["SHEL"].outcome == "ok"


def test_a_thinly_traded_series_says_so(defects):
    assert finding(defects["SHPW"], "thin_volume")["value"] == pytest.approx(0.17, abs=0.01)


def test_accepted_defects_leave_positive_prices():
    for ticker, verdict in real(MESSY / "yahoo_defects_to_2020.parquet", accepted=True).items():
        assert verdict.outcome == "ok", ticker
        assert (verdict.bars[[*PRICES, "adj_close"]] > 0).all(axis=None), ticker


def test_intraday_bars_stacked_on_one_day_quarantine_their_tickers():
    verdicts = real(MESSY / "stacked_scrapes_2024_2025.parquet")
    for ticker in ("ABNB", "DDOG", "ZM"):
        row = finding(verdicts[ticker], "conflicting_duplicate")
        assert (row["action"], row["session"]) == ("quarantined", pd.Timestamp("2025-03-10"))
    accepted = real(MESSY / "stacked_scrapes_2024_2025.parquet", accepted=True)
    assert [len(verdict.bars) for verdict in accepted.values()] == [249] * 3


def test_a_second_vendors_gaps_are_reported_and_its_bars_taken():
    verdicts = real(MESSY / "second_vendor_djia_2006_2017.parquet")
    assert finding(verdicts["AAPL"], "missing_sessions")[["session", "value"]].tolist() == [
        pd.Timestamp("2010-04-01"),
        1,
    ]
    assert finding(verdicts["DIS"], "partial_bar")[["session", "value"]].tolist() == [pd.Timestamp("2012-08-01"), 2]
    for ticker in ("IBM", "GE", "UTX"):
        assert finding(verdicts[ticker], "partial_bar")["session"] == pd.Timestamp("2017-07-31")
    assert {verdict.outcome for verdict in verdicts.values()} == {"ok"}


def fixture(name, exchange, accepted=False):
    return next(iter(real(MESSY / f"yfinance_fixtures/{name}.csv", exchange, accepted=accepted).values()))


def test_a_hundredfold_error_is_quarantined_and_its_repair_is_not():
    verdict = fixture("AET-L-1d-100x-error", "XLON")
    assert finding(verdict, "unit_error")[["session", "value"]].tolist() == [pd.Timestamp("2022-05-09"), 2]
    assert "unit_error" not in names(fixture("AET-L-1d-100x-error-fixed", "XLON"))


def test_a_split_on_a_wrong_day_is_held_and_its_repair_is_not():
    verdict = fixture("DEX-AX-1d-bad-stock-split", "XASX")
    assert verdict.held_from == pd.Timestamp("2023-05-22").date()
    assert finding(verdict, "split_without_step")["action"] == "held"
    assert "split_without_step" not in names(fixture("DEX-AX-1d-bad-stock-split-fixed", "XASX"))


BAD_DIVIDENDS = {
    "4063-T-1d-bad-div": ("XTKS", {"unexplained_return", "identity"}),
    "ADIG-L-1d-bad-div": ("XLON", {"dividend_basis", "identity"}),
    "LSC-L-1d-bad-div": ("XLON", {"adj_close_not_positive", "dividend_yield", "dividend_without_drop"}),
}


@pytest.mark.parametrize("name", BAD_DIVIDENDS)
def test_bad_dividends_are_found_and_their_repair_is_clean_of_what_found_them(name):
    exchange, rules = BAD_DIVIDENDS[name]
    assert rules <= names(fixture(name, exchange))
    assert not rules & names(fixture(f"{name}-fixed", exchange))


def test_a_correct_series_with_rare_dividends_is_left_alone():
    verdict = fixture("KMR-L-1d-no-bad-divs", "XLON")
    assert (verdict.outcome, verdict.held_from, len(verdict.bars)) == ("ok", None, 665)
    assert names(verdict) == {"open_off_range"}


@pytest.fixture(scope="module")
def main_file():
    parsed = read_prices(SHARED / "ohlcv_us_2005_2020.parquet")
    paid = pd.read_parquet(SHARED / "dividends_us_2005_2020.parquet").rename(columns={"date": "session"})
    paid["session"] = pd.to_datetime(paid["session"]).astype("datetime64[s]")
    bars = parsed.bars.drop(columns="dividend").merge(paid, on=["ticker", "session"], how="left")
    return parsed, dict(iter(bars.groupby("ticker"))), set(paid["ticker"])


def us(bars, basis, accepted=False, known=None):
    days = bars["session"].to_numpy().astype("datetime64[D]")
    bars = bars.drop(columns="ticker", errors="ignore").assign(basis=basis)
    sessions = calendars.sessions("XNYS", days[0] - 14, days[-1])
    known = bars.iloc[:0] if known is None else known
    return judge("T", bars, Context("XNYS", sessions, known, NO_ACTIONS, {}, {}, False, accepted), LIMITS)


def test_the_main_file_passes_unchanged_with_sixteen_true_moves_reported(main_file):
    found = []
    for ticker, bars in main_file[0].bars.groupby("ticker"):
        verdict = us(bars, "adjusted")
        assert (verdict.outcome, verdict.held_from) == ("ok", None), ticker
        pd.testing.assert_frame_equal(verdict.bars.drop(columns="basis"), bars.drop(columns="ticker"))
        found.append(verdict.findings.assign(ticker=ticker))
    found = pd.concat(found)
    assert set(found["severity"]) == {"warn"}
    jumps = found.loc[found["check_name"] == "jump", "detail"]
    assert sum(2 if " on 2 sessions" in detail else 1 for detail in jumps) == 16
    assert found.loc[found["check_name"] == "zero_volume", "value"].sum() == 4


def test_true_moves_are_not_held_on_their_own_day_either(main_file):
    for ticker in ("AMC", "AMD", "BE", "C", "CF", "EQIX", "GME", "MOS", "MS", "NFLX", "NIO", "TTWO", "VRTX"):
        bars = main_file[1][ticker].assign(adj_close=np.nan)
        moves = np.flatnonzero(np.log(bars["close"]).diff().abs() > 0.4)
        for row in moves:
            for blind in ({}, {"volume": np.nan}):
                verdict = us(bars.iloc[: row + 1].assign(**blind), "split")
                assert (verdict.outcome, verdict.held_from) == ("ok", None), ticker


def test_dividends_on_another_basis_are_found_where_they_are_and_nowhere_else(main_file):
    _, bars, paying = main_file
    verdicts = {ticker: us(bars[ticker], "split") for ticker in sorted(paying)}
    assert len(verdicts) == 76
    basis = {ticker for ticker, verdict in verdicts.items() if "dividend_basis" in names(verdict)}
    assert basis == {"GE", "HON", "CMCSA", "AVGO", "NVDA", "LRCX"}
    assert {ticker for ticker, verdict in verdicts.items() if verdict.held_from or verdict.outcome != "ok"} == basis
    factors = {ticker: finding(verdicts[ticker], "dividend_basis")["value"] for ticker in basis}
    assert factors["GE"] == pytest.approx(1.253, abs=1e-3)
    assert factors["HON"] == pytest.approx(1.061, abs=1e-3)
    assert factors["NVDA"] == pytest.approx(10, abs=1e-2)


def test_payers_whose_dividends_the_file_lacks_are_held_and_those_that_pay_none_are_not(main_file):
    _, bars, paying = main_file
    verdicts = {ticker: us(rows, "split") for ticker, rows in bars.items() if ticker not in paying}
    factor = {ticker: (bars[ticker]["adj_close"] / bars[ticker]["close"]).to_numpy() for ticker in verdicts}
    stepped = {ticker for ticker in verdicts if factor[ticker][0] / factor[ticker][-1] < 0.99}
    assert {ticker for ticker, verdict in verdicts.items() if verdict.held_from} == stepped
    assert len(stepped) == 26
    assert all("dividends_absent" in names(verdicts[ticker]) for ticker in stepped)


def test_a_special_dividend_and_a_spin_off_that_are_not_listed_are_held(main_file):
    timber = us(main_file[1]["WY"], "split")
    assert finding(timber, "unexplained_return")["value"] == pytest.approx(0.653, abs=1e-3)
    # this file lists the spin-off of 2012-10-02 as a dividend, which explains it
    food = main_file[1]["MDLZ"]
    assert us(food, "split").held_from is None
    without_it = food.assign(dividend=food["dividend"].mask(food["dividend"] > 10))
    verdict = us(without_it, "split")
    assert verdict.held_from == pd.Timestamp("2012-10-02").date()
    assert finding(verdict, "unexplained_return")["value"] == pytest.approx(0.329, abs=1e-3)
    assert us(without_it, "split", accepted=True).held_from is None


SPLITS = {"AAPL": {"2005-02-28": 2, "2014-06-09": 7, "2020-08-31": 4}, "C": {"2011-05-09": 0.1}}


@pytest.mark.parametrize("ticker", SPLITS)
def test_real_splits_pass_when_listed_and_are_held_when_not(main_file, ticker):
    bars = main_file[1][ticker].reset_index(drop=True)
    bars["split"] = bars["session"].dt.strftime("%Y-%m-%d").map(SPLITS[ticker]).astype(float)
    later = np.append(np.cumprod(bars["split"].fillna(1).to_numpy()[::-1])[::-1][1:], 1.0)
    bars[[*PRICES, "dividend"]] = bars[[*PRICES, "dividend"]].mul(later, axis=0)
    bars["volume"] /= later
    assert us(bars, "traded").held_from is None
    first = next(iter(SPLITS[ticker]))
    unlisted = us(bars.assign(split=np.nan, adj_close=np.nan), "traded")
    assert unlisted.held_from == pd.Timestamp(first).date()
    for name in list(SPLITS[ticker])[1:]:
        one = us(bars.assign(split=bars["split"].mask(bars["session"] == name), adj_close=np.nan), "traded")
        assert one.held_from == pd.Timestamp(name).date()


def test_closes_alone_over_thirty_years_hold_nothing():
    verdicts = real(SHARED / "close_only/pypfopt_20_1989_2018.parquet")
    assert all(verdict.held_from is None and verdict.outcome == "ok" for verdict in verdicts.values())
    # it fell by 52 % that day, by itself
    assert finding(verdicts["AAPL"], "jump")["session"] == pd.Timestamp("2000-09-29")
