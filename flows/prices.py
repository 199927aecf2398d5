"""The terminal's words on prices: what a source would bring, what an ingest did, and how the store is."""

from collections import Counter
from typing import Any

from flows.display import document, say_line, table
from flows.parameters import Parameters
from storage import universe
from storage.store import Store

SHOWN = 20  # rows of a list that somebody will read


def delivery(parameters: Parameters, path: str | None, accepted: tuple[str, ...], as_json: bool) -> None:
    """What a source would bring: tickers, ranges, gaps, and what the reader or the quality gate found."""
    from tasks.fetch import preview

    chosen = universe.read(parameters.universe) if parameters.universe else None
    found = preview(parameters.source, path, chosen, accepted)
    if as_json:
        document(found)
        return
    for note in found["notes"]:
        say_line(note)
    columns = ["ticker", "bars", "first", "last", "gaps", "outcome"]
    title = f"{found['layout']}, basis {found['basis']}"
    table([[row[name] for name in columns] for row in found["tickers"]], columns, title)
    columns = ["ticker", "session", "check_name", "severity", "value", "action", "detail"]
    _list(found["findings"], columns, f"{len(found['findings'])} findings")
    say_line("nothing was stored")


def ingested(result: dict[str, Any], as_json: bool) -> None:
    """What an ingest did."""
    if as_json:
        document(result)
        return
    counts = ", ".join(f"{number} {outcome}" for outcome, number in result["outcomes"].items())
    say_line(f"prices of {result['dataset']}: {counts}; {result['requests']} requests")
    for ticker, detail in result["waiting"].items():
        say_line(f"  {ticker}: {detail}")
    say_line(f"snapshot: {result['snapshot']}")


def health(store: Store, as_json: bool) -> None:
    """What is stored, what is not as it should be, and the settings."""
    from tasks import doctor

    found = {"store": str(store.root), "settings": doctor.settings()}
    found["datasets"] = [doctor.examine(store, dataset) for dataset in doctor.datasets(store)]
    if as_json:
        document(found)
        return
    say_line(f"store {store.root}")
    for dataset in found["datasets"]:
        _dataset(dataset)
    given = [[row["name"], str(row["value"])] for row in found["settings"] if row["origin"] != "default"]
    say_line("")
    if given:
        table(given, ["setting", "value"], "Set by the environment; the others have their defaults (--json lists them)")
    else:
        say_line("every setting has its default (--json lists them)")


def _dataset(found: dict[str, Any]) -> None:
    """One dataset: its extent, and the tickers that need somebody."""
    states = Counter(row["state"] for row in found["tickers"])
    known = f"known at {found['known_at']:%Y-%m-%d %H:%M} UTC" if found["known_at"] else "no snapshot yet"
    span = f"{found['bars']} bars, {found['first']} to {found['last']}" if found["bars"] else "no bars"
    say_line(f"\n{found['dataset']}: {span}, {known}")
    words = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    gaps = sum(bool(row["gaps"]) for row in found["tickers"])
    say_line(f"{len(found['tickers'])} tickers: {words}; {gaps} with gaps; {found['restatements']} restatements")
    columns = ["ticker", "state", "first", "last", "bars", "gaps", "behind", "detail"]
    _list([row for row in found["tickers"] if row["state"] != "fine" or row["gaps"]], columns, "")


def _list(rows: list[dict[str, Any]], columns: list[str], title: str) -> None:
    """The first rows of a list, if it has any."""
    if not rows:
        return
    table([[row[name] for name in columns] for row in rows[:SHOWN]], columns, title)
    if len(rows) > SHOWN:
        say_line(f"... and {len(rows) - SHOWN} more (--json lists them)")
