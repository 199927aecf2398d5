"""Studies: named questions about what a part is worth, each a list of variants beside a default.

A variant changes parameters by their dotted names; each becomes a scenario, decided by the same code as any other, and
is compared with the default on the same sessions. A new study is one more entry below: `varied` makes one of the values
of a single parameter.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.errors import InputError
from tasks.claims import DOCUMENT_A, DOCUMENT_B, Claim
from tasks.numerics.configs import OPTIMISED_BASELINES

ALL = "all"  # name of the part that is the whole record
NONE = -1  # number of the rows that are about no variant
Changes = Mapping[str, Any]
NO_NETWORK: Changes = {"forecast.forecaster": "ewma"}


@dataclass(frozen=True)
class Variant:
    """One line of a study: what it is called, what it changes, and the strategy measured (empty: the study's)."""

    label: str
    changes: Changes = field(default_factory=dict)
    strategy: str = ""
    offsets: tuple[int, ...] = ()  # held in tranches, one for each of these values of `rebalance_offset`
    band: str = ""  # variants of the same one differ by luck alone: how far they lie apart is drawn

    @property
    def scenarios(self) -> tuple[Changes, ...]:
        """What is changed in each of the scenarios that the variant is made of, of equal parts of its capital."""
        return tuple({**self.changes, "rebalance_offset": offset} for offset in self.offsets) or (self.changes,)


@dataclass(frozen=True)
class Study:
    """A question, and the variants that answer it."""

    question: str
    strategy: str
    default: str  # label of the variant that the others are compared with
    variants: tuple[Variant, ...]
    common: Changes = field(default_factory=dict)  # holds for all variants, unless a person gives another value
    worth: tuple[str, str] = ("", "")  # a part, and the label of the variant without it: what the part adds is said
    first: str = ""  # first month, by default; empty: ten years before the last
    by_regime: bool = False  # whether each kind of market is a part
    split: str = ""  # first month of the second part, by default; empty: one part
    candidates: tuple[str, ...] = ()  # of these labels the best of the first part is held to the claims in the second
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        if self.by_regime and (self.claims or self.candidates):
            raise ValueError(
                "a study by kind of market has claims or candidates, which are held to the last stretch of time, and "
                "kinds of market are none; make two studies of it"
            )
        if self.by_regime and any(variant.offsets for variant in self.variants):
            raise ValueError(
                "a study by kind of market has variants in tranches, whose parts are decided on different days; make "
                "two studies of it"
            )

    @property
    def bands(self) -> dict[str, list[str]]:
        """Labels of the variants that differ by luck alone, by the name of their band."""
        found: dict[str, list[str]] = {}
        for variant in self.variants:
            if variant.band:
                found.setdefault(variant.band, []).append(variant.label)
        return found

    def strategy_of(self, variant: Variant) -> str:
        """The strategy that is measured of a variant."""
        return variant.strategy or self.strategy


def varied(question: str, strategy: str, name: str, values: Sequence[Any], default: Any, band: str = "") -> Study:
    """The study of one parameter's values, where no network is needed; they are luck where they have a `band`."""
    variants = tuple(Variant(f"{value}", {name: value}, band=band) for value in values)
    return Study(question, strategy, f"{default}", variants, NO_NETWORK)


def _shorts(total: float) -> Changes:
    """Weights that sum to 1 with so much short at most."""
    each = {"gross_limit": 1 + 2 * total, "short_total": total, "short_each": min(total, 0.05)}
    return {f"ogd_long_short.{name}": value for name, value in each.items()}


def _tranches(count: int) -> tuple[Variant, ...]:
    """Every portfolio of so many tranches, at equal distances in the 21 sessions of a month."""
    apart = _OFFSETS // count
    return tuple(
        Variant(f"{count} from day {first}", offsets=tuple(range(first, _OFFSETS, apart)), band=f"{count} tranches")
        for first in range(apart)
    )


def _halves(strategy: str, **values: float | int) -> tuple[Variant, ...]:
    """Each value of a strategy's config less and more by half, as a whole number where it is one."""
    return tuple(
        Variant(f"{name} {change:+.0%}", {f"{strategy}.{name}": type(value)(value * (1 + change))})
        for name, value in values.items()
        for change in (-0.5, 0.5)
    )


_OGD = "ogd_long_window"
_OFFSETS = 21  # sessions of a month on which one may trade
_OGDS = (Variant("OGD long window"), Variant("OGD conservative", strategy="ogd_conservative"))
_AS_DOCUMENT_A = {
    "features.features": "document",
    "network.head": "document",
    "network.likelihood": "gaussian",
    "network.latent": 16,
    "forecast.mean_units": "log",
    "covariance.shrinkage": "none",
}
_ABLATIONS = (
    Variant("one mean for all assets", {"forecast.mean_shrink": 0.0, "forecast.mean_units": "log"}),
    Variant("EWMA volatility", {"forecast.volatility": "ewma"}),
    Variant("no network: EWMA and the pooled mean", NO_NETWORK),
    Variant("no latent draws", {"forecast.draws": 0}),
    Variant("no correlation", {"covariance.shrinkage": "identity"}),
    Variant("SLSQP from equal weights", {"return_drawdown.method": "document"}),
)
_STRATEGIES = (
    _OGD,
    "ogd_conservative",
    "ogd_leveraged",
    "ogd_long_short",
    "exponentiated_gradient",
    "mirror_descent",
    "hedge",
    "sector_ogd",
    "experts",
    "ogd_tuned",
    "index",
    *OPTIMISED_BASELINES,
)

STUDIES: dict[str, Study] = {
    "turnover": varied(
        "How large should the penalty on turnover be (a3)?", _OGD, f"{_OGD}.turnover_weight",
        (0.0, 0.02, 0.1, 0.5, 2.0), 0.1,
    ),
    "sparsity": Study(
        "What do the L1 penalty (a4) and a limit on positions do to a long-only portfolio?", _OGD, "L1 0.05",
        tuple(Variant(f"L1 {value}", {f"{_OGD}.l1_weight": value}) for value in (0.0, 0.05, 0.5))
        + tuple(Variant(f"at most {count}", {f"{_OGD}.max_positions": count}) for count in (5, 10, 20, 40)),
        NO_NETWORK,
    ),
    "sparsity_leveraged": varied(
        "What does the L1 penalty (a4) do where weights need not sum to 1?", "ogd_leveraged",
        "ogd_leveraged.l1_weight", (0.0, 0.05, 0.2, 0.5), 0.05,
    ),
    "costs": varied(
        "What do trading costs take, from nothing to 50 basis points a side?", _OGD, "accounting.cost",
        (0.0, 0.0005, 0.001, 0.002, 0.005), 0.0005,
    ),
    "frequency": varied(
        "How often should one trade: every session, each month, each quarter?", _OGD, "rebalance",
        ("D", "M", "Q"), "M",
    ),
    "shorts": Study(
        "Do short positions help, up to 30 % in all and 5 % each?", "ogd_long_short", "0 %",
        tuple(Variant(f"{total} %", _shorts(total / 100)) for total in (0, 10, 20, 30)), NO_NETWORK,
    ),
    "leverage": varied(
        "Does leverage help?", "ogd_leveraged", "ogd_leveraged.gross_limit", (1.0, 1.5, 2.0), 1.0,
    ),
    "sectors": Study(
        "Should one choose sectors first, and stocks within them?", _OGD, "flat",
        (Variant("flat"), Variant("sectors first", strategy="sector_ogd")), NO_NETWORK,
    ),
    "window": Study(
        "How many sessions should the online objective look back, in which kind of market?", _OGD, "90",
        tuple(Variant(f"{count}", {f"{_OGD}.window": count}) for count in (21, 63, 90, 126, 252, 504)),
        NO_NETWORK, by_regime=True,
    ),
    "tuned": Study(
        "Does it help to choose a setting anew each January, by past sessions only?", "ogd_tuned", "OGD long window",
        (Variant("tuned"), Variant("OGD long window", strategy=_OGD)), NO_NETWORK,
    ),
    "offset": varied(
        "How much is luck of the day on which one trades?", "return_drawdown", "rebalance_offset",
        range(_OFFSETS), 0, "one day",
    ),
    "tranches": Study(
        "How much luck of the day is left if the portfolio is split over several days?", "return_drawdown", "day 0",
        tuple(Variant(f"day {day}", {"rebalance_offset": day}, band="one day") for day in range(_OFFSETS))
        + tuple(variant for count in (3, 7, 21) for variant in _tranches(count)),
        NO_NETWORK,
    ),
    "seeds": Study(
        "How much is luck of the seed of the networks?", "return_drawdown", "0",
        tuple(Variant(f"{seed}", {"training.seed": seed}, band="one seed") for seed in range(5)),
    ),
    "sensitivity": Study(
        "How much depends on each hyper-parameter, half as large and half as large again?", _OGD, "as it is",
        (
            Variant("as it is"),
            *_halves(
                _OGD, learning_rate=0.01, window=90, sortino_weight=1.0, drawdown_weight=1.0, turnover_weight=0.1,
                l1_weight=0.05, turnover_ceiling=0.2,
            ),
            Variant("momentum -50%", {f"{_OGD}.momentum": 0.4}),
            Variant("momentum 0.9", {f"{_OGD}.momentum": 0.9}),
        ),
        NO_NETWORK,
    ),
    "ablations": Study(
        "What is each part of the forecast and of the allocator worth?", "return_drawdown", "everything",
        (Variant("everything"), *_ABLATIONS),
        worth=("the network", "no network: EWMA and the pooled mean"),
    ),
    "results": Study(
        "What is every strategy, baseline and ablation worth beside equal weights?", "return_drawdown", "equal weight",
        (
            Variant("return drawdown"),
            *(Variant(name.replace("_", " "), strategy=name) for name in _STRATEGIES),
            Variant("equal weight", strategy="equal_weight"),
            *(Variant(f"return drawdown, {entry.label}", entry.changes) for entry in _ABLATIONS),
        ),
    ),
    "document_a": Study(
        "Does the Variational LSTM portfolio do what its document says?", "return_drawdown", "index",
        (
            Variant("return drawdown"),
            Variant("as the document has it", _AS_DOCUMENT_A),
            Variant("index", strategy="index"),
            Variant("equal weight", strategy="equal_weight"),
        ),
        {"universe": "vlstm10", "index": "SPY"}, first="2022-02", claims=DOCUMENT_A,
    ),
    "document_b": Study(
        "Does online gradient descent do what its document says?", _OGD, "OGD long window",
        (
            *_OGDS,
            Variant("without L1", {f"{_OGD}.l1_weight": 0.0}),
            Variant("without the turnover penalty", {f"{_OGD}.turnover_weight": 0.0}),
            Variant("equal weight", strategy="equal_weight"),
            Variant("index", strategy="index"),
        ),
        {"universe": "prism109", **NO_NETWORK}, first="2022-01", split="2024-01",
        candidates=tuple(entry.label for entry in _OGDS), claims=DOCUMENT_B,
    ),
}  # fmt: skip
GROUPS = {"claims": ("document_a", "document_b")}
NAMES = (*STUDIES, *GROUPS)


def named(name: str) -> list[str]:
    """The studies that a name stands for; InputError with the nearest names where there is none."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=2, cutoff=0.4) or NAMES
        raise InputError(f"there is no study {name!r}; did you mean {' or '.join(near)}? See `prism study --list`")
    return list(GROUPS.get(name, (name,)))


def listed() -> list[dict[str, Any]]:
    """What can be asked."""
    rows = [
        {"study": name, "question": study.question, "strategy": study.strategy, "variants": len(study.variants)}
        for name, study in STUDIES.items()
    ]
    groups = {name: f"{' and '.join(parts)}, one after the other" for name, parts in GROUPS.items()}
    return rows + [
        {"study": name, "question": question, "strategy": None, "variants": None} for name, question in groups.items()
    ]
