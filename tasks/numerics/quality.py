"""What looks wrong in one asset's daily prices: measurements, without a verdict.

Every function looks at one kind of defect that sources of daily prices really have, and says where it is; what a
defect is worth is the business of the caller. The identities compare a source's own adjusted close A with its close
C, dividend D and split ratio s, in the units of `returns`:

    y_t = D_t s_t / C_{t-1}                          the dividend as a share of the close before
    z_t = 1 - (A_{t-1} / A_t)(s_t C_t / C_{t-1})     what the adjusted close takes off for it
    z_t = y_t                                        where the source is consistent with itself
    V_t (1 - y_t) = R_t                              with V its total return and R ours

Sources: the identity is the definition of adjusted closes by CRSP's and Yahoo's factor 1 - D/C[-1]; the robust
deviation is the median absolute deviation (Hampel 1974).
"""
# Shapes: T = own sessions of the asset, in order, with positive prices; N = its ex-dates or events.

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SPLITS = np.log([1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50])
WINDOW = 20  # sessions before a day that say what is usual, and after it that say whether a move stays
DRIFT = 0.25  # share of a step by which prices may move while they count as standing still
HUNDRED = np.log(100.0)


# Adjusted closes


def before(values: FloatArray) -> FloatArray:
    """The value of the session before, the first NaN: (T,)."""
    return np.concatenate([[np.nan], values[:-1]])


def vendor_return(adj_close: FloatArray) -> FloatArray:
    """V_t = A_t / A_{t-1} - 1: (T,)."""
    return adj_close / before(adj_close) - 1


def paid_share(close: FloatArray, dividend: FloatArray, split: FloatArray) -> FloatArray:
    """y_t: (T,); 0 on days without a dividend."""
    return dividend * split / before(close)


def implied_share(close: FloatArray, adj_close: FloatArray, split: FloatArray) -> FloatArray:
    """z_t: (T,); 0, but for rounding, on days without a dividend."""
    return 1 - split * close / before(close) / (1 + vendor_return(adj_close))


def unexplained(vendor: FloatArray, own: FloatArray, paid: FloatArray) -> FloatArray:
    """V_t (1 - y_t) - R_t: (T,), the source's return less ours and less the term D x R between the two definitions."""
    return vendor * (1 - paid) - own


def rounding_noise(close: FloatArray, adj_close: FloatArray, unit: float) -> FloatArray:
    """Largest error of z_t when each of the four prices is off by `unit`, in currency: (T,)."""
    relative = unit / close + unit / adj_close
    return relative + before(relative)


# Moves


def robust_deviation(returns: FloatArray) -> float:
    """1.4826 median |r|, the standard deviation of a normal with that median; 0 where most sessions stand still."""
    known = returns[~np.isnan(returns)]
    return 1.4826 * float(np.median(np.abs(known))) if known.size else 0.0


def hundredfold(returns: FloatArray, tolerance: float) -> IntArray:
    """1 where a log return is ln 100 up to `tolerance`, -1 where it is -ln 100, else 0: (T,)."""
    near = np.abs(np.abs(returns) - HUNDRED) <= tolerance
    return np.where(near, np.sign(np.nan_to_num(returns)), 0).astype(np.int64)


def off_scale(flips: IntArray) -> BoolArray:
    """Sessions on another scale than the newest, given where the scale rises (1) and falls (-1): (T,)."""
    scale = np.cumsum(flips)
    return scale != scale[-1]


def surge(volume: FloatArray, t: int) -> float:
    """Volume of session t over its median of the 20 before; NaN where that is 0 or fewer than 5 are known."""
    usual = volume[max(t - WINDOW, 0) : t]
    usual = usual[~np.isnan(usual)]
    median = np.median(usual) if usual.size >= 5 else 0.0
    return float(volume[t] / median) if median > 0 else np.nan


