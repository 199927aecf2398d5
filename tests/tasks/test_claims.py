"""What an interval says of a claim."""

import math

import pytest

from tasks.claims import DOCUMENT_B, Claim, verdict

ABOVE = Claim("it is above", "", "difference", "sharpe", "a", "b", above=0.0)
BELOW = Claim("it is less", "", "difference", "turnover", "a", "b", below=0.0)
BETWEEN = Claim("it is 70-90 %", "70-90 %", "mean", "top10", "a", above=0.7, below=0.9)


@pytest.mark.parametrize(
    ("claim", "lower", "upper", "said"),
    [
        (ABOVE, 0.1, 0.5, "holds"),
        (ABOVE, -0.5, -0.1, "does not hold"),
        (ABOVE, -0.1, 0.5, "cannot be told"),
        (ABOVE, 0.0, 0.0, "does not hold"),
        (ABOVE, 0.0, 0.5, "cannot be told"),
        (ABOVE, -0.5, 0.0, "does not hold"),
        (ABOVE, None, None, "cannot be told"),
        (ABOVE, math.nan, math.nan, "cannot be told"),
        (BELOW, -0.5, -0.1, "holds"),
        (BELOW, 0.0, 0.0, "does not hold"),
        (BELOW, 0.1, 0.5, "does not hold"),
        (BETWEEN, 0.72, 0.88, "holds"),
        (BETWEEN, 0.91, 0.99, "does not hold"),
        (BETWEEN, 0.5, 0.69, "does not hold"),
        (BETWEEN, 0.6, 0.8, "cannot be told"),
        (BETWEEN, 0.6, 0.95, "cannot be told"),
    ],
)
def test_a_claim_holds_where_its_whole_interval_does_and_not_where_none_of_it_does(claim, lower, upper, said):
    assert verdict(claim, lower, upper) == said


def test_what_the_document_claims_of_penalties_is_that_they_change_something():
    changed = [claim for claim in DOCUMENT_B if claim.measure in ("active_positions", "turnover")]
    assert len(changed) == 2
    assert all(verdict(claim, 0.0, 0.0) == "does not hold" for claim in changed)
