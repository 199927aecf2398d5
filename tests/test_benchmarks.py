"""The benchmark: what its table says of a run and the one before, and that both of its contestants do the same work."""

import subprocess
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from storage import snapshots
from storage.store import open_store
from tasks.numerics import accounting, fitting, mixtures, online, predictive, return_drawdown, windows
from tasks.numerics import training as learning
from tasks.numerics.configs import OGD_LONG_WINDOW, AccountingConfig, FeatureConfig, ReturnDrawdownConfig
from tests.benchmarks import (
    allocators,
    frame,
    growth,
    orchestration,
    peers,
    readme,
    run,
    scale,
    stages,
    stored,
    training,
    whole,
)
from tests.benchmarks.frame import Section

BEFORE = {"date": "2024-01-31 12:00 UTC", "rows": [{"section": "s", "case": "a", "ratio": 10.0}]}


def test_a_ratio_above_one_is_better_for_ours_in_speeds_and_in_costs():
    assert frame.speed("s", "a", 300, 100, "rows/s").ratio == 3
    assert frame.cost("s", "a", 100, 300, "s").ratio == 3


def test_numbers_are_kept_to_four_digits():
    row = frame.speed("s", "a", 123_456, 1.23456, "rows/s", floor=0.123456)
    assert (row.ours, row.baseline, row.ratio, row.floor) == (123_500, 1.235, 100_000, 0.1235)


def test_cases_take_turns_and_the_first_turn_is_not_counted():
    calls = []
    seconds = frame.interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, turns=3)
    assert "".join(calls) == "abababab"
    assert set(seconds) == {"a", "b"}
    assert all(value >= 0 for value in seconds.values())


@pytest.mark.parametrize(
    ("ratio", "last", "fallen"), [(7.9, 10, True), (8.1, 10, False), (12, 10, False), (1, None, False)]
)
def test_a_fall_of_more_than_a_fifth_is_marked(ratio, last, fallen):
    assert frame.has_fallen(ratio, last) is fallen


def test_a_case_is_compared_with_the_same_case_of_the_last_run():
    row = frame.speed("s", "a", 7, 1, "rows/s")
    assert frame.last_ratio(row, BEFORE) == 10
    assert frame.last_ratio(row._replace(case="b"), BEFORE) is None
    assert frame.last_ratio(row._replace(section="t"), BEFORE) is None
    assert "10.0 fell" in run.cells(Section("s", (), (row,)), row, BEFORE)[6]


def test_a_ratio_below_one_is_shown_as_it_is():
    assert [run.times(ratio) for ratio in (10, 1.04, 0.96, 0.0123)] == ["10.0", "1.0", "0.96", "0.012"]


def test_what_is_wanted_is_a_smallest_ratio_or_a_largest_value():
    speed, memory = frame.speed("s", "a", 29, 1, "rows/s"), frame.cost("s", "m", 700, 1400, "MiB")
    section = Section("s", (), (speed, memory), {"a": 30}, {"m": 700})
    assert frame.wanted(section, speed) == (">= 30 x", False)
    assert frame.wanted(section, memory) == ("<= 700 MiB", True)
    assert frame.wanted(section, speed._replace(case="b")) == ("", True)


def test_a_report_is_read_back_as_it_was_written(tmp_path):
    row = frame.speed("s", "a", 7, 1, "rows/s", floor=0.5)
    found = frame.report([Section("s", ("a note",), (row,))], "2024-02-29 12:00 UTC")
    assert frame.read(tmp_path / "latest.json")["rows"] == []
    frame.write(found, tmp_path / "latest.json")
    assert frame.read(tmp_path / "latest.json") == found
    assert found["notes"] == {"s": ["a note"]}
    assert {"cpu", "cores", "capability", "threads", "torch"} <= set(found["machine"])


def test_the_last_run_is_kept_in_the_form_that_the_next_one_reads():
    found = frame.read()
    assert found["rows"]
    for row in found["rows"]:
        assert list(row) == list(frame.Row._fields)
        assert row["section"] in run.SECTIONS
        assert row["ratio"] > 0
        assert row["floor"] is None or 0 < row["floor"] <= 1


