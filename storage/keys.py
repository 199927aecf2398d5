"""Keys: small frozen values that name content, and the hash that makes them.

A key is the SHA-256 of the canonical JSON of all that an answer depends on. Tasks take and return keys;
frames and arrays never cross a task's boundary.
"""

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from typing import Any


def canonical(value: Any) -> Any:
    """The JSON form of a key's ingredient; raises TypeError for whatever has no exact one (frames, sets, objects)."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: canonical(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, dict):
        return {str(name): canonical(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(entry) for entry in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} cannot be part of a key; pass a key, a number, a date or a string")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False, default=lambda day: day.isoformat()
)


def to_json(value: Any) -> str:
    """Canonical JSON: sorted names, no spaces, no NaN."""
    return _ENCODER.encode(canonical(value))


def row_to_json(row: dict[str, Any]) -> str:
    """The same of a row as Arrow gives it, whose values need no look: in half the time."""
    return _ENCODER.encode(row)


def digest(value: Any) -> str:
    """SHA-256, in hexadecimal, of the canonical JSON of `value`."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class PanelKey:
    """Prices to read: a snapshot, and the universe whose tickers and index are taken from it."""

    snapshot: str
    universe: str  # id of the universe's blob


def name_of(rebalance_date: date, daily: bool) -> str:
    """What a decision is called: by its month, or by its day where every session is decided."""
    return f"{rebalance_date}" if daily else f"{rebalance_date:%Y-%m}"


@dataclass(frozen=True)
class Moment:
    """One decision's point in time, and the content of all it may see."""

    rebalance_date: date
    as_of: date
    prefix: str  # hash of the universe and of its bars up to as_of
    daily: bool = False  # one of a decision at every session

    @property
    def month(self) -> str:
        """Its name: the month of its rebalance date, `2024-05`, or the whole day where every session is decided."""
        return name_of(self.rebalance_date, self.daily)


@dataclass(frozen=True)
class Produced:
    """What a task leaves behind: the rows of `table` under `keys`."""

    table: str
    keys: tuple[str, ...]
