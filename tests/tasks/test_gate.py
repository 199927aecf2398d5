"""The quality gate: each rule broken alone on sound prices, and what follows from it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tasks.fetch import gate
from tasks.fetch.checks import BY_NAME, READING
from tasks.fetch.gate import CHECKS, Context, judge, judge_together
from tasks.fetch.thresholds import Thresholds

LIMITS = Thresholds()
DAYS = np.busday_offset("2020-01-01", np.arange(420), roll="forward")  # the exchange's sessions
NO_ACTIONS = pd.DataFrame({"ex_date": pd.Series(dtype="datetime64[s]"), "kind": pd.Series(dtype=str), "value": []})
PRICES = ["open", "high", "low", "close"]


def sound(basis="traded", count=400, split_at=200):
    """Bars without a fault: quarterly dividends, a split of two for one, and the source's adjusted close."""
    rng = np.random.default_rng(4)
    level = 50 * np.exp(np.cumsum(rng.normal(0, 0.015, count)))
    split, paid = np.ones(count), np.zeros(count)
    split[split_at], paid[30::63] = 2.0, 0.3
    factor = np.append(np.cumprod((1 - paid[1:] / level[:-1])[::-1])[::-1], 1.0)
    later = np.append(np.cumprod(split[::-1])[::-1][1:], 1.0) if basis == "traded" else np.ones(count)
    open_ = level * np.exp(rng.normal(0, 0.004, count))
    high, low = np.maximum(open_, level) * 1.004, np.minimum(open_, level) * 0.996
    frame = pd.DataFrame({"session": DAYS[10 : 10 + count].astype("datetime64[s]")})
    for name, values in zip(PRICES, (open_, high, low, level), strict=True):
        frame[name] = values * later
    frame["adj_close"] = level * factor
    frame["volume"] = np.round(1e6 * np.exp(rng.normal(0, 0.3, count))) / later
    frame["dividend"], frame["split"] = np.where(paid > 0, paid * later, np.nan), np.where(split != 1, split, np.nan)
    return frame.assign(basis=basis)


def context(bars, **changes):
    """What sound bars are judged against: a live source, nothing stored yet."""
    listed = [bars[["session", name]].set_axis(["ex_date", "value"], axis=1).assign(kind=name) for name in KINDS]
    actions = pd.concat(listed).dropna()[["ex_date", "kind", "value"]].sort_values("ex_date", ignore_index=True)
    last = bars["session"].iloc[-1].to_datetime64().astype("datetime64[D]")
    said = {"symbol": "T", "currency": "USD", "exchange": "NYQ", "instrument_type": "EQUITY"}
    given = {
        "exchange": "XNYS",
        "sessions": DAYS[: np.searchsorted(DAYS, last) + 1],
        "known": bars.iloc[:0],
        "actions": actions,
    }
    given |= {"identity": said, "known_identity": said, "expects_last": True, "accepted": False}
    return Context(**given | changes)


KINDS = ("dividend", "split")


def names(verdict):
    return set(verdict.findings["check_name"])


def finding(verdict, name):
    return verdict.findings.set_index("check_name").loc[name]


def day(bars, row):
    return bars["session"].iloc[row].date()


@pytest.mark.parametrize("basis", gate.BASES)
def test_sound_bars_pass_unchanged_and_without_a_word(basis):
    bars = sound(basis)
    verdict = judge("T", bars, context(bars), LIMITS)
    pd.testing.assert_frame_equal(verdict.bars, bars)
    assert (len(verdict.findings), verdict.outcome, verdict.held_from) == (0, "ok", None)
    assert verdict.findings.columns.tolist() == gate.NO_FINDINGS.columns.tolist()


# Each defect: changes the sound bars and says what else is known; then exactly what is found


def put(column, row, value, **known):
    def change(bars):
        bars.loc[bars.index[row], column] = value
        return bars, known

    return change


