"""rebalance: the one way in which a rebalance date is decided, whoever asks for it.

`decide_months` is what the scheduled run, a backfill and an ad-hoc run have in common: plan, fan out over the
blocks of dates, fold in date order, record. The flow `rebalance` is the ad-hoc run: other parameters become a
scenario of their own, which decides the same months as `main` has, and leaves what was published as it is.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import groupby, pairwise
from typing import Any

from prefect import flow

from flows import beside, lines, planning, status, unchanged
from flows import parameters as forms
from flows.compare import compare
from flows.diary import Diary, Shown, recorded
from flows.endings import call_it, completed, in_words
from flows.explain import explain_dates
from flows.form import Given, Path, WhatIf
from flows.lines import MAIN, Line
from flows.parameters import FIXED
from flows.planning import MonthPlan, Plan
from flows.provenance import made_of
from flows.train import make_models, train_elsewhere
from flows.workers import runner
from storage import catalog, clock, ledger, scenarios, tables
from storage.errors import InputError
from storage.keys import Moment, PanelKey
from storage.ledger import HELD, PUBLISHED
from storage.settings import Settings
from storage.store import Store, open_store
from tasks import (
    allocate,
    baselines,
    calendars,
    calibrate,
    decide,
    experts,
    features,
    forecast,
    gate,
    learn,
    panels,
    tuned,
)
from tasks.backtest import backtest
from tasks.portfolio import judge_portfolios
from tasks.regimes import label_dates
from tasks.report import write_report

RUNNER = runner()
_FEWEST = 60  # dates of the optimiser's that are worth a task and its two commits
_AT_ONCE = 256  # dates: more would have the rows of too many weights in memory
Settle = Callable[[PanelKey, decide.Month], decide.Month]
Chunk = Callable[[], object]


def decide_months(
    line: Line,
    wanted: Sequence[Moment],
    diary: Diary,
    publish: Moment | None = None,
    amend: str | None = None,
    check: Callable[[], None] | None = None,
    settle: Settle | None = None,
    held: Collection[date] = (),
) -> list[str]:
    """Decide the dates wanted, computing what the store lacks; the names of those that got a new record.

    The date after those wanted is looked at again where it was decided, since its trades start from theirs. With a
    reason to `amend` them, the dates wanted are published anew; raises InputError where one came out as it stands.
    `check` is called before the last date wanted is recorded, and may raise; then `settle` says what becomes of that
    date: published, held, or left to a person by an error. `held` are dates to decide as held without asking.
    """
    store = open_store()
    new: list[str] = []
    pending, dates = line.pending, [*wanted, *_successors(store, line, wanted)]
    diary.asked = wanted[0].rebalance_date, wanted[-1].rebalance_date
    train_elsewhere(line, dates)
    plans = planning.make(line, dates)
    diary.watch(_span(wanted), sum(len(plan.months) + sum(planning.missing(store, plan).values()) for plan in plans))
    for plan in plans:
        _compute(store, plan, diary)
        made = made_of(plan)
        for part in _parts(plan, wanted[-1] if check or settle else None):
            if check and part[-1].moment == wanted[-1]:
                with diary.stage("leak check", 1):
                    check()
            if pending is not None and plan.segment.terms == pending:
                scenarios.write(store, line.scenario, pending)
                pending = None
            months = tuple(_as_asked(_for_ledger(month, plan, made, publish), wanted, amend, held) for month in part)
            if settle and part[-1].moment == wanted[-1]:
                with diary.stage("publish", 1):
                    months = (settle(plan.segment.panel, months[-1]),)
            with diary.stage("decide", len(part)):
                decided = decide.decide(plan.segment.panel, line.scenario, months)
                new += decided.new
                diary.published |= dict(decided.published)
            diary.step(len(part), f"decided to {part[-1].moment.month}")
    if pending is not None:  # an amendment whose dates are still to come
        scenarios.write(store, line.scenario, pending)
    tables.compact(store)
    late, asked = [moment for moment in _successors(store, line, wanted) if moment not in dates], diary.asked
    if late:  # another run decided them meanwhile, without what is decided now
        new += decide_months(line, late, diary)
        diary.asked = asked
    diary.answers = _answers(plans)
    return new


def _answers(plans: Sequence[Plan]) -> dict[str, int]:
    """How many answers the plans need, by stage."""
    found: dict[str, int] = {}
    for plan in plans:
        for stage, (_, keys) in planning.answers(plan).items():
            found[stage] = found.get(stage, 0) + len(keys)
    return found


def _span(wanted: Sequence[Moment]) -> str:
    """The dates wanted, in words."""
    return wanted[0].month if len(wanted) == 1 else f"{wanted[0].month} to {wanted[-1].month}"


def _parts(plan: Plan, apart: Moment | None) -> list[tuple[MonthPlan, ...]]:
    """What one task decides: at most `_AT_ONCE` dates, the one that is `apart` by itself."""
    stretches = [list(part) for _, part in groupby(plan.months, lambda month: month.moment == apart)]
    return [tuple(part[at : at + _AT_ONCE]) for part in stretches for at in range(0, len(part), _AT_ONCE)]


def _successors(store: Store, line: Line, wanted: Sequence[Moment]) -> list[Moment]:
    """Decided dates that follow one of the dates wanted."""
    decided, asked = ledger.current(store, line.scenario), set(wanted)
    pairs = pairwise(planning.possible(line))
    return [m for before, m in pairs if before in asked and m not in asked and m.rebalance_date in decided]


def _compute(store: Store, plan: Plan, diary: Diary) -> None:
    """Run every stage of a plan; what is stored comes back from the cache."""
    lacking, asked = planning.missing(store, plan), planning.answers(plan)
    for name, chunks in _stages(plan):
        with diary.stage(name, lacking[name], len(asked[name][1]) - lacking[name]):
            for chunk in chunks:
                chunk()
                diary.step(lacking[name] / len(chunks), name)


def _stages(plan: Plan) -> Iterator[tuple[str, list[Chunk]]]:
    """The stages of a plan in order, each as chunks of work; what may run at once is under way, and is waited for."""
    panel, parameters = plan.segment.panel, plan.segment.parameters
    if plan.forecasts:
        named = features.compute_features.with_options(task_run_name=f"features to {plan.history[-1].month}")
        yield "features", [partial(named, panel, plan.history, parameters.features, plan.begun)]
        yield "train", [partial(make_models, plan)]
        yield "forecast", [future.result for future in _forecasts(plan)]
    horizon = parameters.features.horizon
    gates = planning.by_year([month.gate for month in plan.chain if month.gate])
    if gates:
        yield "gate", [gate.gate_forecasts.submit(panel, block, horizon).result for block in gates]
    calibrated = planning.by_year([month.calibrated for month in plan.chain if month.calibrated])
    if calibrated:
        task, config = calibrate.calibrate_forecasts, parameters.calibration
        yield "calibrate", [task.submit(panel, block, horizon, config).result for block in calibrated]
    yield from _allocating(plan)


def _allocating(plan: Plan) -> Iterator[tuple[str, list[Chunk]]]:
    """The strategies of a plan, those last that follow others."""
    panel, parameters = plan.segment.panel, plan.segment.parameters
    moments = tuple(month.moment for month in plan.chain)
    if plan.keys.return_drawdown:
        yield "return_drawdown", _return_drawdown(plan)
    for name, recipe in plan.strategies.recipes.items():
        yield name, [partial(learn.learn, panel, plan.folds, moments, recipe, parameters.schedule)]
    if plan.strategies.choosing:
        yield tuned.NAME, [partial(tuned.follow, panel, plan.folds, moments, plan.strategies.choosing)]
    for name, (path, source) in plan.strategies.modules.items():
        forecasts = tuple(month.forecasts for month in plan.chain)
        yield name, [partial(allocate.allocate_own, panel, moments, forecasts, name, path, source)]
    for name, rule in plan.strategies.optimised.items():
        # one after the other: the modelling library counts its variables in a global that threads would share
        blocks = [tuple(month.moment for month in block) for block in planning.by_year(plan.chain)]
        yield name, [partial(baselines.allocate_baseline, panel, block, rule) for block in blocks]
    for name in FIXED:
        if name in plan.months[0].weights:
            yield name, [partial(allocate.allocate_fixed, panel, moments, name)]
    if plan.keys.experts:
        followed = plan.keys.experts, parameters.experts, parameters.accounting
        yield experts.NAME, [partial(experts.follow, panel, *followed)]


def wait_for(futures: Sequence[Any]) -> None:
    """Wait for all of them; the first that failed raises."""
    for future in futures:
        future.result()


def forecast_blocks(plan: Plan) -> None:
    """Forecast all dates of a plan, the blocks at once."""
    wait_for(_forecasts(plan))


def _forecasts(plan: Plan) -> list[Any]:
    """The forecasts of all dates of a plan, under way."""
    segment = plan.segment
    return [
        forecast.forecast_months.submit(
            segment.panel,
            block,
            plan.features_to(block[-1].moment),
            segment.parameters.forecaster,
            segment.terms.dataset,
        )
        for block in planning.by_year(plan.forecasts)
    ]


def _return_drawdown(plan: Plan) -> list[Chunk]:
    """The optimiser's dates, some years each: at once, or one after the other where they form a chain."""
    task, panel, rule = allocate.allocate_return_drawdown, plan.segment.panel, plan.strategies.rule
    blocks = planning.by_years(plan.keys.return_drawdown, _FEWEST)
    if rule.is_chained:
        return [partial(task, panel, block, rule) for block in blocks]
    return [task.submit(panel, block, rule).result for block in blocks]


