"""repair: a damaged store made usable again, and what is computed and was lost computed at once."""

from typing import Any

from prefect import flow

from flows import lines, planning
from flows.diary import recorded
from flows.endings import in_words
from flows.rebalance import RUNNER, account, decide_months
from storage import ledger, tables, verification
from storage import repair as repairs
from storage.errors import PrismError
from storage.store import Store, open_store


@flow(name="repair", task_runner=RUNNER, timeout_seconds=24 * 3600)
@in_words
def repair() -> dict[str, Any]:
    """Mend the store, compute the results that are gone again, and say what only a source or a backup can bring.

    No other run may be at work meanwhile. What was damaged is kept beside, in the store's folder `damaged`.
    """
    store = open_store()
    mended = repairs.mend(store.root)
    said = {"aside": str(mended.aside) if mended.aside else None, "mended": mended.done, "computed": {}, "failed": {}}
    for scenario in _scenarios(store) if mended.aside else ():
        try:
            said["computed"][scenario] = _computed(store, scenario)
        except PrismError as error:  # the others are mended all the same
            said["failed"][scenario] = str(error)
    left = verification.verify(store.root, deep=True).damage
    lost = {entry.place: entry for entry in (*mended.lost, *left)}
    return said | {"lost": [vars(entry) for entry in lost.values()]}


def _scenarios(store: Store) -> list[str]:
    """Scenarios whose records can be read."""
    try:
        return sorted(set(tables.read(store, "decisions", ["scenario"])["scenario"].to_pylist()))
    except PrismError:
        return []


def _computed(store: Store, scenario: str) -> list[str]:
    """Compute what a scenario's records name and the store lacks, by the code of every run; the dates."""
    with recorded("repair", scenario) as diary:
        standing = list(ledger.current(store, scenario).values())
        lacking = {decision.rebalance_date for decision, _ in ledger.unlike(store, standing)}
        line = lines.open_line(scenario, fetch=False)
        wanted = [moment for moment in planning.possible(line) if moment.rebalance_date in lacking]
        if wanted:
            decide_months(line, wanted, diary)
        account(line, diary)
        return [moment.month for moment in wanted]
