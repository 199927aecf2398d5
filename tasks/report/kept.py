"""A report that is there already: of the same tables, by the same code, it would come out the same.

What a run needs of it, its name and its artifacts, is kept as JSON in PRISM_CACHE, which may be deleted at any time.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from storage import tables
from storage.keys import digest
from storage.settings import Settings
from storage.store import Store
from tasks import memos
from tasks.caching import versions
from tasks.report.artifacts import Artifact

_DRAWN_BY = ("jinja2", "matplotlib", "numpy", "pandas", "plotly")
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kept:
    """A report that was written."""

    name: str  # its file's
    artifacts: Sequence[Artifact]


def key(store: Store, scenario: str, publish: str, opening: str) -> str:
    """Names everything that a report depends on."""
    versions_of = {name: version for name, version in tables.versions(store).items() if name not in tables.DIARIES}
    asked = [str(store.root), store.identity, scenario, publish, opening, Settings().report_url]
    return digest([asked, versions_of, _source(), versions(_DRAWN_BY)])


@cache
def _source() -> str:
    """Hash of all files that the stages and the storage consist of, templates included."""
    files = sorted(file for part in ("tasks", "storage") for file in (_ROOT / part).rglob("*.*"))
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if "__pycache__" not in file.parts]
    return digest(hashes)


def find(store: Store, key: str) -> Kept | None:
    """The report of that key, if it is there still."""
    try:
        found = memos.read(key)
        kept = Kept(found["name"], [Artifact(**made) for made in found["artifacts"]])
    except (TypeError, KeyError):
        return None
    there = {place.name for place, _ in store.files.entries(store.root / "reports")}
    return kept if kept.name in there else None


def keep(key: str, kept: Kept) -> None:
    """Remember a report."""
    memos.write(key, asdict(kept))
