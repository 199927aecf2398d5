"""study: what a part is worth, or whether a document's claims hold: the variants of a study, decided and compared.

Every variant is a scenario of its own, named by its parameters and months; what it shares with others comes from the
cache, and what is decided is not decided again. Nothing is published.
"""

from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Annotated, Any

import pandas as pd
from prefect import flow
from prefect.states import Completed
from pydantic import Field

from flows import artifacts, lines, planning, studied
from flows import parameters as forms
from flows.diary import Diary
from flows.endings import in_words
from flows.form import Given, Path, Scenario, said
from flows.lines import MAIN, Line
from flows.parameters import MONTH, Parameters
from flows.provenance import libraries
from flows.rebalance import RUNNER, decide_months, recorded
from storage import catalog, scenarios, tables, universe
from storage.errors import InputError
from storage.keys import digest, to_json
from storage.settings import Settings
from storage.store import open_store
from tasks import caching, learning, own_forecasts
from tasks import study as stage
from tasks.backtest import backtest
from tasks.report.evidence import YARDSTICK
from tasks.studies import NAMES, STUDIES, Changes, Study, named
from tasks.study import Ran, Span

_YEARS = 10  # that a study looks at by default
Month = Annotated[str, Field(title="Month", pattern=f"^{MONTH}$")]
First = Annotated[Month | None, said("First month", "Like 2011-01; None: ten years before the last.")]
Last = Annotated[Month | None, said("Last month", "Like 2020-12; None: the newest of the prices.")]
Split = Annotated[Month | None, said("Split", "First month that tests what was chosen before.")]


@flow(name="study", task_runner=RUNNER, flow_run_name="study {name}", timeout_seconds=48 * 3600)
@in_words
def study(
    name: Annotated[str, said("Study", "What is asked; claims holds both documents to theirs.", enum=list(NAMES))],
    start: First = None,
    end: Last = None,
    split: Split = None,
    scenario: Scenario = MAIN,
    parameters: Given = None,
    path: Path = None,
) -> dict[str, Any]:
    """Decide every variant of a study over the months from `start` to `end`, and compare them, after costs.

    What is not given is as the scenario has it. A study that was run before, of the same prices by the same code, is
    only looked up.
    """
    with recorded("study", scenario) as diary:
        found = {}
        for each in named(name):
            with diary.stage("ingest"):
                opened = _opened(STUDIES[each], scenario, parameters, path)
            found[each] = _answered(each, opened, _months(STUDIES[each], opened, start, end, split), diary)
        catalog.rebuild(open_store())
        for each, key in found.items():
            artifacts.show("study", each, partial(studied.markdown, open_store(), each, key))
        return Completed(message=f"{name}: {diary.words()}", data={"scenario": scenario, "studies": found})


@dataclass(frozen=True)
class _Months:
    """First and last month of a study, and the first of its second part."""

    first: str
    last: str
    split: str | None

    @property
    def span(self) -> Span:
        """Their days."""
        after = pd.Period(self.last, "M").end_time.date()
        split = date.fromisoformat(f"{self.split}-01") if self.split else None
        return Span(date.fromisoformat(f"{self.first}-01"), after, split)


def _opened(asked: Study, scenario: str, given: Parameters | forms.Values | None, path: str | None) -> Line:
    """Prices and parameters that all variants share; nothing is ever decided under this line's name."""
    store, values = open_store(), {}
    for name, value in asked.common.items():
        values = forms.merged(values, forms.nested(name, value))
    own = forms.over(lines.own_parameters(store, scenario), values)
    wanted, terms = forms.over(own, given), scenarios.read(store, scenario)
    shared = terms[0].dataset if terms and own.source == wanted.source else None
    dataset = shared or lines.dataset_of(wanted.source, scenario)
    return lines.open_line("study-prices", wanted, path, dataset=dataset, fetch=shared is None or path is not None)


def _months(asked: Study, opened: Line, start: str | None, end: str | None, split: str | None) -> _Months:
    """The months meant. InputError where the split leaves a part without any, or there must be one and is none."""
    first, last = start or asked.first, end
    if not (first and last):
        possible = [planning.month_of(moment) for moment in planning.possible(planning.monthly(opened))]
        last = last or possible[-1]
        first = first or max(f"{pd.Period(last, 'M') - 12 * _YEARS + 1}", possible[0])
    split = split or asked.split or None
    if asked.candidates and split is None:
        raise InputError(f"the best of {' and '.join(asked.candidates)} is tested on later months; give their --split")
    if split is not None and not first < split <= last:
        raise InputError(f"split {split} leaves one part of {first} to {last} empty; give a later month of these")
    return _Months(first, last, split)


def _answered(name: str, opened: Line, months: _Months, diary: Diary) -> str:
    """The key of a study's rows: those that are there, else its variants are decided and compared."""
    asked, span = STUDIES[name], months.span
    key = stage.key_of(name, span, **_given(opened))
    if tables.existing(open_store(), "studies", [key]):
        return key
    strategies: dict[str, list[str]] = {}
    changed: dict[str, Changes] = {}
    for variant in asked.variants:
        for changes in variant.scenarios:
            changed[to_json(changes)] = changes
            strategies.setdefault(to_json(changes), []).append(asked.strategy_of(variant))
    made = {
        text: _accounted(opened, changes, list(dict.fromkeys([*strategies[text], YARDSTICK])), months, diary)
        for text, changes in changed.items()
    }
    ran = []
    for variant in asked.variants:
        found = [made[to_json(changes)] for changes in variant.scenarios]
        ran.append(Ran(variant.label, asked.strategy_of(variant), tuple(name for name, _ in found), found[0][1]))
    with diary.stage("measure"):
        stage.measure(name, key, tuple(ran), span)
    return key


def _given(opened: Line) -> dict[str, Any]:
    """All that a study's answer follows from, its months aside: parameters, prices, a person's own, and code."""
    store, newest = open_store(), opened.newest
    assets = universe.load(store, newest.panel.universe).assets
    own = own_forecasts.of(store, newest.terms.dataset, assets).digests
    terms = [learning.of_online(name, config).source for name, config in newest.parameters.online.items()]
    given = {"parameters": newest.parameters.values(), "panel": newest.panel, "forecasts": own, "terms": terms}
    return given | {"device": Settings().device, "code": caching.project(), "versions": libraries()}


def _accounted(opened: Line, changes: Changes, strategies: list[str], months: _Months, diary: Diary) -> tuple[str, str]:
    """The scenario of some changes, decided over the months, and the key of its backtest."""
    own = opened.newest.parameters.values()
    values = own | {
        "strategies": strategies,
        "publish": strategies[0],
        "own": {},
        "begin": own["begin"] or months.first,
    }
    for name, value in changes.items():
        values = forms.merged(values, forms.nested(name, value))
    scenario = f"study-{digest([values, months.first, months.last])[:12]}"
    line = lines.open_line(scenario, forms.make(values), dataset=opened.newest.terms.dataset, fetch=False)
    decide_months(line, planning.between(line, months.first, months.last), diary)
    with diary.stage("backtest"):
        key = backtest(line.newest.panel, scenario)
    if key is None:
        raise InputError(f"months {months.first} to {months.last} have not traded yet; give earlier ones")
    return scenario, key
