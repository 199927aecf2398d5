"""From a scenario's name and what a person gave to a line of results that can be decided.

A scenario keeps its own parameters. What is not given means the scenario's own; what is given and differs is
refused, unless it goes to another scenario or amends this one for the rebalance dates to come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from flows import parameters as forms
from flows.parameters import Parameters
from storage import bars, blobs, ledger, scenarios, snapshots, universe
from storage.errors import InputError
from storage.keys import PanelKey, digest
from storage.scenarios import FROM_THE_START, Terms
from storage.store import Store, open_store
from storage.universe import Universe
from tasks import calendars
from tasks.fetch import ingest

MAIN = "main"
_DATES_TO_SELL = 2  # the date that drops an asset, and the one before it; dates that are held sell nothing
_OWN_DEFAULT = {"sample": "sample20", "yahoo": "prism109"}


@dataclass(frozen=True)
class Segment:
    """The terms of some rebalance dates, and where their prices are."""

    terms: Terms
    parameters: Parameters
    panel: PanelKey


@dataclass(frozen=True)
class Line:
    """A scenario with its newest prices, ready to decide."""

    scenario: str
    segments: tuple[Segment, ...]  # in order of time
    pending: Terms | None  # to be written with the first date they decide

    @property
    def newest(self) -> Segment:
        """What holds for the newest rebalance date."""
        return self.segments[-1]

    def at(self, day: date) -> Segment:
        """What holds for a rebalance date."""
        return next(segment for segment in reversed(self.segments) if segment.terms.valid_from <= day)


def own_parameters(store: Store, scenario: str) -> Parameters:
    """The scenario's own parameters, or the defaults while it has none."""
    terms = scenarios.read(store, scenario)
    return forms.make(terms[-1].parameters) if terms else Parameters()


def open_line(
    scenario: str,
    given: Parameters | forms.Values | None = None,
    path: str | None = None,
    amend: str | None = None,
    dataset: str | None = None,
    fetch: bool = True,
    accept: tuple[str, ...] = (),
) -> Line:
    """Resolve the scenario, bring in the newest prices, and check that what was given agrees with it.

    `given`: the parameters, or some of their values, in which case the others are the scenario's own. `dataset`: that
    of a new scenario; by default the source's, or files of its own. Without `fetch` the prices that
    are stored are taken as they are; `accept` names tickers whose odd prices a person has looked at.

    Raises InputError, with nothing changed, where a decided scenario has other parameters.
    """
    store = open_store()
    terms = scenarios.read(store, scenarios.checked_name(scenario))
    wanted, base = _resolved(store, forms.over(own_parameters(store, scenario), given), terms)
    own = forms.make(terms[-1].parameters) if terms else None
    _check_amendment(scenario, own, wanted, amend)
    if terms:
        dataset = terms[0].dataset
    dataset = dataset or dataset_of(wanted.source, scenario)
    if path and wanted.source != "files":
        raise InputError(
            f"--path is for --source files, and the source is {wanted.source}; name it, or leave --path out"
        )
    if fetch:
        asked = universe.joined(_composed(wanted, base), _left_behind(store, scenario)) if base else None
        snapshot = ingest(wanted.source, dataset, path, universe.keep(store, asked) if asked else None, accept)
    else:
        snapshot = snapshots.newest(store, dataset).snapshot
    if wanted == own:
        return _line(scenario, terms, snapshot)
    first = _first_after(store, scenario) if terms else FROM_THE_START
    universe_id, values = _chosen(store, snapshot, wanted, base)
    _check_currency(store, scenario, terms, universe_id)
    pending = Terms(dataset, universe_id, values, first, amend)
    return _line(scenario, [*(entry for entry in terms if entry.valid_from < first), pending], snapshot, pending)


def _left_behind(store: Store, scenario: str) -> list[Universe]:
    """Universes of the newest decided dates: what an amendment drops is still held until the next trade is done."""
    decided = list(ledger.current(store, scenario).values())
    traded = [place for place, entry in enumerate(decided) if entry.kind != ledger.HELD]
    begin = traded[-_DATES_TO_SELL] if len(traded) >= _DATES_TO_SELL else 0
    used = {entry.record["universe"] for entry in decided[begin:]}
    return [universe.load(store, identity) for identity in sorted(used)]


def dataset_of(source: str, scenario: str) -> str:
    """The dataset of a source; a person's files belong to the scenario that first brought them."""
    return f"files:{scenario}" if source == "files" else source


def _chosen(store: Store, snapshot: str, wanted: Parameters, base: Universe | None) -> tuple[str, forms.Values]:
    """Id of the universe with all that is read beside its assets, and the parameters that name it."""
    tickers = _tickers(store, snapshot)
    beside = {"index": wanted.index, "risk_free": wanted.risk_free} | {
        f"factor {name}": name for name in wanted.factors
    }
    lacking = [f"{name} {ticker!r}" for name, ticker in beside.items() if ticker and ticker not in tickers]
    if lacking:
        raise InputError(f"{lacking[0]} has no prices; give a ticker that has, or leave it out")
    base = base or universe.of_tickers("all", _assets(store, snapshot, tickers, wanted), wanted.index or None)
    universe.keep(store, base)  # its label names it
    return universe.keep(store, _composed(wanted, base)), _labelled(wanted, base).values()


