"""The table of measures: which ones, in which groups and units, and for which a better one exists."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks.report.contents import Contents
from tasks.report.formats import change, decimal, label, percent, whole
from tasks.report.listings import Cell, Row, mark_best

Format = Callable[[float | None], str]
HIGH, LOW, NEITHER = 1, -1, 0

# name in the store: words, format, which way is better
GROUPS: dict[str, dict[str, tuple[str, Format, int]]] = {
    "Return": {
        "cumulative_return": ("Cumulative return", percent, HIGH),
        "annual_return": ("Annual return", percent, HIGH),
        "positive_months": ("Months with a gain", percent, HIGH),
        "hit_rate": ("Sessions with a gain", percent, NEITHER),
    },
    "Risk": {
        "annual_volatility": ("Annual volatility", percent, LOW),
        "max_drawdown": ("Maximum drawdown", percent, LOW),
        "worst_year_drawdown": ("Worst drawdown within a year", percent, LOW),
        "average_drawdown": ("Average drawdown", percent, LOW),
        "longest_drawdown": ("Longest drawdown, sessions", whole, LOW),
        "ulcer_index": ("Ulcer index", percent, LOW),
        "var_95": ("Value at risk, daily, 95%", percent, LOW),
        "cvar_95": ("Expected shortfall, daily, 95%", percent, LOW),
        "skewness": ("Skewness of daily returns", decimal, NEITHER),
        "kurtosis": ("Kurtosis (Gaussian: 3)", decimal, NEITHER),
    },
    "Ratios": {
        "sharpe": ("Sharpe ratio", decimal, HIGH),
        "sortino": ("Sortino ratio", decimal, HIGH),
        "calmar": ("Calmar ratio", decimal, HIGH),
        "stability": ("Stability (R\u00b2 of log wealth)", decimal, HIGH),
    },
    "Costs and turnover, a year": {
        "turnover": ("Turnover", percent, NEITHER),
        "costs": ("Costs", percent, LOW),
    },
    "Fitness score, and what it is the sum of": {
        "fitness": ("Fitness", decimal, HIGH),
        "fitness_sortino": ("of the Sortino ratio", decimal, NEITHER),
        "fitness_return": ("of the expected return", decimal, NEITHER),
        "fitness_drawdown": ("of the worst drawdown within a year", decimal, NEITHER),
        "fitness_turnover": ("of turnover", decimal, NEITHER),
        "fitness_concentration": ("of concentration", decimal, NEITHER),
        "fitness_factors": ("of distances from target betas", decimal, NEITHER),
        "fitness_instability": ("of instability", decimal, NEITHER),
    },
    "Concentration, mean over rebalance dates": {
        "active_positions": ("Positions above 0.5%", decimal, NEITHER),
        "effective_positions": ("Effective positions", decimal, NEITHER),
        "top10": ("Share of the ten largest", percent, NEITHER),
        "hhi": ("Herfindahl index (x 10,000)", whole, NEITHER),
    },
}


# shown elsewhere in the report
_ELSEWHERE = {"sessions", "sharpe_error", "sharpe_error_iid", "psr"}
_ELSEWHERE |= {"single_stocks_beaten_wealth", "single_stocks_beaten_sharpe"}
KNOWN = {name: row for rows in GROUPS.values() for name, row in rows.items()}


@dataclass(frozen=True)
class Headline:
    """A figure of the leading strategy, with that of the baseline beside it."""

    name: str
    text: str
    beside: str


def table(contents: Contents) -> dict[str, list[Row]]:
    """Rows of measures by group. The best is marked only where all strategies cover the same sessions."""
    found = [contents.measures_of(name) for name in contents.measured]
    stored = set().union(*found)
    # a measure that is newer than this page is shown by its name
    others = {name: (label(name), decimal, NEITHER) for name in sorted(stored - set(KNOWN) - _ELSEWHERE)}
    result = {}
    for group, rows in {**GROUPS, "Other": others}.items():
        shown = [name for name in rows if name in stored and not _is_idle(name, found)]
        present = [_row(name, rows[name], found, contents.comparable) for name in shown]
        result |= {group: present} if present else {}
    return result


def _is_idle(name: str, found: list[dict[str, float]]) -> bool:
    """Whether it is a part of the fitness score that has no weight."""
    return name.startswith("fitness_") and all(own.get(name) == 0 for own in found)


def _row(name: str, row: tuple[str, Format, int], found: list[dict[str, float]], comparable: bool) -> Row:
    words, form, direction = row
    cells = [Cell(form(value), value) for value in (own.get(name) for own in found)]
    return Row(words, mark_best(cells, direction if comparable else NEITHER))


def headlines(contents: Contents) -> list[Headline]:
    """Five figures of the leading strategy, each with the first baseline's."""
    own = contents.measures_of(contents.leading)
    beside = next((name for name in contents.measured if name != contents.leading and name == "equal_weight"), None)
    other = contents.measures_of(beside) if beside else {}
    wanted: dict[str, Format] = {
        "annual_return": lambda value: change(value, 1),
        "annual_volatility": lambda value: percent(value, 1),
        "sharpe": decimal,
        "max_drawdown": lambda value: percent(value, 1),
        "turnover": lambda value: percent(value, 0),
    }
    words = {name: KNOWN[name][0] for name in wanted} | {"turnover": "Turnover a year"}
    return [
        Headline(words[name], form(own.get(name)), f"equal weight {form(other.get(name))}" if beside else "")
        for name, form in wanted.items()
    ]