def times(columns, rows, factor):
    def change(bars):
        bars.loc[bars.index[rows], columns] *= factor
        return bars, {}

    return change


def without(rows, **known):
    def change(bars):
        return bars.drop(index=bars.index[rows]), known

    return change


def said(**changed):
    return lambda bars: (bars, {"identity": context(bars).identity | changed})


def actions(*rows):
    def change(bars):
        more = pd.DataFrame(list(rows), columns=["ex_date", "kind", "value"])
        more["ex_date"] = more["ex_date"].map(lambda row: np.datetime64(day(bars, row), "s"))
        return bars, {"actions": pd.concat([context(bars).actions, more]).sort_values("ex_date")}

    return change


def above_its_close(factor):
    def change(bars):
        close = bars["close"].iloc[50]
        bars.loc[50, ["open", "high", "low"]] = [close * factor, close * 1.1, close * factor]
        return bars, {}

    return change


def weekend(bars):
    extra = bars.iloc[[100]].assign(session=np.datetime64("2020-05-30", "s"), dividend=np.nan)
    return pd.concat([bars, extra]).sort_values("session", ignore_index=True), {}


def all_nan(bars):
    return bars.assign(close=np.nan, dividend=np.nan, split=np.nan), {}


def stopped(rows, first):
    def change(bars):
        still = bars.loc[bars.index[first], PRICES].to_list()
        bars.loc[bars.index[rows], PRICES] = still
        return bars.assign(adj_close=np.nan), {}

    return change


def unlisted_split(bars):
    bars["split"] = np.nan
    return bars.assign(adj_close=np.nan), {}


def spin_off(bars):
    bars.loc[bars.index[120:], PRICES] *= 0.9
    return bars, {}


def late_split(bars):
    """The list has the split two sessions late."""
    bars["split"] = bars["split"].shift(2)
    return bars.assign(adj_close=np.nan), {}


def split_at_the_end(bars, in_prices):
    fresh = sound(split_at=398)
    if not in_prices:
        fresh.loc[fresh.index[398:], PRICES] *= 2
    return fresh.assign(adj_close=np.nan), {}


def other_dividends(bars):
    bars["dividend"] *= 0.94
    return bars, {}


def no_dividends(bars):
    return bars.assign(dividend=np.nan), {}


def a_large_dividend(bars):
    close = bars["close"].iloc[99]
    bars.loc[bars.index[100:], PRICES] *= 0.7
    return put("dividend", 100, 0.3 * close)(bars.assign(adj_close=np.nan))


def dividend_in_pence(bars):
    return put("dividend", 100, 0.3 * bars["close"].iloc[99])(bars.assign(adj_close=np.nan))


def twice_a_gain(bars):
    row = bars.index[30]
    bars.loc[row, "dividend"] += 0.4
    return actions((30, "capital_gain", 0.4))(bars)


