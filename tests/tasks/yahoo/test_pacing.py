"""Turns and pauses, by a clock that only moves when someone sleeps."""

import math
import threading
from datetime import datetime

import pytest

from tasks.fetch.pacing import Breaker, Pacer, retry_after


class Clock:
    """Seconds; sleeping moves it on."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    def make(pause=60, longest=900, openings=9):
        return Breaker(pause, longest, openings, clock, clock.sleep)

    return make


def test_calls_go_one_by_one_at_the_rate(clock):
    pacer, went = Pacer(1.5, clock, clock.sleep), []
    for _ in range(4):
        pacer.wait()
        went.append(clock.now - 1000)
    assert went == pytest.approx([0, 2 / 3, 4 / 3, 2])


def test_time_without_calls_saves_up_no_turns(clock):
    pacer = Pacer(2, clock, clock.sleep)
    pacer.wait()
    clock.now += 100
    pacer.wait()
    assert clock.slept == []
    pacer.wait()
    assert clock.slept == [0.5]


def test_threads_that_call_at_once_get_turns_of_their_own():
    slept, guard = [], threading.Lock()

    def sleep(seconds):
        with guard:
            slept.append(seconds)

    pacer = Pacer(10, lambda: 5.0, sleep)
    threads = [threading.Thread(target=pacer.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == pytest.approx([turn / 10 for turn in range(1, 20)])


def test_a_breaker_is_closed_until_a_refusal(breaker, clock):
    made = breaker()
    assert (made.remaining(), made.count, made.ended) == (0, 0, False)
    made.wait()
    assert clock.slept == []


def test_each_opening_lasts_twice_as_long_up_to_the_longest(breaker, clock):
    made = breaker(pause=60, longest=200)
    for _ in range(4):
        made.trip(clock.now)
        made.wait()
        clock.now += 1
    assert clock.slept == [60, 120, 200, 200]


@pytest.mark.parametrize(("demanded", "length"), [(None, 60), (5, 60), (300, 300), (5000, 900)])
def test_the_source_may_demand_a_longer_pause_up_to_the_longest(breaker, clock, demanded, length):
    made = breaker()
    made.trip(clock.now, demanded)
    assert made.remaining() == length


def test_refusals_of_requests_under_way_belong_to_the_opening_and_may_prolong_it(breaker, clock):
    made = breaker()
    sent = clock.now
    clock.now += 2
    made.trip(sent)
    clock.now += 3
    made.trip(sent)
    assert (made.count, made.remaining()) == (1, 57)
    made.trip(sent, 100)
    assert (made.count, made.remaining()) == (1, 100)
    clock.now += 100
    made.trip(sent)  # a late one must not count either, although the breaker is closed again
    assert (made.count, made.remaining()) == (1, 0)
    made.trip(clock.now)
    assert (made.count, made.remaining()) == (2, 120)


def test_the_last_opening_ends_the_run_at_once(breaker, clock):
    made = breaker(openings=2)
    made.trip(clock.now)
    made.wait()
    assert not made.ended
    clock.now += 1
    made.trip(clock.now)
    assert made.ended
    assert made.remaining() == math.inf
    clock.slept.clear()
    made.wait()
    assert clock.slept == []


def test_who_waits_goes_on_waiting_when_the_pause_is_prolonged(clock):
    made = None

    def sleep(seconds):
        clock.sleep(seconds)
        if len(clock.slept) == 1:
            made.trip(900, 30)

    made = Breaker(60, 900, 9, clock, sleep)
    made.trip(clock.now)
    made.wait()
    assert clock.slept == [60, 30]


def test_who_waits_stops_when_the_sleep_says_so(clock):
    made = Breaker(60, 900, 9, clock, lambda _: True)
    made.trip(clock.now)
    made.wait()
    assert made.remaining() == 60


def test_every_opening_is_one_line(breaker, clock, caplog):
    made = breaker(openings=2)
    made.trip(clock.now)
    made.trip(clock.now)
    clock.now += 61
    made.trip(clock.now)
    assert [record.message for record in caplog.records] == [
        "prices: too many requests, refusal 1 of 2; waiting 60 s",
        "prices: too many requests, refusal 2 of 2; ending the run",
    ]


NOW = datetime(2026, 11, 20, 12, 0, 0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Fri, 20 Nov 2026 12:01:30 GMT", 90),
        ("Fri, 20 Nov 2026 13:00:10 +0100", 10),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert retry_after(header, NOW) == seconds
