"""Progress of long work: what the log says, with the time left, and that nothing is asked of Prefect outside a task."""

import logging
from dataclasses import replace

import pytest

from tasks import progress
from tasks.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])

    def wait(more):
        seconds[0] += more

    return wait


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "prism.progress")
    return lambda: [record.getMessage().strip() for record in caplog.records if record.name == "prism.progress"]


def test_a_line_has_name_share_detail_and_the_time_left_at_the_pace_so_far(clock, said):
    found = Progress("training 2016-01")
    clock(10)
    found.tell(0.25, "epoch 1 of 4, loss 0.5")
    clock(30)
    found.tell(0.5, "epoch 2 of 4, loss 0.4")
    clock(2)
    found.tell(1.0, "epoch 4 of 4, loss 0.3")
    assert said() == [
        "training 2016-01:  25 %, epoch 1 of 4, loss 0.5, 30 s left",
        "training 2016-01:  50 %, epoch 2 of 4, loss 0.4, 40 s left",
        "training 2016-01: 100 %, epoch 4 of 4, loss 0.3, done",
    ]


@pytest.mark.parametrize(("waited", "words"), [(119, "119 s left"), (120, "2 min left"), (3600, "60 min left")])
def test_long_times_are_told_in_minutes(clock, said, waited, words):
    found = Progress("work")
    clock(waited)
    found.tell(0.5, "half")
    assert said()[0].endswith(words)


def test_what_an_earlier_run_did_counts_as_done_but_not_as_pace(clock, said):
    found = Progress("work", already=0.5)
    clock(10)
    found.tell(0.75, "three quarters")
    assert said() == ["work:  75 %, three quarters, 10 s left"]


def test_no_more_than_one_word_a_second_is_said_except_the_last(clock, said):
    found = Progress("work")
    for step in range(1, 11):
        clock(0.4)
        found.tell(step / 10, f"step {step}")
    assert [line.split(", ")[1] for line in said()] == ["step 3", "step 6", "step 9", "step 10"]


def test_no_step_yet_is_no_error(clock, said):
    found = Progress("work", already=0.5)
    clock(5)
    found.tell(0.5, "nothing new")
    assert said()[0].startswith("work:  50 %, nothing new, ")


def test_outside_a_task_prefect_is_not_asked(monkeypatch, clock, said):
    for name in ("create_progress_artifact", "update_progress_artifact"):
        monkeypatch.setattr(progress, name, lambda *_, **__: pytest.fail("Prefect was asked"))
    found = Progress("work")
    clock(5)
    found.tell(0.5, "half")
    assert len(said()) == 1


def test_a_training_tells_every_epoch_of_every_network(market, small, forecasting, said, monkeypatch):
    monkeypatch.setattr(progress, "_QUIET", 0)
    config = replace(small, training=replace(small.training, epochs=2, ensemble=2))
    forecasting(market, market.panel(market.bars(count=240)), config).train(2016)
    lines = said()
    assert [line.split(", loss")[0] for line in lines] == [
        "training 2016-01:  25 %, network 1 of 2, epoch 1 of 2",
        "training 2016-01:  50 %, network 1 of 2, epoch 2 of 2",
        "training 2016-01:  75 %, network 2 of 2, epoch 1 of 2",
        "training 2016-01: 100 %, network 2 of 2, epoch 2 of 2",
    ]
    assert lines[-1].endswith("done")
    assert all(line.endswith(" left") for line in lines[:-1])
