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

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
KEPT = Path(__file__).with_name("results.json")
MARKS = ("<!-- results: made by `make results` -->", "<!-- end of results -->")
START, END = "2018-01", "2022-12"
Found = dict[str, Any]


def main() -> None:
    """Run the study, keep what it found, and write the README's table anew."""
    found = run(str(ROOT / ".results"))
    KEPT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    README.write_text(replaced(README.read_text(), table(found)))
    print(f"{README.name} and {KEPT.name} hold {len(found['rows'])} rows")


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
    lines = [["", *found["heads"]], ["---", *["---:"] * len(found["heads"])], *found["rows"]]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{rows}\n\n{' '.join(found['sentences'])}"


def shown(readme: str) -> str:
    """What the README has between the two comments; ValueError where they are not there once each."""
    before, after = (readme.split(mark) for mark in MARKS)
    if len(before) != 2 or len(after) != 2:
        raise ValueError(f"README.md must hold {MARKS[0]} and {MARKS[1]} once each, around the table of results")
    return before[1].split(MARKS[1])[0].strip()


def replaced(readme: str, text: str) -> str:
    """The README with another table."""
    shown(readme)
    head, _, rest = readme.partition(MARKS[0])
    return f"{head}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


if __name__ == "__main__":
    main()
