"""Scenarios: named lines of results, each with its own dataset, universe and parameters.

A scenario is fixed by its first decided month; rows of one without any (a run that died in between) count for
nothing. A later row, an amendment, holds from its month on; months before it keep what was valid for them.
"""

import json
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from storage import clock, tables
from storage.errors import InputError, StoreError
from storage.keys import to_json
from storage.schemas import TABLES
from storage.store import Store

FROM_THE_START = date(1800, 1, 1)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Terms:
    """What holds for the months of a scenario from `valid_from` on."""

    dataset: str
    universe: str  # id of the universe's blob
    parameters: dict[str, Any]
    valid_from: date = FROM_THE_START
    reason: str | None = None


def checked_name(name: str) -> str:
    """The name, if it may name a scenario."""
    if not _NAME.fullmatch(name):
        raise InputError(f"scenario name {name!r} must be lower-case letters, digits, - and _, at most 63 of them")
    return name


def read(store: Store, scenario: str) -> list[Terms]:
    """The terms of a scenario in order of time; empty while it is not fixed."""
    if not tables.read(store, "decisions", ["position"], scenario=scenario).num_rows:
        return []
    terms: list[Terms] = []
    for row in tables.read(store, "scenarios", scenario=scenario).sort_by("position").to_pylist():
        terms = [earlier for earlier in terms if earlier.valid_from < row["valid_from"]]
        values = {name: row[name] for name in ("dataset", "universe", "valid_from", "reason")}
        terms.append(Terms(parameters=json.loads(row["parameters"]), **values))
    return terms


def at(terms: list[Terms], day: date) -> Terms:
    """The terms valid at a rebalance date."""
    return next(entry for entry in reversed(terms) if entry.valid_from <= day)


def write(store: Store, scenario: str, terms: Terms) -> None:
    """Add terms to a scenario, unless another run has just added the same."""
    said = {
        "valid_from": terms.valid_from,
        "dataset": terms.dataset,
        "universe": terms.universe,
        "parameters": to_json(terms.parameters),
        "reason": terms.reason,
    }
    for _ in range(10):
        rows = tables.read(store, "scenarios", scenario=scenario).sort_by("position").to_pylist()
        if rows and rows[-1].items() >= said.items():
            return
        row = {"scenario": scenario, "position": len(rows), "created_at": clock.now(), **said}
        if tables.claim(store, "scenarios", pa.Table.from_pylist([row], TABLES["scenarios"].schema)):
            return
    raise StoreError(f"scenario {scenario}: other runs keep changing it; run the same command again when they ended")
