"""compare: two scenarios, or two dates of one, side by side. Nothing is decided or stored."""

import re
from typing import Any

from flows import parameters as forms
from flows.lines import MAIN
from flows.options import as_date
from flows.parameters import Parameters
from storage.errors import InputError
from storage.ledger import Decision
from storage.store import Store
from tasks import comparing

_DATE = r"\d{4}-\d\d(-\d\d)?"


def compare(
    store: Store, a: str, b: str, month: str | None = None, scenario: str = MAIN, strategy: str | None = None
) -> dict[str, Any]:
    """Parameters that differ, weights, trades, what is expected of them, and the backtests.

    `a` and `b` are scenarios, compared at `month` (by default the newest date that both decided), or two months or days
    of `scenario`. `strategy` is the published one of each by default. InputError, with the nearest names, for what is
    not there.
    """
    pair = _pair(store, a, b, month, scenario)
    sides = [comparing.side(store, decision, strategy) for decision in pair]
    first, second = comparing.spans(sides)
    return {
        "a": first,
        "b": second,
        "horizon": sides[1].parameters["features"]["horizon"],
        "parameters": _parameters(*(side.parameters for side in sides)),
        "weights": comparing.weights(*sides),
        "trades": comparing.trades(store, *sides),
        "expected": comparing.expected(store, *sides),
        "backtest": comparing.backtests(store, *sides),
    }


def _pair(store: Store, a: str, b: str, month: str | None, scenario: str) -> list[Decision]:
    """The two decisions meant."""
    known = comparing.names(store)
    dated = [bool(re.fullmatch(_DATE, name)) and name not in known for name in (a, b)]
    if all(dated):
        if month is not None:
            raise InputError(f"--month {month} is given beside two dates, {a} and {b}; leave it out")
        return [comparing.decision(store, scenario, as_date(name)) for name in (a, b)]
    if any(dated):
        raise InputError(f"{a} and {b} are a scenario and a date; give two scenarios, with --month, or two dates")
    if a == b:
        raise InputError(f"{a} is compared with itself; give two scenarios, or two dates of it: 2024-04 2024-05")
    if month is None:
        months = [comparing.decided(store, name) for name in (a, b)]
        common = sorted(months[0].keys() & months[1].keys())
        if not common:
            raise InputError(f"{a} and {b} have decided no date in common; name two dates of one scenario instead")
        month = common[-1]
    return [comparing.decision(store, name, month) for name in (a, b)]


def _parameters(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters that differ; what a record of an earlier version lacks had its default."""
    default = forms.flat(Parameters().values())
    own, other = (default | forms.flat(values) for values in (a, b))
    names = sorted(name for name in {**own, **other} if own.get(name) != other.get(name))
    return [{"name": name, "a": own.get(name), "b": other.get(name)} for name in names]
