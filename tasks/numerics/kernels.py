"""How the loops are compiled that take most of the time: as options of numba's `njit`.

Counting the references of arrays took a quarter of an online step. BARE counts none, so it compiles nothing that
makes an array. INLINED is for what takes arrays apart for a BARE caller.
"""

from typing import Any

BARE: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}
INLINED: dict[str, Any] = {"inline": "always", "error_model": "numpy"}