def _composed(wanted: Parameters, base: Universe) -> Universe:
    """The universe with its index, risk-free rate, factors and exchange rates."""
    chosen = universe.with_index(base, wanted.index or None)
    chosen = universe.with_factors(universe.with_risk_free(chosen, wanted.risk_free or None), wanted.factors)
    return universe.in_currency(chosen, wanted.currency or chosen.currency)


def _line(scenario: str, terms: list[Terms], snapshot: str, pending: Terms | None = None) -> Line:
    segments = (Segment(entry, forms.make(entry.parameters), PanelKey(snapshot, entry.universe)) for entry in terms)
    return Line(scenario, tuple(segments), pending)


def _resolved(store: Store, wanted: Parameters, terms: list[Terms]) -> tuple[Parameters, Universe | None]:
    """The parameters with the universe's name filled in, and that universe before its index is chosen.

    There is none yet where all tickers of files are wanted that are still to be read.
    """
    label = wanted.universe or _OWN_DEFAULT.get(wanted.source, "")
    if not label and terms:
        label = terms[-1].parameters["universe"]
    _, _, identity = label.partition("@")
    if identity and not Path(label).exists():
        base = universe.load(store, blobs.find(store, identity))
    elif label:
        base = universe.read(label)
        for exchange in sorted(set(base.exchanges.values())):
            calendars.timezone(exchange)  # InputError for one that nobody knows
    else:
        return wanted, None
    return _labelled(wanted, base), base


def _labelled(wanted: Parameters, base: Universe) -> Parameters:
    """The parameters with the universe by name or, where it does not come with PRISM, by name and content."""
    label = base.name if base.name in universe.names() else f"{base.name}@{universe.identity(base)[:16]}"
    return wanted.model_copy(update={"universe": label})


def _tickers(store: Store, snapshot: str) -> list[str]:
    """Every ticker of a snapshot."""
    months = snapshots.manifest(store, snapshots.load(store, snapshot)).values()
    return sorted({ticker for month in months for ticker in month["tickers"]})


def _assets(store: Store, snapshot: str, tickers: list[str], wanted: Parameters) -> list[str]:
    """Tickers of files that may be held: those with prices that nothing else is made of."""
    beside = {wanted.risk_free, *wanted.factors, *bars.rates(store, snapshots.load(store, snapshot).dataset)}
    return [ticker for ticker in tickers if ticker not in beside]


def _check_amendment(scenario: str, own: Parameters | None, wanted: Parameters, amend: str | None) -> None:
    """Refuse an amendment that changes nothing, and other parameters than the scenario's own without one."""
    if own is None or wanted == own:
        if amend is not None:
            raise InputError(
                f"--amend changes nothing: scenario {scenario} has no other parameters; give them with --set"
            )
        return
    if amend is None or (wanted.source, wanted.currency) != (own.source, own.currency):
        raise InputError(
            f"scenario {scenario} was decided with other parameters "
            f"({forms.difference(own.values(), wanted.values())}); give --scenario NAME for a line of its own, another "
            '--store DIR, or --amend "reason" to change what comes after the newest decided one (its source and '
            "currency stay)"
        )


def _check_currency(store: Store, scenario: str, terms: list[Terms], universe_id: str) -> None:
    """Refuse a universe in another currency than the months before: one account has one."""
    now = universe.load(store, universe_id).currency
    before = universe.load(store, terms[-1].universe).currency if terms else now
    if now != before:
        raise InputError(
            f"scenario {scenario} is kept in {before} and this universe in {now}; add --set currency={before}, or give "
            "--scenario NAME for a line of its own"
        )


def _first_after(store: Store, scenario: str) -> date:
    """The first day of the month after the newest decided date; where every session is decided, the next day."""
    last = max(ledger.current(store, scenario))
    if scenarios.at(scenarios.read(store, scenario), last).parameters.get("rebalance") == "D":
        return last + timedelta(days=1)
    return date(last.year + last.month // 12, last.month % 12 + 1, 1)


def complete(parameters: Parameters) -> Parameters:
    """The parameters with the universe's default filled in and a file's replaced by its content's name."""
    store = open_store()
    completed, base = _resolved(store, parameters, scenarios.read(store, MAIN))
    if base is not None:
        universe.keep(store, base)  # the label that it now has names it
    return completed


def whatif_name(parameters: Parameters) -> str:
    """Name of the scenario of an ad-hoc run with these parameters."""
    return f"whatif-{digest(parameters.values())[:10]}"


def decided_dates(scenario: str) -> Sequence[date]:
    """Rebalance dates that the scenario has decided."""
    return list(ledger.current(open_store(), scenario))
