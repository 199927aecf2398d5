"""Which windows may train at an as-of date, and how a batch of them is gathered from one panel.

Sample (i, t) is the window of asset i's own sessions t-L+1 ... t with the label

    y_{i,t} = sum_{k=1..H} l_{i,t+k}

and may train only where t + H is not after the asset's last own session, so that no label reaches beyond the
as-of date. Windows that follow each other share L - 1 of their L sessions: one pass of the encoder over
L - 1 + chunk sessions yields the states of `chunk` windows, with a context of L to L - 1 + chunk sessions each.
No window is ever copied out: a batch is three arrays of flat indices into the panel.
"""
# Shapes: A = assets, T = own sessions of the longest asset, F = features, L = lookback, H = horizon,
# B = chunks in a batch, C = windows of a chunk, N = samples in a batch.
# Rows are left-aligned: column k is the asset's k-th own session; after its last one there is padding.

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.numerics.configs import TRADING_DAYS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class History(NamedTuple):
    """All that is known of every asset at the as-of date; the caller has cut it there."""

    features: NDArray[np.float32]  # (A, T, F) not standardised, NaN where undefined or padded
    log_return: FloatArray  # (A, T) NaN at the first session and in the padding
    ewma_variance: FloatArray  # (A, T) daily
    session: IntArray  # (A, T) index in the portfolio's calendar, -1 in the padding
    last_session: int  # the as-of session's index


class Runs(NamedTuple):
    """Consecutive samples of an asset, those from `begin` to before `end`."""

    asset: IntArray
    begin: IntArray
    end: IntArray


class Batch(NamedTuple):
    """Flat indices of one batch."""

    rows: IntArray  # (B, L - 1 + C) into the panel's A * T rows: what the encoder reads
    states: IntArray  # (N,) into the B * (L - 1 + C) states it returns
    samples: IntArray  # (N,) into the A * T labels


def targets(log_return: FloatArray, horizon: int) -> FloatArray:
    """y_{i,t}, the sum of the next `horizon` own-session log returns: (A, T), NaN where they are not all known."""
    out = np.full(log_return.shape, np.nan)
    width = log_return.shape[1] - horizon
    if width > 0:
        total = np.zeros((log_return.shape[0], width))
        # elementwise additions: a label's rounding does not depend on how much history follows
        for k in range(1, horizon + 1):
            total += log_return[:, k : k + width]
        out[:, :width] = total
    return out


def complete_windows(features: NDArray[np.float32], lookback: int) -> BoolArray:
    """Where all features of the last `lookback` own sessions are finite: (A, T)."""
    count = np.cumsum(np.isfinite(features).all(axis=2), axis=1, dtype=np.int64)
    count[:, lookback:] -= count[:, :-lookback].copy()
    return count == lookback


def training_samples(history: History, lookback: int, horizon: int) -> BoolArray:
    """The samples (i, t) that may train at the as-of date: (A, T)."""
    known = np.isfinite(targets(history.log_return, horizon)) & np.isfinite(history.ewma_variance)
    return complete_windows(history.features, lookback) & known


def newest(samples: BoolArray, history: History, years: int) -> BoolArray:
    """Those of the samples within the last `years` of 252 sessions; all of them for 0: (A, T)."""
    if not years:
        return samples
    return samples & (history.session > history.last_session - TRADING_DAYS * years)


def split(samples: BoolArray, history: History, horizon: int, sessions: int) -> tuple[BoolArray, BoolArray]:
    """The samples in two by time, for training and for validation: two (A, T).

    Validation takes those of the newest `sessions` sessions with labels; training those whose label ends before the
    first of them, so that no return is in the labels of both, whatever sessions an asset has missed.
    """
    first = int(history.session[samples].max(initial=-1)) - sessions + 1
    ends = np.full(samples.shape, -1)
    ends[:, :-horizon] = history.session[:, horizon:]
    return samples & (ends >= 0) & (ends < first), samples & (history.session >= first)


