"""Training samples by brute force, and chunks that hold each of them once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.numerics import windows
from tasks.numerics.windows import History

L, H = 5, 3


def make_history(lengths=(40, 25, 0, 7), seed=0, features=2, padding=0):
    """Ragged assets with their own sessions, random holes in the features, and sessions that some skip."""
    rng = np.random.default_rng(seed)
    shape = len(lengths), max(lengths) + padding
    history = History(
        features=np.full((*shape, features), np.nan, np.float32),
        log_return=np.full(shape, np.nan),
        ewma_variance=np.full(shape, np.nan),
        session=np.full(shape, -1),
        last_session=2 * max(lengths),
    )
    for asset, length in enumerate(lengths):
        history.features[asset, :length] = rng.standard_normal((length, features))
        history.features[asset, : min(length, 2)] = np.nan
        history.log_return[asset, 1:length] = rng.standard_normal(max(length - 1, 0))
        history.ewma_variance[asset, 1:length] = 1.0
        history.session[asset, :length] = np.sort(rng.choice(2 * max(lengths), length, replace=False))
    history.features[0, 20:21, 1] = np.nan
    return history


def may_train(history, asset, t):
    """The rule for one sample, as it reads."""
    last = int((history.session[asset] >= 0).sum()) - 1
    if t + H > last or t - L + 1 < 0:
        return False
    label = sum(history.log_return[asset, t + k] for k in range(1, H + 1))
    return bool(np.isfinite(history.features[asset, t - L + 1 : t + 1]).all() and np.isfinite(label))


def test_a_label_is_the_sum_of_the_next_returns():
    log_return = np.array([[np.nan, 1.0, 2.0, 4.0, 8.0, np.nan]])
    np.testing.assert_array_equal(windows.targets(log_return, 2)[0], [3, 6, 12, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("sessions", [1, 2, 3])
def test_a_history_shorter_than_the_horizon_has_no_label(sessions):
    assert np.isnan(windows.targets(np.zeros((2, sessions)), 3)).all()


def test_labels_are_the_same_bytes_when_more_history_follows():
    log_return = np.random.default_rng(0).standard_normal((3, 200))
    whole, part = windows.targets(log_return, 21), windows.targets(log_return[:, :150].copy(), 21)
    assert part[:, :129].tobytes() == whole[:, :129].tobytes()
    assert np.isnan(part[:, 129:]).all()


@pytest.mark.parametrize("seed", range(5))
def test_training_samples_follow_the_rule(seed):
    history = make_history(seed=seed)
    expected = [[may_train(history, i, t) for t in range(40)] for i in range(4)]
    samples = windows.training_samples(history, L, H)
    assert samples.any()
    np.testing.assert_array_equal(samples, expected)


def test_no_label_crosses_the_last_own_session():
    history = make_history()
    samples = windows.training_samples(history, L, H)
    labels = windows.targets(history.log_return, H)
    for asset, t in np.argwhere(samples):
        changed = history.log_return.copy()
        changed[asset, t + H + 1 :] += 1.0
        assert windows.targets(changed, H)[asset, t] == labels[asset, t]
        assert history.session[asset, t + H] >= 0
        changed[asset, t + H] += 1.0
        assert windows.targets(changed, H)[asset, t] != labels[asset, t]


@pytest.mark.parametrize("field", ["features", "log_return", "ewma_variance"])
def test_a_hole_removes_the_samples_that_need_it(field):
    history = make_history((40,))
    before = windows.training_samples(history, L, H)[0]
    getattr(history, field)[0, 30] = np.nan
    lost = np.flatnonzero(before & ~windows.training_samples(history, L, H)[0]).tolist()
    needing = {"features": range(30, 30 + L), "log_return": range(30 - H, 30), "ewma_variance": [30]}
    assert lost == list(needing[field])


def test_training_rows_are_those_of_the_windows():
    samples = windows.training_samples(make_history(), L, H)
    expected = np.zeros_like(samples)
    for asset, t in np.argwhere(samples):
        expected[asset, t - L + 1 : t + 1] = True
    np.testing.assert_array_equal(windows.training_rows(samples, L), expected)


def test_a_lookback_longer_than_the_panel_has_no_sample():
    history = make_history((6, 4))
    samples = windows.training_samples(history, 10, 1)
    assert not samples.any()
    assert not windows.training_rows(samples, 10).any()


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_every_sample_is_visited_once_an_epoch(seed, chunk, size):
    history = make_history(seed=seed, lengths=(40, 25, 0, 12, 9))
    samples = windows.training_samples(history, L, H)
    plan = windows.chunks(samples, chunk, np.random.default_rng(seed))
    visited = np.zeros(samples.size, int)
    for start in range(0, len(plan), size):
        visited[windows.batch(plan[start : start + size], L, chunk, samples.shape[1]).samples] += 1
    np.testing.assert_array_equal(visited.reshape(samples.shape), samples)


def test_a_chunk_reads_the_rows_of_its_windows_only():
    history = make_history()
    samples = windows.training_samples(history, L, H)
    flat = history.features.reshape(-1, 2)
    chunk = 8
    for part in windows.chunks(samples, chunk, np.random.default_rng(1)):
        batch = windows.batch(part[None], L, chunk, samples.shape[1])
        for state, sample in zip(batch.states, batch.samples, strict=True):
            context = batch.rows[0, : state + 1]
            assert L <= context.size <= L - 1 + chunk
            assert context[-1] == sample
            np.testing.assert_array_equal(np.diff(context), 1)
            assert np.isfinite(flat[context]).all()


def test_offsets_and_order_differ_between_epochs_and_repeat_with_the_generator():
    samples = np.ones((2, 100), bool)
    generator = np.random.default_rng(0)
    first, second = (windows.chunks(samples, 9, generator) for _ in range(2))
    assert first.tolist() != second.tolist()
    assert sorted(first[:, 1].tolist()) != sorted(second[:, 1].tolist())
    assert windows.chunks(samples, 9, np.random.default_rng(0)).tolist() == first.tolist()


def test_no_sample_gives_no_chunk():
    assert windows.chunks(np.zeros((3, 10), bool), 4, np.random.default_rng(0)).shape == (0, 3)


def test_forecast_windows_are_the_last_own_sessions():
    history = make_history(padding=3)
    window = windows.forecast_windows(history, L)
    assert window.dtype == np.float32
    for asset, length in enumerate((40, 25, 0, 7)):
        expected = history.features[asset, length - L : length] if length >= L else np.full((L, 2), np.nan)
        np.testing.assert_array_equal(window[asset], expected)


def test_an_asset_with_too_few_sessions_has_no_whole_window():
    window = windows.forecast_windows(make_history((40, 3)), L)
    assert np.isnan(window[1, : L - 3]).all()


def test_last_values_are_those_of_the_last_own_session():
    history = make_history(padding=2)
    history.ewma_variance[:] = np.arange(42)
    np.testing.assert_array_equal(windows.last_values(history.ewma_variance, history.session), [39, 24, np.nan, 6])
