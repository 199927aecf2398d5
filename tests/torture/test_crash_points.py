"""Every call on the store's files may fail: a sample of the points here, all of them by `make torture`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture import crashes, power
from tests.torture.crashes import Call

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """Runs a module of the torture under the shim: a tally for each way of writing."""
    try:
        library = crashes.built(tmp_path_factory.mktemp("shim"))
    except RuntimeError as error:
        pytest.skip(str(error))

    def run(module, *arguments):
        command = [sys.executable, "-m", f"tests.torture.{module}", *arguments]
        environment = os.environ | {"LD_PRELOAD": str(library)}
        told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        *tallies, total = map(json.loads, told.stdout.splitlines())
        assert [entry["wrong"] for entry in tallies] == [[]] * len(tallies), told.stderr
        assert told.returncode == 0
        return total

    return run


def test_a_sample_of_crash_points_leaves_old_or_new_and_is_healed_by_a_retry(shim):
    total = shim("crashes", "put", "unfinished again", "--every", "7")
    assert total["points"] > 10
    assert total["told"]


def test_power_cuts_lose_nothing_that_was_reported_and_are_told(shim):
    total = shim("power", "put", "--every", "2")
    assert total["points"] > 5
    assert total["told"]


@pytest.mark.long
def test_an_eleventh_of_all_crash_points(shim):
    total = shim("crashes", "--every", "11", "--from", "3")
    assert total["ways"] == len(crashes.PATHS)
    assert total["points"] > 200


def test_bytes_and_names_are_known_to_be_on_the_disk_once_they_were_synced():
    def listed(*calls):
        return [Call(n, name, path, other) for n, (name, path, other) in enumerate(calls, 1)]

    written = [("write", "/s/.a", ""), ("rename", "/s/.a", "/s/a")]
    assert power.unsynced(listed(*written)) == ({"/s/a"}, {"/s/a"})
    assert power.unsynced(listed(written[0], ("fsync", "/s/.a", ""), written[1])) == (set(), {"/s/a"})
    assert power.unsynced(listed(*written, ("syncfs", "/s", ""))) == (set(), set())
    linked = [("write", "/s/a#1", ""), ("link", "/s/a#1", "/s/a"), ("unlink", "/s/a#1", "")]
    assert power.unsynced(listed(*linked)) == ({"/s/a"}, {"/s/a"})
