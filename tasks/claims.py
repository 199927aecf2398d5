"""What the founding documents claim, in a form that a record can confirm or deny.

A claim is about one number, and says between which ends it lies. With the number's 95 % interval:

    holds            the whole interval lies between the ends
    does not hold    none of it does
    cannot be told   anything else, and where there is no interval

Ends are no part of what is claimed: a penalty that changes nothing does not reduce turnover.
"""

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "does not hold", "cannot be told"]
Kind = Literal["difference", "mean", "singles"]


@dataclass(frozen=True)
class Claim:
    """A sentence of a document, and the number it is about.

    `kind`: the `difference` in a measure between the variants `of` and `against`; the `mean` of a measure of `of` over
    its rebalance dates; or the share of single stocks, bought once and held, that earned less than `of` (`singles`).
    An empty `of` is the candidate that was best in the first part.
    """

    text: str
    document: str  # its own figure
    kind: Kind
    measure: str
    of: str = ""
    against: str = ""
    above: float | None = None
    below: float | None = None


def verdict(claim: Claim, lower: float | None, upper: float | None) -> Verdict:
    """What an interval says of a claim."""
    if lower is None or upper is None or math.isnan(lower) or math.isnan(upper):
        return "cannot be told"
    above = -math.inf if claim.above is None else claim.above
    below = math.inf if claim.below is None else claim.below
    if above < lower and upper < below:
        return "holds"
    return "does not hold" if upper <= above or lower >= below else "cannot be told"


_FIRST, _AS = "return drawdown", "as the document has it"
DOCUMENT_A = (
    Claim("its Sharpe ratio is above the index's", "0.96 against 0.69", "difference", "sharpe", _FIRST, "index", 0.0),
    Claim("the same of the document's own model", "0.96 against 0.69", "difference", "sharpe", _AS, "index", 0.0),
    Claim("it earns more than the index", "2.5 times as much", "difference", "annual_return", _FIRST, "index", 0.0),
    Claim(
        "the same of the document's own model", "2.5 times as much", "difference", "annual_return", _AS, "index", 0.0
    ),
)  # fmt: skip
DOCUMENT_B = (
    Claim("it outperforms most single stocks", "most", "singles", "share", above=0.5),
    Claim("it earns more than equal weights", "consistently", "difference", "annual_return", "", "equal weight", 0.0),
    Claim("its Sharpe ratio is above theirs", "consistently", "difference", "sharpe", "", "equal weight", 0.0),
    Claim("its Sharpe ratio is above the index's", "none given", "difference", "sharpe", "", "index", 0.0),
    Claim("it earns more than the index", "none given", "difference", "annual_return", "", "index", 0.0),
    Claim("top-10 concentration is 70-90 %", "70-90 %", "mean", "top10", above=0.7, below=0.9),
    Claim(
        "L1 regularisation reduces the active positions", "helps control", "difference", "active_positions",
        "OGD long window", "without L1", below=0.0,
    ),
    Claim(
        "the cost penalty reduces turnover", "helps reduce", "difference", "turnover", "OGD long window",
        "without the turnover penalty", below=0.0,
    ),
)  # fmt: skip
