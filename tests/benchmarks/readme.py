"""The README's tables that benchmarks make: each stands between two comments that say which target made it."""

from pathlib import Path

PATH = Path(__file__).parents[2] / "README.md"


def shown(readme: str, target: str) -> str:
    """What stands between the comments of a target; ValueError where they are not there once each."""
    begin, end = _marks(target)
    if readme.count(begin) != 1 or readme.count(end) != 1:
        raise ValueError(f"README.md must hold {begin} and {end} once each, around the table of {target}")
    return readme.partition(begin)[2].partition(end)[0].strip()


def replaced(readme: str, target: str, text: str) -> str:
    """The README with another table."""
    shown(readme, target)
    begin, end = _marks(target)
    head, _, rest = readme.partition(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def update(target: str, text: str) -> None:
    """Write a table into the README."""
    PATH.write_text(replaced(PATH.read_text(), target, text))


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Markdown, with numbers to the right of the first column."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _marks(target: str) -> tuple[str, str]:
    return f"<!-- {target}: made by `make {target}` -->", f"<!-- end of {target} -->"
