"""The ledger: one unbroken chain, every change of it found, and the rules for what is appended."""

import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from storage import clock, ledger, schemas, tables
from storage.errors import StoreError
from storage.ledger import Decision
from storage.schemas import TABLES

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from datetime import date
from pathlib import Path
from storage import ledger
from storage.ledger import Decision
from storage.store import open_store
store, me = open_store(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for month in range(1, 6):
    days = date(2024, month, 1), date(2023, month, 28)
    entry = Decision("main", *days, "backfill", None, (f"w{me}-{month}",), f"t{me}-{month}", {"writer": me})
    ledger.append(store, [entry, entry])
"""


def decision(month=1, kind="backfill", content="c", **others):
    days = {"rebalance_date": date(2024, month, 1), "as_of": date(2024, month, 1) - timedelta(days=1)}
    keys = {"forecasts": f"f{month}", "weights": (f"w{month}", f"v{month}"), "trades": f"t{month}"}
    made = {"scenario": "main", **days, "kind": kind, **keys, "record": {"seed": 1, "rate": 0.1}}
    return Decision(**{**made, "content_hash": content, **others})


def rows_of(store):
    return tables.read(store, "decisions").sort_by("position").to_pylist()


def rewrite(store, rows):
    """What a forger would do: other rows in the table, by a commit in order."""
    table = pa.Table.from_pylist(rows, TABLES["decisions"].schema)
    write_deltalake(tables.open_table(store, "decisions"), table, mode="overwrite")


def results(store, month, order=1, names=("s", "u")):
    """Rows of a month's results, in the given order; each weight under a key of its own."""
    day, tickers = date(2024, month, 1), ["A", "B", "$CASH"][::order]
    for name, key, values in (
        (
            "forecasts",
            f"f{month}",
            {"as_of": day, "mean": 0.1, "variance": 0.2, "baseline_variance": 0.3, "model": "m", "label_mean": 0.05}
            | {"scale": 0.4, "lower_90": -0.6, "upper_90": 0.8},
        ),
        ("trades", f"t{month}", {"rebalance_date": day, "strategy": "s", "trade": -0.1, "cost": 1e-4}),
        ("weights", f"w{month}", {"as_of": day, "strategy": names[0], "weight": 1 / 3}),
        ("weights", f"v{month}", {"as_of": day, "strategy": names[1], "weight": 1 / 3}),
    ):
        rows = [{"key": key, "ticker": ticker, **values} for ticker in tickers]
        tables.put(store, name, pa.Table.from_pylist(rows, TABLES[name].schema))


def test_a_chain_is_read_back_as_it_was_appended(store, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: datetime(2024, 7, 1, 12, 0, 0, 5))
    ledger.append(store, [decision(1), decision(2, forecasts=None)])
    ledger.append(store, [decision(1, revision=1, reason="it's", advisory=True)])
    ledger.append(store, [])
    assert ledger.read(store, "main") == [
        decision(1),
        decision(2, forecasts=None),
        decision(1, revision=1, reason="it's", advisory=True),
    ]
    rows = rows_of(store)
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert [row["parent_hash"] for row in rows] == [None, rows[0]["record_hash"], rows[1]["record_hash"]]
    assert {row["created_at"] for row in rows} == {datetime(2024, 7, 1, 12, 0, 0, 5)}
    assert ledger.broken(store, "main") is None


def test_each_scenario_has_a_chain_of_its_own(store):
    for scenario in ("main", "x' OR '1'='1", "main"):
        ledger.append(store, [decision(1, scenario=scenario)])
    assert [len(ledger.read(store, name)) for name in ("main", "x' OR '1'='1", "x")] == [2, 1, 0]
    assert all(ledger.broken(store, name) is None for name in ("main", "x' OR '1'='1", "x"))


def test_the_newest_record_of_a_month_counts_but_for_advisories(store):
    first, second, advised = decision(2), decision(2, content="d", revision=1), decision(1, content="e", advisory=True)
    ledger.append(store, [first, decision(1), second, advised])
    assert ledger.current(store, "main") == {date(2024, 1, 1): decision(1), date(2024, 2, 1): second}
    assert list(ledger.current(store, "main")) == [date(2024, 1, 1), date(2024, 2, 1)]


@pytest.mark.parametrize("column", TABLES["decisions"].columns)
def test_a_changed_field_is_found(store, column):
    ledger.append(store, [decision(month, reason="why") for month in (1, 2, 3)])
    rows = rows_of(store)
    value = rows[1][column]
    changes = {bool: lambda: not value, int: lambda: value + 7, list: lambda: value[::-1]}
    changes |= {str: lambda: value + " ", date: lambda: value + timedelta(days=1)}
    changes |= {datetime: lambda: value + timedelta(microseconds=1)}
    rows[1][column] = changes[type(value)]()
    rewrite(store, rows)
    assert "of scenario main" in ledger.broken(store, "main")
    if column not in ("position", "scenario"):
        assert ledger.broken(store, "main").startswith("record 1 ")


@pytest.mark.parametrize("forge", ["first removed", "middle removed", "swapped", "renumbered", "doubled", "emptied"])
def test_a_record_removed_moved_or_doubled_is_found(store, forge):
    ledger.append(store, [decision(month) for month in (1, 2, 3, 4)])
    rows = rows_of(store)
    if forge == "swapped":
        rows[1]["position"], rows[2]["position"] = 2, 1
    elif forge == "emptied":
        rows[2]["parent_hash"] = None
    elif forge == "doubled":
        rows.insert(2, dict(rows[1]))
    else:
        del rows[0 if forge == "first removed" else 1]
    if forge == "renumbered":
        for position, row in enumerate(rows):
            row["position"] = position
    rewrite(store, rows)
    assert ledger.broken(store, "main") is not None


def test_a_record_forged_with_a_hash_of_its_own_breaks_the_next_one(store):
    ledger.append(store, [decision(month) for month in (1, 2, 3)])
    rows = rows_of(store)
    rows[1]["content_hash"] = "forged"
    rows[1]["record_hash"] = ledger.record_hash(rows[1])
    rewrite(store, rows)
    assert ledger.broken(store, "main").startswith("record 2 of scenario main (2024-03-01)")


def test_writers_at_once_make_one_chain(store):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    command = [sys.executable, "-c", WRITER, str(store.root)]
    writers = [subprocess.Popen([*command, str(me)], **pipes) for me in range(3)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=240)
        assert writer.returncode == 0
    found = [entry.trades for entry in ledger.read(store, "main")]
    assert ledger.broken(store, "main") is None
    assert found[::2] == found[1::2], "records appended together stand together"
    for me in range(3):
        assert [key for key in found[::2] if key.startswith(f"t{me}")] == [f"t{me}-{month}" for month in range(1, 6)]
    assert len(found) == 30


def test_a_chain_that_never_stands_still_is_given_up(store, monkeypatch):
    monkeypatch.setattr(tables, "claim", lambda *_: False)
    with pytest.raises(StoreError, match="the ledger of main is busy"):
        ledger.append(store, [decision()])


def test_the_content_hash_knows_neither_order_nor_key(store):
    results(store, 1)
    (plain,) = ledger.content_hashes(store, [decision(1)])
    results(store, 1, order=-1)
    assert ledger.content_hashes(store, [decision(1)]) == [plain]
    assert ledger.content_hashes(store, [decision(1, weights=("v1", "w1"))]) == [plain]
    for name in ("forecasts", "weights", "trades"):
        rows = tables.read(store, name).to_pylist()
        renamed = [row | {"key": f"other {row['key']}"} for row in rows]
        tables.put(store, name, pa.Table.from_pylist(renamed, TABLES[name].schema))
    keys = {"forecasts": "other f1", "weights": ("other w1", "other v1"), "trades": "other t1"}
    assert ledger.content_hashes(store, [decision(1, **keys)]) == [plain]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("forecasts", "mean"),
        ("forecasts", "baseline_variance"),
        ("forecasts", "upper_90"),
        ("forecasts", "label_mean"),
        ("forecasts", "as_of"),
        ("weights", "weight"),
        ("weights", "ticker"),
        ("weights", "strategy"),
        ("trades", "trade"),
        ("trades", "cost"),
    ],
)
def test_the_content_hash_knows_the_last_bit_of_every_result(store, name, column):
    results(store, 1)
    (plain,) = ledger.content_hashes(store, [decision(1)])
    rows = tables.read(store, name).to_pylist()
    value = rows[0][column]
    changes = {float: lambda: float(np.nextafter(value, 9)), str: lambda: value + "x"}
    changes |= {date: lambda: value + timedelta(days=1)}
    rows[0][column] = changes[type(value)]()
    tables.put(store, name, pa.Table.from_pylist(rows, TABLES[name].schema))
    assert ledger.content_hashes(store, [decision(1)]) != [plain]