def test_the_readme_shows_the_last_run():
    assert readme.shown(readme.PATH.read_text(), "bench") == run.markdown(frame.read())


def test_a_section_that_does_not_exist_is_refused(capsys):
    assert run.main(["trainig"]) == 2
    assert "'trainig'" in capsys.readouterr().err


# --- the section *training*


@pytest.fixture(scope="module")
def known():
    return training.history((3, 260))


def one_window_at_a_time(**network):
    """A config of which a chunk is one window, so that ours has no longer context than the transcription."""
    config = training.configured(hidden=8, latent=3, batch=8192, **(network or training.DOCUMENT))
    return replace(config, training=replace(config.training, chunk=1, learning_rate=0.01))


def transcribed(parameters, n_features, config):
    """The transcription with our parameters: the same ones, in the same order, under names of its own."""
    net = training.Transcription(n_features, config.network.hidden, config.network.latent)
    values = zip(net.state_dict(), parameters.values(), strict=True)
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in values})
    return net


def test_both_have_the_same_loss_for_the_same_parameters_windows_and_noise(known):
    config = one_window_at_a_time()
    fit, data = training.started(known, config)
    ours = fitting.epoch(fit, data, config, config.training.epochs, training.streams(0))

    shuffle, draws = training.streams(0)
    plan = windows.chunks(data.samples, 1, shuffle)  # one window each, in the order of the noise
    place = np.searchsorted(np.flatnonzero(data.samples), plan[:, 0] * data.samples.shape[1] + plan[:, 1])
    noise = torch.randn((len(plan), config.network.latent), generator=draws)
    inputs, target, weight = (value[place] for value in training.materialised(data, config.features.lookback))
    net = transcribed(fit.parameters, inputs.shape[2], config)
    theirs = training.plain_loss(net(inputs, noise), target, weight, config.loss)

    assert len(plan) == data.samples.sum() > 100
    assert ours.loss == pytest.approx(theirs.item(), rel=1e-5)


def test_materialised_windows_are_those_that_end_at_the_samples(known):
    _, data = training.started(known, one_window_at_a_time())
    inputs, target, weight = training.materialised(data, 66)
    panel, labels = data.inputs.reshape(*data.samples.shape, -1), data.target.reshape(data.samples.shape)
    for row, (asset, last) in enumerate(np.argwhere(data.samples)):
        assert torch.equal(inputs[row], panel[asset, last - 65 : last + 1])
        assert target[row] == labels[asset, last]
    assert inputs.is_contiguous()
    assert (weight > 0).all()


def test_operations_are_those_of_every_step_and_every_window(known):
    config = one_window_at_a_time(head="residual")
    _, data = training.started(known, config)
    count = int(data.samples.sum())
    encoder, heads = 2 * 66 * 4 * 8 * (9 + 8), 2 * (3 * 8 * 3 + 2 * 8 + 8 * 8)
    assert training.operations(config, data.samples, 9, epochs=2) == 3 * 2 * count * (encoder + heads)


def test_the_work_of_both_sides_runs(known):
    config = training.configured(hidden=8, latent=3)
    _, data = training.started(known, config)
    training.plainly(config, data, batches=1)()
    work, _ = training.by_chunks(config, known, epochs=1)
    work()
    training.products(4, 4, 4)()


def test_peak_memory_is_that_of_a_process_of_its_own():
    held = np.ones(32 * 2**20)  # 256 MiB here are not counted there
    assert 1 < frame.peak_memory("math", "gcd") < 100
    assert held.size


def test_what_a_process_of_its_own_takes_is_measured_with_its_arguments():
    assert frame.apart("json", "loads", '{"a": 1}').seconds < 1
    with pytest.raises(subprocess.CalledProcessError):
        frame.apart("json", "loads", "{")


# --- the section *allocators*


