"""What flows put beside a run in Prefect's UI, as Markdown; nothing where no run of Prefect's is under way."""

import logging
import re
from collections.abc import Callable, Sequence

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from tasks.report.artifacts import escaped, key_of

log = logging.getLogger("prism.flow")


def show(kind: str, scenario: str, write: Callable[[], str]) -> None:
    """Make the artifact `kind-scenario` of what `write` gives; its versions are those of run after run."""
    if FlowRunContext.get() is None:
        return
    text = write()
    try:
        create_markdown_artifact(text, key_of(kind, scenario), f"{kind.capitalize()} of {scenario}")
    except Exception as error:  # a server that does not answer must not end the run that it watches
        log.warning("Prefect was not given the %s: %s", kind, error)


def table(heads: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """A table of Markdown, columns of numbers to the right and their cells unbroken."""
    columns = [[escaped(row[place] or "") for row in rows] for place in range(len(heads))]
    numbers = [_are_numbers([row[place] or "" for row in rows]) for place in range(len(heads))]
    for place, right in enumerate(numbers):
        columns[place] = [cell.replace(" ", "&nbsp;") for cell in columns[place]] if right else columns[place]
    lines = [[escaped(head) for head in heads], ["---:" if right else "---" for right in numbers]]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *map(list, zip(*columns, strict=True))])


def _are_numbers(column: Sequence[str]) -> bool:
    """Whether every cell that is not empty begins with a digit or a sign, and is no date; and there is one."""
    return any(column) and all(re.match(r"(?!\d{4}-\d\d)[-+\u2212\[\d]", cell) for cell in column if cell)
