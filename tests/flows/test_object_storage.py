"""The flows and commands on a store on S3: the same bytes as in a folder, and everything that people do with it."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flows import report_server
from flows.monthly import monthly_rebalance
from flows.rebalance import rebalance
from storage import blobs, catalog, ledger
from storage.store import open_store
from storage.verification import verify

STORE = "s3://prism/decided"
pytestmark = [pytest.mark.long, pytest.mark.flow]
KEYS = "SELECT rebalance_date, forecasts, weights, trades, content_hash FROM decisions ORDER BY ALL"


@pytest.fixture(scope="module")
def both(tmp_path_factory, shared_storage, light, prices):
    """A store in a folder and one on S3, each with two months and a what-if of another alpha; the latter is in use."""
    folder = tmp_path_factory.mktemp("both")
    prices.to_csv(folder / "prices.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_REPORT", "true")
        for name, value in shared_storage.items():
            patched.setenv(name, value)
        found = []
        for root in (folder / "store", STORE):
            patched.setenv("PRISM_STORE", str(root))
            monthly_rebalance(parameters=light, path=str(folder / "prices.csv"), months=2)
            asked = rebalance(parameters={"return_drawdown": {"alpha": 0.7}})
            found.append((open_store(), asked["scenario"]))
        yield found


def test_a_monthly_run_and_a_what_if_give_the_same_bytes_and_keys(both, content):
    (local, whatif), (remote, same) = both
    assert whatif == same
    for scenario in ("main", whatif):
        made = content(remote, scenario)
        assert all(made.values())
        assert made == content(local, scenario)
        assert catalog.query(remote, scenario, KEYS).to_pylist() == catalog.query(local, scenario, KEYS).to_pylist()


def test_a_second_run_and_a_backfill_go_on_from_what_is_there(both, prism):
    _, (remote, _) = both
    before = len(ledger.read(remote, "main"))
    code, out, err = prism("run", "--months", "2", "--store", STORE, "--json")
    assert (code, json.loads(out)["scenario"]) == (0, "main"), err
    assert len(ledger.read(remote, "main")) == before
    code, _, err = prism("backfill", "--start", "2017-10", "--end", "2017-11", "--store", STORE)
    assert code == 0, err
    months = [day.strftime("%Y-%m") for day in ledger.current(remote, "main")]
    assert months == ["2017-10", "2017-11", "2017-12", "2018-01"]


@pytest.mark.parametrize(
    "command",
    [
        ("query", "SELECT count(*) AS n FROM weights", "--json"),
        ("status",),
        ("weights",),
        ("doctor",),
        ("explain", "2017-12"),
        ("report",),
        ("maintain",),
        ("replay", "2017-12"),
        ("verify", "--deep"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_works(both, prism, command):
    code, out, err = prism(*command, "--store", STORE)
    assert code == 0, err
    assert out
    assert "not-to-be-shown" not in out + err


def test_a_report_lies_in_the_bucket_and_opens_on_this_machine(both, prism, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    code, out, err = prism("report", "--open", "--store", STORE, "--json")
    assert code == 0, err
    report = json.loads(out)["report"]
    assert report.startswith(f"{STORE}/reports/")
    copy = Path(opened[0].removeprefix("file://"))
    assert copy.name == report.rpartition("/")[2]
    assert copy.read_bytes().startswith(b"<!DOCTYPE html>")


def test_reports_are_served_from_the_bucket(both):
    _, (remote, _) = both
    place, _ = remote.files.entries(remote.root / "reports")[0]
    with report_server.serving(remote.root / "reports", 0) as address:
        with urllib.request.urlopen(f"{address}/{place.name}") as answer:
            assert answer.read() == place.read_bytes()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/absent.html")


def test_a_backup_restored_in_a_folder_holds_the_same(both, prism, content, tmp_path):
    _, (remote, whatif) = both
    code, out, err = prism("backup", tmp_path, "--store", STORE, "--json")
    assert code == 0, err
    copy = json.loads(out)["backup"]
    code, _, err = prism("restore", copy, "--store", tmp_path / "store")
    assert code == 0, err
    restored = open_store(tmp_path / "store")
    for scenario in ("main", whatif):
        assert content(restored, scenario) == content(remote, scenario)


def test_a_damaged_blob_is_found(both, prism):
    _, (remote, _) = both
    place, _ = remote.files.entries(remote.blobs)[0]
    whole = place.read_bytes()
    try:
        remote.files.write(place, whole[:-1] + bytes([whole[-1] ^ 1]))
        code, out, _ = prism("verify", "--store", STORE)
        assert code == 1
        assert f"damaged: {place.relative_to(remote.root)} has other bytes than its name says" in out
    finally:
        remote.files.write(place, whole)
    assert blobs.get(remote, place.name) == whole
    assert verify(remote.root).is_whole
