"""What flows put beside a run in Prefect's UI, as Markdown; nothing where no run of Prefect's is under way."""

import logging
import re
from collections.abc import Callable, Sequence

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from tasks.report.artifacts import escaped, key_of

log = logging.getLogger("prism.flow")


def show(kind: str, scenario: str, write: Callable[[], str]) -> str | None:
    """Make the artifact `kind-scenario` of what `write` gives; its versions are those of run after run.

    The text; None, and nothing written, where no run of Prefect's is under way.
    """
    if FlowRunContext.get() is None:
        return None
    text = write()
    try:
        create_markdown_artifact(text, key_of(kind, scenario), f"{kind.capitalize()} of {scenario}")
    except Exception as error:  # a server that does not answer must not end the run that it watches
        log.warning("Prefect was not given the %s: %s", kind, error)
    return text


def table(heads: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """A table of Markdown, columns of numbers to the right and their cells unbroken."""
    columns = [_column(head, [row[place] or "" for row in rows]) for place, head in enumerate(heads)]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _column(head: str, cells: Sequence[str]) -> list[str]:
    """A column is one of numbers where every cell that is not empty begins with a digit or a sign, and is no date."""
    numbers = any(cells) and all(re.match(r"(?!\d{4}-\d\d)[-+\u2212\[\d]", cell) for cell in cells if cell)
    shown = [escaped(cell).replace(" ", "&nbsp;") if numbers else escaped(cell) for cell in cells]
    return [escaped(head), "---:" if numbers else "---", *shown]