def looks_like_split(
    t: int,
    price: FloatArray,
    open_: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    tolerance: float,
    most: float,
) -> bool:
    """Whether the move of `price` at t looks like a split that nobody listed.

    Its ratio is a usual one, k or 1/k, up to `tolerance` in logarithms; it stays (the median of the next 20 sessions is
    where it went); it is there at the open; and nobody traded on it (volume at most `most` times its median and the
    step). Without volume or open these say nothing: then half of the tolerance holds, and a step below 2, which markets
    make themselves, is no split.
    """
    move = np.log(price[t] / price[t - 1])
    size = SPLITS[np.abs(abs(move) - SPLITS).argmin()]
    off, drift = abs(abs(move) - size), abs(np.log(np.median(price[t : t + WINDOW + 1]) / price[t]))
    trading, intraday = surge(volume, t), abs(np.log(open_[t] / close[t]))
    if np.isnan(trading) or np.isnan(intraday):
        return bool(drift <= DRIFT * size and off <= tolerance / 2 and size >= np.log(2))
    quiet = trading <= most * max(1.0, np.exp(-move))
    return bool(quiet and max(drift, intraday) <= DRIFT * size and off <= tolerance)


def against_split(returns: FloatArray, ratio: FloatArray, least: float | FloatArray) -> BoolArray:
    """Sessions of a listed split whose log total return is within half of the split's, and above `least`: (T,).

    A split is no return. Where prices have not stepped, or step although they are said to be adjusted, its ratio is
    left in the return, with either sign.
    """
    size, step = np.abs(returns), np.abs(np.log(ratio))
    return (np.abs(size - step) < step / 2) & (size > least)


def step_nearby(returns: FloatArray, ratio: FloatArray, window: int, tolerance: float, least: float) -> BoolArray:
    """Sessions without a split, up to `window` from a listed one, with its step in the log return: (T,).

    The step is met up to `tolerance` and is above `least`. Splits below 6:5 are left out: ordinary days look like them.
    """
    found = np.zeros(returns.shape, bool)
    for t in np.flatnonzero(np.abs(np.log(ratio)) >= np.log(1.2)):
        around = slice(max(t - window, 0), t + window + 1)
        size = np.abs(returns[around])
        found[around] |= (np.abs(size - abs(np.log(ratio[t]))) <= tolerance) & (size > least)
    return found & (ratio == 1)


def run_lengths(repeats: BoolArray) -> IntArray:
    """For each session, how many in a row are alike, given which repeat the one before: (T,)."""
    run = np.cumsum(~repeats)
    return np.bincount(run)[run]


# Ex-dates


def systematic_factor(
    paid: FloatArray, implied: FloatArray, noise: FloatArray, tolerance: float, share: float, fewest: int
) -> float:
    """The factor z = f y that nearly all ex-dates share, where it is not 1; else NaN.

    `paid`, `implied` and the `noise` of the latter are (N,), over the ex-dates. At least `share` of at least `fewest`
    must lie within the relative `tolerance` of their median f, and f beyond it from 1.
    """
    if paid.size < fewest:
        return np.nan
    factor = float(np.median(implied / paid))
    sharing = np.abs(implied - factor * paid) <= tolerance * abs(factor) * paid + noise
    return factor if abs(factor - 1) > tolerance and sharing.mean() >= share else np.nan


def out_of_scale(shares: FloatArray, ratio: float) -> BoolArray:
    """Ex-dates whose y is `ratio` times the median of the up to two before and after, or that fraction of it: (N,)."""
    odd = np.zeros(shares.shape, bool)
    for k in range(shares.size):
        near = np.concatenate([shares[max(k - 2, 0) : k], shares[k + 1 : k + 3]])
        if near.size >= 2:
            odd[k] = abs(np.log(shares[k] / np.median(near))) >= np.log(ratio)
    return odd


def late(days: IntArray, end: int, ratio: float, share: float, fewest: int) -> BoolArray:
    """Which intervals between ex-dates are above `ratio` times the usual one, for a payer who is regular: (N,).

    `days` (N,) are ex-dates as day numbers in order, `end` the newest session's; the last interval is the one from the
    newest ex-date to `end`. Regular means that `share` of at least `fewest` intervals lie within a quarter of the
    median.
    """
    intervals = np.diff(np.append(days, end))
    between = intervals[:-1]
    if between.size < fewest:
        return np.zeros(days.shape, bool)
    usual = np.median(between)
    regular = (np.abs(between - usual) <= 0.25 * usual).mean() >= share
    return regular & (intervals > ratio * usual)