def test_the_documents_ratio_is_ours_with_the_sign_turned():
    given = allocators.instance(9, "mixed", 3)
    for weights in np.random.default_rng(0).dirichlet(np.ones(9), 20):
        expected = -return_drawdown.ratio(weights, given.mean, given.covariance, ReturnDrawdownConfig())
        assert allocators.document_ratio(weights, given) == pytest.approx(expected, rel=1e-12)


def test_the_documents_optimiser_finds_what_ours_does_where_the_problem_is_kind():
    given = allocators.instance(9, "mixed", 3)
    ours = return_drawdown.solve(given.mean, given.covariance, ReturnDrawdownConfig())
    theirs = -allocators.document_ratio(allocators.document_weights(given), given)
    assert theirs == pytest.approx(ours.ratio, rel=1e-3)
    assert theirs <= ours.bound + 1e-9


def test_the_documents_step_climbs_our_gradient():
    window = allocators.daily_returns(9, 90, 4)
    step = allocators.DocumentStep(9, window)
    step()
    slope = online.gradient(np.full(9, 1 / 9), window, OGD_LONG_WINDOW)
    moved = step._velocity.numpy() / OGD_LONG_WINDOW.learning_rate
    np.testing.assert_allclose(moved - moved.mean(), slope - slope.mean(), atol=1e-9)  # L1 moves all alike
    assert step.weights.sum() == pytest.approx(1, abs=1e-12)
    assert step.weights.min() >= 0


def test_all_negative_means_are():
    assert (allocators.instance(20, "all negative", 1).mean < 0).all()
    assert (allocators.instance(20, "mixed", 1).mean > 0).any()


# --- the section *growth*


def test_an_exponent_is_the_power_that_a_cost_grows_with():
    assert growth.exponent({20: 4.0, 109: 4.0 * (109 / 20) ** 1.5, 500: 4.0 * 25**1.5}) == pytest.approx(1.5)
    assert growth.exponent({1: 7.0, 64: 7.0, 1024: 7.0}) == pytest.approx(0, abs=1e-12)


def test_a_size_is_compared_with_the_smallest_in_proportion(monkeypatch):
    spent = {"10": 0.002, "30": 0.003}
    monkeypatch.setattr(frame, "interleaved", lambda works, turns: spent)
    small, large, power = growth._grown("online", "assets", dict.fromkeys((10, 30), int))
    assert (small.case, small.ours, small.ratio) == ("online, assets 10", 2, 1)
    assert (large.case, large.ours, large.baseline, large.ratio) == ("online, assets 30", 3, 6, 2)
    assert power.ours == pytest.approx(np.log(1.5) / np.log(3), rel=1e-3)
    assert power.ratio == pytest.approx(1 / power.ours, rel=1e-3)


def test_a_constraint_is_compared_with_none(monkeypatch):
    monkeypatch.setattr(frame, "interleaved", lambda works, turns: {"none": 0.001, "+ limits": 0.004})
    none, limits = growth._constrained("online", dict.fromkeys(("none", "+ limits"), int))
    assert (none.case, none.ratio) == ("online, none", 1)
    assert (limits.case, limits.ours, limits.baseline, limits.ratio) == ("online, + limits", 4, 1, 0.25)


def test_its_market_has_what_the_first_step_looks_back_on():
    known = growth.market(7, 2)
    assert known.mask.shape == (42, 7)
    assert len(known.returns) - 42 >= 251
    np.testing.assert_allclose(known.factors["market"], known.returns.mean(axis=1))


def test_each_constraint_changes_what_is_held():
    known, held = growth.market(growth.N, growth.MONTHS), []
    for config in (OGD_LONG_WINDOW, growth.SHORTS, growth.LIMITED, growth.TAILED, growth.FACTORS):
        allocator = growth.Online(config)
        held.append(allocator.run(allocator.init(known.mask[0]), known)[1])
    for before, after in pairwise(held):
        assert np.abs(after - before).max() > 1e-6