DEFECTS = {
    "symbol_changed": (said(symbol="TT"), {"symbol_changed"}),
    "currency_changed": (said(currency="GBp"), {"currency_changed"}),
    "listing_changed": (said(exchange="LSE", instrument_type="ETF"), {"listing_changed"}),
    "conflicting_duplicate": (without([3], conflicts=(day(sound(), 3),)), {"conflicting_duplicate"}),
    "non_positive_price": (put("open", 50, 0.0), {"non_positive_price"}),
    "adj_close_not_positive": (put("adj_close", 50, -3.0), {"adj_close_not_positive"}),
    "high_below_low": (put("low", 50, 60000.0), {"high_below_low", "close_outside_range"}),
    "close_outside_range": (above_its_close(1.02), {"close_outside_range"}),
    "close_off_range": (above_its_close(1.005), {"close_off_range"}),
    "open_off_range": (times(["open"], 50, 1.02), {"open_off_range"}),
    "negative_volume": (put("volume", 50, -1.0), {"negative_volume"}),
    "negative_dividend": (put("dividend", 50, -0.1), {"negative_dividend"}),
    "negative_split": (put("split", 50, -2.0), {"negative_split"}),
    "unit_error": (times([*PRICES, "adj_close"], slice(60, 90), 0.01), {"unit_error"}),
    "no_usable_bar": (all_nan, {"no_usable_bar", "nan_price"}),
    "nan_last": (put([*PRICES, "adj_close"], slice(398, 400), np.nan), {"nan_last"}),
    "nan_price": (put("close", 50, np.nan), {"nan_price"}),
    "action_lost": (put("close", 30, np.nan), {"nan_price", "action_lost"}),
    "missing_last": (without([398, 399], sessions=DAYS[:410]), {"missing_last"}),
    "missing_sessions": (without([50, 51, 70]), {"missing_sessions"}),
    "missing_known": (without([50], known=sound()), {"missing_known", "missing_sessions"}),
    "session": (weekend, {"session"}),
    "partial_bar": (put("low", 50, np.nan), {"partial_bar"}),
    "frozen": (stopped(slice(50, 55), 50), {"frozen"}),
    "frozen_end": (stopped(slice(395, 400), 395), {"frozen_end"}),
    "zero_volume": (put("volume", 50, 0.0), {"zero_volume"}),
    "thin_volume": (put("volume", slice(50, 100), np.nan), {"thin_volume"}),
    "jump": (times([*PRICES, "adj_close", "dividend"], slice(50, 400), 1.75), {"jump"}),
    "split_like_step": (unlisted_split, {"split_like_step", "jump"}),
    "split_without_step": (late_split, {"split_without_step", "split_like_step", "jump"}),
    "fresh_split": (lambda bars: split_at_the_end(bars, False), {"fresh_split", "jump"}),
    "recent_split": (lambda bars: split_at_the_end(bars, True), {"recent_split"}),
    "identity": (times(["adj_close"], slice(0, 100), 0.998), {"identity"}),
    "unexplained_return": (spin_off, {"unexplained_return", "identity"}),
    "adjusted_factor": (times(["adj_close"], slice(0, 100), 1.005), {"adjusted_factor", "identity"}),
    "dividend_basis": (other_dividends, {"dividend_basis", "identity"}),
    "dividends_absent": (no_dividends, {"dividends_absent", "identity"}),
    "dividend_yield": (a_large_dividend, {"dividend_yield"}),
    "dividend_without_drop": (dividend_in_pence, {"dividend_yield", "dividend_without_drop", "dividend_scale"}),
    "dividend_scale": (times(["dividend"], slice(0, 50), 0.01), {"dividend_scale", "identity"}),
    "dividend_cluster": (actions((32, "dividend", 0.01)), {"dividend_cluster"}),
    "dividend_gap": (put("dividend", 219, np.nan, actions=NO_ACTIONS), {"dividend_gap", "identity"}),
    "event_without_bar": (without([30]), {"event_without_bar", "missing_sessions", "identity"}),
    "gain_twice": (twice_a_gain, {"gain_twice", "identity"}),
}  # fmt: skip
# together: said of several tickers, in tests of their own
TOGETHER = {"calendar", "source_gap", "source_outage"}


def judged(name, **changes):
    bars, known = DEFECTS[name][0](sound())
    return judge("T", bars, replace(context(sound()), **known | changes), LIMITS), bars


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_found_by_its_rule_and_by_no_other(name):
    verdict, _ = judged(name)
    assert names(verdict) == DEFECTS[name][1]
    assert set(verdict.findings["severity"]) == {BY_NAME[found].severity for found in names(verdict)}
    assert (verdict.findings["ticker"] == "T").all()
    assert verdict.findings["detail"].str.len().min() > 10


