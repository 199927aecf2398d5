"""The terminal's words on whether a store is what was written to it."""

from dataclasses import asdict

from flows.display import document, say_line
from storage import verification
from storage.errors import NoDataError, explained
from storage.files import Place


def verified(root: Place, deep: bool, as_json: bool) -> bool:
    """Verify the store at `root` and say what was found; whether it is whole."""
    with explained(f"looking for the store {root}"):
        there = (root / "STORE.json").exists() or (root / "tables").is_dir() or (root / "blobs").is_dir()
    if not there:
        raise NoDataError(f"there is no store at {root}; run `prism run` first, or name another with --store")
    found = verification.verify(root, deep)
    if as_json:
        counts = {"records": found.records, "blobs": found.blobs, "files": found.files}
        lists = {"damage": [asdict(entry) for entry in found.damage], "notes": [asdict(entry) for entry in found.notes]}
        document({"store": str(root), "deep": deep, "whole": found.is_whole, "checked": counts, **lists})
        return found.is_whole
    for entry in found.damage:
        say_line(f"damaged: {entry.place} {entry.said}; {entry.remedy}")
    for entry in found.notes:
        say_line(f"note: {entry.place}: {entry.said}; {entry.remedy}")
    places = f"{len(found.damage)} place{'' if len(found.damage) == 1 else 's'}"
    files = f", {found.files} files of tables" if deep else ""
    verdict = "whole" if found.is_whole else f"damaged in {places}"
    say_line(f"store {root}: {verdict}; looked at {found.records} decision records, {found.blobs} blobs{files}")
    return found.is_whole
