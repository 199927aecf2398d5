"""Stage *decide*: the trades of a rebalance date, and its record in the ledger.

Trades, or the weights that stand where a date is held, are planned by `tasks.planned`. A published or held record keeps
the start it was decided with, and is never decided again: what would come out now is kept beside it.
"""

import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import ledger, snapshots, tables, universe
from storage.errors import InputError, StoreError
from storage.keys import PanelKey
from storage.ledger import HELD, Decision
from storage.settings import Settings, current
from storage.store import Store, open_store
from tasks import own_holdings, panels, planned
from tasks.caching import keyed_by
from tasks.planned import Month, Plan

KEYED = keyed_by(
    __name__,
    "tasks.accounts",
    "tasks.allocations",
    "tasks.holdings",
    "tasks.own_holdings",
    "tasks.panels",
    "tasks.planned",
    "tasks.prices",
    packages=("numpy", "numba", "exchange-calendars"),
)
_ATTEMPTS = 20
log = logging.getLogger("prism.decide")


@dataclass(frozen=True)
class Decided:
    """What deciding some rebalance dates came to."""

    new: tuple[str, ...]  # names of those that got a new record
    published: tuple[tuple[str, str], ...]  # names of those published before: `identical`, or why they would differ


@task(cache_policy=NO_CACHE, task_run_name="decide from {months[0].moment.month}")
def decide(panel: PanelKey, scenario: str, months: tuple[Month, ...]) -> Decided:
    """Plan the trades of each rebalance date, in order, and append to the ledger what it does not hold yet.

    Raises InputError, with nothing appended, where a date to amend came out as it stands.
    """
    new, compared = _recorded(open_store(), panel, scenario, months)
    if new:
        log.info("decided %s to %s", new[0].month, new[-1].month)
    for decision in new:
        if decision.reason and decision.month not in compared:
            log.info("%s came out differently: %s", decision.month, decision.reason)
    for month, verdict in compared.items():
        log.info("%s, compared with what was published: %s", month, verdict)
    return Decided(tuple(decision.month for decision in new), tuple(compared.items()))


def _recorded(
    store: Store, panel: PanelKey, scenario: str, months: tuple[Month, ...]
) -> tuple[list[Decision], dict[str, str]]:
    """What was appended, and how dates that are final compare; it is planned again where another run was first."""
    for _ in range(_ATTEMPTS):
        records = ledger.read(store, scenario)
        found = _planned(store, panel, scenario, months, records)
        new, compared = _news(store, panel, records, found, {m.moment.rebalance_date: m.amend for m in months})
        made = {decision.month for decision in new}
        same = [month.moment.month for month in months if month.amend is not None and month.moment.month not in made]
        if same:
            raise InputError(
                f"{same[0]} would be decided as it stands, so there is nothing to amend; nothing was appended"
            )
        if ledger.append(store, new, after=len(records)):
            return new, compared
    raise StoreError(f"the ledger of {scenario} is busy: other runs were first {_ATTEMPTS} times; run it again")


def _news(
    store: Store,
    panel: PanelKey,
    records: list[Decision],
    found: list[Decision],
    amends: dict[date, str | None],
) -> tuple[list[Decision], dict[str, str]]:
    """Those of the planned decisions that the ledger lacks, and how those that are final compare with it.

    Equal lineage needs no look at the results, unless a date is published or held.
    """
    standing = {entry.rebalance_date: entry for entry in records if not entry.advisory}
    known = {day: entry.lineage for day, entry in standing.items() if not entry.is_final}
    unknown = [d for d in found if known.get(d.rebalance_date) != d.lineage or d.is_final]
    past: dict[date, list[Decision]] = {}
    for entry in records:
        past.setdefault(entry.rebalance_date, []).append(entry)
    new: list[Decision] = []
    compared: dict[str, str] = {}
    for decision, content in zip(unknown, ledger.content_hashes(store, unknown), strict=True):
        month, before = past.get(decision.rebalance_date, []), standing.get(decision.rebalance_date)
        reason = why_changed(store, panel, decision.as_of, before.record, decision.record) if before else None
        made = replace(decision, content_hash=content)
        settled = ledger.settled(made, month, reason, amends[decision.rebalance_date])
        new += [settled] if settled else []
        if before is not None and before.is_final and amends[decision.rebalance_date] is None:
            compared[decision.month] = _verdict(before, settled or made, month)
    return new, compared


def _verdict(published: Decision, found: Decision, month: list[Decision]) -> str:
    """How a date that was published compares with what is decided for it now: identical, or the advisory's reason."""
    if found.content_hash == published.content_hash:
        return "identical"
    known = next((entry for entry in month if entry.content_hash == found.content_hash), found)
    return str(found.reason or known.reason)


def _planned(
    store: Store, panel: PanelKey, scenario: str, months: Sequence[Month], records: list[Decision]
) -> list[Decision]:
    """The decisions, content hash and revision aside, with their trades written."""
    standing = {entry.rebalance_date: entry for entry in records if not entry.advisory}
    left = {day: planned.left_by(entry) for day, entry in standing.items()}
    decisions, wanted = [], {}
    imports = own_holdings.history(store, scenario)
    for asked in months:
        day, before = asked.moment.rebalance_date, left.get(asked.follows) if asked.follows else None
        month = _as_it_stands(asked, standing.get(day))
        plan = Plan(month, before, planned.imported(store, panel, month, standing.get(day), imports))
        if month.kind == HELD:
            plan = _standing(store, panel, plan)
        key = _key(store, panel, plan, "trades", to=plan.month.keys)
        wanted[key] = plan
        decisions.append(_decision(store, panel, scenario, plan, key))
        if day not in standing or not standing[day].is_final or month.amend is not None:
            left[day] = planned.left_by(decisions[-1])
    there = tables.existing(store, "trades", wanted)
    traded = {key: plan for key, plan in wanted.items() if key not in there and plan.month.kind != HELD}
    planned.write(store, panel, traded)
    return decisions


