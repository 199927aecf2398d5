"""Numbers as people read them: percentages and decimals with a true minus sign, and a dash for what is undefined."""

import math
from datetime import date

from tasks.numerics.configs import BASELINES

MINUS, DASH = "\u2212", "\u2013"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent: 0.1234 is `12.34%`."""
    return _signed(value, f".{digits}%")


def change(value: float | None, digits: int = 2) -> str:
    """A signed fraction in percent, with its plus."""
    return _signed(value, f"+.{digits}%")


def decimal(value: float | None, digits: int = 2) -> str:
    """A number with a comma at the thousands."""
    return _signed(value, f",.{digits}f")


def whole(value: float | None) -> str:
    """A number without decimals."""
    return decimal(value, 0)


def day(value: date) -> str:
    """`1 December 2022`."""
    return f"{value.day} {value:%B %Y}"


def label(strategy: str) -> str:
    """A strategy's name in words: `ogd_long_window` is `OGD long window`."""
    words = [word.upper() if word == "ogd" else word for word in strategy.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def ordered(strategies: list[str], published: str) -> list[str]:
    """The published strategy, the others by name, then the baselines."""
    return sorted(strategies, key=lambda name: (name != published, name in BASELINES, name))


def _signed(value: float | None, form: str) -> str:
    if value is None or not math.isfinite(value):
        return DASH
    text = format(value, form)
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")  # what rounds to zero has no sign
    return text.replace("-", MINUS)
