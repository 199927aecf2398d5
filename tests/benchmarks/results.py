"""`make results`: every strategy, baseline and ablation on the embedded sample, as the README's table.

    python -m tests.benchmarks.results

The study `results` runs in a store of its own, `.results`, where an interrupted run goes on; trials are counted there,
so that deleting it first gives the same table. What was found is kept in `results.json` beside this file, and the
README shows it between two comments.
"""

import json
import os
from pathlib import Path
from typing import Any

import flows  # noqa: F401 - prepares the environment as every entry point does, before numba is imported
from tests.benchmarks import readme

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).with_name("results.json")
START, END = "2018-01", "2022-12"
Found = dict[str, Any]


def main() -> None:
    """Run the study, keep what it found, and write the README's table anew."""
    found = run(str(ROOT / ".results"))
    KEPT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    readme.update("results", table(found))
    print(f"{readme.PATH.name} and {KEPT.name} hold {len(found['rows'])} rows")


def run(store: str) -> Found:
    """The study in a store in that folder, as it is kept."""
    os.environ["PRISM_STORE"] = store
    from flows.study import study

    return collected(study("results", START, END, parameters={"source": "sample"})["studies"]["results"])


def collected(key: str) -> Found:
    """The study's table in words, and its numbers by variant and measure."""
    from storage import tables
    from storage.store import open_store
    from tasks.report import studied
    from tasks.studies import ALL, NONE

    shown, numbers = studied.one(open_store(), "results", key), {}
    for row in tables.read(open_store(), "studies", key=key, part=ALL).sort_by("number").to_pylist():
        if row["number"] != NONE:
            numbers.setdefault(row["variant"], {})[row["name"]] = row["value"]
    rows = [[row.name, *(cell.text for cell in row.cells)] for row in shown.rows]
    kept = {"span": shown.span, "heads": list(shown.heads), "rows": rows, "sentences": shown.sentences}
    return kept | {"numbers": numbers}


def table(found: Found) -> str:
    """The table and its sentences as Markdown."""
    return f"{readme.table(['', *found['heads']], found['rows'])}\n\n{' '.join(found['sentences'])}"


if __name__ == "__main__":
    main()
