"""Amending a published month, what a backfill says of published ones, and `prism verify` on what flows have stored."""

import json
import shutil
from datetime import date, datetime

import pytest

from flows import parameters as forms
from flows.amend import amend
from flows.backfill import backfill
from flows.monthly import monthly_rebalance
from storage import catalog, clock, ledger, tables
from storage.errors import InputError
from storage.store import open_store
from storage.verification import verify

pytestmark = pytest.mark.flow
NOVEMBER, DECEMBER = date(2017, 11, 1), date(2017, 12, 1)
RESTATED = "data: 1 bar restated from 2017-10"


@pytest.fixture(scope="module")
def published(tmp_path_factory, prices, light):
    """A store with two published months, and one backfilled before them; and a file with a bar restated since."""
    folder = tmp_path_factory.mktemp("published")
    parameters = forms.make(forms.merged(light.values(), {"forecast": {"forecaster": "ewma"}}))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRISM_STORE", str(folder / "store"))
        for last, today in (("2017-10-31", datetime(2017, 11, 1, 12)), ("2017-11-30", datetime(2017, 12, 1, 12))):
            patched.setattr(clock, "now", lambda today=today: today)
            prices.loc[:last].to_csv(folder / "prices.csv")
            result = monthly_rebalance(parameters=parameters, path=str(folder / "prices.csv"), months=2)
        assert result["published"] == {"2017-11": "identical"}
    later = prices.copy()
    later.loc["2017-10-20", "BBB"] *= 1.05
    later.to_csv(folder / "restated.csv")
    return folder


@pytest.fixture
def place(published, tmp_path, monkeypatch):
    """A copy of it, and the file of restated prices."""
    shutil.copytree(published / "store", tmp_path / "store")
    monkeypatch.setenv("PRISM_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(clock, "now", lambda: datetime(2018, 3, 1))
    return open_store(), str(published / "restated.csv")


def test_an_amended_month_is_a_new_record_and_the_next_one_is_looked_at_again(place, content):
    store, path = place
    chain, before = ledger.read(store, "main"), content(store)
    result = amend("2017-11", " the vendor corrected BBB ", path=path)
    assert ledger.read(store, "main")[: len(chain)] == chain, "nothing is edited"
    made, advisory = ledger.read(store, "main")[len(chain) :]
    assert (made.rebalance_date, made.kind, made.revision, made.advisory) == (NOVEMBER, "published", 1, False)
    assert made.reason == f"{RESTATED}; amended: the vendor corrected BBB"
    assert (result["asked"], result["revision"], result["reason"]) == ("2017-11", 1, made.reason)
    assert result["decided"] == ["2017-11", "2017-12"]
    assert (advisory.rebalance_date, advisory.advisory, advisory.reason) == (DECEMBER, True, RESTATED)
    assert advisory.record["holdings"] == list(made.weights)
    assert ledger.broken(store, "main") is None
    shown = catalog.query(store, "main", "SELECT revision, content_hash FROM decisions ORDER BY rebalance_date")
    assert shown["revision"].to_pylist() == [0, 1, 0]
    assert shown["content_hash"][1].as_py() == made.content_hash
    assert content(store, names=("weights",)) != {"weights": before["weights"]}
    with pytest.raises(InputError, match=r"2017-11 would be decided as it stands.*nothing was appended"):
        amend("2017-11", "again")
    assert len(ledger.read(store, "main")) == len(chain) + 2


@pytest.mark.long
def test_months_backfilled_after_an_amended_one_start_their_trades_from_it(place):
    store, path = place
    backfill("2018-01", "2018-01", path=path)
    first = ledger.current(store, "main")[date(2018, 1, 2)]
    result = amend("2017-12", "restated")
    newest = ledger.current(store, "main")
    assert newest[date(2018, 1, 2)].reason == "the rebalance date before was decided differently"
    assert newest[date(2018, 1, 2)].trades != first.trades
    assert newest[date(2018, 1, 2)].record["holdings"] == list(newest[DECEMBER].weights)
    assert newest[date(2018, 1, 2)].revision == 1
    assert result["decided"] == ["2017-12", "2018-01"]


@pytest.mark.long
def test_a_backfill_says_of_each_published_month_how_it_compares(place, prism):
    store, path = place
    months = ("--start", "2017-11", "--end", "2017-12")
    code, out, err = prism("backfill", *months, "--source", "files", "--path", path, "--store", store.root)
    assert code == 0
    for name in ("2017-11", "2017-12"):
        assert f"{name}, published before: would differ, an advisory is kept ({RESTATED})\n" in out
        assert f"{name}, compared with what was published: {RESTATED}" in err
    records = len(ledger.read(store, "main"))
    again = backfill("2017-11", "2017-12")
    assert again["published"] == {"2017-11": RESTATED, "2017-12": RESTATED}, "said again, kept once"
    assert (again["decided"], len(ledger.read(store, "main"))) == ([], records)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("2017-11",), "Missing option '--reason'"),
        (("2017-11", "--reason", " "), "an amendment needs a reason"),
        (("2017-13", "--reason", "x"), "month '2017-13' is neither a month nor a day; write it as"),
        (
            ("2017-09", "--reason", "x"),
            "has not decided 2017-09, so there is nothing to amend; `prism backfill --start",
        ),
        (("2017-10", "--reason", "x"), "2017-10 would be decided as it stands"),
        (("2017-11", "--reason", "x", "--scenario", "other"), "scenario other publishes nothing"),
    ],
)
def test_what_cannot_be_amended_is_refused_with_a_sentence(place, prism, given, sentence):
    store, _ = place
    chain = ledger.read(store, "main")
    code, _, err = prism("amend", *given, "--store", store.root)
    assert code == 2
    assert sentence in err
    assert ledger.read(store, "main") == chain


