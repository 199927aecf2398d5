"""`make bench`: every section side by side in one run, as a table, as `latest.json` and in the README.

    python -m tests.benchmarks.run [SECTION ...]

Beside each ratio stands that of the run before, marked where it fell by more than a fifth. A run of some sections
only is compared too, but not kept.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

import flows  # noqa: F401 - prepares the environment as every entry point does, before torch and numba are imported
from tests.benchmarks import allocators, frame, growth, orchestration, readme, scale, stages, stored, training, whole
from tests.benchmarks.frame import Section

SECTIONS: dict[str, Callable[[], Section]] = {
    "store": stored.section,
    "features": stages.features,
    "training": training.section,
    "forecast": stages.forecast,
    "allocators": allocators.section,
    "growth": growth.section,
    "backtest": stages.backtest,
    "orchestration": orchestration.section,
    "scale": scale.section,
    "whole": whole.section,
}
WIDTH = 132  # of the table where the output is no terminal, or a narrow one


def main(names: Sequence[str]) -> int:
    """Run the named sections, or all of them; 2 for a name that is none."""
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        print(f"section {unknown[0]!r} does not exist; choose from {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    before = frame.read()
    sections = [make() for name, make in SECTIONS.items() if not names or name in names]
    found = frame.report(sections, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    show(sections, found, before)
    if not names:
        frame.write(found)
        readme.update("bench", markdown(found))
    return 0


def show(sections: Sequence[Section], found: dict[str, Any], before: dict[str, Any]) -> None:
    """Print the table, the machine and the notes."""
    console = Console(width=max(WIDTH, Console().width))
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    console.print(table(sections, before, f"{found['date']}\n{machine}"))
    for section in sections:
        for note in section.notes:
            console.print(f"{section.name}: {note}", highlight=False)
    console.print(f"last: the run of {before['date'] or '(none)'}", highlight=False)


def markdown(found: dict[str, Any]) -> str:
    """The rows of a report, with its day and machine."""
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    rows = [
        [
            f"{row['section']}: {row['case']}",
            *(amount(row["ours"]), amount(row["baseline"]), times(row["ratio"])),
            "" if row["floor"] is None else f"{row['floor']:.2f}",
            row["unit"],
        ]
        for row in found["rows"]
    ]
    heads = ["case", "ours", "baseline", "ratio", "floor", "unit"]
    return f"{found['date']}; {machine}.\n\n{readme.table(heads, rows)}"


def table(sections: Sequence[Section], before: dict[str, Any], title: str) -> Table:
    """One line a row; a ratio that fell, or that misses what is wanted, in red."""
    out = Table(title=title, title_justify="left")
    for name in ("section", "case"):
        out.add_column(name)
    for name in ("ours", "baseline", "ratio", "wanted", "last", "floor"):
        out.add_column(name, justify="right")
    out.add_column("unit")
    for section in sections:
        for row in section.rows:
            out.add_row(*cells(section, row, before))
        out.add_section()
    return out


def cells(section: Section, row: frame.Row, before: dict[str, Any]) -> tuple[str, ...]:
    """The texts of a row."""
    (rule, is_met), last = frame.wanted(section, row), frame.last_ratio(row, before)
    ratio, past = times(row.ratio), "" if last is None else times(last)
    return (
        row.section,
        row.case,
        amount(row.ours),
        amount(row.baseline),
        f"[bold]{ratio}[/]",
        rule if is_met else f"[red]{rule} missed[/]",
        f"[red]{past} fell[/]" if frame.has_fallen(row.ratio, last) else past,
        "" if row.floor is None else f"{row.floor:.2f}",
        row.unit,
    )


def times(ratio: float) -> str:
    """A ratio to one decimal, below 1 to two digits."""
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"


def amount(value: float) -> str:
    """A number to three digits, or whole."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
