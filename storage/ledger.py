"""The ledger: one chain of decision records for each scenario, in the order in which they were appended.

A record's hash covers the whole record and its parent's hash, so that no record can be changed, removed or
put between others unseen. `content_hash` covers the results only: the rows of forecasts, weights and trades
in canonical order. A month that was published, or held for want of an approval, is never decided again; what a later
run would have decided is kept beside it as an advisory, and takes its place only where a person amends it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import product, takewhile
from typing import Any

import pyarrow as pa

from storage import clock, tables
from storage.errors import StoreError
from storage.keys import digest, name_of, row_to_json, to_json
from storage.schemas import TABLES
from storage.store import Store

_ATTEMPTS = 20
PUBLISHED, HELD, BACKFILL = "published", "held", "backfill"
RESULTS = ("forecasts", "weights", "trades")


@dataclass(frozen=True)
class Decision:
    """One rebalance date as it was decided."""

    scenario: str
    rebalance_date: date
    as_of: date
    kind: str  # published, held or backfill
    forecasts: str | None  # keys of the results
    weights: tuple[str, ...]
    trades: str
    record: dict[str, Any]  # known_at, prefix, configs, code, versions, ...: what it was made from
    content_hash: str = ""
    revision: int = 0
    advisory: bool = False
    reason: str | None = None

    @property
    def month(self) -> str:
        """What it is called: by the month of its rebalance date, or by the day where every session is decided."""
        return name_of(self.rebalance_date, self.record.get("parameters", {}).get("rebalance") == "D")

    @property
    def is_final(self) -> bool:
        """Whether it was published or held, so that only a person changes it."""
        return self.kind in (PUBLISHED, HELD)

    @property
    def lineage(self) -> str:
        """Hash of the result keys: equal lineage means equal inputs, code and configs throughout."""
        return digest([self.forecasts, sorted(self.weights), self.trades])


def content_hashes(store: Store, decisions: list[Decision]) -> list[str]:
    """For each decision the hash of its results' rows, in canonical order and without keys."""
    rows = _results(store, decisions)
    return [_content_hash(decision, rows) for decision in decisions]


def unlike(store: Store, decisions: list[Decision]) -> list[tuple[Decision, str]]:
    """The decisions whose results' rows are not those that were decided, each with what is wrong, as a sentence."""
    rows, found = _results(store, decisions), []
    for decision in decisions:
        if decision.content_hash in _possible_hashes(decision, rows):
            continue
        lost = [f"{name} {key[:12]}" for name, keys in result_keys(decision).items() for key in keys if key not in rows]
        said = f"; there are none of {', '.join(lost)}" if lost else ""
        found.append((decision, f"the rows of its results are not those that were decided{said}"))
    return found


_Rows = dict[str, list[dict[str, Any]]]  # by key


def _results(store: Store, decisions: list[Decision]) -> _Rows:
    """The rows of the decisions' results."""
    rows: _Rows = {}
    for name in RESULTS:
        wanted = {key for decision in decisions for key in result_keys(decision)[name]}
        for row in tables.read(store, name, ["key", *_hashed(name)], key=wanted).to_pylist():
            rows.setdefault(row.pop("key"), []).append(row)
    return rows


def _hashed(name: str) -> list[str]:
    """The columns that the content hash covers."""
    return [column for column in TABLES[name].columns if column not in ("key", "model")]


def _content_hash(decision: Decision, rows: _Rows, later: dict[str, set[str]] | None = None) -> str:
    """The hash of a decision's rows, without the columns `later` of each table."""
    content = {}
    for name, keys in result_keys(decision).items():
        left_out = later[name] if later else set()
        texts = [
            sorted(
                row_to_json({c: value for c, value in row.items() if c not in left_out} if left_out else row)
                for row in rows.get(key, [])
            )
            for key in keys
        ]
        content[name] = sorted(texts)
    return digest(content)


def _possible_hashes(decision: Decision, rows: _Rows) -> Iterator[str]:
    """The hash of a decision's rows, and those it may have had before tables got their last columns.

    Columns that came after the decision are empty in all its rows.
    """
    choices = []
    for name, keys in result_keys(decision).items():
        held = [row for key in keys for row in rows.get(key, [])]
        columns = _hashed(name)
        empty = list(takewhile(lambda column: all(row[column] is None for row in held), reversed(columns)))  # noqa: B023
        choices.append([(name, set(empty[:count])) for count in range(len(empty) + 1 if held else 1)])
    for choice in product(*choices):
        yield _content_hash(decision, rows, dict(choice))


