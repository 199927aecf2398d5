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
    """A table of Markdown, numbers to the right: the columns in which every cell begins with a digit or a sign."""
    numeric = [all(_is_number(row[place]) for row in rows) and bool(rows) for place in range(len(heads))]
    lines = [heads, ["---:" if right else "---" for right in numeric], *rows]
    return "\n".join("| " + " | ".join(escaped(cell or "") for cell in line) + " |" for line in lines)


def _is_number(cell: str | None) -> bool:
    return not cell or (cell[0] in "+-\u2212[0123456789" and not re.match(r"\d{4}-\d\d", cell))