@pytest.mark.parametrize("name", DEFECTS)
def test_the_severity_decides_what_is_stored(name):
    verdict, bars = judged(name)
    action, severity = finding(verdict, name)["action"], BY_NAME[name].severity
    if severity == "fatal":
        assert (action, verdict.outcome, len(verdict.bars)) == ("quarantined", "rejected", 0)
    elif name == "no_usable_bar":
        assert (action, verdict.outcome, len(verdict.bars)) == ("held", "rejected", 0)
    elif severity == "hold":
        assert (action, verdict.outcome) == ("held", "ok")
        assert verdict.bars["session"].max() < pd.Timestamp(verdict.held_from)
        earlier = bars[bars["session"] < pd.Timestamp(verdict.held_from)]
        pd.testing.assert_frame_equal(verdict.bars, earlier[earlier["close"].notna()])
    else:
        assert action in ("reported", "dropped", "refused")
        pd.testing.assert_frame_equal(verdict.bars, bars.loc[verdict.bars.index])


@pytest.mark.parametrize("name", [name for name in DEFECTS if BY_NAME[name].severity != "warn"])
def test_what_a_person_accepts_is_taken_but_for_impossible_rows(name):
    verdict, bars = judged(name, accepted=True)
    action = finding(verdict, name)["action"]
    if name in gate.NEVER_ACCEPTED or name == "no_usable_bar":
        assert (verdict.outcome, len(verdict.bars)) == ("rejected", 0)
        return
    assert (verdict.outcome, verdict.held_from) == ("ok", None)
    left_out = {"unit_error": 30, "nan_last": 2, "action_lost": 1}.get(name, BY_NAME[name].severity == "fatal")
    left_out = 0 if name == "conflicting_duplicate" else left_out  # the reader left them out already
    assert len(bars) - len(verdict.bars) == left_out
    assert (
        action == {"fatal": "refused", "hold": "dropped" if name == "nan_last" else "accepted"}[BY_NAME[name].severity]
    )


def test_every_declared_rule_has_a_defect_that_breaks_it():
    declared = [check.name for check in CHECKS]
    assert len(declared) == len(set(declared))
    assert set(declared) == set(DEFECTS) | TOGETHER | {check.name for check in READING}
    assert all(check.rule.endswith(".") and check.source.endswith(".") for check in CHECKS)


def test_every_threshold_has_a_source_and_limits():
    for name, field in Thresholds.model_fields.items():
        assert "Source: " in field.description, name
        assert field.metadata, name
    with pytest.raises(ValueError, match="greater than 0"):
        Thresholds(jump=0)


# What waits, and from when


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("nan_last", 398),
        ("split_like_step", 200),
        ("unexplained_return", 120),
        ("frozen_end", 396),
        ("fresh_split", 398),
        ("dividend_basis", 30),
        ("dividends_absent", 30),
        ("dividend_without_drop", 100),
        ("action_lost", 31),
    ],
)
def test_sessions_wait_from_the_offending_one_on(name, row):
    verdict, bars = judged(name)
    assert verdict.held_from == day(bars, row)
    assert len(verdict.bars) == (row - 1 if name == "action_lost" else row)  # one row has no price
    assert finding(verdict, name)["session"].date() == verdict.held_from


def test_a_missing_newest_session_waits_and_costs_no_earlier_one():
    verdict, bars = judged("missing_last")
    assert verdict.held_from == DAYS[408].item()
    assert len(verdict.bars) == len(bars) == 398
    assert finding(verdict, "missing_last")["value"] == 2


def test_a_file_may_end_when_it_likes():
    bars = sound().iloc[:300]
    verdict = judge("T", bars, replace(context(bars), sessions=DAYS, expects_last=False), LIMITS)
    assert (verdict.outcome, verdict.held_from, names(verdict)) == ("ok", None, set())


def test_of_a_feed_that_never_moved_the_first_bar_is_taken():
    bars = sound("split").assign(adj_close=np.nan, dividend=np.nan, split=np.nan)
    bars[PRICES] = 7.0
    verdict = judge("T", bars, context(bars), LIMITS)
    assert (names(verdict), len(verdict.bars), verdict.held_from) == ({"frozen_end"}, 1, day(bars, 1))