def test_the_work_of_every_month_runs():
    growth.online(12, 1)()
    growth.optimum(12, 2, growth.SECTORED)()


# --- the section *store*


@pytest.fixture(scope="module")
def taken_in(tmp_path_factory):
    """A store and the script's file, both with a market and the month after it; the snapshot before that month."""
    folder, made = tmp_path_factory.mktemp("stored"), stored.bars(4, 320)
    store, kept, path = (str(folder / name) for name in ("store", "kept.parquet", "prices.parquet"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", store)
        made.head(4 * 299).to_parquet(path)
        stored.take_in(store, path)
        before = snapshots.newest(open_store(store), stored.DATASET).snapshot
        made.to_parquet(path)
        stored.take_in(store, path)
    stored.rewrite(kept, path)
    return store, kept, before


def test_both_read_the_same_returns_up_to_a_day_and_ours_as_they_were_known(taken_in):
    store, kept, before = taken_in
    ours, plain = stored.read(store, before, "2001-12-31"), stored.read_plainly(kept, "2001-12-31")
    assert list(ours) == list(plain) == ["T000", "T001", "T002", "T003"]
    assert len(ours) == len(plain) > 240
    np.testing.assert_allclose(ours[1:], plain[1:], rtol=1e-12, atol=1e-15)
    assert len(stored.read(store, before, stored.DAY)) == 299
    assert len(stored.read_plainly(kept, stored.DAY)) == 320


@pytest.mark.parametrize("question", stored.QUESTIONS)
def test_both_give_the_same_answer_to_a_question(taken_in, question):
    store, kept, _ = taken_in
    ours, plain = stored.ask(store, stored.QUESTIONS[question]), stored.PLAIN[question](kept)
    pd.testing.assert_frame_equal(ours, plain, check_dtype=False, rtol=1e-12)
    assert len(ours) in (1, 4, 4 * 16)


# --- the sections *features*, *forecast* and *backtest*


def test_both_compute_the_same_features():
    given = (*stages.logs(5, 400), FeatureConfig())
    ours, plain = stages.computed(*given), stages.in_pandas(*given)
    assert ours.shape == plain.shape == (5, 400, 9)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(plain))
    np.testing.assert_allclose(ours, plain, rtol=2e-5, atol=2e-6)


def test_both_forecast_the_same_from_the_same_draws(known):
    config = stages.documents()
    rows = predictive.rows_at(known, 259, np.ones(3, bool), training.STAMP)
    model = learning._untrained(known, config, training.STAMP)
    ours = mixtures.vlstm(model, known, rows, config)
    nets, inputs = stages.transcribed(model, config), stages.inputs_of(model, known, rows, 66)
    noise = [mixtures._noise(rows, 3, member, config) for member in range(len(nets))]
    for plain in (stages.drawn(nets, inputs, noise), stages.one_by_one(nets, inputs, noise)):
        np.testing.assert_allclose(ours.mean, plain[0], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(ours.variance, plain[1], rtol=1e-5)


def test_both_keep_the_same_account():
    returns, when, targets = stages.rebalanced(1, 12, 7)
    config = AccountingConfig()
    ours = accounting.simulate(returns, np.ones(returns.shape, bool), when, targets[0], config).wealth
    table, days = pd.DataFrame(returns), when.tolist()
    by_frames = stages.by_day((row for _, row in table.iterrows()), days, map(pd.Series, targets[0]), config)
    np.testing.assert_allclose(stages.by_day(returns, days, targets[0], config), ours, rtol=1e-12)
    np.testing.assert_allclose(by_frames, ours, rtol=1e-12)


def test_equal_weights_earn_the_same_in_skfolios_walk_forward():
    returns, _, _ = stages.rebalanced(1, 18, 5)
    table = pd.DataFrame(returns, pd.bdate_range("2011-01-03", periods=len(returns)))
    np.testing.assert_allclose(stages.kept_equal(returns), stages.walked(table), rtol=1e-9, atol=1e-12)


# --- the peer of *training* and *forecast*


def test_where_the_library_is_missing_there_is_no_row_of_it_and_the_benchmark_says_so(known, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert training._peer(training.SIZES[0], known) == []
    assert peers.forecast(known, training.configured(8, 3)) == {}
    assert "neuralforecast is not installed" in peers.note("as many windows")


@pytest.mark.long
def test_the_peer_sees_as_many_sessions_and_values_as_ours_and_draws_as_often(known, monkeypatch):
    losses = pytest.importorskip("neuralforecast.losses.pytorch").DistributionLoss
    seen, draws, forward, sample = [], [], torch.nn.LSTM.forward, losses.sample
    monkeypatch.setattr(torch.nn.LSTM, "forward", lambda net, x, *rest: seen.append(x.shape) or forward(net, x, *rest))
    monkeypatch.setattr(losses, "sample", lambda loss, **given: draws.append(given) or sample(loss, **given))
    config = training.configured(hidden=8, latent=3)
    peers.training(known, config, batches=2)[peers.NAME]()
    assert seen == [(peers.WINDOWS, 66, 1 + 9)] * 2
    work = peers.forecast(known, config)[peers.NAME]
    seen.clear()
    (answer,) = work()
    assert seen == [(3, 66, 10)] + [(3, 1, 10)] * 20
    assert [each["num_samples"] for each in draws] == [32] * 21
    assert answer.shape[0] == 3 * 21
    assert np.isfinite(answer).all()
    assert peers.note("as many windows") == "as many windows"


# --- the section *whole*


def test_twice_as_many_months_through_the_store_must_hold_less_than_a_limit(monkeypatch):
    asked, closes = [], orchestration.closes

    def spent(command, environment):
        asked.append((" ".join(command), environment["PRISM_STORE"]))
        return whole.Spent(9.0, 9.0, 3000.0 if whole.LONG in command else 800.0)

    monkeypatch.setattr(whole, "_spent", spent)
    monkeypatch.setattr(orchestration, "closes", lambda assets, first, last: closes(2, first, last))
    monkeypatch.setattr(orchestration, "server", lambda known: nullcontext(("address", 1)))
    monkeypatch.setattr(orchestration, "measured", lambda *_: {"run": 0.01, "server": 0.01})
    monkeypatch.setattr(whole, "_task_runs", lambda folder: len(asked))
    section = whole.section()
    row = next(row for row in section.rows if row.case == whole.PEAK)
    assert (row.ours, row.baseline) == (3000, 1600)
    assert frame.wanted(section, row) == ("<= 2048 MiB", False)
    (store,) = [store for command, store in asked if "backfill --start 2001-01 --end 2020-12" in command]
    assert [other for _, other in asked].count(store) == 1
    assert len(pd.period_range(whole.LONG, whole.LAST, freq="M")) == 240


# --- the sections *orchestration* and *scale*


def test_processes_of_the_benchmark_know_nothing_of_this_ones_store_or_server(tmp_path, monkeypatch):
    monkeypatch.setenv("PRISM_STORE", "elsewhere")
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere")
    known = orchestration.environment(tmp_path)
    assert known["PRISM_STORE"] == str(tmp_path / "store")
    assert "PREFECT_API_URL" not in known


def test_rows_that_differ_in_the_last_bit_or_are_none_are_no_same_backfill(tmp_path, monkeypatch):
    def compare(one, two):
        rows = iter([pa.table({"weight": [one]}), pa.table({"weight": [two]})] * 2)
        monkeypatch.setattr(scale.catalog, "query", lambda *_: next(rows))
        scale._check_same(tmp_path)

    compare(0.3, 0.3)
    with pytest.raises(RuntimeError, match="different rows"):
        compare(0.3, np.nextafter(0.3, 1))
    monkeypatch.setattr(scale.catalog, "query", lambda *_: pa.table({"weight": []}))
    with pytest.raises(RuntimeError, match="different rows"):
        scale._check_same(tmp_path)
