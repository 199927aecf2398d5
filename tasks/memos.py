"""Memos: what was found once, as JSON in PRISM_CACHE, so that nobody looks for it again.

The cache may be deleted at any time; a memo that is gone or torn is none.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any

from storage.settings import Settings, current


def read(key: str) -> Any:
    """The content of a memo; None where there is none."""
    try:
        return json.loads(place(key).read_text())
    except (OSError, ValueError):
        return None


def write(key: str, content: Any) -> None:
    """Keep a memo, whole or not at all."""
    target = place(key)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    begun = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    begun.write_text(json.dumps(content))
    os.replace(begun, target)


def place(key: str) -> Path:
    """Where a memo lies."""
    return current(Settings).cache.expanduser() / "written" / f"{key}.json"
