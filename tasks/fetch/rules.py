"""The rules of `checks`, evaluated on one ticker: each yields what it found, with the days it found it on.

The rules of `SIFTING` come first and name rows that cannot be used; those of `LOOKING` judge the bars that are left,
in terms of the returns that these would give.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tasks.fetch.series import BoolArray, Context, DayArray, FloatArray, Series
from tasks.fetch.thresholds import Thresholds
from tasks.numerics import quality
from tasks.numerics.dates import among

SMALLEST_DIVIDEND = 1e-3  # share of the price; what an adjusted close takes off below it may be rounding
MOST_EX_DATES = 0.1  # share of sessions; an adjusted close that steps more often is noise, not dividends
_NAMES = {"symbol": "symbol_changed", "currency": "currency_changed"}
_NO_DAYS = np.array([], "datetime64[D]")


class Hit(NamedTuple):
    """A rule that is broken."""

    name: str  # of the check
    days: DayArray  # on which, in order; empty where it is no matter of days
    value: float  # a count, or the worst value
    detail: str


def when(days: DayArray) -> str:
    """The days in words."""
    if days.size == 1:
        return f"on {days[0]}"
    return f"on {days.size} sessions from {days[0]} to {days[-1]}"


def worst(values: FloatArray) -> float:
    """The value farthest from 0."""
    return float(values[np.nanargmax(np.abs(values))])


def counted(name: str, days: DayArray, words: str) -> Iterator[Hit]:
    """The hit of a rule whose value is the number of days, where there is any; `words` hold a place for the days."""
    if days.size:
        yield Hit(name, days, days.size, words.format(when(days)))


def changed_identity(context: Context) -> Iterator[Hit]:
    """What the source says the ticker is, against what it said before."""
    now, then = context.identity, context.known_identity
    both = [name for name in now if now[name] and then.get(name)]
    changes = {
        name: f"{name} was {then[name]} and is {now[name]}" for name in both if str(now[name]) != str(then[name])
    }
    for name in changes.keys() & _NAMES.keys():
        yield Hit(_NAMES[name], _NO_DAYS, np.nan, changes[name])
    others = [words for name, words in changes.items() if name not in _NAMES]
    if others:
        yield Hit("listing_changed", _NO_DAYS, np.nan, "; ".join(others))


# Rows that cannot be used


def off_calendar(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Rows on days that are no sessions; without a calendar every day is one."""
    if context.sessions.size:
        off = series.days[~among(series.days, context.sessions)]
        yield from counted("session", off, context.exchange + " did not trade {}; these rows are left out")