def test_the_content_hash_does_not_know_the_model_and_each_month_has_its_own(store):
    results(store, 1)
    results(store, 2)
    plain = ledger.content_hashes(store, [decision(1), decision(2)])
    assert len(set(plain)) == 2
    assert ledger.content_hashes(store, [decision(2)]) == plain[1:]
    rows = [row | {"model": "another"} for row in tables.read(store, "forecasts").to_pylist()]
    tables.put(store, "forecasts", pa.Table.from_pylist(rows, TABLES["forecasts"].schema))
    assert ledger.content_hashes(store, [decision(1), decision(2)]) == plain


def test_a_month_without_trades_or_forecasts_has_a_content_hash(store):
    results(store, 1)
    idle = ledger.content_hashes(store, [decision(1, trades="no rows"), decision(1, forecasts=None), decision(1)])
    assert len(set(idle)) == 3


def test_decisions_whose_rows_changed_or_went_are_told_apart(store):
    for month in (1, 2, 3):
        results(store, month)
    hashes = ledger.content_hashes(store, [decision(month) for month in (1, 2, 3)])
    decided = [decision(month, content=content) for month, content in zip((1, 2, 3), hashes, strict=True)]
    assert ledger.unlike(store, decided) == []
    results(store, 2, names=("s", "changed"))
    gone = replace(decided[2], trades="t9")
    said = "the rows of its results are not those that were decided"
    assert ledger.unlike(store, [*decided[:2], gone]) == [
        (decided[1], said),
        (gone, f"{said}; there are none of trades t9"),
    ]


