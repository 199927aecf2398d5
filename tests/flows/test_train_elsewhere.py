"""Trainings that are sent away: asked for once, tried again after a failure, done here where nobody does them."""

import dataclasses
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import train
from storage.errors import InputError
from storage.keys import Moment, PanelKey
from storage.settings import Settings
from tasks import forecast
from tasks.numerics.configs import Forecaster

MOMENT = Moment(datetime(2017, 1, 3).date(), datetime(2016, 12, 30).date(), "prefix")
BLOCK = forecast.Trained(MOMENT, "key of the model")
NOW = datetime.now(UTC)


@pytest.fixture
def plan():
    parameters = SimpleNamespace(model_dump=lambda mode: {"source": "files"})
    return SimpleNamespace(segment=SimpleNamespace(panel=PanelKey("snapshot", "universe"), parameters=parameters))


class State:
    def __init__(self, name):
        self.name = name

    def is_final(self):
        return self.name in ("Completed", "Failed", "Cancelled")

    def is_running(self):
        return self.name == "Running"


@pytest.fixture
def asked(monkeypatch):
    """What the deployment was asked for, and what becomes of each attempt."""
    calls, answers = [], []
    monkeypatch.setenv("PRISM_TRAIN_DEPLOYMENT", "train-forecaster/gpu")
    monkeypatch.setattr(train, "_cancel", lambda run: calls.append(("cancelled", run.name)))

    def run_deployment(name, **given):
        calls.append((given["idempotency_key"], given["timeout"]))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(train, "run_deployment", run_deployment)
    return SimpleNamespace(calls=calls, answers=answers)


def run(state, ended=None):
    return SimpleNamespace(id=1, name="swift-fox", state=State(state), end_time=ended)


def send(plan):
    return train._send(Settings(), plan, [BLOCK])


def test_equal_requests_have_one_key_and_a_failed_one_of_before_is_tried_again(plan, asked):
    asked.answers += [run("Failed", NOW - timedelta(days=1)), run("Completed", NOW + timedelta(hours=1))]
    assert send(plan) == "the run swift-fox of train-forecaster/gpu is Completed and left no models"
    first, second = (key for key, _ in asked.calls)
    assert (first.rpartition(":")[0], first[-2:], second[-2:]) == (second.rpartition(":")[0], ":0", ":1")


def test_a_run_that_fails_now_is_not_tried_again(plan, asked):
    asked.answers.append(run("Failed", NOW + timedelta(hours=1)))
    assert send(plan) == "the run swift-fox of train-forecaster/gpu is Failed and left no models"
    assert len(asked.calls) == 1


def test_one_that_runs_is_waited_for_and_one_that_nobody_begins_is_cancelled(plan, asked):
    asked.answers += [run("Running"), run("Completed", NOW + timedelta(hours=1))]
    send(plan)
    assert [seconds for _, seconds in asked.calls] == [600, 6 * 3600]
    asked.calls.clear()
    asked.answers.append(run("Scheduled"))
    assert send(plan) == "train-forecaster/gpu did not do it in time"
    assert asked.calls[-1] == ("cancelled", "swift-fox")


def test_a_deployment_that_is_not_there_is_said(plan, asked):
    asked.answers.append(ObjectNotFound(Exception()))
    assert send(plan) == "the deployment train-forecaster/gpu is not on the server"


def test_without_a_server_nothing_can_be_sent(monkeypatch):
    monkeypatch.setenv("PRISM_TRAIN_DEPLOYMENT", "train-forecaster/gpu")
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(InputError, match="needs a Prefect server"):
        train.train_elsewhere(None, [])


def test_the_model_is_the_other_machines_unless_only_an_own_one_is_there(store, monkeypatch):
    found = forecast.trained(store, MOMENT, "seen", Forecaster())
    assert found == forecast.Trained(MOMENT, forecast.trained_key("seen", Forecaster()))
    monkeypatch.setenv("PRISM_TRAIN_DEVICE", "cuda")
    theirs = forecast.trained(store, MOMENT, "seen", Forecaster())
    assert (theirs.elsewhere, theirs.key) == ("cuda", forecast.trained_key("seen", Forecaster(), "cuda"))
    monkeypatch.setattr(forecast.tables, "existing", lambda *_: {found.key})
    assert forecast.trained(store, MOMENT, "seen", Forecaster()) == found
    monkeypatch.setattr(forecast.tables, "existing", lambda *_: {found.key, theirs.key})
    assert forecast.trained(store, MOMENT, "seen", Forecaster()) == theirs
    assert dataclasses.replace(theirs, elsewhere=None) != found