@pytest.mark.long
def test_an_amended_store_is_whole_and_says_where_it_is_not(place, prism):
    store, path = place
    code, out, _ = prism("amend", "2017-11", "--reason", "new prices", "--path", path, "--store", store.root)
    assert code == 0
    assert out.startswith(f"2017-11 amended, revision 1: {RESTATED}; amended: new prices\n")
    code, out, _ = prism("verify", "--store", store.root)
    assert (code, out.count("\n")) == (0, 1)
    assert f"store {store.root}: whole; looked at 5 decision records" in out
    code, out, _ = prism("verify", "--deep", "--json", "--store", store.root)
    document = json.loads(out)
    assert code == 0
    assert (document["whole"], document["damage"], document["notes"]) == (True, [], [])
    assert (document["checked"]["records"], document["checked"]["files"] > 100) == (5, True)
    used = {row["blob"] for name in ("features", "predictions") for row in tables.read(store, name).to_pylist()}
    blob = next(file for file in store.blobs.rglob("*") if file.is_file() and file.name not in used)
    blob.write_bytes(b"")
    code, out, _ = prism("verify", "--store", store.root)
    assert code == 1
    assert f"damaged: {blob.relative_to(store.root)} is empty; restore it from a backup" in out
    assert "damaged in 1 place;" in out


def test_without_a_store_there_is_nothing_to_verify(tmp_path, prism):
    code, _, err = prism("verify", "--store", tmp_path / "none")
    assert (code, (tmp_path / "none").exists()) == (2, False)
    assert "there is no store at" in err


def test_a_store_whose_marker_is_lost_is_named_and_not_made_anew(place, prism):
    store, _ = place
    (store.root / "STORE.json").unlink()
    code, out, _ = prism("verify", "--store", store.root)
    assert (code, "damaged: STORE.json is missing" in out) == (1, True)
    assert not (store.root / "STORE.json").exists()


@pytest.mark.long
def test_damage_to_any_file_of_a_run_is_named(place, monkeypatch):
    store, _ = place
    monkeypatch.setattr("storage.verification._LOOKS", 1)
    folders = ("tables", "blobs", "manifests")
    files = [file for name in folders for file in sorted((store.root / name).rglob("*")) if file.is_file()]
    files = [file for file in files if not file.name.startswith(".")]
    for number, file in enumerate([*files[::3], store.root / "STORE.json"]):
        content, size = file.read_bytes(), file.stat().st_size
        flipped = bytearray(content)
        flipped[number * 7919 % size] ^= 1 << number % 8
        for damaged in (bytes(flipped), content[: size // 2], b"", None):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            assert [entry.place for entry in verify(store.root, deep=True).damage] == [
                str(file.relative_to(store.root))
            ]
            file.write_bytes(content)
    assert verify(store.root, deep=True).is_whole
