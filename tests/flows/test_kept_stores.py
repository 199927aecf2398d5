"""Stores that earlier releases wrote: opened or migrated, queried, verified deeply, and their months decided again."""

import json
import shutil
import tarfile
from datetime import date
from pathlib import Path

import pytest

from flows.replay import replay
from storage import catalog, ledger, migrations, verification
from storage.ledger import BACKFILL, PUBLISHED
from storage.schemas import CASH
from tasks import own_holdings

pytestmark = pytest.mark.flow
# views in which the kept stores have no rows
EMPTY = {
    "actions", "bands", "capacity", "claims", "gates", "instruments", "judgements", "leak_checks", "live",
    "own_forecasts", "portfolio_judgements", "quality", "regimes", "restatements", "spread", "studies", "tunings",
}  # fmt: skip
KEPT = sorted((Path(__file__).parents[1] / "fixtures").glob("store-*.tar.xz"))


@pytest.fixture(scope="module", params=KEPT, ids=lambda file: file.name.partition(".")[0])
def unpacked(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(request.param) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # there from Python 3.11.4 on
        packed.extractall(folder)
    return folder / "store"


@pytest.fixture
def kept(unpacked, tmp_path, place):
    """A copy of a store as it was kept, in this release's format."""
    shutil.copytree(unpacked, tmp_path / "store", symlinks=True)
    migrations.migrate(tmp_path / "store")
    return place(tmp_path / "store")


def test_every_format_is_kept():
    assert KEPT
    numbers = [int(file.name.removeprefix("store-").partition(".")[0]) for file in KEPT]
    assert numbers == [*range(1, migrations.FORMAT + 1)]
    assert all(file.stat().st_size < 500_000 for file in KEPT)


def test_it_is_whole_and_says_what_was_decided(kept):
    found = verification.verify(kept.root, deep=True)
    assert (found.damage, found.records) == ([], 2)
    assert found.files > 100
    first, newest = ledger.current(kept, "main").values()
    assert (first.kind, newest.kind, newest.rebalance_date) == (BACKFILL, PUBLISHED, date(2016, 6, 1))
    rows = catalog.query(kept, "main", "SELECT * FROM weights WHERE strategy = 'return_drawdown'").to_pylist()
    sums = {row["as_of"]: 0.0 for row in rows}
    for row in rows:
        sums[row["as_of"]] += row["weight"]
    assert sums == pytest.approx({date(2016, 4, 29): 1.0, date(2016, 5, 31): 1.0})
    [note] = catalog.query(kept, "main", "SELECT note FROM decisions WHERE kind = 'published'")["note"].to_pylist()
    assert "was approved by Ada: looked at" in note
    with catalog.connect(kept) as connection:
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in catalog.VIEWS}
    assert {name for name, count in counts.items() if not count} == EMPTY
    assert own_holdings.history(kept, "main")[0].shares == {"AAA": 100.0, "BBB": 50.0, CASH: 1000.0}


@pytest.mark.long
def test_its_months_are_decided_again_as_they_were_or_the_difference_is_explained(kept):
    result = replay("2016-05", "2016-06")
    assert result["different"] == 0, json.dumps(result, default=str)
    assert result["identical"] + result["explained"] == 2
