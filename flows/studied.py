"""The words on studies: tables and sentences in the terminal, the same with a picture as an artifact of Prefect's."""

from collections.abc import Mapping

from flows import artifacts, display
from storage import tables
from storage.store import Store
from tasks.report import studied
from tasks.report.listings import Row
from tasks.report.studied import CLAIM_HEADS, Shown


def studies(store: Store, keys: Mapping[str, str], as_json: bool, as_csv: bool) -> None:
    """The studies of some keys, by name."""
    if as_json:
        display.document({name: _numbers(store, key) for name, key in keys.items()})
    elif as_csv:
        display.show([row for key in keys.values() for row in _numbers(store, key)["rows"]], False, True)
    else:
        for name, key in keys.items():
            _words(studied.one(store, name, key))


def _numbers(store: Store, key: str) -> dict[str, list[dict[str, object]]]:
    """Every number of a study, and of its claims."""
    return {
        name: tables.read(store, table, key=key).drop_columns(["key"]).sort_by("number").to_pylist()
        for name, table in (("rows", "studies"), ("claims", "claims"))
    }


def _words(shown: Shown) -> None:
    display.table(_lines(shown.rows), ["", *shown.heads], f"{shown.question} {shown.span}, a year, after costs")
    display.say_line("")
    if shown.claims:
        display.table(_lines(shown.claims), ["claim", *CLAIM_HEADS])
        display.say_line("")
    for sentence in shown.sentences:
        display.say_line(sentence)
    display.say_line("")


def _lines(rows: list[Row]) -> list[list[str]]:
    return [[row.name, *(cell.text for cell in row.cells)] for row in rows]


def markdown(store: Store, name: str, key: str) -> str:
    """The study for Prefect's pages."""
    # matplotlib takes a second to load, and only a run of Prefect's needs it
    from tasks.report import pictures

    shown = studied.one(store, name, key)
    parts = [
        f"# {shown.title}",
        f"{shown.question} {shown.span}, a year, after costs, out of sample. Differences are in the Sharpe ratio.",
        artifacts.table(["Variant", *shown.heads], _lines(shown.rows)),
        f"![{shown.title}]({pictures.differences(shown.bars)})" if shown.bars[0] else "",
        f"![How far apart luck lies]({pictures.bands(shown.bands)})" if shown.bands else "",
        artifacts.table(["Claim", *CLAIM_HEADS], _lines(shown.claims)) if shown.claims else "",
        *shown.sentences,
    ]
    return "\n\n".join(part for part in parts if part)
