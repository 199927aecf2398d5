"""Stage *report*: one self-contained HTML file of a scenario, for the person who invests.

The file opens without a network: style, figures and Plotly's script are inside, and its own security policy
forbids the browser to load anything. It is named by its month and the hash of its bytes, so that equal results
are one file. What it holds, in order, is `report.html.j2`; numbers come from the store only.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage import universe
from storage.errors import explained
from storage.store import Store, open_store
from tasks.numerics.configs import TRADING_DAYS
from tasks.report import (
    artifacts,
    attributed,
    contents,
    evidence,
    figures,
    formats,
    judged,
    kept,
    listings,
    measures,
    over_time,
    reasons,
    studied,
)
from tasks.report.contents import Contents
from tasks.report.kept import Kept

_FOLDED = 30  # rows of the matrix above which small ones are folded


@task(cache_policy=NO_CACHE, task_run_name="report {scenario}")
def write_report(scenario: str, publish: str, opening: str = "") -> str:
    """Write the report of a scenario as it now stands, with `publish` as its strategy; the file's path.

    `opening` is Markdown that the summary for Prefect begins with.

    Raises NoDataError when no month is decided, and InputError when the newest one lacks that strategy.
    """
    store = open_store()
    key = kept.key(store, scenario, publish, opening)
    written = kept.find(store, key) or _write(store, key, scenario, publish, opening)
    artifacts.publish(written.artifacts)
    return str(store.root / "reports" / written.name)


def _write(store: Store, key: str, scenario: str, publish: str, opening: str) -> Kept:
    """Write the report; remembered with its artifacts, where a run of Prefect's wants these."""
    found = contents.read(store, scenario, publish)
    shown = _shown(store, found)
    page = _environment().get_template("report.html.j2").render(shown).encode()
    name = f"{found.month}-{hashlib.sha256(page).hexdigest()[:12]}.html"
    path = store.root / "reports" / name
    with explained(f"writing the report {name}"):
        store.files.write(path, page)
    if not artifacts.are_wanted():
        return Kept(name, ())
    lead = [shown[name] for name in ("evidence", "hindsight") if shown.get(name)]
    written = Kept(name, artifacts.of(found, opening, lead, shown["held"], path))
    kept.keep(key, written)
    return written


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {name: getattr(formats, name) for name in ("day", "decimal", "label", "percent")}
    return environment


def _shown(store: Store, found: Contents) -> dict[str, Any]:
    """Everything that the template names."""
    accounting = found.record["parameters"]["accounting"]
    verdicts, studies = judged.judge(store, found), studied.newest(store)
    shown = {
        "c": found,
        "accounting": accounting,
        "cash": found.universe.risk_free or f"{formats.percent(accounting['cash_rate'], 1)} a year",
        "cost": format(1e4 * accounting["cost"], ".4g"),
        "hindsight": universe.hindsight(found.universe, found.first),
        "horizon": found.record["parameters"]["features"]["horizon"],
        "forecast": bool(len(found.forecasts)),
        "current": list(found.current.columns),
        "totals": listings.totals(found),
        "facts": listings.facts(found),
        "parameters": listings.parameters(found),
        "live": listings.live(found),
        "left_out": sorted(found.record["left_out"].items()),
        "judged": verdicts,
        "studies": studies,
        "claim_heads": studied.CLAIM_HEADS,
        "monthly_bars": figures.is_monthly(found),
        "gate": next(iter(found.tables["gates"]["reason"]), None),
        "outlook": reasons.outlook(found),
        "certificate": reasons.certificate(found),
        "notes": reasons.notes(found),
        "changes": reasons.changes(found),
        "portfolios": reasons.judged(found) if found.traded else [],
        "record_hash": found.tables["hashes"]["record_hash"].iloc[0],
        "plotly": get_plotlyjs(),
        "figures": {"weights": figures.weights(found), "calibration": [verdict.figure for verdict in verdicts]}
        | {"studies": [shown.figure for shown in studies], "bands": [shown.band for shown in studies]}
        | ({"live": over_time.live(found)} if len(found.tables["live"]) else {})
        | (_drawn_results(store, found) if found.traded else {}),
    }
    return shown | _rows(found) | (_results(store, found) if found.traded else {})


def _drawn_results(store: Store, found: Contents) -> dict[str, Any]:
    """Figures of what was earned; those of which there is too little yet are None."""
    return {
        "wealth": figures.wealth(found),
        "rolling": over_time.rolling(store, found),
        "concentration": over_time.concentration(found),
        "betas": attributed.betas(found),
    }


def _rows(found: Contents) -> dict[str, Any]:
    """The tables of the newest decision; what is long and says little is folded."""
    positions, matrix = listings.positions(found), listings.matrix(found)
    folded = [row for row in matrix if listings.is_small(row)] if len(matrix) > _FOLDED else []
    return {
        "held": [row for row in positions if not row.idle],
        "idle": [row for row in positions if row.idle],
        "matrix": [row for row in matrix if row not in folded],
        "small": folded,
    }


def _results(store: Store, found: Contents) -> dict[str, Any]:
    """What there is to show once a decision has traded."""
    sessions = len(found.wealth_of(found.leading)) - 1
    return {
        "span": found.span_of(found.leading),
        "sessions": sessions,
        "short": sessions < TRADING_DAYS,
        "comparable": found.comparable,
        "headlines": measures.headlines(found),
        "measures": measures.table(found),
        "years": listings.years(found),
        "weekly": figures.is_weekly(found),
        "sharpe": found.measures_of(found.leading).get("sharpe", math.nan),
        "evidence": evidence.sentence(found),
        "sure_heads": evidence.HEADS,
        "sure": evidence.table(store, found),
        "singles": attributed.singles(found),
        "stress": attributed.stress(found),
        "regimes": attributed.regimes(found),
        "exposures": attributed.exposures(found),
        "baselines": attributed.baselines(found),
        "contributions": attributed.contributions(found),
    }
