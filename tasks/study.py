"""Stage *study*: what the variants of a study came to, beside its default, and what that says of its claims.

Rows of the table `studies` are measures of each variant in each part of the record (all of it, what lies before and
after the split, each kind of market) with the difference to the default on the same sessions, after costs. Two rows of
no variant say how many trials the study counts, and how likely the best of its variants is no better than the middle
elsewhere. Rows of the table `bands` say, session by session, how far variants that differ by luck alone lie apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import clock, ledger, tables
from storage.keys import PanelKey
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import claims, panels, records, trials
from tasks.caching import keyed_by
from tasks.claims import Claim
from tasks.numerics import bands, bootstrap, overfitting, regimes, singles
from tasks.numerics.configs import BASELINES
from tasks.records import Difference, Record
from tasks.studies import ALL, NONE, STUDIES, Study

KEYED = keyed_by(
    __name__,
    "tasks.claims",
    "tasks.numerics.bands",
    "tasks.numerics.overfitting",
    "tasks.numerics.regimes",
    "tasks.numerics.singles",
    "tasks.panels",
    "tasks.prices",
    "tasks.records",
    "tasks.studies",
    "tasks.trials",
    packages=("numpy", "numba", "scipy", "pandas", "exchange-calendars"),
)
_ENDS = (0.025, 0.975)
_DRAWS, _SEED = 2000, 0
_FEWEST = 63  # sessions of a kind of market that are compared
Row = dict[str, Any]
Parts = Mapping[str, dict[str, Record]]  # by variant and part
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Ran:
    """A variant that is decided and accounted."""

    label: str
    strategy: str
    scenarios: tuple[str, ...]  # one, or one for each tranche
    backtest: str  # of the first


@dataclass(frozen=True)
class Span:
    """The sessions that are looked at, and the first of the second part."""

    first: date
    last: date
    split: date | None = None

    def labels(self, days: NDArray[np.datetime64]) -> NDArray[np.str_]:
        """The part that each day belongs to."""
        if self.split is None:
            return np.full(days.size, ALL)
        before = (np.datetime64(self.split) - 1).item()
        names = [f"{first:%Y-%m} to {last:%Y-%m}" for first, last in ((self.first, before), (self.split, self.last))]
        return np.where(days < np.datetime64(self.split), *names)


def key_of(name: str, span: Span, **asked: Any) -> str:
    """Key of a study's rows, from all that is asked: whoever knows it need not decide a variant to find them."""
    return KEYED.key("study", name=name, study=STUDIES[name], span=span, **asked)


@task(cache_policy=NO_CACHE, task_run_name="measure {name}")
def measure(name: str, key: str, ran: tuple[Ran, ...], span: Span) -> None:
    """Compare the variants with the default, and the claims with what was found; the rows have the key."""
    store, study = open_store(), STUDIES[name]
    found = records.on_common_sessions({one.label: _record(store, one, span) for one in ran})
    parts = {one.label: _parts(store, study, one, found[one.label], span) for one in ran}
    shared = {"key": key, "study": name, "created_at": clock.now()}
    _put(store, "bands", shared, _bands(study, found))
    shared |= {"start_date": span.first, "end_date": span.last}
    _put(store, "claims", shared, _claims(store, study, ran, parts))
    _put(store, "studies", shared, [*_measured(study, ran, parts), *_of_all(store, ran, parts)])


def _put(store: Store, table: str, shared: Row, rows: Sequence[Row]) -> None:
    """Write the rows, if there are any."""
    if rows:
        tables.put(store, table, pa.Table.from_pylist([shared | row for row in rows], TABLES[table].schema))


def _record(store: Store, one: Ran, span: Span) -> Record:
    """The whole record of a variant."""
    if len(one.scenarios) > 1:
        return records.in_tranches(store, one.scenarios, one.strategy, span.last)
    return records.read(store, one.scenarios[0], one.backtest, one.strategy, span.first, span.last)


def _bands(study: Study, found: Mapping[str, Record]) -> list[Row]:
    """A row for each session of each band of variants: how far apart their wealth and Sharpe ratio lie."""
    rows = []
    for number, (name, labels) in enumerate(study.bands.items()):
        own = [found[label] for label in labels]
        daily = [record.daily for record in own]
        drawn = {"wealth": bands.band(daily), "sharpe": bands.sharpe_band(daily, own[0].cash)}
        edges = {f"{of}_{edge}": v.tolist() for of, band in drawn.items() for edge, v in band._asdict().items()}
        said = {"number": number, "band": name, "accounts": len(own)}
        for place, session in enumerate(own[0].sessions.tolist()):
            rows.append(said | {"session": session} | {edge: _number(v[place]) for edge, v in edges.items()})
    return rows


def _parts(store: Store, study: Study, one: Ran, record: Record, span: Span) -> dict[str, Record]:
    """The record of a variant, what of it lies before and after the split, and in each kind of market."""
    labels = span.labels(record.sessions), span.labels(record.dates)
    found = {ALL: record} | records.by_label(record, *labels)
    if study.by_regime:
        kinds = records.by_label(record, *_regimes(store, one, record))
        found |= {name: kinds[name] for name in regimes.NAMES if name in kinds and kinds[name].sessions.size >= _FEWEST}
    return found


