"""Writers killed at random moments, beside a keeper and a reader: nothing lost, doubled or torn, nothing left for good.

`make torture` runs it with thousands of kills.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture import kills

ROOT = Path(__file__).parents[2]
KILLS = 50


def test_nothing_is_lost_doubled_or_torn_by_kills():
    command = [sys.executable, "-m", "tests.torture.kills", "--seeds", "1", "--kills", f"{KILLS}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    tally = json.loads(told.stdout.splitlines()[0])
    assert (tally["wrong"], told.returncode) == ([], 0), told.stderr
    assert tally["kills"] >= KILLS
    assert tally["jobs"], "no writer came so far as to begin a job; nothing was tested"
    assert tally["reads"], "nobody read"


@pytest.mark.long
@pytest.mark.parametrize("planted", ["lost", "doubled", "torn", "left"])
def test_the_harness_sees_what_it_looks_for(tmp_path, planted):
    assert subprocess.run([sys.executable, "-c", PLANTING, planted, tmp_path], cwd=ROOT, check=False).returncode == 0


def test_a_temporary_file_is_told_from_others(tmp_path):
    names = ("a.parquet", "a.parquet#1", ".lock", ".newest.json.0123", "0.json#12")
    for name in names:
        (tmp_path / name).write_text("")
    assert [kills.is_temporary(tmp_path / name) for name in names] == [False, True, False, True, True]


PLANTING = """
import sys
from datetime import date
from pathlib import Path
from storage import tables
from storage.store import open_store
from tests.torture import kills, work
planted, folder = sys.argv[1], Path(sys.argv[2])
calm, store = open_store(folder / "calm"), open_store(folder / "store")
for number in (0, 1):
    work.do(calm, number)
    work.do(store, number)
if planted == "lost":
    tables.forget(store, "weights", [work.key_of("weights", 1)])
if planted == "doubled":
    tables.append(store, "trades", tables.read(store, "trades", key=work.key_of("trades", 1)))
if planted == "torn":
    rows = tables.read(store, "weights", key=work.key_of("weights", 1))
    tables.put(store, "weights", rows.slice(1))
if planted == "left":
    (store.root / ".half").write_text("left")
found = kills.compared(store.root, calm.root)
assert found, "it was not seen"
if planted in ("lost", "torn"):
    assert kills.look(store, {0, 1}), "no reader saw it"
"""
