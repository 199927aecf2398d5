"""How much evidence there is: one sentence before anything else, and how sure each strategy's Sharpe ratio is.

The deflated ratio depends on how often people looked, so it is computed here, from the ledger of trials as it stands.
"""

import math

from storage.store import Store
from tasks import trials
from tasks.numerics.configs import BASELINES
from tasks.report.contents import Contents, Frame
from tasks.report.formats import DASH, decimal, label, percent, whole
from tasks.report.listings import Cell, Row

YARDSTICK = "equal_weight"
HEADS = ("Sharpe ratio", "Its error", "P(above 0)", "Trials", "Best by luck", "P(above luck)")
HEADS += ("Above equal weight, 95% interval", "Years needed", "Years so far")


def sentence(contents: Contents) -> str:
    """What the record can tell of the leading strategy, and what it cannot."""
    name, found = label(contents.leading), _against(contents, contents.leading)
    if "sharpe_difference" not in found or found["sharpe_difference"]["value"] is None:
        return (
            f"There is no evidence yet whether {name} is better than equal weights: nothing was measured beside them."
        )
    gap, needed, years = (found[key]["value"] for key in ("sharpe_difference", "years_needed", "years"))
    there = f"{_years(years)} of results"
    seen = f"a Sharpe ratio {decimal(abs(gap))} {'above' if gap >= 0 else 'below'} that of equal weights"
    if needed is None:
        return f"{there} show {name} and equal weights alike, so they tell nothing about which is better."
    if needed > years:
        return (
            f"{there} are not enough to tell {name} from equal weights: it had {seen}, and if that gap is real it "
            f"takes about {_years(needed)} to see it at 95%."
        )
    return (
        f"{there} are enough to tell {name} from equal weights at 95%: it had {seen}, which takes about "
        f"{_years(needed)} to see, if nothing else had been tried."
    )


def table(store: Store, contents: Contents) -> list[Row]:
    """Each strategy's Sharpe ratio with its error, what trials take off it, and what it has over equal weights."""
    measured = {name: contents.measures_of(name) for name in contents.measured}
    judged = trials.deflated(store, {name: _plain(values) for name, values in measured.items()})
    return [Row(label(name), _cells(contents, name, values, judged.get(name, {}))) for name, values in measured.items()]


def _cells(contents: Contents, name: str, values: dict[str, float], judged: dict[str, float | None]) -> list[Cell]:
    found = _against(contents, name) if name not in BASELINES else {}
    return [
        Cell(decimal(values.get("sharpe"))),
        Cell(decimal(values.get("sharpe_error"))),
        Cell(percent(values.get("psr"), 1)),
        Cell(whole(judged.get("trials"))),
        Cell(decimal(judged.get("sharpe_hurdle"))),
        Cell(percent(judged.get("dsr"), 1)),
        Cell(_interval(found.get("sharpe_difference"))),
        Cell(_needed(found.get("years_needed", {}).get("value"))),
        Cell(decimal(found.get("years", {}).get("value"), 1)),
    ]


def _against(contents: Contents, strategy: str) -> dict[str, dict[str, float | None]]:
    """Differences of a strategy to equal weights, by name."""
    rows: Frame = contents.tables["comparisons"]
    rows = rows[(rows["strategy"] == strategy) & (rows["baseline"] == YARDSTICK)]
    return {row["name"]: _plain({end: row[end] for end in ("value", "lower", "upper")}) for _, row in rows.iterrows()}


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    """Numbers with None for what is undefined."""
    return {name: None if value is None or math.isnan(value) else float(value) for name, value in values.items()}


def _interval(row: dict[str, float | None] | None) -> str:
    if row is None or row["value"] is None:
        return DASH
    ends = f" [{decimal(row['lower'])}, {decimal(row['upper'])}]" if row["lower"] is not None else ""
    return f"{decimal(row['value'])}{ends}"


def _needed(years: float | None) -> str:
    return "over 1,000" if years is not None and years > 1000 else whole(years)


def _years(years: float) -> str:
    """A span as people say it."""
    if years < 1.95:
        return f"{max(1, round(12 * years))} months" if years < 0.95 or years > 1.05 else "1 year"
    return f"{years:,.0f} years" if years >= 10 else f"{years:.1f} years".replace(".0 ", " ")
