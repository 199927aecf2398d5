"""Locks that exclude other threads and processes, and that die with their holder."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prefect.locking.protocol import LockManager

from tasks.locks import FlockManager

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from tasks.locks import FlockManager
FlockManager().acquire_lock(sys.argv[1], "holder")
print("held", flush=True)
time.sleep(600)
"""
COUNT = """
import sys, time
from pathlib import Path
from tasks.locks import FlockManager
manager, file = FlockManager(), Path(sys.argv[2])
for _ in range(25):
    manager.acquire_lock(sys.argv[1], "holder")
    value = int(file.read_text())
    time.sleep(0.002)
    file.write_text(str(value + 1))
    manager.release_lock(sys.argv[1], "holder")
"""


def process(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE)


@pytest.fixture
def holder():
    """A process that holds the lock "held elsewhere"."""
    other = process(HOLD, "held elsewhere")
    assert other.stdout.readline() == b"held\n"
    yield other
    other.kill()
    other.wait()
    other.stdout.close()


def later(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_lock_is_free_again_when_its_process_is_killed(holder):
    manager = FlockManager()
    waiting = later(lambda: manager.acquire_lock("held elsewhere", "me"))
    waiting.join(0.3)
    assert waiting.is_alive()
    assert not manager.is_locked("held elsewhere")
    os.kill(holder.pid, signal.SIGKILL)
    waiting.join(20)
    assert manager.is_lock_holder("held elsewhere", "me")
    manager.release_lock("held elsewhere", "me")


@pytest.mark.parametrize("wait", ["aacquire_lock", "await_for_lock"])
def test_waiting_in_a_coroutine_leaves_the_loop_running(wait):
    holder, manager = FlockManager(), FlockManager()
    holder.acquire_lock(wait, "holder")
    rescue = threading.Timer(5, holder.release_lock, (wait, "holder"))  # a loop that stands still would hang here
    rescue.start()

    async def turns():
        waiting = manager.aacquire_lock(wait, "me") if wait == "aacquire_lock" else manager.await_for_lock(wait)
        task, turned = asyncio.create_task(waiting), 0
        for _ in range(20):
            await asyncio.sleep(0.01)
            turned += not task.done()
        rescue.cancel()
        holder.release_lock(wait, "holder")
        return turned, await task

    assert asyncio.run(turns()) == (20, True)
    assert manager.is_locked(wait) == (wait == "aacquire_lock")


def test_two_processes_never_hold_a_lock_at_once(tmp_path):
    file = tmp_path / "count"
    file.write_text("0")
    both = [process(COUNT, "counted", file) for _ in range(2)]
    assert [other.wait(60) for other in both] == [0, 0]
    assert file.read_text() == "50"
    for other in both:
        other.stdout.close()


def test_two_threads_of_one_process_exclude_each_other():
    manager, order = FlockManager(), []
    manager.acquire_lock("threads", "one")

    def second():
        manager.acquire_lock("threads", "two")
        order.append("second")
        manager.release_lock("threads", "two")

    waiting = later(second)
    waiting.join(0.2)
    order.append("first")
    manager.release_lock("threads", "one")
    waiting.join(20)
    assert order == ["first", "second"]


def test_a_holder_gets_its_lock_again_and_gives_it_back_once():
    manager = FlockManager()
    assert isinstance(manager, LockManager)
    assert manager.acquire_lock("again", "me")
    assert manager.acquire_lock("again", "me")
    assert manager.is_lock_holder("again", "me")
    assert not manager.is_lock_holder("again", "another")
    manager.release_lock("again", "me")
    assert not manager.is_locked("again")
    assert manager.wait_for_lock("again")


def test_locks_of_different_keys_do_not_wait_for_each_other():
    manager, keys = FlockManager(), ("a/b", "../c", "x" * 1000)
    assert all(manager.acquire_lock(key, "me") for key in keys)
    for key in keys:
        manager.release_lock(key, "me")
    assert not any(map(manager.is_locked, keys))