def _as_it_stands(month: Month, standing: Decision | None) -> Month:
    """The month, held where it was held and is not amended."""
    stays = standing is not None and standing.kind == HELD and month.amend is None
    return replace(month, kind=HELD) if stays else month


def _standing(store: Store, panel: PanelKey, plan: Plan) -> Plan:
    """A held date's plan, with the weights that stand written and in place of those chosen."""
    names = [name for name, _ in plan.month.weights]
    keys = tuple((name, _key(store, panel, plan, HELD, strategy=name)) for name in names)
    plan = replace(plan, month=replace(plan.month, weights=keys))
    planned.stand(store, panel, plan)
    return plan


def _key(store: Store, panel: PanelKey, plan: Plan, what: str, **inputs: Any) -> str:
    """Key of what follows from the holdings that a rebalance date starts from."""
    month, before, own = plan.month, plan.before, plan.own
    seen = month.moment.prefix if before else None
    if before is not None and before.universe != panel.universe:
        seen = panels.prefix(store, replace(panel, universe=before.universe), month.moment.as_of)
    held = before.keys if before else ()
    inputs |= {"held": held, "seen": seen, "config": month.accounting, "own": own and [month.publish, own]}
    return KEYED.key(what, moment=month.moment, **inputs)


def _decision(store: Store, panel: PanelKey, scenario: str, plan: Plan, trades: str) -> Decision:
    month, before, own = plan.month, plan.before, plan.own
    record = {
        "snapshot": panel.snapshot,
        "known_at": snapshots.load(store, panel.snapshot).known_at,
        "universe": panel.universe,
        "prefix": month.moment.prefix,
        "follows": month.follows and f"{month.follows}",
        "model": month.model,
        "holdings": [*([own.holdings] if own else ()), *(before.keys if before else ())],
        "imported": {"holdings": own.holdings, "date": f"{own.date}"} if own else None,
        "left_out": panels.left_out(panels.load(store, panel), month.moment.as_of),
        "machine": _machine(),
        **month.made_of,
    }
    if month.publication is not None:
        record["publication"] = month.publication
    if month.kind == HELD:
        record["stands"] = {"universe": before.universe if before else panel.universe}
    dates = {"rebalance_date": month.moment.rebalance_date, "as_of": month.moment.as_of}
    keys = {"forecasts": month.forecasts, "weights": month.keys, "trades": trades}
    return Decision(scenario, **dates, kind=month.kind, **keys, record=record)


def _machine() -> dict[str, str]:
    """What a result's last bits depend on beside code, libraries and inputs."""
    found = {"processor": _processor(), "system": platform.platform(), "python": platform.python_version()}
    return found | {"device": current(Settings).device, "threads": os.environ.get("OMP_NUM_THREADS", "")}


@cache
def _processor() -> str:
    """The processor's kind: results agree to the byte on one kind only."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def why_changed(store: Store, panel: PanelKey, as_of: date, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Why a date comes out differently from its last record: data, code, libraries, or the date before it."""
    causes = _restatements(store, panel, as_of, before["snapshot"]) if before["prefix"] != after["prefix"] else []
    causes += ["universe"] if before["universe"] != after["universe"] else []
    changed = [name for name, value in after["code"].items() if before["code"].get(name) != value]
    causes += [f"code: {', '.join(changed)}"] if changed else []
    changed = [name for name, value in after["versions"].items() if before["versions"].get(name) != value]
    causes += [f"libraries: {', '.join(changed)}"] if changed else []
    old, new = before.get("imported"), after.get("imported")
    if old != new:
        causes.append(f"holdings imported for {new['date']}" if new else f"not from the holdings of {old['date']}")
    if _has_drifted(before) != _has_drifted(after):
        causes.append("the rebalance date before is decided now")
    return "; ".join(causes) or "the rebalance date before was decided differently"


def _has_drifted(record: dict[str, Any]) -> bool:
    """Whether the date followed another one."""
    return len(record["holdings"]) > bool(record.get("imported"))


def _restatements(store: Store, panel: PanelKey, as_of: date, since: str) -> list[str]:
    """What the data say otherwise than the snapshot `since` did, as far as it may be seen at `as_of`."""
    tickers = universe.load(store, panel.universe).tickers
    bars = [day for day in snapshots.restated(store, since, panel.snapshot, tickers) if day <= as_of]
    noun = "bar" if len(bars) == 1 else "bars"
    causes = [f"data: {len(bars)} {noun} restated from {bars[0]:%Y-%m}"] if bars else []
    old, new = (snapshots.delisted(store, snapshots.load(store, identity)) for identity in (since, panel.snapshot))
    changed = {name for name, day in old.items() ^ new.items() if name in tickers and day <= as_of}
    return causes + ([f"data: delisting of {', '.join(sorted(changed))}"] if changed else [])