@pytest.mark.parametrize("name", ["split_like_step", "unexplained_return", "dividend_basis", "dividends_absent"])
def test_what_is_stored_already_holds_nothing_again(name):
    bars, _ = DEFECTS[name][0](sound())
    stored, newer = bars.iloc[:380], context(bars)
    other_basis = sound("adjusted").iloc[:10]
    for known in (stored, pd.concat([other_basis, stored.iloc[10:]])):
        verdict = judge("T", bars, replace(newer, known=known), LIMITS)
        assert finding(verdict, name)["action"] == "reported"
        assert (verdict.held_from, len(verdict.bars)) == (None, 400)
    # other returns than the stored ones are new
    other = stored.assign(close=sound()["close"].iloc[:380] * 1.0003 ** np.arange(380))
    assert judge("T", bars, replace(newer, known=other), LIMITS).held_from is not None


def test_the_first_stored_bar_says_nothing_of_the_return_to_it():
    bars, _ = unlisted_split(sound())
    verdict = judge("T", bars, replace(context(bars), known=bars.iloc[200:380]), LIMITS)
    assert verdict.held_from == day(bars, 200)


def test_a_new_ex_date_on_another_basis_waits_though_the_old_ones_are_stored():
    bars, _ = other_dividends(sound())
    verdict = judge("T", bars, replace(context(bars), known=bars.iloc[:300]), LIMITS)
    assert verdict.held_from == day(bars, 345)


def test_a_small_fresh_split_waits_and_an_old_one_does_not():
    """A stock dividend of 5 %: its step drowns in ordinary days, so only a fresh one is doubted."""
    bars = sound(split_at=0).assign(adj_close=np.nan)
    for row, waits in ((399, True), (398, True), (397, False), (250, False)):
        changed = bars.copy()
        changed.loc[row, "split"] = 1.05
        changed.loc[row:, PRICES] *= changed["close"][row - 1] / changed["close"][row]
        verdict = judge("T", changed, context(changed), LIMITS)
        assert (verdict.held_from == day(changed, row)) is waits
        assert ("fresh_split" in names(verdict)) is waits


def test_a_split_that_is_announced_is_said():
    bars = sound().iloc[:380]
    ahead = pd.DataFrame({"ex_date": [DAYS[400].astype("datetime64[s]")], "kind": ["split"], "value": [3.0]})
    verdict = judge("T", bars, replace(context(bars), actions=pd.concat([context(bars).actions, ahead])), LIMITS)
    assert (names(verdict), verdict.held_from) == ({"recent_split"}, None)


def test_a_split_that_the_adjusted_basis_left_in_its_prices_is_found():
    bars = sound("split").assign(adj_close=np.nan)
    bars.loc[bars.index[:200], PRICES] *= 2
    verdict = judge("T", bars, context(bars), LIMITS)
    assert names(verdict) == {"split_without_step", "jump"}
    assert verdict.held_from == day(bars, 200)


def test_a_hundredfold_reverse_split_that_is_listed_is_no_error_of_units():
    bars = sound(split_at=0).assign(adj_close=np.nan)
    bars.loc[200, "split"] = 0.01
    bars.loc[200:, [*PRICES, "dividend"]] *= 100
    assert names(judge("T", bars, context(bars), LIMITS)) == set()
    assert names(judge("T", bars.assign(split=np.nan), context(bars), LIMITS)) == {"unit_error"}


def test_a_spin_off_is_held_by_its_return_and_not_as_a_split():
    bars = sound(split_at=0)
    bars.loc[150:, PRICES] *= 0.5  # the adjusted close does not fall
    verdict = judge("T", bars, context(bars), LIMITS)
    assert names(verdict) == {"jump", "unexplained_return", "identity"}
    assert finding(verdict, "unexplained_return")["value"] == pytest.approx(0.5, abs=0.02)


