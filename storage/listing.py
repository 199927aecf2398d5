"""What a listing of a store shows of its tables: enough to see that nothing was written, lost or replaced since."""

from storage import tables
from storage.keys import digest
from storage.store import Store


def of_tables(store: Store) -> str:
    """Hash of name, size and time of change of every file of the tables and of their manifests, diaries aside."""
    found = []
    for part in ("tables", "manifests"):
        for place, stat in store.files.entries(store.root / part):
            name, *inside = place.relative_to(store.root / part).parts
            if name not in tables.DIARIES and not place.name.startswith("."):
                found.append([part, name, *inside, stat.st_size, stat.st_mtime])
    return digest(sorted(found))
