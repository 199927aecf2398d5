"""Upkeep as people call it: maintained, verified, backed up, restored; a restored copy decides the same."""

import json
import os
import time

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Completed

from flows import maintain as upkeep
from flows.maintain import maintain
from flows.replay import replay
from flows.reporting import report
from flows.verify import verify
from storage import blobs, ledger, tables
from storage.errors import NoDataError, StoreError
from storage.verification import verify as verified
from tasks import caching

pytestmark = pytest.mark.flow


@pytest.mark.long
def test_a_restored_copy_replays_its_months_identically(decided_quickly, place, prism, tmp_path, content):
    store = place(decided_quickly)
    code, out, error = prism("backup", tmp_path / "backups", "--store", decided_quickly, "--json")
    assert code == 0, error
    copy = json.loads(out)["backup"]
    assert copy.startswith(str(tmp_path / "backups" / "store-"))
    before = content(store)
    restored = place(tmp_path / "restored")
    restored.root.rename(tmp_path / "empty")
    os.rename(copy, tmp_path / "restored")
    restored = place(tmp_path / "restored")
    assert content(restored) == before
    found = replay("2016-12", "2017-01")
    assert (found["identical"], found["explained"], found["different"]) == (2, 0, 0)
    assert prism("verify", "--deep", "--store", restored.root)[0] == 0


@pytest.mark.long
def test_maintenance_changes_no_result_and_says_what_went(decided_quickly, place, tmp_path, prism, content):
    code, out, _ = prism("backup", tmp_path, "--store", decided_quickly, "--json")
    store = place(json.loads(out)["backup"])
    before, old = content(store), time.time() - 200 * 86_400
    lost = blobs.path(store, blobs.put(store, b"nothing names it"))
    os.utime(lost, (old, old))
    record = caching._RESULTS / "of-long-ago"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("{}")
    os.utime(record, (old, old))
    code, out, error = prism("maintain", "--store", store.root, "--json")
    assert code == 0, error
    done = json.loads(out)
    assert (done["blobs"], done["records"], lost.exists(), record.exists()) == (1, 1, False, False)
    assert len(tables.open_table(store, "decisions").file_uris()) <= 8
    assert content(store) == before
    assert verified(store.root, deep=True).damage == []


@pytest.mark.long
def test_the_flows_of_the_schedule_say_what_they_found(decided_quickly, place):
    store = place(decided_quickly)
    assert verify.fn(deep=True)["records"] == len(ledger.read(store, "main"))
    with pytest.raises(NoDataError, match="scenario other has decided nothing to report"):
        report.fn("other")


def test_a_damaged_store_fails_the_scheduled_verification(store, monkeypatch):
    blob = blobs.put(store, b"whole")
    blobs.path(store, blob).write_bytes(b"rotten")
    monkeypatch.setattr("flows.verify.create_table_artifact", lambda rows, *_: made.extend(rows))
    made = []
    with pytest.raises(StoreError, match=r"damaged in 1 places: blobs/sha256/.* has other bytes than its name says"):
        verify.fn()
    assert [row["place"] for row in made] == [f"blobs/sha256/{blob[:2]}/{blob}"]


def test_maintenance_of_an_empty_store_does_nothing(store):
    nothing = dict.fromkeys(("data_files", "blobs", "bytes_of_blobs", "temporaries", "records", "runs"), 0)
    assert maintain.fn() | {"records": 0} == nothing


def test_maintenance_deletes_our_runs_of_long_ago_from_prefects_database():
    @flow(name="somebody else's")
    def other():
        pass

    with get_client(sync_client=True) as client:
        made = [client.create_flow_run(each, state=Completed()).id for each in (maintain, other)]

        def there():
            left = {run.id for run in client.read_flow_runs()}
            return [identity in left for identity in made]

        upkeep._forget_runs(1)
        assert there() == [True, True], "they are young"
        assert upkeep._forget_runs(0) > 0
        assert there() == [False, True]