def test_a_listed_split_that_is_left_in_adjusted_prices_is_no_error_of_units():
    bars = sound("split", split_at=0).assign(adj_close=np.nan, dividend=np.nan)
    bars.loc[200, "split"] = 0.01
    bars.loc[200:, PRICES] *= 100
    found = judge("T", bars, replace(context(bars), actions=NO_ACTIONS), LIMITS)
    assert names(found) == {"split_without_step", "jump"}


def test_closes_alone_are_enough():
    bars = sound("adjusted").assign(dividend=np.nan, split=np.nan, volume=np.nan)
    bars[["open", "high", "low"]] = np.nan
    verdict = judge("T", bars, replace(context(bars), actions=NO_ACTIONS), LIMITS)
    assert (names(verdict), len(verdict.bars)) == (set(), 400)


def test_prices_that_are_not_finite_are_impossible():
    bars = sound()
    bars.loc[50, "high"] = np.inf
    assert names(judge("T", bars, context(bars), LIMITS)) == {"non_positive_price"}


def test_a_jump_is_measured_in_the_assets_own_volatility_where_that_is_large():
    bars = sound(split_at=0).assign(adj_close=np.nan, dividend=np.nan)
    wild = np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.08, 400).clip(-0.3, 0.3)))
    bars[PRICES] = bars[PRICES].mul(wild / wild.max(), axis=0)
    bars.loc[100:, PRICES] *= 1.6
    free = replace(context(bars), actions=NO_ACTIONS)
    assert names(judge("T", bars, free, LIMITS)) == set()
    bars.loc[100:, PRICES] *= 1.4
    assert names(judge("T", bars, free, LIMITS)) == {"jump"}


def test_the_price_of_the_basis_is_the_one_that_must_be_there():
    for basis, dropped in (("adjusted", 1), ("traded", 0), ("split", 0)):
        bars = sound(basis)
        bars.loc[50, "adj_close"] = np.nan
        verdict = judge("T", bars, context(bars), LIMITS)
        assert (len(verdict.bars), names(verdict)) == (400 - dropped, {"nan_price"} if dropped else set())


def test_an_adjusted_close_above_the_close_is_odd_where_both_are_on_one_scale():
    for basis, odd in (("split", {"adjusted_factor"}), ("traded", set())):
        bars = sound(basis).assign(adj_close=lambda frame: frame["adj_close"] * 1.2)
        assert names(judge("T", bars, context(bars), LIMITS)) == odd


def test_dividends_on_another_basis_are_not_unexplained_as_well():
    bars = sound()
    bars["dividend"] *= 4
    verdict = judge("T", bars, context(bars), LIMITS)
    assert names(verdict) == {"dividend_basis", "identity"}
    assert finding(verdict, "dividend_basis")["value"] == pytest.approx(0.25)


def test_the_ex_dates_that_agree_are_taken():
    bars = sound()
    bars.loc[31:, "dividend"] *= 0.94
    verdict = judge("T", bars, context(bars), LIMITS)
    assert (names(verdict), verdict.held_from) == ({"dividend_basis", "identity"}, day(bars, 93))


def test_some_unlisted_dividends_are_reported_and_not_systematic():
    bars = sound()
    bars.loc[:220, "dividend"] = np.nan
    assert names(judge("T", bars, context(sound()), LIMITS)) == {"identity"}  # four of six


def test_a_coarse_adjusted_close_is_no_list_of_dividends():
    bars = sound()
    bars["adj_close"] = (bars["adj_close"] / 0.2).round() * 0.2
    assert names(judge("T", bars, context(bars), LIMITS)) == {"identity", "adjusted_factor"}


def test_a_window_is_compared_with_what_is_stored_of_it():
    bars = sound()
    window = bars.iloc[100:300]
    verdict = judge("T", window, replace(context(window), known=bars), LIMITS)
    assert names(verdict) == set()


def test_the_first_answer_of_a_source_changes_nothing():
    bars = sound()
    assert names(judge("T", bars, replace(context(bars), known_identity={}), LIMITS)) == set()


