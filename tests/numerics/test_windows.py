"""Samples, windows and cuts by brute force, and chunks that hold each sample once."""

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


def test_windows_are_the_own_sessions_up_to_each_column():
    history = make_history(padding=3)
    history.features[:, :2] = 7  # known, so that repeating the first row would show
    asset, column = (index.ravel() for index in np.indices(history.session.shape))
    found = windows.windows_at(history, asset, column, L)
    assert found.dtype == np.float32
    assert found.shape == (asset.size, L, 2)
    for window, i, t in zip(found, asset, column, strict=True):
        expected = [history.features[i, k] if k >= 0 else [np.nan, np.nan] for k in range(t - L + 1, t + 1)]
        np.testing.assert_array_equal(window, np.array(expected, np.float32))


def test_an_asset_with_too_few_sessions_has_no_whole_window():
    history = make_history((40, 3))
    window = windows.windows_at(history, np.array([1]), windows.last_columns(history, history.last_session)[1:], L)
    assert window.shape == (1, L, 2)
    assert np.isnan(window[0, : L - 3]).all()
    np.testing.assert_array_equal(window[0, L - 3 :], history.features[1, :3])


def test_last_columns_are_those_of_the_last_own_session_up_to_a_session():
    history = make_history(padding=2)
    assert windows.last_columns(history, history.last_session).tolist() == [39, 24, -1, 6]
    for session in range(-1, history.last_session + 1):
        before = [[k for k, s in enumerate(row) if 0 <= s <= session] for row in history.session]
        assert windows.last_columns(history, session).tolist() == [max(columns, default=-1) for columns in before]


def test_lengths_count_own_sessions():
    assert windows.lengths(make_history(padding=2).session).tolist() == [40, 25, 0, 7]


def only_until(history, session):
    """A history built asset by asset from what was known at a session."""
    own = [[k for k, s in enumerate(row) if 0 <= s <= session] for row in history.session]
    shape = len(own), max(len(columns) for columns in own)
    built = History(
        features=np.full((*shape, history.features.shape[2]), np.nan, np.float32),
        log_return=np.full(shape, np.nan),
        ewma_variance=np.full(shape, np.nan),
        session=np.full(shape, -1),
        last_session=session,
    )
    for asset, columns in enumerate(own):
        for k in columns:
            for ours, theirs in zip(built[:4], history[:4], strict=True):
                ours[asset, k] = theirs[asset, k]
    return built


@pytest.mark.parametrize("session", [0, 1, 30, 55, 79, 80])
def test_a_cut_history_is_one_built_from_less_data(session):
    history = make_history(padding=4)
    found, expected = windows.cut(history, session), only_until(history, session)
    assert found.last_session == session
    for ours, theirs in zip(found[:4], expected[:4], strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes()


def test_cutting_twice_is_cutting_once_and_changes_nothing_before():
    history = make_history()
    before = [value.tobytes() for value in history[:4]]
    twice, once = windows.cut(windows.cut(history, 60), 40), windows.cut(history, 40)
    assert [value.tobytes() for value in twice[:4]] == [value.tobytes() for value in once[:4]]
    assert [value.tobytes() for value in history[:4]] == before


def long_history(lengths=(700, 420, 0, 160), seed=0):
    """Assets that miss sessions of the calendar, each in its own way, and that end at different times."""
    return make_history(lengths, seed)._replace(last_session=1390)


@pytest.mark.parametrize("years", [0, 1, 2, 5])
def test_the_newest_years_are_counted_in_sessions_of_the_calendar(years):
    history = long_history()
    samples = windows.training_samples(history, L, H)
    kept = windows.newest(samples, history, years)
    for i, t in np.argwhere(samples):
        assert kept[i, t] == (years == 0 or 1390 - history.session[i, t] < 252 * years)
    assert not (kept & ~samples).any()
    assert years in (0, 5) or 0 < kept.sum() < samples.sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sessions", [21, 252])
def test_no_training_label_reaches_the_first_validation_session(seed, sessions):
    history = long_history(seed=seed)
    samples = windows.training_samples(history, L, H)
    train, validation = windows.split(samples, history, H, sessions)
    newest = max(history.session[i, t] for i, t in np.argwhere(samples))
    first, rows = newest - sessions + 1, (0, 0)
    for i, t in np.argwhere(samples):
        assert validation[i, t] == (history.session[i, t] >= first)
        assert train[i, t] == (history.session[i, t + H] < first)
        rows = rows[0] + bool(train[i, t]), rows[1] + bool(validation[i, t])
    assert (train.sum(), validation.sum()) == rows
    assert min(rows) > 0


def test_an_asset_that_missed_sessions_is_divided_by_sessions_and_not_by_rows():
    shape = (2, 60)
    history = History(
        features=np.zeros((*shape, 1), np.float32),
        log_return=np.zeros(shape),
        ewma_variance=np.ones(shape),
        # the second asset misses 20 sessions after its 30th
        session=np.stack([np.arange(60), np.arange(60) + 20 * (np.arange(60) >= 30)]),
        last_session=79,
    )
    train, validation = windows.split(windows.training_samples(history, L, H), history, H, 21)
    # the newest label begins at session 76, so validation begins at 56 and the second asset's rows 27 to 29 are
    # trained on labels that end at sessions 50 to 52
    assert np.flatnonzero(validation[1]).tolist() == list(range(36, 57))
    assert np.flatnonzero(train[1]).tolist() == list(range(L - 1, 36 - H))
    assert np.flatnonzero(validation[0]).tolist() == [56]
    assert np.flatnonzero(train[0]).tolist() == list(range(L - 1, 56 - H))


def test_returns_from_the_first_validation_session_on_are_in_no_training_label():
    history = long_history()
    train, validation = windows.split(windows.training_samples(history, L, H), history, H, 252)
    first = history.session[validation].min()
    before, changed = windows.targets(history.log_return, H), history.log_return.copy()
    changed[history.session >= first] += 1.0
    after = windows.targets(changed, H)
    assert after[train].tobytes() == before[train].tobytes()
    assert (after[validation] != before[validation]).all()


def test_too_few_sessions_leave_no_training_sample():
    history = make_history()
    samples = windows.training_samples(history, L, H)
    train, validation = windows.split(samples, history, H, 100)
    assert not train.any()
    np.testing.assert_array_equal(validation, samples)
    nothing = windows.split(np.zeros_like(samples), history, H, 100)
    assert not nothing[0].any()
    assert not nothing[1].any()