def _for_ledger(month: MonthPlan, plan: Plan, made: dict[str, Any], publish: Moment | None) -> decide.Month:
    """A date as the ledger takes it, with all that it was made of."""
    return decide.Month(
        moment=month.moment,
        follows=month.follows,
        kind=PUBLISHED if month.moment == publish else "backfill",
        forecasts=month.forecasts,
        model=month.forecast.model if month.forecast else None,
        weights=tuple(month.weights.items()),
        accounting=plan.segment.parameters.accounting,
        made_of=made | _trained_on(month),
        publish=plan.segment.parameters.publish,
    )


def _as_asked(month: decide.Month, wanted: Sequence[Moment], amend: str | None, held: Collection[date]) -> decide.Month:
    """The date, amended if it is one of those wanted and there is a reason, held if it is to be."""
    found = replace(month, amend=amend) if month.moment in wanted else month
    return replace(found, kind=HELD) if month.moment.rebalance_date in held else found


def _trained_on(month: MonthPlan) -> dict[str, Any]:
    """The device of the block's training, where another machine's was used."""
    trained = month.forecast.trained if month.forecast else None
    return {"trained_on": trained.elsewhere} if trained and trained.elsewhere else {}


def account(line: Line, diary: Diary, compared: str | None = None) -> dict[str, Any]:
    """Backtest, portfolios' judgement and report of the scenario as it now stands.

    Where the report is, if there is to be one, and what was decided last. Its summary in Prefect's UI begins with what
    differs from the scenario `compared`, where one is given.
    """
    store = open_store()
    with diary.stage("backtest"):
        backtest(line.newest.panel, line.scenario)
    with diary.stage("portfolio"):
        judge_portfolios(line.newest.panel, line.scenario)
    decided = ledger.current(store, line.scenario)
    newest = decided[max(decided)]
    with diary.stage("regimes"):
        for panel, moments in planning.decided(line, decided):
            label_dates(panel, moments)
    with diary.stage("explain"):
        explain_dates(line.scenario, [newest.rebalance_date])
    path, opening, publish = None, "", line.at(newest.rebalance_date).parameters.publish
    if Settings().report:
        with diary.stage("report"):
            opening = beside.markdown(compare(store, compared, line.scenario)) if compared else ""
            path = write_report(line.scenario, publish, opening)
    catalog.rebuild(store)
    grid = status.show(line)
    if grid is not None:
        diary.shown = Shown(grid, opening, publish)
    return {"scenario": line.scenario, "month": newest.month, "report": path, "published": diary.published}