def result_keys(decision: Decision) -> dict[str, list[str]]:
    """Keys of a decision's results, by table."""
    forecasts = [decision.forecasts] if decision.forecasts else []
    return {"forecasts": forecasts, "weights": list(decision.weights), "trades": [decision.trades]}


def read(store: Store, scenario: str) -> list[Decision]:
    """All records of a scenario, in order."""
    rows = tables.read(store, "decisions", scenario=scenario).sort_by("position").to_pylist()
    return [_decision(row) for row in rows]


def _decision(row: dict[str, Any]) -> Decision:
    values = {name: row[name] for name in Decision.__dataclass_fields__}
    return Decision(**{**values, "weights": tuple(row["weights"]), "record": json.loads(row["record"])})


def current(store: Store, scenario: str) -> dict[date, Decision]:
    """The newest record of each decided month, advisories left out, in order of time."""
    newest = {entry.rebalance_date: entry for entry in read(store, scenario) if not entry.advisory}
    return dict(sorted(newest.items()))


def append(store: Store, decisions: list[Decision], after: int | None = None) -> bool:
    """Append records of one scenario at the end of its chain, all or none; other writers may do so meanwhile.

    With `after`, the number of records that the new ones were made from, they are appended to that chain and no longer
    one: False, with nothing appended, where another writer was first.
    """
    if not decisions:
        return True
    scenario = decisions[0].scenario
    for _ in range(_ATTEMPTS):
        chain = tables.read(store, "decisions", ["position", "record_hash"], scenario=scenario).sort_by("position")
        if after not in (None, chain.num_rows):
            return False
        parent = chain["record_hash"][-1].as_py() if chain.num_rows else None
        rows = []
        for offset, decision in enumerate(decisions):
            rows.append(_row(decision, chain.num_rows + offset, parent))
            parent = rows[-1]["record_hash"]
        if tables.claim(store, "decisions", pa.Table.from_pylist(rows, TABLES["decisions"].schema)):
            return True
    raise StoreError(f"the ledger of {scenario} is busy: other runs were first {_ATTEMPTS} times; run it again")


def _row(decision: Decision, position: int, parent: str | None) -> dict[str, Any]:
    row = {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
    row |= {"weights": list(decision.weights), "record": to_json(decision.record), "lineage": decision.lineage}
    row |= {"position": position, "parent_hash": parent, "created_at": clock.now()}
    return row | {"record_hash": record_hash(row)}


def record_hash(row: dict[str, Any]) -> str:
    """Hash of a record's row, its parent's hash included and its own left out."""
    return digest({name: value for name, value in row.items() if name != "record_hash"})


def broken(store: Store, scenario: str) -> str | None:
    """The first thing wrong with a scenario's chain, as a sentence; None when it is whole."""
    parent = None
    rows = tables.read(store, "decisions", scenario=scenario).sort_by("position").to_pylist()
    for position, row in enumerate(rows):
        if row["position"] != position or row["parent_hash"] != parent or row["record_hash"] != record_hash(row):
            return f"record {position} of scenario {scenario} ({row['rebalance_date']}) is not what was appended"
        parent = row["record_hash"]
    return None


def standing_of(month: list[Decision]) -> Decision | None:
    """The record of a month that counts: its newest that is no advisory."""
    return next((entry for entry in reversed(month) if not entry.advisory), None)


def settled(decision: Decision, month: list[Decision], reason: str | None, amend: str | None = None) -> Decision | None:
    """What to append of a newly computed decision, given the records of its month; None: nothing new.

    A first record is revision 0. Beside a published or held one an advisory is kept; any other gets a new revision
    where its content changed, and is replaced where it was a backfill and now is published or held. With a person's
    reason to `amend` it, a month that came out differently is published anew, whatever stands.
    """
    standing = standing_of(month)
    if standing is None:
        return decision
    if amend is not None:
        differs = standing.content_hash != decision.content_hash
        amended = replace(decision, kind=PUBLISHED, reason=f"{reason}; amended: {amend}")
        return replace(amended, revision=standing.revision + 1) if differs else None
    if standing.is_final:
        known = {entry.content_hash for entry in month}
        new = decision.content_hash not in known
        return replace(decision, advisory=True, revision=standing.revision, reason=reason) if new else None
    if standing.content_hash != decision.content_hash:
        return replace(decision, revision=standing.revision + 1, reason=reason)
    return replace(decision, revision=standing.revision, reason=decision.kind) if decision.is_final else None