def test_a_hash_from_before_the_last_columns_came_is_known_again(store):
    results(store, 1)
    rows = tables.read(store, "forecasts").drop_columns(["degrees", *schemas._SIMPLE])
    empty = [pa.nulls(rows.num_rows, pa.float64())] * 6
    tables.put(store, "forecasts", pa.table([*rows.columns, *empty], [*rows.column_names, "degrees", *schemas._SIMPLE]))
    shorter = {"forecasts": {"degrees", *schemas._SIMPLE}, "weights": set(), "trades": set()}
    old = ledger._content_hash(decision(1), ledger._results(store, [decision(1)]), shorter)
    assert old != ledger.content_hashes(store, [decision(1)])[0]
    with_scale = {name: columns - {"degrees"} for name, columns in shorter.items()}
    kept = ledger._content_hash(decision(1), ledger._results(store, [decision(1)]), with_scale)
    assert ledger.unlike(store, [decision(1, content=kept)]) == []
    assert len(ledger.unlike(store, [decision(1, content="other")])) == 1


def test_the_lineage_is_that_of_the_result_keys_in_any_order():
    assert decision(1).lineage == decision(1, weights=("v1", "w1"), kind="published", record={}).lineage
    for keys in ({"weights": ("w1",)}, {"trades": "other"}, {"forecasts": None}):
        assert decision(1, **keys).lineage != decision(1).lineage


def test_a_first_decision_is_appended_as_it_is():
    for kind in ("backfill", "published"):
        assert ledger.settled(decision(kind=kind), [], "why") == decision(kind=kind)
    advised = decision(advisory=True)
    assert ledger.settled(decision(), [advised], "why") == decision(), "an advisory decides nothing"


def test_a_backfilled_month_gets_a_revision_only_if_its_content_changed():
    standing = decision(content="a", revision=3)
    assert ledger.settled(decision(content="a"), [decision(content="z"), standing], "why") is None
    assert ledger.settled(decision(content="z"), [decision(content="z"), standing], "why") == decision(
        content="z", revision=4, reason="why"
    )


def test_publishing_replaces_a_backfilled_record():
    standing = decision(content="a", revision=3)
    same = ledger.settled(decision(content="a", kind="published"), [standing], "why")
    assert same == decision(content="a", kind="published", revision=3, reason="published")
    other = ledger.settled(decision(content="b", kind="published"), [standing], "why")
    assert other == decision(content="b", kind="published", revision=4, reason="why")


@pytest.mark.parametrize("kind", ["backfill", "published"])
def test_an_amended_month_is_published_anew_where_its_content_changed(kind):
    standing = decision(content="a", kind=kind, revision=2)
    advised = decision(content="b", advisory=True, revision=2, reason="why")
    for month in ([standing], [standing, advised]):
        assert ledger.settled(decision(content="a"), month, "why", "my reason") is None
        amended = ledger.settled(decision(content="b"), month, "why", "my reason")
        assert amended == decision(content="b", kind="published", revision=3, reason="why; amended: my reason")
    published_again = ledger.settled(decision(content="c"), [standing, amended], "why")
    assert (published_again.advisory, published_again.revision) == (True, 3)


@pytest.mark.parametrize("kind", ["backfill", "published"])
def test_a_published_month_gets_an_advisory_once_and_is_never_decided_again(kind):
    standing = decision(content="a", kind="published", revision=2)
    again = decision(content="a", kind=kind)
    assert ledger.settled(again, [standing], "why") is None
    advised = ledger.settled(replace(again, content_hash="b"), [standing], "why")
    assert advised == decision(content="b", kind=kind, advisory=True, revision=2, reason="why")
    assert ledger.settled(replace(again, content_hash="b"), [standing, advised], "why") is None
    assert ledger.settled(replace(again, content_hash="c"), [standing, advised], "why").advisory