def publishable(line: Line, moment: Moment) -> Moment | None:
    """The moment, if it is the one to publish: the newest of `main`, and no longer once it is final and over.

    Whether one that is not final comes in time is settled when it is there (`flows.publishing`).
    """
    standing = ledger.current(open_store(), line.scenario).get(moment.rebalance_date)
    exchange = panels.load(open_store(), line.newest.panel).universe.exchange
    is_open = clock.now() < calendars.close_of(exchange, moment.rebalance_date)
    newest = line.scenario == MAIN and moment == planning.schedule(line)[-1]
    return moment if newest and (is_open or standing is None or not standing.is_final) else None


@flow(name="rebalance", task_runner=RUNNER, flow_run_name="rebalance", timeout_seconds=12 * 3600)
@in_words
def rebalance(parameters: Given = None, scenario: WhatIf = None, path: Path = None) -> dict[str, Any]:
    """What if the parameters were others? Decides the months that `main` has, as a scenario of its own.

    What is not given is as `main` has it, or as the scenario has it where that is decided already.
    """
    store = open_store()
    if not lines.decided_dates(MAIN):
        raise InputError("main has decided no month yet, so there is nothing to compare with; run `prism run` first")
    main = lines.own_parameters(store, MAIN)
    known = scenario is not None and scenarios.read(store, scenario)
    wanted = lines.complete(forms.over(lines.own_parameters(store, scenario) if known else main, parameters))
    name = scenario or (MAIN if wanted == main else lines.whatif_name(wanted))
    with recorded("rebalance", name) as diary:
        own = scenarios.read(store, MAIN)[-1]
        shared = own.dataset if own.parameters["source"] == wanted.source else None
        line = lines.open_line(name, wanted, path, dataset=shared, fetch=shared is None or path is not None)
        question = unchanged.ask(line, "rebalance")
        if (known := unchanged.find(question)) is not None:
            call_it(f"rebalance {known.newest.month}")
            return completed(unchanged.again(line, known, diary), diary)
        months = _as_main(line)
        call_it(f"rebalance {months[-1].month}")
        new = decide_months(line, months, diary)
        found = account(line, diary, compared=None if name == MAIN else MAIN) | {"decided": new}
        unchanged.keep(question, months, found, diary)
        return completed(found, diary)


def _as_main(line: Line) -> list[Moment]:
    """The line's dates on which, or since which and before its next one, `main` has decided."""
    decided = set(lines.decided_dates(MAIN))
    days = [moment.rebalance_date for moment in planning.schedule(lines.open_line(MAIN, fetch=False))]
    newest = [(moment, bisect_right(days, moment.rebalance_date) - 1) for moment in planning.possible(line)]
    found = [moment for moment, place in newest if place >= 0 and days[place] in decided]
    if not found:
        raise InputError(
            f"main has decided {min(decided)} to {max(decided)}, and these prices can decide none of it; give prices "
            "that cover one of its months"
        )
    return found
