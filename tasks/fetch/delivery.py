"""What a source gives for one ticker, the run that asked for it, and what becomes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from storage import bars
from storage.bars import VALUES
from storage.store import Store
from tasks.fetch.gate import Verdict

DEFAULT_EXCHANGE = "XNYS"
NO_ACTIONS = pd.DataFrame({"ex_date": pd.Series(dtype="datetime64[s]"), "kind": pd.Series(dtype=str), "value": []})


@dataclass(frozen=True)
class Delivery:
    """One ticker's bars, with what the source says beside them."""

    ticker: str
    bars: pd.DataFrame  # session, VALUES, basis; sorted, one row a session
    actions: pd.DataFrame = field(default_factory=NO_ACTIONS.copy)  # ex_date, kind, value
    identity: Mapping[str, Any] = field(default_factory=dict)  # storage.instruments.FIELDS; empty for files
    currency: str = ""  # that the universe expects; empty where the source says nothing of it
    conflicts: tuple[date, ...] = ()  # sessions given twice with different values, left out of `bars`
    expected: date | None = None  # the last completed session, which a live source should reach; None: a file
    full: bool = True  # the whole history, not a window of it
    diary: Mapping[str, Any] = field(default_factory=dict)  # attempts, requests, payload

    @property
    def live(self) -> bool:
        """Whether a source was asked just now; a file may end when it likes and is taken as a person gives it."""
        return self.expected is not None

    @property
    def is_rate(self) -> bool:
        """Whether the closes are rates, which may be zero or negative and need no gate."""
        return bars.are_rates(self.bars)


@dataclass(frozen=True)
class Run:
    """Where a run puts what it is given."""

    store: Store | None  # None: a look that stores nothing
    dataset: str
    source: str
    name: str
    exchanges: Mapping[str, str] = field(default_factory=dict)  # of tickers that trade elsewhere than in New York
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)  # older names
    accepted: frozenset[str] = frozenset()  # tickers whose oddities a person accepts

    def exchange(self, ticker: str) -> str:
        """Market identifier code of the ticker's exchange."""
        return self.exchanges.get(ticker, DEFAULT_EXCHANGE)


@dataclass(frozen=True)
class Taken:
    """What became of one ticker's delivery."""

    delivery: Delivery
    fit: str  # with what is stored: first | ok | rescaled | revised_rows | no_overlap
    verdict: Verdict  # outcome: ok | rejected | refetch, where a window does not fit what is stored
    detail: str = ""
    new: int = 0
    restated: int = 0

    @property
    def ticker(self) -> str:
        """Whose it is."""
        return self.delivery.ticker


def bars_of(frame: pd.DataFrame, basis: str) -> pd.DataFrame:
    """`session` and whichever of VALUES there are, as the bars of a delivery."""
    absent = {name: np.nan for name in VALUES if name not in frame}
    return frame.assign(**absent, basis=basis)[["session", *VALUES, "basis"]].reset_index(drop=True)
