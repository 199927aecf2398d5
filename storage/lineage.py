"""What two decision records of one date were made of, field by field.

A record names its inputs (prices, universe, parameters, what was held before) and its means (code, libraries, machine).
Equal inputs and equal means must give equal bytes; other means may give others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MEANS = ("code", "versions", "machine", "trained_on")
_BEFORE = "before."  # of what the date before was made by: its weights are where the trades start
_INPUTS = ("snapshot", "known_at", "universe", "prefix", "follows", "terms", "parameters")


@dataclass(frozen=True)
class Change:
    """One field that differs; None where a record does not have it."""

    field: str
    before: Any
    after: Any

    @property
    def of_means(self) -> bool:
        """Whether it is what a result was made by, not what it was made from."""
        return self.field.removeprefix(_BEFORE).partition(".")[0] in MEANS


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Fields of the inputs and the means in which two records differ, in order of their names.

    A field that the earlier record does not have at all is none of its inputs: later versions of the program add some.
    """
    old, new = ({k: v for name in (*_INPUTS, *MEANS) for k, v in _flat(name, of.get(name))} for of in (before, after))
    differing = [Change(name, old.get(name), new.get(name)) for name in sorted(old | new) if _differ(name, old, new)]
    if bool(before.get("holdings")) != bool(after.get("holdings")):
        differing.append(Change("holdings", bool(before.get("holdings")), bool(after.get("holdings"))))
    return tuple(differing)


def of_the_date_before(differing: tuple[Change, ...]) -> tuple[Change, ...]:
    """Changes of the means of the date before, as far as they concern the one after it."""
    return tuple(Change(_BEFORE + change.field, change.before, change.after) for change in differing if change.of_means)


def _differ(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if name not in old and not name.startswith(("code.", "versions.")):
        return False
    return old.get(name) != new.get(name)


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """A value, or those of a nested one, by dotted name."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _flat(f"{name}.{key}", part)]
    return [(name, value)] if value is not None else []


def verdict(same: bool, differing: tuple[Change, ...]) -> str:
    """`identical` results; `explained` where only means differ; `different` where inputs do, or nothing does."""
    if same:
        return "identical"
    return "explained" if differing and all(change.of_means for change in differing) else "different"
