"""From a scenario's name and what a person gave to a line of results that months can be decided on.

A scenario keeps its own parameters. What is not given means the scenario's own; what is given and differs is
refused, unless it goes to another scenario or amends this one for the months to come.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from flows import parameters as forms
from flows.parameters import Parameters
from storage import blobs, ledger, scenarios, snapshots, universe
from storage.errors import InputError
from storage.keys import PanelKey, digest
from storage.scenarios import Terms
from storage.store import Store, open_store
from storage.universe import Universe
from tasks.fetch import ingest

MAIN = "main"
_OWN_DEFAULT = {"sample": "sample20"}


@dataclass(frozen=True)
class Segment:
    """The terms of some months, and where their prices are."""

    terms: Terms
    parameters: Parameters
    panel: PanelKey


@dataclass(frozen=True)
class Line:
    """A scenario with its newest prices, ready to decide months."""

    scenario: str
    segments: tuple[Segment, ...]  # in order of time
    pending: Terms | None  # to be written with the first month they decide

    @property
    def newest(self) -> Segment:
        """What holds for the newest month."""
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
    given: Parameters | None = None,
    path: str | None = None,
    amend: str | None = None,
    dataset: str | None = None,
    fetch: bool = True,
) -> Line:
    """Resolve the scenario, bring in the newest prices, and check that what was given agrees with it.

    `dataset`: that of a new scenario; by default the sample's, or files of its own. Without `fetch` the prices
    that are stored are taken as they are.

    Raises InputError, with nothing changed, where a decided scenario has other parameters.
    """
    store = open_store()
    terms = scenarios.read(store, scenarios.checked_name(scenario))
    wanted = given or own_parameters(store, scenario)
    base = _universe(store, wanted, terms)
    wanted = wanted if base is None else _labelled(store, wanted, base)
    pending = _pending(store, scenario, wanted, terms, amend)
    own = "sample" if wanted.source == "sample" else f"files:{scenario}"
    dataset = terms[0].dataset if terms else dataset or own
    exchanges = {member.ticker: member.exchange for member in base.members} if base else {}
    snapshot = _snapshot(store, wanted.source, dataset, path, exchanges, fetch)
    if base is None:
        base = _all_tickers(store, snapshot, wanted.index)
        wanted = _labelled(store, wanted, base)
    if pending is not None:
        identity = universe.keep(store, universe.with_index(base, wanted.index or None))
        pending = replace(pending, dataset=dataset, universe=identity, parameters=wanted.values())
        terms = [entry for entry in terms if entry.valid_from < pending.valid_from] + [pending]
    segments = tuple(_segment(entry, snapshot) for entry in terms)
    return Line(scenario, segments, pending)


def _snapshot(store: Store, source: str, dataset: str, path: str | None, exchanges: dict[str, str], fetch: bool) -> str:
    return ingest(source, dataset, path, exchanges) if fetch else snapshots.newest(store, dataset).snapshot


def _segment(terms: Terms, snapshot: str) -> Segment:
    return Segment(terms, forms.make(terms.parameters), PanelKey(snapshot, terms.universe))


def _universe(store: Store, wanted: Parameters, terms: list[Terms]) -> Universe | None:
    """The universe asked for, before its index is chosen; None: all tickers of files that are still to be read."""
    label = wanted.universe or _OWN_DEFAULT.get(wanted.source, "")
    if not label and terms:
        label = terms[-1].parameters["universe"]
    _, _, identity = label.partition("@")
    if identity and not Path(label).exists():
        return universe.load(store, blobs.find(store, identity))
    return universe.read(label) if label else None


def _labelled(store: Store, wanted: Parameters, base: Universe) -> Parameters:
    """The parameters with the universe by name or, where it does not come with PRISM, by name and content."""
    label = base.name if base.name in universe.names() else f"{base.name}@{universe.keep(store, base)[:16]}"
    return wanted.model_copy(update={"universe": label})


def _all_tickers(store: Store, snapshot: str, index: str) -> Universe:
    """Every ticker of a snapshot as an asset, but for the index."""
    months = snapshots.manifest(store, snapshots.load(store, snapshot)).values()
    tickers = sorted({ticker for month in months for ticker in month["tickers"]})
    return universe.of_tickers("all", tickers, index or None)


def _pending(store: Store, scenario: str, wanted: Parameters, terms: list[Terms], amend: str | None) -> Terms | None:
    """The terms that this run would add: the first ones, or an amendment; None where the scenario's own are wanted."""
    if not terms:
        return Terms("", "", {})
    own = forms.make(terms[-1].parameters)
    if wanted == own:
        return None
    changes = forms.difference(own.values(), wanted.values())
    if amend is None or wanted.source != own.source:
        raise InputError(
            f"scenario {scenario} was decided with other parameters ({changes}); give --scenario NAME for a line of "
            'its own, another --store DIR, or --amend "reason" to change the months after the newest decided one '
            "(its source stays)"
        )
    last = max(ledger.current(store, scenario))
    first = date(last.year + last.month // 12, last.month % 12 + 1, 1)
    return Terms("", "", {}, first, amend)


def complete(parameters: Parameters) -> Parameters:
    """The parameters with the universe's default filled in and a file's replaced by its content's name."""
    store = open_store()
    base = _universe(store, parameters, scenarios.read(store, MAIN))
    return parameters if base is None else _labelled(store, parameters, base)


def whatif_name(parameters: Parameters) -> str:
    """Name of the scenario of an ad-hoc run with these parameters."""
    return f"whatif-{digest(parameters.values())[:10]}"


def months_of(scenario: str) -> Sequence[date]:
    """Rebalance dates that the scenario has decided."""
    return list(ledger.current(open_store(), scenario))
