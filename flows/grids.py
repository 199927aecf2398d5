"""The values that a person writes for the fields of a grid: `a,b,c`, or a range like `0.001:0.1:32:log`."""

from typing import Any

from storage.errors import InputError

MOST_LEVELS = 10_000  # of a range


def levels(text: str) -> list[Any]:
    """The values of `a,b,c` or of a range `low:high:count`, on a logarithmic scale with `:log` behind it.

    InputError for anything else.
    """
    low, *rest = text.split(":")
    if not rest:
        return [_value(part.strip()) for part in text.split(",") if part.strip()]
    try:
        first, last, count = float(low), float(rest[0]), int(rest[1])
        log = rest[2:] == ["log"]
        if (rest[2:] and not log) or not 2 <= count <= MOST_LEVELS or (log and not 0 < first < last):
            raise ValueError
    except (ValueError, IndexError) as error:
        raise InputError(
            f"grid has the values {text!r}; write a,b,c or low:high:count, with :log behind it for equal ratios"
        ) from error
    if log:
        return [first * (last / first) ** (k / (count - 1)) for k in range(count)]
    return [first + (last - first) * k / (count - 1) for k in range(count)]


def _value(text: str) -> Any:
    """A number, true, false or a text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def grid_of(assignments: list[str]) -> dict[str, list[Any]]:
    """The grid of `name=values` texts. InputError for a text without `=` and for a name given twice."""
    found: dict[str, list[Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name.strip() in found:
            raise InputError(
                f"grid has {assignment!r}; it must be name=values, each name once, like momentum=0,0.5,0.8"
            )
        found[name.strip()] = levels(text.strip())
    return found
