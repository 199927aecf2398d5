"""What a decision may start from, copied from one store to another: rows as they were learned, and nothing computed.

That is bars, actions and instruments of one dataset up to a moment, a person's own forecasts, and the universes.
Snapshots are taken anew from the rows: what is known at a moment is found again, not looked up.
"""

from collections.abc import Collection
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from storage import bars, blobs, snapshots, tables
from storage.errors import InputError
from storage.snapshots import Snapshot
from storage.store import Store

_LEARNED = ("bars", "actions", "instruments")


def copy(source: Store, target: Store, dataset: str, known_at: datetime, written_by: datetime) -> None:
    """Copy what was known of a dataset at `known_at`, and the own forecasts that were in the store by `written_by`."""
    _check_apart(source, target)
    moments = dict.fromkeys(_LEARNED, known_at) | {"own_forecasts": written_by}
    for name, moment in moments.items():
        rows = tables.read(source, name, dataset=dataset)
        put(target, name, rows.filter(pc.less_equal(rows["known_from"], pa.scalar(moment, pa.timestamp("us")))))


def put(target: Store, name: str, rows: pa.Table) -> None:
    """Add rows of knowledge where there are any."""
    if rows.num_rows:
        tables.append(target, name, rows)


def copy_universes(source: Store, target: Store, identities: Collection[str]) -> None:
    """Copy the universes of these ids."""
    _check_apart(source, target)
    blobs.put_all(target, [blobs.get(source, identity) for identity in sorted(identities)])


def copy_holdings(source: Store, target: Store, scenario: str, name: str, written_by: datetime) -> None:
    """Copy the imports of a scenario's holdings that were in the store by `written_by`, to the scenario `name`."""
    _check_apart(source, target)
    rows = tables.read(source, "holdings", scenario=scenario).sort_by("position")
    rows = rows.filter(pc.less_equal(rows["imported_at"], pa.scalar(written_by, pa.timestamp("us"))))
    if rows.num_rows:
        named = pa.array([name] * rows.num_rows, pa.string())
        tables.claim(target, "holdings", rows.set_column(rows.column_names.index("scenario"), "scenario", named))


def snapshot(store: Store, dataset: str, known_at: datetime, delisted: dict[str, date]) -> Snapshot:
    """Take the snapshot of `known_at` from the rows that the store holds."""
    known = bars.latest(store, dataset, known_at)
    return snapshots.take(store, dataset, known, known_at, f"known at {known_at}", delisted)


def _check_apart(source: Store, target: Store) -> None:
    if source.root == target.root:
        raise InputError(f"the store {source.root} cannot be copied into itself; name another folder")
