"""Which result is a scenario's newest: tables in which each row takes the next position of its scenario."""

from typing import Any

import pyarrow as pa

from storage import clock, tables
from storage.errors import StoreError
from storage.schemas import TABLES
from storage.store import Store

_ATTEMPTS = 10


def point(store: Store, name: str, scenario: str, key: str, **said: Any) -> None:
    """Say in table `name` that the scenario's newest result is `key`, unless it is said already."""
    for _ in range(_ATTEMPTS):
        rows = tables.read(store, name, scenario=scenario).sort_by("position").to_pylist()
        if rows and rows[-1]["key"] == key:
            return
        row = {"scenario": scenario, "position": len(rows), "key": key, "created_at": clock.now(), **said}
        if tables.claim(store, name, pa.Table.from_pylist([row], TABLES[name].schema)):
            return
    raise StoreError(f"scenario {scenario}: other runs keep writing its results; run it again when they ended")