def test_a_row_after_the_last_session_does_not_hide_that_it_is_missing():
    bars = sound()
    late = bars.iloc[[399]].assign(session=(DAYS[409] + 4).astype("datetime64[s]"))
    verdict = judge("T", pd.concat([bars.iloc[:399], late]), context(bars), LIMITS)
    assert names(verdict) == {"session", "missing_last"}
    assert verdict.held_from == DAYS[409].item()


def test_the_adjusted_basis_has_nothing_to_compare_its_return_with():
    bars = sound("adjusted").assign(dividend=np.nan)
    bars.loc[:149, PRICES] *= 2
    assert names(judge("T", bars, context(bars), LIMITS)) == set()


def test_an_action_before_the_first_bar_is_not_lost():
    bars = sound().iloc[30:]
    bars.loc[bars.index[0], "close"] = np.nan
    assert names(judge("T", bars, replace(context(bars), actions=NO_ACTIONS), LIMITS)) == {"nan_price"}


def test_a_split_on_a_row_that_is_left_out_is_lost():
    bars = sound()
    bars.loc[200, "close"] = np.nan
    verdict = judge("T", bars, context(bars), LIMITS)
    assert finding(verdict, "action_lost")["action"] == "held"
    assert verdict.held_from == day(bars, 201)


def test_a_lost_action_stays_lost_when_the_next_row_is_left_out_too():
    bars = sound()
    bars.loc[30, "close"], bars.loc[31, "open"] = np.nan, 0.0
    verdict = judge("T", bars, replace(context(bars), accepted=True), LIMITS)
    row = finding(verdict, "action_lost")
    assert (row["session"].date(), row["action"]) == (day(bars, 32), "accepted")


def test_a_gain_that_equals_the_dividend_is_the_same_payment_twice():
    bars, changed = actions((30, "capital_gain", sound()["dividend"][30]))(sound())
    assert names(judge("T", bars, replace(context(bars), **changed), LIMITS)) == {"gain_twice"}


def test_a_fund_whose_adjusted_close_leaves_out_a_gain_counted_twice():
    bars = sound(split_at=0)
    bars.loc[30, "dividend"] += 0.4  # listed as a dividend of 0.7, of which 0.4 are the gain
    more = pd.DataFrame({"ex_date": bars["session"][[30]], "kind": "capital_gain", "value": 0.4})
    known = replace(context(bars), actions=pd.concat([context(bars).actions, more]))
    assert "gain_twice" in names(judge("T", bars, known, LIMITS))
    bars.loc[30, "dividend"] -= 0.4
    assert "gain_twice" not in names(judge("T", bars, known, LIMITS))


def test_many_odd_sessions_make_one_finding_with_their_number():
    bars = sound()
    bars.loc[50:89, "close"] = np.nan
    found = judge("T", bars, context(bars), LIMITS).findings
    nan = found[found["check_name"] == "nan_price"]
    assert nan["value"].tolist() == [40]
    assert nan["session"].dt.date.tolist() == [day(bars, 50)]
    assert f"40 sessions from {day(bars, 50)} to {day(bars, 89)}" in nan["detail"].iloc[0]


def test_several_blocks_of_missing_sessions_are_counted():
    verdict, _ = judged("missing_sessions")
    row = finding(verdict, "missing_sessions")
    assert (row["value"], row["session"].date()) == (3, day(sound(), 50))
    assert "in 2 blocks" in row["detail"]


def test_without_a_calendar_no_session_is_expected():
    bars = sound().drop(index=[50, 51])
    verdict = judge("T", bars, replace(context(bars), sessions=DAYS[:0]), LIMITS)
    assert (names(verdict), len(verdict.bars)) == (set(), 398)


def test_an_empty_delivery_is_rejected_with_a_reason():
    bars = sound()
    verdict = judge("T", bars.iloc[:0], context(bars), LIMITS)
    assert (verdict.outcome, names(verdict)) == ("rejected", {"no_usable_bar"})