def without_price(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Rows that hold no price: between others, and at the end."""
    absent = np.isnan(series.close) | np.isnan(series.price)
    tail = np.cumprod(absent[::-1])[::-1].astype(bool) & ~absent.all()
    yield from counted("nan_price", series.days[absent & ~tail], "there is no price {}; these rows are left out")
    yield from counted("nan_last", series.days[tail], "there is no price yet {}")


def impossible(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Rows whose values no bar can have."""
    yield from counted("conflicting_duplicate", context.disputed, "rows that disagree were given {}")
    for name, broken, value, words in _impossible(series, limits):
        if broken.any():
            days = series.days[broken]
            yield Hit(name, days, days.size, f"{words} {when(days)}, first {value[broken][0]:g}")


def _impossible(series: Series, limits: Thresholds) -> Iterator[tuple[str, BoolArray, FloatArray, str]]:
    """Each rule as its name, the sessions that break it, the value that does, and words. NaN breaks none."""
    prices = np.stack([series.open, series.high, series.low, series.close])
    lowest = np.fmin.reduce(prices)
    yield "non_positive_price", (lowest <= 0) | np.isinf(prices).any(axis=0), lowest, "a price is not above 0"
    yield "adj_close_not_positive", series.adj_close <= 0, series.adj_close, "the adjusted close is not above 0"
    below = series.low - series.high > limits.rounding * series.low
    yield "high_below_low", below, series.high, "the high is below the low"
    far = series.outside(series.close) > max(limits.outside, limits.rounding) * series.close
    yield "close_outside_range", far, series.close, "the close is far outside of low to high"
    yield "negative_volume", series.volume < 0, series.volume, "the volume is negative"
    yield "negative_dividend", series.dividend < 0, series.dividend, "the dividend is negative"
    yield "negative_split", series.listed <= 0, series.listed, "the split ratio is not above 0"


def other_units(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Sessions on another scale than the newest, by a factor of 100."""
    flips = quality.hundredfold(series.returns, limits.unit_tolerance)
    flips[quality.against_split(series.returns, series.listed, 0.0)] = 0
    if flips.any():
        changes, off = series.days[flips != 0], series.days[quality.off_scale(flips)]
        words = (
            f"prices change by a factor of 100 {when(changes)}; {off.size} bars are on another scale than the newest"
        )
        yield Hit("unit_error", off, changes.size, words)


# What the bars that are left say


def calendar(given: DayArray, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Sessions and actions without a row; `given` are the days of all rows of the delivery."""
    expected, last = context.sessions, given[-1]
    inside = expected[(expected > given[0]) & (expected < last)]
    missing = inside[~among(inside, given)]
    if missing.size:
        blocks = 1 + np.count_nonzero(np.diff(np.searchsorted(expected, missing)) > 1)
        yield Hit("missing_sessions", missing, missing.size, f"there is no row {when(missing)}, in {blocks} blocks")
    if context.expects_last:
        yield from counted("missing_last", expected[expected > last], f"the rows end on {last}; there is none {{}}")
    dates = np.unique(context.actions["ex_date"].to_numpy().astype("datetime64[D]"))
    alone = dates[(dates > given[0]) & (dates < last) & ~among(dates, given)]
    yield from counted("event_without_bar", alone, "an action takes effect {} without a bar; the next one carries it")
    if len(context.known):
        known = context.known["session"].to_numpy().astype("datetime64[D]")
        gone = known[(known >= given[0]) & (known <= last) & ~among(known, given)]
        yield from counted("missing_known", gone, "rows stored before are absent {}; they stay stored")


def bars(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Incomplete and odd bars, repeated bars, and sessions that nobody traded in."""
    four = np.stack([series.open, series.high, series.low, series.close])
    absent = np.isnan(four)
    partial = (absent & ~absent.all(axis=1, keepdims=True)).any(axis=0)
    lost = "a dividend or split lay on a row that is left out, and the return lacks it, {}"
    yield from counted("partial_bar", series.days[partial], "open, high or low is absent {}")
    for name in ("open", "close"):
        outside = series.outside(getattr(series, name)) > limits.rounding * series.close
        yield from counted(f"{name}_off_range", series.days[outside], f"the {name} is outside of low to high {{}}")
    yield from counted("action_lost", series.days[series.lost], lost)
    yield from _frozen(series, np.where(absent, 0.0, four), limits)
    idle = ~(series.volume > 0)
    if idle.any() and not np.isnan(series.volume).all():
        share, days = float(idle.mean()), series.days[idle]
        if share > limits.thin_volume:
            yield Hit("thin_volume", days, share, f"{share:.0%} of the sessions have no volume")
        else:
            yield from counted("zero_volume", days, "there is no volume {}")


def _frozen(series: Series, four: FloatArray, limits: Thresholds) -> Iterator[Hit]:
    repeats = np.concatenate([[False], (four[:, 1:] == four[:, :-1]).all(axis=0)])
    length = quality.run_lengths(repeats)
    still, run = repeats & (length >= limits.frozen), np.cumsum(~repeats)
    end = run == run[-1]
    for name, here in (("frozen", still & ~end), ("frozen_end", still & end)):
        if here.any():
            days, longest = series.days[here], int(length[here].max())
            yield Hit(name, days, longest, f"one bar is repeated {when(days)}, up to {longest} sessions in a row")


def moves(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Jumps, and those of them that look like a split nobody listed."""
    least = max(limits.jump, limits.jump_sigmas * series.deviation)
    rows = np.flatnonzero(np.abs(series.returns) > least)
    if not rows.size:
        return
    days, top = series.days[rows], worst(series.returns[rows])
    yield Hit("jump", days, top, f"the log return is above {least:.2f} {when(days)}, farthest {top:.2f}")
    arrays = (series.price, series.open, series.close, series.volume)
    how = (limits.split_tolerance, limits.split_volume)
    like = [
        t
        for t in rows[series.listed[rows] == 1]
        if not _taken_off(series, t) and quality.looks_like_split(t, *arrays, *how)
    ]
    if like:
        days, ratio = series.days[like], float(np.exp(-series.returns[like[0]]))
        detail = f"prices step as by a split, the first of {ratio:.4g}, {when(days)}; none is listed"
        yield Hit("split_like_step", days, ratio, detail)


def _taken_off(series: Series, t: int) -> bool:
    """Whether the source's own return has less than half of the move."""
    return bool(series.compared[t] and abs(np.log1p(series.vendor[t])) < abs(series.returns[t]) / 2)


def splits(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Listed splits against the prices."""
    listed, least = series.listed, limits.split_sigmas * series.deviation
    fresh = (listed != 1) & (series.days[-1] - series.days < np.timedelta64(limits.fresh_split_days, "D"))
    against = quality.against_split(series.returns, listed, np.where(fresh, 0.0, least))
    beside = quality.step_nearby(series.returns, listed, limits.split_window, limits.split_tolerance, least)
    for name, here, words in (
        ("split_without_step", (against & ~fresh) | beside, "closes and the listed splits disagree"),
        ("fresh_split", against & fresh, "the split is not in the prices yet"),
    ):
        if here.any():
            days, top = series.days[here], worst(series.returns[here])
            yield Hit(name, days, top, f"{words} {when(days)}; the log return is {top:.2f}")
    yield from counted("recent_split", series.days[fresh & ~against], "a split took effect, and prices fit, {}")
    ahead = context.dates("split")
    yield from counted("recent_split", ahead[ahead > series.days[-1]], "a split takes effect {}, after the newest bar")


def adjusted_closes(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """The source's adjusted close against its close, dividends and splits."""
    noise = limits.identity + quality.rounding_noise(series.close, series.adj_close, limits.rounding)
    rising = series.implied < -noise
    if series.basis != "traded":
        rising |= series.adj_close > series.close * (1 + noise)
    if rising.any():
        days, low = series.days[rising], float(np.nanmin(series.implied[rising]))
        yield Hit("adjusted_factor", days, low, f"adjusted close over close is above 1 or falls {when(days)}")
    if not series.compared.any():
        return
    off = series.compared & (np.abs(series.implied - series.paid) > noise)
    if off.any():
        days, top = series.days[off], worst((series.implied - series.paid)[off])
        yield Hit("identity", days, top, f"adjusted close and dividend disagree {when(days)}, at most by {top:.2g}")
    otherwise, hits = _other_dividends(series, noise, limits)
    yield from hits
    gap = quality.unexplained(series.vendor, series.simple, series.paid)
    held = series.compared & (np.abs(gap) > limits.unexplained) & ~otherwise
    if held.any():
        days, top = series.days[held], worst(gap[held])
        detail = f"the source's return differs from ours {when(days)}, at most by {top:.2%}"
        yield Hit("unexplained_return", days, top, detail)


def _other_dividends(series: Series, noise: FloatArray, limits: Thresholds) -> tuple[BoolArray, list[Hit]]:
    """Ex-dates whose dividends are on another basis than the adjusted close, and dividends that are not listed."""
    paid, implied, known = series.paid, series.implied, series.compared
    ex = known & (paid > 0)
    how = (limits.dividend_factor, limits.dividend_share, limits.dividend_count)
    factor, hits = quality.systematic_factor(paid[ex], implied[ex], noise[ex], *how), []
    otherwise = ex & (np.abs(implied - paid) > limits.dividend_factor * paid + noise) & ~np.isnan(factor)
    if otherwise.any():
        days = series.days[otherwise]
        detail = f"the adjusted close holds {factor:.4g} times the listed dividend {when(days)}"
        hits.append(Hit("dividend_basis", days, factor, detail))
    taken = known & (implied > SMALLEST_DIVIDEND + noise)
    unlisted = taken & (paid == 0)
    enough = unlisted.sum() >= max(limits.dividend_count, limits.dividend_share * taken.sum())
    if enough and taken.mean() <= MOST_EX_DATES:
        words = "the adjusted close takes off dividends that are not listed {}"
        hits += counted("dividends_absent", series.days[unlisted], words)
    return otherwise, hits


def dividends(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """The listed dividends among themselves."""
    ex = np.flatnonzero(series.paid > 0)
    days, shares = series.days[ex], series.paid[ex]
    large = shares > limits.dividend_yield
    if large.any():
        words = f"a dividend is {shares.max():.0%} of the close before it"
        yield Hit("dividend_yield", days[large], shares.max(), words)
    kept = days[large & (series.simple[ex] > shares / 2)]
    yield from counted("dividend_without_drop", kept, "a large dividend is paid and the close does not fall {}")
    odd = days[quality.out_of_scale(shares, limits.dividend_scale)]
    yield from counted("dividend_scale", odd, "a yield is far from its neighbours' {}")
    dates = context.dates("dividend")
    dates = dates if dates.size else days
    close = dates[1:][np.diff(dates).astype(np.int64) <= limits.dividend_days]
    yield from counted("dividend_cluster", close, "another dividend lies just before the one {}")
    numbers, end = dates.astype(np.int64), series.days[-1].astype(np.int64)
    how = (limits.dividend_gap, limits.dividend_share, limits.dividend_count)
    late = quality.late(numbers, end, *how)
    if late.any():
        longest = int(np.diff(np.append(numbers, end))[late].max())
        words = f"no dividend follows for up to {longest} days the one {when(dates[late])}"
        yield Hit("dividend_gap", dates[late], longest, words)


def gains(series: Series, context: Context, limits: Thresholds) -> Iterator[Hit]:
    """Capital gains that are counted twice."""
    days = context.dates("capital_gain")
    twice = np.array([_counted_twice(series, context, day) for day in days], bool)
    yield from counted("gain_twice", days[twice], "a capital gain is in the dividend, too, {}")


def _counted_twice(series: Series, context: Context, day: np.datetime64) -> bool:
    """Whether a gain equals that day's dividend, or is what the adjusted close leaves of the bar's dividend."""
    gain, t = context.values("capital_gain", day).sum(), int(np.searchsorted(series.days, day))
    if (np.abs(context.values("dividend", day) - gain) <= 0.01 * gain).any():
        return True
    if t in (0, len(series)) or not series.compared[t]:
        return False
    left = (series.paid[t] - series.implied[t]) * series.close[t - 1] / series.split[t]
    return bool(abs(left - gain) <= 0.02 * gain)


SIFTING: tuple[Callable[..., Iterator[Hit]], ...] = (off_calendar, without_price, impossible, other_units)
LOOKING: tuple[Callable[..., Iterator[Hit]], ...] = (bars, moves, splits, adjusted_closes, dividends, gains)