def training_rows(samples: BoolArray, lookback: int) -> BoolArray:
    """The rows (i, t) that the window of some training sample holds: (A, T)."""
    out = samples.copy()
    for k in range(1, min(lookback, samples.shape[1])):
        out[:, :-k] |= samples[:, k:]
    return out


def runs(samples: BoolArray) -> Runs:
    """The runs of consecutive samples, in order of assets and time."""
    padded = np.pad(samples, ((0, 0), (1, 1)))
    asset, begin = np.nonzero(padded[:, 1:-1] & ~padded[:, :-2])
    return Runs(asset, begin, np.nonzero(padded[:, 1:-1] & ~padded[:, 2:])[1] + 1)


def chunks(samples: BoolArray, chunk: int, generator: np.random.Generator) -> IntArray:
    """One epoch's chunks, shuffled: (number, 3) of asset, first sample's session, samples.

    Every run of consecutive samples of an asset is cut every `chunk` sessions from a random offset, so its first
    and last chunk may be shorter; together they hold each sample exactly once.
    """
    return chunks_of(runs(samples), chunk, generator)


def chunks_of(runs: Runs, chunk: int, generator: np.random.Generator) -> IntArray:
    """`chunks` of samples whose runs are known."""
    asset, begin, end = runs
    offset = generator.integers(0, chunk, size=asset.size)
    number = -(-(end - begin + offset) // chunk)
    # position of each chunk within its run, by counting up and subtracting what earlier runs took
    within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    start = np.repeat(begin - offset, number) + within * chunk
    first = np.maximum(start, np.repeat(begin, number))
    count = np.minimum(start + chunk, np.repeat(end, number)) - first
    return generator.permutation(np.stack([np.repeat(asset, number), first, count], axis=1))


def batch(plan: IntArray, lookback: int, chunk: int, sessions: int) -> Batch:
    """Flat indices of the chunks `plan` (B, 3) into a panel of `sessions` columns.

    A short chunk reads on past its last sample, at most to the panel's edge; those states are not used.
    """
    asset, first, count = plan[:, :1], plan[:, 1:2], plan[:, 2:]
    columns = first - lookback + 1 + np.arange(lookback - 1 + chunk)
    rows = asset * sessions + np.minimum(columns, sessions - 1)
    used = np.arange(rows.shape[1]) - (lookback - 1)
    states = np.flatnonzero((used >= 0) & (used < count))
    return Batch(rows, states, rows.ravel()[states])


def lengths(session: IntArray) -> IntArray:
    """Own sessions of each asset: (A,)."""
    return (session >= 0).sum(axis=1)


def cut(history: History, last_session: int) -> History:
    """What was known at an earlier session, or at the same."""
    known = (history.session >= 0) & (history.session <= last_session)
    width = int(known.sum(axis=1).max(initial=0))
    if (last_session, width) == (history.last_session, history.session.shape[1]):
        return history
    seen = known[:, :width]
    return History(
        features=np.where(seen[..., None], history.features[:, :width], np.float32(np.nan)),
        log_return=np.where(seen, history.log_return[:, :width], np.nan),
        ewma_variance=np.where(seen, history.ewma_variance[:, :width], np.nan),
        session=np.where(seen, history.session[:, :width], -1),
        last_session=last_session,
    )


def last_columns(history: History, session: int) -> IntArray:
    """Column of each asset's last own session up to a session: (A,), -1 for an asset without one."""
    return ((history.session >= 0) & (history.session <= session)).sum(axis=1) - 1


def windows_at(history: History, asset: IntArray, column: IntArray, lookback: int) -> NDArray[np.float32]:
    """The `lookback` own sessions up to each (asset, column): (N, L, F), NaN where there are fewer."""
    columns = column[:, None] + np.arange(1 - lookback, 1)
    # a negative column must not wrap around to the padding
    return np.where((columns >= 0)[..., None], history.features[asset[:, None], np.maximum(columns, 0)], np.nan)