def test_rows_out_of_order_or_of_two_bases_are_a_callers_error():
    bars = sound()
    with pytest.raises(ValueError, match="after one of the same or a later day"):
        judge("T", bars.iloc[[1, 0]], context(bars), LIMITS)
    with pytest.raises(ValueError, match="basis traded, split; judge one of"):
        judge("T", bars.assign(basis=["traded", *["split"] * 399]), context(bars), LIMITS)


# Tickers together


def market(count=20, **changes):
    """Verdicts on `count` sound tickers with `changes` of {row: function of the frame} to some of them."""
    verdicts = {}
    for k in range(count):
        bars = sound().iloc[:100].assign(adj_close=np.nan)
        bars[PRICES] *= 1 + 0.1 * k
        for change, upto in changes.values():
            bars = change(bars) if k < upto else bars
        verdicts[f"T{k}"] = judge(
            f"T{k}", bars, replace(context(bars), sessions=DAYS[:110], actions=NO_ACTIONS), LIMITS
        )
    return verdicts


def drop(row):
    return lambda bars: bars.drop(index=bars.index[row])


def repeat(row):
    def change(bars):
        bars.loc[bars.index[row], "close"] = bars["close"].iloc[row - 1]
        return bars

    return change


def together(verdicts):
    found = judge_together(verdicts, DAYS[:110], LIMITS)
    return found[["check_name", "action", "value"]].to_numpy().tolist(), found["session"].dt.date.tolist()


def test_sound_tickers_say_nothing_together():
    assert together(market()) == ([], [])


def test_a_session_that_nearly_all_lack_puts_the_calendar_in_doubt():
    assert together(market(a=(drop(50), 20))) == ([["calendar", "reported", 1.0]], [DAYS[60].item()])


def test_a_past_session_that_most_lack_or_repeat_is_a_gap_of_the_source():
    found = together(market(a=(drop(50), 8), b=(repeat(51), 5)))
    assert found == ([], [])
    for change, count in ((drop(50), 12), (repeat(50), 12), (repeat(50), 20)):
        found = together(market(a=(change, count)))
        assert found == ([["source_gap", "reported", count / 20]], [DAYS[60].item()])


@pytest.mark.parametrize("change", [drop(-1), repeat(-1)])
def test_an_outage_of_the_newest_session_waits_for_all(change):
    assert together(market(a=(change, 12))) == ([["source_outage", "held", 0.6]], [DAYS[109].item()])
    assert together(market(a=(change, 9))) == ([], [])


def test_missing_and_repeated_prices_add_up_to_an_outage():
    verdicts = {
        f"{side}{name}": verdict
        for side, row in (("a", drop(-1)), ("b", repeat(-1)))
        for name, verdict in market(6, a=(row, 6)).items()
    }
    verdicts |= {f"c{name}": verdict for name, verdict in market(8).items()}
    assert together(verdicts) == ([["source_outage", "held", 0.6]], [DAYS[109].item()])


def test_nobody_has_the_newest_session_looks_like_a_closure_and_waits():
    found, _ = together(market(a=(drop(-1), 20)))
    assert found == [["calendar", "reported", 1.0], ["source_outage", "held", 1.0]]


def test_few_tickers_and_files_that_end_early_say_nothing():
    assert together(market(4, a=(drop(-1), 4))) == ([], [])
    early = {name: replace(verdict, findings=gate.NO_FINDINGS) for name, verdict in market(a=(drop(-1), 20)).items()}
    assert together(early) == ([], [])


def test_tickers_that_wait_for_their_own_reasons_do_not_make_an_outage():
    def halve(bars):
        return times(PRICES, slice(90, 100), 0.5)(bars)[0]

    waiting = market(a=(halve, 15), b=(drop(-1), 15))
    assert waiting["T0"].held_from == DAYS[100].item()
    assert together(waiting) == ([], [])
