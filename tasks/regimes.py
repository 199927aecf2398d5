"""Stage *regimes*: in what kind of market each rebalance date was decided, by what was known on it.

The market is the universe's index, or the equal-weighted universe where it has none.
"""

import numpy as np
import pyarrow as pa

from storage import clock, tables
from storage.keys import Moment, PanelKey, Produced
from storage.schemas import TABLES
from storage.store import open_store
from tasks import panels
from tasks.caching import cached_task, keyed_by
from tasks.numerics import regimes

KEYED = keyed_by(__name__, "tasks.panels", "tasks.numerics.regimes", packages=("numpy", "exchange-calendars"))


@cached_task(cache_policy=KEYED, task_run_name="regimes from {moments[0].month}")
def label_dates(panel: PanelKey, moments: tuple[Moment, ...]) -> Produced:
    """Keep the regime of each date, with the numbers that it follows from; dates without one have a row as well."""
    store = open_store()
    keys = {KEYED.key("regime", prefix=moment.prefix): moment for moment in moments}
    there = tables.existing(store, "regimes", keys)
    missing = {key: moment for key, moment in keys.items() if key not in there}
    if missing:
        loaded = panels.load(store, panel)
        places = np.array([loaded.at(moment.as_of) for moment in missing.values()])
        found = regimes.at(panels.level_returns(loaded), places)
        rows = [
            {"key": key, "prefix": moment.prefix, "as_of": moment.as_of, "created_at": clock.now()}
            | _shown(regimes.Regimes(*(values[row] for values in found)))
            for row, (key, moment) in enumerate(missing.items())
        ]
        tables.put(store, "regimes", pa.Table.from_pylist(rows, TABLES["regimes"].schema))
    return Produced("regimes", tuple(keys))


def _shown(found: regimes.Regimes) -> dict[str, str | float | None]:
    """One date's columns, without numbers where too little is known."""
    if found.regime == regimes.UNKNOWN:
        return dict.fromkeys(("regime", "volatility", "lower", "upper", "distance"))
    return {"regime": regimes.NAMES[found.regime]} | {
        name: float(value) for name, value in found._asdict().items() if name != "regime"
    }