def _regimes(store: Store, one: Ran, record: Record) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """In which kind of market was decided what each session's return was made by, and each rebalance date."""
    known = ledger.current(store, one.scenarios[0])
    made = [known[day] for day in record.dates.tolist()]
    market = panels.load(store, PanelKey(made[-1].record["snapshot"], made[-1].record["universe"]))
    decided = np.array([market.at(entry.as_of) for entry in made])
    kinds = regimes.at(panels.level_returns(market), decided).regime
    traded = np.searchsorted(record.sessions, record.dates)
    names = np.array([*regimes.NAMES, ""])  # the last is that of regimes.UNKNOWN
    return names[regimes.of_returns(traded, kinds, record.sessions.size)], names[kinds]


def _measured(study: Study, ran: Sequence[Ran], parts: Parts) -> list[Row]:
    """A row for each measure of each variant in each part."""
    rows = []
    for part, default in parts[study.default].items():
        for number, one in enumerate(ran):
            own = parts[one.label][part]
            gaps = records.compared(own, default) if one.label != study.default else {}
            said = {"part": part, "number": number, "variant": one.label}
            said |= {"strategy": one.strategy, "scenario": one.scenarios[0] if len(one.scenarios) == 1 else None}
            for name, value in records.measures(own).items():
                rows.append(said | {"name": name, "value": _number(value)} | _ends(gaps.get(name)))
    return rows


def _ends(gap: Difference | None) -> Row:
    found = gap or Difference(np.nan)
    return {"difference": _number(found.value)} | {name: _number(getattr(found, name)) for name in ("lower", "upper")}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _of_all(store: Store, ran: Sequence[Ran], parts: Parts) -> list[Row]:
    """Trials of the study, and its probability of overfitting where all records are equally long, and long enough."""
    counted = {"trials": float(len(_trials(store, ran)))}
    columns = [found[ALL].daily - found[ALL].cash for found in parts.values()]
    shortest, longest = (f(column.size for column in columns) for f in (min, max))
    if len(columns) > 1 and 2 * overfitting.BLOCKS <= shortest == longest:
        counted["overfitting"] = overfitting.backtest_overfitting(np.column_stack(columns))
    said = {"part": ALL, "number": NONE, "variant": "", "strategy": None, "scenario": None} | _ends(None)
    return [said | {"name": name, "value": value} for name, value in counted.items()]


def _trials(store: Store, ran: Sequence[Ran]) -> set[str]:
    """Names of the trials that the variants are; one for those that differ only in what trading costs."""
    found = set()
    for strategy, scenario in {(one.strategy, scenario) for one in ran for scenario in one.scenarios}:
        if strategy not in BASELINES:
            months = list(ledger.current(store, scenario).values())
            found.add(trials.configuration(strategy, trials.terms_of(strategy, months), months[0].as_of))
    return found


def _claims(store: Store, study: Study, ran: Sequence[Ran], parts: Parts) -> list[Row]:
    """A row for each claim: what it is held to is the last part, with what was best in the one before."""
    if not study.claims:
        return []
    part, chosen, rows = list(parts[study.default])[-1], _best(study, parts), []
    later = {label: found[part] for label, found in parts.items()}
    by_label = {one.label: one for one in ran}
    for number, claim in enumerate(study.claims):
        own = claim.of or chosen
        found = _found(store, claim, by_label[own], later, own)
        said = {"number": number, "claim": claim.text, "document": claim.document, "part": part}
        said |= {"measured": _measured_words(claim, own), "value": _number(found.value)}
        said |= {name: _number(getattr(found, name)) for name in ("lower", "upper")}
        rows.append(said | {"verdict": claims.verdict(claim, said["lower"], said["upper"])})
    return rows


def _best(study: Study, parts: Parts) -> str:
    """The candidate of the best fitness before the split; nothing of what is after it is looked at."""
    first = list(parts[study.default])[1:][:1]
    scores = {label: records.measures(parts[label][part])["fitness"] for part in first for label in study.candidates}
    return max(scores, key=lambda label: scores[label], default="")


def _measured_words(claim: Claim, own: str) -> str:
    """What the claim's number is, in words."""
    if claim.kind == "singles":
        return f"share of single stocks below {own}"
    name = claim.measure.replace("_", " ")
    return f"{name} of {own}" + (f" less that of {claim.against}" if claim.kind == "difference" else "")


def _found(store: Store, claim: Claim, one: Ran, later: Mapping[str, Record], own: str) -> Difference:
    """The claim's number with its interval."""
    if claim.kind == "difference":
        return records.compared(later[own], later[claim.against])[claim.measure]
    if claim.kind == "mean":
        return records.mean_of(records.by_date(later[own])[claim.measure])
    return _beaten(store, one, later[own])


def _beaten(store: Store, one: Ran, record: Record) -> Difference:
    """The share of single stocks that earned less, each bought for nothing at the record's begin and held to its end.

    Ends are those of a bootstrap of whole sessions, in which a stock is below where its mean log return is.
    """
    newest = list(ledger.current(store, one.scenarios[0]).values())[-1]
    panel = panels.load(store, PanelKey(newest.record["snapshot"], newest.record["universe"]))
    days = np.searchsorted(panel.sessions, record.sessions.astype(panel.sessions.dtype))
    held = panel.eligible[days[0]]
    logs = np.log1p(np.column_stack([record.daily, np.nan_to_num(panel.returns[days][:, held])]))
    block = bootstrap.block_length(logs[:, 0] - logs[:, 1:].mean(axis=1))
    drawn = bootstrap.means(logs, block, np.random.default_rng(_SEED), _DRAWS)
    lower, upper = np.quantile(np.mean(drawn[:, 1:] < drawn[:, :1], axis=1), _ENDS)
    total = logs.sum(axis=0)
    return Difference(singles.share_beaten(total[0], total[1:]), float(lower), float(upper))
